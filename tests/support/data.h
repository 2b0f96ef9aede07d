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

}  // namespace trireme::test

// In a test: skips it when `path`, relative to the data folder, is not there.
#define TRI_NEEDS_DATA(path)                                             \
  if (!std::filesystem::exists(::trireme::test::data_folder() / (path))) \
  GTEST_SKIP() << "no test data at " << ::trireme::test::data_folder() / (path)
