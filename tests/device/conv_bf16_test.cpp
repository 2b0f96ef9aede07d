// The bfloat16 convolutions against a naive reference in float64 on the same rounded inputs.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "device/cpu/conv_impl.h"

namespace trireme::cpu {
namespace {

constexpr uint16_t kGuard = 0x7fc1;  // a NaN: what is read or written out of place shows up

uint16_t to_bf16(float v) {
  uint32_t u;
  std::memcpy(&u, &v, 4);
  return static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
float to_float(uint16_t v) {
  const uint32_t u = static_cast<uint32_t>(v) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}

struct Case {
  std::string name;
  ConvSpec spec;
  Epilogue epilogue;
  bool bias = true;
  bool input_scale = false;
  int64_t ldr = 0;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

double act_of(double v, const Epilogue& e) {
  switch (e.act) {
    case Act::kNone: return v;
    case Act::kRelu: return std::max(v, 0.0);
    case Act::kClip: return std::min(std::max(v, double{e.alpha}), double{e.beta});
    case Act::kLeakyRelu: return v < 0 ? e.alpha * v : v;
    case Act::kHardSwish: return v * std::min(std::max(v + 3, 0.0), 6.0) / 6;
    case Act::kHardSigmoid: return std::min(std::max(e.alpha * v + e.beta, 0.0), 1.0);
    case Act::kSigmoid: return 1 / (1 + std::exp(-v));
    case Act::kSwish: return v / (1 + std::exp(-v));
    case Act::kGelu: return 0.5 * v * std::erfc(-v / std::sqrt(2.0));
    case Act::kTanh: return std::tanh(v);
  }
  return v;
}

bool depthwise(const ConvSpec& s) { return s.groups > 1 && s.groups == s.ic && s.ic == s.oc; }

struct Data {
  std::vector<uint16_t> x, residual;
  std::vector<float> weight, bias, scale;
};

int64_t x_size(const ConvSpec& s) { return s.n * s.h * s.w * (s.x_planar ? s.ic : s.ldx); }

Data make_data(const Case& c, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> unit(-1, 1);
  const ConvSpec& s = c.spec;
  Data d;
  d.x.resize(static_cast<size_t>(x_size(s)), kGuard);
  for (size_t i = 0; i < d.x.size(); ++i) {
    const bool inside = s.x_planar || static_cast<int64_t>(i) % s.ldx < s.ic;
    if (inside) d.x[i] = to_bf16(2 * unit(random));
  }
  d.weight.resize(static_cast<size_t>(s.oc * s.ic / s.groups * s.kh * s.kw));
  const double taps = static_cast<double>(s.transposed ? 1 : s.kh * s.kw);
  const auto range = static_cast<float>(2 / std::sqrt(static_cast<double>(s.ic / s.groups) * taps));
  for (float& w : d.weight) {
    w = range * unit(random);
    if (!depthwise(s)) w = to_float(to_bf16(w));
  }
  d.bias.resize(static_cast<size_t>(s.oc));
  for (float& b : d.bias) b = unit(random);
  d.scale.resize(static_cast<size_t>(s.n * s.ic));
  for (float& v : d.scale) v = 0.5f + 0.5f * unit(random);
  d.residual.resize(static_cast<size_t>(s.n * s.oh * s.ow * c.ldr), kGuard);
  for (size_t i = 0; i < d.residual.size(); ++i) {
    if (static_cast<int64_t>(i) % c.ldr < s.oc) d.residual[i] = to_bf16(unit(random));
  }
  return d;
}

double input_at(const Case& c, const Data& d, int64_t n, int64_t y, int64_t x, int64_t ch) {
  const ConvSpec& s = c.spec;
  if (y < 0 || y >= s.h || x < 0 || x >= s.w) return 0;
  const int64_t i =
      s.x_planar ? ((n * s.ic + ch) * s.h + y) * s.w + x : ((n * s.h + y) * s.w + x) * s.ldx + ch;
  const double v = to_float(d.x[static_cast<size_t>(i)]);
  if (!c.input_scale) return v;
  // The kernel rounds the scaled input to bfloat16 once more.
  return to_float(to_bf16(static_cast<float>(v) * d.scale[static_cast<size_t>(n * s.ic + ch)]));
}

double sum_at(const Case& c, const Data& d, int64_t n, int64_t oy, int64_t ox, int64_t o) {
  const ConvSpec& s = c.spec;
  const int64_t in = s.ic / s.groups, first = o / (s.oc / s.groups) * in;
  double sum = 0;
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t ky = 0; ky < s.kh; ++ky) {
      for (int64_t kx = 0; kx < s.kw; ++kx) {
        if (s.transposed) {
          if (oy % s.kh != ky || ox % s.kw != kx) continue;
          const int64_t w = ((i * s.oc + o) * s.kh + ky) * s.kw + kx;
          sum += input_at(c, d, n, oy / s.kh, ox / s.kw, i) * d.weight[static_cast<size_t>(w)];
        } else {
          const int64_t w = ((o * in + i) * s.kh + ky) * s.kw + kx;
          const int64_t y = oy * s.sh - s.top + ky * s.dh, x = ox * s.sw - s.left + kx * s.dw;
          sum += input_at(c, d, n, y, x, first + i) * d.weight[static_cast<size_t>(w)];
        }
      }
    }
  }
  return sum;
}

std::vector<double> reference(const Case& c, const Data& d) {
  const ConvSpec& s = c.spec;
  std::vector<double> out;
  for (int64_t p = 0; p < s.n * s.oh * s.ow; ++p) {
    for (int64_t o = 0; o < s.oc; ++o) {
      double v = sum_at(c, d, p / s.ow / s.oh, p / s.ow % s.oh, p % s.ow, o);
      if (c.bias) v += d.bias[static_cast<size_t>(o)];
      double r = 0;
      if (c.epilogue.residual) r = to_float(d.residual[static_cast<size_t>(p * c.ldr + o)]);
      if (c.epilogue.residual == Epilogue::kBeforeAct) v += r;
      v = act_of(v, c.epilogue) * c.epilogue.scale + c.epilogue.shift;
      if (c.epilogue.residual == Epilogue::kAfter) v += r;
      out.push_back(v);
    }
  }
  return out;
}

// A copy that ends right before a page nobody may read: tile loads escape sanitizers.
struct Fenced {
  explicit Fenced(const std::vector<uint16_t>& data) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), used = data.size() * 2;
    bytes = (used + page - 1) / page * page + page;
    base = static_cast<char*>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base + bytes - page, page, PROT_NONE);
    p = base + bytes - page - used;
    std::memcpy(p, data.data(), used);
  }
  ~Fenced() { munmap(base, bytes); }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;
  size_t bytes;
  char *base, *p;
};

