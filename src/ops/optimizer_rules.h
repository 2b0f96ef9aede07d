// The inner loops of the optimizers, compiled for each instruction set.
#pragma once

#include <cstdint>

#include "trireme/types.h"

namespace trireme {

enum class Rule : uint8_t {
  kSgd,
  kMomentum,
  kAdam,
  kAdamW,
  kAdamax,
  kRmsProp,
  kAdagrad,
  kLambMoments,  // the first of lamb's two passes; the second is kLambStep
  kLambStep,
  kAdadelta,
  kNAdam,
  kRAdam,
  kRprop,
  kCount
};

// One parameter's numbers in one step.
template <class T> struct RuleNumbers {
  T factor = 1;        // on the gradient
  bool clamp = false;  // then limited to
  T clamp_min = 0, clamp_max = 0;
  T l1 = 0, l2 = 0;  // then l1 sign(w) + l2 w is added
  T lr = 0, decay = 0;
  T beta1 = 0, beta2 = 0, epsilon = 0, momentum = 0, rho = 0;
  T eta_down = 0, eta_up = 0, lr_min = 0, lr_max = 0;
  T a = 0, b = 0, c = 0, d = 0;  // what the rule derives from its scalar state
  bool nesterov = false, centered = false, amsgrad = false;

  bool plain() const { return factor == 1 && !clamp && l1 == 0 && l2 == 0; }
};

constexpr int64_t kRuleBlock = 1024;  // elements that an update is called with at most

// Updates n elements of a parameter w and its states s in place.
template <class T>
using RuleUpdate = void (*)(const RuleNumbers<T>&, T* w, T* const* s, const T* g, int64_t n);

struct RuleTable {
  RuleUpdate<float> update[static_cast<int>(Rule::kCount)];
  RuleUpdate<double> update64[static_cast<int>(Rule::kCount)];
  // out = the gradient after factor, limits and decay; may be g itself.
  void (*prepare)(const RuleNumbers<float>&, const float* w, const float* g, float* out, int64_t n);
  void (*prepare64)(const RuleNumbers<double>&, const double* w, const double* g, double* out,
                    int64_t n);
  // Sums of w^2 and of the squared lamb direction.
  void (*lamb_sums)(const RuleNumbers<float>&, const float* w, float* const* s, int64_t n,
                    double* sums);
  void (*lamb_sums64)(const RuleNumbers<double>&, const double* w, double* const* s, int64_t n,
                      double* sums);
  // Adds the squares to *sum; the result has an all-ones exponent if some element is not finite.
  uint32_t (*squares)(const float* g, int64_t n, double* sum);
  void (*from_bf16)(const uint16_t* from, float* to, int64_t n);
  void (*to_bf16)(const float* from, uint16_t* to, int64_t n);
  void (*from_f16)(const uint16_t* from, float* to, int64_t n);
  void (*to_f16)(const float* from, uint16_t* to, int64_t n);
};

extern const RuleTable kRulesBaseline, kRulesAvx2, kRulesAvx512;
const RuleTable& rule_table();  // of this processor

}  // namespace trireme
