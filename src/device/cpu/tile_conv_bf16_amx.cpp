// Convolutions as products of tiles: where A comes from, and who does which part.
#include "device/cpu/tile_conv_bf16_amx.h"

#include "device/cpu/bf16_math_amx.h"
#include "device/cpu/gather_bf16_amx.h"
#include "device/cpu/line_ring_bf16_amx.h"
#include "device/cpu/padded_bf16_amx.h"
#include "device/cpu/tasks_amx.h"

namespace trireme::cpu::bf16 {
namespace {

constexpr int64_t kMaxTaps = 64;                // of the kRows mode
constexpr int64_t kResult = 4 * kTile * kTile;  // floats that a block gives
// Of run_parts(), measured: steps of K (more of them bring their weights from the second-level
// cache more often, fewer load and store the sums more often), and pixels.
constexpr int64_t kPart = 36;
constexpr int64_t kGroup = 128;

// A line of a result, or of what is added to it.
void fetch(const void* row) { _mm_prefetch(static_cast<const char*>(row), _MM_HINT_T1); }

}  // namespace

// A product: `pixels` of the chunk from `at` on, a panel, steps [k_begin, k_end) of K.
struct TileConv::Block {
  int64_t first, pixels, at;  // the chunk's first pixel, its length, where in it
  int64_t tile, width;        // tile columns
  int64_t k_begin, k_end;
  float* c;
};

// One thread's state.
struct TileConv::Task {
  const ConvArgs* args;
  Mode mode;
  bool backward;  // from the last pixel to the first
  int64_t group = 0;
  Bf16* blocks;  // copied A tiles, or the depthwise result
  Bf16* lines;
  LineRing ring;  // kRows of a layout by lines
  TileScope tiles;
  bool cold = true;             // the weights are not in the second-level cache yet
  const Bf16* below = nullptr;  // kRows: input to fetch, and how much
  int64_t below_lines = 0;
  int64_t image = 0, images = 0;  // kPadded: those in `blocks`
  int64_t segments = 1;
  Segment segment[kMaxTaps];
  // A block's results are finished only after the next product was issued, which so runs meanwhile.
  struct Result {
    int64_t first, rows = 0, tile, width, group;
    const float* c;
  };
  Result waiting;
  int current = 0;
  alignas(64) float c[kGroup * 2 * kTile];  // two results, or those of run_parts()
};

bool TileConv::serves(const ConvSpec& s) {
  const KLayout k = k_layout(s);
  if (k.joined && k.steps * k.step > kMaxJoined) return false;
  if (s.x_planar && (s.groups != 1 || s.ic > 4 || s.transposed)) return false;
  return !s.transposed || s.groups == 1;
}

TileConv::Mode TileConv::choose_mode(const ConvSpec& s, const KLayout& k) {
  if (k.lines) return Mode::kRows;
  if (!k.exact || s.x_planar) return Mode::kGather;
  const bool same_pixels = s.kh * s.kw == 1 && s.sh == 1 && s.sw == 1 && s.top == 0 &&
                           s.left == 0 && s.oh == s.h && s.ow == s.w;
  if (s.transposed || same_pixels) return Mode::kFlat;
  if (worth_padding(s, k, num_threads())) return Mode::kPadded;
  if (s.kh * s.kw > kMaxTaps) return Mode::kGather;
  // Tile instructions of 16 cycles wasted on short rows, against about 3 cycles to copy 64 bytes.
  const double tiles = static_cast<double>(ceil_div(s.oc / s.groups, kTile));
  const double waste = static_cast<double>(round_up(s.ow, kTile)) / static_cast<double>(s.ow);
  return waste * tiles <= tiles + 3 ? Mode::kRows : Mode::kGather;
}

TileConv::TileConv(const ConvSpec& spec, const Epilogue& epilogue)
    : spec_(spec),
      epilogue_(epilogue),
      mode_(choose_mode(spec, k_layout(spec))),
      k_(k_layout(spec)),
      finish_(find_epilogue(epilogue.act, false)) {
  set_sizes();
}

TileConv::TileConv(const ConvSpec& dw, const Epilogue& dw_epilogue, const ConvSpec& pw,
                   const Epilogue& epilogue)
    : spec_(pw),
      epilogue_(epilogue),
      mode_(Mode::kFused),
      k_(k_layout(pw)),
      finish_(find_epilogue(epilogue.act, false)),
      dw_(std::make_unique<Depthwise>(dw, dw_epilogue)),
      dw_spec_(dw) {
  set_sizes();
}

void TileConv::set_sizes() {
  const ConvSpec& s = spec_;
  threads_ = num_threads();
  pixels_ = s.transposed ? input_pixels(s) : output_pixels(s);
  columns_ = s.oc / s.groups;
  tap_tiles_ = ceil_div(columns_, kTile);
  tiles_ = tap_tiles_ * (s.transposed ? s.kh * s.kw : 1);
  row_block_ = k_.lines ? 128 : tiles_ == 1 ? 64 : 32;
  // Weights that stay in the second-level cache may be gone through often; large ones should not.
  const int64_t step_bytes = kMaxStep * static_cast<int64_t>(sizeof(Bf16));
  const int64_t a_row = k_.all_steps() * step_bytes;
  const int64_t weights = tiles_ * k_.all_steps() * kTile * step_bytes;
  const auto pick = [&](int64_t least, int64_t budget) {
    return round_up(larger(least, smaller<int64_t>(budget / a_row, 4096)), 64);
  };
  large_ = weights > 1 << 20;
  chunk_ = pick(64, large_ ? 768 << 10 : 64 << 10);
  gather_chunk_ = smaller(chunk_, pick(64, large_ ? 512 << 10 : 64 << 10));
  // Weights in the second-level cache may pass by for every two tiles of pixels, whose results then
  // go out as whole rows: memory far away likes neighbours.
  short_ = mode_ == Mode::kFlat && !large_;
  if (short_) chunk_ = 2 * kTile;
  if (mode_ == Mode::kGather) chunk_ = gather_chunk_;
  if (mode_ == Mode::kFused) {
    fused_ld_ = round_up(k_.steps * k_.step, kMaxStep);
    chunk_ = smaller<int64_t>(pick(32, 48 << 10), 256);
    task_bytes_ = (chunk_ + kTile) * fused_ld_ * 2;
  } else if (mode_ == Mode::kPadded) {
    images_ = smaller(larger<int64_t>(1, (768 << 10) / padded_bytes(s, 1)), s.n);
    task_bytes_ = padded_bytes(s, images_);
  } else if (k_.lines) {
    task_bytes_ = ring_bytes(s);
  } else if (mode_ == Mode::kRows) {
    task_bytes_ = k_.segments * row_block_ * (s.ic / s.groups) * 2;
  } else {
    const bool may_scale = s.kh * s.kw == 1 && !s.x_planar;
    if (mode_ == Mode::kGather || may_scale) {
      const int64_t n = smaller(gather_chunk_, round_up(pixels_, kTile));
      task_bytes_ = n * a_row + line_bytes(s, n);
    }
  }
  task_bytes_ = round_up(task_bytes_, 64);
}

// Threads share out either the pixels or the columns: whichever has them read less twice.
bool TileConv::split_columns(int64_t threads) const {
  if (mode_ == Mode::kFused || mode_ == Mode::kRows || tiles_ < 2 * threads) return false;
  if (mode_ == Mode::kPadded) return spec_.n % threads != 0;
  const int64_t a = pixels_ * k_.all_steps(), b = tiles_ * kTile * k_.all_steps();
  return pixels_ < 2 * kTile * threads || b > (mode_ == Mode::kGather ? 3 * a : a);
}

// Whether this run goes backward. Every second one of large results does: it begins where the one
// before it stopped, whose last results are still in the cache.
bool TileConv::take_turn(int64_t tasks) const {
  constexpr int64_t kLarge = 1 << 20;  // bytes, half of a second-level cache
  static thread_local bool turn = false;
  if (output_pixels(spec_) * spec_.ldy * 2 < kLarge * tasks) return false;
  return turn = !turn;
}

void TileConv::run(const ConvArgs& args) const {
  const ConvSpec& s = spec_;
  Mode mode = mode_;
  if (args.input_scale && mode == Mode::kFlat) mode = Mode::kGather;
  const double steps = static_cast<double>(tiles_ * k_.all_steps() * s.groups);
  double ns = static_cast<double>(ceil_div(pixels_, kTile)) * steps * 5 + steps * 50;
  ns += static_cast<double>(pixels_ * tiles_ * s.groups) * 3;
  if (dw_) ns += static_cast<double>(pixels_ * s.ic * (dw_spec_.kh * dw_spec_.kw + 8)) / 80;
  const int64_t row_blocks = ceil_div(s.ow, row_block_);
  const int64_t units = mode == Mode::kRows     ? s.n * s.oh * row_blocks
                        : mode == Mode::kPadded ? s.n
                                                : ceil_div(pixels_, kTile);
  int64_t tasks = smaller(useful_tasks(ns, larger(units, tiles_)), threads_);
  const bool by_columns = split_columns(tasks);
  if (!by_columns) tasks = smaller(tasks, units);
  const bool backward = !by_columns && take_turn(tasks);
  run_tasks(tasks, [&](int64_t i) {
    Task t;
    t.args = &args;
    t.mode = mode;
    t.backward = backward;
    t.blocks = static_cast<Bf16*>(args.scratch) + i * task_bytes_ / 2;
    const int64_t n = smaller(gather_chunk_, round_up(pixels_, kTile));
    t.ring.memory = t.blocks;
    t.lines = t.blocks + n * k_.all_steps() * kMaxStep;
    const int64_t all = by_columns ? tiles_ : units;
    const int64_t begin = all * i / tasks, end = all * (i + 1) / tasks;
    for (t.group = 0; t.group < s.groups; ++t.group) {
      if (by_columns) {
        run_range(t, 0, units, begin, end);
      } else {
        run_range(t, begin, end, 0, tiles_);
      }
    }
    finish_waiting(t);
  });
}

void TileConv::run_range(Task& t, int64_t unit0, int64_t unit1, int64_t tile0,
                         int64_t tile1) const {
  // [begin, end) in pieces of `most`, the last one shorter.
  const auto for_pieces = [&t](int64_t begin, int64_t end, int64_t most, auto piece) {
    const int64_t count = ceil_div(end - begin, most);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = begin + (t.backward ? count - 1 - i : i) * most;
      piece(at, smaller(most, end - at));
    }
  };
  if (t.mode == Mode::kRows) {
    const int64_t row_blocks = ceil_div(spec_.ow, row_block_);
    for_pieces(unit0, unit1, 1, [&](int64_t u, int64_t) {
      const int64_t x = u % row_blocks * row_block_;
      run_chunk(t, u / row_blocks * spec_.ow + x, smaller(row_block_, spec_.ow - x), tile0, tile1);
    });
    return;
  }
  if (t.mode == Mode::kPadded) {
    for_pieces(unit0, unit1, images_, [&](int64_t image, int64_t images) {
      t.image = image, t.images = images;
      run_chunk(t, 0, padded_pixels(spec_, images), tile0, tile1);
    });
    return;
  }
  for_pieces(unit0 * kTile, smaller(unit1 * kTile, pixels_),
             t.mode == Mode::kGather ? gather_chunk_ : chunk_,
             [&](int64_t p, int64_t count) { run_chunk(t, p, count, tile0, tile1); });
}

