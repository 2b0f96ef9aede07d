// Normalisation, dropout, attention.
#include <cmath>

#include "ops/norm.h"
#include "runtime/call.h"
#include "train/attention.h"
#include "train/random_ops.h"
#include "trireme/autograd.h"
#include "trireme/nn_functional.h"

namespace trireme::nn::functional {
namespace {

// A number for each channel, where there is no parameter.
Tensor per_channel(const Tensor& t, const Tensor& x, double value) {
  const DType dtype = x.dtype() == DType::kFloat64 ? x.dtype() : DType::kFloat32;
  return t.defined() ? t : full({x.size(1)}, value, dtype);
}

Ints all_but_first(const Tensor& x, int first) {
  Ints axes;
  for (int i = first; i < x.ndim(); ++i) axes.push_back(i);
  return axes;
}

void check_p(double p, const char* op) {
  TRI_CHECK(p >= 0 && p <= 1,
            '[' + std::string(op) + "] p expects 0 to 1, got " + std::to_string(p));
}

int first_normalized(const Tensor& x, const Ints& shape, const char* op) {
  const int first = x.ndim() - static_cast<int>(shape.size());
  bool same = first >= 0 && !shape.empty();
  for (int i = first; same && i < x.ndim(); ++i)
    same = x.size(i) == shape[static_cast<size_t>(i - first)];
  TRI_CHECK(same, '[' + std::string(op) + "] x expects a shape that ends with " +
                      Shape(shape).str() + ", got " + x.shape().str());
  return first;
}

}  // namespace

Tensor batch_norm(const Tensor& x, Tensor running_mean, Tensor running_var, const Tensor& weight,
                  const Tensor& bias, bool training, double momentum, double epsilon,
                  bool use_global_stats) {
  TRI_CHECK(x.ndim() >= 2, "[batch_norm] x expects rank 2 or more, got " + x.shape().str());
  const Tensor scale = per_channel(weight, x, 1), shift = per_channel(bias, x, 0);
  if (!training || use_global_stats)
    return call([&](Value* v, Value* s, Value* b, Value* m,
                    Value* var) { return ops::batch_norm(v, s, b, m, var, epsilon); },
                x, scale, shift, running_mean, running_var);
  const std::vector<Tensor> r =
      call([&](Value* m, Value* var, Value* v, Value* s,
               Value* b) { return ops::batch_norm_train(m, var, v, s, b, momentum, epsilon); },
           running_mean, running_var, x, scale, shift);
  running_mean.set_value(r[0]);
  running_var.set_value(r[1]);
  return r[2];
}

Tensor layer_norm(const Tensor& x, const Ints& normalized_shape, const Tensor& weight,
                  const Tensor& bias, double epsilon) {
  const int first = first_normalized(x, normalized_shape, "layer_norm");
  return call(
      [&](Value* v, Value* w, Value* b) { return ops::layer_norm(v, w, b, first, epsilon); }, x,
      weight, bias);
}

Tensor rms_norm(const Tensor& x, const Ints& normalized_shape, const Tensor& weight,
                double epsilon) {
  const int first = first_normalized(x, normalized_shape, "rms_norm");
  const Tensor y = x * rsqrt(mean(square(x), all_but_first(x, first), true) + epsilon);
  return weight.defined() ? y * weight : y;
}

Tensor group_norm(const Tensor& x, int64_t num_groups, double epsilon, const Tensor& weight,
                  const Tensor& bias) {
  return call(
      [&](Value* v, Value* w, Value* b) { return ops::group_norm(v, w, b, num_groups, epsilon); },
      x, weight, bias);
}

Tensor instance_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  return call([&](Value* v, Value* w, Value* b) { return ops::instance_norm(v, w, b, epsilon); }, x,
              weight, bias);
}

Tensor local_response_norm(const Tensor& x, int64_t size, double alpha, double beta, double k) {
  TRI_CHECK(x.ndim() >= 3 && size > 0,
            "[local_response_norm] expects rank 3 or more and a positive size, got " +
                x.shape().str() + ", " + std::to_string(size));
  Ints around(2 * static_cast<size_t>(x.ndim()), 0);
  around[2] = size / 2;
  around[3] = (size - 1) / 2;
  const Tensor padded = pad(square(x), around);
  Tensor total;
  for (int64_t i = 0; i < size; ++i) {
    const Tensor part = slice(padded, {1}, {i}, {i + x.size(1)});
    total = total.defined() ? total + part : part;
  }
  return x * pow(scale(total, alpha / static_cast<double>(size), k), -beta);
}

