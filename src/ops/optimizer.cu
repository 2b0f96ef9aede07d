// The optimizers on the GPU: one kernel for all parameters, whose addresses stand in its arguments
// (288 parameters a launch). Formulas are those of the CPU, one element at a time in registers. A
// small kernel in front makes each parameter's numbers from the learning rate, the factors and the
// scalar state, which live on the device. lamb has two rules, and sums over each parameter between.
#include "ops/cuda_common.cuh"
#include "ops/optimizer_places.h"

namespace trireme {
namespace cuda {
namespace {

#define TRI_RULE_FUNCTION __device__ __forceinline__
#include "ops/optimizer_formulas.inc"

constexpr int kMost = 288;        // tensors a launch: what the 32,764 bytes of arguments hold
constexpr int64_t kPiece = 4096;  // elements a block

struct Tensor {
  const void *w_in, *g, *s_in[3];
  void *w_out, *s_out[3], *low;  // low: may be null
  int64_t size;
  DType w_type, g_type, low_type;
  bool stays;  // every output is its input's memory
  int number;  // of the parameter
};
struct Tensors {
  int count;
  int first[kMost + 1];  // block
  Tensor t[kMost];
};

// Numbers of a parameter that are known when the plan is made.
struct Fixed {
  double lr_scale, l1, l2, decay;
  int row;
  bool clamp, is_double;
};
struct Common {
  Rule rule;
  int scalars, states;
  int64_t first_factor;
  double clamp_min, clamp_max, epsilon, momentum, rho, eta_down, eta_up, lr_min, lr_max;
  DeriveFrom from;
  bool nesterov, centered, amsgrad;
};
struct Fixeds {
  int count, first;
  Fixed f[kMost];
};

constexpr size_t kNumbers = sizeof(RuleNumbers<double>);  // bytes a parameter has in scratch

template <class T>
__device__ void derive_one(const Fixed& f, const Common& c, int k, const float* lr,
                           const float* factors, const float* state, float* next_state,
                           char* numbers, bool skip) {
  RuleNumbers<T> n;
  if (factors) n.factor = T(factors[c.first_factor + k]);
  n.clamp = f.clamp, n.clamp_min = T(c.clamp_min), n.clamp_max = T(c.clamp_max);
  n.l1 = T(f.l1), n.l2 = T(f.l2), n.decay = T(f.decay);
  n.lr = T(*lr) * T(f.lr_scale);
  n.beta1 = T(c.from.beta1), n.beta2 = T(c.from.beta2), n.epsilon = T(c.epsilon);
  n.momentum = T(c.momentum), n.rho = T(c.rho);
  n.eta_down = T(c.eta_down), n.eta_up = T(c.eta_up), n.lr_min = T(c.lr_min),
  n.lr_max = T(c.lr_max);
  n.nesterov = c.nesterov, n.centered = c.centered, n.amsgrad = c.amsgrad;
  if (c.scalars > 0) {
    float next[4] = {}, row[4] = {};
    for (int i = 0; i < c.scalars; ++i) row[i] = state[f.row * c.scalars + i];
    derive(c.rule, c.from, n, row, next);
    for (int i = 0; i < c.scalars; ++i) next_state[f.row * c.scalars + i] = skip ? row[i] : next[i];
  }
  *reinterpret_cast<RuleNumbers<T>*>(numbers + kNumbers * static_cast<size_t>(k)) = n;
}

__global__ void __launch_bounds__(kMost)
    derive_numbers(const __grid_constant__ Fixeds fixed, const __grid_constant__ Common c,
                   const float* lr, const float* factors, const float* state, float* next_state,
                   const bool* skip, char* numbers) {
  const int i = threadIdx.x;
  if (i >= fixed.count) return;
  const Fixed& f = fixed.f[i];
  const bool skipped = skip && *skip;
  if (f.is_double)
    derive_one<double>(f, c, fixed.first + i, lr, factors, state, next_state, numbers, skipped);
  else derive_one<float>(f, c, fixed.first + i, lr, factors, state, next_state, numbers, skipped);
}

template <Rule kRule, class T>
__device__ __forceinline__ void apply_rule(const RuleNumbers<T>& n, T* w, T* const* s, const T* g) {
  if constexpr (kRule == Rule::kSgd) sgd(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kMomentum) momentum(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kAdam) adam<T, false>(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kAdamW) adam<T, true>(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kAdamax) adamax(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kRmsProp) rmsprop(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kAdagrad) adagrad(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kAdadelta) adadelta(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kNAdam) nadam(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kRAdam) radam(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kLambMoments) lamb_moments(n, w, s, g, 1);
  else if constexpr (kRule == Rule::kLambStep) lamb_step(n, w, s, g, 1);
  else rprop(n, w, s, g, 1);
}

// Four elements from i on (or as many as are left), of any floating dtype.
template <class T> __device__ __forceinline__ T element(const void* p, DType type, int64_t i) {
  switch (type) {
    case DType::kFloat16: return static_cast<T>(up(static_cast<const __half*>(p)[i]));
    case DType::kBFloat16: return static_cast<T>(up(static_cast<const __nv_bfloat16*>(p)[i]));
    case DType::kFloat64: return static_cast<T>(static_cast<const double*>(p)[i]);
    default: return static_cast<T>(static_cast<const float*>(p)[i]);
  }
}
template <class T>
__device__ __forceinline__ void load4(const void* p, DType type, int64_t i, int left, T (&v)[4]) {
  if (left == 4 && type == DType::kFloat32) {
    const float4 f = static_cast<const float4*>(p)[i / 4];
    v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
  } else if (left == 4 && (type == DType::kFloat16 || type == DType::kBFloat16)) {
    const uint2 u = static_cast<const uint2*>(p)[i / 4];
    const unsigned short h[4] = {
        static_cast<unsigned short>(u.x), static_cast<unsigned short>(u.x >> 16),
        static_cast<unsigned short>(u.y), static_cast<unsigned short>(u.y >> 16)};
#pragma unroll
    for (int k = 0; k < 4; ++k)
      v[k] = static_cast<T>(type == DType::kFloat16 ? up(as<__half>(h[k]))
                                                    : up(as<__nv_bfloat16>(h[k])));
  } else {
    for (int k = 0; k < left; ++k) v[k] = element<T>(p, type, i + k);
  }
}
template <class T> __device__ __forceinline__ void put(void* p, DType type, int64_t i, T v) {
  switch (type) {
    case DType::kFloat16: static_cast<__half*>(p)[i] = down<__half>(static_cast<float>(v)); break;
    case DType::kBFloat16:
      static_cast<__nv_bfloat16*>(p)[i] = down<__nv_bfloat16>(static_cast<float>(v));
      break;
    case DType::kFloat64: static_cast<double*>(p)[i] = static_cast<double>(v); break;
    default: static_cast<float*>(p)[i] = static_cast<float>(v);
  }
}
template <class T>
__device__ __forceinline__ void store4(void* p, DType type, int64_t i, int left, const T (&v)[4]) {
  if (left == 4 && type == DType::kFloat32) {
    static_cast<float4*>(p)[i / 4] =
        make_float4(static_cast<float>(v[0]), static_cast<float>(v[1]), static_cast<float>(v[2]),
                    static_cast<float>(v[3]));
  } else if (left == 4 && (type == DType::kFloat16 || type == DType::kBFloat16)) {
    unsigned short h[4];
#pragma unroll
    for (int k = 0; k < 4; ++k)
      h[k] = type == DType::kFloat16
                 ? as<unsigned short>(down<__half>(static_cast<float>(v[k])))
                 : as<unsigned short>(down<__nv_bfloat16>(static_cast<float>(v[k])));
    static_cast<uint2*>(p)[i / 4] = make_uint2(h[0] | static_cast<unsigned>(h[1]) << 16,
                                               h[2] | static_cast<unsigned>(h[3]) << 16);
  } else {
    for (int k = 0; k < left; ++k) put(p, type, i + k, v[k]);
  }
}

// The tensor of this block: first[t] <= block < first[t + 1].
__device__ __forceinline__ int tensor_of(const Tensors& list) {
  int low = 0, high = list.count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (list.first[middle] <= static_cast<int>(blockIdx.x)) low = middle;
    else high = middle;
  }
  return low;
}

template <Rule kRule, class T>
__global__ void __launch_bounds__(kThreads)
    update(const __grid_constant__ Tensors list, const char* numbers, const bool* skip,
           int states) {
  const int index = tensor_of(list);
  const Tensor& t = list.t[index];
  const bool skipped = skip && *skip;
  if (skipped && t.stays) return;
  const auto n =
      *reinterpret_cast<const RuleNumbers<T>*>(numbers + kNumbers * static_cast<size_t>(t.number));
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) - list.first[index]) * kPiece;
  const int64_t end = min(t.size, begin + kPiece);
  constexpr DType kState = std::is_same_v<T, double> ? DType::kFloat64 : DType::kFloat32;
  for (int64_t i = begin + threadIdx.x * 4; i < end; i += kThreads * 4) {
    const int left = static_cast<int>(min(int64_t{4}, end - i));
    T w[4], g[4], s[3][4];
    load4<T>(t.w_in, t.w_type, i, left, w);
    if (kRule != Rule::kLambStep) load4<T>(t.g, t.g_type, i, left, g);
#pragma unroll
    for (int k = 0; k < 3; ++k)
      if (k < states) load4<T>(t.s_in[k], kState, i, left, s[k]);
    if (!skipped) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (k >= left) break;
        T value = 0;
        if constexpr (kRule != Rule::kLambStep) prepare(n, &w[k], &g[k], &value, 1);
        T* const own[3] = {&s[0][k], &s[1][k], &s[2][k]};
        apply_rule<kRule, T>(n, &w[k], own, &value);
      }
    }
    store4<T>(t.w_out, t.w_type, i, left, w);
    if (t.low) store4<T>(t.low, t.low_type, i, left, w);
