// group_norm_grad on the GPU: a block an image's group; statistics are computed again.
#include "ops/cuda_common.cuh"
#include "ops/norm.h"

namespace trireme {
namespace cuda {
namespace {

struct Groups {
  int64_t channels, pixels, width;  // width: channels of a group
  bool last;                        // channels innermost

  __device__ __forceinline__ int64_t at(int64_t image, int64_t c, int64_t s) const {
    return last ? (image * pixels + s) * channels + c : (image * channels + c) * pixels + s;
  }
};

// sums: [images, 2, channels] of dy and of dy (x - mean) / deviation.
template <class T>
__global__ void __launch_bounds__(kThreads) group_grad(const T* x, Small scale, const T* dy, T* dx,
                                                       Acc<T>* sums, Groups g, Acc<T> epsilon) {
  using A = Acc<T>;
  const int64_t groups = g.channels / g.width, image = blockIdx.x / groups,
                first = blockIdx.x % groups * g.width, n = g.width * g.pixels;
  // Elements of the group in the order of memory.
  const auto place = [&](int64_t i, int64_t& c) {
    c = first + (g.last ? i % g.width : i / g.pixels);
    return g.at(image, c, g.last ? i / g.width : i % g.pixels);
  };
  int64_t c;
  A sum = 0, squares = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) sum += up(x[place(i, c)]);
  const A mean = group_reduce<kThreads>(sum, Plus{}) / static_cast<A>(n);
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const A d = up(x[place(i, c)]) - mean;
    squares += d * d;
  }
  const A r = inverse_root(group_reduce<kThreads>(squares, Plus{}) / static_cast<A>(n) + epsilon);
  A all = 0, products = 0;
  for (c = first; c < first + g.width; ++c) {
    A a = 0, b = 0;
    for (int64_t s = threadIdx.x; s < g.pixels; s += kThreads) {
      const int64_t i = g.at(image, c, s);
      a += up(dy[i]);
      b += up(dy[i]) * (up(x[i]) - mean);
    }
    a = group_reduce<kThreads>(a, Plus{});
    b = group_reduce<kThreads>(b, Plus{});
    if (threadIdx.x == 0) {
      sums[2 * image * g.channels + c] = a;
      sums[(2 * image + 1) * g.channels + c] = b * r;
    }
    const A f = scale.at(c, A(1));
    all += f * a;
    products += f * b;
  }
  const A count = static_cast<A>(n), by_x = -r * r * r * products / count,
          k = -r * all / count - by_x * mean;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const int64_t at = place(i, c);
    dx[at] = down<T>(r * scale.at(c, A(1)) * up(dy[at]) + (by_x * up(x[at]) + k));
  }
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    join_images(const A* sums, A* dscale, A* dbias, int64_t images, int64_t channels) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= channels) return;
  double bias = 0, scale = 0;
  for (int64_t n = 0; n < images; ++n) {
    bias += sums[2 * n * channels + c];
    scale += sums[(2 * n + 1) * channels + c];
  }
  dscale[c] = static_cast<A>(scale);
  dbias[c] = static_cast<A>(bias);
}

template <class T> Kernel grad_kernel(const Prepare& p) {
  using A = Acc<T>;
  const Shape& x = p.in().shape;
  const auto& attrs = p.attrs<NormAttrs>();
  const int64_t images = x[0], groups = attrs.groups;
  const bool last = channels_last(p.in(0)) || channels_last(p.out());
  const Groups g{x[1], split_at(x, 1).inner, x[1] / groups, last};
  const SmallInput scale(p, 1);
  const auto epsilon = static_cast<A>(attrs.epsilon);
  const auto run = [=, blocks = blocks_for(images * groups, 1)](const Launch& l) {
    auto* sums = static_cast<A*>(l.scratch);
    group_grad<T><<<blocks, kThreads, 0, stream_of(l)>>>(l.input<T>(0), scale.get(l), l.input<T>(2),
                                                         l.output<T>(0), sums, g, epsilon);
    TRI_CUDA_LAUNCHED();
    join_images<A><<<blocks_for(g.channels), kThreads, 0, stream_of(l)>>>(
        sums, l.output<A>(1), l.output<A>(2), images, g.channels);
    TRI_CUDA_LAUNCHED();
  };
  return {run, static_cast<size_t>(2 * images * g.channels) * sizeof(A)};
}

}  // namespace
}  // namespace cuda

Kernel cuda_group_norm_grad(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::grad_kernel<T>(p); });
}

}  // namespace trireme
