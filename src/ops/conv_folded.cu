// Folding pictures and weights.
#include "ops/conv_folded.h"
#include "ops/cuda_common.cuh"

namespace trireme::cuda {
namespace {

struct Picture {
  int64_t sn, sc, sh, sw;  // strides
  int c, h, w;             // the picture
  int to_h, to_w, to_c;    // the folded one
  int before_h, before_w;  // its zeros in front
};

// A thread makes four channels of a folded pixel: place k of its channels is channel k % c of the
// pixel k / c of four, row by row.
__global__ void __launch_bounds__(kThreads)
    fold(const float* x, float4* folded, Picture p, unsigned count) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  let_next_begin();
  wait_for_previous();
  if (i >= count) return;
  const unsigned groups = p.to_c / 4, group = i % groups, pixel = i / groups;
  const int w = (static_cast<int>(pixel % p.to_w) - p.before_w) * 2;
  const int h = (static_cast<int>(pixel / p.to_w % p.to_h) - p.before_h) * 2;
  const float* from = x + pixel / p.to_w / p.to_h * p.sn;
  float v[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int place = static_cast<int>(group) * 4 + k, four = place / p.c, c = place % p.c;
    const int y = h + four / 2, z = w + four % 2;
    v[k] = four < 4 && y >= 0 && y < p.h && z >= 0 && z < p.w ? from[c * p.sc + y * p.sh + z * p.sw]
                                                              : 0;
  }
  folded[i] = make_float4(v[0], v[1], v[2], v[3]);
}

struct Weights {
  int c, kh, kw;         // as they lie
  int to_h, to_w, to_c;  // folded
  int shift_h, shift_w;
};

// The place of element (c, y, z) of an output's weights among the folded ones.
__device__ __forceinline__ int place_of(const Weights& p, int c, int y, int z) {
  y += p.shift_h, z += p.shift_w;
  return (y / 2 * p.to_w + z / 2) * p.to_c + (y % 2 * 2 + z % 2) * p.c + c;
}

__global__ void __launch_bounds__(kThreads)
    fold_weights(const float* weight, float* folded, Weights p, int count) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= count) return;
  const int each = p.to_h * p.to_w * p.to_c, o = i / each, at = i % each;
  const int place = at % p.to_c, four = place / p.c, c = place % p.c;
  const int y = at / p.to_c / p.to_w * 2 + four / 2 - p.shift_h;
  const int z = at / p.to_c % p.to_w * 2 + four % 2 - p.shift_w;
  const bool inside = four < 4 && y >= 0 && y < p.kh && z >= 0 && z < p.kw;
  folded[i] = inside ? weight[((o * p.c + c) * p.kh + y) * p.kw + z] : 0;
}

__global__ void __launch_bounds__(kThreads)
    unfold_weights(const float* folded, float* weight, Weights p, int count) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= count) return;
  const int z = i % p.kw, y = i / p.kw % p.kh, c = i / p.kw / p.kh % p.c;
  const int o = i / p.kw / p.kh / p.c;
  weight[i] = folded[o * p.to_h * p.to_w * p.to_c + place_of(p, c, y, z)];
}

Weights weights_of(const Folding& f) {
  const auto narrow = [](int64_t v) { return static_cast<int>(v); };
  return {narrow(f.spec.ic),   narrow(f.spec.kh),  narrow(f.spec.kw),  narrow(f.kernel[0]),
          narrow(f.kernel[1]), narrow(f.channels), narrow(f.shift[0]), narrow(f.shift[1])};
}

}  // namespace

bool may_fold(const cpu::ConvSpec& s) {
  return s.ic <= 4 && s.groups == 1 && s.sh == 2 && s.sw == 2 && s.dh == 1 && s.dw == 1 &&
         !s.transposed;
}

Folding::Folding(const cpu::ConvSpec& spec, const std::array<int64_t, 4>& x, int64_t channels)
    : spec(spec), x(x), channels(channels) {
  const auto axis = [this](size_t d, int64_t out, int64_t taps, int64_t padding) {
    before[d] = (padding + 1) / 2;
    shift[d] = 2 * before[d] - padding;
    kernel[d] = (taps + shift[d] + 1) / 2;
    size[d] = out - 1 + kernel[d];
  };
  axis(0, spec.oh, spec.kh, spec.top);
  axis(1, spec.ow, spec.kw, spec.left);
}

size_t Folding::picture_bytes() const {
  return static_cast<size_t>(spec.n * size[0] * size[1] * channels) * sizeof(float);
}
size_t Folding::weight_bytes() const {
  return static_cast<size_t>(spec.oc * kernel[0] * kernel[1] * channels) * sizeof(float);
}

void Folding::fold_picture(const void* from, void* folded, void* stream) const {
  const auto narrow = [](int64_t v) { return static_cast<int>(v); };
  const Picture p{x[0],
                  x[1],
                  x[2],
                  x[3],
                  narrow(spec.ic),
                  narrow(spec.h),
                  narrow(spec.w),
                  narrow(size[0]),
                  narrow(size[1]),
                  narrow(channels),
                  narrow(before[0]),
                  narrow(before[1])};
  const auto count = static_cast<int64_t>(picture_bytes() / sizeof(float4));
  launch_next(fold, dim3(blocks_for(count)), kThreads, static_cast<cudaStream_t>(stream),
              static_cast<const float*>(from), static_cast<float4*>(folded), p,
              static_cast<unsigned>(count));
}

void Folding::fold_weight(const void* weight, void* folded, void* stream) const {
  const auto count = static_cast<int>(weight_bytes() / sizeof(float));
  fold_weights<<<blocks_for(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const float*>(weight), static_cast<float*>(folded), weights_of(*this), count);
  TRI_CUDA_LAUNCHED();
}

void Folding::unfold_weight(const void* folded, void* weight, void* stream) const {
  const auto count = static_cast<int>(spec.oc * spec.ic * spec.kh * spec.kw);
  unfold_weights<<<blocks_for(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const float*>(folded), static_cast<float*>(weight), weights_of(*this), count);
  TRI_CUDA_LAUNCHED();
}

}  // namespace trireme::cuda
