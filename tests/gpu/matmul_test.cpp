// Matrix products on the GPU against sums in float64.
#include "ops/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "device/precision.h"
#include "ops/cuda_target.h"
#include "ops/pointwise.h"
#include "ops/shape.h"
#include "passes/pass.h"
#include "support/gpu.h"
#include "support/run_plan.h"
#include "support/variable.h"
#include "trireme/error.h"

namespace trireme::test {
namespace {

Array random(const Shape& shape, DType dtype, unsigned seed) {
  Array t(DType::kFloat32, shape);
  std::mt19937 numbers(seed);
  std::uniform_real_distribution<float> some(-1, 1);
  for (int64_t i = 0; i < shape.numel(); ++i) t.as<float>()[i] = some(numbers);
  return t.to(dtype);
}

double at(const Array& t, int64_t i) {
  switch (t.dtype()) {
    case DType::kFloat64: return t.as<double>()[i];
    case DType::kFloat32: return static_cast<double>(t.as<float>()[i]);
    default: {
      Array one(t.dtype(), Shape{1});
      const size_t size = size_of(t.dtype());
      std::memcpy(one.data(), static_cast<const char*>(t.data()) + static_cast<size_t>(i) * size,
                  size);
      return static_cast<double>(one.to(DType::kFloat32).as<float>()[0]);
    }
  }
}

double allowed(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return 1e-13;
    case DType::kFloat32: return 1e-6;  // TF32 would show 3e-4
    case DType::kFloat16: return 6e-4;
    default: return 5e-3;
  }
}

struct Case {
  Shape x, y;
  bool tx = false, ty = false, bias = false;
  bool constants = false;  // y and the bias
  bool wide = false;       // constants of float32, as AMP leaves them
};

// Elements of the product, all or some hundred of a large one, against sums in float64.
void check(const Case& c, DType dtype, const char* act = "", bool residual = false) {
  Device& gpu = find_device("gpu:0");
  auto graph = std::make_unique<Graph>();
  const BuilderScope scope(*graph);
  std::vector<Array> in{random(c.x, dtype, 1), random(c.y, dtype, 2)}, given{in[0]};
  const auto operand = [&](const Array& t) {
    if (c.constants) return graph->add_constant(c.wide ? t.to(DType::kFloat32) : t, "");
    given.push_back(t);
    return graph->add_input({dtype, t.shape()});
  };
  const int64_t n = c.y[c.y.rank() - (c.ty ? 2 : 1)];
  Value *x = graph->add_input({dtype, c.x}), *y = operand(in[1]), *bias = nullptr;
  if (c.bias) {
    in.push_back(random(Shape{n}, dtype, 3));
    bias = operand(in.back());
  }
  Value* out = ops::matmul(x, y, bias, c.tx, c.ty);
  if (residual) {
    in.push_back(random(out->type.shape, dtype, 4));
    given.push_back(in.back());
    out = ops::add(out, graph->add_input(in.back().dtype() == dtype ? Type{dtype, out->type.shape}
                                                                    : out->type));
  }
  if (std::string_view(act) == "relu") out = ops::relu(out);
  if (std::string_view(act) == "gelu_tanh") out = ops::gelu_tanh(out);
  graph->outputs = {out};
  const Shape shape = out->type.shape;
  run_passes(*graph, PassContext{cuda_target()});
  int kernels = 0;
  for (const auto& node : graph->nodes)
    kernels += node->op != &kData && node->op != &kConstant && !node->op->view;
  const bool followed = residual || *act != '\0';
  EXPECT_TRUE(!followed || kernels == 1) << "products take in what follows them: " << kernels;
  const Array got = run_on(gpu, std::move(graph), given)[0];
  ASSERT_EQ(got.shape(), shape);
  const int64_t m = c.x[c.x.rank() - (c.tx ? 1 : 2)], k = c.x[c.x.rank() - (c.tx ? 2 : 1)];
  const auto batch_of = [&](const Shape& s, int64_t i) {  // of matrix i of the result, among own
    int64_t at_own = 0, step = 1;
    for (int d = 3; d <= s.rank(); ++d) {
      const int64_t full = shape[shape.rank() - d], own = s[s.rank() - d];
      at_own += own == 1 ? 0 : i % full * step;
      step *= own;
      i /= full;
    }
    return at_own;
  };
  std::minstd_rand pick(7);
  const int64_t total = shape.numel(), some = std::min<int64_t>(total, 400);
  const double scale = std::sqrt(static_cast<double>(std::max<int64_t>(k, 1)));
  double worst = 0;
  for (int64_t s = 0; s < some; ++s) {
    const int64_t i = total == some ? s : static_cast<int64_t>(pick()) % total;
    const int64_t column = i % n, row = i / n % m, matrix = i / n / m;
    const int64_t a = batch_of(c.x, matrix) * m * k, b = batch_of(c.y, matrix) * k * n;
    double sum = c.bias ? at(in[2], column) : 0;
    for (int64_t q = 0; q < k; ++q)
      sum += at(in[0], a + (c.tx ? q * m + row : row * k + q)) *
             at(in[1], b + (c.ty ? column * k + q : q * n + column));
    if (residual) sum += at(in.back(), i);
    if (std::string_view(act) == "relu") sum = std::max(sum, 0.0);
    if (std::string_view(act) == "gelu_tanh")
      sum = 0.5 * sum * (1 + std::tanh(0.79788456080286536 * (sum + 0.044715 * sum * sum * sum)));
    worst = std::max(worst, std::abs(at(got, i) - sum));
  }
  EXPECT_LE(worst, allowed(dtype) * (scale + 2))
      << name_of(dtype) << c.x.str() << (c.tx ? "^T " : " ") << c.y.str() << (c.ty ? "^T" : "")
      << (c.bias ? " + bias" : "") << (residual ? " + residual " : " ") << act;
}

constexpr DType kAll[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64};

TEST(GpuMatmul, HardShapes) {
  TRI_NEEDS_GPU();
  const std::vector<Case> cases = {{{1, 1}, {1, 1}},
                                   {{5, 7}, {7, 3}},
                                   {{5, 7}, {3, 7}, false, true, true},
                                   {{7, 5}, {7, 3}, true, false, true},
                                   {{7, 5}, {3, 7}, true, true},
                                   {{1, 33}, {33, 17}, false, false, true},
                                   {{33, 1}, {1, 17}},
                                   {{257, 64}, {64, 1}},
                                   {{257, 64}, {64, 1}, false, false, true},
                                   {{1, 4096}, {4096, 1}},
                                   {{64, 257}, {64, 1}, true},
                                   {{3, 0}, {0, 4}, false, false, true},
                                   {{128, 128}, {128, 128}},
                                   {{127, 129}, {129, 131}, false, false, true},
                                   {{2, 3, 5, 7}, {2, 3, 7, 4}},
                                   {{2, 3, 5, 7}, {7, 4}, false, false, true},
                                   {{5, 7}, {2, 3, 7, 4}},
                                   {{2, 1, 5, 8}, {1, 3, 8, 4}},
                                   {{4, 1, 16, 8}, {3, 8, 16}},
                                   {{3, 9, 33}, {3, 33, 65}, false, false, true},
                                   {{3, 33, 9}, {3, 65, 33}, true, true},
                                   {{20, 100}, {100, 6625}, false, false, true},
                                   {{4, 64, 768}, {768, 768}, false, false, true}};
  for (const DType dtype : kAll)
    for (const Case& c : cases) {
      SCOPED_TRACE(std::string(name_of(dtype)) + c.x.str() + c.y.str());
      try {
        check(c, dtype);
      } catch (const Error& e) { ADD_FAILURE() << e.message(); }
    }
}

TEST(GpuMatmul, WhatFollows) {
  TRI_NEEDS_GPU();
  for (const DType dtype : kAll)
    for (const char* act : {"", "relu", "gelu_tanh"})
      for (const bool residual : {false, true})
        for (const bool bias : {false, true}) {
          const bool half = size_of(dtype) == 2;  // in which the tanh form is taken in
          if (std::string_view(act) == "gelu_tanh" && !half) continue;
          if (!residual && *act == '\0') continue;
          check({{37, 64}, {64, 48}, false, false, bias}, dtype, act, residual);
          check({{2, 37, 64}, {48, 64}, false, true, bias}, dtype, act, residual);
          check({{2, 3, 9, 8}, {2, 3, 8, 5}, false, false, bias}, dtype, act, residual);
        }
}

// By our own kernel, whatever is faster.
TEST(GpuMatmul, FewRowsOfAConstantMatrix) {
  TRI_NEEDS_GPU();
  const Variable own("TRIREME_DISABLE", "cublaslt");
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16})
    for (const int64_t rows : {1, 2, 3, 4, 5, 16, 17})
      for (const bool bias : {false, true})
        for (const char* act : {"", "relu"})
          for (const Case& c : std::vector<Case>{{{rows, 2048}, {2048, 1000}},
                                                 {{rows, 2048}, {1000, 2048}, false, true},
                                                 {{rows, 2056}, {2056, 9}},
                                                 {{rows, 8}, {8, 1}},
                                                 {{rows, 5000}, {5000, 31}},
                                                 {{rows, 36}, {36, 24}},
                                                 {{rows, 1, 64}, {64, 48}}}) {
            Case with = c;
            with.bias = bias, with.constants = true, with.wide = rows % 2 == 0;
            check(with, dtype, act);
          }
}

