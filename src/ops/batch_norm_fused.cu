// Training batch norm with a residual and ReLU on the GPU, forward and backward. With a residual
// the kink is kept as one bit an element; without one it is computed again from x.
#include "ops/batch_norm_device.cuh"

namespace trireme {
namespace cuda {
namespace {

constexpr size_t kX = 2;  // of the forward inputs (mean, variance, x, scale, bias, z)

// out = relu(a x + k [+ z]), with a mask if there is z. A warp stays together: its threads join
// their bits. out may be x.
template <int N, bool kRows, bool kResidual, class T>
__global__ void __launch_bounds__(kThreads)
    apply_act(const T* x, const T* z, T* out, uint8_t* __restrict__ mask,
              const Acc<T>* __restrict__ a, const Acc<T>* __restrict__ k, int64_t vectors,
              int64_t groups, int64_t channels) {
  using A = Acc<T>;
  constexpr int U = 2;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  A fa[N], fk[N];
  const auto numbers = [&](int64_t at) {
    const int64_t c = channel_of<N, kRows>(at, groups, channels);
    numbers_at<N, kRows>(a, c, fa);
    numbers_at<N, kRows>(k, c, fk);
  };
  const bool constant = kRows && step % groups == 0;
  wait_for_previous();
  numbers(first);
  for (int64_t i = first; i - threadIdx.x % 32 < vectors; i += U * step) {
    A v[U][N];
    [[maybe_unused]] A r[U][N];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = (i + u * step) * N;
      if (i + u * step >= vectors) continue;
      load<N>(x + at, v[u]);
      if constexpr (kResidual) load<N>(z + at, r[u]);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = i + u * step;
      const bool there = at < vectors;
      unsigned bits = 0;
      if (there) {
        if (!constant) numbers(at);
#pragma unroll
        for (int n = 0; n < N; ++n) {
          A y = fma(fa[n], v[u][n], fk[n]);
          if constexpr (kResidual) y += r[u][n];
          bits |= (y > A(0) ? 1u : 0u) << n;
          v[u][n] = y > A(0) ? y : A(0);
        }
        store<N>(out + at * N, v[u]);
      }
      if constexpr (kResidual) put_bits<N>(mask, at, bits, there);
    }
  }
}

// The channel's numbers in the backward pass.
template <class A> struct Saved {
  const A *scale, *bias, *mean, *inverse;

  template <int N, bool kRows>
  __device__ __forceinline__ void affine(int64_t c, A (&factor)[N], A (&offset)[N],
                                         A (&means)[N]) const {
    A s[N], b[N], r[N];
    numbers_at<N, kRows>(scale, c, s);
    numbers_at<N, kRows>(bias, c, b);
    numbers_at<N, kRows>(mean, c, means);
    numbers_at<N, kRows>(inverse, c, r);
#pragma unroll
    for (int n = 0; n < N; ++n) affine_of(s[n], b[n], means[n], r[n], factor[n], offset[n]);
  }
};

// Sums of g and g (x - mean), where g is dy on the side of the kink where y is computed to lie.
template <int N, bool kRows, class T>
__global__ void __launch_bounds__(kThreads, 2)
    act_grad_sums(const T* __restrict__ x, const T* __restrict__ dy, Saved<Acc<T>> saved,
                  Acc<T>* partial, int64_t count, int64_t channels, int64_t run, int64_t images) {
  using A = Acc<T>;
  const auto body = [&](int64_t c, auto walk) {
    A m[N], factor[N], offset[N];
    saved.template affine<N, kRows>(c, factor, offset, m);
    walk([&](int64_t at, int64_t step, auto unroll, A(&sums)[2][N]) {
      constexpr int U = decltype(unroll)::value;
      A v[U][N], g[U][N];
#pragma unroll
      for (int u = 0; u < U; ++u)
        load<N>(x + at + u * step, v[u]), load<N>(dy + at + u * step, g[u]);
#pragma unroll
      for (int u = 0; u < U; ++u) {
#pragma unroll
        for (int i = 0; i < N; ++i) {
          const A d = fma(factor[i], v[u][i], offset[i]) > A(0) ? g[u][i] : A(0);
          sums[0][i] += d;
          sums[1][i] += d * (v[u][i] - m[i]);
        }
      }
    });
  };
  if constexpr (kRows) sum_rows<N>(count, channels, partial, body);
  else sum_runs<N>(run, images, channels, partial, body);
}

// The same where a mask tells the side, of dy + dy2 (dy2 may be null); g is written, and may be dy.
template <int N, bool kRows, bool kSecond, class T>
__global__ void __launch_bounds__(kThreads, 3)
    mask_grad_sums(const T* __restrict__ x, const T* dy, const T* __restrict__ dy2,
                   const uint8_t* __restrict__ mask, T* g, const Acc<T>* mean, Acc<T>* partial,
                   int64_t count, int64_t channels, int64_t run, int64_t images) {
  using A = Acc<T>;
  const auto body = [&](int64_t c, auto walk) {
    A m[N];
    numbers_at<N, kRows>(mean, c, m);
    walk([&](int64_t at, int64_t step, auto unroll, A(&sums)[2][N]) {
      constexpr int U = decltype(unroll)::value;
      A v[U][N], d[U][N];
      [[maybe_unused]] A e[U][N];
      unsigned bits[U];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        load<N>(x + at + u * step, v[u]), load<N>(dy + at + u * step, d[u]);
        if constexpr (kSecond) load<N>(dy2 + at + u * step, e[u]);
        bits[u] = get_bits<N>(mask, at + u * step);
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
#pragma unroll
        for (int i = 0; i < N; ++i) {
          if constexpr (kSecond) d[u][i] += e[u][i];
          d[u][i] = bits[u] >> i & 1 ? d[u][i] : A(0);
          sums[0][i] += d[u][i];
          sums[1][i] += d[u][i] * (v[u][i] - m[i]);
        }
        store<N>(g + at + u * step, d[u]);
      }
    });
  };
  if constexpr (kRows) sum_rows<N, 2>(count, channels, partial, body);
  else sum_runs<N>(run, images, channels, partial, body);
}

// dx = a g + b x + k, where g is dy on the side of the kink where y is computed to lie; a is the
// factor of y.
template <int N, bool kRows, class T>
__global__ void __launch_bounds__(kThreads, 3)
    apply_act_grad(const T* x, const T* __restrict__ dy, T* dx,  // dx may be x
                   Saved<Acc<T>> saved, const Acc<T>* __restrict__ b, const Acc<T>* __restrict__ k,
                   int64_t vectors, int64_t groups, int64_t channels) {
  using A = Acc<T>;
  constexpr int U = 2;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  A fb[N], fk[N], factor[N], offset[N];
  const auto numbers = [&](int64_t at) {
    const int64_t c = channel_of<N, kRows>(at, groups, channels);
    numbers_at<N, kRows>(b, c, fb);
    numbers_at<N, kRows>(k, c, fk);
    A mean[N];
    saved.template affine<N, kRows>(c, factor, offset, mean);
  };
  const bool constant = kRows && step % groups == 0;
  wait_for_previous();
  numbers(first);
  for (int64_t i = first; i < vectors; i += U * step) {
    A v[U][N], g[U][N];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (i + u * step >= vectors) continue;
      load<N>(x + (i + u * step) * N, v[u]);
      load<N>(dy + (i + u * step) * N, g[u]);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (i + u * step >= vectors) continue;
      if (!constant) numbers(i + u * step);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const A d = fma(factor[n], v[u][n], offset[n]) > A(0) ? g[u][n] : A(0);
        v[u][n] = factor[n] * d + (fb[n] * v[u][n] + fk[n]);
      }
      store<N>(dx + (i + u * step) * N, v[u]);
    }
  }
}

