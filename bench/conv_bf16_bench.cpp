// Times the bfloat16 convolutions of whole networks, layer by layer:
//   conv_bf16_bench [net|all] [rounds] [threads, 0: all] [only layers whose names contain this]
//
// Layers run one after another on two activation buffers and their own weights, as in a network, so
// that caches are as warm as they would be there. Both figures are minima over the rounds.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "device/cpu/conv_impl.h"

namespace trireme::cpu {
namespace {

struct Layer {
  std::string name;
  ConvSpec spec, dw;  // dw: the depthwise part of a fused pair
  Epilogue epilogue, dw_epilogue;
  bool fused = false, scaled = false;
  std::unique_ptr<Conv> conv;
  void *weight = nullptr, *dw_weight = nullptr;
  double best = 1e30;
};

struct Net {
  std::string name;
  std::vector<Layer> layers;
  int64_t n = 1, h = 0, w = 0, c = 0;  // what the next layer reads
  Epilogue act;

  Net(const char* title, int64_t batch, int64_t height, int64_t width, int64_t channels)
      : name(title), n(batch), h(height), w(width), c(channels) {
    act.act = Act::kHardSwish, act.scale = 1.1f, act.shift = 0.1f;
  }
  ConvSpec spec(int64_t oc, int64_t kh, int64_t kw, int64_t sh, int64_t sw) const {
    ConvSpec s;
    s.n = n, s.h = h, s.w = w, s.ic = c, s.oc = oc, s.kh = kh, s.kw = kw, s.sh = sh, s.sw = sw;
    s.top = (kh - 1) / 2, s.left = (kw - 1) / 2;
    s.oh = (h + 2 * s.top - kh) / sh + 1, s.ow = (w + 2 * s.left - kw) / sw + 1;
    s.ldx = c, s.ldy = oc, s.dtype = DType::kBFloat16;
    return s;
  }
  void push(const char* kind, const ConvSpec& s) {
    char text[128];
    std::snprintf(text, sizeof text, "%s %ldx%ldx%ld->%ld k%ldx%ld s%ld,%ld", kind, long(s.h),
                  long(s.w), long(s.ic), long(s.oc), long(s.kh), long(s.kw), long(s.sh),
                  long(s.sw));
    layers.push_back({});
    layers.back().name = text, layers.back().spec = s, layers.back().epilogue = act;
    h = s.oh, w = s.ow, c = s.oc;
  }
  Net& at(int64_t hw, int64_t channels) { return h = w = hw, c = channels, *this; }
  Net& at(int64_t hh, int64_t ww, int64_t channels) { return h = hh, w = ww, c = channels, *this; }
  Net& conv(int64_t oc, int64_t k = 1, int64_t s = 1) {
    return push("conv", spec(oc, k, k, s, s)), *this;
  }
  Net& conv2(int64_t oc, int64_t kh, int64_t kw) {
    return push("conv", spec(oc, kh, kw, 1, 1)), *this;
  }
  Net& stem(int64_t oc, int64_t k) {
    ConvSpec s = spec(oc, k, k, 2, 2);
    s.x_planar = true;
    return push("stem", s), *this;
  }
  Net& dw(int64_t k, int64_t sh = 1, int64_t sw = 1) {
    ConvSpec s = spec(c, k, k, sh, sw);
    s.groups = c;
    return push("dw", s), *this;
  }
  Net& pair(int64_t oc, int64_t k, int64_t sh = 1, int64_t sw = 1) {  // depthwise, then 1x1
    ConvSpec d = spec(c, k, k, sh, sw);
    d.groups = c;
    h = d.oh, w = d.ow;
    push("dw+1x1", spec(oc, 1, 1, 1, 1));
    Layer& l = layers.back();
    l.dw = d, l.dw_epilogue = act, l.fused = true;
    l.name += " dw" + std::to_string(k) + " s" + std::to_string(sh) + "," + std::to_string(sw);
    return *this;
  }
  Net& scaled(int64_t oc) {
    conv(oc);
    layers.back().scaled = true;
    return *this;
  }
  Net& up(int64_t oc) {
    ConvSpec s = spec(oc, 2, 2, 1, 1);
    s.transposed = true, s.top = s.left = 0, s.oh = 2 * h, s.ow = 2 * w;
    return push("up", s), *this;
  }
  Net& with(Act a) { return act = Epilogue{a}, *this; }
};

Net detector() {
  Net n("det", 1, 640, 640, 3);
  n.stem(16, 3).pair(32, 3).pair(48, 3, 2, 2).pair(48, 3).pair(96, 3, 2, 2).pair(96, 3);
  n.pair(192, 3, 2, 2).pair(192, 5).pair(192, 5).pair(192, 5).pair(192, 5);
  n.pair(384, 5, 2, 2).pair(384, 5).pair(384, 5);
  n.with(Act::kNone).at(160, 48).conv(12).at(80, 96).conv(18).at(40, 192).conv(42);
  n.at(20, 384).conv(360).conv(96).at(40, 42).conv(96).at(80, 18).conv(96).at(160, 12).conv(96);
  for (int64_t hw : {20, 40, 80, 160}) n.at(hw, 96).conv(24, 3);
  n.with(Act::kRelu).at(160, 96).conv(24, 3).up(24).with(Act::kSigmoid).up(1);
  return n;
}

Net recognizer(const char* name, int64_t batch) {
  Net n(name, batch, 48, 320, 3);
  n.stem(16, 3).pair(32, 3).pair(64, 3).pair(64, 3).pair(128, 3, 2, 1).pair(128, 3);
  n.pair(240, 3, 1, 2).pair(240, 5).pair(240, 5).pair(240, 5).pair(240, 5);
  n.dw(5, 2, 1).at(1, 1, 240).conv(60).conv(240).at(6, 80, 240).scaled(480);
  n.dw(5).at(1, 1, 480).conv(120).conv(480).at(6, 80, 480).scaled(480);
  n.pair(480, 5, 2, 1).pair(480, 5).with(Act::kSwish).at(1, 40, 480).conv2(60, 1, 3).conv(120);
  n.with(Act::kNone).conv(360).at(1, 40, 120).conv(120).with(Act::kSwish).conv(240);
  n.with(Act::kNone).conv(120).conv(360).at(1, 40, 120).conv(120).with(Act::kSwish).conv(240);
  n.with(Act::kNone).conv(120).at(1, 40, 120).conv(480).at(1, 40, 960).conv2(60, 1, 3).conv(120);
  n.with(Act::kNone).conv(6625);
  return n;
}

Net mobilenet() {
  Net n("mbv3", 1, 224, 224, 3);
  struct Row {
    int64_t k, wide, out, se, s;
  };
  const Row rows[] = {{3, 16, 16, 0, 1},   {3, 64, 24, 0, 2},   {3, 72, 24, 0, 1},
                      {5, 72, 40, 1, 2},   {5, 120, 40, 1, 1},  {5, 120, 40, 1, 1},
                      {3, 240, 80, 0, 2},  {3, 200, 80, 0, 1},  {3, 184, 80, 0, 1},
                      {3, 184, 80, 0, 1},  {3, 480, 112, 1, 1}, {3, 672, 112, 1, 1},
                      {5, 672, 160, 1, 2}, {5, 960, 160, 1, 1}, {5, 960, 160, 1, 1}};
  n.stem(16, 3);
  for (const Row& r : rows) {
    if (r.wide != n.c) n.conv(r.wide);
    if (!r.se) {
      n.pair(r.out, r.k, r.s, r.s);
      continue;
    }
    n.dw(r.k, r.s, r.s);
    const int64_t hw = n.h;
    n.at(1, r.wide).conv(r.wide / 4).conv(r.wide).at(hw, r.wide).scaled(r.out);
  }
  n.conv(960).at(1, 960).conv(1280).conv(1000);
  return n;
}

Net resnet(const char* name, int64_t batch) {
  Net n(name, batch, 224, 224, 3);
  n.with(Act::kRelu).stem(64, 7).at(56, 64);
  const int64_t blocks[] = {3, 4, 6, 3};
  for (int64_t stage = 0; stage < 4; ++stage) {
    const int64_t mid = 64 << stage;
    for (int64_t b = 0; b < blocks[stage]; ++b) {
      const int64_t s = b == 0 && stage ? 2 : 1, h = n.h, c = n.c;
      if (b == 0) n.conv(4 * mid, 1, s);
      n.at(h, c).conv(mid).conv(mid, 3, s).conv(4 * mid);
    }
  }
  n.at(1, 2048).conv(1000);
  return n;
}

Net bert(const char* name, int64_t batch) {
  Net n(name, batch, 1, 128, 768);
  for (int i = 0; i < 12; ++i) {
    n.with(Act::kNone).conv(2304).at(1, 128, 768).conv(768).with(Act::kGelu).conv(3072);
    n.with(Act::kNone).conv(768);
  }
  return n;
}

// Large pages where it is large: with small ones the processor looks for pages half of its time.
void* memory(size_t bytes) {
  const size_t large = size_t{1} << 21, unit = bytes >= large / 2 ? large : 64;
  bytes = (bytes + unit + 64) / unit * unit;
  void* p = std::aligned_alloc(unit, bytes);
  if (unit == large) madvise(p, bytes, MADV_HUGEPAGE);
  std::memset(p, 0, bytes);
  return p;
}

void* packed(const ConvSpec& s) {
  std::vector<float> w(static_cast<size_t>(s.oc * (s.ic / s.groups) * s.kh * s.kw));
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 17) * 0.01f - 0.08f;
  void* p = memory(bf16::packed_bytes(s));
  bf16::pack(s, w.data(), p);
  return p;
}

double macs(const ConvSpec& s) {
  const double pixels = static_cast<double>(s.n * s.oh * s.ow * (s.ic / s.groups) * s.oc);
  return pixels * static_cast<double>(s.transposed ? 1 : s.kh * s.kw);
}

// With one thread, the time it had a core for: other programs then disturb only the caches.
double now_us() {
  timespec t;
  clock_gettime(num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) * 1e-3;
}

void bench(Net net, int rounds, bool each, const std::string& only) {
  std::erase_if(net.layers, [&](const Layer& l) { return l.name.find(only) == l.name.npos; });
  if (net.layers.empty()) return;
  size_t largest = 0, scratch = 0;
  double preparing = now_us(), work = 0;
  for (Layer& l : net.layers) {
    l.conv = l.fused ? bf16::create(l.dw, l.dw_epilogue, l.spec, l.epilogue)
                     : bf16::create(l.spec, l.epilogue);
    scratch = std::max(scratch, l.conv->scratch_bytes());
  }
  preparing = now_us() - preparing;
  for (Layer& l : net.layers) {
    l.weight = packed(l.spec);
    if (l.fused) l.dw_weight = packed(l.dw);
    const ConvSpec& first = l.fused ? l.dw : l.spec;
    largest = std::max({largest, static_cast<size_t>(first.n * first.h * first.w * first.ic) * 2,
                        static_cast<size_t>(l.spec.n * l.spec.oh * l.spec.ow * l.spec.oc) * 2});
    work += macs(l.spec) + (l.fused ? macs(l.dw) : 0);
  }
  void* buffers[2] = {memory(largest), memory(largest)};
  void* shared = memory(scratch);
  const std::vector<float> ones(1 << 16, 0.5f);
  double best = 1e30;
  for (int r = 0; r < rounds; ++r) {
    const double start = now_us();
    double before = start;
    for (size_t i = 0; i < net.layers.size(); ++i) {
      Layer& l = net.layers[i];
      ConvArgs a;
      a.x = buffers[i % 2], a.y = buffers[1 - i % 2], a.weight = l.weight, a.bias = ones.data();
      a.dw_weight = l.dw_weight, a.dw_bias = ones.data(), a.scratch = shared;
      if (l.scaled) a.input_scale = ones.data();
      l.conv->run(a);
      const double after = now_us();
      l.best = std::min(l.best, after - before);
      before = after;
    }
    best = std::min(best, now_us() - start);
  }
  double sum = 0;
  for (const Layer& l : net.layers) {
    sum += l.best;
    const double m = macs(l.spec) + (l.fused ? macs(l.dw) : 0);
    if (each)
      std::printf("  %8.1f us %7.1f GMAC/s  %s\n", l.best, m / l.best / 1e3, l.name.c_str());
  }
  std::printf("%-8s %7.3f ms in a row, %7.3f ms sum of minima, %6.2f GMAC, prepared in %.0f us\n",
              net.name.c_str(), best / 1e3, sum / 1e3, work / 1e9, preparing);
  for (Layer& l : net.layers) std::free(l.weight), std::free(l.dw_weight);
  std::free(buffers[0]), std::free(buffers[1]), std::free(shared);
}

}  // namespace
}  // namespace trireme::cpu

int main(int argc, char** argv) {
  using namespace trireme::cpu;
  if (!trireme::cpu_features().amx_bf16) return std::puts("no AMX here"), 0;
  const std::string which = argc > 1 ? argv[1] : "all";
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 50;
  if (argc > 3) trireme::set_num_threads(std::atoi(argv[3]));
  Net nets[] = {detector(),          recognizer("rec", 1), recognizer("rec6", 6), mobilenet(),
                resnet("resnet", 1), resnet("resnet8", 8), bert("bert", 1),       bert("bert8", 8)};
  for (Net& n : nets) {
    if (which == "all" || which == n.name)
      bench(std::move(n), rounds, which != "all", argc > 4 ? argv[4] : "");
  }
}
