// Products of two computed float32 matrices by the convolutions' matrix kernel.
//
// b is packed into panels, and a, where its columns are adjacent, is turned: the kernel wants each
// row's part of a sum side by side. Either all of b is packed first and the rows of c are dealt out
// (with the turned part of a in a thread's own cache); or, when b is large, each thread packs some
// panels at a time and makes those columns of c while they are in its cache.
#include "device/cpu/product.h"

#include <algorithm>

#include "device/cpu/f32_plan.h"

namespace trireme::cpu {
namespace f32 {
namespace {

constexpr int64_t kSharedFloats = 384 * 1024;  // of b: larger ones go panel by panel
constexpr int64_t kChunkFloats = 128 * 1024;   // of b at a time then
constexpr int64_t kTurnedFloats = 512 * 1024;  // of a, turned as a whole then

class Large final : public Product {
 public:
  explicit Large(const ProductSpec& spec) : s_(spec), turned_(spec.a_column != 1) {
    panels_ = panels_of(s_.n);
    unit_ = std::min(s_.m, vectors_of(s_.n) % 3 == 0 ? int64_t{9} : kTilePixels);
    // An odd number of cache lines between rows: they spread over the cache's sets.
    pitch_ = turned_ ? round_up(s_.k, kLanes) : s_.a_row;
    if (turned_ && pitch_ / kLanes % 2 == 0) pitch_ += kLanes;
    const int64_t threads = num_threads();
    by_columns_ = s_.k * s_.n > kSharedFloats && panels_ >= 4 * threads &&
                  (!turned_ || s_.m * s_.k <= kTurnedFloats);
    if (by_columns_) plan_columns(threads);
    else plan_rows(threads);
  }

  size_t scratch_bytes() const override {
    const int64_t b = by_columns_ ? chunk_floats_ * num_threads() : set_floats(s_.k, s_.n);
    const int64_t a = !turned_ ? 0 : by_columns_ ? s_.m * pitch_ : grid_.count() * block_ * pitch_;
    return bytes_of(round_up(b, kLanes) + round_up(a, kLanes));
  }

  void run(const float* a, const float* b, const float* bias, float* c,
           void* scratch) const override {
    auto* packed = static_cast<float*>(scratch);
    if (by_columns_) run_columns({a, b, bias, c}, packed, packed + chunk_floats_ * num_threads());
    else run_rows({a, b, bias, c}, packed, packed + set_floats(s_.k, s_.n));
  }

 private:
  struct Data {
    const float *a, *b, *bias;
    float* c;
  };

  void plan_columns(int64_t threads) {
    const int64_t most = std::max<int64_t>(1, kChunkFloats / (s_.k * 2 * kLanes));
    chunks_ = std::min(panels_, round_up(ceil_div(panels_, most), threads));
    chunk_floats_ = ceil_div(panels_, chunks_) * 3 * kLanes * s_.k;
    block_ = std::max<int64_t>(1, 96 * 1024 / s_.k / unit_) * unit_;
  }

  void plan_rows(int64_t threads) {
    work_.cols = ceil_div(s_.m, unit_);
    work_.panels = panels_;
    const auto vectors = static_cast<double>(s_.k * vectors_of(s_.n));
    work_.cell = vectors * static_cast<double>(unit_);
    if (turned_) work_.prepare = static_cast<double>(s_.k * unit_) / 8;
    grid_ = choose_grid(work_, threads);
    const int64_t most = std::max<int64_t>(1, block_pixels(pitch_, s_.k, s_.n) / unit_);
    const int64_t units = ceil_div(work_.cols, grid_.cols);
    block_ = ceil_div(units, ceil_div(units, most)) * unit_;
  }

  // Panels [p0, p1) of K rows [k0, k1) to their places in `out`, where panel `first` comes first.
  void pack(const float* b, int64_t p0, int64_t p1, int64_t k0, int64_t k1, int64_t first,
            float* out) const {
    for (int64_t p = p0; p < p1; ++p) {
      const int64_t column = panel_vector(s_.n, p) * kLanes;
      const int64_t width = panel_vector(s_.n, p + 1) * kLanes - column;
      float* to = out + (column - panel_vector(s_.n, first) * kLanes) * s_.k + k0 * width;
      const int64_t used = std::min(width, s_.n - column);
      if (s_.b_column == 1) {
        pack_panel(b + k0 * s_.b_row + column, s_.b_row, k1 - k0, used, to);
        continue;
      }
      TurnRun run;
      run.count = width, run.width = used;
      run.ldx = s_.b_column, run.channels = k1 - k0, run.pitch = width;
      turn_pixels(b + column * s_.b_column + k0, run, to);
    }
  }

