// Gradients of convolution weights by the matrix kernel.
//
// dw as a product: rows are input channels (seen through one tap of the kernel), columns output
// channels, and the sum runs over pixels. The kernel wants each row's part of the sum side by side,
// so blocks of the input are turned: pixels along a channel, padding as zeros. All taps of the
// kernel then read the same block, shifted.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "device/cpu/conv_wgrad.h"
#include "device/cpu/f32_plan.h"

namespace trireme::cpu {
namespace f32 {
namespace {

constexpr int64_t kPixels = 768;               // about as long a sum at a time
constexpr int64_t kTurnedFloats = 192 * 1024;  // of the turned input

// A 1x1 convolution does not see the picture's shape: rows of a length that suits.
ConvSpec flattened(ConvSpec s) {
  const bool pointwise = s.kh * s.kw == 1 && s.sh == 1 && s.sw == 1 && s.top == 0 && s.left == 0 &&
                         s.oh == s.h && s.ow == s.w;
  if (!pointwise) return s;
  if (s.n * s.h * s.w <= kPixels) {
    s.w = s.ow = s.n * s.h * s.w;
    s.n = s.h = s.oh = 1;
  } else if (s.h * s.w <= kPixels) {
    s.w = s.ow = s.h * s.w;
    s.h = s.oh = 1;
  }
  return s;
}

// Whether a tap of the kernel falls on position `at` of the padded input.
bool is_seen(int64_t at, int64_t kernel, int64_t stride, int64_t dilation) {
  for (int64_t k = 0; k < kernel; ++k)
    if ((at - k * dilation) % stride == 0) return true;
  return false;
}

class Wgrad final : public ConvWgrad {
 public:
  explicit Wgrad(const ConvSpec& spec) : s_(flattened(spec)) {
    ic_ = s_.ic / s_.groups, oc_ = s_.oc / s_.groups;
    o_pitch_ = vectors_of(oc_) * kLanes;
    taps_ = s_.kh * s_.kw;
    // Few channels: the kernel's rows and columns take their place in the tile.
    by_taps_ = ic_ < 8 && taps_ > 1 && s_.dw == 1;
    const double work = static_cast<double>(s_.n * s_.oh * s_.ow * taps_ * ic_) *
                        static_cast<double>(vectors_of(oc_) * s_.groups);
    const int64_t threads = work < 64000 ? 1 : num_threads();
    c_parts_ = std::clamp<int64_t>(ic_ / 32, 1, threads);
    k_parts_ = std::min(std::max<int64_t>(1, threads / c_parts_), s_.n * s_.oh);
    c_most_ = round_up(ceil_div(ic_, c_parts_), c_parts_ > 1 ? kLanes : 1);
    cols_ = s_.ow + (s_.kw - 1) * s_.dw / s_.sw;
    plan_block();
  }

  size_t scratch_bytes() const override {
    return bytes_of(c_parts_ * k_parts_ * part_floats() + k_parts_ * sums());
  }

  void run(const void* x, const void* dy, float* dw, void* scratch) const override {
    if (s_.dtype == DType::kFloat32)
      run_as(static_cast<const float*>(x), static_cast<const float*>(dy), dw, scratch);
    else run_as(static_cast<const uint16_t*>(x), static_cast<const uint16_t*>(dy), dw, scratch);
  }

 private:
  struct Memory {
    float *turned, *panels, *sums;
  };

  int64_t sums() const { return s_.groups * taps_ * ic_ * o_pitch_; }
  int64_t part_floats() const {
    return round_up(s_.sw * c_most_ * pitch_, kLanes) + block_pixels_ * o_pitch_;
  }
  int64_t in_rows(int64_t rows) const {
    return rows == 0 ? 0 : (rows - 1) * s_.sh + (s_.kh - 1) * s_.dh + 1;
  }

  void plan_block() {
    const int64_t lines = ceil_div(s_.n * s_.oh, k_parts_);
    const auto floats = [&](int64_t rows) { return s_.sw * c_most_ * in_rows(rows) * cols_; };
    rows_ = std::min(s_.oh, lines);
    while (rows_ > 1 && (floats(rows_) > kTurnedFloats || rows_ * s_.ow > kPixels)) --rows_;
    rows_ = ceil_div(s_.oh, ceil_div(s_.oh, rows_));
    images_ = 1;
    if (rows_ == s_.oh) {
      const int64_t most = std::min(kTurnedFloats / std::max<int64_t>(1, floats(rows_)),
                                    kPixels / std::max<int64_t>(1, rows_ * s_.ow));
      images_ = std::clamp<int64_t>(most, 1, ceil_div(lines, s_.oh) + 1);
    }
    block_pixels_ = images_ * rows_ * s_.ow;
    // An odd number of cache lines between channels: they spread over the cache's sets.
    pitch_ = round_up(images_ * in_rows(rows_) * cols_, kLanes);
    if (pitch_ / kLanes % 2 == 0) pitch_ += kLanes;
  }

