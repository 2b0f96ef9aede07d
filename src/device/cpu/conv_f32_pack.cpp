// The packed form of float32 weights. What the kernels read: f32_kernels.h.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/parallel.h"
#include "device/cpu/conv_impl.h"
#include "device/cpu/f32_plan.h"

namespace trireme::cpu::f32 {
namespace {

// One set of panels; at(k, column) is the weight.
template <class At> void pack_set(int64_t k_total, int64_t oc, float* packed, At&& at) {
  parallel_for(panels_of(oc), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = panel_vector(oc, p) * kLanes;
      const int64_t width = panel_vector(oc, p + 1) * kLanes - first;
      float* panel = packed + first * k_total;
      std::memset(panel, 0, static_cast<size_t>(width * k_total) * sizeof(float));
      for (int64_t j = 0; j < std::min(width, oc - first); ++j) {
        for (int64_t k = 0; k < k_total; ++k) panel[k * width + j] = at(k, first + j);
      }
    }
  });
}

void pack_depthwise(const ConvSpec& s, const float* weight, float* packed) {
  const int64_t taps = s.kh * s.kw;
  for (int64_t c = 0; c < vectors_of(s.oc) * kLanes; ++c) {
    for (int64_t t = 0; t < taps; ++t) {
      packed[(c / kLanes * taps + t) * kLanes + c % kLanes] = c < s.oc ? weight[c * taps + t] : 0;
    }
  }
}

void pack_transposed(const ConvSpec& s, const float* weight, float* packed) {
  const int64_t taps = s.kh * s.kw;
  if (is_quad(s)) {
    pack_set(s.ic, taps, packed, [&](int64_t k, int64_t j) { return weight[k * taps + j]; });
    return;
  }
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    pack_set(s.ic, s.kw * s.oc, packed + ky * set_floats(s.ic, s.kw * s.oc),
             [&](int64_t k, int64_t j) {
               const int64_t kx = j / s.oc, o = j % s.oc;
               return weight[(k * s.oc + o) * taps + ky * s.kw + kx];
             });
  }
}

// Weight (o, c, tap) is at o * ic * taps + c * taps + tap; K runs over taps, then channels. Some
// channels at a time, so that a panel's share of them stays in the first-level cache.
void pack_taps(int64_t ic, int64_t taps, int64_t oc, const float* weight, float* packed) {
  constexpr int64_t kChannels = 8;
  const int64_t k_total = ic * taps;
  parallel_for(panels_of(oc), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = panel_vector(oc, p) * kLanes;
      const int64_t width = panel_vector(oc, p + 1) * kLanes - first;
      const int64_t used = std::min(width, oc - first);
      float* panel = packed + first * k_total;
      if (used < width) std::memset(panel, 0, bytes_of(width * k_total));
      for (int64_t c0 = 0; c0 < ic; c0 += kChannels) {
        const int64_t c1 = std::min(ic, c0 + kChannels);
        for (int64_t t = 0; t < taps; ++t) {
          for (int64_t c = c0; c < c1; ++c) {
            const float* from = weight + (first * ic + c) * taps + t;
            float* to = panel + (t * ic + c) * width;
            for (int64_t j = 0; j < used; ++j) to[j] = from[j * k_total];
          }
        }
      }
    }
  });
}

// G g G^T for sixteen output channels, element by element.
void winograd_lanes(const float (&g)[9][kLanes], float (&u)[16][kLanes]) {
  float rows[4][3][kLanes];
  for (int x = 0; x < 3; ++x) {
    for (int j = 0; j < kLanes; ++j) {
      const float a = g[x][j], b = g[3 + x][j], c = g[6 + x][j];
      rows[0][x][j] = a;
      rows[1][x][j] = 0.5f * (a + c + b);
      rows[2][x][j] = 0.5f * (a + c - b);
      rows[3][x][j] = c;
    }
  }
  for (int y = 0; y < 4; ++y) {
    for (int j = 0; j < kLanes; ++j) {
      const float a = rows[y][0][j], b = rows[y][1][j], c = rows[y][2][j];
      u[4 * y][j] = a;
      u[4 * y + 1][j] = 0.5f * (a + c + b);
      u[4 * y + 2][j] = 0.5f * (a + c - b);
      u[4 * y + 3][j] = c;
    }
  }
}

