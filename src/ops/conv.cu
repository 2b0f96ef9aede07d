// Pictures, weights and biases for cuDNN's convolutions: other layouts, padded channels.
#include "ops/conv_cuda.h"
#include "ops/cuda_common.cuh"

namespace trireme::cuda {
namespace {

struct Copy {
  int64_t n, c, h, w;                       // the picture
  int64_t sn, sc, sh, sw;                   // its strides
  int64_t to_c, to_h, to_w, groups, count;  // the copy, in groups of channels
};

// Channels that a thread works on; neighbouring threads have neighbouring pixels of one group where
// the picture is planar, else neighbouring groups.
constexpr int kGroup = 8;

struct Spot {
  int64_t n, h, w, c;
};
__device__ __forceinline__ Spot spot_of(int64_t i, int64_t height, int64_t width, int64_t groups,
                                        bool planar) {
  Spot s;
  if (planar) {
    s.w = i % width;
    i /= width;
    s.h = i % height;
    i /= height;
    s.c = i % groups * kGroup;
    s.n = i / groups;
  } else {
    s.c = i % groups * kGroup;
    i /= groups;
    s.w = i % width;
    i /= width;
    s.h = i % height;
    s.n = i / height;
  }
  return s;
}

template <class T>
__global__ void __launch_bounds__(kThreads) make_copy(const T* picture, T* copy, Copy p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  let_next_begin();
  wait_for_previous();
  if (i >= p.count) return;
  const Spot s = spot_of(i, p.to_h, p.to_w, p.groups, p.sc != 1);
  const bool inside = s.h < p.h && s.w < p.w;
  const T* from = picture + s.n * p.sn + s.h * p.sh + s.w * p.sw;
  T* to = copy + ((s.n * p.to_h + s.h) * p.to_w + s.w) * p.to_c;
  T v[kGroup];
#pragma unroll
  for (int k = 0; k < kGroup; ++k)
    v[k] = inside && s.c + k < p.c ? from[(s.c + k) * p.sc] : down<T>(Acc<T>(0));
#pragma unroll
  for (int k = 0; k < kGroup; ++k)
    if (s.c + k < p.to_c) to[s.c + k] = v[k];
}

// A picture of few planes, two bytes an element: a thread makes a pixel of four channels.
__global__ void __launch_bounds__(kThreads)
    make_four(const unsigned short* picture, uint2* copy, Copy p, unsigned count) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  let_next_begin();
  wait_for_previous();
  if (i >= count) return;
  const unsigned width = static_cast<unsigned>(p.to_w), height = static_cast<unsigned>(p.to_h);
  const unsigned w = i % width, h = i / width % height, n = i / width / height;
  const unsigned short* from = picture + n * p.sn + h * p.sh + w * p.sw;
  unsigned v[4] = {};
  if (h < p.h && w < p.w) {
#pragma unroll
    for (int c = 0; c < 4; ++c)
      if (c < p.c) v[c] = from[c * p.sc];
  }
  copy[i] = make_uint2(v[0] | v[1] << 16, v[2] | v[3] << 16);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    take_copy_back(const T* copy, T* picture, Small bias, Copy p) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.count) return;
  const Spot s = spot_of(i, p.h, p.w, p.groups, p.sc != 1);
  const bool inside = s.h < p.to_h && s.w < p.to_w;
  const T* from = copy + ((s.n * p.to_h + s.h) * p.to_w + s.w) * p.to_c;
  T* to = picture + s.n * p.sn + s.h * p.sh + s.w * p.sw;
#pragma unroll
  for (int k = 0; k < kGroup; ++k) {
    const int64_t c = s.c + k;
    if (c >= p.c) break;
    const A v = inside ? up(from[c]) : A(0);
    to[c * p.sc] = down<T>(v + bias.at(c, A(0)));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) pack_weight(Small weight, T* copy, int64_t o, int64_t c,
                                                        int64_t taps, int64_t to_c, int64_t count) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t ci = i % to_c, tap = i / to_c % taps, oi = i / to_c / taps;
  const bool inside = oi < o && ci < c;
  copy[i] = down<T>(inside ? weight.at((oi * c + ci) * taps + tap, A(0)) : A(0));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    unpack_weight(const T* copy, T* weight, int64_t c, int64_t taps, int64_t from_c,
                  int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t tap = i % taps, ci = i / taps % c, oi = i / taps / c;
  weight[i] = copy[(oi * taps + tap) * from_c + ci];
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    pack_vector(Small from, int64_t count, T* to, int64_t to_count) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < to_count) to[i] = down<T>(i < count ? from.at(i, A(0)) : A(0));
}

