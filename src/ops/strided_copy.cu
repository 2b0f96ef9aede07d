// Boxes of elements moved on the GPU: runs in the widest words that fit, transpositions through
// shared memory, all else element by element; padding that looks back into the picture.
#include "ops/cuda_common.cuh"
#include "ops/shape.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace cuda {
namespace {

constexpr int kMost = 16;  // dimensions: tile makes two of each

struct Dim {
  int64_t size, src, dst;
};

// Dimensions of 1 gone, neighbours that go on evenly merged.
std::vector<Dim> merged(const CopyBox& b) {
  std::vector<Dim> dims;
  for (size_t d = 0; d < b.dims.size(); ++d) {
    if (b.dims[d] == 1) continue;
    const Dim next{b.dims[d], b.src[d], b.dst[d]};
    if (!dims.empty() && dims.back().src == next.src * next.size &&
        dims.back().dst == next.dst * next.size) {
      dims.back() = {dims.back().size * next.size, next.src, next.dst};
    } else {
      dims.push_back(next);
    }
  }
  if (dims.empty()) dims.push_back({1, 1, 1});
  return dims;
}

struct Box {
  int rank = 0;
  int64_t elements = 1;
  Dim dims[kMost];  // outermost first
};

Box box_of(const std::vector<Dim>& dims) {
  Box b;
  TRI_CHECK(dims.size() <= kMost, "[copy] too many dimensions");
  for (const Dim& d : dims) b.dims[b.rank++] = d, b.elements *= d.size;
  return b;
}

// Offsets of element i of the box, counted with the last dimension fastest.
template <class I>
__device__ __forceinline__ void place(const Box& b, I i, int64_t& src, int64_t& dst) {
  src = dst = 0;
  for (int d = b.rank - 1; d > 0; --d) {
    const I size = static_cast<I>(b.dims[d].size), q = i / size, at = i - q * size;
    src += at * b.dims[d].src;
    dst += at * b.dims[d].dst;
    i = q;
  }
  src += i * b.dims[0].src;
  dst += i * b.dims[0].dst;
}

template <class W, class I>
__global__ void __launch_bounds__(kThreads) move(const W* src, W* dst, W value, Box b) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < b.elements;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    int64_t from, to;
    place(b, static_cast<I>(i), from, to);
    dst[to] = src ? src[from] : value;
  }
}

// The last two dimensions are (rows, columns): the source is dense along rows, the result along
// columns.
template <class W>
__global__ void __launch_bounds__(kThreads)
    transpose(const W* src, W* dst, Box outer, Dim rows, Dim columns) {
  __shared__ W tile[32][33];
  const int64_t across = (columns.size + 31) / 32, down = (rows.size + 31) / 32;
  int64_t block = blockIdx.x;
  const int64_t c0 = block % across * 32, r0 = block / across % down * 32;
  int64_t from, to;
  place(outer, block / (across * down), from, to);
  const int x = threadIdx.x % 32, y = threadIdx.x / 32;
  for (int k = y; k < 32; k += kThreads / 32)
    if (c0 + k < columns.size && r0 + x < rows.size)
      tile[k][x] = src[from + (c0 + k) * columns.src + (r0 + x) * rows.src];
  __syncthreads();
  for (int k = y; k < 32; k += kThreads / 32)
    if (r0 + k < rows.size && c0 + x < columns.size)
      dst[to + (r0 + k) * rows.dst + (c0 + x) * columns.dst] = tile[x][k];
}

// The widest word that a run can be cut into, in bytes.
size_t word_of(const std::vector<Dim>& dims, const CopyBox& b, size_t element) {
  if (dims.back().dst != 1 || (!b.fill && dims.back().src != 1)) return element;
  for (size_t word = 16; word > element; word /= 2) {
    const auto fits = [&](int64_t n) {
      return n * static_cast<int64_t>(element) % static_cast<int64_t>(word) == 0;
    };
    bool all = fits(dims.back().size) && fits(b.from) && fits(b.to);
    for (size_t d = 0; d + 1 < dims.size(); ++d)
      all = all && fits(dims[d].src) && fits(dims[d].dst);
    if (all) return word;
  }
  return element;
}

template <class F> auto with_word(size_t bytes, F&& f) {
  if (bytes == 16) return f(Tag<uint4>{});
  return with_size(bytes, f);
}

template <class W> W repeated(uint64_t value, size_t element) {
  char bytes[sizeof(W)];
  for (size_t i = 0; i < sizeof(W); i += element) memcpy(bytes + i, &value, element);
  W w;
  memcpy(&w, bytes, sizeof w);
  return w;
}

