// The example programs: they run, learn, and what they write can be used.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <string>

#include "support/temp.h"

namespace trireme {
namespace {

std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return text;
  std::array<char, 256> part{};
  while (std::fgets(part.data(), part.size(), pipe) != nullptr) text += part.data();
  EXPECT_EQ(pclose(pipe), 0) << text;
  return text;
}

TEST(Examples, TrainLenetLearnsInThirtyLines) {
  std::ifstream source(std::string(TRIREME_SOURCE_DIR) + "/examples/train_lenet.cpp");
  int lines = 0;
  for (std::string line; std::getline(source, line);) ++lines;
  EXPECT_LE(lines, 30);
  const test::TempFolder folder;
  const std::string text =
      output_of(std::string(TRIREME_TRAIN_LENET) + " 60 " + (folder.path() / "model").string());
  float first = 0, last = 0;
  ASSERT_EQ(std::sscanf(text.c_str(), "step 50: %f\nstep 60: %f", &first, &last), 2) << text;
  EXPECT_LT(last, 1) << text;  // log(10) = 2.3 at the start
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "model" / "inference.pdmodel"));
}

}  // namespace
}  // namespace trireme
