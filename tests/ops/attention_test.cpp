// flash_attn on the CPU against its definition in double loops.
#include <gtest/gtest.h>

#include <cmath>

#include "base/cpu_features.h"
#include "op_test.h"
#include "ops/flash_attn.h"

namespace trireme {
namespace {

using namespace test;

struct Case {
  const char* name;
  int64_t batch, length, keys, heads, key_heads, size;
  bool causal = false;
  Shape mask{};  // no dimensions: none
};

const Case kCases[] = {
    {"rec", 1, 40, 40, 8, 8, 15},
    {"bert", 2, 128, 128, 3, 3, 64, false, {2, 1, 1, 128}},
    {"across", 2, 33, 70, 2, 2, 24, false, {1, 2, 33, 70}},
    {"one query", 2, 1, 19, 4, 4, 8, false, {2, 4, 1, 19}},
    {"one key", 1, 5, 1, 2, 2, 16, false, {1, 1, 5, 1}},
    {"one number", 1, 5, 7, 2, 2, 16, false, {1, 1, 1, 1}},
    {"causal", 1, 65, 65, 2, 2, 32, true},
    {"causal across", 1, 20, 9, 2, 2, 33, true, {1, 1, 20, 9}},
    {"shared keys", 2, 17, 23, 6, 2, 16},
    {"long", 1, 90, 3000, 1, 1, 20},
};

// Rows of weights and their logarithms of sums, as the definition says; then the products.
void reference(const Case& c, const double scale, const std::vector<double>& q,
               const std::vector<double>& k, const std::vector<double>& v,
               const std::vector<double>& mask, std::vector<double>& out,
               std::vector<double>& lse) {
  const auto at = [](int64_t b, int64_t s, int64_t h, int64_t d, int64_t length, int64_t heads,
                     int64_t size) {
    return static_cast<size_t>(((b * length + s) * heads + h) * size + d);
  };
  const auto masked = [&](int64_t b, int64_t h, int64_t i, int64_t j) {
    if (mask.empty()) return 0.0;
    const int64_t index[] = {b, h, i, j};
    int64_t place = 0;
    for (int d = 0; d < 4; ++d) place = place * c.mask[d] + (c.mask[d] == 1 ? 0 : index[d]);
    return mask[static_cast<size_t>(place)];
  };
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.heads; ++h)
      for (int64_t i = 0; i < c.length; ++i) {
        const int64_t g = h / (c.heads / c.key_heads);
        std::vector<double> weight;
        double sum = 0;
        for (int64_t j = 0; j < (c.causal ? std::min(i + 1, c.keys) : c.keys); ++j) {
          double dot = 0;
          for (int64_t d = 0; d < c.size; ++d)
            dot += q[at(b, i, h, d, c.length, c.heads, c.size)] *
                   k[at(b, j, g, d, c.keys, c.key_heads, c.size)];
          weight.push_back(std::exp(dot * scale + masked(b, h, i, j)));
          sum += weight.back();
        }
        lse.push_back(std::log(sum));
        for (int64_t d = 0; d < c.size; ++d) {
          double dot = 0;
          for (size_t j = 0; j < weight.size(); ++j)
            dot += weight[j] / sum *
                   v[at(b, static_cast<int64_t>(j), g, d, c.keys, c.key_heads, c.size)];
          out[at(b, i, h, d, c.length, c.heads, c.size)] = dot;
        }
      }
}

void expect_agrees(const Case& c, const Array& q, const Array& k, const Array& v, const Array& mask,
                   const std::vector<Array>& got) {
  std::vector<double> out(static_cast<size_t>(q.shape().numel())), lse;
  reference(c, 0.3, doubles_of(q), doubles_of(k), doubles_of(v),
            c.mask.rank() ? doubles_of(mask) : std::vector<double>{}, out, lse);
  expect_near(got[0], out, 2e-6, 1e-5, c.name);
  expect_near(got[1], lse, 2e-6, 1e-5, std::string(c.name) + ", lse");
}

class Attention : public testing::Test {
 protected:
  void SetUp() override {
    if (!cpu_features().avx512) GTEST_SKIP() << "the kernel needs AVX-512";
  }
};

TEST_F(Attention, IsItsDefinition) {
  for (const Case& c : kCases) {
    const Array q = ramp({c.batch, c.length, c.heads, c.size}, 1),
                k = ramp({c.batch, c.keys, c.key_heads, c.size}, 2),
                v = ramp({c.batch, c.keys, c.key_heads, c.size}, 3);
    std::vector<Array> in{q, k, v};
    Array mask = ramp(c.mask.rank() ? c.mask : Shape{1}, 4);
    // Padding: the last of several keys is not seen by anybody.
    if (c.mask.rank() && c.mask[3] > 1) {
      auto* m = mask.as<float>();
      for (int64_t i = c.mask[3] - 1; i < c.mask.numel(); i += c.mask[3]) m[i] = -INFINITY;
    }
    if (c.mask.rank()) in.push_back(mask);
    const auto record = [&](const std::vector<Value*>& x) {
      return ops::flash_attn(x[0], x[1], x[2], x.size() > 3 ? x[3] : nullptr, nullptr,
                             {.scale = 0.3, .causal = c.causal});
    };
    expect_agrees(c, q, k, v, mask, run_ops(record, in));
  }
}

TEST_F(Attention, PackedInputsAreReadWhereTheyLie) {
  const Case c{"packed", 2, 21, 21, 3, 3, 13};
  const Array qkv = ramp({c.batch, c.length, 3, c.heads, c.size});
  Array parts[3];
  const int64_t row = c.heads * c.size;
  for (int64_t p = 0; p < 3; ++p) {
    parts[p] = Array(DType::kFloat32, Shape{c.batch, c.length, c.heads, c.size});
    for (int64_t i = 0; i < c.batch * c.length; ++i)
      std::copy_n(qkv.as<float>() + (3 * i + p) * row, row, parts[p].as<float>() + i * row);
  }
  const auto record = [&](const std::vector<Value*>& x) {
    return ops::flash_attn(x[0], nullptr, nullptr, nullptr, nullptr, {.scale = 0.3});
  };
  expect_agrees(c, parts[0], parts[1], parts[2], {}, run_ops(record, {qkv}));
}

TEST_F(Attention, ErrorsTellWhatWasExpected) {
  const Array q = ramp({1, 4, 2, 8}), k = ramp({1, 4, 3, 8});
  const auto attend = [](const Array& a, const Array& b) {
    return [=] {
      run_ops(
          [](const auto& x) {
            return ops::flash_attn(x[0], x[1], x[1], nullptr, nullptr, {.scale = 1});
          },
          {a, b});
    };
  };
  EXPECT_NE(error_of(attend(q, k)).find("heads that divide 2"), std::string::npos);
  const Array d = q.to(DType::kFloat64);
  EXPECT_NE(error_of(attend(d, d)).find("q expects float32, or float16"), std::string::npos);
}

}  // namespace
}  // namespace trireme
