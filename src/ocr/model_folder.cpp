// Finding models and dictionaries in the layouts of Trireme, PaddleOCR and RapidOCR.
#include "ocr/model_folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "image/decode.h"

namespace trireme::ocr {
namespace {

namespace fs = std::filesystem;

bool holds_model(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "inference.pdmodel", ignored) ||
         fs::exists(folder / "inference.json", ignored);
}

// The folder of one net: `name` itself, or the one sub-folder with "_name" in its name.
std::string find_net(const fs::path& root, const std::string& name, const std::string& other = {}) {
  if (holds_model(root / name)) return (root / name).string();
  std::vector<std::string> found;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(root, failure)) {
    const std::string folder = entry.path().filename().string();
    const bool named = folder.find("_" + name) != std::string::npos ||
                       (!other.empty() && folder.find(other) != std::string::npos);
    if (named && holds_model(entry.path())) found.push_back(entry.path().string());
  }
  if (found.size() > 1)
    fail(Code::kInvalidArgument,
         "[ocr] expected one folder for " + name + ", found " + found[0] + " and " + found[1],
         root.string());
  return found.empty() ? std::string() : found[0];
}

std::string need_net(const fs::path& root, const std::string& name) {
  std::string folder = find_net(root, name);
  if (folder.empty())
    fail(Code::kNotFound,
         "[ocr] expected a model in " + name + "/ or *_" + name +
             "*/ (inference.pdmodel or inference.json, with inference.pdiparams)",
         root.string());
  return folder;
}

std::string text_of(const fs::path& path) {
  const std::vector<uint8_t> bytes = vision::read_file_bytes(path.string());
  return {bytes.begin(), bytes.end()};
}

// Length of the UTF-8 sequence at the start of `text`, 0 for a bad one.
size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t length = lead < 0x80                   ? 1
                        : lead >= 0xc2 && lead < 0xe0 ? 2
                        : (lead & 0xf0) == 0xe0       ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((static_cast<uint8_t>(text[i]) & 0xc0) != 0x80) return 0;
  return length;
}

void check_utf8(const Dictionary& dictionary) {
  for (size_t line = 0; line < dictionary.size(); ++line) {
    for (std::string_view rest = dictionary[line]; !rest.empty();) {
      const size_t length = utf8_length(rest);
      if (length == 0)
        fail(Code::kInvalidArgument, "[ocr] the dictionary is not UTF-8",
             "character " + std::to_string(line + 1));
      rest.remove_prefix(length);
    }
  }
}

Dictionary find_dictionary(const fs::path& root, const fs::path& recognizer) {
  const fs::path yaml = recognizer / "inference.yml";
  if (fs::exists(yaml))
    if (auto list = yaml_list(text_of(yaml), "character_dict")) return *list;
  // The last one is where RapidOCR's package keeps it, beside its folder of models.
  for (const fs::path& path :
       {recognizer / "dict.txt", root / "dict.txt", root / "ppocr_keys_v1.txt",
        recognizer / "ppocr_keys_v1.txt", root / ".." / "ch_ppocr_rec" / "ppocr_keys_v1.txt"})
    if (fs::exists(path)) return dictionary_from_text(text_of(path));
  fail(Code::kNotFound,
       "[ocr] expected a dictionary: dict.txt, ppocr_keys_v1.txt or the recogniser's inference.yml",
       root.string());
}

std::array<double, 3> three_numbers(const std::vector<std::string>& items) {
  std::array<double, 3> numbers{};
  TRI_CHECK(items.size() == 3, "[ocr] expected three numbers for mean and std in inference.yml");
  for (size_t i = 0; i < 3; ++i) {
    const char* end = items[i].data() + items[i].size();
    const auto result = std::from_chars(items[i].data(), end, numbers[i]);
    TRI_CHECK(result.ec == std::errc() && result.ptr == end,
              "[ocr] expected a number, got " + items[i]);
  }
  return numbers;
}

Normalizer find_normalizer(const fs::path& detector) {
  const fs::path yaml = detector / "inference.yml";
  if (!fs::exists(yaml)) return {};
  const std::string text = text_of(yaml);
  const auto mean = yaml_list(text, "mean"), deviation = yaml_list(text, "std");
  if (!mean || !deviation) return {};
  return {three_numbers(*mean), three_numbers(*deviation)};
}

}  // namespace

Dictionary dictionary_from_text(std::string_view text) {
  Dictionary dictionary;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    while (line.ends_with('\r')) line.remove_suffix(1);
    dictionary.emplace_back(line);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return dictionary;
}

ModelFolder open_model_folder(const std::string& path, const std::string& recognizer,
                              const std::string& dictionary, const std::string& detector) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored))
    fail(Code::kNotFound,
         "[ocr] no folder of models here; `trireme model fetch ch_PP-OCRv4` gets one", path);
  ModelFolder folder;
  for (const std::string& other : {recognizer, detector})
    if (!other.empty() && !holds_model(other))
      fail(Code::kNotFound, "[ocr] expected inference.pdmodel or inference.json", other);
  folder.detector = detector.empty() ? need_net(path, "det") : detector;
  folder.recognizer = recognizer.empty() ? need_net(path, "rec") : recognizer;
  folder.classifier = find_net(path, "cls", "textline_ori");
  // A recogniser of its own does not read with the folder's characters.
  folder.dictionary = !dictionary.empty()  ? dictionary_from_text(text_of(dictionary))
                      : recognizer.empty() ? find_dictionary(path, folder.recognizer)
                                           : find_dictionary(folder.recognizer, folder.recognizer);
  check_utf8(folder.dictionary);
  folder.detector_input = find_normalizer(folder.detector);
  return folder;
}

}  // namespace trireme::ocr
