// Convolutions on a GPU against the CPU: the shapes that are hard for tensor cores and for plans.
#include "device/precision.h"
#include "ops/conv.h"
#include "ops/cuda_target.h"
#include "ops/fused.h"
#include "ops/gpu_twin.h"
#include "ops/norm.h"
#include "ops/op_test.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "passes/pass.h"
#include "support/distance.h"
#include "support/gpu.h"
#include "support/run_plan.h"
#include "trireme/error.h"

namespace trireme::test {
namespace {

struct Case {
  const char* name;
  Shape x;
  int64_t o, kh, kw;
  Conv2dAttrs attrs{};
};

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {"plain 3x3", {2, 16, 9, 11}, 24, 3, 3, {.paddings = {1, 1, 1, 1}}},
      {"1x1", {3, 64, 7, 5}, 32, 1, 1, {}},
      {"1x1 stride 2", {2, 32, 9, 9}, 64, 1, 1, {.strides = {2, 2}}},
      {"1x1 strides 2 and 3, even", {2, 24, 8, 10}, 40, 1, 1, {.strides = {2, 3}}},
      {"stem", {2, 3, 32, 32}, 64, 7, 7, {.strides = {2, 2}, .paddings = {3, 3, 3, 3}}},
      {"stem of odd size", {1, 3, 61, 47}, 64, 7, 7, {.strides = {2, 2}, .paddings = {3, 3, 3, 3}}},
      {"wide stem", {1, 3, 20, 470}, 64, 7, 7, {.strides = {2, 2}, .paddings = {3, 3, 3, 3}}},
      {"stem 3x3", {3, 3, 33, 64}, 128, 3, 3, {.strides = {2, 2}, .paddings = {0, 1, 0, 1}}},
      {"stem 5x5 of a plane",
       {2, 1, 28, 30},
       64,
       5,
       5,
       {.strides = {1, 2}, .paddings = {2, 2, 2, 2}}},
      {"stem 6x8", {1, 4, 19, 23}, 64, 6, 8, {.strides = {3, 2}, .paddings = {2, 3, 3, 4}}},
      {"one channel", {4, 1, 28, 28}, 6, 5, 5, {.paddings = {2, 2, 2, 2}}},
      {"odd channels", {2, 21, 13, 10}, 35, 3, 3, {.paddings = {1, 1, 1, 1}}},
      {"one result", {2, 24, 8, 8}, 1, 1, 1, {}},
      {"1x3", {1, 48, 6, 40}, 40, 1, 3, {.paddings = {0, 0, 1, 1}}},
      {"same, stride 2", {2, 16, 12, 12}, 16, 3, 3, {.strides = {2, 2}, .paddings = {0, 1, 0, 1}}},
      {"strides 2 and 1", {2, 16, 12, 20}, 32, 3, 3, {.strides = {2, 1}, .paddings = {1, 1, 1, 1}}},
      {"dilation", {1, 16, 15, 15}, 16, 3, 3, {.paddings = {2, 2, 2, 2}, .dilations = {2, 2}}},
      {"groups", {2, 32, 10, 10}, 64, 3, 3, {.paddings = {1, 1, 1, 1}, .groups = 4}},
      {"odd groups", {2, 10, 7, 7}, 6, 3, 3, {.groups = 2}},
      {"multiplier", {2, 6, 7, 7}, 12, 3, 3, {.paddings = {1, 1, 1, 1}, .groups = 6}},
      {"depthwise 3x3", {2, 24, 13, 9}, 24, 3, 3, {.paddings = {1, 1, 1, 1}, .groups = 24}},
      {"depthwise 3x3/2",
       {2, 32, 13, 14},
       32,
       3,
       3,
       {.strides = {2, 2}, .paddings = {1, 1, 1, 1}, .groups = 32}},
      {"depthwise 5x5", {1, 64, 9, 17}, 64, 5, 5, {.paddings = {2, 2, 2, 2}, .groups = 64}},
      {"depthwise 5x5/2",
       {1, 64, 12, 9},
       64,
       5,
       5,
       {.strides = {2, 2}, .paddings = {2, 2, 2, 2}, .groups = 64}},
      {"depthwise 3x3/(2,1) odd",
       {2, 13, 11, 9},
       13,
       3,
       3,
       {.strides = {2, 1}, .paddings = {1, 0, 0, 1}, .groups = 13}},
      {"depthwise dilated",
       {1, 16, 11, 12},
       16,
       3,
       3,
       {.paddings = {2, 2, 2, 2}, .dilations = {2, 2}, .groups = 16}},
      {"depthwise, a thousand taps of pixels",
       {4, 8, 64, 64},
       8,
       3,
       3,
       {.paddings = {1, 1, 1, 1}, .groups = 8}},
      {"no pictures", {0, 16, 9, 11}, 24, 3, 3, {.paddings = {1, 1, 1, 1}}},
  };
  return list;
}

