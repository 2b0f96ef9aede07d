// Float32 convolutions: plans that call the AVX-512 kernels declared in f32_kernels.h.
#include <cstring>

#include "base/parallel.h"
#include "device/cpu/conv_impl.h"
#include "device/cpu/f32_plan.h"

namespace trireme::cpu::f32 {

Grid choose_grid(const Work& work, int64_t slots) {
  constexpr double kWorthThreads = 16000;  // some 3 us
  Grid best;
  const auto all = static_cast<double>(work.rows * work.cols);
  if (all * work.cell + work.weights < kWorthThreads) return best;
  double best_cost = 0;
  for (int64_t p = 1; p <= std::min(slots, work.panels); ++p) {
    for (int64_t c = 1; c * p <= slots && c <= work.cols; ++c) {
      const int64_t r = std::min(slots / (c * p), work.rows);
      int64_t lines = ceil_div(work.rows, r) * work.row_unit;
      if (work.lines > 0) lines = std::min(lines, work.lines);
      const double cells =
          static_cast<double>(lines * ceil_div(work.cols, c)) / static_cast<double>(work.row_unit);
      const double share =
          static_cast<double>(ceil_div(work.panels, p)) / static_cast<double>(work.panels);
      const double cost = cells * (work.cell * share + work.prepare) + work.weights * share;
      // Splitting rows keeps parts apart in memory: ties go to it (smaller c and p).
      if (best_cost == 0 || cost < best_cost * 0.97) {
        best = {r, c, p};
        best_cost = cost;
      }
    }
  }
  return best;
}

Part part_at(const Work& work, const Grid& grid, int64_t i) {
  const int64_t p = i % grid.panels, c = i / grid.panels % grid.cols;
  const int64_t r = i / grid.panels / grid.cols;
  const auto cut = [](int64_t n, int64_t k, int64_t of) { return n * k / of; };
  return {{cut(work.rows, r, grid.rows), cut(work.rows, r + 1, grid.rows)},
          {cut(work.cols, c, grid.cols), cut(work.cols, c + 1, grid.cols)},
          {cut(work.panels, p, grid.panels), cut(work.panels, p + 1, grid.panels)}};
}

namespace {

// 1x1, stride 1: pixels are rows of a matrix and the picture's shape does not matter.
class Pointwise final : public Conv {
 public:
  Pointwise(const ConvSpec& spec, const Epilogue& epilogue)
      : spec_(spec), epilogue_(epilogue), ic_(spec.ic / spec.groups), oc_(spec.oc / spec.groups) {
    pixels_ = spec.n * spec.oh * spec.ow;
    const int64_t lanes = lanes_of(spec);
    const int64_t unit = vectors_of(oc_, lanes) % 3 == 0 ? 9 : kTilePixels;
    // Pixels are dealt out one by one: the kernel makes its tiles as equal as they can be.
    work_.cols = pixels_;
    work_.panels = panels_of(oc_, lanes);
    const auto vectors = static_cast<double>(ic_ * vectors_of(oc_, lanes));
    work_.cell = vectors;
    work_.weights = 4 * vectors;
    grid_ = choose_grid(work_, num_threads());
    pitch_ = pitch_of(ic_);
    // Weights from beyond L2 pass by once a block: larger blocks, all of a size, so that no small
    // last one makes them pass for little.
    int64_t most = block_pixels(std::min<int64_t>(pitch_, 1024), ic_, oc_);
    if (ic_ * oc_ >= kManyWeights) most += most / 2;
    // Long output rows: few at a time, so that lines shared by two panels are still at hand.
    if (oc_ >= 2048 && ic_ < 256) most = std::min<int64_t>(most, 60);
    most = std::max<int64_t>(1, most / unit);
    const int64_t units = ceil_div(ceil_div(pixels_, grid_.cols), unit);
    block_ = ceil_div(units, ceil_div(units, most)) * unit;
    part_floats_ = round_up(block_ * pitch_, kLanes);
  }

  size_t scratch_bytes() const override { return bytes_of(part_floats_ * grid_.count()); }

  void run(const ConvArgs& args) const override {
    for_parts(grid_.count(), part_floats_, args.scratch, [&](int64_t i, float* scratch) {
      const Part part = part_at(work_, grid_, i);
      for (int64_t g = 0; g < spec_.groups; ++g) run_part(args, part, g, scratch);
    });
  }