#pragma unroll
    for (int k = 0; k < 3; ++k)
      if (k < states) store4<T>(t.s_out[k], kState, i, left, s[k]);
  }
}

// Of lamb, between its two rules: each block's sums of w^2 and of the squared direction.
template <class T>
__global__ void __launch_bounds__(kThreads)
    lamb_sums(const __grid_constant__ Tensors list, const char* numbers, double* partial) {
  const int index = tensor_of(list);
  const Tensor& t = list.t[index];
  const auto n =
      *reinterpret_cast<const RuleNumbers<T>*>(numbers + kNumbers * static_cast<size_t>(t.number));
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) - list.first[index]) * kPiece;
  const int64_t end = min(t.size, begin + kPiece);
  constexpr DType kState = std::is_same_v<T, double> ? DType::kFloat64 : DType::kFloat32;
  double sums[2] = {};
  for (int64_t i = begin + threadIdx.x * 4; i < end; i += kThreads * 4) {
    const int left = static_cast<int>(min(int64_t{4}, end - i));
    T w[4], m1[4], m2[4];
    load4<T>(t.w_in, t.w_type, i, left, w);
    load4<T>(t.s_in[0], kState, i, left, m1);
    load4<T>(t.s_in[1], kState, i, left, m2);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k >= left) break;
      const T d = lamb_direction(n, w[k], m1[k], m2[k]);
      sums[0] += static_cast<double>(w[k]) * static_cast<double>(w[k]);
      sums[1] += static_cast<double>(d) * static_cast<double>(d);
    }
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    sums[k] = group_reduce<kThreads>(sums[k], Plus{});
    if (threadIdx.x == 0) partial[2 * static_cast<int64_t>(blockIdx.x) + k] = sums[k];
  }
}
// A block a tensor: the learning rate times |w| / |direction|, where weights decay (or always).
template <class T>
__global__ void __launch_bounds__(kThreads)
    lamb_ratios(const __grid_constant__ Tensors list, char* numbers, const double* partial,
                bool always) {
  double sums[2] = {};
  for (int i = list.first[blockIdx.x] + static_cast<int>(threadIdx.x);
       i < list.first[blockIdx.x + 1]; i += kThreads)
    sums[0] += partial[2 * static_cast<int64_t>(i)],
        sums[1] += partial[2 * static_cast<int64_t>(i) + 1];
#pragma unroll
  for (int k = 0; k < 2; ++k) sums[k] = sqrt(group_reduce<kThreads>(sums[k], Plus{}));
  if (threadIdx.x > 0) return;
  auto& n = *reinterpret_cast<RuleNumbers<T>*>(
      numbers + kNumbers * static_cast<size_t>(list.t[blockIdx.x].number));
  const bool adapts = (n.decay > 0 || always) && sums[0] > 0 && sums[1] > 0;
  n.c = n.lr * static_cast<T>(adapts ? sums[0] / sums[1] : 1.0);
}