// Columns are taken in panels two tiles wide, pixels in blocks two tiles high; one to four and four
// to one where there are few. A panel stays in the first-level cache while the pixels pass.
void TileConv::run_chunk(Task& t, int64_t first, int64_t count, int64_t tile0,
                         int64_t tile1) const {
  prepare(t, first, count);
  for (int64_t tile = tile0; tile < tile1;) {
    const int64_t widest = count <= kTile ? 4 : 2;
    const int64_t rest = smaller(tap_tiles_ - tile % tap_tiles_, tile1 - tile);
    Block b{first, count, 0, tile, smaller(widest, rest), 0, k_.all_steps(), nullptr};
    if (t.mode == Mode::kPadded) {
      run_parts(t, b);
    } else {
      while (b.at < count) {
        b.c = t.c + t.current * kResult;
        t.current ^= 1;
        b.at += run_block(t, b);
      }
    }
    tile += b.width;
  }
  if (!large_) t.cold = false;
}

// A long K goes in parts, each for several blocks of pixels, so that all but the first of them find
// the part of the weights in the first-level cache.
void TileConv::run_parts(Task& t, Block b) const {
  const int64_t steps = k_.all_steps(), parts = ceil_div(steps, kPart);
  for (int64_t g = 0; g < b.pixels; g += kGroup) {
    finish_waiting(t);
    for (int64_t i = 0; i < parts; ++i) {
      b.k_begin = steps * i / parts, b.k_end = steps * (i + 1) / parts;
      for (b.at = g; b.at < smaller(g + kGroup, b.pixels);) {
        b.c = t.c + (b.at - g) * 2 * kTile;
        b.at += run_block(t, b);
      }
    }
  }
  finish_waiting(t);
}

