// The checkpoint store: write aside, fsync, rename; a manifest of checksums.
#include "train/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "trireme/error.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::string_view kStep = "step-", kAside = ".tmp-";
constexpr const char *kManifest = "manifest.json", *kState = "state.json", *kBest = "best.json";

std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kStep)) return std::nullopt;
  const char *begin = name.data() + kStep.size(), *end = name.data() + name.size();
  int64_t step = 0;
  const auto [at, error] = std::from_chars(begin, end, step);
  if (error != std::errc{} || at != end || step < 0) return std::nullopt;
  return step;
}

std::string name_of_step(int64_t step) { return std::string(kStep) + std::to_string(step); }

// Oldest first.
std::vector<Checkpoint> list(const std::string& folder) {
  std::vector<Checkpoint> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    if (const auto step = step_of(entry.path().filename().string()))
      found.push_back({*step, entry.path().string()});
  }
  std::ranges::sort(found, {}, &Checkpoint::step);
  return found;
}

Json read_json(const fs::path& path) {
  const MappedFile file(path.string());
  Json json = Json::parse(file.bytes().begin(), file.bytes().end(), nullptr, false);
  if (!json.is_object()) fail(Code::kInvalidArgument, "not a JSON object", path.string());
  return json;
}

std::string file_of(const std::string& name) {
  const size_t slash = name.find('/');
  if (slash == std::string::npos) return "tensors.safetensors";
  const std::string part = name.substr(0, slash);
  const auto plain = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; };
  TRI_CHECK(!part.empty() && std::ranges::all_of(part, plain),
            "[checkpoint] '" + name +
                "': the part before '/' names a file and expects letters, "
                "digits, '_' and '-'");
  return part + ".safetensors";
}

Json entry_of(const FileWriter& file) {
  return {{"bytes", file.size()}, {"sha256", file.sha256()}};
}

void write_text(const fs::path& path, std::string_view text, Json* entry = nullptr) {
  FileWriter out(path.string());
  out.write(text);
  out.commit();
  if (entry != nullptr) *entry = entry_of(out);
}

void write_files(const fs::path& aside, int64_t step, std::span<const NamedArray> tensors,
                 const std::string& state_json) {
  std::map<std::string, std::vector<NamedArray>> files;
  for (const NamedArray& tensor : tensors) files[file_of(tensor.first)].push_back(tensor);
  Json entries = Json::object();
  for (const auto& [name, arrays] : files)
    entries[name] = entry_of(*write_safetensors((aside / name).string(), arrays));
  write_text(aside / kState, state_json, &entries[kState]);
  const Json manifest = {
      {"format", "trireme checkpoint"}, {"version", 1}, {"step", step}, {"files", entries}};
  write_text(aside / kManifest, manifest.dump(1) + '\n');
  sync_folder(aside.string());
}

// The folder aside takes its place; an older one of the same step goes.
void put_in_place(const fs::path& aside, const fs::path& place) {
  if (std::rename(aside.c_str(), place.c_str()) == 0) return;
  if (errno != ENOTEMPTY && errno != EEXIST) fail_system("rename the checkpoint", place.string());
  if (::renameat2(AT_FDCWD, aside.c_str(), AT_FDCWD, place.c_str(), RENAME_EXCHANGE) != 0) {
    fail_system("replace the checkpoint", place.string());
  }
  std::error_code ignored;
  fs::remove_all(aside, ignored);
}

// Under another name first: a crash in between must not leave half a checkpoint.
void remove_checkpoint(const Checkpoint& old) {
  const fs::path path(old.path);
  const fs::path aside =
      path.parent_path() / (std::string(kAside) + "old-" + path.filename().string());
  std::error_code ignored;
  fs::remove_all(aside, ignored);
  fs::rename(path, aside, ignored);
  fs::remove_all(aside, ignored);
}

void remove_leftovers(const std::string& folder) {
  std::error_code ignored;
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kAside) || name.starts_with(std::string(kBest) + kAside.data()))
      leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) fs::remove_all(path, ignored);
}

void remove_old(const std::string& folder, int keep_last) {
  std::vector<Checkpoint> found = list(folder);
  std::optional<Checkpoint> best;
  try {
    best = best_checkpoint(folder);
  } catch (const Error&) { return; }  // which one to keep is not known; the save itself went well
  const size_t keep = std::min(found.size(), static_cast<size_t>(std::max(1, keep_last)));
  found.resize(found.size() - keep);
  for (const Checkpoint& old : found)
    if (!best || best->step != old.step) remove_checkpoint(old);
}

