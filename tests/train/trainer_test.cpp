// Training from configs: resume, logs, overrides, errors, bad data, export, kills.
#include "trireme/trainer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "support/temp.h"
#include "train/checkpoint.h"
#include "train/data.h"
#include "trireme/vision.h"

namespace fs = std::filesystem;

namespace trireme {
namespace {

constexpr const char* kDigits = R"(seed: 3
model: {name: lenet, num_classes: 10}
data:
  train: {dataset: drawn_digits, count: 256, seed: 1}
  eval: {dataset: drawn_digits, count: 64, seed: 2}
  batch_size: 16
optimizer: {name: momentum, momentum: 0.9}
lr: {name: cosine, learning_rate: 0.02, warmup_steps: 4}
epochs: 2
log_every: 4
save_every: 5
export: none
)";

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class TrainerTest : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }
  train::RunResult run(const std::string& text, const std::string& output,
                       train::RunOptions options = {}) const {
    options.output = (folder_ / output).string();
    options.threads = 1;
    return train::run(write("config.yaml", text), options);
  }
  std::string error_of(const std::function<void()>& act) const {
    try {
      act();
    } catch (const Error& e) { return e.what(); }
    return "no error";
  }
  // The program in a process of its own.
  pid_t start(const std::string& config, const std::string& output) const {
    const pid_t child = fork();
    if (child != 0) return child;
    if (std::freopen("/dev/null", "w", stdout) == nullptr) _exit(1);
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
    execl(TRIREME_PROGRAM, TRIREME_PROGRAM, "train", config.c_str(), "--output", output.c_str(),
          "--resume", "auto", "--threads", "1", static_cast<char*>(nullptr));
    _exit(127);
  }
  static int wait_for(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }
  void kill_often(int times) const {
    const std::string config = write("kill.yaml", std::string(kDigits) + "name: kill\n");
    const std::string output = (folder_ / "killed").string();
    unsigned state = 12345;
    int64_t before = 0;
    for (int i = 0; i < times; ++i) {
      const pid_t child = start(config, output);
      state = state * 1664525U + 1013904223U;
      std::this_thread::sleep_for(std::chrono::milliseconds(50 + (state >> 16) % 500));
      kill(child, SIGKILL);
      wait_for(child);
      std::vector<std::string> broken;
      const auto latest = latest_checkpoint(output + "/checkpoints", &broken);
      EXPECT_TRUE(broken.empty()) << broken[0];
      if (!latest) continue;
      EXPECT_GE(latest->step, before);
      before = latest->step;
    }
    EXPECT_EQ(wait_for(start(config, output)), 0);
    run(kDigits, "whole");
    EXPECT_EQ(read(output + "/checkpoints/step-32/model.safetensors"),
              read(folder_ / "whole/checkpoints/step-32/model.safetensors"));
  }

  test::TempFolder temp_;
  const fs::path folder_ = temp_.path();
};

TEST_F(TrainerTest, ResumedRunEndsBitIdentical) {
  EXPECT_EQ(run(kDigits, "a").steps, 32);
  EXPECT_EQ(run(kDigits, "b", {.max_steps = 11}).steps, 11);
  EXPECT_EQ(run(kDigits, "b", {.resume = "auto"}).steps, 32);
  const std::string a = read(folder_ / "a/checkpoints/step-32/model.safetensors");
  ASSERT_FALSE(a.empty());
  EXPECT_TRUE(a == read(folder_ / "b/checkpoints/step-32/model.safetensors"));
  EXPECT_TRUE(read(folder_ / "a/checkpoints/step-32/optimizer.safetensors") ==
              read(folder_ / "b/checkpoints/step-32/optimizer.safetensors"));
}

TEST_F(TrainerTest, LogHasAnObjectALoggedStep) {
  run(kDigits, "a", {.max_steps = 8});
  std::istringstream lines(read(folder_ / "a/log.jsonl"));
  int losses = 0, evaluations = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_TRUE(json.contains("step") && json.contains("epoch")) << line;
    if (json.contains("loss")) {
      ++losses;
      EXPECT_TRUE(json.contains("lr") && json.contains("samples_per_s")) << line;
    } else {
      ++evaluations;
      EXPECT_TRUE(json.contains("acc_top1") || json.contains("acc")) << line;
    }
  }
  EXPECT_EQ(losses, 2);
  EXPECT_EQ(evaluations, 1);
}

TEST_F(TrainerTest, PartsOfASplitDoNotOverlap) {
  std::set<std::string> all;
  std::vector<int64_t> sizes;
  for (const std::string part : {"train", "eval", "test"}) {
    const auto data = train::make_data(
        train::Config::from_text("train: {dataset: drawn_digits, count: 50, split: [3, 1, 1], "
                                 "split_seed: 4, part: " +
                                 part + "}\nbatch_size: 1\n"),
        0, ".");
    sizes.push_back(data.train->size());
    for (int64_t i = 0; i < data.train->size(); ++i) {
      RandomStream random(0, 0, 0);
      const Array picture = data.train->get(i, random).at(0);
      all.emplace(static_cast<const char*>(picture.data()), picture.bytes());
    }
  }
  EXPECT_EQ(sizes, (std::vector<int64_t>{30, 10, 10}));
  EXPECT_EQ(all.size(), 50u);
  const auto why = [&](const std::string& keys) {
    return error_of([&] { run(kDigits, "a", {.overrides = {"data.train." + keys}}); });
  };
  EXPECT_NE(why("split=[3]").find("shares of train, eval and test"), std::string::npos);
  EXPECT_NE(why("split=[1, 0, 1]").find("positive shares"), std::string::npos);
  EXPECT_NE(why("split=[1, 1.0e-5]").find("empty"), std::string::npos);
}