void TileConv::prepare(Task& t, int64_t first, int64_t count) const {
  const auto* x = static_cast<const Bf16*>(t.args->x);
  if (k_.lines) return;  // a block at a time
  if (t.mode == Mode::kRows) return prepare_rows(t, first, count);
  if (t.mode == Mode::kPadded) {
    return pad_pictures(spec_, x + t.image * spec_.h * spec_.w * spec_.ldx, t.images, t.blocks);
  }
  if (t.mode == Mode::kGather) {
    const GatherJob job{&spec_, &k_, x, t.group, t.args->input_scale, t.lines};
    gather(job, first, count, t.blocks);
  }
  if (t.mode == Mode::kFused) {
    const DepthwiseArgs d{x, static_cast<const float*>(t.args->dw_weight), t.args->dw_bias, nullptr,
                          0};
    dw_->run(d, first, first + count, t.blocks, fused_ld_);
    const int64_t pad = fused_ld_ - spec_.ic;
    if (!k_.exact && pad) {
      for (int64_t i = 0; i < count; ++i) {
        _mm512_mask_storeu_epi16(t.blocks + i * fused_ld_ + spec_.ic, mask32(pad),
                                 _mm512_setzero_si512());
      }
    }
  }
}

// What the next output row (backward: the one before) needs of the input and this one does not, to
// be brought near meanwhile.
void TileConv::look_below(Task& t, int64_t first, int64_t count) const {
  const ConvSpec& s = spec_;
  const int64_t ox = first % s.ow, oy = first / s.ow % s.oh, n = first / s.ow / s.oh;
  const int64_t iy =
      t.backward ? (oy - 1) * s.sh - s.top : (oy + 1) * s.sh - s.top + (s.kh - 1) * s.dh;
  t.below_lines = 0;
  if (iy < 0 || iy >= s.h) return;
  const int64_t from = smaller(ox * s.sw, s.w), to = smaller((ox + count) * s.sw, s.w);
  t.below = static_cast<const Bf16*>(t.args->x) + ((n * s.h + iy) * s.w + from) * s.ldx;
  t.below_lines = ceil_div((to - from) * s.ldx, 32);
}

