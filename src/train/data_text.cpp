// PaddleOCR's label files, and the alphabet that numbers their characters.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "train/data_files.h"

namespace trireme::vision::datasets {
namespace {

// Bytes of the character at the start of `text`; throws where it is not UTF-8.
size_t character_bytes(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t bytes = lead < 0x80                   ? 1
                       : lead >= 0xc2 && lead < 0xe0 ? 2
                       : lead >= 0xe0 && lead < 0xf0 ? 3
                       : lead >= 0xf0 && lead < 0xf5 ? 4
                                                     : 0;
  bool valid = bytes > 0 && bytes <= text.size();
  for (size_t i = 1; valid && i < bytes; ++i)
    valid = (static_cast<uint8_t>(text[i]) & 0xc0) == 0x80;
  TRI_CHECK(valid, "[data] the text is not UTF-8");
  return bytes;
}

constexpr size_t kMostPoints = 1024;  // of an outline

// "picture<TAB>rest"
std::pair<std::string_view, std::string_view> parted(std::string_view line) {
  const size_t tab = line.find('\t');
  TRI_CHECK(tab != std::string_view::npos && tab > 0,
            "[data] expected \"picture<TAB>label\", found no tab");
  return {line.substr(0, tab), line.substr(tab + 1)};
}

void read_points(const nlohmann::json& box, std::vector<float>& points) {
  const auto found = box.find("points");
  TRI_CHECK(
      found != box.end() && found->is_array() && found->size() >= 4 && found->size() <= kMostPoints,
      "[TextBoxes] expected four points, or up to " + std::to_string(kMostPoints));
  for (const auto& point : *found) {
    TRI_CHECK(point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number(),
              "[TextBoxes] a point is [x, y]");
    for (const auto& value : point) {
      points.push_back(value.get<float>());
      TRI_CHECK(std::isfinite(points.back()), "[TextBoxes] expected finite numbers");
    }
  }
}

}  // namespace

struct Alphabet::Ids : std::unordered_map<std::string, int64_t> {};

Alphabet::Alphabet(std::vector<std::string> characters, bool use_space)
    : characters_(std::move(characters)) {
  characters_.insert(characters_.begin(), "");
  if (use_space && std::ranges::find(characters_, " ") == characters_.end())
    characters_.emplace_back(" ");
  auto ids = std::make_shared<Ids>();
  for (size_t i = 1; i < characters_.size(); ++i)
    ids->emplace(characters_[i], static_cast<int64_t>(i));  // of two the first counts
  ids_ = std::move(ids);
}

Alphabet Alphabet::from_file(const std::string& path, bool use_space) {
  std::vector<std::string> characters;
  each_line(path, io::OnError::kRaise, [&](std::string_view line, int64_t) {
    TRI_CHECK(character_bytes(line) == line.size(),
              "[data] expected one character a line, got \"" + std::string(line) + "\"");
    characters.emplace_back(line);
  });
  if (characters.empty()) fail(Code::kInvalidArgument, "[data] the dictionary is empty", path);
  return Alphabet(std::move(characters), use_space);
}

std::vector<int64_t> Alphabet::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  while (!text.empty()) {
    const std::string character(text.substr(0, character_bytes(text)));
    const auto found = ids_->find(character);
    TRI_CHECK(found != ids_->end(), "[data] \"" + character + "\" is not in the dictionary");
    ids.push_back(found->second);
    text.remove_prefix(character.size());
  }
  return ids;
}

std::string Alphabet::decode(const std::vector<int64_t>& ids) const {
  std::string text;
  for (const int64_t id : ids) text += character(id);
  return text;
}

void append_text(io::Sample& sample, const std::vector<int64_t>& ids, int64_t max_length) {
  TRI_CHECK(static_cast<int64_t>(ids.size()) <= max_length,
            "[data] a text of " + std::to_string(ids.size()) + " characters, the most is " +
                std::to_string(max_length));
  Array padded(DType::kInt64, {max_length});
  std::fill_n(padded.as<int64_t>(), max_length, 0);
  std::ranges::copy(ids, padded.as<int64_t>());
  sample.push_back(std::move(padded));
  sample.push_back(scalar(static_cast<int64_t>(ids.size())));
}

