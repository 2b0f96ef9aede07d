// Products of two computed float32 matrices by the convolutions' matrix kernel.
//
// b is packed into panels. Where the columns of a are adjacent (the gradient of a weight), a is
// packed into tiles, or turned when b is large; else it is read where it lies.
#include "device/cpu/product.h"

#include <algorithm>

#include "device/cpu/f32_plan.h"

namespace trireme::cpu {
namespace f32 {
namespace {

constexpr int64_t kSharedFloats = 384 * 1024;  // of b: larger ones go panel by panel
constexpr int64_t kChunkFloats = 128 * 1024;   // of b at a time then
constexpr int64_t kTurnedFloats = 512 * 1024;  // of a, turned as a whole then
constexpr int64_t kBlockFloats = 48 * 1024;    // of a and c at a time
constexpr int64_t kStep = 128;                 // of K, for tiles

struct Data {
  const float *a, *b, *bias;
  float* c;
  const float* residual;
};

constexpr int64_t kZero = 0;
constexpr Epilogue kPlain;

GemmRun gemm_run(const ProductSpec& s, const Data& d, const Epilogue& epilogue) {
  GemmRun run;
  run.tap = &kZero;
  run.ic = s.k, run.oc = s.n;
  run.a_pixel = s.a_row, run.ldy = run.ldr = s.c_row;
  run.bias = d.bias;
  run.epilogue = &epilogue;
  return run;
}

// The run's outputs are the rows of c from m on.
void set_rows(GemmRun& run, const ProductSpec& s, const Data& d, int64_t m) {
  run.y = d.c + m * s.c_row;
  if (run.epilogue->residual) run.residual = d.residual + m * s.c_row;
}

// Rows [k0, k1) of b, columns of panels [p0, p1), to their places in `out`: the first panel lies at
// its beginning, and panels have k_total rows.
void pack(const ProductSpec& s, const float* b, int64_t p0, int64_t p1, int64_t k0, int64_t k1,
          int64_t k_total, float* out) {
  if (s.b_column == 1) {
    const PackRun run{s.b_row, k1 - k0, s.n, p0, p1, k0, k_total};
    return pack_panels(b + k0 * s.b_row, run, out);
  }
  for (int64_t p = p0; p < p1; ++p) {
    const int64_t first = panel_vector(s.n, p) * kLanes;
    TurnRun run;
    run.count = panel_vector(s.n, p + 1) * kLanes - first;
    run.width = std::min(run.count, s.n - first);
    run.ldx = s.b_column, run.channels = k1 - k0, run.pitch = run.count;
    turn_pixels(b + first * s.b_column + k0, run, out + k0 * run.count);
    out += run.count * k_total;
  }
}

// Each thread packs some panels at a time and makes those columns of c while they are in its cache.
bool goes_by_columns(const ProductSpec& s) {
  return s.k * s.n > kSharedFloats && panels_of(s.n) >= 4 * num_threads() &&
         (s.a_column == 1 || s.m * s.k <= kTurnedFloats);
}

// Either all of b is packed first and the rows of c are dealt out, or it goes by columns.
class RowProduct final : public Product {
 public:
  RowProduct(const ProductSpec& spec, const Epilogue& epilogue)
      : s_(spec), epilogue_(epilogue), turned_(spec.a_column != 1) {
    panels_ = panels_of(s_.n);
    unit_ = std::min(s_.m, vectors_of(s_.n) % 3 == 0 ? int64_t{9} : kTilePixels);
    // An odd number of cache lines between rows: they spread over the cache's sets.
    pitch_ = turned_ ? round_up(s_.k, kLanes) : s_.a_row;
    if (turned_ && pitch_ / kLanes % 2 == 0) pitch_ += kLanes;
    by_columns_ = goes_by_columns(s_);
    if (by_columns_) plan_columns(num_threads());
    else plan_rows(num_threads());
  }

  size_t scratch_bytes() const override {
    const int64_t b = by_columns_ ? chunk_floats_ * num_threads() : set_floats(s_.k, s_.n);
    return bytes_of(b + (turned_ ? s_.m * pitch_ : 0));
  }

  void run(const float* a, const float* b, const float* bias, float* c, void* scratch,
           const float* residual) const override {
    auto* packed = static_cast<float*>(scratch);
    Data d{a, b, bias, c, residual};
    if (!by_columns_) return run_rows(d, packed);
    if (turned_) {
      float* turned = packed + chunk_floats_ * num_threads();
      turn_rows(a, turned);
      d.a = turned;
    }
    run_columns(d, packed);
  }

