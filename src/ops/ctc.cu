// warpctc on the GPU: softmax of all steps, then a block a sample with the forward and backward
// sums in log space, in double: losses are hundreds, and the gradient is an exponential of their
// differences.
#include "ops/ctc.h"
#include "ops/cuda_common.cuh"

namespace trireme {
namespace cuda {
namespace {

constexpr int kStates = 128;  // threads of a sample

struct Sizes {
  int64_t steps, batch, classes, length, blank;
  bool norm_by_times;
  __host__ __device__ int64_t states() const { return 2 * length + 1; }
  // Doubles of a sample: forward sums of all steps, two steps of backward sums, one of products.
  __host__ __device__ int64_t doubles() const { return states() * (steps + 3); }
};

// A warp a row of classes: its softmax, and the log of its sum of e^x.
template <class T>
__global__ void __launch_bounds__(kThreads)
    softmax_rows(const T* x, T* y, double* log_sum, int64_t rows, int64_t n) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (r >= rows) return;
  x += r * n;
  y += r * n;
  T top = lowest<T>(), sum = 0;
  for (int64_t i = threadIdx.x % 32; i < n; i += 32) top = x[i] > top || x[i] != x[i] ? x[i] : top;
  top = group_reduce<32>(top, Larger{});
  for (int64_t i = threadIdx.x % 32; i < n; i += 32) sum += exp_of(x[i] - top);
  sum = group_reduce<32>(sum, Plus{});
  for (int64_t i = threadIdx.x % 32; i < n; i += 32) y[i] = exp_of(x[i] - top) / sum;
  if (threadIdx.x % 32 == 0) log_sum[r] = static_cast<double>(top) + log(static_cast<double>(sum));
}

__device__ __forceinline__ double log_add(double a, double b) {
  const double high = fmax(a, b), low = fmin(a, b);
  return low == -INFINITY ? high : high + log1p(exp(low - high));
}

// State s stands for blank when even, for label s / 2 when odd.
template <class T> struct Sample {
  const Sizes& z;
  Index labels;
  int64_t n, states;
  const T* logits;
  const double* log_sum;

  __device__ int64_t symbol(int64_t s) const {
    return s % 2 == 0 ? z.blank : labels[n * z.length + s / 2];
  }
  __device__ bool may_skip(int64_t s) const {
    return s >= 2 && s % 2 == 1 && symbol(s) != symbol(s - 2);
  }
  __device__ double emission(int64_t t, int64_t s) const {
    const int64_t row = t * z.batch + n;
    return static_cast<double>(logits[row * z.classes + symbol(s)]) - log_sum[row];
  }
};

// Whether the sample has a loss; sets `steps` and `states`. Numbers out of range give NaN.
template <class T>
__device__ bool begin_sample(Sample<T>& p, Index steps_of, Index length_of, int64_t& steps,
                             bool& wrong) {
  steps = steps_of[p.n];
  const int64_t length = length_of[p.n];
  wrong = steps < 0 || steps > p.z.steps || length < 0 || length > p.z.length;
  if (wrong) return false;
  p.states = 2 * length + 1;
  int64_t needed = length;
  for (int64_t s = 1; s < p.states; s += 2) {
    const int64_t label = p.symbol(s);
    wrong = wrong || label < 0 || label >= p.z.classes;
    needed += s > 1 && label == p.symbol(s - 2);
  }
  return !wrong && needed <= steps && steps > 0;
}

// One step's gradient, from the softmax that stands there: every class is written by one thread.
template <class T> __device__ void subtract(const Sample<T>& p, const double* post, T* g) {
  for (int64_t s = threadIdx.x; s < p.states; s += kStates) {
    const int64_t symbol = p.symbol(s);
    bool first = s == 0 || (s % 2 == 1 && symbol != p.z.blank);
    for (int64_t k = 1; first && k < s; k += 2) first = p.symbol(k) != symbol;
    if (!first) continue;
    double sum = 0;
    for (int64_t k = s == 0 ? 0 : s; k < p.states; ++k)
      if (p.symbol(k) == symbol) sum += post[k];
    g[symbol] -= static_cast<T>(sum);
  }
}

template <class T>
__global__ void __launch_bounds__(kStates)
    ctc_samples(const T* logits, Index labels, Index steps_of, Index length_of,
                const double* log_sum, double* work, T* loss, T* gradient, Sizes z) {
  Sample<T> p{z, labels, static_cast<int64_t>(blockIdx.x), 0, logits, log_sum};
  int64_t steps = 0;
  bool wrong = false;
  const bool possible = begin_sample(p, steps_of, length_of, steps, wrong);
  const int t0 = threadIdx.x;
  for (int64_t t = possible ? steps : 0; t < z.steps; ++t)
    for (int64_t c = t0; c < z.classes; c += kStates)
      gradient[(t * z.batch + p.n) * z.classes + c] = T(0);
  if (!possible) {
    if (t0 == 0) loss[p.n] = wrong ? static_cast<T>(NAN) : T(0);
    return;
  }
  double* alpha = work + p.n * z.doubles();
  double *beta = alpha + z.states() * z.steps, *other = beta + z.states(),
         *post = other + z.states();
  for (int64_t s = t0; s < p.states; s += kStates) {
    alpha[s] = s < 2 ? p.emission(0, s) : -INFINITY;
    beta[s] = s >= p.states - 2 ? 0 : -INFINITY;
  }
  __syncthreads();
  for (int64_t t = 1; t < steps; ++t) {
    const double* before = alpha + (t - 1) * p.states;
    for (int64_t s = t0; s < p.states; s += kStates) {
      double v = before[s];
      if (s > 0) v = log_add(v, before[s - 1]);
      if (p.may_skip(s)) v = log_add(v, before[s - 2]);
      alpha[t * p.states + s] = v + p.emission(t, s);
    }
    __syncthreads();
  }
  const double* last = alpha + (steps - 1) * p.states;
  const double total = p.states > 1 ? log_add(last[p.states - 1], last[p.states - 2]) : last[0];
  if (t0 == 0) loss[p.n] = static_cast<T>(-total);
  for (int64_t t = steps - 1; t >= 0; --t) {
    T* g = gradient + (t * z.batch + p.n) * z.classes;
    for (int64_t s = t0; s < p.states; s += kStates) {
      post[s] = exp(alpha[t * p.states + s] + beta[s] - total);
      if (t == 0) continue;
      double v = beta[s] + p.emission(t, s);
      if (s + 1 < p.states) v = log_add(v, beta[s + 1] + p.emission(t, s + 1));
      if (s + 2 < p.states && p.may_skip(s + 2)) v = log_add(v, beta[s + 2] + p.emission(t, s + 2));
      other[s] = v;
    }
    __syncthreads();
    subtract(p, post, g);
    __syncthreads();
    if (z.norm_by_times)
      for (int64_t c = t0; c < z.classes; c += kStates)
        g[c] = static_cast<T>(g[c] / static_cast<double>(steps));
    double* const swap = beta;
    beta = other;
    other = swap;
  }
}

template <class T> Kernel ctc_kernel(const Prepare& p) {
  const Shape& x = p.in().shape;
  const auto& a = p.attrs<CtcAttrs>();
  const Sizes z{x[0], x[1], x[2], p.in(1).shape[1], a.blank, a.norm_by_times};
  const auto wide = [&](size_t i) { return p.in(i).dtype == DType::kInt64; };
  const int64_t rows = z.steps * z.batch;
  if (z.batch == 0) return nothing();
  return {[=, labels = wide(1), steps = wide(2), lengths = wide(3)](const Launch& l) {
            auto* log_sum = static_cast<double*>(l.scratch);
            if (rows > 0) {
              softmax_rows<T><<<blocks_for(rows, kThreads / 32), kThreads, 0, stream_of(l)>>>(
                  l.input<T>(0), l.output<T>(1), log_sum, rows, z.classes);
              TRI_CUDA_LAUNCHED();
            }
            ctc_samples<T><<<blocks_for(z.batch, 1), kStates, 0, stream_of(l)>>>(
                l.input<T>(0), Index{l.in[1], labels}, Index{l.in[2], steps},
                Index{l.in[3], lengths}, log_sum, log_sum + rows, l.output<T>(0), l.output<T>(1),
                z);
            TRI_CUDA_LAUNCHED();
          },
          static_cast<size_t>(rows + z.batch * z.doubles()) * sizeof(double)};
}

}  // namespace
}  // namespace cuda

Kernel cuda_warpctc(const Prepare& p) {
  return p.in().dtype == DType::kFloat64 ? cuda::ctc_kernel<double>(p) : cuda::ctc_kernel<float>(p);
}

}  // namespace trireme
