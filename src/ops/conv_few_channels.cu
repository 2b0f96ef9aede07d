// Convolutions of pictures with up to four planes, two pixels apart (the first one of a network),
// on tensor cores: an implicit product whose left side is never spread out.
//
// A row of the picture lies in shared memory as pixels of four channels, 8 bytes each. The pixels
// that result q of a row reads begin 16 q bytes further: eight neighbouring results' pieces of 16
// bytes are 128 bytes in a row, which is what ldmatrix reads best. So the rows of the product's
// left side overlap in memory. A kernel row counts up to a multiple of four pixels, with weights of
// zero: a result may meet a pixel right of its window times zero, which only an infinite pixel
// would show.
#include "ops/batch_norm_device.cuh"
#include "ops/conv.h"
#include "ops/conv_cuda.h"
#include "ops/mma_device.cuh"

namespace trireme::cuda {
namespace {

// A tile of results: kRows rows of kColumns, in which four warps share the channels of a slab.
constexpr int kWarps = 4, kRows = 2, kColumns = 112, kSlab = 64;
constexpr int kFewThreads = kWarps * 32;
constexpr int kPitch = 2 * kColumns + 8;         // pixels of a picture's row in shared memory
constexpr int kPixel = 8;                        // bytes
constexpr unsigned kMostBlocks = 132 * 3;        // that the largest GPU holds at a time
constexpr int kPartRows = 8, kPartColumns = 32;  // of the kernel that joins the weights' gradients

struct Few {
  int64_t sn, sc, sh, sw;  // of x, in elements
  int c, h, w, k, oh, ow, kh, kw, stride_h, top, left;
  int steps;         // products of depth 16 in a kernel row
  int rows, pieces;  // tiles of a result's height and width
  int tiles;
  bool pairs;  // pixels of even columns, and the next ones, are words of memory

