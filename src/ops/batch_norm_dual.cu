// Two training batch norms whose results are added, and ReLU on the GPU. What comes in through the
// kink is computed in both passes of the gradient: writing it down would move as many bytes.
#include "ops/batch_norm_device.cuh"

namespace trireme {
namespace cuda {
namespace {

// y = relu(a x + k + a2 x2 + k2), and its mask. A warp stays together: its threads join their bits.
template <int N, bool kRows, class T>
__global__ void __launch_bounds__(kThreads)
    apply_dual(const T* x, const T* __restrict__ x2, T* out,  // out may be x
               uint8_t* __restrict__ mask, const Acc<T>* __restrict__ a,
               const Acc<T>* __restrict__ a2, int64_t vectors, int64_t groups, int64_t channels) {
  using A = Acc<T>;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  A f[N], f2[N], k[N];
  const auto numbers = [&](int64_t at) {
    const int64_t c = channel_of<N, kRows>(at, groups, channels);
    A k2[N];
    numbers_at<N, kRows>(a, c, f);
    numbers_at<N, kRows>(a + channels, c, k);
    numbers_at<N, kRows>(a2, c, f2);
    numbers_at<N, kRows>(a2 + channels, c, k2);
#pragma unroll
    for (int n = 0; n < N; ++n) k[n] += k2[n];
  };
  const bool constant = kRows && step % groups == 0;
  wait_for_previous();
  numbers(first);
  for (int64_t i = first; i - threadIdx.x % 32 < vectors; i += step) {
    const bool there = i < vectors;
    unsigned bits = 0;
    if (there) {
      A v[N], w[N];
      load<N>(x + i * N, v);
      load<N>(x2 + i * N, w);
      if (!constant) numbers(i);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const A y = fma(f[n], v[n], k[n]) + f2[n] * w[n];
        bits |= (y > A(0) ? 1u : 0u) << n;
        v[n] = y > A(0) ? y : A(0);
      }
      store<N>(out + i * N, v);
    }
    put_bits<N>(mask, i, bits, there);
  }
}

template <class T> struct DualIncoming {
  const T *dy, *dy2;  // dy2 may be null
  const uint8_t* mask;

  // dy + dy2 where y is above the kink, else 0.
  template <int N> __device__ __forceinline__ void get(int64_t at, Acc<T> (&g)[N]) const {
    load<N>(dy + at, g);
    if (dy2 != nullptr) {
      Acc<T> more[N];
      load<N>(dy2 + at, more);
#pragma unroll
      for (int n = 0; n < N; ++n) g[n] += more[n];
    }
    const unsigned bits = get_bits<N>(mask, at);
#pragma unroll
    for (int n = 0; n < N; ++n) g[n] = bits >> n & 1 ? g[n] : Acc<T>(0);
  }
};

// Sums of g, g (x - mean) and g (x2 - mean2).
template <int N, bool kRows, class T>
__global__ void __launch_bounds__(kThreads)
    dual_grad_sums(const T* __restrict__ x, const T* __restrict__ x2, DualIncoming<T> in,
                   const Acc<T>* mean, const Acc<T>* mean2, Acc<T>* partial, int64_t count,
                   int64_t channels, int64_t run, int64_t images) {
  using A = Acc<T>;
  const auto body = [&](int64_t c, auto walk) {
    A m[N], m2[N];
    numbers_at<N, kRows>(mean, c, m);
    numbers_at<N, kRows>(mean2, c, m2);
    walk([&](int64_t at, int64_t step, auto unroll, A(&sums)[3][N]) {
      constexpr int U = decltype(unroll)::value;
      A v[U][N], w[U][N], g[U][N];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        load<N>(x + at + u * step, v[u]);
        load<N>(x2 + at + u * step, w[u]);
        in.template get<N>(at + u * step, g[u]);
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
#pragma unroll
        for (int n = 0; n < N; ++n) {
          sums[0][n] += g[u][n];
          sums[1][n] += g[u][n] * (v[u][n] - m[n]);
          sums[2][n] += g[u][n] * (w[u][n] - m2[n]);
        }
      }
    });
  };
  if constexpr (kRows) sum_rows<N, 2, 3>(count, channels, partial, body);
  else sum_runs<N, 3>(run, images, channels, partial, body);
}

template <class A>
__global__ void __launch_bounds__(1024)
    finish_dual(const A* partial, int parts, int64_t channels, Back<A> first, Back<A> second) {
  let_next_begin();
  wait_for_previous();
  join_parts<3>(partial, parts, channels, [&](int64_t c, const double(&sums)[3]) {
    first.finish(c, sums[0], sums[1]);
    second.finish(c, sums[0], sums[2]);
  });
}

// dx = a g + b x + k, and the same of x2; `numbers` and `numbers2` have a, b and k.
template <int N, bool kRows, class T>
__global__ void __launch_bounds__(kThreads, 3)
    dual_grad_apply(const T* x, const T* x2, DualIncoming<T> in, T* dx, T* dx2,  // may be x and x2
                    const Acc<T>* __restrict__ numbers, const Acc<T>* __restrict__ numbers2,
                    int64_t vectors, int64_t groups, int64_t channels) {
  using A = Acc<T>;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  A f[2][3][N];
  const auto get = [&](int64_t at) {
    const int64_t c = channel_of<N, kRows>(at, groups, channels);
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      numbers_at<N, kRows>(numbers + k * channels, c, f[0][k]);
      numbers_at<N, kRows>(numbers2 + k * channels, c, f[1][k]);
    }
  };
  const bool constant = kRows && step % groups == 0;
  wait_for_previous();
  get(first);
  for (int64_t i = first; i < vectors; i += step) {
    A v[N], w[N], g[N];
    load<N>(x + i * N, v);
    load<N>(x2 + i * N, w);
    in.template get<N>(i * N, g);
    if (!constant) get(i);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      v[n] = f[0][0][n] * g[n] + (f[0][1][n] * v[n] + f[0][2][n]);
      w[n] = f[1][0][n] * g[n] + (f[1][1][n] * w[n] + f[1][2][n]);
    }
    store<N>(dx + i * N, v);
    store<N>(dx2 + i * N, w);
  }
}

