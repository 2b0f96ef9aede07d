// Float32 convolutions with a window, and depthwise followed by 1x1.
//
// Blocks of output rows go through the matrix kernel; what it reads lies in the input, or is first
// copied (padded, cut into planes) or computed into scratch.
#include <algorithm>
#include <cstring>
#include <vector>

#include "device/cpu/f32_plan.h"

namespace trireme::cpu::f32 {
namespace {

// Everything with a window: the input is read where it lies when no tap leaves the picture, else
// a block of it is first copied with its padding; or comes from a depthwise convolution.
class Windowed final : public Conv {
 public:
  enum class Source { kDirect, kPadded, kPlanes, kDepthwise };

  Windowed(const ConvSpec& spec, const Epilogue& epilogue) : spec_(spec), epilogue_(epilogue) {
    const int64_t bottom = (spec.oh - 1) * spec.sh + (spec.kh - 1) * spec.dh + 1 - spec.top;
    const int64_t right = (spec.ow - 1) * spec.sw + (spec.kw - 1) * spec.dw + 1 - spec.left;
    const bool inside = spec.top == 0 && spec.left == 0 && bottom <= spec.h && right <= spec.w;
    const bool planes = is_shallow(spec) && (spec.x_planar || spec.kh * spec.kw > 1);
    // float16 is made in a copy.
    const bool direct = inside && (spec.kh * spec.kw == 1 || !halves(spec));
    source_ = planes ? Source::kPlanes : direct ? Source::kDirect : Source::kPadded;
    plan(static_cast<double>(spec.ic) / 4);
  }

  Windowed(const ConvSpec& dw, const Epilogue& dw_epilogue, const ConvSpec& pw,
           const Epilogue& epilogue)
      : spec_(pw),
        epilogue_(epilogue),
        dw_(dw),
        dw_epilogue_(dw_epilogue),
        source_(Source::kDepthwise) {
    row_unit_ = depthwise_rows(dw, num_threads());
    plan(static_cast<double>(vectors_of(dw.ic) * (dw.kh * dw.kw + 4)) * 1.5);
  }

  size_t scratch_bytes() const override { return bytes_of(part_floats_ * grid_.count()); }
  // Whether every part has the depthwise result to itself and enough of it.
  bool worth_fusing() const { return grid_.panels == 1; }

  void run(const ConvArgs& args) const override {
    for_parts(grid_.count(), part_floats_, args.scratch, [&](int64_t i, float* scratch) {
      const Part part = part_at(work_, grid_, i);
      if (source_ == Source::kDepthwise) { std::memset(scratch, 0, bytes_of(zeros_)); }
      const std::vector<Rows>& blocks = blocks_[static_cast<size_t>(i)];
      for (int64_t g = 0; g < spec_.groups; ++g)
        for (size_t k = 0; k < blocks.size(); ++k)
          run_block(args, part, g, &blocks[k], k == 0, k + 1 < blocks.size(), scratch);
    });
  }

 private:
  void plan(double prepare_pixel);
  void plan_taps();
  void plan_blocks();
  // `rows` is one of blocks_, which `more` follow.
  void run_block(const ConvArgs& args, const Part& part, int64_t g, const Rows* rows, bool first,
                 bool more, float* scratch) const;
  void fetch_next(const ConvArgs& args, const Rows& rows, const Rows& next, GemmRun& run) const;
  const float* input(const ConvArgs& args, int64_t g, const Rows& rows, int64_t x0, int64_t x1,
                     float* scratch) const;
  void copy_padded(const float* x, const Rows& rows, int64_t x0, int64_t x1, float* out) const;
  void copy_planes(const float* x, const Rows& rows, int64_t x0, int64_t x1, float* out) const;

  int64_t in_rows(int64_t rows) const {
    return (rows - 1) * spec_.sh + (spec_.kh - 1) * spec_.dh + 1;
  }
  int64_t in_cols(int64_t cols) const {
    return (cols - 1) * spec_.sw + (spec_.kw - 1) * spec_.dw + 1;
  }