using UpdateKernel = void (*)(Tensors, const char*, const bool*, int);
template <class T> UpdateKernel kernel_of(const Op& op, Rule rule) {
  switch (rule) {
    case Rule::kSgd: return update<Rule::kSgd, T>;
    case Rule::kMomentum: return update<Rule::kMomentum, T>;
    case Rule::kAdam: return update<Rule::kAdam, T>;
    case Rule::kAdamW: return update<Rule::kAdamW, T>;
    case Rule::kAdamax: return update<Rule::kAdamax, T>;
    case Rule::kRmsProp: return update<Rule::kRmsProp, T>;
    case Rule::kAdagrad: return update<Rule::kAdagrad, T>;
    case Rule::kAdadelta: return update<Rule::kAdadelta, T>;
    case Rule::kNAdam: return update<Rule::kNAdam, T>;
    case Rule::kRAdam: return update<Rule::kRAdam, T>;
    case Rule::kRprop: return update<Rule::kRprop, T>;
    case Rule::kLambMoments: return update<Rule::kLambMoments, T>;
    case Rule::kLambStep: return update<Rule::kLambStep, T>;
    default: fail(Code::kUnimplemented, message(op.name, "has no CUDA kernel"));
  }
}

class Update {
 public:
  explicit Update(const Prepare& p)
      : at_(*p.node.op, p.attrs<UpdateAttrs>()),
        has_factors_(p.has(at_.factors)),
        has_skip_(p.has(at_.skip)) {
    const auto& a = p.attrs<UpdateAttrs>();
    const UpdateTraits& traits = update_traits(*p.node.op);
    common_ = {traits.rule, ops::update_state(*p.node.op, a).scalars,
               at_.count,   a.first_factor,
               a.clamp_min, a.clamp_max,
               a.epsilon,   a.momentum,
               a.rho,       a.eta_down,
               a.eta_up,    a.lr_min,
               a.lr_max,    {a.beta1, a.beta2, a.momentum_decay},
               a.nesterov,  a.centered,
               a.amsgrad};
    always_adapt_ = a.always_adapt;
    single_ = kernel_of<float>(*p.node.op, traits.rule);
    double_ = kernel_of<double>(*p.node.op, traits.rule);
    const auto value = [](const std::vector<double>& v, size_t k, double other) {
      return v.empty() ? other : v[k];
    };
    low_.assign(at_.params, -1);
    for (size_t k = 0; k < a.low.size(); ++k)
      low_[static_cast<size_t>(a.low[k])] = static_cast<int>(k);
    for (size_t k = 0; k < at_.params; ++k) {
      const bool is_double = p.in(k).dtype == DType::kFloat64;
      fixed_.push_back({value(a.lr_scale, k, 1), value(a.l1, k, 0), value(a.l2, k, 0),
                        value(a.decay, k, 0), common_.scalars > 0 ? static_cast<int>(a.rows[k]) : 0,
                        !a.clamp.empty() && a.clamp[k] != 0, is_double});
      Tensor t{};
      t.size = p.in(k).shape.numel();
      t.w_type = p.in(k).dtype;
      t.g_type = p.in(at_.grads + k).dtype;
      if (low_[k] >= 0) t.low_type = p.in(at_.low + static_cast<size_t>(low_[k])).dtype;
      t.number = static_cast<int>(k);
      tensors_.push_back(t);
    }
    if (common_.scalars > 0) scalar_bytes_ = p.in(at_.scalars).bytes();
  }
  size_t scratch() const { return at_.params * kNumbers + most_blocks() * 2 * sizeof(double); }