  // Halves of a channel's weights, and bytes of a picture's rows, in shared memory.
  __host__ __device__ int depth() const { return kh * steps * 16; }
  __host__ __device__ int picture_rows() const { return (kRows - 1) * stride_h + kh; }
  size_t picture_bytes() const { return static_cast<size_t>(picture_rows()) * kPitch * kPixel; }
};

Few few_of(const FewChannels& f) {
  const cpu::ConvSpec& s = f.spec;
  const auto i = [](int64_t v) { return static_cast<int>(v); };
  const int oh = i(s.oh), ow = i(s.ow);
  const int rows = (oh + kRows - 1) / kRows, pieces = (ow + kColumns - 1) / kColumns;
  const bool pairs =
      f.x[3] == 1 && f.x[0] % 2 == 0 && f.x[1] % 2 == 0 && f.x[2] % 2 == 0 && s.w % 2 == 0;
  return {f.x[0],
          f.x[1],
          f.x[2],
          f.x[3],
          i(s.ic),
          i(s.h),
          i(s.w),
          i(s.oc),
          oh,
          ow,
          i(s.kh),
          i(s.kw),
          i(s.sh),
          i(s.top),
          i(s.left),
          i(s.kw * 4 + 15) / 16,
          rows,
          pieces,
          i(s.n) * rows * pieces,
          pairs};
}

struct Spot {
  int n, p, q;  // the tile's first result
};
__device__ __forceinline__ Spot spot_of(const Few& f, int tile) {
  const int row = tile / f.pieces;
  return {row / f.rows, row % f.rows * kRows, (tile - row * f.pieces) * kColumns};
}

// The pixels that a tile reads, zeros around the picture. A thread has a pair of them in each row,
// in a word of each plane where pairs are aligned; it has several rows' words on their way at a
// time.
template <class T>
__device__ __forceinline__ void bring_picture(const Few& f, const T* __restrict__ x, const Spot& at,
                                              uint4* shared) {
  constexpr int kAtOnce = 5;
  const int column = static_cast<int>(threadIdx.x) * 2 - f.left % 2;
  if (column >= kPitch) return;
  const int h0 = at.p * f.stride_h - f.top, w = 2 * at.q - f.left + column;
  const bool there[2] = {w >= 0 && w < f.w, w + 1 >= 0 && w + 1 < f.w};
  const auto* from =
      reinterpret_cast<const unsigned short*>(x) + at.n * f.sn + h0 * f.sh + w * f.sw;
  auto* to = reinterpret_cast<uint2*>(shared) + column;
  for (int row = 0; row < f.picture_rows(); row += kAtOnce) {
    unsigned word[kAtOnce][4] = {};  // a plane's two pixels
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int h = h0 + row + k;
      if (h < 0 || h >= f.h || row + k >= f.picture_rows()) continue;
      const unsigned short* line = from + (row + k) * f.sh;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (c >= f.c) continue;
        if (f.pairs) {
          if (there[0]) word[k][c] = *reinterpret_cast<const unsigned*>(line + c * f.sc);
        } else {
          if (there[0]) word[k][c] = line[c * f.sc];
          if (there[1]) word[k][c] |= static_cast<unsigned>(line[c * f.sc + f.sw]) << 16;
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (row + k >= f.picture_rows()) continue;
      uint2* pixel = to + (row + k) * kPitch;
      if (column >= 0)
        pixel[0] = make_uint2(__byte_perm(word[k][0], word[k][1], 0x5410),
                              __byte_perm(word[k][2], word[k][3], 0x5410));
      if (column + 1 < kPitch)
        pixel[1] = make_uint2(__byte_perm(word[k][0], word[k][1], 0x7632),
                              __byte_perm(word[k][2], word[k][3], 0x7632));
    }
  }
}

// ---- forward

// A lane's sums are of columns 2 * (lane % 4) and the next one in each of four products; the
// weights stand in such an order that these are eight neighbouring channels.
__device__ __forceinline__ int channel_at(int row) {
  const int product = row % 32 / 8, column = row % 8;
  return row / 32 * 32 + column / 2 * 8 + product * 2 + column % 2;
}

template <class T>
__device__ void bring_weights(const Few& f, const T* __restrict__ weight, int first, T* shared) {
  const int depth = f.depth(), pitch = depth + 8;
  for (int i = threadIdx.x; i < kSlab * depth; i += kFewThreads) {
    const int row = i / depth, at = i - row * depth, r = at / (f.steps * 16),
              s = (at - r * f.steps * 16) / 4;
    const int64_t from = ((static_cast<int64_t>(first) + channel_at(row)) * f.kh + r) * f.kw + s;
    shared[row * pitch + at] = s < f.kw ? weight[from * 4 + at % 4] : down<T>(0.f);
  }
}

// The slab's sums of the results and of their squares, into partial[block][2][channels].
__device__ void put_sums(float (&sums)[2][8], float* shared, float* partial, int first,
                         int channels) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, half = warp % 2;
#pragma unroll
  for (int which = 0; which < 2; ++which) {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      for (int o = 4; o < 32; o *= 2) sums[which][i] += __shfl_xor_sync(~0u, sums[which][i], o);
  }
  __syncthreads();
  if (lane < 4) {
    for (int which = 0; which < 2; ++which)
      for (int i = 0; i < 8; ++i)
        shared[(warp / 2 * 2 + which) * kSlab + half * 32 + lane * 8 + i] = sums[which][i];
  }
  __syncthreads();
  const int which = threadIdx.x / kSlab, c = threadIdx.x % kSlab;
  partial[(static_cast<int64_t>(blockIdx.x) * 2 + which) * channels + first + c] =
      shared[which * kSlab + c] + shared[(2 + which) * kSlab + c];
}

// As store<8>, by the instructions that round two numbers at once.
template <class T> __device__ __forceinline__ void store_8(T* to, const float (&v)[8]) {
  unsigned w[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (std::is_same_v<T, __half>)
      w[i] = as<unsigned>(__floats2half2_rn(v[2 * i], v[2 * i + 1]));
    else w[i] = as<unsigned>(__floats2bfloat162_rn(v[2 * i], v[2 * i + 1]));
  }
  *reinterpret_cast<uint4*>(to) = make_uint4(w[0], w[1], w[2], w[3]);
}

template <class T, bool kSums>
__global__ void __launch_bounds__(kFewThreads, 3)
    forward(const T* __restrict__ x, const T* __restrict__ weight, Small bias, bool relu,
            T* __restrict__ y, float* partial, Few f) {
  extern __shared__ uint4 memory[];
  const int pitch = f.depth() + 8, first = static_cast<int>(blockIdx.y) * kSlab;
  auto* weights = reinterpret_cast<T*>(memory + f.picture_rows() * (kPitch / 2));
  bring_weights(f, weight, first, weights);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, half = warp % 2, row = warp / 2;
  const unsigned a_at = shared_address(memory) + (row * f.stride_h * kPitch) * kPixel +
                        lane % 16 * 16 + lane / 16 * 16;
  const unsigned b_at =
      shared_address(weights + (half * 32 + lane % 8 + lane / 16 * 8) * pitch) + lane / 8 % 2 * 16;
  const int channel = first + half * 32 + lane % 4 * 8;
  float offset[8], sums[2][8] = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) offset[i] = kSums ? 0 : bias.at(channel + i, 0.f);

