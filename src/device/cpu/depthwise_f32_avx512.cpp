// Depthwise convolutions for AVX-512: tiles of a few output pixels, sixteen channels at a time.
#include "device/cpu/f32_kernels.h"
#include "device/cpu/f32_math_avx512.h"
#include "device/cpu/immintrin_quiet.h"

namespace trireme::cpu::f32 {
namespace {

template <int kH, int kW, int kSh, int kSw> struct Window {
  static constexpr int kRows = kSh == 1 ? 2 : 1;  // outputs of a tile
  static constexpr int kCols = kH >= 5 ? 8 : 4;   // larger windows pay for more sums at a time
  static constexpr int kInRows = (kRows - 1) * kSh + kH;
  static constexpr int kInCols = (kCols - 1) * kSw + kW;
};

// Where a tile reads and writes. At a border every input pixel has its own pointer (a zero pixel
// stands for padding), inside a pointer per row is enough.
template <class W> struct Tile {
  const float* pixel[W::kInRows][W::kInCols];
  const float* row[W::kInRows];
  float* y[W::kRows];
  const float* r[W::kRows] = {};
  int rows = W::kRows, cols = W::kCols;   // how many of the outputs exist
  int in_begin = 0, in_end = W::kInRows;  // the input rows inside the picture
};

template <bool kMasked> TRI_INLINE __m512 load(const float* p, __mmask16 mask) {
  if constexpr (kMasked) return _mm512_maskz_loadu_ps(mask, p);
  return _mm512_loadu_ps(p);
}

// Sixteen channels of one tile, from channel c on.
template <int kH, int kW, int kSh, int kSw, bool kBorder, bool kMasked>
TRI_INLINE void tile_vector(const DepthwiseRun& run, const Tile<Window<kH, kW, kSh, kSw>>& tile,
                            int64_t c, __mmask16 mask) {
  using W = Window<kH, kW, kSh, kSw>;
  constexpr int kCols = W::kCols;
  constexpr int kOut = W::kRows * kCols;
  const float* w = run.w + c * (kH * kW);
  const int64_t ldx = run.spec->ldx;
  __m512 acc[kOut];
  const __m512 bias = run.bias ? load<kMasked>(run.bias + c, mask) : _mm512_setzero_ps();
#pragma GCC unroll 16
  for (int i = 0; i < kOut; ++i) acc[i] = bias;
#pragma GCC unroll 16
  for (int r = 0; r < W::kInRows; ++r) {
    if (r < tile.in_begin || r >= tile.in_end) continue;
    const float* row = kBorder ? nullptr : tile.row[r] + c;
    if constexpr (!kBorder) asm("" : "+r"(row));  // one address register a row
#pragma GCC unroll 20
    for (int i = 0; i < W::kInCols; ++i) {
      const float* p = kBorder ? tile.pixel[r][i] + c : row + i * ldx;
      const __m512 x = load<kMasked>(p, mask);
#pragma GCC unroll 2
      for (int tr = 0; tr < W::kRows; ++tr) {
        const int ky = r - tr * kSh;
        if (ky < 0 || ky >= kH) continue;
#pragma GCC unroll 8
        for (int tc = 0; tc < kCols; ++tc) {
          const int kx = i - tc * kSw;
          if (kx < 0 || kx >= kW) continue;
          const __m512 weight = _mm512_loadu_ps(w + (ky * kW + kx) * kLanes);
          acc[tr * kCols + tc] = _mm512_fmadd_ps(x, weight, acc[tr * kCols + tc]);
        }
      }
    }
  }
  const Epilogue& e = *run.epilogue;
  const auto residual = [&] {
    for (int i = 0; i < kOut; ++i) {
      const int tr = i / kCols, tc = i % kCols;
      if (tr >= tile.rows || tc >= tile.cols) continue;
      acc[i] = _mm512_add_ps(acc[i], load<kMasked>(tile.r[tr] + tc * run.ldr + c, mask));
    }
  };
  if (e.residual == Epilogue::kBeforeAct) residual();
  activate_all(acc, e);
  if (e.residual == Epilogue::kAfter) residual();
#pragma GCC unroll 2
  for (int tr = 0; tr < W::kRows; ++tr) {
    if (kBorder && tr >= tile.rows) break;
#pragma GCC unroll 8
    for (int tc = 0; tc < kCols; ++tc) {
      if (kBorder && tc >= tile.cols) break;
      float* y = tile.y[tr] + tc * run.ldy + c;
      if constexpr (kMasked) _mm512_mask_storeu_ps(y, mask, acc[tr * kCols + tc]);
      else _mm512_storeu_ps(y, acc[tr * kCols + tc]);
    }
  }
}

template <int kH, int kW, int kSh, int kSw, bool kBorder>
TRI_INLINE void tile_channels(const DepthwiseRun& run, const Tile<Window<kH, kW, kSh, kSw>>& tile) {
  const int64_t channels = run.spec->oc, full = channels & ~int64_t{kLanes - 1};
  for (int64_t c = 0; c < full; c += kLanes) {
    tile_vector<kH, kW, kSh, kSw, kBorder, false>(run, tile, c, 0xffff);
  }
  if (full < channels) {
    const auto mask = static_cast<__mmask16>((1u << (channels - full)) - 1);
    tile_vector<kH, kW, kSh, kSw, kBorder, true>(run, tile, full, mask);
  }
}

// Tiles from column ox on that lie inside the picture; returns how many columns follow the first.
template <int kH, int kW, int kSh, int kSw>
TRI_INLINE int64_t inner_tiles(const DepthwiseRun& run, Tile<Window<kH, kW, kSh, kSw>>& tile,
                               int64_t ox) {
  using W = Window<kH, kW, kSh, kSw>;
  constexpr int kCols = W::kCols;
  const ConvSpec& s = *run.spec;
  const int64_t room = (s.w + s.left - W::kInCols - ox * kSw) / (kCols * kSw);
  const int64_t more = (run.col_end - ox) / kCols - 1;
  const int64_t tiles = (room < more ? room : more) + 1;
  for (int64_t i = 0; i < tiles; ++i) {
    tile_channels<kH, kW, kSh, kSw, false>(run, tile);
    for (int r = tile.in_begin; r < tile.in_end; ++r) tile.row[r] += kCols * kSw * s.ldx;
    for (int r = 0; r < W::kRows; ++r) {
      tile.y[r] += kCols * run.ldy;
      if (tile.r[r]) tile.r[r] += kCols * run.ldr;
    }
  }
  return (tiles - 1) * kCols;
}

template <int kH, int kW, int kSh, int kSw> void windowed(const DepthwiseRun& run) {
  using W = Window<kH, kW, kSh, kSw>;
  constexpr int kCols = W::kCols;
  const ConvSpec& s = *run.spec;
  Tile<W> tile;
  for (int64_t oy = run.row_begin; oy < run.row_end; oy += W::kRows) {
    const int64_t y0 = oy * kSh - s.top;
    const bool whole_rows = oy + W::kRows <= run.row_end;
    tile.in_begin = static_cast<int>(y0 < 0 ? -y0 : 0);
    tile.in_end = static_cast<int>(s.h - y0 < W::kInRows ? s.h - y0 : W::kInRows);
    tile.rows = static_cast<int>(run.row_end - oy < W::kRows ? run.row_end - oy : W::kRows);
    for (int64_t ox = run.col_begin; ox < run.col_end; ox += kCols) {
      const int64_t x0 = ox * kSw - s.left;
      tile.cols = static_cast<int>(run.col_end - ox < kCols ? run.col_end - ox : kCols);
      for (int tr = 0; tr < tile.rows; ++tr) {
        const int64_t i = (oy + tr - run.row_begin), j = ox - run.col_begin;
        tile.y[tr] = run.y + i * run.y_row + j * run.ldy;
        tile.r[tr] = run.residual ? run.residual + i * run.r_row + j * run.ldr : nullptr;
      }
      if (whole_rows && x0 >= 0 && x0 + W::kInCols <= s.w && tile.cols == kCols) {
        for (int r = tile.in_begin; r < tile.in_end; ++r)
          tile.row[r] = run.x + ((y0 + r) * s.w + x0) * s.ldx;
        ox += inner_tiles<kH, kW, kSh, kSw>(run, tile, ox);
        continue;
      }
      for (int r = tile.in_begin; r < tile.in_end; ++r) {
        for (int i = 0; i < W::kInCols; ++i) {
          const int64_t y = y0 + r, x = x0 + i;
          tile.pixel[r][i] = x >= 0 && x < s.w ? run.x + (y * s.w + x) * s.ldx : run.zeros;
        }
      }
      tile_channels<kH, kW, kSh, kSw, true>(run, tile);
    }
  }
}

// Any kernel, stride and dilation: a pixel at a time, taps outside the picture left out.
void any_pixel(const DepthwiseRun& run, int64_t oy, int64_t ox) {
  const ConvSpec& s = *run.spec;
  const int64_t y0 = oy * s.sh - s.top, x0 = ox * s.sw - s.left, taps = s.kh * s.kw;
  const int64_t i = oy - run.row_begin, j = ox - run.col_begin;
  float* y = run.y + i * run.y_row + j * run.ldy;
  const float* r = run.residual ? run.residual + i * run.r_row + j * run.ldr : nullptr;
  const Epilogue& e = *run.epilogue;
  for (int64_t c = 0; c < s.oc; c += kLanes) {
    const auto mask = static_cast<__mmask16>(s.oc - c >= kLanes ? 0xffff : (1u << (s.oc - c)) - 1);
    __m512 acc[1] = {run.bias ? _mm512_maskz_loadu_ps(mask, run.bias + c) : _mm512_setzero_ps()};
    for (int64_t ky = 0; ky < s.kh; ++ky) {
      const int64_t iy = y0 + ky * s.dh;
      if (iy < 0 || iy >= s.h) continue;
      for (int64_t kx = 0; kx < s.kw; ++kx) {
        const int64_t ix = x0 + kx * s.dw;
        if (ix < 0 || ix >= s.w) continue;
        const __m512 x = _mm512_maskz_loadu_ps(mask, run.x + (iy * s.w + ix) * s.ldx + c);
        const __m512 w = _mm512_loadu_ps(run.w + c * taps + (ky * s.kw + kx) * kLanes);
        acc[0] = _mm512_fmadd_ps(x, w, acc[0]);
      }
    }
    const auto residual = [&] {
      acc[0] = _mm512_add_ps(acc[0], _mm512_maskz_loadu_ps(mask, r + c));
    };
    if (e.residual == Epilogue::kBeforeAct) residual();
    activate_all(acc, e);
    if (e.residual == Epilogue::kAfter) residual();
    _mm512_mask_storeu_ps(y + c, mask, acc[0]);
  }
}

void any_window(const DepthwiseRun& run) {
  for (int64_t oy = run.row_begin; oy < run.row_end; ++oy) {
    for (int64_t ox = run.col_begin; ox < run.col_end; ++ox) any_pixel(run, oy, ox);
  }
}

}  // namespace

void depthwise(const DepthwiseRun& run) {
  const ConvSpec& s = *run.spec;
  if (s.kh != s.kw || s.dh != 1 || s.dw != 1 || s.sh > 2 || s.sw > 2) return any_window(run);
  const int64_t stride = s.sh * 10 + s.sw;
  if (s.kh == 3) {
    if (stride == 11) return windowed<3, 3, 1, 1>(run);
    if (stride == 22) return windowed<3, 3, 2, 2>(run);
    if (stride == 21) return windowed<3, 3, 2, 1>(run);
    return windowed<3, 3, 1, 2>(run);
  }
  if (s.kh == 5) {
    if (stride == 11) return windowed<5, 5, 1, 1>(run);
    if (stride == 22) return windowed<5, 5, 2, 2>(run);
    if (stride == 21) return windowed<5, 5, 2, 1>(run);
    return windowed<5, 5, 1, 2>(run);
  }
  return any_window(run);
}

}  // namespace trireme::cpu::f32
