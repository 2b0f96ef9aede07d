// Batch norm on the GPU: 16-byte accesses; sums over parts of the rows, which a second kernel joins
// in a fixed order; then one pass that applies one factor and one offset a channel.
#include "ops/batch_norm_device.cuh"
#include "ops/conv.h"
#include "ops/conv_cuda.h"

namespace trireme {
namespace cuda {
namespace {

constexpr size_t kX = 2;  // of batch_norm_train's inputs (mean, variance, x, scale, bias)

// Sums of dy and dy (x - mean).
template <int N, bool kRows, class T>
__global__ void __launch_bounds__(kThreads, 3)
    grad_sums(const T* __restrict__ x, const T* __restrict__ dy, Small mean, Acc<T>* partial,
              int64_t count, int64_t channels, int64_t run, int64_t images) {
  using A = Acc<T>;
  const auto body = [&](int64_t c, auto walk) {
    A m[N];
#pragma unroll
    for (int i = 0; i < N; ++i) m[i] = mean.at(kRows ? c + i : c, A(0));
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
          sums[0][i] += g[u][i];
          sums[1][i] += g[u][i] * (v[u][i] - m[i]);
        }
      }
    });
  };
  if constexpr (kRows) sum_rows<N>(count, channels, partial, body);
  else sum_runs<N>(run, images, channels, partial, body);
}

// Inference: factor and offset of given statistics.
template <class A>
__global__ void __launch_bounds__(kThreads)
    prepare_affine(Small scale, Small bias, Small mean, Small variance, A epsilon, A* factor,
                   A* offset, int64_t channels) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= channels) return;
  factor[c] = scale.at(c, A(1)) / sqrt(variance.at(c, A(1)) + epsilon);
  offset[c] = bias.at(c, A(0)) - mean.at(c, A(0)) * factor[c];
}

// From sums around each channel's first element (x null: around zero) to those around zero.
template <class T>
__global__ void __launch_bounds__(1024)
    finish_sums(const T* x, const Acc<T>* partial, int parts, int64_t channels, int64_t stride,
                double count, Acc<T>* sums) {
  join_parts(partial, parts, channels, [&](int64_t c, const double(&s)[2]) {
    const double shift = x ? static_cast<double>(up(x[c * stride])) : 0;
    sums[c] = static_cast<Acc<T>>(s[0] + count * shift);
    sums[channels + c] = static_cast<Acc<T>>(s[1] + 2 * shift * s[0] + count * shift * shift);
  });
}

template <class T> Kernel train_kernel(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(kX), sizeof(T));
  const auto& attrs = p.attrs<BatchNormAttrs>();
  const Statistics<T> statistics(p, f, {}, attrs.momentum, attrs.epsilon);
  const auto run = [=](const Launch& l) {
    const A* factor = statistics.take(l, static_cast<A*>(l.scratch));
    run_apply<false, T>(f, l.input<T>(kX), nullptr, l.output<T>(2), factor, nullptr,
                        factor + f.channels, stream_of(l));
  };
  return {run, statistics.scratch() * sizeof(A)};
}

template <class T> Kernel grad_kernel(const Prepare& p) {
  using A = Acc<T>;
  const Form f(channels_last(p.in(4)) ? p.in(4) : p.in(0), sizeof(T), 3);
  const SmallInput scale(p, 1), mean(p, 2), inverse(p, 3);
  const auto run = [=](const Launch& l) {
    auto* partial = static_cast<A*>(l.scratch);
    with_form<T>(f, [&](auto n, auto rows) {
      launch_next(grad_sums<n(), rows(), T>, dim3(f.slabs, f.parts), kThreads, stream_of(l),
                  l.input<T>(0), l.input<T>(4), mean.get(l), partial, f.count, f.channels, f.run,
                  f.images);
    });
    const Back<A> back = gradient_numbers<A>(f, scale, mean, inverse, l);
    run_apply<true, T>(f, l.input<T>(0), l.input<T>(4), l.output<T>(0), back.a, back.b, back.k,
                       stream_of(l));
  };
  return {run, gradient_scratch(f) * sizeof(A)};
}

template <class T> Kernel inference_kernel(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(), sizeof(T));
  const SmallInput scale(p, 1), bias(p, 2), mean(p, 3), variance(p, 4);
  const auto epsilon = static_cast<A>(p.attrs<NormAttrs>().epsilon);
  return {[=](const Launch& l) {
            auto* factor = static_cast<A*>(l.scratch);
            A* offset = factor + f.channels;
            prepare_affine<A><<<blocks_for(f.channels), kThreads, 0, stream_of(l)>>>(
                scale.get(l), bias.get(l), mean.get(l), variance.get(l), epsilon, factor, offset,
                f.channels);
            TRI_CUDA_LAUNCHED();
            run_apply<false, T>(f, l.input<T>(0), nullptr, l.output<T>(), factor, nullptr, offset,
                                stream_of(l));
          },
          2 * static_cast<size_t>(f.channels) * sizeof(A)};
}

}  // namespace

size_t channel_sums_scratch(const Type& x) {
  return Form(x, size_of(x.dtype)).partials() * sizeof(double);
}

void channel_sums(const Type& x, const void* data, void* sums, void* scratch, void* stream) {
  with_cuda_floating(ops::conv2d_statistics_op, x.dtype, [&]<class T>(Tag<T>) {
    const Form f(x, sizeof(T));
    auto* partial = static_cast<Acc<T>*>(scratch);
    const auto s = static_cast<cudaStream_t>(stream);
    partial_moments<T>(f, static_cast<const T*>(data), partial, s);
    finish_sums<T><<<blocks_for(f.channels, 32), 1024, 0, s>>>(
        static_cast<const T*>(data), partial, static_cast<int>(f.parts), f.channels,
        f.run ? f.run : 1, static_cast<double>(f.count), static_cast<Acc<T>*>(sums));
    TRI_CUDA_LAUNCHED();
  });
}

void join_channel_sums(const float* partial, int parts, int64_t channels, void* sums,
                       void* stream) {
  finish_sums<float><<<blocks_for(channels, 32), 1024, 0, static_cast<cudaStream_t>(stream)>>>(
      nullptr, partial, parts, channels, 0, 0.0, static_cast<float*>(sums));
  TRI_CUDA_LAUNCHED();
}

}  // namespace cuda

Kernel cuda_batch_norm(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::inference_kernel<T>(p); });
}
Kernel cuda_batch_norm_train(const Prepare& p) {
  if (p.in(cuda::kX).shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in(cuda::kX).dtype,
                                  [&]<class T>(Tag<T>) { return cuda::train_kernel<T>(p); });
}
Kernel cuda_batch_norm_grad(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::grad_kernel<T>(p); });
}

}  // namespace trireme
