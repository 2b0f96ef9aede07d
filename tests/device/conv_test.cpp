// Our float32 convolutions against a plain double-precision one.
#include "device/cpu/conv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/cpu_features.h"
#include "base/parallel.h"

namespace trireme::cpu {
namespace {

constexpr float kGuard = 12345.5f;
constexpr size_t kGuardFloats = 64;

struct Case {
  ConvSpec spec;
  Epilogue epilogue;
  bool bias = true, input_scale = false;
};

// A buffer of 64-byte aligned floats between two guards.
class Guarded {
 public:
  explicit Guarded(size_t floats)
      : floats_(floats), memory_(floats + 2 * kGuardFloats + 16, kGuard) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data() + kGuardFloats);
    data_ = reinterpret_cast<float*>((address + 63) / 64 * 64);
  }
  float* data() { return data_; }
  bool intact() const {
    for (const float* p = memory_.data(); p < data_; ++p)
      if (*p != kGuard) return false;
    const float* end = memory_.data() + memory_.size();
    for (const float* p = data_ + floats_; p < end; ++p)
      if (*p != kGuard) return false;
    return true;
  }

 private:
  size_t floats_;
  std::vector<float> memory_;
  float* data_;
};

std::vector<float> random_floats(int64_t n, unsigned seed, float low = -1, float high = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& f : v) f = uniform(random);
  return v;
}

double act_of(const Epilogue& e, double v) {
  const double a = e.alpha, b = e.beta;
  switch (e.act) {
    case Act::kNone: return v;
    case Act::kRelu: return std::max(v, 0.0);
    case Act::kClip: return std::min(std::max(v, a), b);
    case Act::kLeakyRelu: return v < 0 ? a * v : v;
    case Act::kHardSwish: return v * std::min(std::max(v + 3, 0.0), 6.0) / 6;
    case Act::kHardSigmoid: return std::min(std::max(a * v + b, 0.0), 1.0);
    case Act::kSigmoid: return 1 / (1 + std::exp(-v));
    case Act::kSwish: return v / (1 + std::exp(-v));
    case Act::kGelu: return v * 0.5 * std::erfc(-v / std::sqrt(2.0));
    case Act::kTanh: return std::tanh(v);
  }
  return v;
}

struct Data {
  std::vector<float> x, weight, bias, residual, scale;
  int64_t ldx, ldy, ldr;
};

Data make_data(const Case& c) {
  const ConvSpec& s = c.spec;
  Data d;
  d.ldx = s.ldx ? s.ldx : s.ic, d.ldy = s.ldy ? s.ldy : s.oc, d.ldr = s.oc + 3;
  d.x = random_floats(s.n * s.h * s.w * d.ldx, 1);
  d.weight = random_floats(s.oc * (s.ic / s.groups) * s.kh * s.kw, 2);
  d.bias = random_floats(s.oc, 3);
  d.residual = random_floats(s.n * s.oh * s.ow * d.ldr, 4);
  d.scale = random_floats(s.n * s.ic, 5, 0.2f, 1.5f);
  return d;
}

double accumulate(const Case& c, const Data& d, int64_t n, int64_t oy, int64_t ox, int64_t o,
                  double& magnitude) {
  const ConvSpec& s = c.spec;
  const int64_t icg = s.ic / s.groups, first = o / (s.oc / s.groups) * icg;
  double sum = 0;
  const auto add = [&](int64_t iy, int64_t ix, int64_t i, size_t weight) {
    const int64_t ch = first + i;
    const int64_t at = s.x_planar ? ((n * s.ic + ch) * s.h + iy) * s.w + ix
                                  : ((n * s.h + iy) * s.w + ix) * d.ldx + ch;
    double v = d.x[static_cast<size_t>(at)];
    if (c.input_scale) v *= d.scale[static_cast<size_t>(n * s.ic + ch)];
    sum += v * d.weight[weight];
    magnitude += std::abs(v * d.weight[weight]);
  };
  for (int64_t i = 0; i < icg; ++i) {
    if (s.transposed) {
      for (int64_t ky = 0; ky < s.kh; ++ky) {
        for (int64_t kx = 0; kx < s.kw; ++kx) {
          const int64_t y = oy - ky, x = ox - kx, iy = y / s.sh, ix = x / s.sw;
          if (y < 0 || x < 0 || y % s.sh || x % s.sw || iy >= s.h || ix >= s.w) continue;
          add(iy, ix, i, static_cast<size_t>(((i * s.oc + o) * s.kh + ky) * s.kw + kx));
        }
      }
      continue;
    }
    for (int64_t ky = 0; ky < s.kh; ++ky) {
      for (int64_t kx = 0; kx < s.kw; ++kx) {
        const int64_t iy = oy * s.sh - s.top + ky * s.dh, ix = ox * s.sw - s.left + kx * s.dw;
        if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
        add(iy, ix, i, static_cast<size_t>(((o * icg + i) * s.kh + ky) * s.kw + kx));
      }
    }
  }
  return sum;
}

