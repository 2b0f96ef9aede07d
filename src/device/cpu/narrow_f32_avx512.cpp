// Narrow transposed convolutions with AVX-512: a row of the kernel's taps and outputs in registers.
#include "device/cpu/immintrin_quiet.h"
#include "device/cpu/narrow_f32.h"

namespace trireme::cpu::f32 {
namespace {

// y[r][0, width) += sum over c of x[c] * weight[r][c][0, width) for R rows of V vectors.
template <int R, int V>
void add_rows(const float* x, int64_t channels, const float* weight, float* y, int64_t row,
              int64_t width) {
  const auto last = static_cast<__mmask16>(0xffffu >> (V * 16 - width));
  __m512 sum[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v)
      sum[r][v] =
          _mm512_maskz_loadu_ps(v == V - 1 ? last : __mmask16{0xffff}, y + r * row + v * 16);
  for (int64_t c = 0; c < channels; ++c) {
    const __m512 s = _mm512_set1_ps(x[c]);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v)
        sum[r][v] = _mm512_fmadd_ps(s, _mm512_load_ps(weight + ((r * channels + c) * V + v) * 16),
                                    sum[r][v]);
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v)
      _mm512_mask_storeu_ps(y + r * row + v * 16, v == V - 1 ? last : __mmask16{0xffff}, sum[r][v]);
}

using AddRows = decltype(&add_rows<1, 1>);
constexpr AddRows kAddRows[2][5] = {
    {add_rows<1, 1>, add_rows<2, 1>, add_rows<3, 1>, add_rows<4, 1>, add_rows<5, 1>},
    {add_rows<1, 2>, add_rows<2, 2>, add_rows<3, 2>, add_rows<4, 2>, add_rows<5, 2>}};

}  // namespace

void narrow_image(const NarrowImage& a, const float* x, const float* weight, float* y) {
  const int64_t vectors = (a.width + 15) / 16;
  for (int64_t h = 0; h < a.h; ++h) {
    for (int64_t w = 0; w < a.w; ++w, x += a.ldx) {
      for (int64_t k = 0; k < a.kh; k += 5) {
        const int64_t rows = a.kh - k < 5 ? a.kh - k : 5;
        kAddRows[vectors - 1][rows - 1](x, a.ic, weight + k * a.ic * vectors * 16,
                                        y + (h + k) * a.row + w * a.oc, a.row, a.width);
      }
    }
  }
}

}  // namespace trireme::cpu::f32
