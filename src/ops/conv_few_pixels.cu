// A convolution of few pixels: the product [pixels, terms] x [terms, channels] on tensor cores,
// where a row's terms are gathered from the picture as they are needed. What counts is not the
// arithmetic but how long a block waits: weights are fetched while the kernel in front still runs,
// and blocks of a cluster share the terms of one tile, whose sums they read from one another.
#include <algorithm>
#include <array>

#include "ops/conv_few_pixels.h"
#include "ops/mma_device.cuh"

namespace trireme::cuda {
namespace {

constexpr int kChunk = 64;      // terms that are fetched at a time
constexpr int kRowBytes = 128;  // of a chunk in shared memory
constexpr int kPieces = 8;      // of 16 bytes, in a row
constexpr int kRowsAtOnce = kThreads / kPieces;
constexpr int kGroups = 2;  // of four warps: each takes a half of every chunk
constexpr int64_t kMostPixels = 1 << 20, kMostElements = int64_t{1} << 30;

int chunks_of(const FewPixelsConv& c) {
  return static_cast<int>((c.terms() + kChunk - 1) / kChunk);
}

// Integers below 2^20 by a small one, by way of its reciprocal.
struct Divisor {
  int value;
  float inverse;
  explicit Divisor(int v) : value(v), inverse(1.0f / static_cast<float>(v)) {}
  __device__ __forceinline__ int quotient(int i) const {
    return static_cast<int>((static_cast<float>(i) + 0.5f) * inverse);
  }
};

struct Problem {
  const void *x, *weight, *bias, *residual;
  void* y;
  int h, w, c, o, kw, stride_h, stride_w, top, left;
  int pixels, terms, chunks, column_tiles, split;
  Divisor oh, ow;
  bool relu;
};

// ---- one tile

template <int kRows, int kColumns> struct Tile {
  static constexpr int kDown = kRows >= 2 * kColumns ? 4 : 2;  // warps of a group
  static constexpr int kWarpRows = kRows / kDown, kWarpColumns = kColumns / (4 / kDown);
  static constexpr int kStageBytes = (kRows + kColumns) * kRowBytes;
  static constexpr int kBlocks = kRows * kColumns > 64 * 64 ? 2 : 3;  // on a multiprocessor
  static constexpr int kStages = std::clamp(70 * 1024 / kStageBytes, 4, 8);
  static constexpr int kPitch = kColumns + 4;  // of the sums, in floats
  static constexpr int kSumsBytes = kGroups * kRows * kPitch * 4;
  static constexpr int kBiasBytes = kColumns * 4;
  static constexpr int kVectors = kColumns / 8;  // of a row of results
  static_assert(kWarpRows % 16 == 0 && kWarpColumns % 16 == 0);
  static_assert(kRows % kRowsAtOnce == 0 && kColumns % kRowsAtOnce == 0);
};

// Dynamic shared memory: stages, later the sums in their place; the bias; the residual.
struct Memory {
  int bias, residual, bytes;
};
template <int kRows, int kColumns> Memory memory_of(int chunks, int split, bool has_residual) {
  using Tiles = Tile<kRows, kColumns>;
  const int stages = std::min(Tiles::kStages, (chunks + split - 1) / split);
  Memory m{};
  m.bias = std::max(stages * Tiles::kStageBytes, Tiles::kSumsBytes);
  m.residual = m.bias + Tiles::kBiasBytes;
  m.bytes = m.residual + (has_residual ? kRows / split * kColumns * 2 : 0);
  return m;
}

// ---- instructions

// All threads of the cluster have come here, and see what they wrote to shared memory.
__device__ __forceinline__ void meet_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;" ::
          : "memory");
#endif
}
// An address of this block's shared memory in another block of the cluster.
__device__ __forceinline__ uint32_t address_in(uint32_t address, int block) {
#if __CUDA_ARCH__ >= 900
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(block));
  return there;
#else
  return address;
#endif
}
__device__ __forceinline__ float4 load_from_cluster(uint32_t from) {
  float4 v{};
#if __CUDA_ARCH__ >= 900
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(from)
               : "memory");
#endif
  return v;
}

// ---- fetching

