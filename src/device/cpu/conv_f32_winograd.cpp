// 3x3, stride 1, as Winograd's F(2x2, 3x3): 16 products instead of 36 for four outputs.
//
// The input is cut into overlapping 4 x 4 tiles d, transformed to B^T d B; for each of its sixteen
// elements the tiles of a block times the transformed weights are one matrix product; A^T m A of
// the products m are the outputs. Transforms only add and halve, the error stays that of float32.
#include <cstring>

#include "device/cpu/f32_plan.h"

namespace trireme::cpu::f32 {
namespace {

constexpr int64_t kBlockTransformed = 128 * 1024;  // floats of transformed input: 512 KB of L2

class Winograd final : public Conv {
 public:
  Winograd(const ConvSpec& spec, const Epilogue& epilogue) : spec_(spec), epilogue_(epilogue) {
    tile_rows_ = ceil_div(spec.oh, 2), tile_cols_ = ceil_div(spec.ow, 2);
    work_.rows = spec.n * tile_rows_, work_.cols = tile_cols_;
    work_.panels = panels_of(spec.oc);
    const auto vectors = static_cast<double>(16 * spec.ic * vectors_of(spec.oc));
    work_.cell = vectors;
    work_.prepare = static_cast<double>(vectors_of(spec.ic) * 40);
    work_.weights = 4 * vectors;
    grid_ = choose_grid(work_, num_threads());
    const int64_t part = ceil_div(work_.rows, grid_.rows) * ceil_div(work_.cols, grid_.cols);
    const int64_t unit = vectors_of(spec.oc) % 3 == 0 ? 9 : kTilePixels;
    pixel_ = pitch_of(spec.ic), row_ = vectors_of(spec.oc) * kLanes;
    block_ = std::max<int64_t>(1, kBlockTransformed / (16 * pixel_ * unit)) * unit;
    block_ = ceil_div(part, ceil_div(part, block_));
    v_pitch_ = round_up(block_ * pixel_, kLanes) + kLanes;
    m_pitch_ = block_ * row_ + kLanes;
    zeros_ = vectors_of(spec.ic) * kLanes;
    part_floats_ = zeros_ + 16 * (v_pitch_ + m_pitch_);
  }

  size_t scratch_bytes() const override { return bytes_of(part_floats_ * grid_.count()); }

  // Few tiles a part are too little work for sixteen times the weights of a tap.
  bool worth_it() const { return block_ >= kTilePixels; }

  void run(const ConvArgs& args) const override {
    for_parts(grid_.count(), part_floats_, args.scratch, [&](int64_t i, float* scratch) {
      std::memset(scratch, 0, bytes_of(zeros_));
      const Part part = part_at(work_, grid_, i);
      const int64_t cols = part.col[1] - part.col[0];
      const int64_t tiles = (part.row[1] - part.row[0]) * cols;
      for (int64_t t = 0; t < tiles; t += block_) {
        run_block(args, part, t, std::min(t + block_, tiles), scratch);
      }
    });
  }

 private:
  struct Position {
    int64_t image, y, x;  // of the tile's first output
  };

  Position position(const Part& part, int64_t tile) const {
    const int64_t cols = part.col[1] - part.col[0];
    const int64_t row = part.row[0] + tile / cols, col = part.col[0] + tile % cols;
    return {row / tile_rows_, row % tile_rows_ * 2, col * 2};
  }

  struct Span {
    const char* begin;
    int64_t bytes;
  };

  // The pixel rows that tiles from `tile` on read first, to be fetched during the products.
  Span wanted_below(const ConvArgs& args, const Part& part, int64_t tile) const {
    const ConvSpec& s = spec_;
    if (grid_.cols > 1 || s.h * s.w * s.ldx < kLargePicture) return {nullptr, 0};
    const Position at = position(part, tile);
    const int64_t first = std::max<int64_t>(0, at.y - s.top + 2);
    const int64_t last = std::min(first + 2 * ceil_div(block_, tile_cols_), s.h);
    if (at.image >= s.n || first >= last) return {nullptr, 0};
    const float* x = static_cast<const float*>(args.x) + at.image * s.h * s.w * s.ldx;
    return {reinterpret_cast<const char*>(x + first * s.w * s.ldx),
            (last - first) * s.w * s.ldx * static_cast<int64_t>(sizeof(float))};
  }