// A segment for each row of the window that sees the picture; returns how many.
int64_t TileConv::locate_lines(Task& t, int64_t first, int64_t tiles) const {
  const ConvSpec& s = spec_;
  const int64_t ox = first % s.ow, oy = first / s.ow % s.oh, n = first / s.ow / s.oh;
  int64_t segments = 0;
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    const int64_t iy = oy * s.sh - s.top + ky;
    if (iy < 0 || iy >= s.h) continue;
    const Bf16* line = line_of(s, static_cast<const Bf16*>(t.args->x), n, iy, t.ring);
    Segment& g = t.segment[segments++];
    g.steps = 1, g.b = ky * k_.step * kTile * 2;
    for (int64_t m = 0; m < tiles; ++m) {
      const int64_t pixel = s.sw * kLineChannels;
      g.a[m] = reinterpret_cast<const char*>(line + (ox + m * kTile) * pixel);
      g.stride[m] = pixel * 2;
    }
  }
  return segments;
}

// A segment for each tap that sees the picture. Rows of A beyond the block's pixels may hold
// anything, as long as it is memory of ours.
void TileConv::prepare_rows(Task& t, int64_t first, int64_t count) const {
  const ConvSpec& s = spec_;
  const int64_t channels = s.ic / s.groups, base = t.group * channels;
  const auto* x = static_cast<const Bf16*>(t.args->x);
  const int64_t ox = first % s.ow, oy = first / s.ow % s.oh, n = first / s.ow / s.oh;
  Bf16* copy = t.blocks;
  t.segments = 0;
  look_below(t, first, count);
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    const int64_t iy = oy * s.sh - s.top + ky * s.dh;
    if (iy < 0 || iy >= s.h) continue;
    for (int64_t kx = 0; kx < s.kw; ++kx) {
      Segment& g = t.segment[t.segments++];
      g.steps = k_.steps;
      g.b = (ky * s.kw + kx) * k_.steps * k_.step * kTile * 2;
      for (int64_t m = 0; m * kTile < count; ++m) {
        const int64_t ix = (ox + m * kTile) * s.sw - s.left + kx * s.dw;
        const int64_t pixels = smaller<int64_t>(kTile, count - m * kTile);
        const int64_t at = (n * s.h + iy) * s.w + ix;
        const bool inside =
            ix >= 0 && ix + (pixels - 1) * s.sw < s.w && at + (kTile - 1) * s.sw < input_pixels(s);
        if (inside) {
          g.a[m] = reinterpret_cast<const char*>(x + at * s.ldx + base);
          g.stride[m] = s.sw * s.ldx * 2;
        } else {
          copy_tap(s, x, base, channels, {n, iy, ix}, pixels, copy);
          g.a[m] = reinterpret_cast<const char*>(copy);
          g.stride[m] = channels * 2;
          copy += kTile * channels;
        }
      }
    }
  }
}