 private:
  void run_part(const ConvArgs& args, const Part& part, int64_t g, float* scratch) const {
    const int64_t end = part.col[1], image = spec_.oh * spec_.ow;
    GemmRun run;
    const int64_t zero = 0;
    run.tap = &zero;
    run.ic = ic_, run.oc = oc_;
    run.w = static_cast<const float*>(args.weight) + g * weight_floats(spec_);
    run.panel_begin = part.panel[0], run.panel_end = part.panel[1];
    run.bias = args.bias ? args.bias + g * oc_ : nullptr;
    run.ldy = spec_.ldy, run.ldr = args.ldr;
    run.epilogue = &epilogue_;
    int64_t next = 0;
    run.weights = Weights::kCold;
    for (int64_t m = part.col[0]; m < end; m = next) {
      next = std::min(m + block_, end);
      if (args.input_scale) next = std::min(next, (m / image + 1) * image);
      run.width = next - m;
      run.a = static_cast<const float*>(args.x) + m * spec_.ldx + g * ic_;
      run.a_pixel = spec_.ldx;
      if (args.input_scale) {
        const float* scale = args.input_scale + m / image * spec_.ic + g * ic_;
        scale_pixels(run.a, spec_.ldx, scale, run.width, ic_, scratch, pitch_);
        run.a = scratch;
        run.a_pixel = pitch_;
      }
      run.y = static_cast<float*>(args.y) + m * spec_.ldy + g * oc_;
      if (epilogue_.residual) {
        run.residual = static_cast<const float*>(args.residual) + m * args.ldr + g * oc_;
      }
      multiply(spec_, run, [&](GemmRun& half) {
        const HalveRun pixels{.x = half.a,
                              .x_pixel = half.a_pixel,
                              .width = half.width,
                              .channels = ic_,
                              .out = scratch,
                              .out_pixel = pitch_};
        half.a = scratch;
        half.a_pixel = pitch_;
        return halve_pixels(pixels);
      });
      run.weights = Weights::kBySize;
    }
  }

  ConvSpec spec_;
  Epilogue epilogue_;
  int64_t ic_, oc_, pixels_ = 0, pitch_ = 0, block_ = 0, part_floats_ = 0;
  Work work_;
  Grid grid_;
};

class Depthwise final : public Conv {
 public:
  Depthwise(const ConvSpec& spec, const Epilogue& epilogue) : spec_(spec), epilogue_(epilogue) {
    const int64_t vectors = vectors_of(spec.ic);
    work_.lines = spec.n * spec.oh;
    row_unit_ = depthwise_rows(spec, num_threads());
    channels_ = spec.oc;
    // Fewer rows than the window has: what parts would share is most of what they read.
    if (ceil_div(work_.lines, num_threads()) < spec.kh) {
      row_unit_ = spec.sh == 1 ? 2 : 1;  // a tile's
      channels_ = kLanes;
      work_.panels = vectors;
    }
    work_.row_unit = row_unit_;
    work_.rows = ceil_div(work_.lines, row_unit_);
    work_.cols = ceil_div(spec.ow, 4);
    work_.cell = static_cast<double>(row_unit_ * 4 * vectors * (spec.kh * spec.kw + 4));
    grid_ = choose_grid(work_, num_threads());
    zeros_ = vectors * kLanes;
  }

  size_t scratch_bytes() const override { return bytes_of(zeros_ * grid_.count()); }

  void run(const ConvArgs& args) const override {
    for_parts(grid_.count(), zeros_, args.scratch, [&](int64_t i, float* zeros) {
      std::memset(zeros, 0, bytes_of(zeros_));
      const Part part = part_at(work_, grid_, i);
      ConvSpec own = spec_;
      own.oc = std::min(part.panel[1] * channels_, spec_.oc) - part.panel[0] * channels_;
      const int64_t end = std::min(part.row[1] * row_unit_, spec_.n * spec_.oh);
      for_row_blocks(part.row[0] * row_unit_, end, spec_.oh, spec_.oh,
                     [&](const Rows& rows) { run_rows(args, own, part, rows, zeros); });
    });
  }

 private:
  // Of the part's channels, as many as `s` has.
  void run_rows(const ConvArgs& args, const ConvSpec& s, const Part& part, const Rows& rows,
                const float* zeros) const {
    const int64_t c = part.panel[0] * channels_;
    DepthwiseRun run;
    run.spec = &s;
    run.x = static_cast<const float*>(args.x) + rows.image * s.h * s.w * s.ldx + c;
    run.w = static_cast<const float*>(args.weight) + c * s.kh * s.kw;
    run.bias = args.bias ? args.bias + c : nullptr;
    run.zeros = zeros;
    run.row_begin = rows.begin, run.row_end = rows.end;
    run.col_begin = part.col[0] * 4, run.col_end = std::min(part.col[1] * 4, s.ow);
    const int64_t pixel = (rows.image * s.oh + rows.begin) * s.ow + run.col_begin;
    run.y = static_cast<float*>(args.y) + pixel * s.ldy + c;
    run.ldy = s.ldy, run.y_row = s.ow * s.ldy;
    if (epilogue_.residual) {
      run.residual = static_cast<const float*>(args.residual) + pixel * args.ldr + c;
      run.ldr = args.ldr, run.r_row = s.ow * args.ldr;
    }
    run.epilogue = &epilogue_;
    depthwise(run);
  }

