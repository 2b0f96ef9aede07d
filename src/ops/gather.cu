// gather, gather_nd, embedding, one_hot, index_add, scatter, embedding_grad on the GPU. Rows that
// are added to one place are added by one thread a column, in the order of the indices:
// deterministic.
#include "ops/cuda_common.cuh"
#include "ops/index.h"

namespace trireme {
namespace cuda {
namespace {

// y row (o, i) = x row (o, at[i]); rows of `run` words.
template <class W>
__global__ void __launch_bounds__(kThreads)
    gather_rows(const W* x, Index at, W* y, int64_t outer, int64_t places, int64_t count,
                int64_t run, int64_t zero, bool wraps) {
  const int64_t all = outer * count * run;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < all;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const int64_t row = i / run, c = i - row * run, o = row / count;
    int64_t from = at[row - o * count];
    if (wraps && from < 0) from += places;
    const bool none = from < 0 || from >= places || from == zero;
    y[i] = none ? W{} : x[(o * places + from) * run + c];
  }
}

// Flat rows of coordinates.
struct Grid {
  int64_t depth, size[Shape::kMaxRank];
};
template <class W>
__global__ void __launch_bounds__(kThreads)
    gather_nd(const W* x, Index at, W* y, int64_t count, int64_t run, Grid g) {
  const int64_t all = count * run;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < all;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const int64_t row = i / run;
    int64_t from = 0;
    bool none = false;
    for (int64_t d = 0; d < g.depth; ++d) {
      int64_t k = at[row * g.depth + d];
      if (k < 0) k += g.size[d];
      none = none || k < 0 || k >= g.size[d];
      from = from * g.size[d] + k;
    }
    y[i] = none ? W{} : x[from * run + i % run];
  }
}

__global__ void __launch_bounds__(kThreads)
    one_hot(Index at, float* y, int64_t all, int64_t depth) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < all;
       i += static_cast<int64_t>(gridDim.x) * kThreads)
    y[i] = at[i / depth] == i % depth ? 1.f : 0.f;
}

// ---- placing. The rows that fall on a place are listed: first[place] .. first[place + 1] of
// `rows`. The lists are filled in any order and then sorted, so that the sums have one.

__global__ void __launch_bounds__(kThreads) count_places(Index at, int32_t* counts, int64_t count,
                                                         int64_t places, int64_t skip, bool wraps) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  int64_t p = at[i];
  if (wraps && p < 0) p += places;
  if (p >= 0 && p < places && p != skip) atomicAdd(counts + p, 1);
}

// Exclusive sums by one block: [places] counts -> first [places + 1].
__global__ void __launch_bounds__(1024)
    sum_counts(const int32_t* counts, int32_t* first, int64_t places) {
  __shared__ int32_t sums[1024];
  const int64_t each = (places + 1023) / 1024, begin = threadIdx.x * each,
                end = min(places, begin + each);
  int32_t own = 0;
  for (int64_t p = begin; p < end; ++p) own += counts[p];
  sums[threadIdx.x] = own;
  __syncthreads();
  for (int o = 1; o < 1024; o *= 2) {
    const int32_t v = threadIdx.x >= o ? sums[threadIdx.x - o] : 0;
    __syncthreads();
    sums[threadIdx.x] += v;
    __syncthreads();
  }
  int32_t run = sums[threadIdx.x] - own;
  for (int64_t p = begin; p < end; ++p) {
    first[p] = run;
    run += counts[p];
  }
  if (threadIdx.x == 1023) first[places] = sums[1023];
}

// Rows into their places' parts, in any order; counts go down to zero.
__global__ void __launch_bounds__(kThreads)
    fill_rows(Index at, const int32_t* first, int32_t* counts, int32_t* rows, int64_t count,
              int64_t places, int64_t skip, bool wraps) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  int64_t p = at[i];
  if (wraps && p < 0) p += places;
  if (p < 0 || p >= places || p == skip) return;
  rows[first[p] + atomicSub(counts + p, 1) - 1] = static_cast<int32_t>(i);
}

// A warp a list.
__global__ void __launch_bounds__(kThreads)
    sort_lists(const int32_t* first, int32_t* rows, int64_t places) {
  const int64_t place = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (place >= places) return;
  const int32_t begin = first[place], n = first[place + 1] - begin;
  int32_t* list = rows + begin;
  const int lane = threadIdx.x % 32;
  if (n <= 32) {  // by rank
    const int32_t own = lane < n ? list[lane] : 0x7fffffff;
    int rank = 0;
    for (int k = 0; k < n; ++k) rank += __shfl_sync(~0u, own, k) < own;
    __syncwarp();
    if (lane < n) list[rank] = own;
    return;
  }
  // A bitonic network for any n: what would go behind the end counts as largest.
  int32_t size = 64;
  while (size < n) size *= 2;
  for (int32_t k = 2; k <= size; k *= 2) {
    for (int32_t j = k / 2; j > 0; j /= 2) {
      for (int32_t i = lane; i < size; i += 32) {
        // The first step of a merge compares mirrored places, so that all of it ascends.
        const int32_t other = j == k / 2 ? (i ^ (k - 1)) : (i ^ j);
        if (other > i && other < n) {
          const int32_t a = list[i], b = list[other];
          if (a > b) list[i] = b, list[other] = a;
        }
      }
      __syncwarp();
    }
  }
}

