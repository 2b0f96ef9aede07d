// Initialisers: numbers from a counter-based generator, spread by fan_in and fan_out.
#include "trireme/nn_initializer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "ops/random_rows.h"
#include "train/global_initializer.h"

namespace trireme::nn {

Initializer& global_weight_initializer() {
  thread_local Initializer weight;
  return weight;
}
Initializer& global_bias_initializer() {
  thread_local Initializer bias;
  return bias;
}

namespace initializer {
namespace {

// Numbers one after another: those of the random operators, at an index that no operator has.
class Numbers {
 public:
  explicit Numbers(const std::vector<uint64_t>& state)
      : stream_{state[0], state[1], ~uint32_t{0}} {}

  double uniform() {  // in (0, 1)
    if (used_ == kRandomBlock) {
      random_rows().block(stream_, block_++, numbers_);
      used_ = 0;
    }
    return (numbers_[used_++] + 0.5) * 0x1p-32;
  }
  double normal() {  // Box and Muller's, two at a time
    has_spare_ = !has_spare_;
    if (!has_spare_) return spare_;
    const double r = std::sqrt(-2 * std::log(uniform())), angle = 6.283185307179586 * uniform();
    spare_ = r * std::sin(angle);
    return r * std::cos(angle);
  }

 private:
  RandomStream stream_;
  uint64_t block_ = 0;
  int64_t used_ = kRandomBlock;
  uint32_t numbers_[kRandomBlock];
  double spare_ = 0;
  bool has_spare_ = false;
};

// Other numbers for each call.
Numbers next_stream() {
  std::vector<uint64_t> state = get_rng_state();
  const Numbers numbers(state);
  ++state[1];
  set_rng_state(state);
  return numbers;
}

template <class F> Array filled(const Shape& shape, DType dtype, F&& next) {
  Array a(dtype == DType::kFloat64 ? dtype : DType::kFloat32, shape);
  const int64_t n = a.numel();
  if (a.dtype() == DType::kFloat64)
    for (int64_t i = 0; i < n; ++i) a.as<double>()[i] = next();
  else
    for (int64_t i = 0; i < n; ++i) a.as<float>()[i] = static_cast<float>(next());
  return a.to(dtype);
}

Array normal(const Shape& shape, DType dtype, double mean, double std) {
  Numbers s = next_stream();
  return filled(shape, dtype, [&] { return mean + std * s.normal(); });
}
Array uniform(const Shape& shape, DType dtype, double low, double high) {
  Numbers s = next_stream();
  return filled(shape, dtype, [&] { return low + (high - low) * s.uniform(); });
}

double xavier_variance(const XavierOptions& o, const Shape& shape) {
  const Fans f = compute_fans(shape);
  const double sum = (o.fan_in > 0 ? o.fan_in : f.in) + (o.fan_out > 0 ? o.fan_out : f.out);
  return sum > 0 ? o.gain * o.gain * 2 / sum : 0;
}
double kaiming_std(const KaimingOptions& o, const Shape& shape) {
  TRI_CHECK(o.mode == "fan_in" || o.mode == "fan_out",
            "[initializer] mode expects fan_in or fan_out, got " + o.mode);
  const Fans f = compute_fans(shape);
  const double fan = o.mode == "fan_out" ? f.out : o.fan_in > 0 ? o.fan_in : f.in;
  return fan > 0 ? calculate_gain(o.nonlinearity, o.negative_slope) / std::sqrt(fan) : 0;
}

}  // namespace

Fans compute_fans(const Shape& shape) {
  const auto at = [&](int i) { return static_cast<double>(shape[i]); };
  if (shape.rank() == 0) return {1, 1};
  if (shape.rank() == 1) return {at(0), at(0)};
  if (shape.rank() == 2) return {at(0), at(1)};
  double field = 1;
  for (int i = 2; i < shape.rank(); ++i) field *= at(i);
  return {at(1) * field, at(0) * field};
}

double calculate_gain(const std::string& nonlinearity, double param) {
  static const std::map<std::string, double> gains = {
      {"sigmoid", 1},          {"linear", 1},           {"conv1d", 1},     {"conv2d", 1},
      {"conv1d_transpose", 1}, {"conv2d_transpose", 1}, {"tanh", 5.0 / 3}, {"relu", std::sqrt(2.0)},
      {"selu", 0.75},
  };
  if (nonlinearity == "leaky_relu") return std::sqrt(2 / (1 + param * param));
  const auto it = gains.find(nonlinearity);
  TRI_CHECK(it != gains.end(), "[calculate_gain] there is no nonlinearity '" + nonlinearity + "'");
  return it->second;
}

Initializer Constant(double value) {
  return
      [=](const Shape& shape, DType dtype) { return filled(shape, dtype, [&] { return value; }); };
}
Initializer Normal(double mean, double std) {
  return [=](const Shape& shape, DType dtype) { return normal(shape, dtype, mean, std); };
}
Initializer Uniform(double low, double high) {
  return [=](const Shape& shape, DType dtype) { return uniform(shape, dtype, low, high); };
}

Initializer TruncatedNormal(double mean, double std, double a, double b) {
  const auto below = [&](double x) { return 0.5 * std::erfc((mean - x) / (std * std::sqrt(2.0))); };
  TRI_CHECK(std > 0 && a < b && below(b) - below(a) > 1e-3,
            "[TruncatedNormal] expects std > 0 and a < b with a part of the distribution between");
  return [=](const Shape& shape, DType dtype) {
    Numbers s = next_stream();
    return filled(shape, dtype, [&] {
      double x = 0;
      do x = mean + std * s.normal();
      while (x < a || x > b);
      return x;
    });
  };
}

Initializer XavierNormal(const XavierOptions& options) {
  return [=](const Shape& shape, DType dtype) {
    return normal(shape, dtype, 0, std::sqrt(xavier_variance(options, shape)));
  };
}
Initializer XavierUniform(const XavierOptions& options) {
  return [=](const Shape& shape, DType dtype) {
    const double limit = std::sqrt(3 * xavier_variance(options, shape));
    return uniform(shape, dtype, -limit, limit);
  };
}
Initializer KaimingNormal(const KaimingOptions& options) {
  return [=](const Shape& shape, DType dtype) {
    return normal(shape, dtype, 0, kaiming_std(options, shape));
  };
}
Initializer KaimingUniform(const KaimingOptions& options) {
  return [=](const Shape& shape, DType dtype) {
    const double limit = std::sqrt(3.0) * kaiming_std(options, shape);
    return uniform(shape, dtype, -limit, limit);
  };
}

Initializer Assign(const Array& value) {
  return [=](const Shape& shape, DType dtype) {
    TRI_CHECK(value.numel() == shape.numel(),
              "[Assign] expects values of shape " + shape.str() + ", got " + value.shape().str());
    Array own(value.dtype(), shape);  // parameters are overwritten by updates
    if (value.bytes() > 0) std::memcpy(own.data(), value.data(), value.bytes());
    return own.to(dtype);
  };
}

Initializer Orthogonal(double gain) {
  return [=](const Shape& shape, DType dtype) {
    TRI_CHECK(shape.rank() >= 2, "[Orthogonal] expects rank 2 or more, got " + shape.str());
    const int64_t rows = shape[0], columns = rows > 0 ? shape.numel() / rows : 0;
    const int64_t count = std::min(rows, columns), length = std::max(rows, columns);
    // Gram-Schmidt, twice over, on random vectors; the sign is random with them.
    Numbers s = next_stream();
    std::vector<double> q(static_cast<size_t>(count * length));
    for (double& v : q) v = s.normal();
    for (int64_t i = 0; i < count; ++i) {
      double* x = &q[static_cast<size_t>(i * length)];
      for (int pass = 0; pass < 2; ++pass)
        for (int64_t j = 0; j < i; ++j) {
          const double* y = &q[static_cast<size_t>(j * length)];
          double dot = 0;
          for (int64_t k = 0; k < length; ++k) dot += x[k] * y[k];
          for (int64_t k = 0; k < length; ++k) x[k] -= dot * y[k];
        }
      double norm = 0;
      for (int64_t k = 0; k < length; ++k) norm += x[k] * x[k];
      for (int64_t k = 0; k < length; ++k) x[k] /= std::sqrt(norm);
    }
    int64_t i = 0;
    return filled(shape, dtype, [&] {
      const int64_t r = i / columns, c = i % columns;
      ++i;
      return gain * q[static_cast<size_t>(rows <= columns ? r * length + c : c * length + r)];
    });
  };
}

Initializer Dirac(int64_t groups) {
  return [=](const Shape& shape, DType dtype) {
    TRI_CHECK(shape.rank() >= 3 && groups > 0 && shape[0] % groups == 0,
              "[Dirac] expects a kernel whose first dimension " + std::to_string(groups) +
                  " groups divide, got " + shape.str());
    Array a = filled(shape, DType::kFloat32, [] { return 0.0; });
    const int64_t each = shape[0] / groups;
    int64_t field = 1, middle = 0;
    for (int i = 2; i < shape.rank(); ++i) {
      field *= shape[i];
      middle = middle * shape[i] + shape[i] / 2;
    }
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t k = 0; k < std::min(each, shape[1]); ++k)
        a.as<float>()[((g * each + k) * shape[1] + k) * field + middle] = 1;
    return a.to(dtype);
  };
}

Initializer Bilinear() {
  return [](const Shape& shape, DType dtype) {
    TRI_CHECK(shape.rank() == 4 && shape[2] == shape[3],
              "[Bilinear] expects a square kernel of rank 4, got " + shape.str());
    const int64_t k = shape[3];
    const double f = std::ceil(static_cast<double>(k) / 2);
    const double c = (2 * f - 1 - std::fmod(f, 2)) / (2 * f);
    const auto weight = [&](int64_t at) { return 1 - std::abs(static_cast<double>(at) / f - c); };
    int64_t i = 0;
    const Array a = filled(shape, DType::kFloat32, [&] {
      const int64_t x = i % k, y = i / k % k;
      ++i;
      return weight(x) * weight(y);
    });
    return a.to(dtype);
  };
}

void set_global_initializer(const Initializer& weight, const Initializer& bias) {
  global_weight_initializer() = weight;
  global_bias_initializer() = bias;
}

}  // namespace initializer
}  // namespace trireme::nn