TEST_F(TrainerTest, TestDataIsJudgedOnceAtTheEnd) {
  const auto result =
      run(kDigits, "a", {.overrides = {"data.test={dataset: drawn_digits, count: 64, seed: 2}"}});
  EXPECT_EQ(result.test, result.evaluation);  // the same data here
  const std::string log = read(folder_ / "a/log.jsonl");
  const size_t first = log.find("test_acc");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(log.find("\n", first), log.size() - 1);
  EXPECT_EQ(log.rfind("\n", first), log.rfind("\n", log.size() - 2));
}

TEST_F(TrainerTest, OverridesAndUnknownKeys) {
  EXPECT_EQ(run(kDigits, "a", {.overrides = {"epochs=1", "data.batch_size=32"}}).steps, 8);
  const std::string what = error_of([&] { run(std::string(kDigits) + "epoch: 3\n", "b"); });
  EXPECT_NE(what.find("'epoch' means nothing here"), std::string::npos) << what;
  EXPECT_NE(what.find("config.yaml:13"), std::string::npos) << what;
}

TEST_F(TrainerTest, ExportsACheckpointInEachFormat) {
  const std::string checkpoint = run(kDigits, "a", {.max_steps = 2}).checkpoint;
  for (const char* format : {"pdmodel", "pir", "onnx"}) {
    const fs::path to = folder_ / format;
    train::export_checkpoint(checkpoint, format, to.string());
    EXPECT_FALSE(fs::is_empty(to)) << format;
  }
}

TEST_F(TrainerTest, BadData) {
  const std::string base = "model: {name: lenet}\nexport: none\ndata:\n  batch_size: 1\n  train: ";
  fs::create_directories(folder_ / "empty");
  const auto error = [&](const std::string& rest) {
    return error_of([&] { run(base + rest, "x"); });
  };
  const std::string empty =
      error("{dataset: image_folder, root: " + (folder_ / "empty").string() + "}\n");
  EXPECT_NE(empty.find("empty"), std::string::npos) << empty;
  const std::string absent =
      error("{dataset: image_folder, root: " + (folder_ / "no").string() + ", hint: fetch it}\n");
  EXPECT_NE(absent.find("fetch it"), std::string::npos) << absent;
  write("p/a.jpg", "\xff\xd8 not a picture");
  const std::string labels = write("labels.txt", "a.jpg\t12\n");
  const std::string range = error("{dataset: label_file, num_classes: 10, label_file: " + labels +
                                  ", root: " + (folder_ / "p").string() + "}\n");
  EXPECT_NE(range.find("labels.txt"), std::string::npos) << range;
  write("labels.txt", "a.jpg\t1\n");
  const std::string broken = error("{dataset: label_file, num_classes: 10, label_file: " + labels +
                                   ", root: " + (folder_ / "p").string() + "}\n");
  EXPECT_NE(broken.find("a.jpg"), std::string::npos) << broken;
}

// Two good pictures and a broken one: with on_error: skip the run goes on, and says what it left
// out.
TEST_F(TrainerTest, BrokenSamplesAreSkippedAndCounted) {
  vision::Image image{8, 8, std::vector<uint8_t>(8 * 8 * 3, 90)};
  for (const char* name : {"p/x/a.png", "p/y/b.png"}) {
    (void)write(name, "");
    vision::write_png((folder_ / name).string(), image);
  }
  (void)write("p/x/broken.png", "\x89PNG not a picture");
  const auto config = [&](const std::string& on_error) {
    return "model: {name: lenet, num_classes: 2, input_shape: [1, 28, 28]}\nexport: none\n"
           "epochs: 2\ndata:\n  batch_size: 3\n  drop_last: false\n  num_workers: 2\n  on_error: " +
           on_error + "\n  train: {dataset: image_folder, root: " + (folder_ / "p").string() +
           ", colour: gray, transforms: [{name: Resize, size: [28, 28]}, ToTensor]}\n";
  };
  const train::RunResult result = run(config("skip"), "skips");
  EXPECT_EQ(result.steps, 2);
  EXPECT_EQ(result.skipped, 2);  // one an epoch
  const std::string why = error_of([&] { run(config("raise"), "raises"); });
  EXPECT_NE(why.find("broken.png"), std::string::npos) << why;
}

TEST_F(TrainerTest, TermSavesAndEndsWell) {
  const std::string config = write("t.yaml", std::string(kDigits) + "name: t\n");
  const std::string output = (folder_ / "t").string();
  const pid_t child = start(config, output);
  // Once the first step is logged the handlers stand.
  for (int i = 0; i < 200 && read(output + "/log.jsonl").empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  kill(child, SIGTERM);
  EXPECT_EQ(wait_for(child), 0);
  EXPECT_TRUE(latest_checkpoint(output + "/checkpoints").has_value());
  EXPECT_EQ(wait_for(start(config, output)), 0);
  EXPECT_EQ(latest_checkpoint(output + "/checkpoints")->step, 32);
}

TEST_F(TrainerTest, KilledTenTimes) { kill_often(10); }
TEST_F(TrainerTest, SlowKilledFiftyTimes) { kill_often(50); }

}  // namespace
}  // namespace trireme