template <class W> Kernel move_kernel(std::vector<Dim> dims, const CopyBox& b, size_t element) {
  const auto ratio = static_cast<int64_t>(sizeof(W) / element);
  if (ratio > 1) {
    dims.back().size /= ratio;
    for (size_t d = 0; d + 1 < dims.size(); ++d) dims[d].src /= ratio, dims[d].dst /= ratio;
  }
  const Box box = box_of(dims);
  const W value = b.fill ? repeated<W>(b.value, element) : W{};
  const unsigned blocks = walking_blocks(box.elements);
  return {[=, from = b.from / ratio, to = b.to / ratio, input = b.input,
           fill = b.fill](const Launch& l) {
    const W* src = fill ? nullptr : l.input<W>(input) + from;
    W* dst = l.output<W>() + to;
    if (box.elements < int64_t{1} << 31)
      move<W, uint32_t><<<blocks, kThreads, 0, stream_of(l)>>>(src, dst, value, box);
    else move<W, uint64_t><<<blocks, kThreads, 0, stream_of(l)>>>(src, dst, value, box);
    TRI_CUDA_LAUNCHED();
  }};
}

// The dimension along which the source is dense, where that is not the last; -1: no transposition.
int dense_source(const std::vector<Dim>& dims) {
  if (dims.back().dst != 1 || dims.back().src == 1 || dims.back().size < 8) return -1;
  for (size_t d = 0; d + 1 < dims.size(); ++d)
    if (dims[d].src == 1 && dims[d].size >= 8) return static_cast<int>(d);
  return -1;
}

template <class W> Kernel transpose_kernel(std::vector<Dim> dims, int at, const CopyBox& b) {
  const Dim rows = dims[static_cast<size_t>(at)], columns = dims.back();
  dims.pop_back();
  dims.erase(dims.begin() + at);
  if (dims.empty()) dims.push_back({1, 0, 0});
  const Box outer = box_of(dims);
  const unsigned blocks =
      blocks_for(outer.elements * ((rows.size + 31) / 32) * ((columns.size + 31) / 32), 1);
  return {[=, from = b.from, to = b.to, input = b.input](const Launch& l) {
    transpose<W><<<blocks, kThreads, 0, stream_of(l)>>>(l.input<W>(input) + from,
                                                        l.output<W>() + to, outer, rows, columns);
    TRI_CUDA_LAUNCHED();
  }};
}

Kernel kernel_of(const CopyBox& b, size_t element) {
  const std::vector<Dim> dims = merged(b);
  const int at = b.fill ? -1 : dense_source(dims);
  if (at >= 0)
    return with_size(element, [&]<class W>(Tag<W>) { return transpose_kernel<W>(dims, at, b); });
  return with_word(word_of(dims, b, element),
                   [&]<class W>(Tag<W>) { return move_kernel<W>(dims, b, element); });
}

// ---- borders

struct Border {
  int rank = 0, mode = 0;  // 0 reflect, 1 replicate, 2 circular
  int64_t elements = 1, in[Shape::kMaxRank], out[Shape::kMaxRank], before[Shape::kMaxRank];
};

template <class W>
__global__ void __launch_bounds__(kThreads) pad_border(const W* x, W* y, Border b) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < b.elements;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    int64_t rest = i, from = 0, stride = 1;
    for (int d = b.rank - 1; d >= 0; --d) {
      const int64_t n = b.in[d];
      int64_t at = rest % b.out[d] - b.before[d];
      rest /= b.out[d];
      if (b.mode == 1) at = at < 0 ? 0 : at >= n ? n - 1 : at;
      else if (b.mode == 2) at = at < 0 ? at + n : at >= n ? at - n : at;
      else at = at < 0 ? -at : at >= n ? 2 * (n - 1) - at : at;
      from += at * stride;
      stride *= n;
    }
    y[i] = x[from];
  }
}

}  // namespace
}  // namespace cuda

Kernel cuda_copy_boxes(const std::vector<CopyBox>& boxes, size_t element_size) {
  std::vector<Kernel> kernels;
  for (const CopyBox& b : boxes) kernels.push_back(cuda::kernel_of(b, element_size));
  if (kernels.size() == 1) return kernels[0];
  return {[kernels](const Launch& l) {
    for (const Kernel& k : kernels) k.run(l);
  }};
}

Kernel cuda_pad_border(const Prepare& p) {
  const auto& a = p.attrs<PadAttrs>();
  const Shape in = physical_shape(p.in()),
              out = physical_shape({p.in().dtype, p.out().shape, p.in().layout});
  cuda::Border b;
  b.rank = in.rank();
  b.mode = a.mode == "reflect" ? 0 : a.mode == "replicate" ? 1 : 2;
  b.elements = out.numel();
  for (int d = 0; d < in.rank(); ++d) {
    const int at = physical_axis(p.in(), d);
    b.in[at] = in[at];
    b.out[at] = out[at];
    b.before[at] = a.paddings[2 * static_cast<size_t>(d)];
  }
  return with_size(size_of(p.in().dtype), [&]<class W>(Tag<W>) -> Kernel {
    return {[b](const Launch& l) {
      cuda::pad_border<W>
          <<<cuda::walking_blocks(b.elements), cuda::kThreads, 0, cuda::stream_of(l)>>>(
              l.input<W>(0), l.output<W>(), b);
      TRI_CUDA_LAUNCHED();
    }};
  });
}

}  // namespace trireme
