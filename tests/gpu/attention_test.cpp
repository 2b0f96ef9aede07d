// Attention on the GPU in half precision against the CPU's single operators in float32.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "ops/flash_attn.h"
#include "runtime/call.h"
#include "support/distance.h"
#include "support/gpu.h"
#include "trireme/amp.h"
#include "trireme/autograd.h"
#include "trireme/nn_transformer.h"
#include "trireme/ops.h"

namespace trireme::test {
namespace {

namespace F = nn::functional;

Array noise(const Shape& shape, uint32_t seed, DType dtype, double scale = 1) {
  Array t(DType::kFloat32, shape);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    seed = seed * 1664525u + 1013904223u;
    t.as<float>()[i] = static_cast<float>(scale * (static_cast<double>(seed >> 8) / (1 << 23) - 1));
  }
  return t.to(dtype).to(DType::kFloat32);  // the same numbers in both precisions
}

struct Result {
  std::vector<Array> arrays;  // of float32: the result, the gradients
};

using Attention = std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>;

// f on inputs of that dtype on that device, and the gradients of sum(f * weights).
Result run(const char* device, DType dtype, const std::vector<Array>& in, const Attention& f) {
  set_device(device);
  std::vector<Tensor> leaves;
  for (const Array& a : in) leaves.push_back(to_tensor(a.to(dtype), false));
  const Tensor y = f(leaves[0], leaves[1], leaves[2]);
  const Tensor weights = to_tensor(noise(y.shape(), 9, dtype).to(dtype));
  sum(cast(y, DType::kFloat32) * cast(weights, DType::kFloat32)).backward();
  Result r{{y.numpy().to(DType::kFloat32)}};
  for (const Tensor& t : leaves) r.arrays.push_back(t.grad().numpy().to(DType::kFloat32));
  set_device("cpu");
  return r;
}

struct Case {
  const char* name;
  int64_t batch, length, key_length, heads, size;
  bool causal = false;
  int mask = 0;  // 1: additive of padding, 2: bool of padding, 3: additive of all places
};

Array mask_of(const Case& c) {
  if (c.mask == 3) return noise({c.batch, c.heads, c.length, c.key_length}, 5, DType::kBFloat16);
  Array m(DType::kFloat32, Shape{c.batch, 1, 1, c.key_length});
  for (int64_t i = 0; i < m.shape().numel(); ++i) {
    const bool seen = i % c.key_length < c.key_length - i / c.key_length % 3 * 2;
    m.as<float>()[i] = c.mask == 1 ? (seen ? 0.f : -10000.f) : (seen ? 1.f : 0.f);
  }
  return c.mask == 2 ? m.to(DType::kBool) : m;
}

void check(const Case& c, DType dtype) {
  SCOPED_TRACE(std::string(c.name) + ' ' + std::string(name_of(dtype)));
  const std::vector<Array> in{noise({c.batch, c.length, c.heads, c.size}, 1, dtype),
                              noise({c.batch, c.key_length, c.heads, c.size}, 2, dtype),
                              noise({c.batch, c.key_length, c.heads, c.size}, 3, dtype)};
  const Attention f = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
    Tensor m;
    if (c.mask == 2) m = to_tensor(mask_of(c));
    else if (c.mask != 0) m = cast(to_tensor(mask_of(c)), q.dtype());
    return F::scaled_dot_product_attention(q, k, v, m, 0, c.causal, true);
  };
  const Result want = run("cpu", DType::kFloat32, in, f), got = run("gpu:0", dtype, in, f);
  const char* const names[] = {"result", "dq", "dk", "dv"};
  for (size_t i = 0; i < 4; ++i)
    EXPECT_LE(distance(got.arrays[i], want.arrays[i]), dtype == DType::kFloat16 ? 4e-3 : 2.5e-2)
        << names[i];
}

// With cuDNN's first plans: each takes tenths of a second to build.
class GpuAttention : public testing::Test {
 protected:
  void SetUp() override {
    TRI_NEEDS_GPU();
    const char* const disabled = std::getenv("TRIREME_DISABLE");
    before_ = disabled == nullptr ? "" : disabled;
    setenv("TRIREME_DISABLE", (before_ + ",autotune").c_str(), 1);
  }
  void TearDown() override {
    setenv("TRIREME_DISABLE", before_.c_str(), 1);
    set_device("cpu");
  }

 private:
  std::string before_;
};

TEST_F(GpuAttention, AgreesWithSingleOperators) {
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16})
    for (const Case& c :
         {Case{"plain", 2, 64, 64, 3, 64}, Case{"odd", 3, 77, 77, 2, 40},
          Case{"across", 2, 33, 70, 2, 64}, Case{"causal", 2, 65, 65, 2, 64, true},
          Case{"wide heads", 1, 40, 40, 2, 128}, Case{"small", 1, 5, 5, 1, 8},
          Case{"one query", 2, 1, 19, 2, 64}, Case{"padding", 3, 64, 64, 2, 64, false, 1},
          Case{"bool padding", 3, 50, 50, 2, 64, false, 2},
          Case{"bias", 2, 48, 48, 2, 32, false, 3},
          Case{"causal bias", 2, 48, 48, 2, 32, true, 3}}) {
      const bool again = dtype == DType::kFloat16;
      if (again && c.name != std::string_view("padding") && c.name != std::string_view("causal"))
        continue;
      try {
        check(c, dtype);
      } catch (const Error& e) { ADD_FAILURE() << c.name << ": " << e.message(); }
    }
}

