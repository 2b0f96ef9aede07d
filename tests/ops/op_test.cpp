// The little executor behind the operators' tests.
#include "ops/op_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>

#include "base/half.h"
#include "ops/anchor.h"
#include "ops/gpu_twin.h"
#include "passes/pass.h"

namespace trireme::test {
namespace {

constexpr size_t kGuard = 256;
constexpr unsigned char kMark = 0xa5;

// Memory with marks around it; starts out full of NaNs, so that what a kernel leaves out shows.
class Guarded {
 public:
  explicit Guarded(size_t bytes) : bytes_(bytes), memory_(bytes + 2 * kGuard + 64, kMark) {
    const auto at = reinterpret_cast<uintptr_t>(memory_.data()) + kGuard;
    data_ = memory_.data() + kGuard + (64 - at % 64) % 64;
    std::memset(data_, 0xff, bytes);
  }
  void* data() { return data_; }
  bool intact() const {
    for (const unsigned char* p = memory_.data(); p < memory_.data() + memory_.size(); ++p)
      if ((p < data_ || p >= data_ + bytes_) && *p != kMark) return false;
    return true;
  }

 private:
  size_t bytes_;
  std::vector<unsigned char> memory_;
  unsigned char* data_;
};

// Moves the elements between row-major and channels-last, the obvious way.
void relayout(const void* from, void* to, const Shape& shape, size_t element,
              bool to_channels_last) {
  int64_t spatial = 1;
  for (int d = 2; d < shape.rank(); ++d) spatial *= shape[d];
  for (int64_t n = 0; n < shape[0]; ++n) {
    for (int64_t c = 0; c < shape[1]; ++c) {
      for (int64_t s = 0; s < spatial; ++s) {
        const auto plain = static_cast<size_t>((n * shape[1] + c) * spatial + s) * element;
        const auto last = static_cast<size_t>((n * spatial + s) * shape[1] + c) * element;
        std::memcpy(static_cast<char*>(to) + (to_channels_last ? last : plain),
                    static_cast<const char*>(from) + (to_channels_last ? plain : last), element);
      }
    }
  }
}

// As the layout pass does it: inputs of the result's rank follow, results whose layouts agree are
// row-major.
void label(Graph& graph, Layout layout) {
  if (layout == Layout::kPlain) return;
  for (const auto& n : graph.nodes) {
    if (n->op->layouts == Layouts::kPlainOnly) continue;
    const int rank = n->out()->type.shape.rank();
    for (size_t i = 0; i < n->inputs.size(); ++i) {
      if (n->inputs[i] == nullptr || constant_of(n->inputs[i]) != nullptr) continue;
      Type& t = n->inputs[i]->type;
      if (t.shape.rank() >= 3 && (i == 0 || t.shape.rank() == rank) && !layouts_agree(t.shape))
        t.layout = layout;
    }
    const bool any = std::any_of(n->inputs.begin(), n->inputs.end(),
                                 [&](const Value* v) { return v && v->type.layout == layout; });
    for (const auto& v : n->outputs) {
      Type& t = v->type;
      const bool follows =
          t.shape.rank() == n->inputs[0]->type.shape.rank() && !layouts_agree(t.shape);
      if (any && follows) t.layout = layout;
    }
  }
}

// Inputs in `layout`, and reorders between operators as a plan has them.
void spread(Graph& graph, Layout layout, std::vector<Value*>& inputs,
            std::vector<Value*>& results) {
  graph.outputs = results;
  for (Value* v : graph.inputs)
    if (v->type.shape.rank() >= 3 && !layouts_agree(v->type.shape)) v->type.layout = layout;
  const std::vector<Value*> before = graph.inputs;
  trireme::layout(graph, PassContext{cpu_target()});
  for (Value*& v : inputs) {
    const auto at = std::find(before.begin(), before.end(), v);
    if (at != before.end()) v = graph.inputs[static_cast<size_t>(at - before.begin())];
  }
  results = graph.outputs;
}

using Memory = std::map<const Value*, std::unique_ptr<Guarded>>;

void run_node(const Node& node, Memory& memory) {
  std::vector<void*> in, out;
  for (const Value* v : node.inputs) {
    const Array* fixed = constant_of(v);
    in.push_back(v == nullptr ? nullptr
                 : fixed      ? const_cast<void*>(fixed->data())
                              : memory.at(v)->data());
  }
  for (const auto& v : node.outputs) {
    auto& to = memory[v.get()] = std::make_unique<Guarded>(v->type.bytes());
    out.push_back(to->data());
  }
  const Kernel kernel = node.op->cpu(Prepare{.node = node});
  Guarded scratch(kernel.scratch);
  for (int round = 0; round < 2; ++round) kernel.run(Launch{in.data(), out.data(), scratch.data()});
  EXPECT_TRUE(scratch.intact()) << node.op->name << " wrote outside its scratch";
  check_on_gpu(node, in, out);
  for (const auto& v : node.outputs)
    EXPECT_TRUE(memory.at(v.get())->intact()) << node.op->name << " wrote outside";
}

}  // namespace

std::vector<Array> run_ops(const Record& record, const std::vector<Array>& inputs,
                           const RunOptions& options) {
  Graph graph;
  graph.fold_below = 0;
  const BuilderScope scope(graph);
  std::vector<Value*> values;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool fixed =
        options.constants && i > 0 && inputs[i].shape().rank() < inputs[0].shape().rank();
    values.push_back(!inputs[i].defined() ? nullptr
                     : fixed              ? graph.add_constant(inputs[i], {})
                             : graph.add_input({inputs[i].dtype(), inputs[i].shape()}));
  }
  std::vector<Value*> results = record(values);
  if (options.spread) spread(graph, options.layout, values, results);
  else label(graph, options.layout);