template <class T> Kernel train_kernel(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(kX), sizeof(T));
  const bool residual = p.node.op == &ops::fused_bn_add_activation_op;
  const auto& attrs = p.attrs<BatchNormAttrs>();
  const Statistics<T> statistics(p, f, {.sums = residual ? size_t{6} : size_t{5}}, attrs.momentum,
                                 attrs.epsilon);
  const auto run = [=](const Launch& l) {
    const T* x = l.input<T>(kX);
    const A* factor = statistics.take(l, static_cast<A*>(l.scratch));
    with_form<T>(f, [&](auto n, auto rows) {
      const int64_t vectors = f.channels * f.count / n(),
                    groups = (rows() ? f.channels : f.run) / n();
      launch_next(residual ? apply_act<n(), rows(), true, T> : apply_act<n(), rows(), false, T>,
                  steady_blocks(f, vectors, groups), kThreads, stream_of(l), x,
                  residual ? l.input<T>(5) : nullptr, l.output<T>(2),
                  residual ? l.output<uint8_t>(5) : nullptr, factor, factor + f.channels, vectors,
                  groups, f.channels);
    });
    TRI_CUDA_LAUNCHED();
  };
  return {run, statistics.scratch() * sizeof(A)};
}

template <class T> Kernel act_grad_kernel(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(0), sizeof(T), 2);
  const SmallInput scale(p, 1), mean(p, 2), inverse(p, 3);
  const auto run = [=](const Launch& l) {
    auto* partial = static_cast<A*>(l.scratch);
    const T *x = l.input<T>(0), *dy = l.input<T>(5);
    const Saved<A> saved{l.input<A>(1), l.input<A>(4), l.input<A>(2), l.input<A>(3)};
    with_form<T>(f, [&](auto n, auto rows) {
      launch_next(act_grad_sums<n(), rows(), T>, dim3(f.slabs, f.parts), kThreads, stream_of(l), x,
                  dy, saved, partial, f.count, f.channels, f.run, f.images);
    });
    const Back<A> back = gradient_numbers<A>(f, scale, mean, inverse, l);
    with_form<T>(f, [&](auto n, auto rows) {
      const int64_t vectors = f.channels * f.count / n(),
                    groups = (rows() ? f.channels : f.run) / n();
      launch_next(apply_act_grad<n(), rows(), T>, steady_blocks(f, vectors, groups), kThreads,
                  stream_of(l), x, dy, l.output<T>(0), saved, back.b, back.k, vectors, groups,
                  f.channels);
    });
    TRI_CUDA_LAUNCHED();
  };
  return {run, gradient_scratch(f) * sizeof(A)};
}