// Where a piece of a row lies: pieces are swapped so that ldmatrix meets no bank twice.
__device__ __forceinline__ uint32_t place(int row, int piece) {
  return row * kRowBytes + ((piece ^ (row & 7)) << 4);
}

// Place `at` among the terms: row and column of the kernel, and the channel.
struct Term {
  int at, r, s, c;

  __device__ __forceinline__ Term(const Problem& p, int at_) : at(at_) {
    const int tap = at / p.c;
    c = at - tap * p.c;
    r = tap / p.kw;
    s = tap - r * p.kw;
  }
  __device__ __forceinline__ void next_chunk(const Problem& p) {
    at += kChunk;
    c += kChunk;
    while (c >= p.c) {
      c -= p.c;
      if (++s == p.kw) s = 0, ++r;
    }
  }
};

// The rows of weights that a thread fetches pieces of.
template <class T, int kColumns> class Weights {
 public:
  __device__ __forceinline__ Weights(const Problem& p, int first_column, int row, int at)
      : terms_(p.terms),
        at_(at),
        columns_(p.o - first_column - row),
        weight_(static_cast<const T*>(p.weight)) {
    row_ = weight_ + static_cast<int64_t>(first_column + row) * p.terms + at;
  }
  __device__ __forceinline__ void fetch_next(uint32_t to) {
#pragma unroll
    for (int i = 0; i < kColumns / kRowsAtOnce; ++i) {
      const bool there = at_ < terms_ && i * kRowsAtOnce < columns_;
      const T* from = row_ + static_cast<int64_t>(i * kRowsAtOnce) * terms_;
      copy_16(to + i * kRowsAtOnce * kRowBytes, there ? from : weight_, there);
    }
    row_ += kChunk;
    at_ += kChunk;
  }

 private:
  int terms_, at_, columns_;
  const T *weight_, *row_;
};

// The pixels whose terms a thread fetches pieces of.
template <class T, int kRows> class Pixels {
 public:
  __device__ __forceinline__ Pixels(const Problem& p, int first_row, int row, int at)
      : term_(p, at), x_(static_cast<const T*>(p.x)) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int pixel = first_row + row + i * kRowsAtOnce;
      const bool there = pixel < p.pixels;
      const int line = p.ow.quotient(pixel), picture = p.oh.quotient(line);
      h_[i] = there ? (line - picture * p.oh.value) * p.stride_h - p.top : kNowhere;
      w_[i] = (pixel - line * p.ow.value) * p.stride_w - p.left;
      corner_[i] = there ? ((picture * p.h + h_[i]) * p.w + w_[i]) * p.c : 0;
    }
  }
  __device__ __forceinline__ void fetch_next(const Problem& p, uint32_t to) {
    const int offset = (term_.r * p.w + term_.s) * p.c + term_.c;
    const bool summed = term_.at < p.terms;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const bool there = summed &&
                         static_cast<unsigned>(h_[i] + term_.r) < static_cast<unsigned>(p.h) &&
                         static_cast<unsigned>(w_[i] + term_.s) < static_cast<unsigned>(p.w);
      copy_16(to + i * kRowsAtOnce * kRowBytes, there ? x_ + (corner_[i] + offset) : x_, there);
    }
    term_.next_chunk(p);
  }

 private:
  static constexpr int kCount = kRows / kRowsAtOnce;
  static constexpr int kNowhere = -(1 << 28);
  Term term_;
  const T* x_;
  int h_[kCount], w_[kCount], corner_[kCount];  // of the window; the last in elements
};

// ---- sums

