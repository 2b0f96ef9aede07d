// Kernels of float16 nodes where only float32 ones exist: a node like it on float32, conversions.
#include "ops/widened.h"

#include "base/half.h"
#include "base/parallel.h"
#include "ops/elements.h"

namespace trireme {
namespace {

Type wide(Type t) {
  if (t.dtype == DType::kFloat16) t.dtype = DType::kFloat32;
  return t;
}

struct Part {  // of scratch memory, for one input or output
  bool half = false;
  size_t at = 0;
  int64_t count = 0;
};

void convert(const Part& part, void* to, const void* from, bool widen) {
  parallel_for(part.count, 1 << 14, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      if (widen) static_cast<float*>(to)[i] = half_to_float(static_cast<const uint16_t*>(from)[i]);
      else static_cast<uint16_t*>(to)[i] = float_to_half(static_cast<const float*>(from)[i]);
    }
  });
}

struct Widened {
  Graph graph;  // the node on float32
  std::vector<Array> constants;
  std::vector<Part> in, out;
  Kernel kernel;
  size_t scratch = 0;

  Part part(const Type& type) {
    Part p{type.dtype == DType::kFloat16, align_up(scratch), type.shape.numel()};
    if (p.half) scratch = p.at + static_cast<size_t>(p.count) * sizeof(float);
    return p;
  }

  void run(const Launch& l) const {
    auto* base = static_cast<char*>(l.scratch);
    std::vector<void*> inputs, outputs;
    for (size_t i = 0; i < in.size(); ++i) {
      void* pointer = l.in[i];
      if (constants[i].defined()) pointer = const_cast<void*>(constants[i].data());
      else if (in[i].half && pointer != nullptr) {
        convert(in[i], base + in[i].at, pointer, true);
        pointer = base + in[i].at;
      }
      inputs.push_back(pointer);
    }
    for (size_t i = 0; i < out.size(); ++i)
      outputs.push_back(out[i].half ? base + out[i].at : l.out[i]);
    kernel.run({inputs.data(), outputs.data(), base + align_up(scratch), l.stream});
    for (size_t i = 0; i < out.size(); ++i)
      if (out[i].half) convert(out[i], l.out[i], outputs[i], false);
  }
};

}  // namespace

bool any_float16(const Prepare& p) {
  for (size_t i = 0; i < p.node.inputs.size(); ++i)
    if (p.has(i) && p.in(i).dtype == DType::kFloat16) return true;
  return p.out().dtype == DType::kFloat16;
}

Kernel widened(const Prepare& p, Kernel (*prepare)(const Prepare&)) {
  auto w = std::make_shared<Widened>();
  w->graph.fold_below = 0;
  std::vector<Value*> inputs;
  for (size_t i = 0; i < p.node.inputs.size(); ++i) {
    w->constants.emplace_back();
    w->in.emplace_back();
    if (!p.has(i)) {
      inputs.push_back(nullptr);
    } else if (const Array* constant = p.constant(i)) {
      const Type type = wide(p.in(i));
      w->constants.back() = constant->to(type.dtype);
      inputs.push_back(w->graph.add_constant(w->constants.back(), {}));
      inputs.back()->type.layout = type.layout;
    } else {
      w->in.back() = w->part(p.in(i));
      inputs.push_back(w->graph.add_input(wide(p.in(i))));
    }
  }
  const std::vector<Value*> outputs = w->graph.add(*p.node.op, std::move(inputs), p.node.attrs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    outputs[i]->type = wide(p.out(i));
    w->out.push_back(w->part(p.out(i)));
  }
  Prepare inside = {*w->graph.nodes.back(), p.cache, p.device, p.plan_subgraph, p.upload};
  w->kernel = prepare(inside);
  const size_t scratch = align_up(w->scratch) + w->kernel.scratch;
  return {[w](const Launch& l) { w->run(l); }, scratch};
}

}  // namespace trireme
