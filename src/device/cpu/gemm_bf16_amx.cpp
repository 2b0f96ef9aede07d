// The AMX tile product and the packed form of its weights.
#include "device/cpu/gemm_bf16_amx.h"

#include "device/cpu/bf16_math_amx.h"
#include "device/cpu/line_ring_bf16_amx.h"

namespace trireme::cpu::bf16 {
namespace {

// Tiles 0-3 accumulate, 4 and 5 hold A, 6 and 7 hold B. The processor renames them, so that using
// 4 and 5 in turn for four tiles of A costs nothing, and one configuration serves all block shapes.
template <int kIndex> inline void load_a(const char* p, int64_t stride) {
  if constexpr (kIndex % 2 == 0) _tile_loadd(4, p, stride);
  if constexpr (kIndex % 2 == 1) _tile_loadd(5, p, stride);
}
template <int kIndex> inline void load_b(const char* p) {
  if constexpr (kIndex % 2 == 0) _tile_loadd(6, p, 64);
  if constexpr (kIndex % 2 == 1) _tile_loadd(7, p, 64);
}
template <int kC, int kA, int kB> inline void accumulate() {
  constexpr int kWhich = kC * 4 + (kA % 2) * 2 + kB % 2;
  if constexpr (kWhich == 0) _tile_dpbf16ps(0, 4, 6);
  if constexpr (kWhich == 4) _tile_dpbf16ps(1, 4, 6);
  if constexpr (kWhich == 5) _tile_dpbf16ps(1, 4, 7);
  if constexpr (kWhich == 6) _tile_dpbf16ps(1, 5, 6);
  if constexpr (kWhich == 8) _tile_dpbf16ps(2, 4, 6);
  if constexpr (kWhich == 10) _tile_dpbf16ps(2, 5, 6);
  if constexpr (kWhich == 13) _tile_dpbf16ps(3, 4, 7);
  if constexpr (kWhich == 14) _tile_dpbf16ps(3, 5, 6);
  if constexpr (kWhich == 15) _tile_dpbf16ps(3, 5, 7);
  static_assert(kWhich == 0 || (kWhich >= 4 && kWhich <= 6) || kWhich == 8 || kWhich == 10 ||
                kWhich >= 13);
}

// One tile of A against kN of B.
template <int kI, int kN> inline void row(const char* a, int64_t stride) {
  load_a<kI>(a, stride);
  accumulate<kI * kN, kI, 0>();
  if constexpr (kN > 1) accumulate<kI * kN + 1, kI, 1>();
}

inline void fetch(Ahead& ahead) {
  for (int64_t i = 0; i < ahead.lines; ++i, ahead.at += 64) _mm_prefetch(ahead.at, _MM_HINT_T1);
}

inline void clear() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Where accumulator kI of a block kN tiles wide lies in c.
template <int kI, int kN> inline float* place(float* c) {
  return c + kI / kN * (kTile * kN * kTile) + kI % kN * kTile;
}

template <int kTiles, int kN> inline void load_c(float* c) {
  constexpr int64_t kRow = kN * 64;
  _tile_loadd(0, (place<0, kN>(c)), kRow);
  if constexpr (kTiles > 1) _tile_loadd(1, (place<1, kN>(c)), kRow);
  if constexpr (kTiles > 2) _tile_loadd(2, (place<2, kN>(c)), kRow);
  if constexpr (kTiles > 3) _tile_loadd(3, (place<3, kN>(c)), kRow);
}
template <int kTiles, int kN> inline void store_c(float* c) {
  constexpr int64_t kRow = kN * 64;
  _tile_stored(0, (place<0, kN>(c)), kRow);
  if constexpr (kTiles > 1) _tile_stored(1, (place<1, kN>(c)), kRow);
  if constexpr (kTiles > 2) _tile_stored(2, (place<2, kN>(c)), kRow);
  if constexpr (kTiles > 3) _tile_stored(3, (place<3, kN>(c)), kRow);
}

template <int kM, int kN> void multiply_block(const TileJob& j) {
  j.add ? load_c<kM * kN, kN>(j.c) : clear();
  Ahead ahead0 = j.ahead[0], ahead1 = j.ahead[1];
  for (int64_t s = 0; s < j.count; ++s) {
    const Segment& g = j.segments[s];
    const char* b = j.b + g.b;
    int64_t a = 0;
    for (int64_t k = 0; k < g.steps; ++k, a += j.a_step, b += j.b_step) {
      load_b<0>(b);
      if constexpr (kN > 1) load_b<1>(b + j.b_tile);
      row<0, kN>(g.a[0] + a, g.stride[0]);
      if constexpr (kM > 1) row<1, kN>(g.a[1] + a, g.stride[1]);
      if constexpr (kM > 2) row<2, kN>(g.a[2] + a, g.stride[2]);
      if constexpr (kM > 3) row<3, kN>(g.a[3] + a, g.stride[3]);
      fetch(ahead0);
      fetch(ahead1);
    }
  }
  store_c<kM * kN, kN>(j.c);
}

// One tile of A, three or four of B: for blocks of at most 16 pixels.
template <int kN> void multiply_row(const TileJob& j) {
  j.add ? load_c<kN, kN>(j.c) : clear();
  Ahead ahead0 = j.ahead[0], ahead1 = j.ahead[1];
  for (int64_t s = 0; s < j.count; ++s) {
    const Segment& g = j.segments[s];
    const char* b = j.b + g.b;
    const char* a = g.a[0];
    for (int64_t k = 0; k < g.steps; ++k, a += j.a_step, b += j.b_step) {
      load_a<0>(a, g.stride[0]);
      load_b<0>(b);
      accumulate<0, 0, 0>();
      load_b<1>(b + j.b_tile);
      accumulate<1, 0, 1>();
      load_b<0>(b + 2 * j.b_tile);
      accumulate<2, 0, 0>();
      if constexpr (kN > 3) {
        load_b<1>(b + 3 * j.b_tile);
        accumulate<3, 0, 1>();
      }
      fetch(ahead0);
      fetch(ahead1);
    }
  }
  store_c<kN, kN>(j.c);
}

struct alignas(64) Palette {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

int64_t taps_in_k(const ConvSpec& s) { return s.transposed ? 1 : s.kh * s.kw; }

// Where column c, channel k, tap t of a group's weights lies in the caller's array.
struct Source {
  const float* w;
  int64_t column, channel;
  float at(int64_t c, int64_t k, int64_t t) const { return w[c * column + k * channel + t]; }
};

// 16 columns starting at `column`, all of K.
void pack_columns(const KLayout& layout, const Source& source, int64_t column, int64_t columns,
                  int64_t channels, int64_t taps, Bf16* out) {
  const int64_t all = layout.steps * layout.step, per = taps / layout.segments;  // of a segment
  const int64_t side = layout.lines ? kLineChannels : per > 1 ? channels : all;  // of a tap
  for (int64_t s = 0; s < layout.segments; ++s) {
    for (int64_t k = 0; k < all; k += 2) {
      for (int64_t c = 0; c < kTile; ++c) {
        for (int64_t h = 0; h < 2; ++h) {
          const int64_t tap = (k + h) / side, channel = (k + h) % side;
          const bool inside = c < columns && channel < channels && tap < per;
          *out++ = inside ? narrow(source.at(column + c, channel, s * per + tap)) : Bf16{0};
        }
      }
    }
  }
}

}  // namespace

KLayout k_layout(const ConvSpec& spec) {
  KLayout l;
  if (serves_lines(spec)) {
    l.lines = true;
    l.segments = spec.kh, l.steps = 1, l.step = kMaxStep;
    return l;
  }
  const int64_t channels = spec.ic / spec.groups, taps = taps_in_k(spec);
  l.joined = taps > 1 && channels < 16;
  l.segments = l.joined ? 1 : taps;
  const int64_t k = l.joined ? channels * taps : channels;
  const int64_t least = ceil_div(k, kMaxStep);
  // Up to a third more steps than needed still beats copying A.
  for (int64_t n = least; !l.joined && 3 * n <= 4 * least; ++n) {
    if (k % n || k / n % 2) continue;
    l.steps = n, l.step = k / n, l.exact = true;
    return l;
  }
  l.steps = least;
  l.step = round_up(ceil_div(k, least), 2);
  return l;
}

size_t packed_gemm_bytes(const ConvSpec& spec) {
  const int64_t copies = spec.groups * (spec.transposed ? spec.kh * spec.kw : 1);
  const int64_t tiles = ceil_div(spec.oc / spec.groups, kTile);
  return static_cast<size_t>(copies * tiles * k_layout(spec).b_tile()) * sizeof(Bf16);
}

void pack_gemm(const ConvSpec& spec, const float* weight, void* packed) {
  const KLayout layout = k_layout(spec);
  const int64_t channels = spec.ic / spec.groups, columns = spec.oc / spec.groups;
  const int64_t all_taps = spec.kh * spec.kw;
  auto* out = static_cast<Bf16*>(packed);
  for (int64_t g = 0; g < spec.groups; ++g) {
    for (int64_t t = 0; t < (spec.transposed ? all_taps : 1); ++t) {
      Source source{weight + g * columns * channels * all_taps, channels * all_taps, all_taps};
      if (spec.transposed) source = {weight + t, all_taps, columns * all_taps};
      for (int64_t c = 0; c < columns; c += kTile, out += layout.b_tile()) {
        pack_columns(layout, source, c, columns - c, channels, taps_in_k(spec), out);
      }
    }
  }
}

void multiply(int m, int n, const TileJob& job) {
  // The tile instructions tell the compiler nothing of what they read: stores must come first.
  asm volatile("" ::: "memory");
  switch (m * 10 + n) {
    case 11: return multiply_block<1, 1>(job);
    case 12: return multiply_block<1, 2>(job);
    case 13: return multiply_row<3>(job);
    case 14: return multiply_row<4>(job);
    case 21: return multiply_block<2, 1>(job);
    case 22: return multiply_block<2, 2>(job);
    case 31: return multiply_block<3, 1>(job);
    case 41: return multiply_block<4, 1>(job);
  }
}

void TileScope::use(int64_t step, int64_t rows) {
  if (step != step_ || rows != rows_) configure(step, rows, kTile);
}
void TileScope::use_narrow(int64_t step, int64_t columns) { configure(step, kTile, columns); }

void TileScope::configure(int64_t step, int64_t rows, int64_t columns) {
  step_ = step, rows_ = rows;
  Palette p;
  for (int i = 0; i < 8; ++i) {
    p.bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? 2 * step : 4 * columns);
    p.rows[i] = static_cast<uint8_t>(i < 6 ? rows : step / 2);
  }
  // As above: the compiler must have written the palette.
  asm volatile("" : : "r"(&p) : "memory");
  _tile_loadconfig(&p);
}

TileScope::~TileScope() {
  if (rows_) _tile_release();
}

}  // namespace trireme::cpu::bf16
