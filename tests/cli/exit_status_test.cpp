// The command line's contract: exit statuses, and errors that are one line on stderr. Real
// processes.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "base/cpu_features.h"
#include "support/temp.h"

namespace fs = std::filesystem;

namespace {

constexpr int kUsage = 2, kBadInput = 3, kResources = 4;

struct Result {
  int status = -1;
  std::string out, err;
};

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class Cli : public testing::Test {
 protected:
  // Runs the program with `arguments` (shell words) and assignments in front of it.
  Result run(const std::string& arguments, const std::string& environment = {}) {
    const fs::path out = folder_ / "out", err = folder_ / "err";
    const std::string command = "cd '" + folder_.string() + "' && " + environment + " '" +
                                TRIREME_PROGRAM "' " + arguments + " </dev/null >'" + out.string() +
                                "' 2>'" + err.string() + "'";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read(out), read(err)};
  }

  void write(const std::string& name, const std::string& content) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }

  // Fails with `status`, says nothing on stdout, and one line on stderr that holds `part`.
  void expect_error(const Result& result, int status, const std::string& part) {
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    ASSERT_FALSE(result.err.empty());
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << "not one line: " << result.err;
  }

  trireme::test::TempFolder temp_;
  const fs::path folder_ = temp_.path();
};

TEST_F(Cli, PrintsItsVersion) {
  const Result result = run("--version");
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(result.out.find(TRIREME_VERSION), std::string::npos) << result.out;
}

TEST_F(Cli, PrintsHelp) {
  const Result result = run("--help");
  EXPECT_EQ(result.status, 0);
  for (const char* verb : {"predict", "bench", "ocr", "graph", "model"}) {
    EXPECT_NE(result.out.find(verb), std::string::npos) << verb;
  }
}

// Never slower by asking for less precision: the program says what it computes in.
TEST_F(Cli, Bfloat16IsTakenOnlyWhereItIsFaster) {
  ASSERT_EQ(run("export --network resnet18 --output model").status, 0);
  const std::string bench =
      "bench model --shape 1x3x224x224 --repeat 3 --json --precision bfloat16";
  const Result wide = run(bench, "TRIREME_CPU=avx512");
  EXPECT_EQ(wide.status, 0) << wide.err;
  EXPECT_NE(wide.out.find("\"precision\":\"float32\""), std::string::npos) << wide.out;
  EXPECT_NE(wide.err.find("computing in float32"), std::string::npos) << wide.err;
  if (!trireme::cpu_features().avx512_bf16) return;
  const Result half = run(bench, "TRIREME_CPU=bf16");
  EXPECT_NE(half.out.find("\"precision\":\"bfloat16\""), std::string::npos) << half.out;
  EXPECT_EQ(half.err, "");
}

TEST_F(Cli, UsageErrors) {
  expect_error(run(""), kUsage, "");
  expect_error(run("frobnicate"), kUsage, "");
  expect_error(run("predict"), kUsage, "");
  expect_error(run("predict model --output o --input x=y.npy --frob"), kUsage, "frob");
  expect_error(run("bench"), kUsage, "");
  expect_error(run("ocr"), kUsage, "");
  expect_error(run("graph"), kUsage, "");
  expect_error(run("model"), kUsage, "");
  expect_error(run("model fetch"), kUsage, "");
  expect_error(run("predict m --input x=y.npy --output o --threads many"), kUsage, "threads");
}

TEST_F(Cli, MissingModelIsBadInput) {
  expect_error(run("bench nowhere --shape x=1x3x8x8 --json"), kBadInput, "nowhere");
  expect_error(run("predict nowhere --input x=x.npy --output o"), kBadInput, "nowhere");
  expect_error(run("graph nowhere"), kBadInput, "nowhere");
}

TEST_F(Cli, DamagedModelIsBadInputAndNamesTheFile) {
  write("m/inference.pdmodel", "\xff\xff\xff\xff\xff not a program");
  write("m/inference.pdiparams", std::string(64, '\0'));
  expect_error(run("bench m --shape x=1x3x8x8 --json"), kBadInput, "inference.pdmodel");
  write("j/inference.json", "{\"base_code\": {\"magic\": ");
  write("j/inference.pdiparams", "");
  expect_error(run("graph j"), kBadInput, "inference.json");
  write("e/inference.pdmodel", "");
  expect_error(run("graph e"), kBadInput, "e");
}

TEST_F(Cli, MissingOrDamagedPictureIsBadInput) {
  const fs::path models = folder_ / "models";
  expect_error(run("ocr none.png --models '" + models.string() + "'"), kBadInput, "");
  write("bad.png", "\x89PNG\r\n\x1a\n");
  expect_error(run("ocr bad.png --models '" + models.string() + "'"), kBadInput, "");
}

TEST_F(Cli, UnknownModelNameIsBadInput) {
  expect_error(run("model fetch ch_PP-OCRv0"), kBadInput, "ch_PP-OCRv4");
}

TEST_F(Cli, ListsModels) {
  const Result result = run("model list", "TRIREME_MODELS='" + folder_.string() + "'");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("ch_PP-OCRv4"), std::string::npos);
  EXPECT_NE(result.out.find("not fetched"), std::string::npos);
}

TEST_F(Cli, FetchWithoutANetworkSaysWhatToDo) {
  const std::string environment = "TRIREME_MODELS='" + folder_.string() +
                                  "' PIP_NO_INDEX=1 PIP_FIND_LINKS= PIP_CONFIG_FILE=/dev/null";
  const Result result = run("model fetch ch_PP-OCRv4", environment);
  expect_error(result, kResources, "--wheel FILE");
  EXPECT_NE(result.err.find("ad74a4a467f8eac7"), std::string::npos) << "no SHA-256";
  for (const auto& entry : fs::directory_iterator(folder_)) {
    EXPECT_NE(entry.path().filename().string().find("ch_PP"), 1U) << "left behind: " << entry;
  }
}

TEST_F(Cli, FetchRefusesAnotherWheel) {
  write("w.whl", "not it");
  const std::string environment = "TRIREME_MODELS='" + folder_.string() + "'";
  expect_error(run("model fetch ch_PP-OCRv4 --wheel w.whl", environment), kBadInput, "SHA-256");
}

}  // namespace