Array numbers(DType dtype, const Shape& shape, uint32_t seed) {
  Array wide(DType::kFloat32, shape);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    seed = seed * 1664525u + 1013904223u;
    wide.as<float>()[i] = static_cast<float>(seed >> 8) / (1 << 23) - 1;
  }
  return wide.to(dtype);
}

double allowed(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return 1e-11;
    case DType::kFloat32: return 1e-5;
    case DType::kFloat16: return 2e-3;
    default: return 1.6e-2;
  }
}

// What is recorded for a case: inputs as graph inputs, or the weight and bias as constants.
using Recorded = std::function<std::vector<Value*>(const std::vector<Value*>&)>;

std::unique_ptr<Graph> graph_of(const std::vector<Array>& inputs, bool constants,
                                const Recorded& record) {
  auto graph = std::make_unique<Graph>();
  graph->fold_below = 0;
  const BuilderScope scope(*graph);
  std::vector<Value*> values;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool constant = constants && (i == 1 || i == 2);
    values.push_back(constant ? graph->add_constant(inputs[i], "")
                              : graph->add_input({inputs[i].dtype(), inputs[i].shape()}));
  }
  graph->outputs = record(values);
  return graph;
}

std::vector<Array> widened(std::vector<Array> inputs) {
  for (size_t i = 1; i < 3; ++i) inputs[i] = inputs[i].to(DType::kFloat32);
  return inputs;
}

// Compares on GPU and CPU: as recorded, and behind the passes (channels-last, fused). `wide`: the
// constants are of float32 there, as AMP leaves them.
void compare(const std::vector<Array>& inputs, bool constants, const Recorded& record, double limit,
             bool wide = false) {
  std::vector<Array> given, exact;
  const bool narrow = size_of(inputs[0].dtype()) == 2;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!constants || (i != 1 && i != 2)) given.push_back(inputs[i]);
    exact.push_back(narrow ? inputs[i].to(DType::kFloat32) : inputs[i]);
  }
  const std::vector<Array> want = run_on(find_device("cpu"), graph_of(exact, false, record), exact);
  for (const bool passes : {false, true}) {
    auto graph = graph_of(passes && wide ? widened(inputs) : inputs, constants, record);
    if (passes) run_passes(*graph, PassContext{cuda_target()});
    const std::vector<Array> got = run_on(find_device("gpu:0"), std::move(graph), given);
    for (size_t k = 0; k < got.size(); ++k) {
      if (narrow) {
        EXPECT_LE(distance(got[k].to(DType::kFloat32), want[k], kLeastScale), limit)
            << "result " << k << (passes ? " behind the passes" : "");
      } else {
        EXPECT_LE(distance(got[k], want[k], kLeastScale), limit)
            << "result " << k << (passes ? " behind the passes" : "");
      }
    }
  }
}

class Conv : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    TRI_NEEDS_GPU();
    allow_tf32(Products::kConvolutions, false);
  }
};

Shape out_shape(const Case& c) {
  Graph graph;
  const BuilderScope scope(graph);
  Value* x = graph.add_input({DType::kFloat32, c.x});
  Value* w = graph.add_input({DType::kFloat32, {c.o, c.x[1] / c.attrs.groups, c.kh, c.kw}});
  return ops::conv2d(x, w, nullptr, c.attrs)->type.shape;
}