void expect_close(const Case& c, const Data& d, const float* y) {
  const ConvSpec& s = c.spec;
  const Epilogue& e = c.epilogue;
  int64_t bad = 0;
  for (int64_t p = 0; p < s.n * s.oh * s.ow; ++p) {
    const int64_t n = p / (s.oh * s.ow), oy = p / s.ow % s.oh, ox = p % s.ow;
    for (int64_t o = 0; o < s.oc; ++o) {
      double magnitude = 1;
      double v = accumulate(c, d, n, oy, ox, o, magnitude);
      const double r = d.residual[static_cast<size_t>(p * d.ldr + o)];
      if (c.bias) v += d.bias[static_cast<size_t>(o)];
      if (e.residual == Epilogue::kBeforeAct) v += r;
      v = act_of(e, v) * e.scale + e.shift;
      if (e.residual == Epilogue::kAfter) v += r;
      const double got = y[p * d.ldy + o];
      // Factors rounded to bfloat16 alone may be 4e-3 off.
      const double allowed = s.half_products ? 3e-3 : 4e-7;
      if (!(std::abs(got - v) <= allowed * magnitude * std::max(1.0f, std::abs(e.scale))) &&
          ++bad < 4) {
        ADD_FAILURE() << "at " << n << "," << oy << "," << ox << "," << o << ": " << got << " vs "
                      << v << " (magnitude " << magnitude << ")";
      }
    }
    for (int64_t o = s.oc; o < d.ldy; ++o) {
      if (y[p * d.ldy + o] != kGuard && ++bad < 4)
        ADD_FAILURE() << "wrote beyond oc at pixel " << p;
    }
  }
  EXPECT_EQ(bad, 0);
}

std::string name_of(const Case& c) {
  const ConvSpec& s = c.spec;
  std::string text;
  for (const int64_t v : {s.n, s.h, s.w, s.ic, s.oh, s.ow, s.oc, s.kh, s.kw, s.sh, s.sw, s.dh, s.dw,
                          s.top, s.left, s.groups, s.ldx, s.ldy}) {
    text += std::to_string(v) + " ";
  }
  if (s.half_products) text += "of float16 ";
  return text + "act " + std::to_string(static_cast<int>(c.epilogue.act));
}

// Once more with the residual in y's memory, where that is allowed.
void check_in_place(const Case& c, const Data& d, const Conv& conv, ConvArgs args, float* y) {
  if (c.epilogue.residual == Epilogue::kNone || !Conv::adds_in_place(c.spec)) return;
  for (int64_t p = 0; p < c.spec.n * c.spec.oh * c.spec.ow; ++p)
    std::copy_n(d.residual.data() + p * d.ldr, c.spec.oc, y + p * d.ldy);
  args.residual = y, args.ldr = d.ldy;
  conv.run(args);
  SCOPED_TRACE("in place");
  expect_close(c, d, y);
}

bool half_products = false;  // of the cases now

void check(Case c) {
  c.spec.half_products = half_products;
  SCOPED_TRACE(name_of(c));
  const ConvSpec& s = c.spec;
  const Data d = make_data(c);
  const auto conv = Conv::create(s, c.epilogue);
  ASSERT_NE(conv, nullptr);
  Guarded packed(Conv::packed_bytes(s) / sizeof(float));
  Conv::pack(s, d.weight.data(), packed.data());
  EXPECT_TRUE(packed.intact());
  Guarded y(static_cast<size_t>(s.n * s.oh * s.ow * d.ldy));
  Guarded scratch(conv->scratch_bytes() / sizeof(float));
  std::fill_n(scratch.data(), conv->scratch_bytes() / sizeof(float), 1e30F);  // may hold anything
  ConvArgs args;
  args.x = d.x.data(), args.y = y.data(), args.weight = packed.data();
  args.bias = c.bias ? d.bias.data() : nullptr;
  args.residual = d.residual.data(), args.ldr = d.ldr;
  args.input_scale = c.input_scale ? d.scale.data() : nullptr;
  args.scratch = scratch.data();
  conv->run(args);
  EXPECT_TRUE(y.intact());
  EXPECT_TRUE(scratch.intact());
  expect_close(c, d, y.data());
  check_in_place(c, d, *conv, args, y.data());
}