  template <class T> void run_as(const T* x, const T* dy, float* dw, void* scratch) const {
    auto* sums_at = static_cast<float*>(scratch);
    float* parts = sums_at + k_parts_ * sums();
    parallel_for(c_parts_ * k_parts_, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t k = i / c_parts_, c = i % c_parts_;
        float* own = parts + i * part_floats();
        const Memory m{own, own + round_up(s_.sw * c_most_ * pitch_, kLanes), sums_at + k * sums()};
        run_part(x, dy, c * c_most_, std::min(ic_, (c + 1) * c_most_), k, m);
      }
    });
    collect(sums_at, dw);
  }

  // Channels [c0, c1) of each group, lines [k] of the output.
  template <class T>
  void run_part(const T* x, const T* dy, int64_t c0, int64_t c1, int64_t k, const Memory& m) const {
    if (c0 >= c1) return;
    const int64_t lines = s_.n * s_.oh, last = lines * (k + 1) / k_parts_;
    std::vector<int64_t> segments;
    for (int64_t g = 0; g < s_.groups; ++g) {
      bool accumulate = false;
      for (int64_t line = lines * k / k_parts_; line < last;) {
        segments.clear();
        int64_t rows_used = 0, pixels = 0;
        // The next rows of this image; or, when images are small, several of them.
        for (int64_t image = 0; image < images_ && line < last; ++image) {
          const int64_t y = line % s_.oh, rows = std::min({rows_, s_.oh - y, last - line});
          const int64_t n = line / s_.oh;
          turn_rows(x + n * s_.h * s_.w * s_.ldx + g * ic_ + c0, y, rows, c1 - c0,
                    m.turned + rows_used * cols_);
          const T* from = dy + (n * s_.oh + y) * s_.ow * s_.ldy + g * oc_;
          for (int64_t r = 0; r < rows; ++r) segments.push_back((rows_used + r * s_.sh) * cols_);
          pixels_of_block(from, rows * s_.ow, pixels, m.panels);
          pixels += rows * s_.ow;
          rows_used += in_rows(rows);
          line += rows;
        }
        pack_ready(pixels, m.panels);
        multiply(segments, c0, c1, pixels, accumulate, m.sums + g * taps_ * ic_ * o_pitch_, m);
        accumulate = true;
      }
    }
  }

  // Panels are as long as the block may be, so that a block can be filled image by image.
  template <class T>
  void pixels_of_block(const T* from, int64_t n, int64_t at, float* panels) const {
    pack_rows(from, s_.ldy, n, oc_, at, block_pixels_, panels);
  }
  // The kernel takes panels to be as long as the sum: shorter blocks move together.
  void pack_ready(int64_t pixels, float* panels) const {
    if (pixels == block_pixels_) return;
    for (int64_t p = 1; p < panels_of(oc_); ++p) {
      const int64_t v0 = panel_vector(oc_, p), v1 = panel_vector(oc_, p + 1);
      std::memmove(panels + v0 * kLanes * pixels, panels + v0 * kLanes * block_pixels_,
                   bytes_of((v1 - v0) * kLanes * pixels));
    }
  }

  // Input rows that the output rows [y, y + rows) see, one array for each phase of the stride.
  template <class T>
  void turn_rows(const T* image, int64_t y, int64_t rows, int64_t channels, float* out) const {
    TurnRun run{.step = s_.sw,
                .count = cols_,
                .width = s_.w,
                .ldx = s_.ldx,
                .channels = channels,
                .pitch = pitch_};
    for (int64_t r = 0; r < in_rows(rows); ++r) {
      if (!is_seen(r, s_.kh, s_.sh, s_.dh)) continue;
      const int64_t iy = y * s_.sh - s_.top + r;
      run.width = iy >= 0 && iy < s_.h ? s_.w : 0;
      for (int64_t q = 0; q < s_.sw; ++q) {
        if (!is_seen(q, s_.kw, s_.sw, s_.dw)) continue;
        run.first = q - s_.left;
        turn_pixels(image + std::clamp<int64_t>(iy, 0, s_.h - 1) * s_.w * s_.ldx, run,
                    out + q * c_most_ * pitch_ + r * cols_);
      }
    }
  }

  void multiply(const std::vector<int64_t>& segments, int64_t c0, int64_t c1, int64_t pixels,
                bool accumulate, float* sums, const Memory& m) const {
    const Epilogue plain;
    GemmRun run;
    run.tap = segments.data();
    run.taps = static_cast<int64_t>(segments.size());
    run.ic = pixels / run.taps;
    const bool joined = run.taps > 1 && taps_ == 1 && s_.sh == 1 && cols_ == s_.ow;
    if (joined) run.taps = 1, run.ic = pixels;  // the segments lie side by side
    run.w = m.panels;
    run.oc = oc_;
    run.panel_end = panels_of(oc_);
    run.epilogue = &plain;
    run.accumulate = accumulate;
    if (by_taps_) return multiply_by_taps(run, sums, m);
    run.width = c1 - c0;
    run.a_pixel = pitch_;
    run.ldy = o_pitch_;
    for (int64_t t = 0; t < taps_; ++t) {
      const int64_t ky = t / s_.kw, shift = t % s_.kw * s_.dw;
      run.a = m.turned + shift % s_.sw * c_most_ * pitch_ + ky * s_.dh * cols_ + shift / s_.sw;
      run.y = sums + (t * ic_ + c0) * o_pitch_;
      gemm(run);
    }
  }