// Rows whose starts are not aligned are lined up in scratch memory.
TEST(GpuMatmul, OddRowsOfLargeProducts) {
  TRI_NEEDS_GPU();
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    check({{2048, 2048}, {2048, 1026}, false, false, true}, dtype, "relu");
    check({{2048, 1026}, {1026, 2048}}, dtype);
    check({{4096, 1027}, {4096, 1026}, true, false}, dtype);
    check({{4096, 1024}, {10001, 1024}, false, true, true}, dtype);
  }
}

TEST(GpuMatmul, Tf32IsAChoice) {
  TRI_NEEDS_GPU();
  Device& gpu = find_device("gpu:0");
  const std::vector<Array> in{random({256, 512}, DType::kFloat32, 1),
                              random({512, 256}, DType::kFloat32, 2)};
  const auto product = [&] {
    auto graph = std::make_unique<Graph>();
    const BuilderScope scope(*graph);
    Value *x = graph->add_input({DType::kFloat32, in[0].shape()}),
          *y = graph->add_input({DType::kFloat32, in[1].shape()});
    graph->outputs = {ops::matmul(x, y)};
    return run_on(gpu, std::move(graph), in)[0];
  };
  const bool before = allows_tf32(Products::kMatrices);
  allow_tf32(Products::kMatrices, false);
  const Array exact = product();
  allow_tf32(Products::kMatrices, true);
  const Array rough = product();
  allow_tf32(Products::kMatrices, before);
  double distance = 0;
  for (int64_t i = 0; i < exact.shape().numel(); ++i)
    distance = std::max(distance, std::abs(at(exact, i) - at(rough, i)));
  EXPECT_GT(distance, 1e-4);
  EXPECT_LT(distance, 2e-2);
}