  for (int tile = static_cast<int>(blockIdx.x); tile < f.tiles; tile += gridDim.x) {
    const Spot at = spot_of(f, tile);
    __syncthreads();
    bring_picture(f, x, at, memory);
    __syncthreads();
    float acc[kColumns / 16][4][4] = {};
    for (int r = 0; r < f.kh; ++r)
      for (int s = 0; s < f.steps; ++s) {
        unsigned b[2][4];
#pragma unroll
        for (int j = 0; j < 2; ++j)
          load_matrices(b_at + (j * 16 * pitch + (r * f.steps + s) * 16) * 2, b[j]);
#pragma unroll
        for (int i = 0; i < kColumns / 16; ++i) {
          unsigned a[4];
          load_matrices(a_at + r * kPitch * kPixel + s * 32 + i * 256, a);
#pragma unroll
          for (int j = 0; j < 4; ++j)
            multiply_add<T>(acc[i][j], a, b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
      }
    const int p = at.p + row;
    if (p >= f.oh) continue;
    T* to = y + (static_cast<int64_t>(at.n) * f.oh + p) * f.ow * f.k + channel;
#pragma unroll
    for (int i = 0; i < 2 * (kColumns / 16); ++i) {
      const int q = at.q + i * 8 + lane / 4;
      if (q >= f.ow) continue;
      float v[8];
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        v[k] = acc[i / 2][k / 2][i % 2 * 2 + k % 2];
        if constexpr (kSums) {
          sums[0][k] += v[k], sums[1][k] += v[k] * v[k];
        } else {
          v[k] += offset[k];
          if (relu) v[k] = v[k] > 0 || v[k] != v[k] ? v[k] : 0;
        }
      }
      store_8(to + static_cast<int64_t>(q) * f.k, v);
    }
  }
  if constexpr (kSums) put_sums(sums, reinterpret_cast<float*>(memory), partial, first, f.k);
}

// ---- the gradient by the weights: dw [k, kh * steps * 16] = dy' x, over all results

// A tile of dy, zeros outside, the pieces of 16 bytes in the places that they have below.
template <class T>
__device__ __forceinline__ void bring_results(const Few& f, const T* __restrict__ dy,
                                              const Spot& at, uint4* shared) {
  constexpr int kPieces = kSlab / 8, kAtOnce = kFewThreads / kPieces;
  static_assert(kColumns % kAtOnce == 0 && kAtOnce % 8 == 0);
  const int piece = threadIdx.x % kPieces, place = threadIdx.x / kPieces;
  const unsigned to = shared_address(shared + place * kPieces + (piece ^ place % 8));
  const T* from =
      dy + ((static_cast<int64_t>(at.n) * f.oh + at.p) * f.ow + at.q + place) * f.k + piece * 8;
#pragma unroll
  for (int i = 0; i < kRows * kColumns / kAtOnce; ++i) {
    const int row = i / (kColumns / kAtOnce), q = i % (kColumns / kAtOnce) * kAtOnce;
    const bool there = at.p + row < f.oh && at.q + place + q < f.ow;
    copy_16(to + i * kAtOnce * kSlab * 2,
            there ? from + (static_cast<int64_t>(row) * f.ow + q) * f.k : dy, there);
  }
}

// partial[block][k][depth]. kTiles: products of width 8 that a warp has.
template <class T, int kTiles>
__global__ void __launch_bounds__(kFewThreads, 3)
    weight_grad(const T* __restrict__ x, const T* __restrict__ dy, float* partial, Few f) {
  extern __shared__ uint4 memory[];
  uint4* results = memory + f.picture_rows() * (kPitch / 2);
  const int first = static_cast<int>(blockIdx.y) * kSlab, depth = f.depth();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  // Of dy's matrices: eight results of eight channels, the channels' pieces of 16 bytes change
  // places by the result, so that those of eight results lie in different banks.
  const int result = lane / 16 * 8 + lane % 8;
  const unsigned a_at = shared_address(results) + result * (kSlab * 2);
  // Of x's: eight results at one piece of the window; two pieces' in a load.
  unsigned b_at[(kTiles + 1) / 2];
#pragma unroll
  for (int j = 0; j < (kTiles + 1) / 2; ++j) {
    const int piece = min(warp * kTiles + j * 2 + lane / 16, depth / 8 - 1),
              r = piece / (2 * f.steps);
    b_at[j] = shared_address(memory) + r * kPitch * kPixel + (piece - r * 2 * f.steps) * 16 +
              (lane / 8 % 2 * 8 + lane % 8) * 16;
  }
  float acc[kSlab / 16][kTiles][4] = {};
  for (int tile = static_cast<int>(blockIdx.x); tile < f.tiles; tile += gridDim.x) {
    const Spot at = spot_of(f, tile);
    __syncthreads();
    bring_results(f, dy + first, at, results);
    bring_picture(f, x, at, memory);
    end_of_copies();
    wait_for_copies<0>();
    __syncthreads();
#pragma unroll
    for (int row = 0; row < kRows; ++row)
#pragma unroll 1
      for (int i = 0; i < kColumns / 16; ++i) {
        unsigned b[(kTiles + 1) / 2][4];
#pragma unroll
        for (int j = 0; j < (kTiles + 1) / 2; ++j)
          load_matrices<true>(b_at[j] + row * f.stride_h * kPitch * kPixel + i * 256, b[j]);
        const unsigned from = a_at + (row * kColumns + i * 16) * (kSlab * 2);
#pragma unroll
        for (int m = 0; m < kSlab / 16; ++m) {
          unsigned a[4];
          load_matrices<true>(from + ((m * 2 + lane / 8 % 2) ^ lane % 8) * 16, a);
#pragma unroll
          for (int j = 0; j < kTiles; ++j)
            multiply_add<T>(acc[m][j], a, b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
      }
  }
  float* own = partial + (static_cast<int64_t>(blockIdx.x) * f.k + first) * depth;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    const int column = (warp * kTiles + j) * 8 + lane % 4 * 2;
    if (column >= depth) continue;
#pragma unroll
    for (int m = 0; m < kSlab / 16; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        *reinterpret_cast<float2*>(own + (m * 16 + half * 8 + lane / 4) * depth + column) =
            make_float2(acc[m][j][half * 2], acc[m][j][half * 2 + 1]);
  }
}

// dweight [k, c, kh, kw] from the blocks' parts.
template <class T>
__global__ void __launch_bounds__(kPartRows* kPartColumns)
    join_weights(const float* __restrict__ partial, int parts, T* dweight, Few f) {
  __shared__ float shared[kPartRows][kPartColumns];
  const int x = threadIdx.x % kPartColumns, y = threadIdx.x / kPartColumns;
  const int64_t depth = f.depth(), all = f.k * depth,
                i = static_cast<int64_t>(blockIdx.x) * kPartColumns + x;
  float sum = 0;
  if (i < all)
#pragma unroll 8
    for (int part = y; part < parts; part += kPartRows) sum += partial[part * all + i];
  shared[y][x] = sum;
  __syncthreads();
  if (y > 0 || i >= all) return;
  for (int k = 1; k < kPartRows; ++k) sum += shared[k][x];
  const int64_t k = i / depth, at = i - k * depth, r = at / (f.steps * 16),
                s = (at - r * f.steps * 16) / 4, c = at % 4;
  if (s < f.kw && c < f.c) dweight[((k * f.c + c) * f.kh + r) * f.kw + s] = down<T>(sum);
}

unsigned blocks_of(const Few& f) {
  return std::min(static_cast<unsigned>(f.tiles),
                  std::max(1u, kMostBlocks / static_cast<unsigned>(f.k / kSlab)));
}
size_t forward_bytes(const Few& f) {
  return f.picture_bytes() + static_cast<size_t>(kSlab) * (f.depth() + 8) * 2;
}
size_t grad_bytes(const Few& f) { return f.picture_bytes() + size_t{kRows} * kColumns * kSlab * 2; }

// More shared memory than a kernel gets unasked.
template <class K> void allow(K kernel, size_t bytes) {
  TRI_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(bytes)));
}

template <class F> void with_half(DType dtype, F f) {
  if (dtype == DType::kFloat16) f(Tag<__half>{});
  else f(Tag<__nv_bfloat16>{});
}

}  // namespace