ConvSpec spec_of(int64_t n, int64_t h, int64_t w, int64_t ic, int64_t oc, int64_t kh, int64_t kw,
                 int64_t sh = 1, int64_t sw = 1, int64_t groups = 1, int64_t dilation = 1,
                 int64_t pad = -1) {
  ConvSpec s;
  s.n = n, s.h = h, s.w = w, s.ic = ic, s.oc = oc, s.kh = kh, s.kw = kw, s.sh = sh, s.sw = sw;
  s.groups = groups, s.dh = s.dw = dilation;
  s.top = pad < 0 ? (kh - 1) * dilation / 2 : pad, s.left = pad < 0 ? (kw - 1) * dilation / 2 : pad;
  s.oh = (h + 2 * s.top - (kh - 1) * dilation - 1) / sh + 1;
  s.ow = (w + 2 * s.left - (kw - 1) * dilation - 1) / sw + 1;
  return s;
}

ConvSpec transposed_of(int64_t n, int64_t h, int64_t w, int64_t ic, int64_t oc, int64_t kh,
                       int64_t kw) {
  ConvSpec s;
  s.n = n, s.h = h, s.w = w, s.ic = ic, s.oc = oc, s.kh = s.sh = kh, s.kw = s.sw = kw;
  s.oh = h * kh, s.ow = w * kw, s.transposed = true;
  return s;
}

struct How {
  int threads;
  bool half_products;
};

class Convolution : public testing::TestWithParam<How> {
 protected:
  void SetUp() override {
    if (!cpu_supports(DType::kFloat32)) GTEST_SKIP();
    if (GetParam().half_products && !cpu_features().avx512_fp16) GTEST_SKIP() << "no AVX512-FP16";
    set_num_threads(GetParam().threads);
    half_products = GetParam().half_products;
  }
  void TearDown() override {
    set_num_threads(0);
    half_products = false;
  }
};

TEST_P(Convolution, pointwise) {
  for (const int64_t oc : {1, 2, 3, 12, 15, 16, 17, 18, 24, 33, 42, 48, 60, 64, 96, 120, 360}) {
    for (const int64_t pixels : {1, 2, 3, 6, 7, 13, 14, 15, 29, 100}) {
      check({spec_of(1, 1, pixels, oc % 7 * 5 + 3, oc, 1, 1), {}, oc % 2 == 0});
    }
  }
  check({spec_of(1, 1, 40, 120, 6625, 1, 1), {}});
  check({spec_of(6, 20, 20, 96, 96, 1, 1), {Act::kHardSwish, Epilogue::kNone, 0, 0, 1.25f, -0.5f}});
  check({spec_of(1, 1, 128, 3072, 70, 1, 1), {}});
  check({spec_of(2, 7, 7, 1024, 136, 1, 1), {}});
  check({spec_of(1, 11, 9, 20, 33, 1, 1, 2, 2), {}});
}

TEST_P(Convolution, windows) {
  for (const int64_t ic : {1, 2, 3, 4, 5, 12, 18, 24}) {
    for (const int64_t oc : {3, 16, 24, 42, 96}) {
      check({spec_of(1, 9, 17, ic, oc, 3, 3), {Act::kRelu}});
      check({spec_of(2, 10, 13, ic, oc, 3, 3, 2, 2), {}, false});
      check({spec_of(2, 10, 13, ic, oc, 3, 3, 2, 1, 1, 2), {}});
      check({spec_of(1, 3, 40, ic, oc, 1, 3), {}});
      check({spec_of(1, 13, 6, ic, oc, 3, 1, 1, 1), {}});
      check({spec_of(1, 8, 8, ic, oc, 5, 5, 1, 2), {}});
      check({spec_of(3, 6, 6, ic, oc, 3, 3, 1, 1, 1, 1, 0), {}});
    }
  }
  check({spec_of(1, 20, 20, 96, 24, 3, 3), {}});
  check({spec_of(1, 40, 40, 96, 24, 3, 3), {Act::kRelu}});
  check({spec_of(2, 7, 7, 512, 48, 3, 3), {}});
  check({spec_of(1, 1, 40, 480, 60, 1, 3), {Act::kSwish}});
  check({spec_of(1, 1, 20, 960, 60, 1, 3), {Act::kSwish}});  // parts of different widths
  check({spec_of(6, 7, 5, 40, 40, 3, 3), {}});
  check({spec_of(1, 14, 14, 32, 40, 2, 2, 2, 2), {}});
  check({spec_of(1, 31, 33, 3, 64, 7, 7, 2, 2), {Act::kRelu}});
}

