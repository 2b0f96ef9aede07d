// Transposed convolutions, which are also the gradients of convolutions with respect to their
// input: one ordinary convolution for each phase of the stride, with the kernel's taps that meet
// it, turned round.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "device/cpu/conv_impl.h"

namespace trireme::cpu {
namespace {

// The outputs of one dimension that are `first`, `first` + stride, ... and the taps they see.
// Output first + stride i sums the inputs i + shift - j times tap[j].
struct Phase {
  int64_t first = 0, count = 0;  // outputs
  std::vector<int64_t> taps;     // indices into the kernel, in the order of the convolution
  int64_t before = 0;            // zeros before the input
  int64_t skip = 0;              // inputs that no output sees (instead of `before`)
  int64_t step = 1;              // dilation
};

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Output o gets input i through tap k where o = i stride + k dilation - pad.
std::vector<Phase> phases_of(int64_t out, int64_t kernel, int64_t stride, int64_t dilation,
                             int64_t pad) {
  std::vector<Phase> phases;
  for (int64_t first = 0; first < std::min(stride, out); ++first) {
    Phase p;
    p.first = first;
    p.count = (out - first + stride - 1) / stride;
    std::vector<int64_t> shifts;  // input minus output index of the phase
    for (int64_t k = kernel - 1; k >= 0; --k) {
      const int64_t at = first + pad - k * dilation;
      if (((at % stride) + stride) % stride != 0) continue;
      p.taps.push_back(k);
      shifts.push_back(floor_div(at, stride));
    }
    if (!shifts.empty()) {
      p.before = -shifts[0];
      if (shifts.size() > 1) p.step = shifts[1] - shifts[0];
    }
    if (p.before < 0) {
      p.skip = -p.before;
      p.before = 0;
    }
    phases.push_back(std::move(p));
  }
  return phases;
}

struct Part {
  Phase y, x;
  ConvSpec spec;
  std::unique_ptr<Conv> conv;  // null: no tap meets these outputs
  size_t packed = 0;           // offset into the packed weights
  bool empty() const { return y.taps.empty() || x.taps.empty(); }
};

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

std::vector<Part> parts_of(const ConvSpec& s) {
  std::vector<Part> parts;
  for (const Phase& y : phases_of(s.oh, s.kh, s.sh, s.dh, s.top)) {
    for (const Phase& x : phases_of(s.ow, s.kw, s.sw, s.dw, s.left)) {
      Part p{.y = y, .x = x, .spec = s, .conv = nullptr};
      ConvSpec& c = p.spec;
      c.transposed = false;
      c.kh = std::max<int64_t>(1, static_cast<int64_t>(y.taps.size()));
      c.kw = std::max<int64_t>(1, static_cast<int64_t>(x.taps.size()));
      c.sh = c.sw = 1;
      c.dh = y.step, c.dw = x.step;
      c.top = y.before, c.left = x.before;
      c.oh = y.count, c.ow = x.count;
      parts.push_back(std::move(p));
    }
  }
  return parts;
}

// Sets where each part's weights lie; returns their bytes.
size_t place_weights(std::vector<Part>& parts) {
  size_t at = 0;
  for (Part& p : parts) {
    p.packed = at;
    if (!p.empty()) at += aligned(Conv::packed_bytes(p.spec));
  }
  return at;
}

// Plans of other picture sizes have the same phases with taps, as long as no dimension of the
// output is smaller than its stride.
ConvSpec without_size(ConvSpec s) {
  s.oh = s.sh, s.ow = s.sw, s.n = s.h = s.w = 1;
  return s;
}

class Phased final : public Conv {
 public:
  Phased(const ConvSpec& s, std::vector<Part> parts) : spec_(s), parts_(std::move(parts)) {
    whole_ = parts_.size() == 1;
    for (const Part& p : parts_) {
      if (p.conv) inner_scratch_ = std::max(inner_scratch_, aligned(p.conv->scratch_bytes()));
      if (!whole_)
        result_ = std::max(result_, static_cast<size_t>(s.n * p.y.count * p.x.count * s.oc));
    }
  }

