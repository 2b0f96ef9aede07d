// Scalar functions for pointwise.def that compilers turn into vector code: branch-free, no calls
// for float. Static on purpose: every file that includes this is compiled for its own instruction
// set. The text of this file also stands in front of the GPU's kernels, where NVRTC compiles it.
#pragma once

#ifdef __CUDACC_RTC__
#include "ops/pointwise_math_device.h"
#else
#include <cmath>
#include <cstdint>
#include <cstring>
#endif

namespace {

template <class T> inline T select_(bool c, T x, T y) { return c ? x : y; }
template <class T> inline T max_(T x, T y) { return x > y ? x : y; }
template <class T> inline T min_(T x, T y) { return x < y ? x : y; }
template <class T> inline T abs_(T x) { return x < T(0) ? -x : x; }
// A bool as 0 or 1 of the type that it meets in an expression.
struct Step {
  bool c;
  template <class T> operator T() const { return c ? T(1) : T(0); }
};
inline Step step_(bool c) { return {c}; }
template <class T> inline T sign_(T x) {
  return x > T(0) ? T(1) : (x < T(0) ? T(-1) : x * T(0));  // NaN stays
}

#ifndef __CUDACC_RTC__
inline float bits_to_float(int32_t i) {
  float f;
  std::memcpy(&f, &i, 4);
  return f;
}
inline int32_t float_to_bits(float f) {
  int32_t i;
  std::memcpy(&i, &f, 4);
  return i;
}

// exp: 2^n e^r with |r| <= ln2 / 2, Taylor to r^7 (relative error below 1e-7).
inline float exp_(float x) {
  const float c = min_(max_(x, -87.3f), 88.7f);
  const float shifted = c * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
  const float n = shifted - 12582912.0f;
  float r = c - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float scale = bits_to_float((float_to_bits(shifted) << 23) + 0x3f800000);
  const float y = p * scale;
  return x < -87.3f ? 0.0f : (x > 88.7f ? HUGE_VALF : y);
}

// log: m * 2^e with m in [sqrt(1/2), sqrt(2)), then 2 atanh((m - 1) / (m + 1)) by its odd series.
inline float log_(float x) {
  const int32_t i = float_to_bits(x);
  const int32_t e = (i - 0x3f3504f3) >> 23;
  const float m = bits_to_float(i - (e << 23));
  const float s = (m - 1.0f) / (m + 1.0f), z = s * s;
  float p = 2.0f / 11;
  p = p * z + 2.0f / 9;
  p = p * z + 2.0f / 7;
  p = p * z + 2.0f / 5;
  p = p * z + 2.0f / 3;
  p = p * z + 2.0f;
  const float y = s * p + static_cast<float>(e) * 0.69314718f;
  return x > 0.0f ? (x > 3.0e38f ? x : y) : (x == 0.0f ? -HUGE_VALF : NAN);
}

// erf: Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
inline float erf_(float x) {
  const float z = abs_(x), t = 1.0f / (1.0f + 0.3275911f * z);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const float y = 1.0f - p * t * exp_(-z * z);
  return x < 0.0f ? -y : y;
}

// tanh: 1 - 2 / (e^2x + 1), near zero its series (the difference would cancel there).
inline float tanh_(float x) {
  const float y = 1.0f - 2.0f / (exp_(2.0f * x) + 1.0f), z = x * x;
  const float small = x * (1.0f + z * (-1.0f / 3 + z * (2.0f / 15 - z * (17.0f / 315))));
  return abs_(x) < 0.15f ? small : y;
}
inline float sigmoid_(float x) { return 1.0f / (1.0f + exp_(-x)); }
// log(1 + x): what 1 + x loses comes back divided by the slope.
inline float log1p_(float x) {
  const float u = 1.0f + x;
  const float y = log_(u) - ((u - 1.0f) - x) / u;
  return x > 1e30f || u <= 0.0f ? log_(u) : y;
}
// e^x - 1, near zero by its series.
inline float expm1_(float x) {
  const float p =
      x * (1.0f +
           x * (1.0f / 2 +
                x * (1.0f / 6 +
                     x * (1.0f / 24 + x * (1.0f / 120 + x * (1.0f / 720 + x * (1.0f / 5040)))))));
  return abs_(x) < 0.4f ? p : exp_(x) - 1.0f;
}
#endif  // the GPU has its own
inline float sqrt_(float x) { return __builtin_sqrtf(x); }
inline float floor_(float x) { return __builtin_floorf(x); }
inline float ceil_(float x) { return __builtin_ceilf(x); }
// Halves go to the even neighbour.
inline float round_(float x) { return __builtin_rintf(x); }
inline float sin_(float x) { return __builtin_sinf(x); }
inline float cos_(float x) { return __builtin_cosf(x); }
inline float trunc_(float x) { return __builtin_truncf(x); }
inline float tan_(float x) { return __builtin_tanf(x); }
inline float asin_(float x) { return __builtin_asinf(x); }
inline float acos_(float x) { return __builtin_acosf(x); }
inline float atan_(float x) { return __builtin_atanf(x); }
inline float atan2_(float x, float y) { return __builtin_atan2f(x, y); }
inline float pow_(float x, float y) { return __builtin_powf(x, y); }
inline float div_(float x, float y) { return x / y; }
inline float floor_div_(float x, float y) { return __builtin_floorf(x / y); }
inline float mod_(float x, float y) { return x - y * __builtin_floorf(x / y); }

inline double exp_(double x) { return __builtin_exp(x); }
inline double log_(double x) { return __builtin_log(x); }
inline double erf_(double x) { return __builtin_erf(x); }
inline double tanh_(double x) { return __builtin_tanh(x); }
inline double sigmoid_(double x) { return 1.0 / (1.0 + __builtin_exp(-x)); }
inline double sqrt_(double x) { return __builtin_sqrt(x); }
inline double floor_(double x) { return __builtin_floor(x); }
inline double ceil_(double x) { return __builtin_ceil(x); }
inline double round_(double x) { return __builtin_rint(x); }
inline double sin_(double x) { return __builtin_sin(x); }
inline double cos_(double x) { return __builtin_cos(x); }
inline double trunc_(double x) { return __builtin_trunc(x); }
inline double tan_(double x) { return __builtin_tan(x); }
inline double asin_(double x) { return __builtin_asin(x); }
inline double acos_(double x) { return __builtin_acos(x); }
inline double atan_(double x) { return __builtin_atan(x); }
inline double atan2_(double x, double y) { return __builtin_atan2(x, y); }
inline double log1p_(double x) { return __builtin_log1p(x); }
inline double expm1_(double x) { return __builtin_expm1(x); }
inline double pow_(double x, double y) { return __builtin_pow(x, y); }
inline double div_(double x, double y) { return x / y; }
inline double floor_div_(double x, double y) { return __builtin_floor(x / y); }
inline double mod_(double x, double y) { return x - y * __builtin_floor(x / y); }

// Integers take the double functions; division truncates as in C, by zero gives 0 (a fault would
// end the process).
#define TRI_BY_DOUBLE(name) \
  inline int64_t name(int64_t x) { return static_cast<int64_t>(name(static_cast<double>(x))); }
// clang-format off
TRI_BY_DOUBLE(exp_)
TRI_BY_DOUBLE(log_)
TRI_BY_DOUBLE(erf_)
TRI_BY_DOUBLE(tanh_)
TRI_BY_DOUBLE(sigmoid_)
TRI_BY_DOUBLE(sqrt_)
TRI_BY_DOUBLE(sin_)
TRI_BY_DOUBLE(cos_)
TRI_BY_DOUBLE(log1p_)
// clang-format on
#undef TRI_BY_DOUBLE
inline int64_t floor_(int64_t x) { return x; }
inline int64_t ceil_(int64_t x) { return x; }
inline int64_t round_(int64_t x) { return x; }
inline int64_t trunc_(int64_t x) { return x; }
inline int64_t atan2_(int64_t x, int64_t y) {
  return static_cast<int64_t>(__builtin_atan2(static_cast<double>(x), static_cast<double>(y)));
}
inline int64_t pow_(int64_t x, int64_t y) {
  return static_cast<int64_t>(__builtin_pow(static_cast<double>(x), static_cast<double>(y)));
}
inline int64_t div_(int64_t x, int64_t y) {
  return y == 0 || (y == -1 && x == INT64_MIN) ? 0 : x / y;
}
inline int64_t floor_div_(int64_t x, int64_t y) {
  const int64_t q = div_(x, y);
  return q - ((q * y != x) && ((x < 0) != (y < 0)) && y != 0 ? 1 : 0);
}
inline int64_t mod_(int64_t x, int64_t y) { return y == 0 ? 0 : x - y * floor_div_(x, y); }

// Bits are of integers; the rule of shapes refuses the others.
inline int64_t bit_not_(int64_t x) { return ~x; }
inline int64_t bit_and_(int64_t x, int64_t y) { return x & y; }
inline int64_t bit_or_(int64_t x, int64_t y) { return x | y; }
inline int64_t bit_xor_(int64_t x, int64_t y) { return x ^ y; }
template <class T> inline T bit_not_(T) { return T(0); }
template <class T> inline T bit_and_(T, T) { return T(0); }
template <class T> inline T bit_or_(T, T) { return T(0); }
template <class T> inline T bit_xor_(T, T) { return T(0); }

template <class T> inline T sinh_(T x) {
  const T e = expm1_(abs_(x)), y = T(0.5) * (e + e / (e + T(1)));
  return select_(x < T(0), -y, select_(e > T(1e30), e, y));  // infinite, not infinity by infinity
}
template <class T> inline T cosh_(T x) { return T(0.5) * (exp_(x) + exp_(-x)); }
template <class T> inline T asinh_(T x) {
  const T z = abs_(x), y = log1p_(z + z * z / (T(1) + sqrt_(z * z + T(1))));
  return select_(x < T(0), -y, y);
}
template <class T> inline T acosh_(T x) {
  return log1p_((x - T(1)) + sqrt_((x - T(1)) * (x + T(1))));
}
template <class T> inline T atanh_(T x) {
  const T z = abs_(x), y = T(0.5) * log1p_(T(2) * z / (T(1) - z));
  return select_(x < T(0), -y, y);
}

// tanh(log(1 + e^x)) = n / (n + 2) with n = e^x (e^x + 2).
template <class T> inline T tanh_softplus_(T x) {
  const T e = exp_(min_(x, T(20))), n = e * (e + T(2));
  return n / (n + T(2));
}

// Derivatives that are more than an expression.
template <class T> inline T swish_d(T x, T a) {
  const T s = sigmoid_(a * x);
  return s * (T(1) + a * x * (T(1) - s));
}
template <class T> inline T mish_d(T x) {
  const T t = tanh_softplus_(x);
  return t + x * (T(1) - t * t) * sigmoid_(x);
}
template <class T> inline T gelu_d(T x) {
  const T cdf = T(0.5) * (T(1) + erf_(x * T(0.70710678118654752)));
  return cdf + x * T(0.39894228040143268) * exp_(T(-0.5) * x * x);
}
template <class T> inline T gelu_tanh_d(T x) {
  const T k = T(0.79788456080286536), c = T(0.044715);
  const T t = tanh_(k * (x + c * x * x * x));
  return T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * k * (T(1) + T(3) * c * x * x);
}

}  // namespace