  void run(const Launch& l) const {
    const cudaStream_t stream = stream_of(l);
    const float* state = common_.scalars > 0 ? l.input<float>(at_.scalars) : nullptr;
    float* next = common_.scalars > 0 ? l.output<float>(at_.scalars) : nullptr;
    if (next != state)
      TRI_CUDA_CALL(cudaMemcpyAsync(next, state, scalar_bytes_, cudaMemcpyDeviceToDevice, stream));
    const bool* skip = has_skip_ ? l.input<bool>(at_.skip) : nullptr;
    auto* numbers = static_cast<char*>(l.scratch);
    for (size_t k = 0; k < at_.params; k += kMost) {
      Fixeds f{static_cast<int>(std::min<size_t>(kMost, at_.params - k)), static_cast<int>(k), {}};
      std::copy_n(fixed_.begin() + static_cast<std::ptrdiff_t>(k), f.count, f.f);
      derive_numbers<<<1, kMost, 0, stream>>>(f, common_, l.input<float>(at_.lr),
                                              has_factors_ ? l.input<float>(at_.factors) : nullptr,
                                              state, next, skip, numbers);
      TRI_CUDA_LAUNCHED();
    }
    for (const bool is_double : {false, true}) launch(l, is_double, numbers, skip);
  }

 private:
  // Of lamb: the blocks of all parameters, which bound those of a launch.
  size_t most_blocks() const {
    size_t blocks = 0;
    if (common_.rule == Rule::kLambMoments)
      for (const Tensor& t : tensors_)
        blocks += static_cast<size_t>((t.size + kPiece - 1) / kPiece);
    return blocks;
  }