TEST_P(Convolution, planar_input) {
  for (const int64_t ic : {1, 3, 4}) {
    for (const int64_t stride : {1, 2}) {
      ConvSpec s = spec_of(2, 25, 31, ic, 16, 3, 3, stride, stride);
      s.x_planar = true;
      check({s, {Act::kHardSwish}});
      s = spec_of(2, 12, 15, ic, 8, 5, 3, stride, 1, 1, 2);
      s.x_planar = true;
      check({s, {}});
      s = spec_of(1, 12, 15, ic, 8, 1, 1, stride, 1);
      s.x_planar = true;
      check({s, {}});
    }
  }
}

TEST_P(Convolution, depthwise) {
  for (const int64_t c : {3, 12, 16, 18, 24, 48, 60, 120}) {
    for (const int64_t k : {3, 5}) {
      for (const int64_t sh : {1, 2}) {
        for (const int64_t sw : {1, 2}) {
          check({spec_of(1, 11, 19, c, c, k, k, sh, sw, c), {Act::kHardSwish}});
          check({spec_of(2, 8, 8, c, c, k, k, sh, sw, c), {}, false});
          check({spec_of(1, 3, 5, c, c, k, k, sh, sw, c), {Act::kTanh}});
        }
      }
    }
    // Few rows: threads share out the channels.
    for (const int64_t rows : {2, 3, 6}) {
      check({spec_of(1, rows, 80, c, c, 5, 5, 1, 1, c),
             {Act::kHardSwish, Epilogue::kAfter, 0, 0, 2, 1}});
      check({spec_of(1, rows, 80, c, c, 5, 5, 2, 1, c), {Act::kRelu}, false});
    }
    check({spec_of(2, 9, 9, c, c, 3, 3, 1, 1, c, 2), {}});
    check({spec_of(1, 9, 12, c, c, 7, 7, 1, 1, c), {}});
    check({spec_of(1, 9, 12, c, c, 1, 5, 1, 1, c), {}});
    check({spec_of(1, 9, 12, c, c, 3, 3, 3, 3, c), {Act::kRelu}});
  }
}

TEST_P(Convolution, groups) {
  check({spec_of(2, 9, 9, 24, 48, 3, 3, 1, 1, 2), {Act::kRelu}});
  check({spec_of(1, 9, 9, 40, 20, 1, 1, 1, 1, 4), {}, true, true});
  check({spec_of(1, 9, 9, 12, 24, 3, 3, 2, 2, 12), {}});
}

TEST_P(Convolution, transposed) {
  for (const int64_t oc : {1, 2, 3, 15, 16, 24, 33}) {
    check({transposed_of(1, 9, 11, 24, oc, 2, 2), {Act::kSigmoid}});
    check({transposed_of(2, 5, 6, 12, oc, 3, 2), {}, false});
    ConvSpec s = transposed_of(1, 6, 7, 20, oc, 2, 2);
    s.ldx = 25, s.ldy = oc + 5;
    check({s, {Act::kRelu, Epilogue::kNone, 0, 0, 2, 1}});
  }
}

// As a convolution's gradient: outputs overlap, kernel rows of up to 32 lanes.
TEST_P(Convolution, narrow_transposed) {
  for (const int64_t oc : {1, 2, 3, 6, 8}) {
    for (const int64_t kernel : {2, 3, 4, 5, 7}) {
      ConvSpec s = transposed_of(3, 9, 11, 16, oc, kernel, kernel);
      s.sh = s.sw = 1;
      s.oh = s.h + kernel - 1, s.ow = s.w + kernel - 1;
      check({s, {}});
      check({s, {}, false});
    }
  }
}