// One product; returns how many pixels it took.
int64_t TileConv::run_block(Task& t, const Block& b) const {
  const int64_t left = b.pixels - b.at, most = b.width == 1 ? 4 : b.width == 2 ? 2 : 1;
  int64_t m = smaller(ceil_div(left, kTile), most), rows = kTile;
  // The last pixels of the whole picture have no memory behind them that a full tile could read.
  if (t.mode == Mode::kFlat && b.first + b.at + m * kTile > pixels_) {
    if (m == 1) rows = pixels_ - b.first - b.at;
    if (m > 1) --m;
  }
  t.tiles.use(k_.step, rows);
  const int64_t step_bytes = k_.step * 2, b_tile = k_.b_tile() * 2;
  TileJob job{t.segment,
              t.segments,
              t.mode == Mode::kGather ? kTileElements * 2 : step_bytes,
              step_bytes * kTile,
              static_cast<const char*>(t.args->weight),
              b_tile,
              b.c,
              b.k_begin > 0,
              {}};
  job.b += (t.group * tiles_ + b.tile) * b_tile;
  if (k_.lines) {
    job.count = locate_lines(t, b.first + b.at, m);
  } else if (t.mode == Mode::kPadded) {
    job.count = padded_segments(spec_, t.blocks, b.at, m, b.k_begin, b.k_end, t.segment);
  } else if (t.mode != Mode::kRows) {
    Segment& s = t.segment[0];
    s.b = b.k_begin * job.b_step, s.steps = b.k_end - b.k_begin;
    for (int64_t i = 0; i < m; ++i) {
      locate(t, b.first, b.at + i * kTile, i, s);
      s.a[i] += b.k_begin * job.a_step;
    }
    job.count = 1;
  }
  look_ahead(t, b, m, job);
  look_at_results(t, b, smaller(m * kTile, left));
  multiply(static_cast<int>(m), static_cast<int>(b.width), job);
  const int64_t done = smaller(m * kTile, left);
  if (t.mode == Mode::kRows || b.k_end == k_.all_steps()) {
    finish_waiting(t);
    t.waiting = {b.first + b.at, done, b.tile, b.width, t.group, b.c};
  }
  return done;
}

