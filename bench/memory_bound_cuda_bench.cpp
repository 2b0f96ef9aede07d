// How near to the memory's speed a GPU's kernels come that only move data, on sizes of ResNet-50
// and BERT: microseconds and GB/s. Runs in a second.
#ifdef TRIREME_CUDA
#include <cstdio>
#include <cstring>

#include "device/device.h"
#include "graph/kernel.h"
#include "ops/batch_norm_fused.h"
#include "ops/cross_entropy.h"
#include "ops/norm.h"
#include "ops/optimizer.h"
#include "ops/random.h"
#include "trireme/error.h"

using namespace trireme;

namespace {

constexpr int kRepeats = 10;

class Speed {
 public:
  explicit Speed(Device& device) : gpu(&device) { gpu->activate(); }
  void batch_norm();
  void stem();
  void rows();
  void momentum();

 private:
  // Normal numbers, zeros for whatever is not floating.
  Storage filled(const Type& t) {
    Storage to = gpu->allocate(static_cast<int64_t>(t.bytes()), "an operand");
    if (!is_floating(t.dtype)) {
      const Storage zeros = gpu->upload(std::vector<char>(t.bytes()).data(),
                                        static_cast<int64_t>(t.bytes()), "zeros");
      gpu->copy(to.data, zeros.data, t.bytes());
      return to;
    }
    const int64_t state[] = {1, 0};
    const Storage seed = gpu->upload(state, sizeof state, "a seed");
    Graph g;
    Value* s = g.add_input({DType::kInt64, Shape{2}});
    RandomAttrs a{.dtype = t.dtype, .min = 0, .max = 1};
    a.shape.assign(t.shape.begin(), t.shape.end());
    const Node& node = *g.add(ops::gaussian_op, {s}, a)[0]->node;
    void *in[] = {seed.data}, *out[] = {to.data};
    node.op->cuda(Prepare{.node = node, .device = gpu})
        .run(Launch{in, out, nullptr, gpu->stream()});
    gpu->synchronize();
    return to;
  }

  // Microseconds of one run of the operator, recorded and run again and again; GB/s of `bytes`.
  void run(const char* what, const Op& op, const std::vector<Type>& inputs, Attrs attrs,
           double bytes) {
    Graph g;
    std::vector<Value*> values;
    std::vector<Storage> held;
    std::vector<void*> in, out;
    for (const Type& t : inputs) {
      const bool there = t.shape.rank() > 0;
      values.push_back(there ? g.add_input(t) : nullptr);
      if (there) held.push_back(filled(t));
      in.push_back(there ? held.back().data : nullptr);
    }
    const std::vector<Value*> results = g.add(op, values, std::move(attrs));
    for (Value* v : results) {
      if (v->type.shape.rank() == 4) v->type.layout = Layout::kChannelsLast;
      held.push_back(gpu->allocate(static_cast<int64_t>(v->type.bytes()), "a result"));
      out.push_back(held.back().data);
    }
    const Node& node = *results[0]->node;
    const Kernel kernel = op.cuda(Prepare{.node = node, .device = gpu});
    const Storage scratch = gpu->allocate(static_cast<int64_t>(kernel.scratch) + 256, "scratch");
    const auto recording = gpu->record([&](void* stream) {
      for (int k = 0; k < kRepeats; ++k)
        kernel.run(Launch{in.data(), out.data(), scratch.data, stream});
    });
    TRI_CHECK(recording != nullptr, std::string(what) + " cannot be recorded");
    recording->launch();
    gpu->synchronize();
    const auto timer = gpu->timer();
    timer->mark();
    recording->launch();
    timer->mark();
    const std::vector<double> at = timer->read_us();
    const double us = (at[1] - at[0]) / kRepeats;
    std::printf("%-44s %9.1f us %7.0f GB/s\n", what, us, bytes / us / 1e3);
  }

