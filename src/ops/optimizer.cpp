// The fused updates of the optimizers: what they have in common, and their scalar state.
#include "ops/optimizer.h"

#include <cstring>

#include "ops/cuda_kernels.h"
#include "ops/optimizer_chunks.h"
#include "ops/optimizer_places.h"

namespace trireme {

const RuleTable& rule_table() {
  return cpu_features().avx512 ? kRulesAvx512 : cpu_features().avx2 ? kRulesAvx2 : kRulesBaseline;
}

const UpdateTraits& update_traits(const Op& op) {
  static const UpdateTraits table[] = {
      {&ops::sgd_op, Rule::kSgd, 0, 0},           {&ops::momentum_op, Rule::kMomentum, 1, 0},
      {&ops::adam_op, Rule::kAdam, 2, 2},         {&ops::adamw_op, Rule::kAdamW, 2, 2},
      {&ops::adamax_op, Rule::kAdamax, 2, 1},     {&ops::rmsprop_op, Rule::kRmsProp, 2, 0},
      {&ops::adagrad_op, Rule::kAdagrad, 1, 0},   {&ops::lamb_op, Rule::kLambMoments, 2, 2},
      {&ops::adadelta_op, Rule::kAdadelta, 2, 0}, {&ops::nadam_op, Rule::kNAdam, 2, 3},
      {&ops::radam_op, Rule::kRAdam, 2, 3},       {&ops::rprop_op, Rule::kRprop, 2, 0}};
  for (const UpdateTraits& t : table)
    if (t.op == &op) return t;
  fail(Code::kInternal, message(op.name, "is no optimizer"));
}

namespace {

bool is_half(DType d) { return d == DType::kFloat16 || d == DType::kBFloat16; }
DType state_dtype(DType d) { return d == DType::kFloat64 ? d : DType::kFloat32; }

void check_lists(const Infer& i, const UpdateAttrs& a) {
  const auto fits = [&](size_t n, const char* what) {
    TRI_CHECK(n == 0 || n == static_cast<size_t>(a.params),
              message(i.op.name, what, " expects one value a parameter, got ", n));
  };
  TRI_CHECK(a.params >= 0 && a.params < (int64_t{1} << 32) && a.first_factor >= 0,
            message(i.op.name, "expects a number of parameters, got ", a.params));
  fits(a.lr_scale.size(), "lr_scale");
  fits(a.l1.size(), "l1");
  fits(a.l2.size(), "l2");
  fits(a.decay.size(), "decay");
  fits(a.clamp.size(), "clamp");
  for (const int64_t k : a.low)
    TRI_CHECK(k >= 0 && k < a.params, message(i.op.name, "low expects parameters, got ", k));
}

void check_scalars(const Infer& i, const UpdatePlaces& at, const UpdateAttrs& a) {
  const int scalars = ops::update_state(i.op, a).scalars;
  if (scalars > 0) {
    const Shape& s = i.shape(at.scalars);
    TRI_CHECK(i.dtype(at.scalars) == DType::kFloat32 && s.rank() == 2 && s[1] == scalars,
              message(i.op.name, "the scalar state expects float32 [rows, ", scalars, "], got ",
                      i.dtype(at.scalars), s));
    TRI_CHECK(a.rows.size() == static_cast<size_t>(a.params),
              message(i.op.name, "rows expects one value a parameter, got ", a.rows.size()));
    for (const int64_t r : a.rows)
      TRI_CHECK(r >= 0 && r < s[0], message(i.op.name, "rows expects rows of ", s, ", got ", r));
  }
  TRI_CHECK(i.dtype(at.lr) == DType::kFloat32 && i.shape(at.lr).numel() == 1,
            message(i.op.name, "lr expects one float32, got ", i.dtype(at.lr), i.shape(at.lr)));
  if (i.has(at.factors))
    TRI_CHECK(i.dtype(at.factors) == DType::kFloat32 &&
                  i.shape(at.factors).numel() >= a.first_factor + a.params,
              message(i.op.name, "factors expects a float32 a gradient, got ", i.dtype(at.factors),
                      i.shape(at.factors)));
  if (i.has(at.skip))
    TRI_CHECK(
        i.dtype(at.skip) == DType::kBool && i.shape(at.skip).numel() == 1,
        message(i.op.name, "skip expects one bool, got ", i.dtype(at.skip), i.shape(at.skip)));
}

void infer(const Infer& i) {
  const auto& a = i.attrs<UpdateAttrs>();
  check_lists(i, a);
  const UpdatePlaces at(i.op, a);
  TRI_CHECK(i.inputs.size() == at.skip + 1,
            message(i.op.name, "expects ", at.skip + 1, " inputs, got ", i.inputs.size()));
  for (size_t k = 0; k < at.lr; ++k)
    TRI_CHECK(i.has(k), message(i.op.name, "input ", k, " is missing"));
  for (size_t k = 0; k < at.params; ++k) {
    TRI_CHECK(is_floating(i.dtype(k)) && is_floating(i.dtype(at.grads + k)),
              message(i.op.name, "expects floating parameters and gradients, got ", i.dtype(k),
                      " and ", i.dtype(at.grads + k)));
    TRI_CHECK(i.shape(at.grads + k) == i.shape(k),
              message(i.op.name, "the gradient expects shape ", i.shape(k), ", got ",
                      i.shape(at.grads + k)));
    for (int s = 0; s < at.count; ++s) {
      const size_t index = at.states + static_cast<size_t>(s) * at.params + k;
      TRI_CHECK(i.shape(index) == i.shape(k) && i.dtype(index) == state_dtype(i.dtype(k)),
                message(i.op.name, "the state expects ", state_dtype(i.dtype(k)), i.shape(k),
                        ", got ", i.dtype(index), i.shape(index)));
    }
  }
  for (size_t k = 0; k < a.low.size(); ++k) {
    const auto master = static_cast<size_t>(a.low[k]);
    TRI_CHECK(
        i.dtype(master) == DType::kFloat32 && is_half(i.dtype(at.low + k)) &&
            i.shape(at.low + k) == i.shape(master),
        message(i.op.name, "a low-precision copy expects float16 or bfloat16 ", i.shape(master),
                " beside a float32 master, got ", i.dtype(at.low + k), i.shape(at.low + k)));
  }
  check_scalars(i, at, a);
  for (size_t k = 0; k < at.outputs; ++k) i.out(i.dtype(k), i.shape(k));
}

double value(const std::vector<double>& list, size_t k, double otherwise) {
  return list.empty() ? otherwise : list[k];
}

class Update {
 public:
  Update(const Prepare& p)
      : a_(p.attrs<UpdateAttrs>()),
        at_(*p.node.op, a_),
        rule_(update_traits(*p.node.op).rule),
        scalars_(static_cast<size_t>(ops::update_state(*p.node.op, a_).scalars)),
        chunks_(sizes(p, at_.params)),
        has_factors_(p.has(at_.factors)),
        has_skip_(p.has(at_.skip)),
        low_of_(at_.params, -1) {
    for (size_t k = 0; k < at_.lr; ++k) {
      dtypes_.push_back(p.in(k).dtype);
      bytes_.push_back(p.in(k).bytes());
    }
    for (size_t k = 0; k < a_.low.size(); ++k)
      low_of_[static_cast<size_t>(a_.low[k])] = static_cast<int>(k);
  }