// What comes from far is asked for early: as long as the weights are not in the second-level cache,
// each block's share of the next panel, else the pixels that are next. The hardware would fetch
// them, too, but at the pace of one page and one miss after the other.
void TileConv::look_ahead(const Task& t, const Block& b, int64_t m, TileJob& job) const {
  const ConvSpec& s = spec_;
  const int64_t steps = k_.all_steps();
  // The part of [from, from + pixels) of an array that this product of `shares` brings.
  const auto share = [&](const void* base, int64_t ld, int64_t from, int64_t pixels, int64_t part,
                         int64_t shares) {
    const int64_t lines = ceil_div(pixels * ld * 2, 64 * shares * steps);
    return Ahead{static_cast<const char*>(base) + from * ld * 2 + part * steps * lines * 64, lines};
  };
  if (t.mode == Mode::kRows) {
    if (b.tile == 0)
      job.ahead[0] = {reinterpret_cast<const char*>(t.below),
                      ceil_div(t.below_lines, larger<int64_t>(1, t.segments) * k_.steps)};
  } else if (t.cold) {
    const int64_t blocks = ceil_div(b.pixels, m * kTile), lines = b.width * job.b_step / 64;
    const int64_t each = ceil_div(lines, blocks);
    const int64_t before = b.at / (m * kTile) * steps + b.k_begin;
    job.ahead[0] = {job.b + b.width * job.b_tile + before * each * 64, each};
  } else if (t.mode == Mode::kFlat && short_) {
    const int64_t next = t.backward ? b.first - chunk_ : b.first + chunk_;
    if (next < 0 || next + chunk_ > pixels_) return;
    const int64_t panels = ceil_div(tiles_, b.width), panel = b.tile / b.width;
    const bool adds = epilogue_.residual != Epilogue::kNone;
    job.ahead[0] = share(t.args->x, s.ldx, next, chunk_, panel, panels);
    if (s.transposed) return;
    job.ahead[1] = share(adds ? t.args->residual : t.args->y, adds ? t.args->ldr : s.ldy, next,
                         chunk_, panel, panels);
  } else if (t.mode == Mode::kFlat && b.tile == 0) {
    const int64_t next = b.first + b.at + m * kTile;
    if (next + m * kTile <= pixels_) job.ahead[0] = share(t.args->x, s.ldx, next, m * kTile, 0, 1);
  }
}

// Where this product's results go, unless look_ahead() has asked for it.
void TileConv::look_at_results(const Task& t, const Block& b, int64_t rows) const {
  const bool flat = t.mode == Mode::kFlat && !short_;
  if (spec_.transposed || (!flat && t.mode != Mode::kRows && t.mode != Mode::kGather)) return;
  const int64_t first = b.first + b.at, column = t.group * columns_ + b.tile * kTile;
  const auto* y = static_cast<const Bf16*>(t.args->y) + first * spec_.ldy + column;
  for (int64_t i = 0; i < rows; ++i) fetch(y + i * spec_.ldy);
  if (!epilogue_.residual || t.args->residual == t.args->y) return;
  const auto* r = static_cast<const Bf16*>(t.args->residual) + first * t.args->ldr + column;
  for (int64_t i = 0; i < rows; ++i) fetch(r + i * t.args->ldr);
}