  size_t scratch_bytes() const override { return inner_scratch_ + result_ * size_of(spec_.dtype); }

  void run(const ConvArgs& args) const override {
    char* scratch = static_cast<char*>(args.scratch);
    for (const Part& p : parts_) {
      ConvArgs a = args;
      a.weight = static_cast<const char*>(args.weight) + p.packed;
      a.y = whole_ ? args.y : scratch + inner_scratch_;
      if (p.conv) p.conv->run(a);
      if (!whole_) spread(p, static_cast<const char*>(a.y), static_cast<char*>(args.y));
    }
  }

 private:
  // The part's outputs to their places between the others'.
  void spread(const Part& p, const char* from, char* y) const {
    const size_t element = size_of(spec_.dtype), pixel = static_cast<size_t>(spec_.oc) * element;
    const int64_t grain = std::max<int64_t>(1, 16384 / (p.x.count * spec_.oc));
    parallel_for(spec_.n * p.y.count, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t oy = p.y.first + r % p.y.count * spec_.sh, n = r / p.y.count;
        for (int64_t i = 0; i < p.x.count; ++i) {
          const int64_t ox = p.x.first + i * spec_.sw;
          char* to =
              y + static_cast<size_t>(((n * spec_.oh + oy) * spec_.ow + ox) * spec_.ldy) * element;
          if (p.conv) std::memcpy(to, from + static_cast<size_t>(r * p.x.count + i) * pixel, pixel);
          else std::memset(to, 0, pixel);
        }
      }
    });
  }

  ConvSpec spec_;
  std::vector<Part> parts_;
  bool whole_ = false;
  size_t inner_scratch_ = 0, result_ = 0;  // bytes; elements
};

}  // namespace

std::unique_ptr<Conv> make_phased(const ConvSpec& s, const Epilogue& epilogue) {
  if (epilogue.residual != Epilogue::kNone || s.oh < s.sh || s.ow < s.sw) return nullptr;
  std::vector<Part> parts = parts_of(s);
  place_weights(parts);
  for (Part& p : parts) {
    // A convolution's input begins where its padding does; leaving inputs out is left to others.
    if (p.y.skip > 0 || p.x.skip > 0) return nullptr;
    if (parts.size() > 1) p.spec.ldy = s.oc;
    if (p.empty()) {
      if (epilogue.act != Act::kNone || epilogue.shift != 0) return nullptr;
      continue;
    }
    p.conv = Conv::create(p.spec, epilogue);
    if (p.conv == nullptr) return nullptr;
  }
  return std::make_unique<Phased>(s, std::move(parts));
}

size_t phased_packed_bytes(const ConvSpec& s) {
  std::vector<Part> parts = parts_of(without_size(s));
  return place_weights(parts);
}

void phased_pack(const ConvSpec& s, const float* weight, void* packed) {
  std::vector<Part> parts = parts_of(without_size(s));
  place_weights(parts);
  const int64_t ig = s.ic / s.groups, og = s.oc / s.groups, area = s.kh * s.kw;
  for (const Part& p : parts) {
    if (p.empty()) continue;
    const int64_t taps = p.spec.kh * p.spec.kw;
    std::vector<int64_t> tap;
    for (const int64_t ky : p.y.taps)
      for (const int64_t kx : p.x.taps) tap.push_back(ky * s.kw + kx);
    std::vector<float> turned(static_cast<size_t>(s.oc * ig * taps));
    parallel_for(s.oc, std::max<int64_t>(1, 16384 / (ig * taps)),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t o = begin; o < end; ++o) {
                     float* to = turned.data() + o * ig * taps;
                     for (int64_t c = 0; c < ig; ++c, to += taps) {
                       const float* from = weight + ((o / og * ig + c) * og + o % og) * area;
                       for (int64_t t = 0; t < taps; ++t) to[t] = from[tap[static_cast<size_t>(t)]];
                     }
                   }
                 });
    Conv::pack(p.spec, turned.data(), static_cast<char*>(packed) + p.packed);
  }
}

}  // namespace trireme::cpu
