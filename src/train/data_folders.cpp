// Folders and lists of pictures.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include "image/decode.h"
#include "train/data_files.h"

namespace trireme::vision::datasets {

namespace fs = std::filesystem;

namespace {

bool is_picture(const fs::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  for (const char* known : {".jpg", ".jpeg", ".png", ".webp", ".bmp"})
    if (ending == known) return true;
  return false;
}

template <class Walk> void walk(Walk entries, std::vector<std::string>& files) {
  for (const fs::directory_entry& entry : entries)
    if (entry.is_regular_file() && is_picture(entry.path())) files.push_back(entry.path().string());
}

void check_folder(const std::string& folder) {
  if (!fs::is_directory(folder)) fail(Code::kNotFound, "[data] no folder here", folder);
}

[[noreturn]] void fail_empty(const std::string& folder) {
  fail(Code::kInvalidArgument, "[data] no pictures here (jpg, jpeg, png, webp, bmp)", folder);
}

int64_t label_from(std::string_view text, int64_t classes) {
  int64_t label = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), label);
  TRI_CHECK(error == std::errc{} && end == text.data() + text.size(),
            "[data] expected a label, got \"" + std::string(text) + "\"");
  TRI_CHECK(label >= 0 && label < classes, "[data] label " + std::to_string(label) +
                                               " is not one of the " + std::to_string(classes) +
                                               " classes");
  return label;
}

}  // namespace

std::vector<std::string> pictures_of(const std::string& folder, bool deep) {
  check_folder(folder);
  std::vector<std::string> files;
  try {
    if (deep) walk(fs::recursive_directory_iterator(folder), files);
    else walk(fs::directory_iterator(folder), files);
  } catch (const fs::filesystem_error& e) {
    fail(Code::kInvalidArgument, std::string("[data] cannot read the folder: ") + e.what(), folder);
  }
  std::ranges::sort(files);
  return files;
}

std::string text_of_file(const std::string& path) {
  const std::vector<uint8_t> bytes = read_file_bytes(path);
  return {bytes.begin(), bytes.end()};
}

std::string named_picture(const std::string& root, std::string_view name) {
  TRI_CHECK(!name.empty(), "[data] expected the name of a picture");
  const fs::path path = fs::path(root) / name;
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored))
    fail(Code::kNotFound, "[data] the picture " + path.string() + " is not there");
  return path.string();
}

Array scalar(int64_t value) {
  Array array(DType::kInt64, {});
  *array.as<int64_t>() = value;
  return array;
}

Array load_picture(const std::string& path, const PictureOptions& options, RandomStream& random) {
  std::vector<uint8_t> bytes = read_file_bytes(path);
  try {
    Picture picture(std::move(bytes), options.colour, options.max_pixels);
    if (options.transform) options.transform->apply(picture, random);
    return picture.pixels();
  } catch (const Error& e) { throw e.at(path); }
}

LabelledFiles::LabelledFiles(std::vector<std::string> files, std::vector<int64_t> labels,
                             std::vector<std::string> classes, PictureOptions options)
    : files_(std::move(files)),
      labels_(std::move(labels)),
      classes_(std::move(classes)),
      options_(std::move(options)) {
  TRI_CHECK(!files_.empty() && files_.size() == labels_.size(),
            "[data] expected pictures, and a label for each");
  const auto n = static_cast<int64_t>(classes_.size());
  for (size_t i = 0; i < labels_.size(); ++i)
    if (labels_[i] < 0 || labels_[i] >= n)
      fail(Code::kInvalidArgument,
           "[data] label " + std::to_string(labels_[i]) + " is not one of the " +
               std::to_string(n) + " classes",
           files_[i]);
}

io::Sample LabelledFiles::get(int64_t index, RandomStream& random) const {
  const auto i = static_cast<size_t>(index);
  return {load_picture(files_.at(i), options_, random), scalar(labels_[i])};
}

LabelledFilesPtr dataset_folder(const std::string& root, const PictureOptions& options) {
  check_folder(root);
  std::vector<std::string> classes, files;
  for (const fs::directory_entry& entry : fs::directory_iterator(root))
    if (entry.is_directory()) classes.push_back(entry.path().filename().string());
  std::ranges::sort(classes);
  if (classes.empty())
    fail(Code::kInvalidArgument, "[data] expected a folder for each class, found none", root);
  std::vector<int64_t> labels;
  for (size_t label = 0; label < classes.size(); ++label) {
    const std::string folder = (fs::path(root) / classes[label]).string();
    const std::vector<std::string> found = pictures_of(folder, true);
    if (found.empty()) fail_empty(folder);
    files.insert(files.end(), found.begin(), found.end());
    labels.resize(files.size(), static_cast<int64_t>(label));
  }
  return std::make_shared<const LabelledFiles>(std::move(files), std::move(labels),
                                               std::move(classes), options);
}

LabelledFilesPtr files_by_name(const std::string& folder, const PictureOptions& options) {
  const std::vector<std::string> files = pictures_of(folder, false);
  if (files.empty()) fail_empty(folder);
  const auto class_of = [](const std::string& file) {
    const std::string name = fs::path(file).stem().string();
    const size_t end = name.rfind('_');
    if (end == std::string::npos || end == 0)
      fail(Code::kInvalidArgument, "[data] expected a name such as class_12.jpg", file);
    return name.substr(0, end);
  };
  std::set<std::string> names;
  for (const std::string& file : files) names.insert(class_of(file));
  std::vector<std::string> classes(names.begin(), names.end());
  std::vector<int64_t> labels;
  for (const std::string& file : files)
    labels.push_back(std::ranges::lower_bound(classes, class_of(file)) - classes.begin());
  return std::make_shared<const LabelledFiles>(files, std::move(labels), std::move(classes),
                                               options);
}

LabelledFilesPtr label_file(const std::string& path, const std::string& root, int64_t classes,
                            const PictureOptions& options, io::OnError on_error, int64_t* skipped) {
  TRI_CHECK(classes > 0 && classes <= 1 << 24,
            "[data] expected a number of classes, got " + std::to_string(classes));
  std::vector<std::string> files;
  std::vector<int64_t> labels;
  const int64_t left_out = each_line(path, on_error, [&](std::string_view line, int64_t) {
    const size_t tab = line.find('\t');
    const size_t gap = tab != std::string_view::npos ? tab : line.rfind(' ');
    TRI_CHECK(gap != std::string_view::npos, "[data] expected \"picture<TAB>label\"");
    const int64_t label = label_from(line.substr(gap + 1), classes);
    files.push_back(named_picture(root, line.substr(0, gap)));
    labels.push_back(label);
  });
  if (skipped != nullptr) *skipped = left_out;
  if (files.empty()) fail(Code::kInvalidArgument, "[data] the label file names no picture", path);
  std::vector<std::string> names;
  for (int64_t i = 0; i < classes; ++i) names.push_back(std::to_string(i));
  return std::make_shared<const LabelledFiles>(std::move(files), std::move(labels),
                                               std::move(names), options);
}

ImageFolder::ImageFolder(const std::string& root, PictureOptions options)
    : files_(pictures_of(root, true)), options_(std::move(options)) {
  if (files_.empty()) fail_empty(root);
}

io::Sample ImageFolder::get(int64_t index, RandomStream& random) const {
  return {load_picture(files_.at(static_cast<size_t>(index)), options_, random)};
}

}  // namespace trireme::vision::datasets
