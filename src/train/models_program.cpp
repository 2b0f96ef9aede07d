// An inference program as a layer: its parameters are variables, its operators are recorded anew at
// each call.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "formats/program.h"
#include "ops/norm.h"
#include "runtime/call.h"
#include "trireme/models.h"

namespace trireme::models {
namespace {

// Forwards what a program records to the recorder; constants that are parameters become variables.
class Substitute : public Builder {
 public:
  Substitute(Recorder& recorder, const std::unordered_map<const void*, Tensor>& variables)
      : recorder_(recorder), variables_(variables) {}
  std::vector<Value*> add(const Op& op, std::vector<Value*> inputs, Attrs attrs) override {
    return recorder_.add(op, std::move(inputs), std::move(attrs));
  }
  Value* add_constant(const Array& array, std::string name) override {
    const auto it = variables_.find(array.data());
    if (it != variables_.end()) return recorder_.value(it->second.variable());
    return recorder_.add_constant(array, std::move(name));
  }

 private:
  Recorder& recorder_;
  const std::unordered_map<const void*, Tensor>& variables_;
};

// The values that batch norms take as statistics.
std::set<int> statistics(const ForeignProgram& program) {
  std::set<int> values;
  for (const ForeignOp& op : program.body.ops)
    for (const ForeignSlot& slot : op.inputs)
      if (slot.name == "Mean" || slot.name == "Variance")
        values.insert(slot.values.begin(), slot.values.end());
  return values;
}

// Weight and bias (or -1) of the last product with a matrix, as indices of parameters.
std::pair<int, int> last_product(const ForeignProgram& program) {
  const auto parameter = [&](const ForeignSlot& slot) {
    for (size_t i = 0; i < program.parameters.size(); ++i)
      if (program.parameters[i].value == slot.values[0]) return static_cast<int>(i);
    return -1;
  };
  const auto& ops = program.body.ops;
  for (size_t k = ops.size(); k-- > 0;) {
    if (!ops[k].type.starts_with("matmul") && ops[k].type != "mul" && ops[k].type != "linear_v2")
      continue;
    for (const ForeignSlot& slot : ops[k].inputs) {
      const int w = parameter(slot);
      if (slot.name != "Y" || w < 0) continue;
      const Shape& shape = program.parameters[static_cast<size_t>(w)].shape;
      if (shape.rank() != 2) continue;
      // The sum that takes the product's result.
      const int result = ops[k].outputs.empty() ? -1 : ops[k].outputs[0].values[0];
      for (size_t next = k + 1; next < ops.size(); ++next) {
        bool takes = false;
        int b = -1;
        for (const ForeignSlot& s : ops[next].inputs) {
          takes = takes || s.values[0] == result;
          b = std::max(b, parameter(s));
        }
        if (!takes) continue;
        const bool fits = b >= 0 && ops[next].type == "elementwise_add" &&
                          program.parameters[static_cast<size_t>(b)].shape == Shape{shape[1]};
        return {w, fits ? b : -1};
      }
      return {w, -1};
    }
  }
  return {-1, -1};
}

// `fresh` [..., classes] with the columns that are kept from `old` [..., old classes].
void keep_columns(Tensor& fresh, const Array& old, const std::vector<int64_t>& kept) {
  if (kept.empty()) return;
  const Array drawn = fresh.numpy();
  Array values(DType::kFloat32, drawn.shape());
  std::copy_n(drawn.as<float>(), drawn.numel(), values.as<float>());
  const int64_t to = static_cast<int64_t>(kept.size()), from = old.shape()[old.shape().rank() - 1];
  for (int64_t j = 0; j < to; ++j) {
    const int64_t source = kept[static_cast<size_t>(j)];
    if (source < 0) continue;
    TRI_CHECK(source < from, "[from_program] kept_classes expects classes below " +
                                 std::to_string(from) + ", got " + std::to_string(source));
    for (int64_t row = 0; row < values.numel() / to; ++row)
      values.as<float>()[row * to + j] = old.as<float>()[row * from + source];
  }
  fresh.set_value(Tensor(values));
}

class ProgramLayer : public nn::Layer {
 public:
  ProgramLayer(const std::string& path, const ProgramOptions& options)
      : Layer("program"), program_(load_program(path, options.params)) {
    TRI_CHECK(program_->inputs().size() == 1 && !program_->outputs().empty(),
              "[from_program] expects a program with one input, got " +
                  std::to_string(program_->inputs().size()) + " in " + path);
    const ForeignProgram& foreign = program_->foreign();
    std::pair<int, int> renewed{-1, -1};
    if (options.num_classes != 0) {
      renewed = last_product(foreign);
      TRI_CHECK(options.num_classes > 0 && renewed.first >= 0,
                "[from_program] num_classes expects a program that ends with a product by a "
                "matrix, and a positive number: " +
                    path);
    }
    TRI_CHECK(options.kept_classes.empty() ||
                  static_cast<int64_t>(options.kept_classes.size()) == options.num_classes,
              "[from_program] kept_classes expects as many entries as num_classes");
    const std::set<int> fixed = statistics(foreign);
    for (size_t i = 0; i < foreign.parameters.size(); ++i) {
      const ForeignParameter& p = foreign.parameters[i];
      const Array& array = program_->tensors()[i];
      if (p.dtype != DType::kFloat32 || array.numel() == 0 || array.shape().rank() == 0) continue;
      const bool weight = static_cast<int>(i) == renewed.first;
      const nn::Initializer copied = nn::initializer::Assign(array);
      Tensor t;
      if (weight || static_cast<int>(i) == renewed.second) {
        t = create_parameter(
            p.name,
            weight ? Shape{array.shape()[0], options.num_classes} : Shape{options.num_classes},
            {.name = p.name},
            weight ? nn::initializer::XavierUniform() : nn::initializer::Constant(0), !weight);
        keep_columns(t, array, options.kept_classes);
      } else if (fixed.count(p.value) != 0)
        register_buffer(p.name, t = Tensor(copied(array.shape(), array.dtype())));
      else t = create_parameter(p.name, array.shape(), {.name = p.name}, copied);
      variables_.emplace(array.data(), t);
    }
  }

  Tensor forward(const Tensor& x) override {
    const std::vector<Tensor> y = call(
        [&](Value* v) {
          Recorder& recorder = recorder_for({&x});
          Substitute substitute(recorder, variables_);
          const BuilderScope scope(substitute);
          const std::string before = current_location();
          const std::vector<Value*> out = program_->record({v});
          set_location(before);
          Value* first = out.at(0);
          while (training() && first->node->op == &ops::softmax_op) first = first->node->inputs[0];
          return std::vector<Value*>{first};
        },
        x);
    return y[0];
  }

 private:
  std::shared_ptr<const Program> program_;
  std::unordered_map<const void*, Tensor> variables_;  // by the memory of the program's arrays
};

}  // namespace

std::shared_ptr<nn::Layer> from_program(const std::string& path, const ProgramOptions& options) {
  return std::make_shared<ProgramLayer>(path, options);
}

}  // namespace trireme::models