  size_t scratch() const {
    return at_.params * sizeof(RuleNumbers<double>) +
           static_cast<size_t>(chunks_.count()) * 2 * sizeof(double) + 64;
  }

  void run(const Launch& l) const {
    if (has_skip_ && *l.input<bool>(at_.skip)) {
      for (size_t k = 0; k < at_.outputs; ++k) copy(l, k);
      return;
    }
    auto* numbers = static_cast<RuleNumbers<double>*>(l.scratch);
    auto* sums = reinterpret_cast<double*>(numbers + at_.params);
    derive_all(l, numbers);
    each_chunk([&](const Chunk& c, int64_t) { piece(l, c, rule_, numbers); });
    if (rule_ != Rule::kLambMoments) return;
    each_chunk([&](const Chunk& c, int64_t index) { lamb_piece(l, c, numbers, sums + 2 * index); });
    lamb_ratios(sums, numbers);
    each_chunk([&](const Chunk& c, int64_t) { piece(l, c, Rule::kLambStep, numbers); });
  }

 private:
  static std::vector<int64_t> sizes(const Prepare& p, size_t n) {
    std::vector<int64_t> all;
    for (size_t k = 0; k < n; ++k) all.push_back(p.in(k).shape.numel());
    return all;
  }

  void copy(const Launch& l, size_t k) const {
    if (l.out[k] != l.in[k]) std::memcpy(l.out[k], l.in[k], bytes_[k]);
  }

  template <class F> void each_chunk(F&& f) const {
    parallel_for(chunks_.count(), chunks_.grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t c = begin; c < end; ++c) f(chunks_.list[static_cast<size_t>(c)], c);
    });
  }

