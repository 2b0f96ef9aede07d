// Program: finding the files of a model, loading them, recording.
#include "formats/program.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "formats/context.h"
#include "formats/params.h"
#include "trireme/error.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostProgramBytes = size_t{512} << 20;

bool is_file(const fs::path& path) {
  std::error_code none;
  return fs::is_regular_file(path, none);
}

fs::path program_in(const fs::path& folder) {
  static constexpr const char* kNames[] = {"inference.pdmodel", "inference.json", "model.pdmodel",
                                           "model.json", "__model__"};
  for (const char* name : kNames) {
    if (is_file(folder / name)) return folder / name;
  }
  std::vector<fs::path> others;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const auto extension = entry.path().extension();
    if (extension == ".pdmodel" ||
        (extension == ".json" && is_file(fs::path(entry.path()).replace_extension(".pdiparams")))) {
      others.push_back(entry.path());
    }
  }
  if (others.size() == 1) return others[0];
  std::string looked = "no program found: looked for";
  for (const char* name : kNames) looked += std::string(" ") + name + ",";
  fail(Code::kNotFound,
       looked + (others.empty() ? " *.pdmodel, *.json with *.pdiparams"
                                : " and there are several others: name the one to load"),
       folder.string());
}

fs::path params_beside(const fs::path& program, const std::string& given) {
  if (!given.empty()) {
    if (!is_file(given)) fail(Code::kNotFound, "no such parameters file", given);
    return given;
  }
  std::vector<fs::path> candidates{fs::path(program).replace_extension(".pdiparams")};
  if (program.filename() == "__model__") {
    candidates = {program.parent_path() / "__params__", program.parent_path() / "params"};
  }
  for (const fs::path& candidate : candidates) {
    if (is_file(candidate)) return candidate;
  }
  std::string looked;
  for (const fs::path& candidate : candidates)
    looked += (looked.empty() ? "" : ", ") + candidate.string();
  fail(Code::kNotFound, "the program's parameters were not found: looked for " + looked,
       program.string());
}

// Every operator type without a translation, with how often it occurs and where first.
void collect_unknown(const ForeignBlock& block,
                     std::map<std::string, std::pair<int, std::string>>& unknown) {
  for (const ForeignOp& op : block.ops) {
    if (find_translation(op.type) == nullptr) {
      auto& [count, where] = unknown[op.type];
      if (count++ == 0) where = op.where;
    }
    for (const ForeignBlock& inner : op.blocks) collect_unknown(inner, unknown);
  }
}

}  // namespace

Program::Program(ForeignProgram foreign, std::vector<Array> tensors)
    : foreign_(std::move(foreign)), tensors_(std::move(tensors)) {
  TRI_CHECK(tensors_.size() == foreign_.parameters.size(),
            foreign_.file + ": " + std::to_string(foreign_.parameters.size()) +
                " parameters declared, " + std::to_string(tensors_.size()) + " given");
  std::map<std::string, std::pair<int, std::string>> unknown;
  collect_unknown(foreign_.body, unknown);
  if (unknown.empty()) return;
  std::string message = "operators that are not supported:";
  for (const auto& [type, found] : unknown) {
    message += " '" + type + "' x" + std::to_string(found.first) + " (first: " + found.second + ")";
  }
  fail(Code::kUnimplemented, message, foreign_.file);
}

int64_t Program::parameter_bytes() const {
  int64_t sum = 0;
  for (const Array& tensor : tensors_) sum += static_cast<int64_t>(tensor.bytes());
  return sum;
}

std::vector<Value*> Program::record(const std::vector<Value*>& inputs) const {
  TRI_CHECK(inputs.size() == foreign_.inputs.size(),
            foreign_.file + ": " + std::to_string(foreign_.inputs.size()) + " inputs expected, " +
                std::to_string(inputs.size()) + " given");
  ProgramRecording recording(foreign_, tensors_);
  for (size_t i = 0; i < inputs.size(); ++i) recording.set(foreign_.inputs[i].value, inputs[i]);
  const std::string before = current_location();
  std::vector<Value*> outputs;
  try {
    recording.run(foreign_.body);
    for (const ForeignOutput& output : foreign_.outputs)
      outputs.push_back(recording.get(output.value));
  } catch (...) {
    set_location(before);
    throw;
  }
  set_location(before);
  return outputs;
}

std::unique_ptr<Program> load_program(const std::string& model, const std::string& params) {
  std::error_code none;
  const fs::path given(model);
  if (!fs::exists(given, none)) fail(Code::kNotFound, "no such file or folder", model);
  const fs::path program = fs::is_directory(given, none) ? program_in(given) : given;
  const std::string bytes = read_whole_file(program.string(), kMostProgramBytes);
  // A legacy program starts with the tag of its first block, a line feed.
  const bool is_json = program.extension() == ".json" || bytes.starts_with('{');
  ForeignProgram foreign = is_json ? read_pir_program(bytes, program.string())
                                   : read_legacy_program(bytes, program.string());
  std::vector<ParamSpec> specs;
  for (const ForeignParameter& p : foreign.parameters) specs.push_back({p.name, p.dtype, p.shape});
  std::vector<Array> tensors;
  if (!specs.empty()) tensors = read_params(params_beside(program, params).string(), specs);
  return std::make_unique<Program>(std::move(foreign), std::move(tensors));
}

}  // namespace trireme
