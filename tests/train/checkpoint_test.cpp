// The checkpoint store: whole or not there, whatever happens meanwhile.
#include "train/checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "support/temp.h"
#include "trireme/error.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

// Every element is `value`.
std::vector<NamedArray> tensors(float value, int64_t elements = 1000) {
  std::vector<NamedArray> out;
  for (const char* name : {"model/w", "model/b", "optimizer/m", "plain"}) {
    Array a(DType::kFloat32, Shape{elements});
    std::fill_n(a.as<float>(), elements, value);
    out.emplace_back(name, a);
  }
  return out;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& e : fs::directory_iterator(folder)) names.push_back(e.path().filename());
  std::ranges::sort(names);
  return names;
}

void overwrite(const fs::path& file, std::streamoff at) {
  std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
  f.seekp(at);
  f.put('!');
}

TEST(Checkpoint, KeepsTensorsAndState) {
  const test::TempFolder folder;
  const auto saved = save_checkpoint(folder.path(), 7, tensors(1.5f), R"({"epoch": 2})");
  const auto latest = latest_checkpoint(folder.path());
  ASSERT_TRUE(latest);
  EXPECT_EQ(latest->step, 7);
  EXPECT_EQ(latest->path, saved.path);
  const CheckpointContent content = load_checkpoint(latest->path);
  EXPECT_EQ(content.step, 7);
  EXPECT_EQ(content.state_json, R"({"epoch": 2})");
  ASSERT_EQ(content.tensors.size(), 4u);
  for (const auto& [name, array] : content.tensors) EXPECT_EQ(array.as<float>()[999], 1.5f) << name;
  EXPECT_EQ(names_in(saved.path),
            (std::vector<std::string>{"manifest.json", "model.safetensors", "optimizer.safetensors",
                                      "state.json", "tensors.safetensors"}));
}

TEST(Checkpoint, FallsBackToTheLastWholeOne) {
  const test::TempFolder folder;
  for (int step : {1, 2, 3, 4})
    save_checkpoint(folder.path(), step, tensors(1), "{}", {.keep_last = 9});
  fs::create_directory(folder / ".tmp-step-9");
  fs::create_directory(folder / "step-8");
  overwrite(folder / "step-4/model.safetensors", 900);
  fs::remove(folder / "step-3/state.json");
  std::vector<std::string> skipped;
  const auto latest = latest_checkpoint(folder.path(), &skipped);
  ASSERT_TRUE(latest);
  EXPECT_EQ(latest->step, 2);
  ASSERT_EQ(skipped.size(), 3u);
  EXPECT_NE(skipped[1].find("checksum"), std::string::npos) << skipped[1];
  EXPECT_THROW(load_checkpoint((folder / "step-4").string()), Error);
  save_checkpoint(folder.path(), 10, tensors(1), "{}", {.keep_last = 9});
  EXPECT_FALSE(fs::exists(folder / ".tmp-step-9"));
}

TEST(Checkpoint, NothingIsNoCheckpoint) {
  const test::TempFolder folder;
  EXPECT_FALSE(latest_checkpoint(folder.path()));
  EXPECT_FALSE(latest_checkpoint((folder / "none").string()));
}

TEST(Checkpoint, KeepsTheLastAndTheBest) {
  const test::TempFolder folder;
  for (int step = 1; step <= 6; ++step) {
    save_checkpoint(folder.path(), step * 10, tensors(1), "{}", {.keep_last = 2});
    if (step == 2) mark_best(folder.path(), 20, 0.9);
  }
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"best.json", "step-20", "step-50", "step-60"}));
  EXPECT_EQ(best_checkpoint(folder.path())->step, 20);
  mark_best(folder.path(), 60, 0.95);
  save_checkpoint(folder.path(), 70, tensors(1), "{}", {.keep_last = 1});
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"best.json", "step-60", "step-70"}));
}

TEST(Checkpoint, ASecondSaveOfAStepReplacesIt) {
  const test::TempFolder folder;
  save_checkpoint(folder.path(), 5, tensors(1), "{}");
  save_checkpoint(folder.path(), 5, tensors(2), "{}");
  EXPECT_EQ(load_checkpoint((folder / "step-5").string()).tensors[0].second.as<float>()[0], 2.0f);
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"step-5"}));
}

TEST(Checkpoint, RefusesNamesAndStatesThatCannotBeWritten) {
  const test::TempFolder folder;
  const Array a(DType::kFloat32, Shape{1});
  EXPECT_THROW(save_checkpoint(folder.path(), 1, std::vector<NamedArray>{{"../x/y", a}}, "{}"),
               Error);
  EXPECT_THROW(save_checkpoint(folder.path(), 1, tensors(1), "{"), Error);
  EXPECT_TRUE(names_in(folder.path()).empty());
}

// A limit on the size of files stands for the full disk: the system refuses the write.
TEST(Checkpoint, AFullDiskLeavesTheOldOnes) {
  const test::TempFolder folder;
  save_checkpoint(folder.path(), 1, tensors(1), "{}");
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 16, 1 << 16};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      save_checkpoint(folder.path(), 2, tensors(2, 1 << 20), "{}");
    } catch (const Error& e) { _exit(e.code() == Code::kResourceExhausted ? 42 : 43); }
    _exit(44);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"step-1"}));
  EXPECT_EQ(latest_checkpoint(folder.path())->step, 1);
}

TEST(Checkpoint, NoPermissionIsAClearError) {
  const test::TempFolder folder;
  std::ofstream(folder / "file") << "x";
  try {
    save_checkpoint((folder / "file/checkpoints").string(), 1, tensors(1), "{}");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("cannot create the folder"), std::string::npos)
        << e.what();
  }
}

// Saves until it is killed; every checkpoint's tensors tell its step.
[[noreturn]] void save_for_ever(const std::string& folder, int64_t first) {
  for (int64_t step = first;; ++step) {
    save_checkpoint(folder, step, tensors(static_cast<float>(step), 20000), "{}", {.keep_last = 2});
    if (step % 3 == 0) mark_best(folder, step, 1);
  }
}

TEST(Checkpoint, SurvivesFiftyKills) {
  const test::TempFolder folder;
  const std::string path = folder.path();
  save_checkpoint(path, 1, tensors(1, 20000), "{}");
  std::mt19937 random(7);
  int64_t step = 1;
  int advanced = 0;
  for (int round = 0; round < 50; ++round) {
    const pid_t child = fork();
    if (child == 0) save_for_ever(path, step + 1);
    const int wait = std::uniform_int_distribution(1, 60000)(random);
    std::this_thread::sleep_for(std::chrono::microseconds(wait));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    std::vector<std::string> skipped;
    const auto latest = latest_checkpoint(path, &skipped);
    ASSERT_TRUE(latest);
    ASSERT_TRUE(skipped.empty()) << skipped[0];
    ASSERT_GE(latest->step, step);
    const CheckpointContent content = load_checkpoint(latest->path);
    for (const auto& [name, array] : content.tensors)
      ASSERT_EQ(array.as<float>()[19999], static_cast<float>(latest->step)) << name;
    ASSERT_NO_THROW(best_checkpoint(path));
    advanced += latest->step > step ? 1 : 0;
    step = latest->step;
  }
  EXPECT_GT(advanced, 10);
  save_checkpoint(path, step + 1, tensors(1), "{}");
  for (const std::string& name : names_in(path))
    EXPECT_EQ(name.find(".tmp-"), std::string::npos) << name;
}

}  // namespace
}  // namespace trireme