  Device* gpu;
};

void Speed::batch_norm() {
  const auto at = [&](const Shape& shape, DType dtype) {
    const Type x{dtype, shape, Layout::kChannelsLast}, c{DType::kFloat32, Shape{shape[1]}};
    const Type mask{DType::kUInt8, Shape{(shape.numel() + 7) / 8}};
    const auto bytes = static_cast<double>(x.bytes());
    std::printf("%s\n", x.str().c_str());
    const BatchNormAttrs a{};
    run("batch_norm_train: 3 passes", ops::batch_norm_train_op, {c, c, x, c, c}, a, 3 * bytes);
    run("batch_norm_grad: 5", ops::batch_norm_grad_op, {x, c, c, c, x}, {}, 5 * bytes);
    run("fused_batch_norm_act: 3", ops::fused_batch_norm_act_op, {c, c, x, c, c}, a, 3 * bytes);
    run("fused_batch_norm_act_grad: 5", ops::fused_batch_norm_act_grad_op, {x, c, c, c, c, x}, {},
        5 * bytes);
    run("fused_bn_add_activation: 4", ops::fused_bn_add_activation_op, {c, c, x, c, c, x}, a,
        4 * bytes);
    run("fused_bn_add_activation_grad: 6", ops::fused_bn_add_activation_grad_op,
        {x, c, c, x, c, mask, {}}, {}, 6 * bytes);
    run("fused_bn_add_activation_grad, two: 7", ops::fused_bn_add_activation_grad_op,
        {x, c, c, x, c, mask, x}, {}, 7 * bytes);
  };
  at({256, 256, 56, 56}, DType::kFloat16);
  at({256, 1024, 14, 14}, DType::kFloat16);
  at({256, 256, 14, 14}, DType::kFloat16);
  at({256, 256, 56, 56}, DType::kFloat32);
}

void Speed::stem() {
  const Type x{DType::kFloat16, {256, 64, 112, 112}, Layout::kChannelsLast},
      y{DType::kFloat16, {256, 64, 56, 56}, Layout::kChannelsLast},
      index{DType::kUInt8, {256, 64, 56, 56}, Layout::kChannelsLast}, c{DType::kFloat32, {64}};
  const BatchNormPoolAttrs a{
      .kernel = {3, 3}, .strides = {2, 2}, .paddings = {1, 1}, .size = {56, 56}};
  const auto bytes = static_cast<double>(x.bytes());
  run("stem forward: 2.6 passes", ops::fused_batch_norm_act_pool_op, {c, c, x, c, c}, a,
      2.625 * bytes);
  run("stem backward: 2.9", ops::fused_batch_norm_act_pool_grad_op,
      {x, c, c, c, c, y, index, y, {}}, a, 2.875 * bytes);
}

void Speed::rows() {
  for (const DType dtype : {DType::kBFloat16, DType::kFloat32}) {
    const Type x{dtype, {32768, 30528}}, loss{dtype, {32768, 1}}, label{DType::kInt64, {32768, 1}};
    const auto bytes = static_cast<double>(x.bytes());
    std::printf("%s\n", x.str().c_str());
    run("cross_entropy: 2 passes", ops::cross_entropy_with_softmax_op, {x, label},
        CrossEntropyAttrs{.axis = 1}, 2 * bytes);
    run("cross_entropy_grad: 2", ops::cross_entropy_with_softmax_grad_op, {label, x, loss},
        CrossEntropyAttrs{.axis = 1}, 2 * bytes);
    const Type number{DType::kFloat32, {32768, 1}};
    if (size_of(dtype) == 2) {
      run("cross_entropy_half: 1", ops::cross_entropy_half_op, {x, label},
          CrossEntropyAttrs{.axis = 1}, bytes);
      run("cross_entropy_half_grad: 2", ops::cross_entropy_half_grad_op, {x, label, number, number},
          CrossEntropyAttrs{.axis = 1}, 2 * bytes);
    }
    const Type r{dtype, {32768, 768}}, c{DType::kFloat32, {768}};
    const auto row_bytes = static_cast<double>(r.bytes());
    run("layer_norm 32768x768: 2", ops::layer_norm_op, {r, c, c}, NormAttrs{.axis = 1},
        2 * row_bytes);
    run("layer_norm_grad: 3", ops::layer_norm_grad_op, {r, c, r}, NormAttrs{.axis = 1},
        3 * row_bytes);
  }
}

// The parameters of ResNet-50, about: 160 tensors of 160,000.
void Speed::momentum() {
  constexpr int64_t kParams = 160;
  const Type w{DType::kFloat32, {160000}}, g{DType::kFloat16, {160000}}, one{DType::kFloat32, {1}};
  std::vector<Type> inputs(2 * kParams, w);
  inputs.insert(inputs.end(), kParams, g);
  inputs.insert(inputs.end(), {one, {}, {}});
  run("momentum of 25.6 M, half gradients", ops::momentum_op, inputs,
      UpdateAttrs{.params = kParams, .momentum = 0.9}, kParams * 160000.0 * 18);
}

}  // namespace

int main() {
  try {
    Speed speed(find_device("gpu:0"));
    speed.batch_norm();
    speed.stem();
    speed.rows();
    speed.momentum();
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.message().c_str());
    return 1;
  }
}
#endif