  ConvSpec spec_;
  Epilogue epilogue_;
  ConvSpec dw_;
  Epilogue dw_epilogue_;
  Source source_;
  int64_t ic_ = 0, oc_ = 0;  // of a group
  int64_t row_unit_ = 1, col_unit_ = 1;
  int64_t block_rows_ = 1, pitch_ = 0;  // scratch: floats between pixels
  int64_t width_ = 0, height_ = 0;      // scratch: pixels of a row, rows of a plane
  int64_t zeros_ = 0;                   // floats of zeros before the block
  int64_t part_floats_ = 0;
  int64_t tap_length_ = 0;
  std::vector<int64_t> taps_;
  Work work_;
  Grid grid_;
  std::vector<std::vector<Rows>> blocks_;  // of every part
};

void Windowed::plan(double prepare_pixel) {
  ic_ = spec_.ic / spec_.groups, oc_ = spec_.oc / spec_.groups;
  const int64_t lanes = lanes_of(spec_), vectors = vectors_of(oc_, lanes);
  const auto k_vectors = static_cast<double>(spec_.kh * spec_.kw * ic_ * vectors);
  col_unit_ = std::min(spec_.ow, vectors % 3 == 0 ? int64_t{9} : kTilePixels);
  if (spec_.ow % 4 == 0) col_unit_ = 4;  // what depthwise tiles like
  work_.lines = spec_.n * spec_.oh;
  work_.row_unit = row_unit_;
  work_.rows = ceil_div(work_.lines, row_unit_);
  work_.cols = ceil_div(spec_.ow, col_unit_);
  work_.panels = panels_of(oc_, lanes);
  const auto unit = static_cast<double>(row_unit_ * col_unit_);
  work_.cell = k_vectors * unit;
  work_.prepare = prepare_pixel * unit;
  work_.weights = 4 * k_vectors;
  grid_ = choose_grid(work_, num_threads());

  const int64_t cols = std::min(ceil_div(work_.cols, grid_.cols) * col_unit_, spec_.ow);
  width_ = in_cols(cols);
  pitch_ = pitch_of(ic_);
  const int64_t row_pixels = source_ == Source::kDepthwise ? cols : width_ * spec_.sh;
  const int64_t most = std::min(spec_.oh, ceil_div(work_.rows, grid_.rows) * row_unit_);
  block_rows_ = std::max(row_unit_, block_pixels(pitch_, spec_.kh * spec_.kw * ic_, oc_) /
                                        row_pixels / row_unit_ * row_unit_);
  block_rows_ = std::min(block_rows_, most);
  block_rows_ = round_up(ceil_div(most, ceil_div(most, block_rows_)), row_unit_);
  height_ = in_rows(block_rows_);
  switch (source_) {
    case Source::kDirect:  // only for an input scale, or for float16
      if (spec_.kh * spec_.kw == 1) part_floats_ = block_rows_ * cols * pitch_;
      break;
    case Source::kPadded: part_floats_ = height_ * width_ * pitch_; break;
    case Source::kPlanes: part_floats_ = height_ * width_ * ic_; break;
    case Source::kDepthwise:
      zeros_ = vectors_of(dw_.ic) * kLanes;
      part_floats_ = zeros_ + block_rows_ * cols * pitch_;
      break;
  }
  part_floats_ = round_up(part_floats_, kLanes);
  plan_taps();
  plan_blocks();
}

// Every other part goes upwards: rows that it shares with the one above, which are in another
// core's cache, come last and have been fetched by then.
void Windowed::plan_blocks() {
  for (int64_t i = 0; i < grid_.count(); ++i) {
    const Part part = part_at(work_, grid_, i);
    const int64_t end = std::min(part.row[1] * row_unit_, spec_.n * spec_.oh);
    std::vector<Rows>& blocks = blocks_.emplace_back();
    for_row_blocks(part.row[0] * row_unit_, end, spec_.oh, block_rows_,
                   [&](const Rows& rows) { blocks.push_back(rows); });
    if (i % 2 == 1) std::reverse(blocks.begin(), blocks.end());
  }
}

void Windowed::plan_taps() {
  const ConvSpec& s = spec_;
  tap_length_ = ic_;
  if (source_ == Source::kDepthwise) {
    taps_ = {0};
  } else if (source_ == Source::kPlanes) {
    const int64_t steps = s.dw == 1 ? 1 : s.kw;
    tap_length_ = s.kw / steps;
    for (int64_t c = 0; c < ic_; ++c) {
      for (int64_t ky = 0; ky < s.kh; ++ky) {
        for (int64_t kx = 0; kx < steps; ++kx) {
          taps_.push_back((c * height_ + ky * s.dh) * width_ + kx * s.dw);
        }
      }
    }
  } else {
    const bool direct = source_ == Source::kDirect;
    const int64_t pixel = direct ? s.ldx : pitch_, row = direct ? s.w * s.ldx : width_ * pitch_;
    const bool joined = s.dw == 1 && pixel == ic_;  // a row of the window is contiguous
    if (joined) tap_length_ = s.kw * ic_;
    for (int64_t ky = 0; ky < s.kh; ++ky) {
      for (int64_t kx = 0; kx < (joined ? 1 : s.kw); ++kx) {
        taps_.push_back(ky * s.dh * row + kx * s.dw * pixel);
      }
    }
  }
}

void Windowed::copy_padded(const float* x, const Rows& rows, int64_t x0, int64_t x1,
                           float* out) const {
  const ConvSpec& s = spec_;
  const int64_t first = x0 * s.sw - s.left, cols = in_cols(x1 - x0);
  const int64_t begin = std::clamp<int64_t>(-first, 0, cols);
  const int64_t end = std::clamp<int64_t>(s.w - first, begin, cols);
  for (int64_t r = 0; r < in_rows(rows.end - rows.begin); ++r, out += width_ * pitch_) {
    const int64_t y = rows.begin * s.sh - s.top + r;
    if (y < 0 || y >= s.h) {
      std::memset(out, 0, bytes_of(cols * pitch_));
      continue;
    }
    std::memset(out, 0, bytes_of(begin * pitch_));
    std::memset(out + end * pitch_, 0, bytes_of((cols - end) * pitch_));
    const float* in = x + (y * s.w + first) * s.ldx;
    if (s.ldx == pitch_ && s.groups == 1) {
      std::memcpy(out + begin * pitch_, in + begin * s.ldx, bytes_of((end - begin) * pitch_));
    } else {
      scale_pixels(in + begin * s.ldx, s.ldx, nullptr, end - begin, ic_, out + begin * pitch_,
                   pitch_);
    }
  }
}

void Windowed::copy_planes(const float* x, const Rows& rows, int64_t x0, int64_t x1,
                           float* out) const {
  const ConvSpec& s = spec_;
  const int64_t first = x0 * s.sw - s.left, cols = in_cols(x1 - x0);
  const int64_t begin = std::clamp<int64_t>(-first, 0, cols);
  const int64_t end = std::clamp<int64_t>(s.w - first, begin, cols);
  for (int64_t c = 0; c < ic_; ++c) {
    float* to = out + c * height_ * width_;
    for (int64_t r = 0; r < in_rows(rows.end - rows.begin); ++r, to += width_) {
      const int64_t y = rows.begin * s.sh - s.top + r;
      if (y < 0 || y >= s.h) {
        std::memset(to, 0, bytes_of(cols));
        continue;
      }
      std::memset(to, 0, bytes_of(begin));
      std::memset(to + end, 0, bytes_of(cols - end));
      if (s.x_planar) {
        const float* in = x + (c * s.h + y) * s.w + first;
        std::memcpy(to + begin, in + begin, bytes_of(end - begin));
      } else {
        const float* in = x + (y * s.w + first) * s.ldx + c;
        for (int64_t i = begin; i < end; ++i) to[i] = in[i * s.ldx];
      }
    }
  }
}

// Where the block's K inputs begin: pixel (0, 0) of the block, tap 0.
const float* Windowed::input(const ConvArgs& args, int64_t g, const Rows& rows, int64_t x0,
                             int64_t x1, float* scratch) const {
  const ConvSpec& s = spec_;
  const auto* x = static_cast<const float*>(args.x);
  switch (source_) {
    case Source::kDirect:
      return x + ((rows.image * s.h + rows.begin * s.sh) * s.w + x0 * s.sw) * s.ldx + g * ic_;
    case Source::kPadded:
      copy_padded(x + rows.image * s.h * s.w * s.ldx + g * ic_, rows, x0, x1, scratch);
      return scratch;
    case Source::kPlanes:
      copy_planes(x + rows.image * s.h * s.w * (s.x_planar ? s.ic : s.ldx), rows, x0, x1, scratch);
      return scratch;
    case Source::kDepthwise: break;
  }
  DepthwiseRun run;
  run.spec = &dw_;
  run.x = x + rows.image * dw_.h * dw_.w * dw_.ldx;
  run.w = static_cast<const float*>(args.dw_weight);
  run.bias = args.dw_bias;
  run.zeros = scratch;
  run.row_begin = rows.begin, run.row_end = rows.end;
  run.col_begin = x0, run.col_end = x1;
  run.y = scratch + zeros_;
  run.ldy = pitch_, run.y_row = (x1 - x0) * pitch_;
  run.epilogue = &dw_epilogue_;
  depthwise(run);
  return run.y;
}

// Has what the next block's depthwise part reads, and what it writes, fetched during the products
// of this one.
void Windowed::fetch_next(const ConvArgs& args, const Rows& rows, const Rows& next,
                          GemmRun& run) const {
  const auto begin = [&](const Rows& r) {
    return std::max<int64_t>(0, r.begin * dw_.sh - dw_.top);
  };
  const auto end = [&](const Rows& r) {
    return std::min(dw_.h, (r.end - 1) * dw_.sh - dw_.top + dw_.kh);
  };
  int64_t first = begin(next), last = end(next);
  if (next.image == rows.image && first >= begin(rows)) first = std::max(first, end(rows));
  else if (next.image == rows.image) last = std::min(last, begin(rows));
  const int64_t row = dw_.w * dw_.ldx, line = spec_.ow * spec_.ldy;
  run.ahead[0] = ahead_of(static_cast<const float*>(args.x) + (next.image * dw_.h + first) * row,
                          (last - first) * row);
  run.ahead[1] =
      ahead_of(static_cast<const float*>(args.y) + (next.image * spec_.oh + next.begin) * line,
               (next.end - next.begin) * line);
}

void Windowed::run_block(const ConvArgs& args, const Part& part, int64_t g, const Rows* block,
                         bool first, bool more, float* scratch) const {
  const ConvSpec& s = spec_;
  const Rows& rows = *block;
  const int64_t x0 = part.col[0] * col_unit_, x1 = std::min(part.col[1] * col_unit_, s.ow);
  GemmRun run;
  run.a = input(args, g, rows, x0, x1, scratch);
  run.rows = rows.end - rows.begin, run.width = x1 - x0;
  switch (source_) {
    case Source::kDirect: run.a_pixel = s.sw * s.ldx, run.a_row = s.sh * s.w * s.ldx; break;
    case Source::kPadded: run.a_pixel = s.sw * pitch_, run.a_row = s.sh * width_ * pitch_; break;
    case Source::kPlanes: run.a_pixel = s.sw, run.a_row = s.sh * width_; break;
    case Source::kDepthwise: run.a_pixel = pitch_, run.a_row = run.width * pitch_; break;
  }
  if (args.input_scale && source_ == Source::kDirect && s.kh * s.kw == 1) {
    const float* scale = args.input_scale + rows.image * s.ic + g * ic_;
    for (int64_t r = 0; r < run.rows; ++r) {
      scale_pixels(run.a + r * run.a_row, run.a_pixel, scale, run.width, ic_,
                   scratch + r * run.width * pitch_, pitch_);
    }
    run.a = scratch;
    run.a_pixel = pitch_, run.a_row = run.width * pitch_;
  }
  run.tap = taps_.data();
  run.taps = static_cast<int64_t>(taps_.size());
  run.ic = tap_length_, run.oc = oc_;
  run.w = static_cast<const float*>(args.weight) + g * weight_floats(s);
  run.panel_begin = part.panel[0], run.panel_end = part.panel[1];
  if (first) run.weights = Weights::kCold;
  run.bias = args.bias ? args.bias + g * oc_ : nullptr;
  const int64_t pixel = (rows.image * s.oh + rows.begin) * s.ow + x0;
  run.y = static_cast<float*>(args.y) + pixel * s.ldy + g * oc_;
  run.ldy = s.ldy, run.y_row = s.ow * s.ldy;
  if (epilogue_.residual) {
    run.residual = static_cast<const float*>(args.residual) + pixel * args.ldr + g * oc_;
    run.ldr = args.ldr, run.r_row = s.ow * args.ldr;
  }
  if (source_ == Source::kDepthwise && run.width == s.ow) {  // one long row: whole tiles
    run.width *= run.rows;
    run.rows = 1;
  }
  run.epilogue = &epilogue_;
  if (source_ == Source::kDepthwise && grid_.cols == 1 && more)
    fetch_next(args, rows, block[1], run);
  multiply(s, run, [&](GemmRun& half) {
    HalveRun pixels{.x = half.a,
                    .x_pixel = half.a_pixel,
                    .x_row = half.a_row,
                    .rows = half.rows,
                    .width = half.width,
                    .channels = ic_,
                    .out = scratch + zeros_,
                    .out_pixel = pitch_,
                    .out_row = half.width * pitch_};
    if (source_ == Source::kPadded) {  // all that the taps see
      pixels.x_pixel = pitch_, pixels.x_row = pixels.out_row = width_ * pitch_;
      pixels.rows = in_rows(rows.end - rows.begin), pixels.width = in_cols(x1 - x0);
    } else {
      half.a_pixel = pixels.out_pixel, half.a_row = pixels.out_row;
    }
    half.a = pixels.out;
    return halve_pixels(pixels);
  });
}

}  // namespace

std::unique_ptr<Conv> make_windowed(const ConvSpec& spec, const Epilogue& epilogue) {
  return std::make_unique<Windowed>(spec, epilogue);
}

std::unique_ptr<Conv> make_windowed(const ConvSpec& dw, const Epilogue& dw_epilogue,
                                    const ConvSpec& pw, const Epilogue& epilogue) {
  auto conv = std::make_unique<Windowed>(dw, dw_epilogue, pw, epilogue);
  if (!conv->worth_fusing()) return nullptr;
  return conv;
}

}  // namespace trireme::cpu::f32