// Memory on a 64-byte boundary.
struct Aligned {
  explicit Aligned(size_t bytes)
      : p(static_cast<unsigned char*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64))) {
    std::memset(p, 0xff, (bytes + 127) / 64 * 64);
  }
  ~Aligned() { std::free(p); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  unsigned char* p;
};

// Every written value is near the reference, everything else is still the guard.
void check(const ConvSpec& s, const std::vector<uint16_t>& y, size_t margin,
           const std::vector<double>& want, double tolerance) {
  int bad = 0;
  for (size_t i = 0; i < y.size() && bad < 10; ++i) {
    const int64_t at = static_cast<int64_t>(i) - static_cast<int64_t>(margin);
    const int64_t pixel = at / s.ldy, channel = at % s.ldy;
    if (at < 0 || pixel >= s.n * s.oh * s.ow || channel >= s.oc) {
      if (y[i] != kGuard) ++bad, ADD_FAILURE() << "overwritten at " << at;
      continue;
    }
    const double w = want[static_cast<size_t>(pixel * s.oc + channel)], got = to_float(y[i]);
    if (!(std::abs(got - w) <= tolerance * (std::abs(w) + 0.3))) {
      ++bad, ADD_FAILURE() << "pixel " << pixel << " channel " << channel << ": " << got
                           << " instead of " << w;
    }
  }
}

class ConvBf16Whole : public testing::Test {
 protected:
  void SetUp() override {
#ifdef TRIREME_EMULATED_TILES
    if (!cpu_features().avx512_bf16) GTEST_SKIP() << "needs AVX512-BF16";
#else
    if (!cpu_features().amx_bf16) GTEST_SKIP() << "needs AMX; see emulated_tiles";
#endif
  }
};
class ConvBf16 : public ConvBf16Whole, public testing::WithParamInterface<Case> {};