Copy copy_of(const PictureCopy& p, int64_t channels, int64_t pixels) {
  const int64_t groups = (channels + kGroup - 1) / kGroup;
  return {p.size[0],
          p.size[1],
          p.size[2],
          p.size[3],
          p.strides[0],
          p.strides[1],
          p.strides[2],
          p.strides[3],
          p.c,
          p.h,
          p.w,
          groups,
          p.size[0] * pixels * groups};
}

template <class F> void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32: return f(Tag<float>{});
    case DType::kBFloat16: return f(Tag<__nv_bfloat16>{});
    case DType::kFloat16: return f(Tag<__half>{});
    default: return f(Tag<double>{});
  }
}

}  // namespace

void PictureCopy::make(const void* picture, void* copy, void* stream) const {
  const Copy p = copy_of(*this, c, h * w);
  if (c == 4 && size_of(dtype) == 2 && p.count <= 0x7fffffff) {
    launch_next(make_four, dim3(blocks_for(p.count)), kThreads, static_cast<cudaStream_t>(stream),
                static_cast<const unsigned short*>(picture), static_cast<uint2*>(copy), p,
                static_cast<unsigned>(p.count));
    return;
  }
  with_type(dtype, [&]<class T>(Tag<T>) {
    launch_next(make_copy<T>, dim3(blocks_for(p.count)), kThreads,
                static_cast<cudaStream_t>(stream), static_cast<const T*>(picture),
                static_cast<T*>(copy), p);
  });
}

void PictureCopy::take_back(const void* copy, void* picture, const void* bias, DType bias_dtype,
                            void* stream) const {
  const Copy p = copy_of(*this, size[1], size[2] * size[3]);
  with_type(dtype, [&]<class T>(Tag<T>) {
    take_copy_back<T><<<blocks_for(p.count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        static_cast<const T*>(copy), static_cast<T*>(picture), Small{bias, bias_dtype}, p);
  });
  TRI_CUDA_LAUNCHED();
}

void WeightCopy::make(const void* weight, void* copy, void* stream) const {
  const int64_t taps = size[2] * size[3], count = o * c * taps;
  with_type(to, [&]<class T>(Tag<T>) {
    pack_weight<T><<<blocks_for(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        Small{weight, from}, static_cast<T*>(copy), size[0], size[1], taps, c, count);
  });
  TRI_CUDA_LAUNCHED();
}

void WeightCopy::take_back(const void* copy, void* weight, void* stream) const {
  const int64_t taps = size[2] * size[3], count = size[0] * size[1] * taps;
  with_type(to, [&]<class T>(Tag<T>) {
    unpack_weight<T><<<blocks_for(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        static_cast<const T*>(copy), static_cast<T*>(weight), size[1], taps, c, count);
  });
  TRI_CUDA_LAUNCHED();
}

void copy_vector(const void* from, DType from_dtype, int64_t count, void* to, DType to_dtype,
                 int64_t to_count, void* stream) {
  with_type(to_dtype, [&]<class T>(Tag<T>) {
    pack_vector<T><<<blocks_for(to_count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        Small{from, from_dtype}, count, static_cast<T*>(to), to_count);
  });
  TRI_CUDA_LAUNCHED();
}

}  // namespace trireme::cuda