  ConvSpec spec_;
  Epilogue epilogue_;
  int64_t row_unit_ = 1, channels_ = 0, zeros_ = 0;  // channels of a panel
  Work work_;
  Grid grid_;
};

// Kernel == stride: an input pixel yields kh rows of kw * oc outputs that lie next to each other.
class Transposed final : public Conv {
 public:
  Transposed(const ConvSpec& spec, const Epilogue& epilogue)
      : spec_(spec), epilogue_(epilogue), quad_(is_quad(spec)), dense_(spec.ldy == spec.oc) {
    columns_ = quad_ ? 4 : spec.kw * spec.oc;
    work_.rows = spec.n * spec.h;
    work_.cols = ceil_div(spec.w, 4);
    work_.cell = static_cast<double>(4 * spec.kh * spec.ic * vectors_of(columns_));
    grid_ = choose_grid(work_, num_threads());
    // The bias, kw times over; then a row of outputs where they do not go to y at once.
    part_floats_ = round_up(columns_, kLanes) + round_up(spec.w * columns_, kLanes);
  }

  size_t scratch_bytes() const override { return bytes_of(part_floats_ * grid_.count()); }

  void run(const ConvArgs& args) const override {
    for_parts(grid_.count(), part_floats_, args.scratch, [&](int64_t i, float* scratch) {
      const Part part = part_at(work_, grid_, i);
      for (int64_t j = 0; args.bias && j < columns_; ++j) scratch[j] = args.bias[j % spec_.oc];
      for (int64_t row = part.row[0]; row < part.row[1]; ++row) {
        for (int64_t ky = 0; ky < (quad_ ? 1 : spec_.kh); ++ky) {
          run_row(args, part, row, ky, scratch);
        }
      }
    });
  }

 private:
  // `row` counts over all images, which works for the output as well: oh == h * kh.
  void run_row(const ConvArgs& args, const Part& part, int64_t row, int64_t ky,
               float* scratch) const {
    const ConvSpec& s = spec_;
    const int64_t x0 = part.col[0] * 4, x1 = std::min(part.col[1] * 4, s.w), zero = 0;
    float* buffer = scratch + round_up(columns_, kLanes);
    float* y = static_cast<float*>(args.y) + ((row * s.kh + ky) * s.ow + x0 * s.kw) * s.ldy;
    const Epilogue plain;
    GemmRun run;
    run.a = static_cast<const float*>(args.x) + (row * s.w + x0) * s.ldx;
    run.a_pixel = s.ldx;
    run.width = x1 - x0;
    run.tap = &zero;
    run.ic = s.ic, run.oc = columns_;
    run.w = static_cast<const float*>(args.weight) + ky * set_floats(s.ic, columns_);
    run.panel_end = panels_of(columns_);
    run.bias = args.bias && !quad_ ? scratch : nullptr;
    run.y = quad_ || !dense_ ? buffer : y;
    run.ldy = columns_;
    run.epilogue = quad_ ? &plain : &epilogue_;
    gemm(run);
    if (quad_) {
      spread_quads(buffer, run.width, args.bias ? args.bias[0] : 0, epilogue_, y, y + s.ow * s.ldy,
                   s.ldy);
    } else if (!dense_) {
      scale_pixels(buffer, s.oc, nullptr, run.width * s.kw, s.oc, y, s.ldy);
    }
  }

  ConvSpec spec_;
  Epilogue epilogue_;
  bool quad_, dense_;
  int64_t columns_ = 0, part_floats_ = 0;
  Work work_;
  Grid grid_;
};

constexpr int64_t kMaxTaps = 4096;

bool is_pointwise(const ConvSpec& s) {
  return s.kh == 1 && s.kw == 1 && s.sh == 1 && s.sw == 1 && s.top == 0 && s.left == 0 &&
         s.oh == s.h && s.ow == s.w && !s.x_planar && !s.transposed;
}

}  // namespace

// A longer sum waits in y, unfinished.
bool adds_in_place(const ConvSpec& s) {
  return is_pointwise(s) && !is_depthwise(s) && s.ic / s.groups <= kLongestSum;
}

std::unique_ptr<Conv> create(const ConvSpec& s, const Epilogue& epilogue) {
  if (s.kh * s.kw > kMaxTaps) return nullptr;
  if (is_depthwise(s)) return std::make_unique<Depthwise>(s, epilogue);
  if (s.transposed) {
    if (epilogue.residual) return nullptr;
    return std::make_unique<Transposed>(s, epilogue);
  }
  if (is_pointwise(s)) return std::make_unique<Pointwise>(s, epilogue);
  if (is_winograd(s)) {
    if (auto conv = make_winograd(s, epilogue)) return conv;
  }
  return make_windowed(s, epilogue);
}

std::unique_ptr<Conv> create(const ConvSpec& dw, const Epilogue& dw_epilogue, const ConvSpec& pw,
                             const Epilogue& epilogue) {
  return make_windowed(dw, dw_epilogue, pw, epilogue);
}

}  // namespace trireme::cpu::f32
