// Recording a network for export.
#include "trireme/jit.h"

#include <unordered_map>

#include "formats/export_model.h"
#include "runtime/recorder.h"

namespace trireme::jit {
namespace {

// What `from` holds, recorded once more into the graph that is being built.
std::vector<Value*> replay(const Graph& from, const std::vector<Value*>& inputs) {
  std::unordered_map<const Value*, Value*> to;
  for (size_t i = 0; i < inputs.size(); ++i) to[from.inputs[i]] = inputs[i];
  for (const auto& n : from.nodes) {
    if (n->op == &kData) continue;
    if (n->op == &kConstant) {
      to[n->out()] = constant(*constant_of(n->out()), n->out()->name);
      continue;
    }
    std::vector<Value*> in;
    for (const Value* v : n->inputs) in.push_back(v ? to.at(v) : nullptr);
    set_location(n->where);
    const std::vector<Value*> results = record(*n->op, std::move(in), n->attrs);
    for (size_t k = 0; k < results.size(); ++k) to[n->out(k)] = results[k];
  }
  set_location({});
  std::vector<Value*> outputs;
  for (const Value* v : from.outputs) outputs.push_back(to.at(v));
  return outputs;
}

class EvalMode {
 public:
  explicit EvalMode(nn::Layer& model) : model_(model), was_(model.training()) { model.eval(); }
  ~EvalMode() {
    if (was_) model_.train();
  }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  nn::Layer& model_;
  bool was_;
};

}  // namespace

void save(nn::Layer& model, const std::string& folder, const std::vector<InputSpec>& input_spec,
          const SaveOptions& options) {
  TRI_CHECK(!input_spec.empty(), "[jit] expects an InputSpec for each input of the model");
  const EvalMode mode(model);
  ExportSpec spec;
  std::vector<std::string> names;
  for (const InputSpec& i : input_spec) {
    spec.inputs.push_back({i.name, i.dtype, i.shape});
    names.push_back(i.name);
  }
  spec.outputs = {"fetch_name_0"};
  spec.merge_norms = true;
  const auto record = [&](const std::vector<Value*>& inputs) {
    std::vector<Type> types;
    for (const Value* v : inputs) types.push_back(v->type);
    const std::unique_ptr<Graph> program =
        current_recorder().trace(types, names, [&](const std::vector<Tensor>& in) {
          return std::vector<Tensor>{in.size() == 1 ? model(in[0]) : model(in)};
        });
    return replay(*program, inputs);
  };
  const ExportFormat format =
      options.format == "pdmodel" ? ExportFormat::kPdmodel
      : options.format == "pir"   ? ExportFormat::kPir
      : options.format == "onnx"
          ? ExportFormat::kOnnx
          : (fail(Code::kInvalidArgument,
                  "[jit] format expects pdmodel, pir or onnx, got " + options.format),
             ExportFormat::kPir);
  write_model(ExportModel(std::move(spec), record), format, folder);
}

}  // namespace trireme::jit