  Memory memory;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (values[i] == nullptr || constant_of(values[i])) continue;
    auto& to = memory[values[i]] = std::make_unique<Guarded>(inputs[i].bytes());
    if (values[i]->type.layout == Layout::kChannelsLast) {
      relayout(inputs[i].data(), to->data(), inputs[i].shape(), size_of(inputs[i].dtype()), true);
    } else if (inputs[i].bytes() > 0) {
      std::memcpy(to->data(), inputs[i].data(), inputs[i].bytes());
    }
  }
  for (const auto& n : graph.nodes)
    if (n->op->cpu != nullptr) run_node(*n, memory);

  std::vector<Array> tensors;
  for (const Value* v : results) {
    Array t(v->type.dtype, v->type.shape);
    const void* from = constant_of(v) ? constant_of(v)->data() : memory.at(v)->data();
    if (v->type.layout == Layout::kChannelsLast) {
      relayout(from, t.data(), t.shape(), size_of(t.dtype()), false);
    } else if (t.bytes() > 0) {
      std::memcpy(t.data(), from, t.bytes());
    }
    tensors.push_back(std::move(t));
  }
  return tensors;
}

bool follows_layout(const Record& record, const std::vector<Array>& inputs) {
  Graph graph;
  graph.fold_below = 0;
  const BuilderScope scope(graph);
  std::vector<Value*> values;
  for (const Array& t : inputs)
    values.push_back(t.defined() ? graph.add_input({t.dtype(), t.shape()}) : nullptr);
  record(values);
  for (const auto& n : graph.nodes)
    if (n->op->cpu != nullptr && n->op->layouts == Layouts::kPlainOnly) return false;
  return true;
}

Array ramp(const Shape& shape, int64_t seed, DType dtype) {
  Array t(DType::kFloat32, shape);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.as<float>()[i] = static_cast<float>(((i + 1) * 37 + seed * 13) % 101 - 50) / 32;
  return t.to(dtype);
}

std::vector<double> doubles_of(const Array& tensor) {
  const Array t = tensor.to(DType::kFloat64);
  return {t.as<double>(), t.as<double>() + t.numel()};
}

void expect_near(const Array& got, const std::vector<double>& want, double absolute,
                 double relative, const std::string& what) {
  const std::vector<double> values = doubles_of(got);
  ASSERT_EQ(values.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i) {
    const double g = values[i], w = want[i];
    if (g == w || (std::isnan(g) && std::isnan(w))) continue;
    ASSERT_LE(std::abs(g - w), absolute + relative * std::abs(w))
        << what << ", element " << i << ": " << g << " for " << w;
  }
}

double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16: return 1.0 / 128;
    case DType::kFloat16: return 1.0 / 1024;
    case DType::kFloat32: return 2e-6;
    case DType::kFloat64: return 1e-12;
    default: return 0;
  }
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kInvalidArgument);
    return e.message();
  }
  ADD_FAILURE() << "no error";
  return {};
}

}  // namespace trireme::test