TEST_P(Conv, ForwardAndBackward) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Shape y = out_shape(c);
    const std::vector<Array> inputs = {
        numbers(GetParam(), c.x, 1),
        numbers(GetParam(), {c.o, c.x[1] / c.attrs.groups, c.kh, c.kw}, 2),
        numbers(GetParam(), {c.o}, 3), numbers(GetParam(), y, 4)};
    Conv2dAttrs by_weight = c.attrs;
    by_weight.kernel = {c.kh, c.kw};
    for (const bool constants : {false, true}) {
      try {
        compare(
            inputs, constants,
            [&](const std::vector<Value*>& v) {
              return std::vector<Value*>{ops::conv2d(v[0], v[1], v[2], c.attrs),
                                         ops::conv2d_dgrad(v[3], v[1], v[0], c.attrs),
                                         ops::conv2d_wgrad(v[0], v[3], by_weight)};
            },
            allowed(GetParam()));
      } catch (const Error& e) { ADD_FAILURE() << e.message(); }
    }
  }
}

// The sums for a norm behind a convolution, which the passes ask of it; seen in what the norm
// gives.
TEST_P(Conv, WithANormBehind) {
  for (const Case& c : cases()) {
    if (c.x[0] == 0) continue;
    SCOPED_TRACE(c.name);
    const DType sums = GetParam() == DType::kFloat64 ? GetParam() : DType::kFloat32;
    std::vector<Array> inputs = {
        numbers(GetParam(), c.x, 1),
        numbers(GetParam(), {c.o, c.x[1] / c.attrs.groups, c.kh, c.kw}, 2)};
    for (const uint32_t seed : {3, 4, 5, 6}) inputs.push_back(numbers(sums, {c.o}, seed));
    compare(
        inputs, false,
        [&](const std::vector<Value*>& v) {
          Value* y = ops::conv2d(v[0], v[1], nullptr, c.attrs);
          const auto norm = ops::batch_norm_train(v[2], v[3], y, v[4], v[5], 0.1, 1e-3);
          return std::vector<Value*>{norm[0], norm[1], ops::relu(norm[2])};
        },
        4 * allowed(GetParam()));
  }
}

TEST_P(Conv, FusedWithWhatFollows) {
  if (GetParam() == DType::kFloat64) return;
  using Follow = std::function<Value*(Value*, Value*)>;
  const std::vector<std::pair<const char*, Follow>> follows = {
      {"relu", [](Value* y, Value*) { return ops::relu(y); }},
      {"residual", [](Value* y, Value* r) { return ops::add(y, r); }},
      {"residual, relu", [](Value* y, Value* r) { return ops::relu(ops::add(r, y)); }},
      {"hardswish", [](Value* y, Value*) { return ops::hardswish(y); }},
      {"relu6, affine, residual",
       [](Value* y, Value* r) { return ops::add(ops::affine(ops::relu6(y), 0.5, 0.25), r); }},
      {"leaky, affine",
       [](Value* y, Value*) { return ops::affine(ops::leaky_relu(y, 0.1), 2, 1); }},
  };
  for (const Case& c : cases()) {
    if (c.x[0] == 0) continue;
    for (const auto& [name, follow] : follows) {
      SCOPED_TRACE(std::string(c.name) + ", " + name);
      const std::vector<Array> inputs = {
          numbers(GetParam(), c.x, 1),
          numbers(GetParam(), {c.o, c.x[1] / c.attrs.groups, c.kh, c.kw}, 2),
          numbers(GetParam(), {c.o}, 3), numbers(GetParam(), out_shape(c), 4)};
      for (const bool biased : {true, false}) {
        try {
          compare(
              inputs, true,
              [&, f = follow](const std::vector<Value*>& v) {
                Value* y = ops::conv2d(v[0], v[1], biased ? v[2] : nullptr, c.attrs);
                return std::vector<Value*>{f(y, v[3])};
              },
              allowed(GetParam()), biased && size_of(GetParam()) == 2);
        } catch (const Error& e) { ADD_FAILURE() << e.message(); }
      }
    }
  }
}

