// Where the test data that is not in the repository lies, and the skip of a test that has none.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace trireme::test {

// $TRIREME_TEST_DATA, or the folder named when the build was configured.
inline std::filesystem::path data_folder() {
  const char* folder = std::getenv("TRIREME_TEST_DATA");
  return folder != nullptr && *folder != '\0' ? folder : TRIREME_TEST_DATA;
}

// The folder of ch_PP-OCRv4 as `trireme model fetch` lays it out (det/, rec/, cls/, dict.txt);
// empty when it is not there. $TRIREME_OCR_MODELS names another one.
inline std::filesystem::path ocr_models() {
  namespace fs = std::filesystem;
  const std::pair<const char*, const char*> places[] = {
      {"TRIREME_OCR_MODELS", ""},
      {"TRIREME_MODELS", "ch_PP-OCRv4"},
      {"XDG_CACHE_HOME", "trireme/models/ch_PP-OCRv4"},
      {"HOME", ".cache/trireme/models/ch_PP-OCRv4"}};
  for (const auto& [variable, below] : places) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0' && fs::is_directory(fs::path(value) / below))
      return fs::path(value) / below;
  }
  return {};
}

}  // namespace trireme::test

// In a test: skips it when the models are not there.
#define TRI_NEEDS_OCR_MODELS()               \
  if (::trireme::test::ocr_models().empty()) \
  GTEST_SKIP() << "no PP-OCRv4 models; `trireme model fetch ch_PP-OCRv4` gets them"

// In a test: skips it when `path`, relative to the data folder, is not there.
#define TRI_NEEDS_DATA(path)                                             \
  if (!std::filesystem::exists(::trireme::test::data_folder() / (path))) \
  GTEST_SKIP() << "no test data at " << ::trireme::test::data_folder() / (path)
