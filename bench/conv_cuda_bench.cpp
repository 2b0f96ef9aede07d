// Microseconds of the GPU's convolutions, all plans tried: conv_cuda_bench [f16|bf16|tf32] [batch].
// ResNet-50's layers forward, by the input, by the weight (as in training: weights as they lie),
// with bias, residual and ReLU; then depthwise layers with the bytes that they have to move.
#ifdef TRIREME_CUDA
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "device/cuda/autotune.h"
#include "ops/conv.h"
#include "ops/cuda_target.h"
#include "ops/pointwise.h"
#include "passes/pass.h"
#include "runtime/plan.h"
#include "trireme/error.h"

using namespace trireme;

namespace {

struct Layer {
  const char* name;
  int count;
  int64_t c, h, o, k, stride, groups = 1;
};

constexpr Layer kResnet[] = {
    {"stem 7x7/2", 1, 3, 224, 64, 7, 2},         {"1a 64>64", 1, 64, 56, 64, 1, 1},
    {"1b 3x3 64", 3, 64, 56, 64, 3, 1},          {"1c 64>256", 4, 64, 56, 256, 1, 1},
    {"1a 256>64", 2, 256, 56, 64, 1, 1},         {"2a 256>128", 1, 256, 56, 128, 1, 1},
    {"2b 3x3/2 128", 1, 128, 56, 128, 3, 2},     {"2c 128>512", 4, 128, 28, 512, 1, 1},
    {"2d 256>512/2", 1, 256, 56, 512, 1, 2},     {"2a 512>128", 3, 512, 28, 128, 1, 1},
    {"2b 3x3 128", 3, 128, 28, 128, 3, 1},       {"3a 512>256", 1, 512, 28, 256, 1, 1},
    {"3b 3x3/2 256", 1, 256, 28, 256, 3, 2},     {"3c 256>1024", 6, 256, 14, 1024, 1, 1},
    {"3d 512>1024/2", 1, 512, 28, 1024, 1, 2},   {"3a 1024>256", 5, 1024, 14, 256, 1, 1},
    {"3b 3x3 256", 5, 256, 14, 256, 3, 1},       {"4a 1024>512", 1, 1024, 14, 512, 1, 1},
    {"4b 3x3/2 512", 1, 512, 14, 512, 3, 2},     {"4c 512>2048", 3, 512, 7, 2048, 1, 1},
    {"4d 1024>2048/2", 1, 1024, 14, 2048, 1, 2}, {"4a 2048>512", 2, 2048, 7, 512, 1, 1},
    {"4b 3x3 512", 2, 512, 7, 512, 3, 1}};

constexpr Layer kDepthwise[] = {
    {"dw 3x3 32", 1, 32, 112, 32, 3, 1, 32},    {"dw 3x3/2 64", 1, 64, 112, 64, 3, 2, 64},
    {"dw 3x3 128", 1, 128, 56, 128, 3, 1, 128}, {"dw 3x3/2 256", 1, 256, 28, 256, 3, 2, 256},
    {"dw 5x5 512", 1, 512, 14, 512, 5, 1, 512}, {"dw 5x5/2 512", 1, 512, 14, 512, 5, 2, 512}};

using Record = std::function<Value*(const std::vector<Value*>&)>;

double time_of(Device& gpu, DType dtype, const std::vector<Shape>& shapes, const Record& record) {
  auto graph = std::make_unique<Graph>();
  graph->fold_below = 0;
  {
    const BuilderScope scope(*graph);
    std::vector<Value*> values;
    for (const Shape& s : shapes) {
      const bool picture = s.rank() == 4 && &s != &shapes[1];
      Value* v = graph->add_input({dtype, s});
      if (picture && s[1] > 4) v->type.layout = Layout::kChannelsLast;
      values.push_back(v);
    }
    Value* y = record(values);
    if (y->type.shape[2] * y->type.shape[3] > 1 && y->node->op != &ops::conv2d_wgrad_op)
      for (const auto& n : graph->nodes)
        if (n->op != &kData) n->outputs[0]->type.layout = Layout::kChannelsLast;
    graph->outputs = {y};
  }
  run_pass(*find_pass("fuse_anchor"), *graph, PassContext{cuda_target()});
  const Plan plan(std::move(graph), nullptr, &gpu);
  std::vector<Storage> memory;
  std::vector<void*> in;
  for (const Shape& s : shapes) {
    memory.push_back(
        cuda::tuning_memory(gpu, dtype, s.numel() * static_cast<int64_t>(size_of(dtype))));
    in.push_back(memory.back().data);
  }
  const Value* y = plan.graph().outputs[0];
  memory.push_back(gpu.allocate(static_cast<int64_t>(y->type.bytes()), "a result"));
  void* out[] = {memory.back().data};
  memory.push_back(gpu.allocate(plan.arena_bytes() + 256, "the arena"));
  auto* arena = static_cast<char*>(memory.back().data);
  double us = 0;
  const auto run = [&](void* stream) { plan.run(in, out, arena, nullptr, stream); };
  if (cuda::fastest(gpu, {run, run}, &us) < 0) fail(Code::kInternal, "[bench] it does not run");
  return us;
}

struct Times {
  double forward, dgrad, wgrad, fused;
};

Times times_of(Device& gpu, DType dtype, int64_t batch, const Layer& l) {
  const Conv2dAttrs a{.strides = {l.stride, l.stride},
                      .paddings = std::vector<int64_t>(4, l.k / 2),
                      .groups = l.groups};
  const int64_t oh = (l.h + 2 * (l.k / 2) - l.k) / l.stride + 1;
  const Shape x{batch, l.c, l.h, l.h}, w{l.o, l.c / l.groups, l.k, l.k}, y{batch, l.o, oh, oh};
  Conv2dAttrs by_weight = a, turned = a;
  by_weight.kernel = {l.k, l.k};
  const int64_t rest = l.h + 2 * (l.k / 2) - ((oh - 1) * l.stride + l.k);
  turned.output_padding = {rest, rest};
  using Values = std::vector<Value*>;
  Times t{};
  t.forward = time_of(gpu, dtype, {x, w},
                      [&](const Values& v) { return ops::conv2d(v[0], v[1], nullptr, a); });
  if (l.c > 4)
    t.dgrad = time_of(gpu, dtype, {y, w}, [&](const Values& v) {
      return ops::conv2d_transpose(v[0], v[1], nullptr, turned);
    });
  t.wgrad = time_of(gpu, dtype, {x, w, y},
                    [&](const Values& v) { return ops::conv2d_wgrad(v[0], v[2], by_weight); });
  t.fused = time_of(gpu, dtype, {x, w, y, Shape{l.o}}, [&](const Values& v) {
    Value* c = ops::conv2d(v[0], v[1], v[3], a);
    c->type.layout = Layout::kChannelsLast;
    return ops::relu(ops::add(c, v[2]));
  });
  return t;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "f16";
  const int64_t batch = argc > 2 ? std::atoll(argv[2]) : 256;
  const DType dtype = name == "f16"    ? DType::kFloat16
                      : name == "bf16" ? DType::kBFloat16
                                       : DType::kFloat32;
  try {
    Device& gpu = find_device("gpu:0");
    std::printf("%s, %s, batch %lld; us\n%-16s %8s %8s %8s %14s\n", gpu.info().model.c_str(),
                name.c_str(), static_cast<long long>(batch), "layer", "forward", "dgrad", "wgrad",
                "+res+bias+relu");
    Times sum{};
    for (const Layer& l : kResnet) {
      const Times t = times_of(gpu, dtype, batch, l);
      std::printf("%-16s %8.0f %8.0f %8.0f %14.0f\n", l.name, t.forward, t.dgrad, t.wgrad, t.fused);
      sum.forward += l.count * t.forward, sum.dgrad += l.count * t.dgrad;
      sum.wgrad += l.count * t.wgrad, sum.fused += l.count * t.fused;
      std::fflush(stdout);
    }
    std::printf("%-16s %8.0f %8.0f %8.0f %14.0f\n", "sum of 53", sum.forward, sum.dgrad, sum.wgrad,
                sum.fused);
    std::printf("\n%-16s us (GB/s of input and result)\n", "depthwise");
    for (const Layer& l : kDepthwise) {
      const Times t = times_of(gpu, dtype, batch, l);
      const auto out = static_cast<double>((l.h + l.stride - 1) / l.stride);
      const double bytes = static_cast<double>(batch * l.c) * static_cast<double>(size_of(dtype)) *
                           (static_cast<double>(l.h * l.h) + out * out);
      std::printf("%-16s", l.name);
      for (const double us : {t.forward, t.dgrad, t.wgrad})
        std::printf(" %8.0f (%4.0f)", us, bytes / us * 1e-3);
      std::printf(" %8.0f\n", t.fused);
    }
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.message().c_str());
    return 1;
  }
}
#endif