// Throws what is wrong with a checkpoint.
Json verified_manifest(const fs::path& path) {
  Json manifest = read_json(path / kManifest);
  const auto files = manifest.find("files"), step = manifest.find("step");
  if (files == manifest.end() || !files->is_object() || step == manifest.end() ||
      !step->is_number_integer() || !files->contains(kState))
    fail(Code::kInvalidArgument, "the manifest is incomplete", path.string());
  for (const auto& [name, entry] : files->items()) {
    const fs::path file = path / name;
    if (name.find('/') != std::string::npos || !entry.is_object() || !entry.contains("sha256") ||
        !entry.contains("bytes"))
      fail(Code::kInvalidArgument, "the manifest is malformed", path.string());
    std::error_code error;
    const auto size = fs::file_size(file, error);
    if (error) fail(Code::kInvalidArgument, "a file is missing", file.string());
    if (entry["bytes"] != size || entry["sha256"] != sha256_of_file(file.string())) {
      fail(Code::kInvalidArgument, "the file is not what was saved: size or checksum differ",
           file.string());
    }
  }
  return manifest;
}

}  // namespace

Checkpoint save_checkpoint(const std::string& folder, int64_t step,
                           std::span<const NamedArray> tensors, const std::string& state_json,
                           const CheckpointOptions& options) {
  TRI_CHECK(step >= 0, "[checkpoint] step expects 0 or more, got " + std::to_string(step));
  TRI_CHECK(Json::accept(state_json), "[checkpoint] the state is not JSON");
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    errno = error.value();
    fail_system("create the folder", folder);
  }
  remove_leftovers(folder);
  const fs::path place = fs::path(folder) / name_of_step(step);
  const fs::path aside = fs::path(folder) / (std::string(kAside) + name_of_step(step));
  if (!fs::create_directory(aside, error)) {
    errno = error.value();
    fail_system("create the folder", aside.string());
  }
  try {
    write_files(aside, step, tensors, state_json);
    put_in_place(aside, place);
  } catch (...) {
    fs::remove_all(aside, error);
    throw;
  }
  sync_folder(folder);
  remove_old(folder, options.keep_last);
  return {step, place.string()};
}

void mark_best(const std::string& folder, int64_t step, double metric) {
  const fs::path place = fs::path(folder) / name_of_step(step);
  if (!fs::is_directory(place)) fail(Code::kNotFound, "no such checkpoint", place.string());
  write_text(fs::path(folder) / kBest, Json{{"step", step}, {"metric", metric}}.dump() + '\n');
  sync_folder(folder);
}

std::optional<Checkpoint> best_checkpoint(const std::string& folder) {
  const fs::path file = fs::path(folder) / kBest;
  std::error_code none;
  if (!fs::exists(file, none)) return std::nullopt;
  const Json best = read_json(file);
  if (!best.contains("step") || !best["step"].is_number_integer())
    fail(Code::kInvalidArgument, "no step in it", file.string());
  const auto step = best["step"].get<int64_t>();
  return Checkpoint{step, (fs::path(folder) / name_of_step(step)).string()};
}

std::optional<Checkpoint> latest_checkpoint(const std::string& folder,
                                            std::vector<std::string>* skipped) {
  std::vector<Checkpoint> found = list(folder);
  for (auto it = found.rbegin(); it != found.rend(); ++it) {
    try {
      if (verified_manifest(it->path)["step"] == it->step) return *it;
      fail(Code::kInvalidArgument, "the manifest tells of another step", it->path);
    } catch (const Error& broken) {
      if (skipped != nullptr) skipped->push_back(broken.what());
    }
  }
  return std::nullopt;
}

CheckpointContent load_checkpoint(const std::string& path) {
  const Json manifest = verified_manifest(path);
  CheckpointContent content;
  content.step = manifest["step"].get<int64_t>();
  for (const auto& [name, entry] : manifest["files"].items()) {
    const std::string file = (fs::path(path) / name).string();
    if (name == kState) {
      const MappedFile state(file);
      content.state_json.assign(state.bytes().data(), state.bytes().size());
    } else {
      Safetensors read = read_safetensors(file);
      std::ranges::move(read.arrays, std::back_inserter(content.tensors));
    }
  }
  return content;
}

}  // namespace trireme
