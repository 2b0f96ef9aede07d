// convert: from files to files.
#include "trireme/convert.h"

#include <filesystem>

#include "formats/export_model.h"
#include "formats/paddle_state.h"
#include "trireme/error.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

std::vector<Shape> declared_shapes(const Program& program, const std::vector<std::string>& given) {
  std::vector<Shape> shapes;
  for (const ForeignInput& input : program.inputs()) shapes.push_back(input.shape);
  for (const std::string& pair : given) {
    size_t found = shapes.size() == 1 && pair.find('=') == std::string::npos ? 0 : shapes.size();
    for (size_t i = 0; i < shapes.size(); ++i)
      if (pair.starts_with(program.inputs()[i].name + '=')) found = i;
    TRI_CHECK(found < shapes.size(), "--shape " + pair + " names no input of the model");
    const Shape shape = shape_from_text(pair.substr(pair.find('=') + 1));
    const Shape& before = program.inputs()[found].shape;
    bool fits = shape.rank() == before.rank();
    for (int d = 0; fits && d < shape.rank(); ++d)
      fits = before[d] == Shape::kUnknown || before[d] == shape[d];
    TRI_CHECK(fits, "--shape " + pair + " does not fit the model's " + before.str());
    shapes[found] = shape;
  }
  return shapes;
}

PaddleState read_state(const std::string& file) {
  if (!file.ends_with(".safetensors")) return read_paddle_state(file);
  Safetensors read = read_safetensors(file);
  PaddleState state;
  for (auto& [name, array] : read.arrays) {
    const auto it = read.metadata.find("name:" + name);
    if (name.starts_with("master_weights/")) {
      state.master_weights.emplace_back(name.substr(15), std::move(array));
    } else {
      state.tensors.push_back(
          {name, it == read.metadata.end() ? std::string() : it->second, std::move(array)});
    }
  }
  if (const auto it = read.metadata.find("LR_Scheduler"); it != read.metadata.end())
    state.scheduler = it->second;
  return state;
}

// Paddle's names of parameters and the scheduler go into the metadata.
void write_state(const PaddleState& state, const std::string& path) {
  std::vector<NamedArray> arrays;
  Metadata metadata;
  for (const PaddleTensor& t : state.tensors) {
    arrays.emplace_back(t.key.empty() ? t.name : t.key, t.array);
    if (!t.name.empty() && t.name != t.key) metadata["name:" + t.key] = t.name;
  }
  for (const auto& [name, array] : state.master_weights)
    arrays.emplace_back("master_weights/" + name, array);
  if (!state.scheduler.empty()) metadata["LR_Scheduler"] = state.scheduler;
  write_safetensors(path, arrays, metadata);
}

void convert_state(const std::string& file, const std::string& format, const std::string& folder) {
  const PaddleState state = read_state(file);
  std::error_code error;
  fs::create_directories(folder, error);
  const std::string path = (fs::path(folder) / fs::path(file).stem()).string() + '.' + format;
  if (format == "safetensors") return write_state(state, path);
  if (format == "pdopt") return write_pdopt(path, state);
  TRI_CHECK(state.scheduler.empty() && state.master_weights.empty(),
            "a scheduler or master weights belong into a .pdopt");
  write_pdparams(path, state.tensors);
}

}  // namespace

void convert(const std::string& model, const std::string& format, const std::string& folder,
             const ConvertOptions& options) {
  const bool state_format = format == "pdparams" || format == "pdopt" || format == "safetensors";
  const bool state_file =
      model.ends_with(".pdparams") || model.ends_with(".pdopt") || model.ends_with(".safetensors");
  TRI_CHECK(state_format == state_file,
            "'" + model + "' cannot become " + format +
                ": models become pdmodel, pir or onnx, training files pdparams, pdopt or "
                "safetensors");
  if (state_file) return convert_state(model, format, folder);
  TRI_CHECK(format == "pdmodel" || format == "pir" || format == "onnx",
            "format expects pdmodel, pir or onnx, got '" + format + "'");
  const auto program = load_program(model, options.params);
  write_model(export_of(*program, declared_shapes(*program, options.shapes)),
              format == "pir"    ? ExportFormat::kPir
              : format == "onnx" ? ExportFormat::kOnnx
                                 : ExportFormat::kPdmodel,
              folder);
}

}  // namespace trireme