  void multiply_by_taps(GemmRun& run, float* sums, const Memory& m) const {
    run.rows = s_.kh;
    run.a_row = s_.dh * cols_, run.a_pixel = 1;
    run.y_row = s_.kw * ic_ * o_pitch_, run.ldy = s_.sw * ic_ * o_pitch_;
    for (int64_t c = 0; c < ic_; ++c) {
      for (int64_t q = 0; q < std::min(s_.sw, s_.kw); ++q) {
        run.width = ceil_div(s_.kw - q, s_.sw);
        run.a = m.turned + (q * c_most_ + c) * pitch_;
        run.y = sums + (q * ic_ + c) * o_pitch_;
        gemm(run);
      }
    }
  }

  // [part][group][tap][c][o] to [o][c][tap].
  void collect(const float* sums_at, float* dw) const {
    const int64_t blocks = ceil_div(oc_, kLanes), size = taps_ * ic_;
    parallel_for(s_.groups * blocks, std::max<int64_t>(1, 4096 / size),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t b = begin; b < end; ++b) {
                     const int64_t g = b / blocks, o = b % blocks * kLanes;
                     const int64_t lanes = std::min<int64_t>(kLanes, oc_ - o);
                     const float* from = sums_at + g * size * o_pitch_ + o;
                     collect_lanes(from, lanes, dw + (g * oc_ + o) * size);
                   }
                 });
  }
  void collect_lanes(const float* from, int64_t lanes, float* to) const {
    for (int64_t c = 0; c < ic_; ++c) {
      for (int64_t t = 0; t < taps_; ++t) {
        float v[kLanes];
        const float* at = from + (t * ic_ + c) * o_pitch_;
        for (int64_t i = 0; i < kLanes; ++i) v[i] = at[i];
        for (int64_t k = 1; k < k_parts_; ++k)
          for (int64_t i = 0; i < kLanes; ++i) v[i] += at[k * sums() + i];
        for (int64_t i = 0; i < lanes; ++i) to[(i * ic_ + c) * taps_ + t] = v[i];
      }
    }
  }

  ConvSpec s_;
  int64_t ic_ = 0, oc_ = 0, o_pitch_ = 0, taps_ = 0;
  bool by_taps_ = false;
  int64_t c_parts_ = 1, k_parts_ = 1, c_most_ = 0;
  int64_t cols_ = 0;  // of a phase of the padded input
  int64_t rows_ = 1, images_ = 1, block_pixels_ = 0, pitch_ = 0;
};

class DepthwiseWgrad final : public ConvWgrad {
 public:
  explicit DepthwiseWgrad(const ConvSpec& spec) : s_(spec) {
    size_ = s_.kh * s_.kw * vectors_of(s_.oc) * kLanes;
    parts_ = std::clamp<int64_t>(s_.n * s_.oh * s_.ow * vectors_of(s_.oc) / 512, 1, num_threads());
    parts_ = std::min(parts_, s_.n * s_.oh);
  }
  size_t scratch_bytes() const override { return bytes_of(parts_ * size_); }
  void run(const void* x, const void* dy, float* dw, void* scratch) const override {
    auto* sums = static_cast<float*>(scratch);
    const auto *px = static_cast<const float*>(x), *pdy = static_cast<const float*>(dy);
    parallel_for(parts_, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t p = begin; p < end; ++p) {
        float* own = sums + p * size_;
        std::memset(own, 0, bytes_of(size_));
        const int64_t lines = s_.n * s_.oh;
        for (int64_t r = lines * p / parts_; r < lines * (p + 1) / parts_; ++r) {
          depthwise_wgrad_row(s_, px + r / s_.oh * s_.h * s_.w * s_.ldx, pdy + r * s_.ow * s_.ldy,
                              r % s_.oh, own);
        }
      }
    });
    const int64_t taps = s_.kh * s_.kw, pitch = vectors_of(s_.oc) * kLanes;
    for (int64_t c = 0; c < s_.oc; ++c) {
      for (int64_t t = 0; t < taps; ++t) {
        float v = 0;
        for (int64_t p = 0; p < parts_; ++p) v += sums[p * size_ + t * pitch + c];
        dw[c * taps + t] = v;
      }
    }
  }

 private:
  ConvSpec s_;
  int64_t size_ = 0, parts_ = 1;
};

}  // namespace
}  // namespace f32

std::unique_ptr<ConvWgrad> ConvWgrad::create(const ConvSpec& spec) {
  ConvSpec s = spec;
  if (s.ldx == 0) s.ldx = s.ic;
  if (s.ldy == 0) s.ldy = s.oc;
  if (!cpu_supports(DType::kFloat32)) return dnn_conv_wgrad(s);
  if (f32::is_depthwise(s)) {
    if (s.dtype == DType::kFloat32) return std::make_unique<f32::DepthwiseWgrad>(s);
    return dnn_conv_wgrad(s);
  }
  return std::make_unique<f32::Wgrad>(s);
}

}  // namespace trireme::cpu