TextLines::TextLines(const std::string& label_file, const std::string& root, AlphabetPtr alphabet,
                     int64_t max_length, PictureOptions options, io::OnError on_error)
    : label_file_(label_file),
      alphabet_(std::move(alphabet)),
      max_length_(max_length),
      options_(std::move(options)) {
  TRI_CHECK(alphabet_ != nullptr && max_length > 0 && max_length <= 1 << 20,
            "[TextLines] expected an alphabet and a length above zero");
  skipped_ = each_line(label_file, on_error, [&](std::string_view line, int64_t number) {
    const auto [picture, text] = parted(line);
    io::Sample checked;
    append_text(checked, alphabet_->encode(text), max_length_);
    files_.push_back(named_picture(root, picture));
    texts_.emplace_back(text);
    lines_.push_back(number);
  });
  if (files_.empty())
    fail(Code::kInvalidArgument, "[TextLines] the label file names no picture", label_file);
}

io::Sample TextLines::get(int64_t index, RandomStream& random) const {
  const auto i = static_cast<size_t>(index);
  io::Sample sample{load_picture(files_.at(i), options_, random)};
  append_text(sample, alphabet_->encode(texts_[i]), max_length_);
  return sample;
}

std::string TextLines::source(int64_t index) const {
  const auto i = static_cast<size_t>(index);
  return files_.at(i) + ", " + label_file_ + ":" + std::to_string(lines_[i]);
}

TextBoxes::TextBoxes(const std::string& label_file, const std::string& root, PictureOptions options,
                     io::OnError on_error)
    : options_(std::move(options)) {
  skipped_ = each_line(label_file, on_error, [&](std::string_view line, int64_t) {
    const auto [picture, text] = parted(line);
    const auto boxes = nlohmann::json::parse(text, nullptr, false);
    TRI_CHECK(boxes.is_array(), "[TextBoxes] expected a JSON list of boxes");
    std::vector<std::vector<float>> points;
    std::vector<uint8_t> ignore;
    for (const auto& box : boxes) {
      TRI_CHECK(box.is_object(), "[TextBoxes] a box is a JSON object");
      read_points(box, points.emplace_back());
      const auto words = box.find("transcription");
      TRI_CHECK(words != box.end() && words->is_string(), "[TextBoxes] expected a transcription");
      const auto& value = words->get_ref<const std::string&>();
      ignore.push_back(value == "###" || value == "*" ? 1 : 0);
    }
    files_.push_back(named_picture(root, picture));
    points_.push_back(std::move(points));
    ignore_.push_back(std::move(ignore));
  });
  if (files_.empty())
    fail(Code::kInvalidArgument, "[TextBoxes] the label file names no picture", label_file);
}

io::Sample TextBoxes::get(int64_t index, RandomStream& random) const {
  const auto i = static_cast<size_t>(index);
  io::Sample sample{load_picture(files_.at(i), options_, random)};
  append_outlines(sample, points_[i], ignore_[i]);
  return sample;
}

void append_outlines(io::Sample& sample, const std::vector<std::vector<float>>& outlines,
                     const std::vector<uint8_t>& ignore) {
  size_t numbers = 8;  // of the longest
  for (const auto& outline : outlines) numbers = std::max(numbers, outline.size());
  const auto n = static_cast<int64_t>(outlines.size());
  Array points(DType::kFloat32, {n, static_cast<int64_t>(numbers / 2), 2});
  float* to = points.as<float>();
  for (const auto& outline : outlines) {
    for (size_t k = 0; k < numbers; k += 2, to += 2)
      std::copy_n(outline.data() + std::min(k, outline.size() - 2), 2, to);
  }
  sample.push_back(std::move(points));
  sample.push_back(Array::from<uint8_t>({n}, ignore, DType::kUInt8));
}

}  // namespace trireme::vision::datasets