TEST_P(Conv, Transposed) {
  struct Turned {
    const char* name;
    Shape x;
    int64_t o, k;
    Conv2dAttrs attrs;
  };
  const std::vector<Turned> list = {
      {"2x2/2", {2, 24, 9, 7}, 24, 2, {.strides = {2, 2}}},
      {"to one channel", {2, 24, 9, 7}, 1, 2, {.strides = {2, 2}}},
      {"3x3/2, output padding",
       {2, 16, 6, 5},
       8,
       3,
       {.strides = {2, 2}, .paddings = {1, 1, 1, 1}, .output_padding = {1, 1}}},
      {"asymmetric", {1, 16, 6, 5}, 8, 4, {.strides = {2, 2}, .paddings = {0, 2, 1, 1}}},
      {"groups", {1, 16, 6, 5}, 24, 3, {.strides = {2, 1}, .groups = 4}},
      {"depthwise",
       {2, 16, 6, 5},
       16,
       3,
       {.strides = {2, 2}, .paddings = {1, 1, 1, 1}, .groups = 16, .output_padding = {1, 0}}},
      {"more output padding than stride",
       {1, 8, 5, 5},
       8,
       3,
       {.dilations = {2, 2}, .output_padding = {1, 1}}},
  };
  for (const Turned& c : list) {
    SCOPED_TRACE(c.name);
    const std::vector<Array> inputs = {
        numbers(GetParam(), c.x, 1),
        numbers(GetParam(), {c.x[1], c.o / c.attrs.groups, c.k, c.k}, 2),
        numbers(GetParam(), {c.o}, 3)};
    for (const bool constants : {false, true}) {
      try {
        compare(
            inputs, constants,
            [&](const std::vector<Value*>& v) {
              return std::vector<Value*>{
                  ops::relu(ops::conv2d_transpose(v[0], v[1], v[2], c.attrs))};
            },
            allowed(GetParam()));
      } catch (const Error& e) { ADD_FAILURE() << e.message(); }
    }
  }
}

// Behind a convolution pictures are channels-last.
TEST_P(Conv, PoolsBehindIt) {
  const std::vector<std::pair<const char*, Pool2dAttrs>> list = {
      {"3x3/2", {.kernel = {3, 3}, .strides = {2, 2}, .paddings = {1, 1, 1, 1}}},
      {"3x3, wide padding", {.kernel = {3, 3}, .paddings = {2, 2, 2, 2}}},
      {"3x3/2, ceil", {.kernel = {3, 3}, .strides = {2, 2}, .ceil_mode = true}},
      {"2x2/2", {.kernel = {2, 2}, .strides = {2, 2}}},
      {"adaptive 3x3", {.kernel = {3, 3}, .adaptive = true}},
      {"global", {.kernel = {1, 1}, .adaptive = true}}};
  for (const auto& [name, attrs] : list)
    for (const char* type : {"max", "avg"})
      for (const bool exclusive : {true, false})
        for (const Shape& shape : {Shape{2, 64, 15, 12}, Shape{1, 32, 4, 3}}) {
          SCOPED_TRACE(std::string(name) + ' ' + type + shape.str());
          Pool2dAttrs a = attrs;
          a.pooling_type = type;
          a.exclusive = exclusive;
          const std::vector<Array> inputs = {numbers(GetParam(), shape, 1),
                                             numbers(GetParam(), {64, shape[1], 1, 1}, 2)};
          try {
            compare(
                inputs, true,
                [&](const std::vector<Value*>& v) {
                  return std::vector<Value*>{ops::pool2d(ops::conv2d(v[0], v[1], nullptr, {}), a)};
                },
                allowed(GetParam()));
          } catch (const Error& e) { ADD_FAILURE() << e.message(); }
        }
}

TEST_P(Conv, Tf32IsCloseAndOnlyWhenAllowed) {
  if (GetParam() != DType::kFloat32) return;
  const std::vector<Array> inputs = {numbers(DType::kFloat32, {4, 64, 28, 28}, 1),
                                     numbers(DType::kFloat32, {64, 64, 3, 3}, 2)};
  const Recorded record = [](const std::vector<Value*>& v) {
    return std::vector<Value*>{ops::conv2d(v[0], v[1], nullptr, {.paddings = {1, 1, 1, 1}})};
  };
  const auto run = [&](const char* device) {
    return run_on(find_device(device), graph_of(inputs, false, record), inputs)[0];
  };
  const Array want = run("cpu");
  EXPECT_LE(distance(run("gpu:0"), want, kLeastScale), 1e-5);
  allow_tf32(Products::kConvolutions, true);
  const double shift = distance(run("gpu:0"), want, kLeastScale);
  allow_tf32(Products::kConvolutions, false);
  EXPECT_LE(shift, 3e-3);
  EXPECT_GE(shift, 1e-5);
}

