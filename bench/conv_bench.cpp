// GFLOP/s of our convolutions: conv_bench [f32|bf16] [threads] [part of a case's name].
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "device/cpu/conv.h"

using namespace trireme;
using namespace trireme::cpu;

namespace {

DType g_dtype = DType::kFloat32;

// In huge pages, as the engine's memory is.
struct Buffer {
  static constexpr size_t kPage = size_t{2} << 20;
  explicit Buffer(size_t bytes)
      : size((bytes + 4096 + kPage - 1) / kPage * kPage), data(std::aligned_alloc(kPage, size)) {
    madvise(data, size, MADV_HUGEPAGE);
    auto* p = static_cast<uint16_t*>(data);
    for (size_t i = 0; i < size / 2; ++i)
      p[i] = g_dtype == DType::kFloat32 && i % 2 == 0 ? 0 : 0x3d80;
  }
  ~Buffer() { std::free(data); }
  size_t size;
  void* data;
};

struct Case {
  std::string name;
  int count = 1;
  ConvSpec spec;
  ConvSpec dw;  // with groups > 0 set when fused
  bool fused = false, scaled = false;
  Epilogue epilogue{Act::kHardSwish, Epilogue::kNone, 0, 0, 1.1f, 0.1f};
};

ConvSpec make(int64_t n, int64_t h, int64_t w, int64_t ic, int64_t oc, int64_t k, int64_t s = 1,
              int64_t groups = 1) {
  ConvSpec c;
  c.n = n, c.h = h, c.w = w, c.ic = ic, c.oc = oc, c.kh = c.kw = k, c.groups = groups;
  c.sh = s > 9 ? s / 10 : s, c.sw = s > 9 ? s % 10 : s;
  c.top = c.left = k / 2;
  c.oh = (h + 2 * c.top - k) / c.sh + 1, c.ow = (w + 2 * c.left - k) / c.sw + 1;
  return c;
}

std::vector<Case> cases;

void conv(const std::string& net, int count, const ConvSpec& s, Act act = Act::kHardSwish,
          bool scaled = false) {
  Case c;
  char name[128];
  std::snprintf(name, sizeof name, "%s %ldx%ldx%ldx%ld->%ld %ldx%ld/%ld%s", net.c_str(), s.n, s.h,
                s.w, s.ic, s.oc, s.kh, s.kw, s.sh * 10 + s.sw,
                s.transposed   ? " T"
                : s.groups > 1 ? " dw"
                : scaled       ? " scaled"
                               : "");
  c.name = name, c.count = count, c.spec = s, c.epilogue.act = act, c.scaled = scaled;
  cases.push_back(c);
}

// Depthwise then 1x1; where the engine refuses to fuse, both are timed.
void pair(const std::string& net, int count, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oc,
          int64_t k, int64_t s = 1) {
  Case f;
  f.dw = make(n, h, w, c, c, k, s, c), f.fused = true, f.count = count;
  f.spec = make(n, f.dw.oh, f.dw.ow, c, oc, 1);
  char name[128];
  std::snprintf(name, sizeof name, "%s %ldx%ldx%ldx%ld dw%ld/%ld ->%ld", net.c_str(), n, h, w, c, k,
                f.dw.sh * 10 + f.dw.sw, oc);
  f.name = name;
  cases.push_back(f);
}

double macs(const ConvSpec& s) {
  const double window = s.transposed ? 1.0 : static_cast<double>(s.kh * s.kw);
  return static_cast<double>(s.n * s.oh * s.ow * s.oc * (s.ic / s.groups)) * window;
}

// With one thread its own CPU time, which other processes disturb less.
double now() {
  if (num_threads() == 1) {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Clock rate of this core just now, from multiplications that wait for each other, three cycles
// each. Heavy vector code lowers it, by as much as the machine's other cores leave it power: only
// cycles are comparable from one run to the next.
double clock_hz() {
  constexpr int kMultiplications = 16000;
  const double start = now();
#if defined(__x86_64__)
  uint64_t v = 1;
  for (int i = 0; i < kMultiplications; i += 4) {
    asm volatile("imul %0, %0\n\timul %0, %0\n\timul %0, %0\n\timul %0, %0" : "+r"(v) : : "cc");
  }
#endif
  return 3 * kMultiplications / (now() - start);
}

struct Timed {
  double seconds = 0, gmac = 0, cycles = 0;
};

void time_best(const Conv& conv, ConvArgs args, Timed& timed) {
  Buffer scratch(conv.scratch_bytes());
  args.scratch = scratch.data;
  double best = 1e9, total = 0;
  std::vector<double> cycles;
  for (int i = 0; i < 2000 && (total < 0.25 || i < 7); ++i) {
    const double start = now();
    conv.run(args);
    const double t = now() - start;
    best = std::min(best, t), total += t;
    cycles.push_back(t * clock_hz());
  }
  std::sort(cycles.begin(), cycles.end());
  timed.seconds += best, timed.cycles += cycles[cycles.size() / 4];
}

Timed run(const Case& c) {
  ConvSpec s = c.spec, d = c.dw;
  s.dtype = d.dtype = g_dtype;
  const size_t element = size_of(g_dtype);
  const auto bytes = [&](int64_t n) { return static_cast<size_t>(n) * element; };
  Buffer x(bytes(c.fused ? d.n * d.h * d.w * d.ic : s.n * s.h * s.w * s.ic));
  Buffer middle(bytes(c.fused ? d.n * d.oh * d.ow * d.oc : 1)), y(bytes(s.n * s.oh * s.ow * s.oc));
  std::vector<float> weight(static_cast<size_t>(s.oc * (s.ic / s.groups) * s.kh * s.kw), 0.01f);
  std::vector<float> dw_weight(static_cast<size_t>(c.fused ? d.oc * d.kh * d.kw : 1), 0.01f);
  std::vector<float> bias(static_cast<size_t>(std::max(s.oc, s.ic)), 0.1f);
  std::vector<float> scale(static_cast<size_t>(s.n * s.ic), 0.9f);
  Buffer packed(Conv::packed_bytes(s)), packed_dw(c.fused ? Conv::packed_bytes(d) : 64);
  Conv::pack(s, weight.data(), packed.data);
  if (c.fused) Conv::pack(d, dw_weight.data(), packed_dw.data);
  ConvArgs args;
  args.x = x.data, args.y = y.data, args.weight = packed.data, args.bias = bias.data();
  if (c.scaled) args.input_scale = scale.data();
  Buffer residual(c.epilogue.residual ? y.size : 64);
  args.residual = residual.data, args.ldr = s.oc;
  args.dw_weight = packed_dw.data, args.dw_bias = bias.data();
  Timed t;
  t.gmac = (macs(s) + (c.fused ? macs(d) : 0)) / 1e9;
  const auto joined =
      c.fused ? Conv::create(d, c.epilogue, s, c.epilogue) : Conv::create(s, c.epilogue);
  if (joined) {
    time_best(*joined, args, t);
    return t;
  }
  if (!c.fused) return t;
  const auto first = Conv::create(d, c.epilogue), second = Conv::create(s, c.epilogue);
  if (!first || !second) return t;
  args.x = middle.data;
  time_best(*second, args, t);
  args.x = x.data, args.y = middle.data, args.weight = packed_dw.data;
  time_best(*first, args, t);
  std::printf("(apart) ");
  return t;
}

void det() {
  ConvSpec stem = make(1, 640, 640, 3, 16, 3, 2);
  stem.x_planar = true;
  conv("det", 1, stem);
  pair("det", 1, 1, 320, 320, 16, 32, 3), pair("det", 1, 1, 320, 320, 32, 48, 3, 2);
  pair("det", 1, 1, 160, 160, 48, 48, 3), pair("det", 1, 1, 160, 160, 48, 96, 3, 2);
  pair("det", 1, 1, 80, 80, 96, 96, 3), pair("det", 1, 1, 80, 80, 96, 192, 3, 2);
  pair("det", 4, 1, 40, 40, 192, 192, 5), pair("det", 1, 1, 40, 40, 192, 384, 5, 2);
  pair("det", 2, 1, 20, 20, 384, 384, 5);
  conv("det", 1, make(1, 160, 160, 48, 12, 1), Act::kNone);
  conv("det", 1, make(1, 80, 80, 96, 18, 1), Act::kNone);
  conv("det", 1, make(1, 40, 40, 192, 42, 1), Act::kNone);
  conv("det", 1, make(1, 20, 20, 384, 360, 1), Act::kNone);
  conv("det", 1, make(1, 20, 20, 360, 96, 1), Act::kNone);
  conv("det", 1, make(1, 40, 40, 42, 96, 1), Act::kNone);
  conv("det", 1, make(1, 80, 80, 18, 96, 1), Act::kNone);
  conv("det", 1, make(1, 160, 160, 12, 96, 1), Act::kNone);
  for (const int64_t size : {20, 40, 80})
    conv("det", 1, make(1, size, size, 96, 24, 3), Act::kNone);
  conv("det", 2, make(1, 160, 160, 96, 24, 3), Act::kRelu);
  for (const int64_t oc : {24, 1}) {
    ConvSpec t;
    t.h = t.w = oc == 24 ? 160 : 320, t.ic = 24, t.oc = oc, t.kh = t.kw = t.sh = t.sw = 2;
    t.oh = 2 * t.h, t.ow = 2 * t.w, t.transposed = true;
    conv("det", 1, t, oc == 24 ? Act::kRelu : Act::kSigmoid);
  }
}

void rec(const std::string& net, int64_t n) {
  ConvSpec stem = make(n, 48, 320, 3, 16, 3, 2);
  stem.x_planar = true;
  conv(net, 1, stem);
  pair(net, 1, n, 24, 160, 16, 32, 3), pair(net, 1, n, 24, 160, 32, 64, 3);
  pair(net, 1, n, 24, 160, 64, 64, 3), pair(net, 1, n, 24, 160, 64, 128, 3, 21);
  pair(net, 1, n, 12, 160, 128, 128, 3), pair(net, 1, n, 12, 160, 128, 240, 3, 12);
  pair(net, 4, n, 12, 80, 240, 240, 5);
  conv(net, 1, make(n, 12, 80, 240, 240, 5, 21, 240));
  conv(net, 1, make(n, 6, 80, 240, 480, 1), Act::kHardSwish, true);
  conv(net, 1, make(n, 6, 80, 480, 480, 5, 1, 480));
  conv(net, 1, make(n, 6, 80, 480, 480, 1), Act::kHardSwish, true);
  pair(net, 1, n, 6, 80, 480, 480, 5, 21), pair(net, 1, n, 3, 80, 480, 480, 5);
  ConvSpec wide = make(n, 1, 40, 480, 60, 3);
  wide.kh = 1, wide.top = 0, wide.oh = 1;
  conv(net, 1, wide, Act::kSwish);
  conv(net, 1, make(1, 1, 40 * n, 120, 6625, 1), Act::kNone);
}

void resnet(const std::string& net, int64_t n) {
  conv(net, 1, make(n, 224, 224, 3, 64, 7, 2), Act::kRelu);
  const int64_t sizes[] = {56, 28, 14, 7}, repeats[] = {3, 4, 6, 3};
  int64_t ic = 64;
  for (int i = 0; i < 4; ++i) {
    const int64_t size = sizes[i], c = 64 << i, wide = 4 * c, k = repeats[i];
    const int64_t before = i == 0 ? size : 2 * size;
    conv(net, 1, make(n, before, before, ic, c, 1), Act::kRelu);
    conv(net, 1, make(n, before, before, ic, wide, 1, i == 0 ? 1 : 2), Act::kNone);
    if (i > 0) conv(net, 1, make(n, before, before, c, c, 3, 2), Act::kRelu);
    conv(net, static_cast<int>(k - (i > 0)), make(n, size, size, c, c, 3), Act::kRelu);
    conv(net, static_cast<int>(k - 1), make(n, size, size, wide, c, 1), Act::kRelu);
    conv(net, static_cast<int>(k), make(n, size, size, c, wide, 1), Act::kRelu);
    ic = wide;
  }
  conv(net, 1, make(1, 1, n, 2048, 1000, 1), Act::kNone);
}

void mobilenet() {
  conv("mbv3", 1, make(1, 224, 224, 3, 16, 3, 2));
  conv("mbv3", 1, make(1, 112, 112, 16, 64, 1)), pair("mbv3", 1, 1, 112, 112, 64, 24, 3, 2);
  conv("mbv3", 2, make(1, 28, 28, 40, 120, 1)),
      conv("mbv3", 2, make(1, 28, 28, 120, 120, 5, 1, 120));
  conv("mbv3", 2, make(1, 28, 28, 120, 40, 1), Act::kNone, true);
  conv("mbv3", 2, make(1, 14, 14, 80, 480, 1)), conv("mbv3", 2, make(1, 14, 14, 112, 672, 1));
  conv("mbv3", 2, make(1, 7, 7, 160, 960, 1)), conv("mbv3", 2, make(1, 7, 7, 960, 960, 5, 1, 960));
  conv("mbv3", 2, make(1, 7, 7, 960, 160, 1), Act::kNone, true);
  conv("mbv3", 1, make(1, 1, 1, 960, 240, 1)), conv("mbv3", 1, make(1, 1, 1, 960, 1280, 1));
  conv("mbv3", 1, make(1, 1, 1, 1280, 1000, 1), Act::kNone);
}

void bert(const std::string& net, int64_t n) {
  conv(net, 48, make(1, 1, 128 * n, 768, 768, 1), Act::kNone);
  conv(net, 12, make(1, 1, 128 * n, 768, 2304, 1), Act::kNone);
  conv(net, 12, make(1, 1, 128 * n, 768, 3072, 1), Act::kGelu);
  conv(net, 12, make(1, 1, 128 * n, 3072, 768, 1), Act::kNone);
  cases.back().epilogue.residual = Epilogue::kAfter;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && !std::strcmp(argv[1], "bf16")) g_dtype = DType::kBFloat16;
  set_num_threads(argc > 2 ? std::atoi(argv[2]) : 0);
  const std::string filter = argc > 3 ? argv[3] : "";
  det(), rec("rec1", 1), rec("rec6", 6), mobilenet(), resnet("res1", 1), resnet("res8", 8);
  bert("bert1", 1), bert("bert8", 8);
  std::string net;
  double ms = 0, gmac = 0;
  const auto sum = [&] {
    if (gmac > 0) {
      std::printf("== %s: %.2f ms, %.3f GMAC, %.0f GFLOP/s\n", net.c_str(), ms, gmac,
                  2e3 * gmac / ms);
    }
    ms = gmac = 0;
  };
  for (const Case& c : cases) {
    if (c.name.find(filter) == std::string::npos) continue;
    const std::string group = c.name.substr(0, c.name.find(' '));
    if (group != net) sum();
    net = group;
    const Timed t = run(c);
    std::printf("%-40s x%-2d %8.3f ms %7.1f GFLOP/s %5.1f FLOP/cycle\n", c.name.c_str(), c.count,
                t.seconds * 1e3, t.seconds > 0 ? 2 * t.gmac / t.seconds : 0,
                t.seconds > 0 ? 2e9 * t.gmac / t.cycles : 0);
    ms += t.seconds * 1e3 * c.count, gmac += t.gmac * c.count;
  }
  sum();
  return 0;
}