 private:
  void plan_columns(int64_t threads) {
    const int64_t most = std::max<int64_t>(1, kChunkFloats / (s_.k * 2 * kLanes));
    chunks_ = std::min(panels_, round_up(ceil_div(panels_, most), threads));
    chunk_floats_ = ceil_div(panels_, chunks_) * 3 * kLanes * s_.k;
    block_ = std::max<int64_t>(1, 96 * 1024 / s_.k / unit_) * unit_;
  }

  // Rows are dealt out one by one: the kernel makes its tiles as equal as they can be.
  void plan_rows(int64_t threads) {
    work_.cols = s_.m;
    work_.panels = panels_;
    work_.cell = static_cast<double>(s_.k * vectors_of(s_.n));
    grid_ = choose_grid(work_, threads);
    // Beside b, which stays in L2: a block of a and of c, and the next ones.
    const int64_t most = std::max<int64_t>(1, kBlockFloats / (s_.k + s_.n) / unit_);
    const int64_t units = ceil_div(ceil_div(s_.m, grid_.cols), unit_);
    block_ = ceil_div(units, ceil_div(units, most)) * unit_;
  }

  void turn_rows(const float* a, float* turned) const {
    parallel_for(ceil_div(s_.m, kLanes), 1, [&](int64_t begin, int64_t end, int) {
      const int64_t m = begin * kLanes;
      TurnRun run;
      run.count = run.width = s_.k;
      run.ldx = s_.a_column, run.channels = std::min(s_.m, end * kLanes) - m, run.pitch = pitch_;
      turn_pixels(a + m, run, turned + m * pitch_);
    });
  }

  void run_rows(const Data& d, float* packed) const {
    pack_all(d.b, packed);
    for_parts(grid_.count(), 0, nullptr, [&](int64_t i, float*) {
      const Part part = part_at(work_, grid_, i);
      GemmRun run = gemm_run(s_, d, epilogue_);
      run.w = packed;
      run.panel_begin = part.panel[0], run.panel_end = part.panel[1];
      run_blocks(run, d, part.col[0], part.col[1]);
    });
  }

  void run_blocks(GemmRun& run, const Data& d, int64_t begin, int64_t end) const {
    for (int64_t m = begin, rows; m < end; m += rows) {
      rows = std::min(block_, end - m);
      run.width = rows;
      run.a = d.a + m * pitch_;
      set_rows(run, s_, d, m);
      if (!by_columns_) {
        run.weights = m == begin ? Weights::kCold : Weights::kWarm;
        fetch_rows(run, std::min(block_, end - m - rows));
      }
      gemm(run);
    }
  }

  // The rows of a behind the run's, and those of c.
  void fetch_rows(GemmRun& run, int64_t rows) const {
    run.ahead[0] = ahead_of(run.a + run.width * pitch_, rows * pitch_);
    if (run.panel_end - run.panel_begin == panels_)
      run.ahead[1] = ahead_of(run.y + run.width * s_.c_row, rows * s_.c_row);
    if (run.residual && run.residual != run.y && run.panel_end - run.panel_begin == panels_)
      run.ahead[2] = ahead_of(run.residual + run.width * s_.c_row, rows * s_.c_row);
  }

  void pack_all(const float* b, float* packed) const {
    constexpr int64_t kRows = 64;
    const bool turned = s_.b_column != 1;  // by panels; else rows are read from end to end
    const int64_t runs = ceil_div(s_.k, kRows), parts = turned ? panels_ : 1;
    parallel_for(runs * parts, turned ? 8 : 2, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t p = i / runs, k = i % runs * kRows, last = turned ? p + 1 : panels_;
        pack(s_, b, p, last, k, std::min(s_.k, k + kRows), s_.k,
             packed + panel_vector(s_.n, p) * kLanes * s_.k);
      }
    });
  }