  void turn_rows(const float* a, int64_t begin, int64_t end, float* out) const {
    TurnRun run;
    run.count = run.width = s_.k;
    run.ldx = s_.a_column, run.channels = end - begin, run.pitch = pitch_;
    turn_pixels(a + begin, run, out);
  }

  GemmRun gemm_run(const Data& d) const {
    GemmRun run;
    run.tap = &kZero;
    run.ic = s_.k, run.oc = s_.n;
    run.a_pixel = pitch_, run.ldy = s_.c_row;
    run.bias = d.bias;
    run.epilogue = &plain_;
    return run;
  }

  void run_rows(const Data& d, float* packed, float* turned) const {
    pack_all(d.b, packed);
    for_parts(grid_.count(), turned_ ? block_ * pitch_ : 0, turned, [&](int64_t i, float* own) {
      const Part part = part_at(work_, grid_, i);
      GemmRun run = gemm_run(d);
      run.w = packed;
      run.panel_begin = part.panel[0], run.panel_end = part.panel[1];
      const int64_t end = std::min(s_.m, part.col[1] * unit_);
      for (int64_t m = part.col[0] * unit_; m < end; m += block_) {
        run.width = std::min(block_, end - m);
        if (turned_) turn_rows(d.a, m, m + run.width, own);
        run.a = turned_ ? own : d.a + m * s_.a_row;
        run.y = d.c + m * s_.c_row;
        gemm(run);
      }
    });
  }

  void pack_all(const float* b, float* packed) const {
    constexpr int64_t kRows = 64;
    const int64_t runs = ceil_div(s_.k, kRows);
    parallel_for(runs * panels_, 8, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t p = i / runs, k = i % runs * kRows;
        pack(b, p, p + 1, k, std::min(s_.k, k + kRows), 0, packed);
      }
    });
  }

  void run_columns(const Data& d, float* packed, float* turned) const {
    if (turned_)
      parallel_for(ceil_div(s_.m, kLanes), 1, [&](int64_t begin, int64_t end, int) {
        const int64_t m = begin * kLanes;
        turn_rows(d.a, m, std::min(s_.m, end * kLanes), turned + m * pitch_);
      });
    parallel_for(chunks_, 1, [&](int64_t begin, int64_t end, int task) {
      float* own = packed + task * chunk_floats_;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t p0 = panels_ * i / chunks_, p1 = panels_ * (i + 1) / chunks_;
        pack(d.b, p0, p1, 0, s_.k, p0, own);
        GemmRun run = gemm_run(d);
        // The kernel finds panel p behind those before it.
        run.w = own - panel_vector(s_.n, p0) * kLanes * s_.k;
        run.panel_begin = p0, run.panel_end = p1;
        for (int64_t m = 0; m < s_.m; m += block_) {
          run.width = std::min(block_, s_.m - m);
          run.a = turned_ ? turned + m * pitch_ : d.a + m * s_.a_row;
          run.y = d.c + m * s_.c_row;
          gemm(run);
        }
      }
    });
  }

  static constexpr int64_t kZero = 0;
  ProductSpec s_;
  bool turned_, by_columns_ = false;
  int64_t panels_ = 1, unit_ = 1, pitch_ = 0, block_ = 1;
  int64_t chunks_ = 1, chunk_floats_ = 0;
  Epilogue plain_;
  Work work_;
  Grid grid_;
};

}  // namespace
}  // namespace f32

std::unique_ptr<Product> Product::create(const ProductSpec& s) {
  if (!cpu_supports(DType::kFloat32) || s.m < 1 || s.n < 1 || s.k < 1) return nullptr;
  if ((s.a_row != 1 && s.a_column != 1) || (s.b_row != 1 && s.b_column != 1)) return nullptr;
  return std::make_unique<f32::Large>(s);
}

}  // namespace trireme::cpu