template <class T> Kernel add_grad_kernel(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(0), sizeof(T), 3);
  const SmallInput scale(p, 1), mean(p, 2), inverse(p, 4);
  const bool second = p.has(6);
  const auto run = [=](const Launch& l) {
    auto* partial = static_cast<A*>(l.scratch);
    const T* x = l.input<T>(0);
    with_form<T>(f, [&](auto n, auto rows) {
      launch_next(
          second ? mask_grad_sums<n(), rows(), true, T> : mask_grad_sums<n(), rows(), false, T>,
          dim3(f.slabs, f.parts), kThreads, stream_of(l), x, l.input<T>(3),
          second ? l.input<T>(6) : nullptr, l.input<uint8_t>(5), l.output<T>(3), l.input<A>(2),
          partial, f.count, f.channels, f.run, f.images);
    });
    const Back<A> back = gradient_numbers<A>(f, scale, mean, inverse, l);
    run_apply<true, T>(f, x, l.output<T>(3), l.output<T>(0), back.a, back.b, back.k, stream_of(l));
  };
  return {run, gradient_scratch(f) * sizeof(A)};
}

}  // namespace
}  // namespace cuda

Kernel cuda_fused_batch_norm(const Prepare& p) {
  if (p.in(cuda::kX).shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in(cuda::kX).dtype,
                                  [&]<class T>(Tag<T>) { return cuda::train_kernel<T>(p); });
}
Kernel cuda_fused_batch_norm_act_grad(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::act_grad_kernel<T>(p); });
}
Kernel cuda_fused_bn_add_activation_grad(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::add_grad_kernel<T>(p); });
}

}  // namespace trireme