  void run_columns(const Data& d, float* packed) const {
    parallel_for(chunks_, 1, [&](int64_t begin, int64_t end, int task) {
      float* own = packed + task * chunk_floats_;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t p0 = panels_ * i / chunks_, p1 = panels_ * (i + 1) / chunks_;
        pack(s_, d.b, p0, p1, 0, s_.k, s_.k, own);
        GemmRun run = gemm_run(s_, d, epilogue_);
        run.a_pixel = pitch_;
        // The kernel finds panel p behind those before it.
        run.w = own - panel_vector(s_.n, p0) * kLanes * s_.k;
        run.panel_begin = p0, run.panel_end = p1;
        run_blocks(run, d, 0, s_.m);
      }
    });
  }

  ProductSpec s_;
  Epilogue epilogue_;
  bool turned_, by_columns_ = false;
  int64_t panels_ = 1, unit_ = 1, pitch_ = 0, block_ = 1;
  int64_t chunks_ = 1, chunk_floats_ = 0;
  Work work_;
  Grid grid_;
};

// Columns of a lie as such: some of the sum at a time, every part of c packs what it reads, into
// memory that stays in its cache, and fetches what comes next while it multiplies.
class ColumnProduct final : public Product {
 public:
  ColumnProduct(const ProductSpec& spec, const Epilogue& epilogue)
      : s_(spec), epilogue_(epilogue), tile_rows_(tile_rows_of(spec.n)) {
    work_.cols = s_.m;
    work_.panels = panels_of(s_.n);
    const auto k = static_cast<double>(s_.k), vectors = static_cast<double>(vectors_of(s_.n));
    work_.cell = k * vectors;
    work_.prepare = k / 4;
    work_.weights = k * vectors * 4;
    if (shares_sum()) shares_ = num_threads();
    else grid_ = choose_grid(work_, num_threads());
    const int64_t rows = ceil_div(s_.m, grid_.cols);
    block_ = ceil_div(rows, ceil_div(rows, kMostRows));
    tile_floats_ = ceil_div(block_, tile_rows_) * kStep * kLanes;
    panel_floats_ = kStep * vectors_of(s_.n) * kLanes;
    part_floats_ = tile_floats_ + panel_floats_;
    if (shares_ > 1) part_floats_ += round_up(s_.m * s_.n, kLanes);
  }

  size_t scratch_bytes() const override { return bytes_of(grid_.count() * shares_ * part_floats_); }

  void run(const float* a, const float* b, const float* bias, float* c, void* scratch,
           const float* residual) const override {
    const Data d{a, b, bias, c, residual};
    if (shares_ > 1) return run_shares(d, static_cast<float*>(scratch));
    for_parts(grid_.count(), part_floats_, scratch, [&](int64_t i, float* own) {
      const Part part = part_at(work_, grid_, i);
      for (int64_t m = part.col[0]; m < part.col[1]; m += block_)
        run_block(s_, d, part, m, std::min(block_, part.col[1] - m), own);
    });
  }

 private:
  static constexpr int64_t kMostRows = 1024;

  // A small result of a long sum: each thread sums a part, of rows that it is likely to have made
  // itself and has in its cache.
  bool shares_sum() const {
    constexpr int64_t kSmall = 96 * 1024;
    const Epilogue& e = epilogue_;
    return s_.m * s_.n <= kSmall && s_.k >= 4 * kStep * num_threads() && e.act == Act::kNone &&
           e.residual == Epilogue::kNone && e.scale == 1 && e.shift == 0;
  }

