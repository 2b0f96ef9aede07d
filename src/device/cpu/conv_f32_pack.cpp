// The packed form of float32 weights. What the kernels read: f32_kernels.h.
#include <algorithm>
#include <cstring>

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

// G g G^T, element by element: sixteen sets of panels.
void pack_winograd(const ConvSpec& s, const float* weight, float* packed) {
  constexpr double kG[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  for (int e = 0; e < 16; ++e) {
    double outer[9];
    for (int t = 0; t < 9; ++t) outer[t] = kG[e / 4][t / 3] * kG[e % 4][t % 3];
    pack_set(s.ic, s.oc, packed + e * set_floats(s.ic, s.oc), [&](int64_t k, int64_t o) {
      const float* g = weight + (o * s.ic + k) * 9;
      double sum = 0;
      for (int t = 0; t < 9; ++t) sum += outer[t] * g[t];
      return static_cast<float>(sum);
    });
  }
}

}  // namespace

size_t packed_bytes(const ConvSpec& s) {
  int64_t floats = 0;
  if (is_depthwise(s)) floats = vectors_of(s.oc) * kLanes * s.kh * s.kw;
  else if (is_quad(s)) floats = set_floats(s.ic, 4);
  else if (s.transposed) floats = s.kh * set_floats(s.ic, s.kw * s.oc);
  else floats = s.groups * set_floats(s.kh * s.kw * (s.ic / s.groups), s.oc / s.groups);
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
    float* set = packed + g * set_floats(k_total, oc);
    if (taps == 1 || is_shallow(s)) {
      pack_set(k_total, oc, set, [&](int64_t k, int64_t o) { return w[o * k_total + k]; });
    } else {
      pack_set(k_total, oc, set,
               [&](int64_t k, int64_t o) { return w[o * k_total + k % ic * taps + k / ic]; });
    }
  }
  if (is_winograd(s)) pack_winograd(s, weight, packed + set_floats(k_total, oc));
}

}  // namespace trireme::cpu::f32