// Sixteen sets of panels.
void pack_winograd(const ConvSpec& s, const float* weight, float* packed) {
  const int64_t set = set_floats(s.ic, s.oc);
  parallel_for(panels_of(s.oc), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t v0 = panel_vector(s.oc, p), v1 = panel_vector(s.oc, p + 1);
      for (int64_t v = v0; v < v1; ++v) {
        const int64_t used = std::min<int64_t>(kLanes, s.oc - v * kLanes);
        float* to = packed + v0 * kLanes * s.ic + (v - v0) * kLanes;
        for (int64_t c = 0; c < s.ic; ++c, to += (v1 - v0) * kLanes) {
          float g[9][kLanes] = {}, u[16][kLanes];
          for (int64_t j = 0; j < used; ++j) {
            const float* from = weight + ((v * kLanes + j) * s.ic + c) * 9;
            for (int64_t t = 0; t < 9; ++t) g[t][j] = from[t];
          }
          winograd_lanes(g, u);
          for (int64_t e = 0; e < 16; ++e) std::memcpy(to + e * set, u[e], sizeof u[e]);
        }
      }
    }
  });
}

// One set of float16 and the columns' powers of two.
void pack_half(int64_t ic, int64_t taps, int64_t oc, const float* weight, float* packed) {
  const int64_t k_total = ic * taps;
  float* scales = packed + vectors_of(oc, kHalfLanes) * kLanes * k_total;
  parallel_for(panels_of(oc, kHalfLanes), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t v0 = panel_vector(oc, p, kHalfLanes), v1 = panel_vector(oc, p + 1, kHalfLanes);
      const int64_t width = (v1 - v0) * kHalfLanes;
      auto* panel = reinterpret_cast<uint16_t*>(packed + v0 * kLanes * k_total);
      std::memset(panel, 0, static_cast<size_t>(width * k_total) * sizeof(uint16_t));
      for (int64_t j = 0; j < width; ++j) {
        const int64_t o = v0 * kHalfLanes + j;
        scales[o] = 1;
        if (o >= oc) continue;
        const float* from = weight + o * k_total;
        float most = 0;
        for (int64_t k = 0; k < k_total; ++k) most = std::max(most, std::abs(from[k]));
        int exponent = 0;
        if (most > 0 && std::isfinite(most)) (void)std::frexp(most, &exponent);
        exponent = std::clamp(exponent, -120, 120);
        scales[o] = std::ldexp(1.0F, exponent);
        for (int64_t c = 0; c < ic; ++c)
          for (int64_t t = 0; t < taps; ++t)
            panel[(t * ic + c) * width + j] =
                float_to_half(std::ldexp(from[c * taps + t], -exponent));
      }
    }
  });
}

}  // namespace

size_t packed_bytes(const ConvSpec& s) {
  int64_t floats = 0;
  if (is_depthwise(s)) floats = vectors_of(s.oc) * kLanes * s.kh * s.kw;
  else if (is_quad(s)) floats = set_floats(s.ic, 4);
  else if (s.transposed) floats = s.kh * set_floats(s.ic, s.kw * s.oc);
  else floats = s.groups * weight_floats(s);
  if (is_winograd(s)) floats += 16 * set_floats(s.ic, s.oc);
  return bytes_of(floats);
}

void pack(const ConvSpec& s, const float* weight, void* out) {
  auto* packed = static_cast<float*>(out);
  if (is_depthwise(s)) return pack_depthwise(s, weight, packed);
  if (s.transposed) return pack_transposed(s, weight, packed);
  const int64_t ic = s.ic / s.groups, oc = s.oc / s.groups, taps = s.kh * s.kw, k_total = taps * ic;
  for (int64_t g = 0; g < s.groups; ++g) {
    const float* w = weight + g * oc * k_total;
    float* set = packed + g * weight_floats(s);
    if (halves(s)) pack_half(ic, taps, oc, w, set);
    else if (is_shallow(s)) pack_taps(k_total, 1, oc, w, set);
    else pack_taps(ic, taps, oc, w, set);
  }
  if (is_winograd(s)) pack_winograd(s, weight, packed + set_floats(k_total, oc));
}

}  // namespace trireme::cpu::f32
