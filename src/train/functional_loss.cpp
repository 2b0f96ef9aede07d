// Losses.
#include <cmath>

#include "ops/cross_entropy.h"
#include "ops/ctc.h"
#include "ops/index.h"
#include "ops/pointwise.h"
#include "runtime/call.h"
#include "trireme/nn_functional.h"

namespace trireme::nn::functional {
namespace {

void check_reduction(const std::string& reduction, const char* op) {
  TRI_CHECK(reduction == "mean" || reduction == "sum" || reduction == "none",
            '[' + std::string(op) + "] reduction expects mean, sum or none, got " + reduction);
}

Tensor reduced(const Tensor& loss, const std::string& reduction, const char* op) {
  check_reduction(reduction, op);
  return reduction == "mean" ? mean(loss) : reduction == "sum" ? sum(loss) : loss;
}

// total / count, and 0 where the count is 0 (then the total is as well).
Tensor ratio(const Tensor& total, const Tensor& count) {
  return total / (count + cast(equal(count, zeros_like(count)), count.dtype()));
}

// The element of x at each label along `axis`; label has x's shape without it.
Tensor pick(const Tensor& x, const Tensor& label, int axis) {
  return squeeze(call([&](Value* v, Value* l) { return ops::take_along_axis(v, l, axis); }, x,
                      unsqueeze(label, {axis})),
                 {axis});
}

// Weights and ignored labels as Paddle has them: `unweighted` gives the loss of labels that are
// all valid.
template <class F>
Tensor weighted_loss(const Tensor& label, DType dtype, const Tensor& weight, int64_t ignore_index,
                     const std::string& reduction, F&& unweighted) {
  const Tensor skip = full({}, static_cast<double>(ignore_index), label.dtype());
  const Tensor valid = not_equal(label, skip);
  const Tensor safe = where(valid, label, full({}, 0, label.dtype()));
  Tensor factor = cast(valid, dtype);
  if (weight.defined()) factor = factor * cast(gather(weight, safe), dtype);
  const Tensor loss = unweighted(safe) * factor;
  if (reduction == "none") return loss;
  return reduction == "sum" ? sum(loss) : ratio(sum(loss), sum(factor));
}

int checked_axis(const Tensor& x, int64_t axis, const char* op) {
  const int64_t a = axis < 0 ? axis + x.ndim() : axis;
  TRI_CHECK(a >= 0 && a < x.ndim(), '[' + std::string(op) + "] axis expects a dimension of " +
                                        x.shape().str() + ", got " + std::to_string(axis));
  return static_cast<int>(a);
}

// Labels that are classes, with the axis of the classes taken away.
Tensor class_labels(const Tensor& input, const Tensor& label, int axis, const char* op) {
  Shape want;
  for (int i = 0; i < input.ndim(); ++i)
    if (i != axis) want.push_back(input.size(i));
  Tensor l = label;
  if (label.ndim() == input.ndim() && label.size(axis) == 1) l = squeeze(label, {axis});
  TRI_CHECK(l.shape() == want, '[' + std::string(op) + "] label expects shape " + want.str() +
                                   ", got " + label.shape().str());
  TRI_CHECK(l.dtype() == DType::kInt64 || l.dtype() == DType::kInt32,
            '[' + std::string(op) + "] label expects an integer dtype, got " +
                std::string(name_of(l.dtype())));
  return l;
}

// softmax and loss in one operator; the axis is gone.
Tensor fused_cross_entropy(const Tensor& logits, const Tensor& label, int axis, bool soft) {
  const std::vector<Tensor> r = call(
      [&](Value* v, Value* l) { return ops::cross_entropy_with_softmax(v, l, soft, -100, axis); },
      logits, label);
  return squeeze(r[1], {axis});
}

Tensor soft_cross_entropy(const Tensor& input, const Tensor& label, int axis,
                          const CrossEntropyOptions& o) {
  TRI_CHECK(label.shape() == input.shape(), "[cross_entropy] soft labels expect shape " +
                                                input.shape().str() + ", got " +
                                                label.shape().str());
  const Tensor loss = o.use_softmax ? fused_cross_entropy(input, label, axis, true)
                                    : -sum(log(input) * label, {axis});
  if (!o.weight.defined()) return reduced(loss, o.reduction, "cross_entropy");
  Ints shape(static_cast<size_t>(label.ndim()), 1);
  shape[static_cast<size_t>(axis)] = -1;
  const Tensor factor = sum(label * reshape(o.weight, shape), {axis});
  const Tensor weighted = loss * factor;
  if (o.reduction == "none") return weighted;
  return o.reduction == "sum" ? sum(weighted) : ratio(sum(weighted), sum(factor));
}

}  // namespace

Tensor cross_entropy(const Tensor& input, const Tensor& label, const CrossEntropyOptions& o) {
  check_reduction(o.reduction, "cross_entropy");
  const int axis = checked_axis(input, o.axis, "cross_entropy");
  if (o.weight.defined())
    TRI_CHECK(o.weight.ndim() == 1 && o.weight.numel() == input.size(axis),
              "[cross_entropy] weight expects " + std::to_string(input.size(axis)) +
                  " numbers, got " + o.weight.shape().str());
  if (!o.soft_label && o.label_smoothing == 0)
    return weighted_loss(class_labels(input, label, axis, "cross_entropy"), input.dtype(), o.weight,
                         o.ignore_index, o.reduction, [&](const Tensor& l) {
                           return o.use_softmax ? fused_cross_entropy(input, l, axis, false)
                                                : -log(pick(input, l, axis));
                         });
  Tensor soft = label;
  if (!o.soft_label) {
    soft = one_hot(class_labels(input, label, axis, "cross_entropy"), input.size(axis));
    if (axis != input.ndim() - 1) {
      Ints perm;
      for (int i = 0; i < input.ndim() - 1; ++i) perm.push_back(i);
      perm.insert(perm.begin() + axis, input.ndim() - 1);
      soft = transpose(soft, perm);
    }
  }
  if (o.label_smoothing > 0)
    soft = scale(soft, 1 - o.label_smoothing,
                 o.label_smoothing / static_cast<double>(input.size(axis)));
  return soft_cross_entropy(input, cast(soft, input.dtype()), axis, o);
}

Tensor softmax_with_cross_entropy(const Tensor& logits, const Tensor& label, bool soft_label,
                                  int64_t ignore_index, int64_t axis) {
  return unsqueeze(cross_entropy(logits, label,
                                 {.ignore_index = ignore_index,
                                  .reduction = "none",
                                  .soft_label = soft_label,
                                  .axis = axis}),
                   {axis});
}

Tensor mse_loss(const Tensor& input, const Tensor& label, const std::string& reduction) {
  return reduced(square(input - label), reduction, "mse_loss");
}
Tensor l1_loss(const Tensor& input, const Tensor& label, const std::string& reduction) {
  return reduced(abs(input - label), reduction, "l1_loss");
}
Tensor smooth_l1_loss(const Tensor& input, const Tensor& label, const std::string& reduction,
                      double delta, bool is_huber) {
  TRI_CHECK(delta > 0, "[smooth_l1_loss] delta expects more than 0");
  // a (d - a / 2) with a = min(d, delta): half the square below delta, a line above.
  const Tensor d = abs(input - label), a = clip(d, 0, delta);
  const Tensor loss = a * (d - a * 0.5);
  return reduced(is_huber ? loss : loss / delta, reduction, "smooth_l1_loss");
}

Tensor binary_cross_entropy(const Tensor& input, const Tensor& label, const Tensor& weight,
                            const std::string& reduction) {
  // At least -100; without log(0), whose gradient is no number even where it weighs nothing.
  const auto safe_log = [](const Tensor& x) {
    const double least = x.dtype() == DType::kFloat16 ? 6e-8 : 1e-38;
    const Tensor inside = greater_than(x, full({}, least, x.dtype()));
    return where(inside, log(clip(x, least, INFINITY)), full({}, -100, x.dtype()));
  };
  const Tensor loss = -(label * safe_log(input) + (1.0 - label) * safe_log(1.0 - input));
  return reduced(weight.defined() ? loss * weight : loss, reduction, "binary_cross_entropy");
}
Tensor binary_cross_entropy_with_logits(const Tensor& logit, const Tensor& label,
                                        const Tensor& weight, const std::string& reduction,
                                        const Tensor& pos_weight) {
  Tensor positive = log_sigmoid(logit);
  if (pos_weight.defined()) positive = positive * ((pos_weight - 1.0) * label + 1.0);
  const Tensor loss = (1.0 - label) * logit - positive;
  return reduced(weight.defined() ? loss * weight : loss, reduction,
                 "binary_cross_entropy_with_logits");
}

Tensor nll_loss(const Tensor& input, const Tensor& label, const Tensor& weight,
                int64_t ignore_index, const std::string& reduction) {
  check_reduction(reduction, "nll_loss");
  TRI_CHECK(input.ndim() >= 2, "[nll_loss] input expects rank 2 or more");
  return weighted_loss(class_labels(input, label, 1, "nll_loss"), input.dtype(), weight,
                       ignore_index, reduction,
                       [&](const Tensor& l) { return -pick(input, l, 1); });
}

Tensor kl_div(const Tensor& input, const Tensor& label, const std::string& reduction,
              bool log_target) {
  Tensor loss;
  if (log_target) {
    loss = exp(label) * (label - input);
  } else {
    const Tensor none = zeros_like(label), some = greater_than(label, none);
    loss = where(some, label * (log(where(some, label, ones_like(label))) - input), none);
  }
  if (reduction == "batchmean") return sum(loss) / static_cast<double>(input.size(0));
  return reduced(loss, reduction, "kl_div");
}

Tensor ctc_loss(const Tensor& log_probs, const Tensor& labels, const Tensor& input_lengths,
                const Tensor& label_lengths, int64_t blank, const std::string& reduction,
                bool norm_by_times, bool zero_infinity) {
  (void)zero_infinity;  // the operator never gives infinity
  const CtcAttrs attrs{blank, norm_by_times};
  const Tensor loss = call([&](Value* x, Value* l, Value* steps,
                               Value* n) { return ops::warpctc(x, l, steps, n, attrs); },
                           log_probs, labels, input_lengths, label_lengths)[0];
  if (reduction == "mean") return mean(loss / cast(label_lengths, loss.dtype()));
  return reduced(loss, reduction, "ctc_loss");
}

Tensor margin_ranking_loss(const Tensor& input, const Tensor& other, const Tensor& label,
                           double margin, const std::string& reduction) {
  return reduced(relu((other - input) * label + margin), reduction, "margin_ranking_loss");
}
Tensor hinge_embedding_loss(const Tensor& input, const Tensor& label, double margin,
                            const std::string& reduction) {
  const Tensor none = zeros_like(input);
  const Tensor loss = where(equal(label, ones_like(label)), input, none) +
                      where(equal(label, full_like(label, -1)), relu(margin - input), none);
  return reduced(loss, reduction, "hinge_embedding_loss");
}
Tensor cosine_embedding_loss(const Tensor& input1, const Tensor& input2, const Tensor& label,
                             double margin, const std::string& reduction) {
  const Tensor squares = (sum(square(input1), {-1}) + 1e-11) * (sum(square(input2), {-1}) + 1e-11);
  const Tensor cos = sum(input1 * input2, {-1}) * rsqrt(squares), none = zeros_like(cos);
  const Tensor loss =
      where(equal(label, ones_like(label)), 1.0 - cos, none) +
      where(equal(label, full_like(label, -1)), clip(cos - margin, 0, INFINITY), none);
  return reduced(loss, reduction, "cosine_embedding_loss");
}
Tensor triplet_margin_loss(const Tensor& input, const Tensor& positive, const Tensor& negative,
                           double margin, double p, double epsilon, bool swap,
                           const std::string& reduction) {
  TRI_CHECK(margin >= 0 && p > 0, "[triplet_margin_loss] margin and p expect positive numbers");
  const auto distance = [&](const Tensor& a, const Tensor& b) {
    const Tensor d = abs(a - b + epsilon);
    return p == 2 ? sqrt(sum(square(d), {-1})) : pow(sum(pow(d, p), {-1}), 1 / p);
  };
  Tensor far = distance(input, negative);
  if (swap) far = minimum(far, distance(positive, negative));
  return reduced(clip(distance(input, positive) - far + margin, 0, INFINITY), reduction,
                 "triplet_margin_loss");
}
Tensor soft_margin_loss(const Tensor& input, const Tensor& label, const std::string& reduction) {
  return reduced(-log_sigmoid(cast(label, input.dtype()) * input), reduction, "soft_margin_loss");
}
Tensor square_error_cost(const Tensor& input, const Tensor& label) { return square(input - label); }
Tensor log_loss(const Tensor& input, const Tensor& label, double epsilon) {
  return -(label * log(input + epsilon)) - (1.0 - label) * log(scale(input, -1, 1 + epsilon));
}

Tensor sigmoid_focal_loss(const Tensor& logit, const Tensor& label, const Tensor& normalizer,
                          double alpha, double gamma, const std::string& reduction) {
  const Tensor loss = (1.0 - label) * logit - log_sigmoid(logit);
  const Tensor p = sigmoid(logit), miss = p + label - p * label * 2.0;  // 1 - p_t
  Tensor weighted = scale(label, 2 * alpha - 1, 1 - alpha) * loss * pow(miss, gamma);
  if (normalizer.defined()) weighted = weighted / normalizer;
  return reduced(weighted, reduction, "sigmoid_focal_loss");
}

Tensor dice_loss(const Tensor& input, const Tensor& label, double epsilon) {
  TRI_CHECK(input.ndim() >= 2 && label.ndim() == input.ndim() && label.size(-1) == 1,
            "[dice_loss] label expects rank " + std::to_string(input.ndim()) +
                " and a last dimension of 1, got " + label.shape().str());
  const Tensor choice = cast(one_hot(squeeze(label, {-1}), input.size(-1)), input.dtype());
  Ints axes;
  for (int i = 1; i < input.ndim(); ++i) axes.push_back(i);
  const Tensor both = sum(input, axes) + sum(choice, axes);
  return mean(1.0 - sum(input * choice, axes) * 2.0 / (both + epsilon));
}

}  // namespace trireme::nn::functional