// dst row (o, place) op= the rows of its list.
template <class T>
__global__ void __launch_bounds__(kThreads)
    place_rows(const T* src, T* dst, const int32_t* first, const int32_t* rows, int64_t outer,
               int64_t places, int64_t count, int64_t inner, bool add, bool from_zero) {
  const int64_t all = outer * places * inner;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < all;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const int64_t slab = i / inner, c = i - slab * inner, o = slab / places, p = slab - o * places;
    const int32_t begin = first[p], end = first[p + 1];
    if (begin == end) {
      if (from_zero) dst[i] = down<T>(Acc<T>(0));
      continue;
    }
    const T* from = src + o * count * inner + c;
    if (!add) {
      dst[i] = from[static_cast<int64_t>(rows[end - 1]) * inner];
      continue;
    }
    Acc<T> sum = from_zero ? Acc<T>(0) : up(dst[i]);
    for (int32_t k = begin; k < end; ++k) sum += up(from[static_cast<int64_t>(rows[k]) * inner]);
    dst[i] = down<T>(sum);
  }
}

template <class F> Kernel in_words(size_t bytes, F f) {
  if (bytes % 16 == 0) return f(Tag<uint4>{}, static_cast<int64_t>(bytes / 16));
  if (bytes % 8 == 0) return f(Tag<uint2>{}, static_cast<int64_t>(bytes / 8));
  if (bytes % 4 == 0) return f(Tag<uint32_t>{}, static_cast<int64_t>(bytes / 4));
  if (bytes % 2 == 0) return f(Tag<uint16_t>{}, static_cast<int64_t>(bytes / 2));
  return f(Tag<uint8_t>{}, static_cast<int64_t>(bytes));
}

bool is_wide(const Prepare& p, size_t i) { return p.in(i).dtype == DType::kInt64; }

Kernel rows_kernel(const Prepare& p, const AxisSplit& s, int64_t zero, bool wraps) {
  const int64_t count = p.in(1).shape.numel();
  if (p.out().shape.numel() == 0) return nothing();
  const bool wide = is_wide(p, 1);
  return in_words(static_cast<size_t>(s.inner) * size_of(p.in().dtype),
                  [&]<class W>(Tag<W>, int64_t run) -> Kernel {
                    return {[=](const Launch& l) {
                      gather_rows<W>
                          <<<walking_blocks(s.outer * count * run), kThreads, 0, stream_of(l)>>>(
                              l.input<W>(0), Index{l.in[1], wide}, l.output<W>(), s.outer, s.size,
                              count, run, zero, wraps);
                      TRI_CUDA_LAUNCHED();
                    }};
                  });
}

struct Placing {
  int64_t outer, places, count, inner;
  bool add, from_zero, wraps;
  int64_t skip;
  size_t index, values;  // inputs
};

// Rows of coordinates as places; -1 outside.
__global__ void __launch_bounds__(kThreads)
    flat_places(Index at, int64_t* places, int64_t count, Grid g) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  int64_t place = 0;
  for (int64_t d = 0; d < g.depth; ++d) {
    int64_t k = at[i * g.depth + d];
    if (k < 0) k += g.size[d];
    if (k < 0 || k >= g.size[d]) place = -1;
    if (place >= 0) place = place * g.size[d] + k;
  }
  places[i] = place;
}

template <class T>
Kernel placing_kernel(const Prepare& p, const Placing& s, bool always_wide = false) {
  const bool wide = always_wide || is_wide(p, s.index);
  const auto places = static_cast<size_t>(s.places), count = static_cast<size_t>(s.count);
  TRI_CHECK(s.count < (int64_t{1} << 31), message(p.node.op->name, "has too many indices"));
  return {[=, bytes = p.out().bytes()](const Launch& l) {
            auto* counts = static_cast<int32_t*>(l.scratch);
            int32_t *first = counts + places, *rows = first + places + 1;
            const cudaStream_t stream = stream_of(l);
            const Index at{l.in[s.index], wide};
            if (!s.from_zero && l.out[0] != l.in[0])
              TRI_CUDA_CALL(
                  cudaMemcpyAsync(l.out[0], l.in[0], bytes, cudaMemcpyDeviceToDevice, stream));
            TRI_CUDA_CALL(cudaMemsetAsync(counts, 0, places * sizeof(int32_t), stream));
            count_places<<<blocks_for(s.count), kThreads, 0, stream>>>(at, counts, s.count,
                                                                       s.places, s.skip, s.wraps);
            sum_counts<<<1, 1024, 0, stream>>>(counts, first, s.places);
            fill_rows<<<blocks_for(s.count), kThreads, 0, stream>>>(
                at, first, counts, rows, s.count, s.places, s.skip, s.wraps);
            sort_lists<<<blocks_for(s.places, kThreads / 32), kThreads, 0, stream>>>(first, rows,
                                                                                     s.places);
            place_rows<T><<<walking_blocks(s.outer * s.places * s.inner), kThreads, 0, stream>>>(
                l.input<T>(s.values), l.output<T>(), first, rows, s.outer, s.places, s.count,
                s.inner, s.add, s.from_zero);
            TRI_CUDA_LAUNCHED();
          },
          (2 * places + 1 + count) * sizeof(int32_t)};
}