Tensor normalize(const Tensor& x, double p, int64_t axis, double epsilon) {
  if (p == 2) return x * rsqrt(clip(sum(square(x), {axis}, true), epsilon * epsilon, INFINITY));
  const Tensor norm =
      std::isinf(p) ? max(abs(x), {axis}, true) : pow(sum(pow(abs(x), p), {axis}, true), 1 / p);
  return x / clip(norm, epsilon, INFINITY);
}

Tensor cosine_similarity(const Tensor& x1, const Tensor& x2, int64_t axis, double eps) {
  const Tensor squares = sum(square(x1), {axis}) * sum(square(x2), {axis});
  return sum(x1 * x2, {axis}) * rsqrt(clip(squares, eps * eps, INFINITY));
}

// ---- dropout

Tensor dropout(const Tensor& x, double p, const Ints& axis, bool training,
               const std::string& mode) {
  check_p(p, "dropout");
  const bool upscale = mode == "upscale_in_train";
  TRI_CHECK(upscale || mode == "downscale_in_infer",
            "[dropout] mode expects upscale_in_train or downscale_in_infer, got " + mode);
  if (p == 0) return x;
  if (!training) return upscale ? x : x * (1 - p);
  if (p == 1) return x * 0.0;
  return random_dropout(x, p, axis, mode);
}

Tensor dropout2d(const Tensor& x, double p, bool training) {
  TRI_CHECK(x.ndim() == 4, "[dropout2d] x expects rank 4, got " + x.shape().str());
  return dropout(x, p, {0, 1}, training);
}

Tensor alpha_dropout(const Tensor& x, double p, bool training) {
  check_p(p, "alpha_dropout");
  if (!training || p == 0) return x;
  if (p == 1) return x * 0.0;
  const double low = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717;
  const double a = 1 / std::sqrt((1 - p) * (1 + p * low * low)), b = -a * low * p;
  const Tensor keep = scale(random_dropout(ones_like(x), p), 1 - p);  // 0 or 1
  return scale(x * keep + scale(keep, -low, low), a, b);
}

Tensor gumbel_softmax(const Tensor& x, double temperature, bool hard, int64_t axis) {
  TRI_CHECK(temperature > 0, "[gumbel_softmax] temperature expects more than 0");
  const Tensor u = random_uniform(x, 1e-20, 1);
  const Tensor noise = -log(-log(u));
  const Tensor soft = softmax((x + noise) / temperature, axis);
  if (!hard) return soft;
  const Tensor one = cast(equal(soft, max(soft, {axis}, true)), soft.dtype()).detach();
  return one - soft.detach() + soft;
}

// ---- attention

Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const Tensor& attn_mask, double dropout_p, bool is_causal,
                                    bool training) {
  for (const Tensor* t : {&query, &key, &value})
    TRI_CHECK(t->ndim() == 4,
              "[scaled_dot_product_attention] expects [N, length, heads, head size], got " +
                  t->shape().str());
  check_p(dropout_p, "scaled_dot_product_attention");
  const double factor = 1 / std::sqrt(static_cast<double>(query.size(3)));
  const double p = training ? dropout_p : 0;
  if (Tensor y = flash_attention(query, key, value, attn_mask, factor, p, is_causal); y.defined())
    return y;
  const Ints heads_first{0, 2, 1, 3};
  Tensor weights =
      matmul(transpose(query, heads_first) * factor, transpose(key, heads_first), false, true);
  if (attn_mask.defined())
    weights = attn_mask.dtype() == DType::kBool
                  ? where(attn_mask, weights, full({}, -INFINITY, weights.dtype()))
                  : weights + attn_mask;
  if (is_causal) {
    const Tensor seen = less_equal(unsqueeze(arange(0, static_cast<double>(key.size(1))), {0}),
                                   unsqueeze(arange(0, static_cast<double>(query.size(1))), {1}));
    weights = where(seen, weights, full({}, -INFINITY, weights.dtype()));
  }
  weights = dropout(softmax(weights), dropout_p, {}, training);
  return transpose(matmul(weights, transpose(value, heads_first)), heads_first);
}

}  // namespace trireme::nn::functional