// Tile i of a block, at pixel `first` + `at`.
void TileConv::locate(const Task& t, int64_t first, int64_t at, int64_t i, Segment& s) const {
  const Bf16* a = nullptr;
  switch (t.mode) {
    case Mode::kFlat:
      a = static_cast<const Bf16*>(t.args->x) + (first + at) * spec_.ldx +
          t.group * (spec_.ic / spec_.groups);
      s.stride[i] = spec_.ldx * 2;
      break;
    case Mode::kGather:
      a = t.blocks + at / kTile * k_.all_steps() * kTileElements;
      s.stride[i] = kMaxStep * 2;
      break;
    default: a = t.blocks + at * fused_ld_; s.stride[i] = fused_ld_ * 2;
  }
  s.a[i] = reinterpret_cast<const char*>(a);
}

void TileConv::finish_waiting(Task& t) const {
  const ConvSpec& s = spec_;
  const ConvArgs& args = *t.args;
  const auto [first, rows, tile, width, group, c] = t.waiting;
  if (rows == 0) return;
  t.waiting.rows = 0;
  const int64_t tap = tile / tap_tiles_;
  for (int64_t w = 0; w < width; w += 2) {
    const int64_t column = (tile % tap_tiles_ + w) * kTile;
    const int64_t channel = group * columns_ + column;
    EpilogueBlock e{c + w * kTile, width * kTile, rows,    0,    nullptr,
                    nullptr,       args.ldr,      nullptr, s.ldy};
    e.cols = smaller(smaller(width - w, int64_t{2}) * kTile, columns_ - column);
    if (args.bias) e.bias = args.bias + channel;
    if (s.transposed) {
      store_rows(t, e, first, tap, column);
      continue;
    }
    if (t.mode == Mode::kPadded) {
      store_padded(t, e, first, channel);
      continue;
    }
    if (epilogue_.residual) {
      e.residual = static_cast<const Bf16*>(args.residual) + first * args.ldr + channel;
    }
    e.y = static_cast<Bf16*>(args.y) + first * s.ldy + channel;
    finish_(epilogue_, e);
  }
}

void TileConv::store_padded(const Task& t, EpilogueBlock e, int64_t first, int64_t channel) const {
  const ConvSpec& s = spec_;
  const int64_t line = s.w + 1, end = first + e.rows;
  for (int64_t p = first; p < end; p = (p / line + 1) * line) {
    const int64_t x = p % line, row = p / line, y = row % (s.h + 1);
    if (x == s.w || y == s.h) continue;
    const int64_t pixel = ((t.image + row / (s.h + 1)) * s.h + y) * s.w + x;
    EpilogueBlock part = e;
    part.acc = e.acc + (p - first) * e.acc_ld;
    part.rows = smaller(end - p, s.w - x);
    part.y = static_cast<Bf16*>(t.args->y) + pixel * s.ldy + channel;
    if (epilogue_.residual) {
      part.residual = static_cast<const Bf16*>(t.args->residual) + pixel * e.ldr + channel;
    }
    finish_(epilogue_, part);
  }
}

// Transposed: an input row's pixels go to every kw-th pixel of an output row.
void TileConv::store_rows(const Task& t, EpilogueBlock e, int64_t first, int64_t tap,
                          int64_t column) const {
  const ConvSpec& s = spec_;
  const int64_t ky = tap / s.kw, kx = tap % s.kw, end = first + e.rows;
  for (int64_t p = first; p < end;) {
    const int64_t x = p % s.w, row = p / s.w;
    const int64_t pixel = (row * s.kh + ky) * s.ow + x * s.kw + kx;
    EpilogueBlock part = e;
    part.acc = e.acc + (p - first) * e.acc_ld;
    part.rows = smaller(end - p, s.w - x);
    part.y = static_cast<Bf16*>(t.args->y) + pixel * s.ldy + column;
    part.ldy = s.kw * s.ldy;
    if (epilogue_.residual) {
      part.residual = static_cast<const Bf16*>(t.args->residual) + pixel * t.args->ldr + column;
      part.ldr = s.kw * t.args->ldr;
    }
    finish_(epilogue_, part);
    p += part.rows;
  }
}

}  // namespace trireme::cpu::bf16