// The coordinates become places in front of the scratch of the kernel that places rows.
Kernel coordinates_placed(const Prepare& p) {
  const Shape &x = p.in().shape, &index = p.in(1).shape;
  Grid g{index.back(), {}};
  int64_t count = 1, places = 1, inner = 1;
  for (int d = 0; d + 1 < index.rank(); ++d) count *= index[d];
  for (int d = 0; d < x.rank(); ++d) {
    (d < g.depth ? places : inner) *= x[d];
    if (d < g.depth) g.size[d] = x[d];
  }
  const Placing s{1, places, count, inner, true, false, false, -1, 1, 2};
  const bool wide = is_wide(p, 1);
  Kernel place = with_cuda_number(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return placing_kernel<T>(p, s, true); });
  const size_t own = (static_cast<size_t>(count) * sizeof(int64_t) + 255) / 256 * 256;
  const auto run = [=, placed = place.run](const Launch& l) {
    auto* at = static_cast<int64_t*>(l.scratch);
    flat_places<<<blocks_for(count), kThreads, 0, stream_of(l)>>>(Index{l.in[1], wide}, at, count,
                                                                  g);
    TRI_CUDA_LAUNCHED();
    void* const in[] = {l.in[0], at, l.in[2]};
    placed(Launch{in, l.out, static_cast<char*>(l.scratch) + own, l.stream});
  };
  return {run, own + place.scratch};
}

Kernel rows_placed(const Prepare& p, int64_t axis, bool add) {
  if (p.out().shape.numel() == 0) return nothing();
  const AxisSplit x = split_at(p.in().shape, axis);
  const Placing s{x.outer, x.size, p.in(1).shape.numel(), x.inner, add, false, true, -1, 1, 2};
  return with_cuda_number(*p.node.op, p.in().dtype,
                          [&]<class T>(Tag<T>) { return placing_kernel<T>(p, s); });
}

}  // namespace
}  // namespace cuda

Kernel cuda_gather(const Prepare& p) {
  return cuda::rows_kernel(p, split_at(p.in().shape, p.attrs<AxisAttrs>().axis), -1, true);
}
Kernel cuda_embedding(const Prepare& p) {
  const int64_t padding = p.attrs<AxisAttrs>().axis;
  return cuda::rows_kernel(p, {1, p.in().shape[0], p.in().shape[1]}, padding, false);
}
Kernel cuda_gather_nd(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  const Shape& x = p.in().shape;
  cuda::Grid g{p.in(1).shape.back(), {}};
  int64_t inner = 1;
  for (int d = 0; d < x.rank(); ++d) {
    if (d < g.depth) g.size[d] = x[d];
    else inner *= x[d];
  }
  const int64_t count = p.out().shape.numel() / inner;
  const bool wide = cuda::is_wide(p, 1);
  return cuda::in_words(
      static_cast<size_t>(inner) * size_of(p.in().dtype),
      [&]<class W>(Tag<W>, int64_t run) -> Kernel {
        return {[=](const Launch& l) {
          cuda::gather_nd<W>
              <<<cuda::walking_blocks(count * run), cuda::kThreads, 0, cuda::stream_of(l)>>>(
                  l.input<W>(0), cuda::Index{l.in[1], wide}, l.output<W>(), count, run, g);
          TRI_CUDA_LAUNCHED();
        }};
      });
}
Kernel cuda_one_hot(const Prepare& p) {
  const int64_t depth = p.attrs<OneHotAttrs>().depth, all = p.out().shape.numel();
  if (all == 0) return cuda::nothing();
  return {[=, wide = cuda::is_wide(p, 0)](const Launch& l) {
    cuda::one_hot<<<cuda::walking_blocks(all), cuda::kThreads, 0, cuda::stream_of(l)>>>(
        cuda::Index{l.in[0], wide}, l.output<float>(), all, depth);
    TRI_CUDA_LAUNCHED();
  }};
}
Kernel cuda_index_add(const Prepare& p) {
  return cuda::rows_placed(p, p.attrs<AxisAttrs>().axis, true);
}
Kernel cuda_scatter_nd_add(const Prepare& p) {
  return p.out().shape.numel() == 0 ? cuda::nothing() : cuda::coordinates_placed(p);
}
Kernel cuda_scatter(const Prepare& p) { return cuda::rows_placed(p, 0, false); }
Kernel cuda_embedding_grad(const Prepare& p) {
  const auto& a = p.attrs<EmbeddingGradAttrs>();
  if (p.out().shape.numel() == 0) return cuda::nothing();
  const cuda::Placing s{
      1, a.rows, p.in().shape.numel(), p.out().shape[1], true, true, false, a.padding_idx, 0, 1};
  return cuda::with_cuda_floating(*p.node.op, p.out().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::placing_kernel<T>(p, s); });
}

}  // namespace trireme