  void run_block(const ConvArgs& args, const Part& part, int64_t begin, int64_t end,
                 float* scratch) const {
    float* v = scratch + zeros_;
    float* m = v + 16 * v_pitch_;
    for (int64_t t = begin; t < end; ++t) {
      transform(args, position(part, t), scratch, v + (t - begin) * pixel_);
    }
    const Epilogue plain;
    const int64_t zero = 0;
    GemmRun run;
    run.a_pixel = pixel_;
    run.width = end - begin;
    run.tap = &zero;
    run.ic = spec_.ic, run.oc = spec_.oc;
    run.panel_begin = part.panel[0], run.panel_end = part.panel[1];
    run.ldy = row_;
    run.epilogue = &plain;
    const float* w = static_cast<const float*>(args.weight) + 9 * set_floats(spec_.ic, spec_.oc);
    const Span below = wanted_below(args, part, end);
    for (int64_t e = 0; e < 16; ++e) {
      run.ahead[0] = {below.begin + below.bytes * e / 16, below.begin + below.bytes * (e + 1) / 16};
      run.a = v + e * v_pitch_;
      run.w = w + e * set_floats(spec_.ic, spec_.oc);
      run.y = m + e * m_pitch_;
      gemm(run);
    }
    for (int64_t t = begin; t < end; ++t) {
      collect(args, part, position(part, t), m + (t - begin) * row_);
    }
  }

  void transform(const ConvArgs& args, const Position& at, const float* zeros, float* v) const {
    const ConvSpec& s = spec_;
    const float* x = static_cast<const float*>(args.x) + at.image * s.h * s.w * s.ldx;
    const float* pixel[16];
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t iy = at.y - s.top + i / 4, ix = at.x - s.left + i % 4;
      const bool inside = iy >= 0 && iy < s.h && ix >= 0 && ix < s.w;
      pixel[i] = inside ? x + (iy * s.w + ix) * s.ldx : zeros;
    }
    winograd_input(pixel, s.ic, v, v_pitch_);
  }

  void collect(const ConvArgs& args, const Part& part, const Position& at, const float* m) const {
    const ConvSpec& s = spec_;
    const int64_t c = panel_vector(s.oc, part.panel[0]) * kLanes;
    const int64_t c_end = std::min(panel_vector(s.oc, part.panel[1]) * kLanes, s.oc);
    float* y[4];
    const float* r[4] = {};
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t oy = at.y + i / 2, ox = at.x + i % 2;
      const int64_t pixel = (at.image * s.oh + oy) * s.ow + ox;
      const bool inside = oy < s.oh && ox < s.ow;
      y[i] = inside ? static_cast<float*>(args.y) + pixel * s.ldy + c : nullptr;
      if (epilogue_.residual) {
        r[i] = static_cast<const float*>(args.residual) + pixel * args.ldr + c;
      }
    }
    winograd_output(m + c, m_pitch_, c_end - c, args.bias ? args.bias + c : nullptr, epilogue_, y,
                    r);
  }

  ConvSpec spec_;
  Epilogue epilogue_;
  int64_t tile_rows_ = 0, tile_cols_ = 0;
  int64_t pixel_ = 0, row_ = 0;  // floats of a transformed tile's element, of its product
  int64_t block_ = 0, v_pitch_ = 0, m_pitch_ = 0, zeros_ = 0, part_floats_ = 0;
  Work work_;
  Grid grid_;
};

}  // namespace

std::unique_ptr<Conv> make_winograd(const ConvSpec& s, const Epilogue& epilogue) {
  auto conv = std::make_unique<Winograd>(s, epilogue);
  if (!conv->worth_it()) return nullptr;
  return conv;
}

}  // namespace trireme::cpu::f32