TEST_P(Convolution, every_epilogue) {
  for (int act = 0; act <= static_cast<int>(Act::kTanh); ++act) {
    for (int residual = 0; residual < 3; ++residual) {
      Epilogue e;
      e.act = static_cast<Act>(act);
      e.residual = static_cast<Epilogue::Residual>(residual);
      e.alpha = e.act == Act::kClip ? -0.5f : 0.2f, e.beta = 0.6f;
      if (act % 2) e.scale = 1.5f, e.shift = 0.25f;
      check({spec_of(2, 5, 9, 20, 42, 1, 1), e});
      check({spec_of(1, 6, 9, 12, 24, 3, 3), e});
      check({spec_of(1, 6, 9, 24, 24, 3, 3, 1, 1, 24), e});
      check({spec_of(1, 6, 9, 24, 24, 3, 1, 1, 1, 24), e});
    }
  }
}

TEST_P(Convolution, long_sums_with_residual) {
  for (const int64_t ic : {512, 1152, 1200, 2304})
    check({spec_of(2, 9, 20, ic, 112, 1, 1), {Act::kRelu, Epilogue::kBeforeAct}});
}

TEST_P(Convolution, wide_pixels_and_input_scale) {
  for (const int64_t oc : {12, 24, 60}) {
    ConvSpec s = spec_of(6, 5, 7, 18, oc, 1, 1);
    s.ldx = 30, s.ldy = oc + 7;
    check({s, {Act::kRelu}});
    check({s, {}, true, true});
    s = spec_of(2, 9, 7, 18, oc, 1, 1, 2, 2);
    s.ldx = 30, s.ldy = oc + 7;
    check({s, {}, true, true});
    s = spec_of(2, 9, 7, 18, oc, 3, 3);
    s.ldx = 30, s.ldy = oc + 7;
    check({s, {}});
    s = spec_of(2, 9, 9, 18, 18, 5, 5, 1, 1, 18);
    s.ldx = 30, s.ldy = 20;
    check({s, {}});
  }
  check({spec_of(6, 6, 80, 48, 48, 1, 1), {Act::kHardSwish}, true, true});
}

void check_fused(const Case& dw, Case pw) {
  pw.spec.half_products = half_products;
  SCOPED_TRACE(name_of(dw) + " then " + name_of(pw));
  const auto conv = Conv::create(dw.spec, dw.epilogue, pw.spec, pw.epilogue);
  if (!conv) return;  // it may refuse
  const Data d = make_data(dw);
  Data p = make_data(pw);
  const auto packed_dw = std::make_unique<Guarded>(Conv::packed_bytes(dw.spec) / 4);
  Guarded packed_pw(Conv::packed_bytes(pw.spec) / 4);
  Conv::pack(dw.spec, d.weight.data(), packed_dw->data());
  Conv::pack(pw.spec, p.weight.data(), packed_pw.data());
  Guarded y(static_cast<size_t>(pw.spec.n * pw.spec.oh * pw.spec.ow * p.ldy));
  Guarded scratch(conv->scratch_bytes() / sizeof(float));
  ConvArgs args;
  args.x = d.x.data(), args.y = y.data(), args.weight = packed_pw.data();
  args.bias = p.bias.data(), args.residual = p.residual.data(), args.ldr = p.ldr;
  args.dw_weight = packed_dw->data(), args.dw_bias = d.bias.data();
  args.scratch = scratch.data();
  conv->run(args);
  EXPECT_TRUE(y.intact());
  EXPECT_TRUE(scratch.intact());
  const ConvSpec& s = dw.spec;
  p.x.resize(static_cast<size_t>(s.n * s.oh * s.ow * s.oc));
  for (int64_t i = 0; i < static_cast<int64_t>(p.x.size()); ++i) {
    const int64_t o = i % s.oc, x = i / s.oc % s.ow, row = i / s.oc / s.ow;
    double m = 0;
    const double v = accumulate(dw, d, row / s.oh, row % s.oh, x, o, m);
    p.x[static_cast<size_t>(i)] = static_cast<float>(
        act_of(dw.epilogue, v + d.bias[static_cast<size_t>(o)]) * dw.epilogue.scale +
        dw.epilogue.shift);
  }
  p.ldx = s.oc;
  expect_close(pw, p, y.data());
  check_in_place(pw, p, *conv, args, y.data());
}