  // The second half of lamb's update, of weights and moments that lie where the outputs are.
  template <class T>
  void finish_lamb(Tensors& list, char* numbers, const bool* skip, cudaStream_t stream) const {
    for (int i = 0; i < list.count; ++i) {
      Tensor& t = list.t[i];
      t.w_in = t.w_out;
      for (int s = 0; s < at_.count; ++s) t.s_in[s] = t.s_out[s];
      t.stays = true;
    }
    const auto blocks = static_cast<unsigned>(list.first[list.count]);
    auto* partial = reinterpret_cast<double*>(numbers + at_.params * kNumbers);
    lamb_sums<T><<<blocks, kThreads, 0, stream>>>(list, numbers, partial);
    lamb_ratios<T><<<static_cast<unsigned>(list.count), kThreads, 0, stream>>>(
        list, numbers, partial, always_adapt_);
    update<Rule::kLambStep, T><<<blocks, kThreads, 0, stream>>>(list, numbers, skip, at_.count);
    TRI_CUDA_LAUNCHED();
  }

  void launch(const Launch& l, bool is_double, char* numbers, const bool* skip) const {
    Tensors list{};
    const auto flush = [&] {
      if (list.count == 0) return;
      (is_double
           ? double_
           : single_)<<<static_cast<unsigned>(list.first[list.count]), kThreads, 0, stream_of(l)>>>(
          list, numbers, skip, at_.count);
      TRI_CUDA_LAUNCHED();
      if (common_.rule == Rule::kLambMoments)
        is_double ? finish_lamb<double>(list, numbers, skip, stream_of(l))
                  : finish_lamb<float>(list, numbers, skip, stream_of(l));
      list.count = 0;
    };
    for (size_t k = 0; k < at_.params; ++k) {
      if (fixed_[k].is_double != is_double || tensors_[k].size == 0) continue;
      Tensor t = tensors_[k];
      t.w_in = l.in[k];
      t.w_out = l.out[k];
      t.g = l.in[at_.grads + k];
      t.stays = t.w_in == t.w_out;
      for (int s = 0; s < at_.count; ++s) {
        const size_t i = at_.states + static_cast<size_t>(s) * at_.params + k;
        t.s_in[s] = l.in[i];
        t.s_out[s] = l.out[i];
        t.stays = t.stays && l.in[i] == l.out[i];
      }
      if (low_[k] >= 0) {
        const size_t i = at_.low + static_cast<size_t>(low_[k]);
        t.low = l.out[i];
        t.stays = t.stays && l.in[i] == l.out[i];
      }
      list.t[list.count] = t;
      list.first[list.count + 1] =
          list.first[list.count] + static_cast<int>((t.size + kPiece - 1) / kPiece);
      if (++list.count == kMost) flush();
    }
    flush();
  }

  const UpdatePlaces at_;
  const bool has_factors_, has_skip_;
  Common common_{};
  UpdateKernel single_, double_;
  bool always_adapt_ = false;
  std::vector<int> low_;
  std::vector<Fixed> fixed_;
  std::vector<Tensor> tensors_;
  size_t scalar_bytes_ = 0;
};

// ---- all gradients at once: squares, limits, finite or not

struct Grads {
  int count;
  int first[kMost + 1];
  struct {
    const void* in;
    void* out;  // null: only looked at
    int64_t size;
    DType type;
  } t[kMost];
};