// Where TF32 has other kernels than cuDNN's.
TEST_P(Conv, Tf32OfFewChannelsAndOneTap) {
  if (GetParam() != DType::kFloat32) return;
  allow_tf32(Products::kConvolutions, true);
  for (const Case& c : cases()) {
    const std::string name = c.name;
    if (name.find("stem") == name.npos && name.find("1x1") == name.npos) continue;
    SCOPED_TRACE(c.name);
    const std::vector<Array> inputs = {numbers(DType::kFloat32, c.x, 1),
                                       numbers(DType::kFloat32, {c.o, c.x[1], c.kh, c.kw}, 2),
                                       numbers(DType::kFloat32, out_shape(c), 3)};
    Conv2dAttrs by_weight = c.attrs;
    by_weight.kernel = {c.kh, c.kw};
    compare(
        inputs, false,
        [&](const std::vector<Value*>& v) {
          return std::vector<Value*>{ops::conv2d(v[0], v[1], nullptr, c.attrs),
                                     ops::conv2d_wgrad(v[0], v[2], by_weight)};
        },
        3e-3);
    // A constant weight that one way packs must not be read as it lies by another.
    compare(
        {inputs[0], inputs[1]}, true,
        [&](const std::vector<Value*>& v) {
          return std::vector<Value*>{ops::conv2d(v[0], v[1], nullptr, c.attrs)};
        },
        3e-3);
  }
  allow_tf32(Products::kConvolutions, false);
}

// Pictures that several blocks share out.
TEST_P(Conv, GlobalPoolsOfLargePictures) {
  for (const int64_t channels : {8, 24, 96, 18, 264, 1}) {
    for (const char* type : {"avg", "max"}) {
      SCOPED_TRACE(std::to_string(channels) + " channels, " + type);
      const std::vector<Array> inputs = {numbers(GetParam(), {2, 8, 61, 90}, 1),
                                         numbers(GetParam(), {channels, 8, 1, 1}, 2)};
      Pool2dAttrs a;
      a.pooling_type = type, a.adaptive = true, a.kernel = {1, 1};
      compare(
          inputs, true,
          [&](const std::vector<Value*>& v) {
            return std::vector<Value*>{ops::pool2d(ops::conv2d(v[0], v[1], nullptr, {}), a)};
          },
          allowed(GetParam()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Gpu, Conv,
                         testing::Values(DType::kFloat32, DType::kFloat16, DType::kBFloat16,
                                         DType::kFloat64),
                         [](const auto& i) { return std::string(name_of(i.param)); });

// The rule needs no device.
TEST(CudaFuses, WhatCudnnAndOurKernelsTake) {
  const auto fuses = [](int64_t groups, auto follow) {
    Graph graph;
    const BuilderScope scope(graph);
    Value* x = graph.add_input({DType::kFloat16, {2, 16, 8, 8}});
    Value* w = graph.add_input({DType::kFloat16, {16, 16 / groups, 3, 3}});
    Value* y = ops::conv2d(x, w, nullptr, {.paddings = {1, 1, 1, 1}, .groups = groups});
    follow(y, x);
    std::vector<const Node*> nodes;
    for (const auto& n : graph.nodes)
      if (n->op != &kData && n->op != &kConstant) nodes.push_back(n.get());
    return cuda_fuses(nodes);
  };
  const auto relu = [](Value* y, Value*) { ops::relu(y); };
  const auto residual = [](Value* y, Value* x) { ops::relu(ops::add(y, x)); };
  const auto behind = [](Value* y, Value* x) { ops::add(ops::relu(y), x); };
  const auto swish = [](Value* y, Value*) { ops::swish(y, 1); };
  const auto scaled = [](Value* y, Value*) { ops::affine(y, 2, 1); };
  EXPECT_TRUE(fuses(1, relu));
  EXPECT_TRUE(fuses(1, residual));
  EXPECT_FALSE(fuses(1, behind));
  EXPECT_FALSE(fuses(1, swish));
  EXPECT_FALSE(fuses(1, scaled));
  EXPECT_TRUE(fuses(16, relu));
  EXPECT_TRUE(fuses(16, behind));
  EXPECT_TRUE(fuses(16, swish));
  EXPECT_TRUE(fuses(16, scaled));
}

}  // namespace
}  // namespace trireme::test
