// gelu's gradient and its sums over the rows on the GPU: a thread keeps its columns, so that the
// gradient is not read again.
#include "ops/batch_norm_device.cuh"
#include "ops/pointwise.h"

namespace trireme {
namespace cuda {
namespace {

// d gelu(x) / dx = Phi(x) + x phi(x). In float32 Phi is that of the pointwise kernels (Abramowitz
// and Stegun 7.1.26, absolute error 1e-7), whose exponential is phi's.
__device__ __forceinline__ float slope_of(float x) {
  const float e = __expf(-0.5f * x * x), z = fabsf(x) * 0.70710678f,
              t = __fdividef(1.0f, 1.0f + 0.3275911f * z);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const float tail = 0.5f * p * t * e;  // 1 - Phi(|x|)
  return (x < 0 ? tail : 1.0f - tail) + x * 0.39894228f * e;
}
__device__ __forceinline__ double slope_of(double x) {
  return 0.5 * erfc(-x * 0.70710678118654752) + x * 0.39894228040143268 * exp(-0.5 * x * x);
}

template <int N, class T>
__global__ void __launch_bounds__(kThreads, 3)
    grad_and_sums(const T* x, const T* dy, T* dx,  // dx may be either
                  Acc<T>* partial, int64_t rows, int64_t n) {
  using A = Acc<T>;
  sum_rows<N, 4, 1>(rows, n, partial, [&](int64_t, auto walk) {
    walk([&](int64_t at, int64_t step, auto unroll, A(&sums)[1][N]) {
      constexpr int U = decltype(unroll)::value;
      A v[U][N], g[U][N];
#pragma unroll
      for (int u = 0; u < U; ++u)
        load<N>(x + at + u * step, v[u]), load<N>(dy + at + u * step, g[u]);
#pragma unroll
      for (int u = 0; u < U; ++u) {
#pragma unroll
        for (int i = 0; i < N; ++i) {
          g[u][i] *= slope_of(v[u][i]);
          sums[0][i] += g[u][i];
        }
        store<N>(dx + at + u * step, g[u]);
      }
    });
  });
}

template <class T>
__global__ void __launch_bounds__(1024)
    finish(const Acc<T>* partial, int parts, int64_t n, T* sum) {
  wait_for_previous();
  join_parts<1>(partial, parts, n, [&](int64_t c, const double(&s)[1]) {
    sum[c] = down<T>(static_cast<Acc<T>>(s[0]));
  });
}

template <class T> Kernel kernel(const Prepare& p) {
  const int64_t n = p.in().shape.back(), rows = p.in().shape.numel() / n;
  const Form f(Type{p.in().dtype, {rows, n}}, sizeof(T), 3);
  return {[=](const Launch& l) {
            auto* partial = static_cast<Acc<T>*>(l.scratch);
            const auto run = [&](auto width) {
              launch_next(grad_and_sums<width(), T>, dim3(f.slabs, f.parts), kThreads, stream_of(l),
                          l.input<T>(0), l.input<T>(1), l.output<T>(0), partial, rows, n);
            };
            f.width(sizeof(T)) > 1 ? run(Width<kVector<T>>{}) : run(Width<1>{});
            launch_next(finish<T>, blocks_for(n, 32), 1024, stream_of(l), partial,
                        static_cast<int>(f.parts), n, l.output<T>(1));
          },
          f.partials() * sizeof(Acc<T>)};
}

}  // namespace
}  // namespace cuda

Kernel cuda_gelu_grad_sum(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::kernel<T>(p); });
}

}  // namespace trireme
