// dropout and random numbers on the GPU: Philox 4x32-10 with the CPU's counters, so the numbers are
// the same (gaussian: up to the last places of log and cos). A thread makes the four numbers of a
// counter, which stand 16 elements apart.
#include "ops/cuda_common.cuh"
#include "ops/random.h"
#include "ops/random_rows.h"

namespace trireme {
namespace cuda {
namespace {

struct Four {
  uint32_t number[4];
};

__device__ __forceinline__ Four draw(const int64_t* state, uint32_t index, uint64_t counter) {
  const auto seed = static_cast<uint64_t>(state[0]), offset = static_cast<uint64_t>(state[1]);
  uint32_t c0 = static_cast<uint32_t>(counter),
           c1 = static_cast<uint32_t>(counter >> 32) ^ static_cast<uint32_t>(offset >> 32),
           c2 = index, c3 = static_cast<uint32_t>(offset), k0 = static_cast<uint32_t>(seed),
           k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t ah = __umulhi(0xD2511F53u, c0), al = 0xD2511F53u * c0,
                   bh = __umulhi(0xCD9E8D57u, c2), bl = 0xCD9E8D57u * c2;
    c0 = bh ^ c1 ^ k0;
    c2 = ah ^ c3 ^ k1;
    c1 = bl;
    c3 = al;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

constexpr double kUnit = 1.0 / 4294967296.0;

// f(element, its number, all four, which of them) for every element below n.
template <class F>
__device__ __forceinline__ void each(const int64_t* state, uint32_t index, int64_t n, F f) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t first = t / 16 * kRandomBlock + t % 16;
  if (first >= n) return;
  const Four four = draw(state, index, static_cast<uint64_t>(t));
#pragma unroll
  for (int w = 0; w < 4; ++w)
    if (first + 16 * w < n) f(first + 16 * w, four.number[w], four, w);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout(const T* x, const int64_t* state, T* y, int64_t n, uint32_t index, uint32_t threshold,
            Acc<T> scale) {
  each(state, index, n, [&](int64_t i, uint32_t number, const Four&, int) {
    y[i] = number >= threshold ? down<T>(up(x[i]) * scale) : down<T>(Acc<T>(0));
  });
}
// One thread draws and swaps, as the CPU does: the swaps depend on each other.
template <class T> __global__ void shuffle(const int64_t* state, T* y, int64_t n, uint32_t index) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(i);
  for (int64_t i = n - 1, k = 0; i > 0; --i, ++k) {
    const int64_t counter = k / kRandomBlock * 16 + k % 16;
    const uint32_t number =
        draw(state, index, static_cast<uint64_t>(counter)).number[k % kRandomBlock / 16];
    const auto j = static_cast<int64_t>(number * static_cast<uint64_t>(i + 1) >> 32);
    const T own = y[i];
    y[i] = y[j];
    y[j] = own;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    uniform(const int64_t* state, T* y, int64_t n, uint32_t index, double low, double width) {
  each(state, index, n, [&](int64_t i, uint32_t number, const Four&, int) {
    const double u = (number >> 8) * (kUnit * 256);
    y[i] = down<T>(static_cast<Acc<T>>(__dadd_rn(low, __dmul_rn(u, width))));
  });
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    gaussian(const int64_t* state, T* y, int64_t n, uint32_t index, Acc<T> mean, Acc<T> deviation) {
  using A = Acc<T>;
  each(state, index, n, [&](int64_t i, uint32_t, const Four& four, int w) {
    const uint32_t a = four.number[w / 2 * 2], b = four.number[w / 2 * 2 + 1];
    const A radius = sqrt(A(-2) * log_of(static_cast<A>((static_cast<double>(a) + 0.5) * kUnit)));
    const A angle = static_cast<A>(2 * 3.14159265358979323846 * kUnit * b);
    y[i] = down<T>(mean + radius * (w % 2 == 0 ? cos(angle) : sin(angle)) * deviation);
  });
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    randint(const int64_t* state, T* y, int64_t n, uint32_t index, int64_t low, uint64_t range) {
  each(state, index, n, [&](int64_t i, uint32_t number, const Four&, int) {
    y[i] = static_cast<T>(low + static_cast<int64_t>(number * range >> 32));
  });
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    bernoulli(const T* x, const int64_t* state, T* y, int64_t n, uint32_t index) {
  each(state, index, n, [&](int64_t i, uint32_t number, const Four&, int) {
    const bool hit = static_cast<double>(number) * kUnit < static_cast<double>(up(x[i]));
    y[i] = down<T>(Acc<T>(hit ? 1 : 0));
  });
}

unsigned blocks_of(int64_t n) { return blocks_for((n + kRandomBlock - 1) / kRandomBlock * 16); }

template <class T> Kernel dropout_kernel(const Prepare& p, const DropoutAttrs& a) {
  const int64_t n = p.in().shape.numel();
  const auto threshold = static_cast<uint32_t>(std::min(a.p * 4294967296.0, 4294967295.0));
  const auto scale = static_cast<Acc<T>>(a.mode == "upscale_in_train" ? 1 / (1 - a.p) : 1.0);
  return {[=, index = static_cast<uint32_t>(a.index)](const Launch& l) {
    dropout<T><<<blocks_of(n), kThreads, 0, stream_of(l)>>>(
        l.input<T>(0), l.input<int64_t>(1), l.output<T>(), n, index, threshold, scale);
    TRI_CUDA_LAUNCHED();
  }};
}

}  // namespace
}  // namespace cuda

Kernel cuda_dropout(const Prepare& p) {
  const auto& a = p.attrs<DropoutAttrs>();
  if (p.in().shape.numel() == 0) return cuda::nothing();
  if (a.p >= 1) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::dropout_kernel<T>(p, a); });
}

Kernel cuda_uniform(const Prepare& p) {
  const auto a = p.attrs<RandomAttrs>();
  const int64_t n = p.out().shape.numel();
  if (n == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, a.dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[a, n](const Launch& l) {
      cuda::uniform<T><<<cuda::blocks_of(n), cuda::kThreads, 0, cuda::stream_of(l)>>>(
          l.input<int64_t>(0), l.output<T>(), n, static_cast<uint32_t>(a.index), a.min,
          a.max - a.min);
      TRI_CUDA_LAUNCHED();
    }};
  });
}

Kernel cuda_gaussian(const Prepare& p) {
  const auto a = p.attrs<RandomAttrs>();
  const int64_t n = p.out().shape.numel();
  if (n == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, a.dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[a, n](const Launch& l) {
      cuda::gaussian<T><<<cuda::blocks_of(n), cuda::kThreads, 0, cuda::stream_of(l)>>>(
          l.input<int64_t>(0), l.output<T>(), n, static_cast<uint32_t>(a.index),
          static_cast<cuda::Acc<T>>(a.min), static_cast<cuda::Acc<T>>(a.max));
      TRI_CUDA_LAUNCHED();
    }};
  });
}