void run_case(const Case& c) {
  const Data d = make_data(c, 7);
  const auto conv = bf16::create(c.spec, c.epilogue);
  ASSERT_NE(conv, nullptr);
  Aligned packed(bf16::packed_bytes(c.spec)), scratch(conv->scratch_bytes());
  bf16::pack(c.spec, d.weight.data(), packed.p);
  const size_t margin = 64;
  const auto size = static_cast<size_t>(c.spec.n * c.spec.oh * c.spec.ow * c.spec.ldy);
  std::vector<uint16_t> y(size + 2 * margin, kGuard);
  ConvArgs args;
  const Fenced x(d.x);
  args.x = x.p, args.y = y.data() + margin, args.weight = packed.p;
  args.scratch = scratch.p;
  if (c.bias) args.bias = d.bias.data();
  if (c.input_scale) args.input_scale = d.scale.data();
  if (c.epilogue.residual) args.residual = d.residual.data(), args.ldr = c.ldr;
  conv->run(args);
  const std::vector<double> want = reference(c, d);
  check(c.spec, y, margin, want, 5e-3);
  if (!c.epilogue.residual || !bf16::adds_in_place(c.spec)) return;
  std::fill(y.begin(), y.end(), kGuard);
  for (int64_t p = 0; p < c.spec.n * c.spec.oh * c.spec.ow; ++p)
    std::copy_n(d.residual.data() + p * c.ldr, c.spec.oc, y.data() + margin + p * c.spec.ldy);
  args.residual = args.y, args.ldr = c.spec.ldy;
  conv->run(args);
  check(c.spec, y, margin, want, 5e-3);
}

TEST_P(ConvBf16, MatchesReference) { run_case(GetParam()); }

