// What the updates' kernels of all devices know of an optimizer: its rule, and where its lists
// begin.
#pragma once

#include <cmath>

#include "ops/optimizer.h"
#include "ops/optimizer_rules.h"

namespace trireme {

struct UpdateTraits {
  const Op* op;
  Rule rule;
  int states, scalars;
};
const UpdateTraits& update_traits(const Op& op);

// Where each list begins among the inputs.
struct UpdatePlaces {
  size_t params, states, low, scalars, grads, lr, factors, skip, outputs;
  int count = 0;  // of states

  UpdatePlaces(const Op& op, const UpdateAttrs& a) {
    const ops::UpdateState s = ops::update_state(op, a);
    count = s.states;
    params = static_cast<size_t>(a.params);
    states = params;
    low = states + params * static_cast<size_t>(s.states);
    scalars = low + a.low.size();
    outputs = grads = scalars + (s.scalars > 0 ? 1 : 0);
    lr = grads + params;
    factors = lr + 1;
    skip = factors + 1;
  }
};

struct DeriveFrom {
  double beta1, beta2, momentum_decay;
};

#ifdef __CUDACC__
#define TRI_BOTH __host__ __device__
#else
#define TRI_BOTH
#endif

// The rules' derived numbers from a row of the scalar state (what stood before this step), and the
// row of the next one. Powers are kept and multiplied in float32, as in Paddle's state.
template <class T>
TRI_BOTH void derive(Rule rule, const DeriveFrom& a, RuleNumbers<T>& k, const float* row,
                     float* next) {
  const auto beta1 = static_cast<float>(a.beta1), beta2 = static_cast<float>(a.beta2);
  switch (rule) {
    case Rule::kAdam:
    case Rule::kAdamW:
      k.a = k.lr * (std::sqrt(1 - T(row[1])) / (1 - T(row[0])));
      k.b = k.epsilon * std::sqrt(1 - T(row[1]));
      break;
    case Rule::kLambMoments:
      k.a = 1 - T(row[0]);
      k.b = 1 - T(row[1]);
      break;
    case Rule::kAdamax: k.a = k.lr / (1 - T(row[0])); break;
    case Rule::kNAdam: {
      const auto decay = static_cast<float>(a.momentum_decay);
      const float power = row[0] * 0.96F, power2 = row[1] * beta2;
      const float mu = beta1 * (1 - 0.5F * std::pow(power, decay));
      const float mu1 = beta1 * (1 - 0.5F * std::pow(power, decay) * std::pow(0.96F, decay));
      const float product = row[2] * mu;
      k.a = T(mu1) / (1 - T(product * mu1));
      k.b = (1 - T(mu)) / (1 - T(product));
      k.c = 1 - T(power2);
      next[0] = power, next[1] = power2, next[2] = product;
      return;
    }
    case Rule::kRAdam: {
      const float power1 = row[0] * beta1, power2 = row[1] * beta2;
      const float rho = (row[2] * (beta2 - power2) + power2) / (1 - power2);
      const float limit = 2 / (1 - beta2) - 1, length = limit - 2 * rho;
      k.a = 1 / (1 - T(power1));
      k.b = length > 5 ? T(std::sqrt((length - 4) * (length - 2) * limit /
                                     ((limit - 4) * (limit - 2) * length)))
                       : T(0);
      k.c = std::sqrt(1 - T(power2));
      next[0] = power1, next[1] = power2, next[2] = rho;
      return;
    }
    default: return;
  }
  next[0] = row[0] * beta1;
  if (rule != Rule::kAdamax) next[1] = row[1] * beta2;
}

#undef TRI_BOTH

}  // namespace trireme