Kernel cuda_randint(const Prepare& p) {
  const auto a = p.attrs<RandomAttrs>();
  const int64_t n = p.out().shape.numel();
  if (n == 0) return cuda::nothing();
  const uint64_t range = static_cast<uint64_t>(a.high) - static_cast<uint64_t>(a.low);
  return {[=](const Launch& l) {
    const auto run = [&](auto* y) {
      cuda::randint<<<cuda::blocks_of(n), cuda::kThreads, 0, cuda::stream_of(l)>>>(
          l.input<int64_t>(0), y, n, static_cast<uint32_t>(a.index), a.low, range);
    };
    if (a.dtype == DType::kInt64) run(l.output<int64_t>());
    else run(l.output<int32_t>());
    TRI_CUDA_LAUNCHED();
  }};
}

Kernel cuda_randperm(const Prepare& p) {
  const auto a = p.attrs<RandomAttrs>();
  if (a.high == 0) return cuda::nothing();
  return {[=](const Launch& l) {
    const auto run = [&](auto* y) {
      cuda::shuffle<<<1, 1, 0, cuda::stream_of(l)>>>(l.input<int64_t>(0), y, a.high,
                                                     static_cast<uint32_t>(a.index));
    };
    if (a.dtype == DType::kInt64) run(l.output<int64_t>());
    else run(l.output<int32_t>());
    TRI_CUDA_LAUNCHED();
  }};
}
Kernel cuda_bernoulli(const Prepare& p) {
  const int64_t n = p.out().shape.numel(), index = p.attrs<RandomAttrs>().index;
  if (n == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[n, index](const Launch& l) {
      cuda::bernoulli<T><<<cuda::blocks_of(n), cuda::kThreads, 0, cuda::stream_of(l)>>>(
          l.input<T>(0), l.input<int64_t>(1), l.output<T>(), n, static_cast<uint32_t>(index));
      TRI_CUDA_LAUNCHED();
    }};
  });
}

}  // namespace trireme