// Strides of any permutation, with few and many matrices.
TEST(GpuMatmul, Permutations) {
  TRI_NEEDS_GPU();
  Device& gpu = find_device("gpu:0");
  const std::vector<std::vector<int64_t>> perms = {
      {}, {0, 2, 1, 3}, {0, 2, 3, 1}, {2, 0, 1, 3}, {1, 3, 0, 2}};
  const auto laid_out = [](const Shape& seen, const std::vector<int64_t>& perm) {
    if (perm.empty()) return seen;
    std::vector<int64_t> own(4);
    for (size_t i = 0; i < 4; ++i) own[static_cast<size_t>(perm[i])] = seen[static_cast<int>(i)];
    return Shape(own);
  };
  for (const auto& px : perms)
    for (const auto& py : perms)
      for (const bool out : {false, true}) {
        const Shape x = laid_out({3, 4, 9, 8}, px), y = laid_out({3, 4, 8, 5}, py);
        std::vector<int64_t> po;
        if (out) po = {0, 2, 1, 3};
        const auto record = [&] {
          auto graph = std::make_unique<Graph>();
          const BuilderScope scope(*graph);
          Value *a = graph->add_input({DType::kFloat32, x}),
                *b = graph->add_input({DType::kFloat32, y});
          MatmulAttrs attrs;
          attrs.perm_x = px, attrs.perm_y = py, attrs.perm_out = po;
          graph->outputs = {record1(ops::matmul_op, {a, b, nullptr}, attrs)};
          return graph;
        };
        const std::vector<Array> in{random(x, DType::kFloat32, 1), random(y, DType::kFloat32, 2)};
        const Array want = run_on(find_device("cpu"), record(), in)[0];
        const Array got = run_on(gpu, record(), in)[0];
        for (int64_t i = 0; i < want.shape().numel(); ++i)
          ASSERT_NEAR(at(got, i), at(want, i), 1e-5) << x.str() << y.str() << out;
      }
}

}  // namespace
}  // namespace trireme::test