  void run_shares(const Data& d, float* scratch) const {
    const auto sums = [&](int64_t i) {
      return scratch + i * part_floats_ + tile_floats_ + panel_floats_;
    };
    for_parts(shares_, part_floats_, scratch, [&](int64_t i, float* own) {
      const int64_t k = s_.k * i / shares_;
      ProductSpec s = s_;
      s.k = s_.k * (i + 1) / shares_ - k;
      Data part{d.a + k * s_.a_column, d.b + k * s_.b_row, nullptr, sums(i), nullptr};
      s.c_row = s_.n;
      if (i == 0) part.bias = d.bias, part.c = d.c, s.c_row = s_.c_row;
      const Part all{{0, 1}, {0, s_.m}, {0, work_.panels}};
      for (int64_t m = 0; m < s_.m; m += block_)
        run_block(s, part, all, m, std::min(block_, s_.m - m), own);
    });
    parallel_for(s_.m, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = 1; i < shares_; ++i)
        add_rows(sums(i) + begin * s_.n, s_.n, end - begin, s_.n, d.c + begin * s_.c_row, s_.c_row);
    });
  }

  void run_block(const ProductSpec& s, const Data& d, const Part& part, int64_t m, int64_t rows,
                 float* tiles) const {
    float* panels = tiles + tile_floats_;
    GemmRun run = gemm_run(s, d, epilogue_);
    run.a = tiles, run.width = rows;
    set_rows(run, s, d, m);
    run.tile_rows = static_cast<int>(tile_rows_), run.a_step = kLanes;
    const int64_t p0 = part.panel[0], p1 = part.panel[1], middle = (p0 + p1) / 2;
    const int64_t vector = panel_vector(s.n, p0);
    for (int64_t k = 0; k < s.k; k += kStep) {
      const int64_t end = std::min(s.k, k + kStep), next = std::min(s.k, end + kStep);
      run.ic = end - k, run.accumulate = k > 0, run.more = end < s.k;
      pack_tiles(d.a + m + k * s.a_column, s.a_column, run.ic, rows, run.tile_rows, tiles);
      pack(s, d.b + k * s.b_row, p0, p1, 0, run.ic, run.ic, panels);
      run.w = panels - vector * kLanes * run.ic;
      run.panel_begin = p0, run.panel_end = middle;
      run.ahead[0] = ahead_of(d.a + m + end * s.a_column, (next - end) * s.a_column);
      gemm(run);
      run.panel_begin = middle, run.panel_end = p1;
      run.ahead[0] = ahead_of(d.b + end * s.b_row, (next - end) * s.b_row);
      gemm(run);
    }
  }

  ProductSpec s_;
  Epilogue epilogue_;
  int64_t tile_rows_, block_ = 1, tile_floats_ = 0, panel_floats_ = 0, part_floats_ = 0;
  int64_t shares_ = 1;  // of the sum
  Work work_;
  Grid grid_;
};

}  // namespace
}  // namespace f32

bool serves_small_product(const ProductSpec& s) {
  return cpu_supports(DType::kFloat32) && s.m > 0 && s.n > 0 && s.k > 0 &&
         (s.a_row == 1 || s.a_column == 1) && (s.b_row == 1 || s.b_column == 1);
}

size_t small_product_bytes(const ProductSpec& s) {
  return f32::bytes_of(f32::set_floats(s.k, s.n));
}

namespace f32 {
namespace {

GemmRun small_run(const ProductSpec& s, const Data& d, const void* packed) {
  GemmRun run = gemm_run(s, d, kPlain);
  run.a = d.a, run.w = static_cast<const float*>(packed), run.y = d.c;
  run.width = s.m;
  if (s.a_column != 1) run.a_step = s.a_column;
  run.panel_end = panels_of(s.n);
  return run;
}

}  // namespace
}  // namespace f32

void pack_small_product(const ProductSpec& s, const float* b, void* packed) {
  f32::pack(s, b, 0, f32::panels_of(s.n), 0, s.k, s.k, static_cast<float*>(packed));
}

void small_product_packed(const ProductSpec& s, const float* a, const void* packed, float* c) {
  f32::gemm(f32::small_run(s, {a, nullptr, nullptr, c, nullptr}, packed));
}

void small_product(const ProductSpec& s, const float* a, const float* b, const float* bias,
                   float* c, void* scratch, const float* next_a, const float* next_b) {
  pack_small_product(s, b, scratch);
  f32::GemmRun run = f32::small_run(s, {a, b, bias, c, nullptr}, scratch);
  if (next_a) run.ahead[0] = f32::ahead_of(next_a, s.m * s.k);
  if (next_b) run.ahead[1] = f32::ahead_of(next_b, s.n * s.k);
  f32::gemm(run);
}

std::unique_ptr<Product> Product::create(const ProductSpec& s, const Epilogue& epilogue) {
  if (!cpu_supports(DType::kFloat32) || s.m < 1 || s.n < 1 || s.k < 1) return nullptr;
  if ((s.a_row != 1 && s.a_column != 1) || (s.b_row != 1 && s.b_column != 1)) return nullptr;
  // Tiles leave unfinished sums in c, where a residual might wait.
  if (s.a_column != 1 && !f32::goes_by_columns(s))
    return epilogue.residual ? nullptr : std::make_unique<f32::ColumnProduct>(s, epilogue);
  return std::make_unique<f32::RowProduct>(s, epilogue);
}

}  // namespace trireme::cpu