bool takes_few_channels(const FewChannels& c) {
  const cpu::ConvSpec& s = c.spec;
  const bool half = c.dtype == DType::kFloat16 || c.dtype == DType::kBFloat16;
  if (!half || s.groups != 1 || s.ic > 4 || s.sw != 2 || s.dh != 1 || s.dw != 1 ||
      s.oc % kSlab != 0 || s.kw > 8 || s.n * s.oh * s.ow > 0x7fffffff || s.ic * s.h * s.w > 1 << 30)
    return false;
  const Few f = few_of(c);
  constexpr size_t kShared = 160 << 10;  // compute capability 8.0 has 163 KiB for a block
  return f.depth() <= 28 * 8 && forward_bytes(f) <= kShared && grad_bytes(f) <= kShared;
}

size_t few_channels_scratch(const FewChannels& c) {
  const Few f = few_of(c);
  return size_t{blocks_of(f)} * 2 * static_cast<size_t>(f.k) * sizeof(float);
}

void few_channels_forward(const FewChannels& c, const FewChannelsArgs& a, void* scratch,
                          void* stream) {
  const Few f = few_of(c);
  const size_t bytes = forward_bytes(f);
  const dim3 blocks(blocks_of(f), static_cast<unsigned>(f.k / kSlab));
  const auto s = static_cast<cudaStream_t>(stream);
  auto* partial = static_cast<float*>(scratch);
  with_half(c.dtype, [&]<class T>(Tag<T>) {
    const auto kernel = a.sums ? forward<T, true> : forward<T, false>;
    allow(kernel, bytes);
    kernel<<<blocks, kFewThreads, bytes, s>>>(
        static_cast<const T*>(a.x), static_cast<const T*>(a.weight), Small{a.bias, a.bias_dtype},
        a.relu, static_cast<T*>(a.y), partial, f);
    TRI_CUDA_LAUNCHED();
  });
  if (a.sums) join_channel_sums(partial, static_cast<int>(blocks.x), f.k, a.sums, stream);
}