TEST_P(Convolution, depthwise_then_pointwise) {
  const Epilogue act{Act::kHardSwish, Epilogue::kNone, 0, 0, 1.5f, -0.25f};
  const Epilogue after{Act::kHardSwish, Epilogue::kAfter, 0, 0, 1.5f, -0.25f};
  for (const int64_t c : {12, 16, 24, 48, 120}) {
    for (const int64_t k : {3, 5}) {
      for (const int64_t stride : {11, 22, 21, 12}) {
        for (const int64_t h : {3, 12}) {
          const ConvSpec dw = spec_of(2, h, 20, c, c, k, k, stride / 10, stride % 10, c);
          check_fused({dw, act}, {spec_of(2, dw.oh, dw.ow, c, c + 8, 1, 1), after});
        }
      }
    }
  }
  const ConvSpec dw = spec_of(1, 40, 40, 192, 192, 5, 5, 1, 1, 192);
  check_fused({dw, act}, {spec_of(1, 40, 40, 192, 192, 1, 1), act});
  const ConvSpec wide = spec_of(1, 3, 80, 480, 480, 5, 5, 1, 1, 480);
  check_fused({wide, act}, {spec_of(1, 3, 80, 480, 480, 1, 1), act});
}

INSTANTIATE_TEST_SUITE_P(Threads, Convolution,
                         testing::Values(How{1, false}, How{2, false}, How{3, false}, How{1, true},
                                         How{2, true}),
                         [](const auto& i) {
                           return std::to_string(i.param.threads) +
                                  (i.param.half_products ? "_of_float16" : "");
                         });

// What float16 cannot hold: numbers out of its range, columns of other orders of magnitude, numbers
// that are none.
class HalfProducts : public testing::Test {
 protected:
  static constexpr int64_t kPixels = 30, kIn = 200, kOut = 70;

  void SetUp() override {
    if (!cpu_features().avx512_fp16) GTEST_SKIP() << "no AVX512-FP16";
    case_.spec = spec_of(1, 1, kPixels, kIn, kOut, 1, 1);
    case_.spec.half_products = true;
    case_.bias = false;
    data_ = make_data(case_);
  }
  std::vector<float> run() {
    const auto conv = Conv::create(case_.spec, {});
    Guarded packed(Conv::packed_bytes(case_.spec) / 4), y(kPixels * kOut);
    Guarded scratch(conv->scratch_bytes() / 4);
    Conv::pack(case_.spec, data_.weight.data(), packed.data());
    ConvArgs args;
    args.x = data_.x.data(), args.y = y.data(), args.weight = packed.data();
    args.scratch = scratch.data();
    conv->run(args);
    return {y.data(), y.data() + kPixels * kOut};
  }

  Case case_;
  Data data_;
};

TEST_F(HalfProducts, ScaleWithTheirFactors) {
  const std::vector<float> plain = run();
  // Powers of two move nothing but exponents.
  for (const int exponent : {-60, -20, -1, 3, 14, 40}) {
    SCOPED_TRACE(exponent);
    const Data before = data_;
    for (float& v : data_.x) v = std::ldexp(v, exponent);
    for (int64_t i = 0; i < kOut * kIn; ++i)
      data_.weight[static_cast<size_t>(i)] =
          std::ldexp(data_.weight[static_cast<size_t>(i)], static_cast<int>(i / kIn % 5 - 2) * 9);
    const std::vector<float> scaled = run();
    for (int64_t i = 0; i < kPixels * kOut; ++i)
      ASSERT_EQ(scaled[static_cast<size_t>(i)],
                std::ldexp(plain[static_cast<size_t>(i)],
                           exponent + static_cast<int>(i % kOut % 5 - 2) * 9))
          << i;
    data_ = before;
  }
}

TEST_F(HalfProducts, OfTheLargestNumbersDoNotOverflow) {
  std::fill(data_.x.begin(), data_.x.end(), 6e4F);
  std::fill(data_.weight.begin(), data_.weight.end(), 6e4F);
  for (const float v : run()) EXPECT_NEAR(v, 6e4 * 6e4 * kIn, 6e4 * 6e4 * kIn * 4e-3);
}

TEST_F(HalfProducts, OfZerosAreZero) {
  std::fill(data_.x.begin(), data_.x.end(), 0.0F);
  for (const float v : run()) EXPECT_EQ(v, 0);
}

TEST_F(HalfProducts, KeepWhatIsNoNumber) {
  data_.x[3 * kIn + 5] = std::nanf("");
  const std::vector<float> y = run();
  for (int64_t o = 0; o < kOut; ++o) {
    EXPECT_TRUE(std::isnan(y[static_cast<size_t>(3 * kOut + o)]));
    EXPECT_TRUE(std::isfinite(y[static_cast<size_t>(4 * kOut + o)]));
  }
}

}  // namespace
}  // namespace trireme::cpu