// partial[first_part + block]: the sum of squares of a piece. Elements go to `out` times 1 / scale.
__global__ void __launch_bounds__(kThreads)
    look_at_gradients(const __grid_constant__ Grads list, double* partial, const float* scale,
                      bool* found) {
  int low = 0, high = list.count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (list.first[middle] <= static_cast<int>(blockIdx.x)) low = middle;
    else high = middle;
  }
  const auto& t = list.t[low];
  const float inverse = scale ? 1.f / *scale : 1.f;
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) - list.first[low]) * kPiece,
                end = min(t.size, begin + kPiece);
  double sum = 0;
  bool finite = true;
  for (int64_t i = begin + threadIdx.x * 4; i < end; i += kThreads * 4) {
    const int left = static_cast<int>(min(int64_t{4}, end - i));
    if (t.type == DType::kFloat64) {
      for (int k = 0; k < left; ++k) {
        const double v = static_cast<const double*>(t.in)[i + k];
        sum += v * v;
        finite = finite && isfinite(v);
        if (t.out) static_cast<double*>(t.out)[i + k] = v * inverse;
      }
      continue;
    }
    float v[4];
    load4<float>(t.in, t.type, i, left, v);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k >= left) break;
      sum += static_cast<double>(v[k]) * v[k];
      finite = finite && isfinite(v[k]);
      v[k] *= inverse;
    }
    if (t.out) store4<float>(t.out, t.type, i, left, v);
  }
  if (!finite) *found = true;
  if (partial == nullptr) return;
  sum = group_reduce<kThreads>(sum, Plus{});
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Launches it over gradients [0, n): `out` gives where they go, or null.
template <class Out>
void look(const Launch& l, const std::vector<std::pair<int64_t, DType>>& grads, Out out,
          double* partial, const float* scale, bool* found) {
  Grads list{};
  const auto flush = [&] {
    if (list.count == 0) return;
    look_at_gradients<<<static_cast<unsigned>(list.first[list.count]), kThreads, 0, stream_of(l)>>>(
        list, partial, scale, found);
    TRI_CUDA_LAUNCHED();
    if (partial) partial += list.first[list.count];
    list.count = 0;
  };
  for (size_t k = 0; k < grads.size(); ++k) {
    const auto [size, type] = grads[k];
    if (size == 0) continue;
    list.t[list.count] = {l.in[k], out(k), size, type};
    list.first[list.count + 1] =
        list.first[list.count] + static_cast<int>((size + kPiece - 1) / kPiece);
    if (++list.count == kMost) flush();
  }
  flush();
}

constexpr int kMostClipped = 1536, kMostGroups = 128;
struct Clip {
  int count, groups;
  int first[kMostClipped + 1];  // part
  uint8_t group[kMostClipped], need[kMostClipped];
  uint8_t kind[kMostGroups];
  float most[kMostGroups];
};

// One block: a gradient's squares by a thread, a group's by one thread in the gradients' order.
__global__ void __launch_bounds__(1024)
    finish_factors(const __grid_constant__ Clip c, const double* partial, double* squares,
                   const float* scale, float* factors, float* norms) {
  const float inverse = scale ? 1.f / *scale : 1.f;
  for (int k = threadIdx.x; k < c.count; k += 1024) {
    double sum = 0;
    for (int i = c.first[k]; i < c.first[k + 1]; ++i) sum += partial[i];
    squares[k] = sum;
  }
  __syncthreads();
  for (int g = threadIdx.x; g < c.groups; g += 1024) {
    double total = 0;
    for (int k = 0; k < c.count; ++k)
      if (c.group[k] == g && c.need[k]) total += squares[k];
    norms[g] = static_cast<float>(sqrt(total) * inverse);
  }
  __syncthreads();
  for (int k = threadIdx.x; k < c.count; k += 1024) {
    const int g = c.group[k];
    float factor = 1;
    if (c.need[k] && c.kind[g] != ClipAttrs::kNone) {
      const float norm = c.kind[g] == ClipAttrs::kGlobalNorm
                             ? norms[g]
                             : static_cast<float>(sqrt(squares[k]) * inverse);
      if (norm > c.most[g]) factor = c.most[g] / norm;
    }
    factors[k] = inverse * factor;
  }
}