struct Make {
  Case c;
  explicit Make(int64_t h, int64_t w, int64_t ic, int64_t oc, int64_t kh = 1, int64_t kw = 1) {
    c.spec.h = h, c.spec.w = w, c.spec.ic = ic, c.spec.oc = oc, c.spec.kh = kh, c.spec.kw = kw;
    c.spec.top = (kh - 1) / 2, c.spec.left = (kw - 1) / 2;
    c.spec.dtype = DType::kBFloat16;
    c.epilogue.act = Act::kNone;
  }
  Make& stride(int64_t y, int64_t x) { return c.spec.sh = y, c.spec.sw = x, *this; }
  Make& dilate(int64_t d) {
    c.spec.dh = c.spec.dw = d;
    c.spec.top *= d, c.spec.left *= d;
    return *this;
  }
  Make& batch(int64_t n) { return c.spec.n = n, *this; }
  Make& groups(int64_t g) { return c.spec.groups = g, *this; }
  Make& depthwise() { return groups(c.spec.ic); }
  Make& transposed() { return c.spec.transposed = true, c.spec.top = c.spec.left = 0, *this; }
  Make& planar() { return c.spec.x_planar = true, *this; }
  Make& wider(int64_t by) { return c.spec.ldx = by, c.spec.ldy = by, *this; }
  Make& act(Act a, float alpha = 0, float beta = 0) {
    return c.epilogue.act = a, c.epilogue.alpha = alpha, c.epilogue.beta = beta, *this;
  }
  Make& affine(float scale, float shift) {
    return c.epilogue.scale = scale, c.epilogue.shift = shift, *this;
  }
  Make& residual(Epilogue::Residual r, int64_t wider) {
    return c.epilogue.residual = r, c.ldr = c.spec.oc + wider, *this;
  }
  Make& no_bias() { return c.bias = false, *this; }
  Make& scaled() { return c.input_scale = true, *this; }
  Case done(const std::string& name) {
    ConvSpec& s = c.spec;
    const auto extent = [](int64_t in, int64_t k, int64_t stride, int64_t d, int64_t before) {
      return (in + 2 * before - d * (k - 1) - 1) / stride + 1;
    };
    s.oh = s.transposed ? s.h * s.kh : extent(s.h, s.kh, s.sh, s.dh, s.top);
    s.ow = s.transposed ? s.w * s.kw : extent(s.w, s.kw, s.sw, s.dw, s.left);
    s.ldx += s.ic, s.ldy += s.oc;
    c.name = name;
    return c;
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (int64_t c : {1, 3, 12, 15, 16, 18, 24, 42, 48, 60, 96, 120, 184, 200, 360}) {
    const auto n = std::to_string(c);
    all.push_back(Make(7, 11, c, 24).done("k1_in" + n));
    all.push_back(Make(7, 11, 32, c).wider(5).act(Act::kRelu).done("k1_out" + n));
    all.push_back(Make(6, 19, c, 20, 3, 3).done("k3_in" + n));
    all.push_back(Make(5, 37, 16, c, 3, 3).stride(2, 2).wider(3).done("k3s2_out" + n));
    if (c == 1) continue;
    all.push_back(Make(9, 21, c, c, 3, 3).depthwise().wider(2).done("dw3_" + n));
    all.push_back(Make(9, 22, c, c, 5, 5).depthwise().stride(2, 2).done("dw5s2_" + n));
    all.push_back(Make(9, 22, c, c, 3, 3).depthwise().stride(2, 1).done("dw3s21_" + n));
    all.push_back(Make(9, 22, c, c, 5, 5).depthwise().stride(1, 2).done("dw5s12_" + n));
    all.push_back(Make(7, 9, c, 24, 2, 2).transposed().wider(4).done("up2_in" + n));
    all.push_back(Make(6, 19, c, 48).scaled().batch(2).done("scaled_" + n));
  }
  const std::pair<const char*, Act> acts[] = {
      {"none", Act::kNone},           {"relu", Act::kRelu},
      {"clip", Act::kClip},           {"leaky", Act::kLeakyRelu},
      {"hardswish", Act::kHardSwish}, {"hardsigmoid", Act::kHardSigmoid},
      {"sigmoid", Act::kSigmoid},     {"swish", Act::kSwish},
      {"gelu", Act::kGelu},           {"tanh", Act::kTanh}};
  for (const auto& [name, a] : acts) {
    const std::string n = name;
    const float alpha = a == Act::kClip ? -0.3f : 0.2f, beta = 0.6f;
    all.push_back(Make(5, 9, 24, 52).act(a, alpha, beta).affine(1.5f, -0.25f).done("act_" + n));
    all.push_back(Make(5, 9, 40, 24)
                      .act(a, alpha, beta)
                      .residual(Epilogue::kBeforeAct, 3)
                      .affine(0.5f, 0.1f)
                      .done("before_" + n));
    all.push_back(
        Make(5, 9, 24, 40).act(a, alpha, beta).residual(Epilogue::kAfter, 0).done("after_" + n));
    all.push_back(Make(5, 9, 40, 40, 3, 3)
                      .depthwise()
                      .act(a, alpha, beta)
                      .residual(Epilogue::kAfter, 1)
                      .affine(2, 1)
                      .done("dw_after_" + n));
    all.push_back(Make(5, 9, 40, 40, 3, 3)
                      .depthwise()
                      .act(a, alpha, beta)
                      .residual(Epilogue::kBeforeAct, 0)
                      .done("dw_before_" + n));
    all.push_back(Make(5, 40, 24, 1, 2, 2)
                      .transposed()
                      .act(a, alpha, beta)
                      .affine(0.5f, 0.1f)
                      .done("up1_" + n));
  }
  const auto add = [&](Make m, const char* name) { all.push_back(m.done(name)); };
  add(Make(1, 40, 480, 60, 1, 3), "k13");
  add(Make(20, 33, 96, 24, 3, 3).batch(2).no_bias(), "k3_96_24");
  add(Make(40, 160, 96, 24, 3, 3), "k3_96_24_wide");
  add(Make(7, 7, 512, 512, 3, 3), "k3_512");
  add(Make(14, 14, 256, 96, 3, 3).stride(2, 2).batch(2), "k3s2_256");
  add(Make(13, 28, 64, 64, 1, 1).stride(2, 2), "k1s2");
  add(Make(13, 28, 64, 16, 1, 1).stride(2, 2), "k1s2_rows");
  add(Make(14, 14, 256, 96, 3, 3)
          .batch(2)
          .wider(7)
          .residual(Epilogue::kBeforeAct, 3)
          .act(Act::kRelu),
      "pad1");
  add(Make(7, 7, 128, 64, 3, 3).batch(5).no_bias(), "pad2");
  add(Make(28, 28, 64, 80, 3, 3).batch(8).residual(Epilogue::kAfter, 0), "pad3");
  add(Make(5, 9, 96, 68, 3, 3).batch(3), "pad4");
  add(Make(9, 5, 64, 72, 3, 3), "pad5");
  add(Make(28, 20, 320, 64, 3, 3).batch(3), "pad6");
  add(Make(12, 35, 24, 20, 3, 3).dilate(2), "dilated");
  add(Make(12, 35, 24, 24, 3, 3).dilate(2).depthwise(), "dw_dilated");
  add(Make(12, 35, 24, 24, 7, 7).depthwise(), "dw7");
  add(Make(12, 35, 24, 20, 3, 3).groups(2), "groups2");
  add(Make(12, 35, 64, 48, 3, 3).groups(2).wider(3).residual(Epilogue::kAfter, 5), "groups2_wide");
  add(Make(12, 35, 60, 20).groups(4), "groups4_odd");
  add(Make(12, 35, 8, 16, 3, 3).groups(8), "multiplier");
  add(Make(33, 66, 3, 16, 3, 3).stride(2, 2).planar().batch(2), "stem");
  add(Make(33, 67, 3, 64, 7, 7).stride(2, 2).planar(), "stem7");
  add(Make(33, 67, 3, 64, 7, 7).stride(2, 2).batch(2), "stem7_nhwc");
  add(Make(33, 230, 3, 64, 7, 7).stride(2, 2).planar().batch(3).act(Act::kRelu), "stem7_wide");
  add(Make(21, 40, 4, 20, 5, 5).planar().residual(Epilogue::kAfter, 3), "stem5");
  add(Make(21, 40, 1, 70, 3, 8).stride(1, 3).planar().batch(2).wider(5), "stem38");
  add(Make(21, 19, 2, 33, 5, 6).stride(3, 1).wider(1).batch(2).no_bias(), "stem56_nhwc");
  add(Make(33, 67, 3, 40, 9, 9).stride(2, 2).planar(), "stem9");
  add(Make(17, 35, 1, 20, 3, 3).planar(), "planar_s1");
  add(Make(17, 70, 4, 20, 3, 3).stride(3, 3).planar(), "planar_s3");
  add(Make(17, 35, 3, 20).planar(), "planar_k1");
  add(Make(1, 128, 768, 3072), "bert_up");
  add(Make(1, 128, 3072, 768).residual(Epilogue::kAfter, 0), "bert_down");
  add(Make(1, 300, 768, 128).batch(2), "tall");
  add(Make(1, 40, 120, 6625), "head");
  add(Make(1, 1, 480, 120).act(Act::kRelu), "se1");
  add(Make(1, 1, 120, 480).batch(6).act(Act::kHardSigmoid, 0.2f, 0.5f), "se6");
  add(Make(24, 40, 64, 64).batch(6), "batch6");
  add(Make(80, 80, 24, 24, 2, 2).transposed(), "up2");
  add(Make(80, 80, 24, 1, 2, 2).transposed().act(Act::kSigmoid), "up2_1");
  add(Make(13, 17, 24, 1, 2, 2).transposed().wider(3).batch(2).no_bias(), "up2_1_wide");
  add(Make(13, 17, 15, 1, 2, 2).transposed(), "up2_1_odd");
  add(Make(13, 17, 16, 5, 3, 2).transposed().residual(Epilogue::kBeforeAct, 1), "up32");
  add(Make(13, 17, 40, 40, 4, 4).transposed(), "up4");
  add(Make(6, 80, 480, 480).scaled(), "scaled_480");
  add(Make(6, 80, 480, 480).scaled().batch(6), "scaled_480_b6");
  return all;
}

INSTANTIATE_TEST_SUITE_P(Sweep, ConvBf16, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

struct FusedCase {
  int64_t n, h, w, ic, oc, k, sh, sw;
};

void run_fused(const FusedCase& f) {
  Case dw = Make(f.h, f.w, f.ic, f.ic, f.k, f.k)
                .depthwise()
                .stride(f.sh, f.sw)
                .batch(f.n)
                .wider(2)
                .act(Act::kHardSwish)
                .affine(1.25f, 0.1f)
                .done("dw");
  dw.spec.ldy = dw.spec.oc;
  Case pw = Make(dw.spec.oh, dw.spec.ow, f.ic, f.oc).batch(f.n).act(Act::kHardSwish).done("pw");
  pw.spec.ldy += 3;
  const Data d = make_data(dw, 1);
  Data p = make_data(pw, 2);
  const auto conv = bf16::create(dw.spec, dw.epilogue, pw.spec, pw.epilogue);
  ASSERT_NE(conv, nullptr);
  Aligned dw_packed(bf16::packed_bytes(dw.spec)), packed(bf16::packed_bytes(pw.spec));
  Aligned scratch(conv->scratch_bytes());
  bf16::pack(dw.spec, d.weight.data(), dw_packed.p);
  bf16::pack(pw.spec, p.weight.data(), packed.p);
  const size_t margin = 64;
  const auto size = static_cast<size_t>(f.n * pw.spec.oh * pw.spec.ow * pw.spec.ldy);
  std::vector<uint16_t> y(size + 2 * margin, kGuard);
  ConvArgs args;
  const Fenced x(d.x);
  args.x = x.p, args.y = y.data() + margin, args.weight = packed.p;
  args.bias = p.bias.data(), args.dw_weight = dw_packed.p, args.dw_bias = d.bias.data();
  args.scratch = scratch.p;
  conv->run(args);
  const std::vector<double> between = reference(dw, d);
  for (size_t i = 0; i < between.size(); ++i) p.x[i] = to_bf16(static_cast<float>(between[i]));
  check(pw.spec, y, margin, reference(pw, p), 1e-2);
}

TEST_F(ConvBf16Whole, DepthwiseThenPointwise) {
  for (const FusedCase& f : {FusedCase{1, 20, 20, 96, 40, 5, 1, 1},
                             {2, 17, 33, 16, 32, 3, 1, 1},
                             {1, 12, 33, 48, 48, 3, 2, 2},
                             {6, 6, 20, 60, 18, 5, 2, 1},
                             {1, 12, 16, 15, 64, 3, 1, 2},
                             {1, 20, 20, 384, 384, 5, 1, 1},
                             {1, 11, 19, 240, 24, 5, 1, 1},
                             {1, 9, 9, 200, 24, 3, 1, 1}}) {
    SCOPED_TRACE(testing::Message() << f.ic << " -> " << f.oc << " k" << f.k);
    run_fused(f);
  }
}

// Threads: the result does not depend on how the work was shared out.
TEST_F(ConvBf16Whole, ThreadsDoNotMatter) {
  const int before = num_threads();
  for (int n : {1, 3, 4}) {
    set_num_threads(n);
    run_case(Make(40, 80, 96, 24, 3, 3).done("rows"));
    run_case(Make(7, 9, 64, 128, 3, 3).batch(4).done("padded"));
    run_case(Make(7, 9, 64, 128, 3, 3).batch(3).done("padded"));
    run_case(Make(7, 9, 64, 128, 3, 3).done("padded"));
    run_case(Make(40, 80, 60, 60, 3, 3).depthwise().done("depthwise"));
    run_case(Make(7, 7, 256, 512).done("columns"));
    run_case(Make(40, 80, 24, 24, 2, 2).transposed().done("transposed"));
    run_fused({1, 40, 40, 48, 96, 5, 1, 1});
  }
  set_num_threads(before);
}

// Of two runs one goes backward.
TEST_F(ConvBf16Whole, LargeResultsInBothDirections) {
  const int before = num_threads();
  set_num_threads(1);
  for (int run = 0; run < 2; ++run) {
    run_case(Make(60, 100, 16, 96, 3, 3).done("rows"));
    run_case(Make(77, 100, 16, 80).residual(Epilogue::kBeforeAct, 0).done("flat"));
    run_case(Make(28, 28, 64, 64, 3, 3).batch(11).done("padded"));
    run_case(Make(120, 301, 3, 64, 3, 3).stride(2, 2).planar().done("gather"));
    run_fused({1, 75, 80, 32, 96, 3, 1, 1});
    run_case(Make(60, 75, 16, 32, 2, 2).transposed().done("transposed"));
  }
  set_num_threads(before);
}

TEST_F(ConvBf16Whole, NotServed) {
  Case c = Make(8, 8, 12, 8, 2, 2).groups(4).done("");
  c.spec.transposed = true, c.spec.oh = c.spec.ow = 16;
  EXPECT_EQ(bf16::create(c.spec, {}), nullptr);
  const Case dw = Make(5, 5, 16, 16, 3, 3).depthwise().done("");
  EXPECT_EQ(bf16::create(dw.spec, {}, Make(5, 5, 16, 32).done("").spec, {}), nullptr);
}

}  // namespace
}  // namespace trireme::cpu