size_t few_channels_wgrad_scratch(const FewChannels& c) {
  const Few f = few_of(c);
  return size_t{blocks_of(f)} * static_cast<size_t>(f.k * f.depth()) * sizeof(float);
}

void few_channels_wgrad(const FewChannels& c, const void* x, const void* dy, void* dweight,
                        void* scratch, void* stream) {
  const Few f = few_of(c);
  const size_t bytes = grad_bytes(f);
  const dim3 blocks(blocks_of(f), static_cast<unsigned>(f.k / kSlab));
  const auto s = static_cast<cudaStream_t>(stream);
  auto* partial = static_cast<float*>(scratch);
  with_half(c.dtype, [&]<class T>(Tag<T>) {
    const auto kernel = f.depth() <= kWarps * 2 * 8 ? weight_grad<T, 2> : weight_grad<T, 7>;
    allow(kernel, bytes);
    kernel<<<blocks, kFewThreads, bytes, s>>>(static_cast<const T*>(x), static_cast<const T*>(dy),
                                              partial, f);
    TRI_CUDA_LAUNCHED();
    join_weights<T>
        <<<blocks_for(int64_t{f.k} * f.depth(), kPartColumns), kPartRows * kPartColumns, 0, s>>>(
            partial, static_cast<int>(blocks.x), static_cast<T*>(dweight), f);
    TRI_CUDA_LAUNCHED();
  });
}

}  // namespace trireme::cuda