  // In T first, so that float32 parameters see float32 arithmetic; kept as doubles.
  template <class T> RuleNumbers<T> numbers_of(const Launch& l, size_t k, float* next) const {
    RuleNumbers<T> n;
    if (has_factors_)
      n.factor = T(l.input<float>(at_.factors)[static_cast<size_t>(a_.first_factor) + k]);
    n.clamp = !a_.clamp.empty() && a_.clamp[k] != 0;
    n.clamp_min = T(a_.clamp_min), n.clamp_max = T(a_.clamp_max);
    n.l1 = T(value(a_.l1, k, 0)), n.l2 = T(value(a_.l2, k, 0));
    n.lr = T(*l.input<float>(at_.lr)) * T(value(a_.lr_scale, k, 1));
    n.decay = T(value(a_.decay, k, 0));
    n.beta1 = T(a_.beta1), n.beta2 = T(a_.beta2), n.epsilon = T(a_.epsilon);
    n.momentum = T(a_.momentum), n.rho = T(a_.rho);
    n.eta_down = T(a_.eta_down), n.eta_up = T(a_.eta_up);
    n.lr_min = T(a_.lr_min), n.lr_max = T(a_.lr_max);
    n.nesterov = a_.nesterov, n.centered = a_.centered, n.amsgrad = a_.amsgrad;
    if (scalars_ > 0) {
      const size_t row = static_cast<size_t>(a_.rows[k]) * scalars_;
      derive(rule_, {a_.beta1, a_.beta2, a_.momentum_decay}, n, l.input<float>(at_.scalars) + row,
             next);
    }
    return n;
  }

  template <class To, class From> static RuleNumbers<To> as(const RuleNumbers<From>& n) {
    RuleNumbers<To> m;
    m.factor = To(n.factor), m.clamp = n.clamp;
    m.clamp_min = To(n.clamp_min), m.clamp_max = To(n.clamp_max), m.l1 = To(n.l1), m.l2 = To(n.l2);
    m.lr = To(n.lr), m.decay = To(n.decay), m.beta1 = To(n.beta1), m.beta2 = To(n.beta2);
    m.epsilon = To(n.epsilon), m.momentum = To(n.momentum), m.rho = To(n.rho);
    m.eta_down = To(n.eta_down), m.eta_up = To(n.eta_up), m.lr_min = To(n.lr_min);
    m.lr_max = To(n.lr_max), m.a = To(n.a), m.b = To(n.b), m.c = To(n.c), m.d = To(n.d);
    m.nesterov = n.nesterov, m.centered = n.centered, m.amsgrad = n.amsgrad;
    return m;
  }

  void derive_all(const Launch& l, RuleNumbers<double>* numbers) const {
    if (scalars_ > 0) copy(l, at_.scalars);
    for (size_t k = 0; k < at_.params; ++k) {
      float next[4] = {};
      numbers[k] = dtypes_[k] == DType::kFloat64 ? numbers_of<double>(l, k, next)
                                                 : as<double>(numbers_of<float>(l, k, next));
      // The row of one parameter is read by no other.
      if (scalars_ > 0)
        std::copy_n(next, scalars_,
                    l.output<float>(at_.scalars) + static_cast<size_t>(a_.rows[k]) * scalars_);
    }
  }

  void piece(const Launch& l, const Chunk& c, Rule rule, const RuleNumbers<double>* n) const {
    const RuleTable& table = rule_table();
    const auto at = static_cast<size_t>(rule);
    if (dtypes_[c.tensor] == DType::kFloat64)
      update(l, c, n[c.tensor], table.update64[at], table.prepare64, rule != Rule::kLambStep);
    else
      update(l, c, as<float>(n[c.tensor]), table.update[at], table.prepare,
             rule != Rule::kLambStep);
  }