// A warp's part of the tile, of its group's terms.
template <class T, int kRows, int kColumns> class Sums {
  using Tiles = Tile<kRows, kColumns>;

 public:
  __device__ __forceinline__ Sums() {
    const int warp = threadIdx.x / 32;
    group_ = warp / 4;
    row_ = warp % Tiles::kDown * Tiles::kWarpRows;
    column_ = warp % 4 / Tiles::kDown * Tiles::kWarpColumns;
  }
  // A chunk in shared memory: pixels at `a`, weights at `b`.
  __device__ __forceinline__ void add(uint32_t a, uint32_t b) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 0; step < kChunk / kGroups / 16; ++step) {
      const int piece = (group_ * (kChunk / kGroups / 16) + step) * 2;
      uint32_t rows[kDown][4], columns[kAcross / 2][4];
#pragma unroll
      for (int i = 0; i < kDown; ++i)
        load_matrices(a + place(row_ + i * 16 + lane % 16, piece + lane / 16), rows[i]);
#pragma unroll
      for (int j = 0; j < kAcross / 2; ++j)
        load_matrices(b + place(column_ + j * 16 + lane % 8 + lane / 16 * 8, piece + lane / 8 % 2),
                      columns[j]);
#pragma unroll
      for (int i = 0; i < kDown; ++i)
#pragma unroll
        for (int j = 0; j < kAcross; ++j)
          multiply_add<T>(sums_[i][j], rows[i], columns[j / 2][j % 2 * 2],
                          columns[j / 2][j % 2 * 2 + 1]);
    }
  }
  // To shared memory: [group, row, column].
  __device__ __forceinline__ void store(float* to) const {
    const int lane = threadIdx.x % 32;
    to += (group_ * kRows + row_ + lane / 4) * Tiles::kPitch + column_ + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        float* at = to + i * 16 * Tiles::kPitch + j * 8;
        *reinterpret_cast<float2*>(at) = make_float2(sums_[i][j][0], sums_[i][j][1]);
        *reinterpret_cast<float2*>(at + 8 * Tiles::kPitch) =
            make_float2(sums_[i][j][2], sums_[i][j][3]);
      }
    }
  }

 private:
  static constexpr int kDown = Tiles::kWarpRows / 16, kAcross = Tiles::kWarpColumns / 8;
  int group_, row_, column_;
  float sums_[kDown][kAcross][4] = {};
};

// Adds eight neighbouring sums of both groups of `kBlocks` blocks. All are asked for before the
// first is needed. kBlocks 0: of this block, which is alone.
template <int kBlocks, int kRows, int kPitch>
__device__ __forceinline__ void add_sums(float (&v)[8], const float* mine, int first) {
  constexpr int kCount = std::max(kBlocks, 1);
  float4 parts[kCount][kGroups][2];
#pragma unroll
  for (int b = 0; b < kCount; ++b) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const float* from = mine + g * kRows * kPitch;
      if constexpr (kBlocks == 0) {
        parts[b][g][0] = reinterpret_cast<const float4*>(from)[0];
        parts[b][g][1] = reinterpret_cast<const float4*>(from)[1];
      } else {
        const uint32_t there = address_in(shared_address(from), first + b);
        parts[b][g][0] = load_from_cluster(there);
        parts[b][g][1] = load_from_cluster(there + 16);
      }
    }
  }
#pragma unroll
  for (int b = 0; b < kCount; ++b) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const float4 low = parts[b][g][0], high = parts[b][g][1];
      v[0] += low.x, v[1] += low.y, v[2] += low.z, v[3] += low.w;
      v[4] += high.x, v[5] += high.y, v[6] += high.z, v[7] += high.w;
    }
  }
}

// ---- the kernel