__global__ void loss_scaling(const float* scale_in, const float* counts_in, const bool* found,
                             float* scale_out, float* counts_out, float incr, float decr,
                             float every_good, float every_bad) {
  float scale = *scale_in, good = counts_in[0], bad = counts_in[1];
  if (*found) {
    good = 0;
    if (++bad >= every_bad) scale *= decr, bad = 0;
  } else {
    bad = 0;
    if (++good >= every_good) {
      if (isfinite(scale * incr)) scale *= incr;
      good = 0;
    }
  }
  *scale_out = scale;
  counts_out[0] = good;
  counts_out[1] = bad;
}

std::vector<std::pair<int64_t, DType>> gradients_of(const Prepare& p, size_t n) {
  std::vector<std::pair<int64_t, DType>> all;
  for (size_t k = 0; k < n; ++k) all.emplace_back(p.in(k).shape.numel(), p.in(k).dtype);
  return all;
}

}  // namespace
}  // namespace cuda

Kernel cuda_update(const Prepare& p) {
  const auto update = std::make_shared<const cuda::Update>(p);
  return {[update](const Launch& l) { update->run(l); }, update->scratch()};
}

Kernel cuda_clip_factors(const Prepare& p) {
  const auto& a = p.attrs<ClipAttrs>();
  const size_t n = a.group.size();
  if (n > cuda::kMostClipped || a.kind.size() > cuda::kMostGroups)
    fail(Code::kUnimplemented, message(p.node.op->name, "takes at most ", cuda::kMostClipped,
                                       " gradients in ", cuda::kMostGroups, " groups on a GPU"));
  const auto grads = cuda::gradients_of(p, n);
  auto clip = std::make_shared<cuda::Clip>();
  clip->count = static_cast<int>(n);
  clip->groups = static_cast<int>(a.kind.size());
  for (size_t k = 0; k < n; ++k) {
    clip->first[k + 1] =
        clip->first[k] + static_cast<int>((grads[k].first + cuda::kPiece - 1) / cuda::kPiece);
    clip->group[k] = static_cast<uint8_t>(a.group[k]);
    clip->need[k] = a.need_clip[k] != 0;
  }
  for (size_t g = 0; g < a.kind.size(); ++g) {
    clip->kind[g] = static_cast<uint8_t>(a.kind[g]);
    clip->most[g] = static_cast<float>(a.max_norm[g]);
  }
  const auto parts = static_cast<size_t>(clip->first[n]);
  return {[=, scaled = p.has(n)](const Launch& l) {
            auto* squares = static_cast<double*>(l.scratch);
            const float* scale = scaled ? l.input<float>(n) : nullptr;
            TRI_CUDA_CALL(cudaMemsetAsync(l.out[1], 0, 1, cuda::stream_of(l)));
            cuda::look(
                l, grads, [](size_t) -> void* { return nullptr; }, squares + n, nullptr,
                l.output<bool>(1));
            cuda::finish_factors<<<1, 1024, 0, cuda::stream_of(l)>>>(
                *clip, squares + n, squares, scale, l.output<float>(0), l.output<float>(2));
            TRI_CUDA_LAUNCHED();
          },
          (n + parts) * sizeof(double)};
}

Kernel cuda_check_finite_and_unscale(const Prepare& p) {
  const size_t n = p.node.inputs.size() - 1;
  const auto grads = cuda::gradients_of(p, n);
  return {[=](const Launch& l) {
    TRI_CUDA_CALL(cudaMemsetAsync(l.out[n], 0, 1, cuda::stream_of(l)));
    cuda::look(
        l, grads, [&](size_t k) { return l.out[k]; }, nullptr, l.input<float>(n),
        l.output<bool>(n));
  }};
}

Kernel cuda_update_loss_scaling(const Prepare& p) {
  return {[a = p.attrs<LossScalingAttrs>()](const Launch& l) {
    cuda::loss_scaling<<<1, 1, 0, cuda::stream_of(l)>>>(
        l.input<float>(0), l.input<float>(1), l.input<bool>(2), l.output<float>(0),
        l.output<float>(1), static_cast<float>(a.incr_ratio), static_cast<float>(a.decr_ratio),
        static_cast<float>(a.incr_every_n_steps), static_cast<float>(a.decr_every_n_nan_or_inf));
    TRI_CUDA_LAUNCHED();
  }};
}

}  // namespace trireme