  // `first`: the inputs are still to be brought where the outputs are.
  template <class T, class P>
  void update(const Launch& l, const Chunk& c, const RuleNumbers<T>& n, RuleUpdate<T> rule,
              P prepare_gradient, bool first) const {
    const RuleTable& table = rule_table();
    const size_t k = c.tensor;
    const bool plain = n.plain(), last = rule_ != Rule::kLambMoments || !first;
    T weights[kRuleBlock], gradient[kRuleBlock], prepared[kRuleBlock];
    each_block(c.begin, c.end, [&](int64_t at, int64_t count) {
      T* w = weights;
      const T* from = load_block<T>(table, first ? l.in[k] : l.out[k], dtypes_[k], at, count, w);
      if (from != w) {
        w = l.output<T>(k) + at;
        if (w != from) std::copy_n(from, count, w);
      }
      T* states[3] = {};
      for (int s = 0; s < at_.count; ++s) {
        const size_t index = at_.states + static_cast<size_t>(s) * at_.params + k;
        states[s] = l.output<T>(index) + at;
        const T* source = l.input<T>(index) + at;
        if (first && source != states[s]) std::copy_n(source, count, states[s]);
      }
      const T* g =
          load_block<T>(table, l.in[at_.grads + k], dtypes_[at_.grads + k], at, count, gradient);
      if (!plain && first) {
        prepare_gradient(n, w, g, prepared, count);
        g = prepared;
      }
      rule(n, w, states, g, count);
      store_block(table, w, l.out[k], dtypes_[k], at, count);
      if (const int low = low_of_[k]; low >= 0 && last) {
        const size_t index = at_.low + static_cast<size_t>(low);
        store_block(table, w, l.out[index], dtypes_[index], at, count);
      }
    });
  }

  void lamb_piece(const Launch& l, const Chunk& c, const RuleNumbers<double>* numbers,
                  double* sums) const {
    const auto add = [&]<class T>(Tag<T>, const RuleNumbers<T>& n, auto sum) {
      T weights[kRuleBlock];
      sums[0] = sums[1] = 0;
      each_block(c.begin, c.end, [&](int64_t at, int64_t count) {
        T* states[2];
        for (size_t s = 0; s < 2; ++s)
          states[s] = l.output<T>(at_.states + s * at_.params + c.tensor) + at;
        sum(n, load_block<T>(rule_table(), l.out[c.tensor], dtypes_[c.tensor], at, count, weights),
            states, count, sums);
      });
    };
    const RuleNumbers<double>& n = numbers[c.tensor];
    if (dtypes_[c.tensor] == DType::kFloat64) add(Tag<double>{}, n, rule_table().lamb_sums64);
    else add(Tag<float>{}, as<float>(n), rule_table().lamb_sums);
  }

  void lamb_ratios(const double* sums, RuleNumbers<double>* numbers) const {
    std::vector<double> weight(at_.params, 0), direction(at_.params, 0);
    for (size_t c = 0; c < chunks_.list.size(); ++c) {
      weight[chunks_.list[c].tensor] += sums[2 * c];
      direction[chunks_.list[c].tensor] += sums[2 * c + 1];
    }
    for (size_t k = 0; k < at_.params; ++k) {
      const double w = std::sqrt(weight[k]), d = std::sqrt(direction[k]);
      const bool adapt = numbers[k].decay > 0 || a_.always_adapt;
      numbers[k].c = numbers[k].lr * (adapt && w > 0 && d > 0 ? w / d : 1);
    }
  }

  const UpdateAttrs a_;
  const UpdatePlaces at_;
  const Rule rule_;
  const size_t scalars_;
  const Chunks chunks_;
  const bool has_factors_, has_skip_;
  std::vector<int> low_of_;
  std::vector<DType> dtypes_;
  std::vector<size_t> bytes_;
};

Kernel prepare(const Prepare& p) {
  const auto update = std::make_shared<const Update>(p);
  return {[update](const Launch& l) { update->run(l); }, update->scratch()};
}

}  // namespace

namespace ops {

UpdateState update_state(const Op& op, const UpdateAttrs& a) {
  const UpdateTraits& t = update_traits(op);
  return {t.states + (a.amsgrad || a.centered ? 1 : 0), t.scalars};
}

namespace {
constexpr Op update_op(std::string_view name) {
  return {.name = name,
          .inputs = -1,
          .outputs = -1,
          .attrs = &attr_info<UpdateAttrs>,
          .infer = infer,
          .cpu = prepare,
          .cuda = TRI_CUDA(cuda_update),
          .amp = Amp::kFollow,
          .in_place = kEveryOutput};
}
}  // namespace

constinit const Op sgd_op = update_op("sgd");
constinit const Op momentum_op = update_op("momentum");
constinit const Op adam_op = update_op("adam");
constinit const Op adamw_op = update_op("adamw");
constinit const Op adamax_op = update_op("adamax");
constinit const Op rmsprop_op = update_op("rmsprop");
constinit const Op adagrad_op = update_op("adagrad");
constinit const Op lamb_op = update_op("lamb");
constinit const Op adadelta_op = update_op("adadelta");
constinit const Op nadam_op = update_op("nadam");
constinit const Op radam_op = update_op("radam");
constinit const Op rprop_op = update_op("rprop");

}  // namespace ops
}  // namespace trireme