template <class T, int kRows, int kColumns>
__global__ void __launch_bounds__(kThreads, Tile<kRows, kColumns>::kBlocks)
    few_pixels(const __grid_constant__ Problem p, Memory places) {
  using Tiles = Tile<kRows, kColumns>;
  constexpr int kStages = Tiles::kStages;
  extern __shared__ __align__(128) char memory[];
  const int first_column = static_cast<int>(blockIdx.x % p.column_tiles) * kColumns,
            first_row = static_cast<int>(blockIdx.x / p.column_tiles) * kRows;
  const int rank = static_cast<int>(blockIdx.z), thread = static_cast<int>(threadIdx.x);
  const int first = p.chunks * rank / p.split, chunks = p.chunks * (rank + 1) / p.split - first;
  const int row = thread / kPieces, piece = thread % kPieces;
  const uint32_t stages = shared_address(memory), mine = stages + place(row, piece);
  const auto stage = [](int chunk) {
    return static_cast<uint32_t>(chunk % kStages * Tiles::kStageBytes);
  };

  // What does not depend on the kernel in front: weights and bias.
  const int at = first * kChunk + piece * 8;
  Weights<T, kColumns> weights(p, first_column, row, at);
#pragma unroll
  for (int k = 0; k < kStages - 1; ++k)
    if (k < chunks) weights.fetch_next(mine + kRows * kRowBytes + stage(k));
  if (thread < kColumns / 4) {
    const int column = first_column + thread * 4;
    const bool there = p.bias != nullptr && column < p.o;
    copy_16(stages + places.bias + thread * 16,
            there ? static_cast<const float*>(p.bias) + column : p.weight, there);
  }
  Pixels<T, kRows> pixels(p, first_row, row, at);
  wait_for_previous();

#pragma unroll
  for (int k = 0; k < kStages - 1; ++k) {
    if (k < chunks) pixels.fetch_next(p, mine + stage(k));
    if (k < kStages - 2) end_of_copies();
  }
  // Results are made by all blocks of the cluster, each its rows; a thread fetches the residual of
  // those that it makes.
  const int rows = kRows / p.split, vectors = rows * Tiles::kVectors;
  const auto for_results = [&](auto make) {
#pragma unroll
    for (int i = 0; i < (kRows * Tiles::kVectors + kThreads - 1) / kThreads; ++i) {
      const int v = thread + i * kThreads, r = rank * rows + v / Tiles::kVectors,
                c = v % Tiles::kVectors * 8;
      if (v < vectors && first_row + r < p.pixels && first_column + c < p.o)
        make(v, r, c, static_cast<int64_t>(first_row + r) * p.o + first_column + c);
    }
  };
  if (p.residual != nullptr)
    for_results([&](int v, int, int, int64_t element) {
      copy_16(stages + places.residual + v * 16, static_cast<const T*>(p.residual) + element, true);
    });
  end_of_copies();

  Sums<T, kRows, kColumns> sums;
  for (int k = 0; k < chunks; ++k) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    if (k + kStages - 1 < chunks) {
      const uint32_t to = mine + stage(k + kStages - 1);
      weights.fetch_next(to + kRows * kRowBytes);
      pixels.fetch_next(p, to);
    }
    end_of_copies();
    const uint32_t from = stages + stage(k);
    sums.add(from, from + kRows * kRowBytes);
  }
  wait_for_copies<0>();
  __syncthreads();
  float* const parts = reinterpret_cast<float*>(memory);
  sums.store(parts);
  let_next_begin();
  if (p.split > 1) meet_cluster();
  else __syncthreads();

  for_results([&](int v, int r, int c, int64_t element) {
    float y[8] = {}, low[4], high[4];
    if (p.residual != nullptr)
      load<8>(reinterpret_cast<const T*>(memory + places.residual) + v * 8, y);
    const float* from = parts + r * Tiles::kPitch + c;
    if (p.split == 1) add_sums<0, kRows, Tiles::kPitch>(y, from, 0);
    else if (p.split == 2) add_sums<2, kRows, Tiles::kPitch>(y, from, 0);
    else
      for (int b = 0; b < p.split; b += 4) add_sums<4, kRows, Tiles::kPitch>(y, from, b);
    load<4>(reinterpret_cast<const float*>(memory + places.bias) + c, low);
    load<4>(reinterpret_cast<const float*>(memory + places.bias) + c + 4, high);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      y[i] += i < 4 ? low[i % 4] : high[i % 4];
      if (p.relu && y[i] < 0) y[i] = 0;
    }
    store<8>(static_cast<T*>(p.y) + element, y);
  });
  if (p.split > 1) meet_cluster();  // others still read this block's sums
}