TEST_F(GpuAttention, PackedInputsAreReadWhereTheyLie) {
  set_device("gpu:0");
  const DType dtype = DType::kBFloat16;
  const Tensor qkv = to_tensor(noise({2, 48, 3, 2, 64}, 1, dtype).to(dtype), false);
  const FlashAttnAttrs a{.scale = 0.125};
  const Tensor y = call(
      [&](Value* v) { return ops::flash_attn(v, nullptr, nullptr, nullptr, nullptr, a)[0]; }, qkv);
  sum(cast(y * y, DType::kFloat32)).backward();
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < 3; ++i)
    parts.push_back(to_tensor(squeeze(slice(qkv, {2}, {i}, {i + 1}), {2}).numpy(), false));
  const Tensor z = F::scaled_dot_product_attention(parts[0], parts[1], parts[2]);
  sum(cast(z * z, DType::kFloat32)).backward();
  const Array whole = qkv.grad().numpy().to(DType::kFloat32);
  EXPECT_LE(distance(y.numpy().to(DType::kFloat32), z.numpy().to(DType::kFloat32)), 1e-6);
  for (int64_t i = 0; i < 3; ++i) {
    const Tensor part = squeeze(slice(to_tensor(whole), {2}, {i}, {i + 1}), {2});
    EXPECT_LE(
        distance(part.numpy(), parts[static_cast<size_t>(i)].grad().numpy().to(DType::kFloat32)),
        1e-2)
        << i;
  }
  set_device("cpu");
}

// With values of one, a result is what is left of the weights' sum.
TEST_F(GpuAttention, DropoutDropsScalesAndComesBack) {
  set_device("gpu:0");
  const DType dtype = DType::kBFloat16;
  const double p = 0.25;
  const auto run = [&](uint64_t state, const Array& values) {
    seed(state);
    const Tensor q = to_tensor(noise({4, 128, 4, 64}, 1, dtype, 0.1).to(dtype), false);
    const Tensor k = to_tensor(noise({4, 128, 4, 64}, 2, dtype, 0.1).to(dtype), false);
    const Tensor v = to_tensor(values.to(dtype), false);
    const Tensor y = F::scaled_dot_product_attention(q, k, v, {}, p, false, true);
    const Tensor dy = to_tensor(noise({4, 128, 4, 64}, 4, dtype).to(dtype));
    sum(cast(y, DType::kFloat32) * cast(dy, DType::kFloat32)).backward();
    // y is linear in v with the mask that was drawn: dv is drawn with the same, or these differ.
    const double forward = sum(cast(y, DType::kFloat32) * cast(dy, DType::kFloat32)).item();
    const double backward = sum(cast(v.grad(), DType::kFloat32) * cast(v, DType::kFloat32)).item();
    EXPECT_NEAR(forward, backward, 0.02 * std::abs(forward) + 2);
    return y.numpy().to(DType::kFloat32);
  };
  Array ones(DType::kFloat32, Shape{4, 128, 4, 64});
  std::fill_n(ones.as<float>(), ones.shape().numel(), 1.f);
  const Array y = run(3, ones);
  double mean = 0, square = 0;
  for (int64_t i = 0; i < y.shape().numel(); i += 64) {
    mean += static_cast<double>(y.as<float>()[i]);
    square += static_cast<double>(y.as<float>()[i]) * static_cast<double>(y.as<float>()[i]);
  }
  const double n = static_cast<double>(y.shape().numel() / 64);
  mean /= n;
  const double variance = square / n - mean * mean, expected = p / (1 - p) / 128;
  EXPECT_NEAR(mean, 1, 0.01);
  EXPECT_NEAR(variance, expected, 0.25 * expected);
  const Array values = noise({4, 128, 4, 64}, 8, dtype);
  const Array first = run(5, values), again = run(5, values), other = run(6, values);
  EXPECT_EQ(std::memcmp(first.data(), again.data(), first.bytes()), 0);
  EXPECT_GT(distance(first, other), 0.01);
}

TEST_F(GpuAttention, TheLayerTakesIt) {
  set_device("cpu");
  seed(1);
  nn::MultiHeadAttention layer(64, 2);
  const Array x = noise({2, 20, 64}, 1, DType::kBFloat16);
  Array mask(DType::kFloat32, Shape{2, 1, 1, 20});
  for (int64_t i = 0; i < 40; ++i) mask.as<float>()[i] = i % 20 < 15 ? 0.f : -10000.f;
  const Array want = layer.forward({to_tensor(x), Tensor(), Tensor(), to_tensor(mask)}).numpy();
  set_device("gpu:0");
  layer.to("gpu:0");
  amp::auto_cast cast_scope(amp::AutoCastOptions{.dtype = DType::kBFloat16});
  const Tensor y = layer.forward({to_tensor(x), Tensor(), Tensor(), to_tensor(mask)});
  EXPECT_EQ(y.dtype(), DType::kBFloat16);
  EXPECT_LE(distance(y.numpy().to(DType::kFloat32), want), 3e-2);
  set_device("cpu");
}

}  // namespace
}  // namespace trireme::test