template <class T> Kernel forward(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(kDualPlaces[0].x), sizeof(T));
  const auto& attrs = p.attrs<BatchNormAttrs>();
  const Statistics<T> first(p, f, kDualPlaces[0], attrs.momentum, attrs.epsilon),
      second(p, f, kDualPlaces[1], attrs.momentum, attrs.epsilon);
  const auto run = [=](const Launch& l) {
    auto* scratch = static_cast<A*>(l.scratch);
    const A* a = first.take(l, scratch);
    const A* a2 = second.take(l, scratch + first.scratch());
    with_form<T>(f, [&](auto n, auto rows) {
      const int64_t vectors = f.channels * f.count / n(),
                    groups = (rows() ? f.channels : f.run) / n();
      launch_next(apply_dual<n(), rows(), T>, steady_blocks(f, vectors, groups), kThreads,
                  stream_of(l), l.input<T>(kDualPlaces[0].x), l.input<T>(kDualPlaces[1].x),
                  l.output<T>(2), l.output<uint8_t>(9), a, a2, vectors, groups, f.channels);
    });
    TRI_CUDA_LAUNCHED();
  };
  return {run, 2 * first.scratch() * sizeof(A)};
}

template <class T> Kernel backward(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(), sizeof(T), 2);
  const SmallInput scale(p, 2), mean(p, 3), inverse(p, 4), scale2(p, 5), mean2(p, 6),
      inverse2(p, 7);
  const bool more = p.has(10);
  const size_t partials = static_cast<size_t>(3 * f.channels) * f.parts;
  const auto run = [=](const Launch& l) {
    A *partial = static_cast<A*>(l.scratch), *a = partial + partials, *a2 = a + 3 * f.channels;
    const T *x = l.input<T>(0), *x2 = l.input<T>(1);
    const DualIncoming<T> in{l.input<T>(8), more ? l.input<T>(10) : nullptr, l.input<uint8_t>(9)};
    with_form<T>(f, [&](auto n, auto rows) {
      launch_next(dual_grad_sums<n(), rows(), T>, dim3(f.slabs, f.parts), kThreads, stream_of(l), x,
                  x2, in, l.input<A>(3), l.input<A>(6), partial, f.count, f.channels, f.run,
                  f.images);
    });
    const auto back = [&](const SmallInput& s, const SmallInput& m, const SmallInput& r, size_t out,
                          A* to) {
      return Back<A>{s.get(l),
                     m.get(l),
                     r.get(l),
                     l.output<A>(out),
                     l.output<A>(out + 1),
                     to,
                     to + f.channels,
                     to + 2 * f.channels,
                     static_cast<double>(f.count)};
    };
    launch_next(finish_dual<A>, blocks_for(f.channels, 32), 1024, stream_of(l), partial,
                static_cast<int>(f.parts), f.channels, back(scale, mean, inverse, 2, a),
                back(scale2, mean2, inverse2, 4, a2));
    TRI_CUDA_LAUNCHED();
    with_form<T>(f, [&](auto n, auto rows) {
      const int64_t vectors = f.channels * f.count / n(),
                    groups = (rows() ? f.channels : f.run) / n();
      launch_next(dual_grad_apply<n(), rows(), T>, steady_blocks(f, vectors, groups), kThreads,
                  stream_of(l), x, x2, in, l.output<T>(0), l.output<T>(1), a, a2, vectors, groups,
                  f.channels);
    });
    TRI_CUDA_LAUNCHED();
  };
  return {run, (partials + 6 * static_cast<size_t>(f.channels)) * sizeof(A)};
}

}  // namespace
}  // namespace cuda

Kernel cuda_fused_dual_bn_add_activation(const Prepare& p) {
  const Type& x = p.in(kDualPlaces[0].x);
  if (x.shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, x.dtype,
                                  [&]<class T>(Tag<T>) { return cuda::forward<T>(p); });
}
Kernel cuda_fused_dual_bn_add_activation_grad(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::backward<T>(p); });
}

}  // namespace trireme
