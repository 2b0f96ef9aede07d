// A folder of OCR models: which net is where, the dictionary, and what inference.yml adds.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ocr/ctc.h"
#include "ocr/net.h"

namespace trireme::ocr {

struct ModelFolder {
  std::string detector, classifier, recognizer;  // folders; no classifier: empty
  Dictionary dictionary;
  Normalizer detector_input;
};

// Layouts as in docs/ocr.md. Throws kNotFound with the names that were looked for.
// `recognizer`, `dictionary` and `detector`, when not empty, take the place of the folder's own.
ModelFolder open_model_folder(const std::string& path, const std::string& recognizer = {},
                              const std::string& dictionary = {}, const std::string& detector = {});

// One character a line, UTF-8.
Dictionary dictionary_from_text(std::string_view text);

// The block list ("- item" lines) under the first `key:` of a YAML text; nothing when the key is
// not there. Knows plain, single- and double-quoted items only and throws kInvalidArgument for what
// it does not know.
std::optional<std::vector<std::string>> yaml_list(std::string_view text, std::string_view key);

}  // namespace trireme::ocr