template <class T, int kRows, int kColumns>
FewPixelsKernel kernel_of(const FewPixelsConv& c, int split) {
  const auto kernel = few_pixels<T, kRows, kColumns>;
  const int most = memory_of<kRows, kColumns>(kChunk, 1, true).bytes;
  int device = 0, there = 0;
  TRI_CUDA_CALL(cudaGetDevice(&device));
  TRI_CUDA_CALL(cudaDeviceGetAttribute(&there, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (most > there) return {};
  TRI_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
  const int column_tiles = (c.o + kColumns - 1) / kColumns,
            row_tiles = static_cast<int>((c.pixels() + kRows - 1) / kRows);
  const Problem problem{.h = c.h,
                        .w = c.w,
                        .c = c.c,
                        .o = c.o,
                        .kw = c.kw,
                        .stride_h = c.stride_h,
                        .stride_w = c.stride_w,
                        .top = c.top,
                        .left = c.left,
                        .pixels = static_cast<int>(c.pixels()),
                        .terms = static_cast<int>(c.terms()),
                        .chunks = chunks_of(c),
                        .column_tiles = column_tiles,
                        .split = split,
                        .oh = Divisor(c.oh),
                        .ow = Divisor(c.ow),
                        .relu = c.relu};
  const dim3 blocks(static_cast<unsigned>(column_tiles * row_tiles), 1,
                    static_cast<unsigned>(split));
  return [=](const FewPixelsArgs& a, void* stream) {
    Problem p = problem;
    p.x = a.x, p.weight = a.weight, p.bias = a.bias, p.residual = a.residual, p.y = a.y;
    const Memory memory = memory_of<kRows, kColumns>(p.chunks, split, a.residual != nullptr);
    launch_next(kernel,
                {.blocks = blocks,
                 .threads = kThreads,
                 .shared = static_cast<size_t>(memory.bytes),
                 .cluster = dim3(1, 1, static_cast<unsigned>(split))},
                static_cast<cudaStream_t>(stream), p, memory);
  };
}

template <class T> FewPixelsKernel kernel_of(const FewPixelsConv& c, const FewPixelsTiling& t) {
  const auto is = [&t](int rows, int columns) { return t.rows == rows && t.columns == columns; };
  if (is(32, 32)) return kernel_of<T, 32, 32>(c, t.split);
  if (is(32, 64)) return kernel_of<T, 32, 64>(c, t.split);
  if (is(64, 32)) return kernel_of<T, 64, 32>(c, t.split);
  if (is(64, 64)) return kernel_of<T, 64, 64>(c, t.split);
  if (is(64, 128)) return kernel_of<T, 64, 128>(c, t.split);
  if (is(128, 64)) return kernel_of<T, 128, 64>(c, t.split);
  fail(Code::kInternal, "[conv2d] no kernel for few pixels has tiles of " + t.str());
}

}  // namespace

std::string FewPixelsTiling::str() const {
  return std::to_string(rows) + 'x' + std::to_string(columns) + '/' + std::to_string(split);
}

std::vector<FewPixelsTiling> few_pixels_tilings(const FewPixelsConv& c) {
  const bool half = c.dtype == DType::kFloat16 || c.dtype == DType::kBFloat16;
  if (!half || c.c < 8 || c.c % 8 != 0 || c.o < 8 || c.o % 8 != 0) return {};
  const int64_t elements = int64_t{c.n} * (c.h + 2 * c.top) * (c.w + 2 * c.left) * c.c;
  if (c.pixels() < 1 || c.pixels() > kMostPixels) return {};
  if (elements > kMostElements || c.terms() > kMostElements) return {};
  std::vector<FewPixelsTiling> all;
  constexpr std::array<std::array<int, 2>, 6> kTiles{
      {{32, 32}, {32, 64}, {64, 32}, {64, 64}, {64, 128}, {128, 64}}};
  for (const auto& [rows, columns] : kTiles)
    for (const int split : {1, 2, 4, 8})
      if (split <= chunks_of(c)) all.push_back({rows, columns, split});
  return all;
}

std::vector<FewPixelsTiling> likely_tilings(const FewPixelsConv& c, int multiprocessors) {
  std::vector<FewPixelsTiling> likely = few_pixels_tilings(c);
  std::erase_if(likely, [&](const FewPixelsTiling& t) {
    const int64_t row_tiles = (c.pixels() + t.rows - 1) / t.rows,
                  column_tiles = (c.o + t.columns - 1) / t.columns;
    // Half a tile that is empty is waste, as are parts of one chunk, and parts where whole sums
    // fill the device.
    if ((t.rows > 32 && c.pixels() <= t.rows / 2) || (t.columns > 32 && c.o <= t.columns / 2))
      return true;
    return t.split > 1 &&
           (chunks_of(c) < 2 * t.split || row_tiles * column_tiles * t.split > 4 * multiprocessors);
  });
  return likely;
}

FewPixelsKernel few_pixels_kernel(const FewPixelsConv& c, const FewPixelsTiling& t) {
  return c.dtype == DType::kBFloat16 ? kernel_of<__nv_bfloat16>(c, t) : kernel_of<__half>(c, t);
}

}  // namespace trireme::cuda
