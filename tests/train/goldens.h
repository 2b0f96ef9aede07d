// Reading tests/train/data: arrays and cases that tools/make_nn_goldens.py wrote.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "trireme/ops.h"

namespace trireme::test {

inline nlohmann::json load_golden(const std::string& name) {
  std::ifstream stream(std::string(TRIREME_SOURCE_DIR) + "/tests/train/data/" + name);
  return nlohmann::json::parse(stream);
}

inline Array array_of(const nlohmann::json& j) {
  Shape shape;
  for (const auto& d : j["shape"]) shape.push_back(d);
  if (j["dtype"] == "int64")
    return Array::from<int64_t>(shape, j["data"].get<std::vector<int64_t>>(), DType::kInt64);
  return Array::from<float>(shape, j["data"].get<std::vector<float>>(), DType::kFloat32);
}

// Within `tolerance` of the largest magnitude (at least 1).
inline void expect_near(const Array& got, const nlohmann::json& want_json, const std::string& what,
                        double tolerance = 2e-5) {
  const Array want = array_of(want_json);
  ASSERT_EQ(got.shape().str(), want.shape().str()) << what;
  double size = 1, worst = 0;
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double w = want.as<float>()[i], g = got.as<float>()[i];
    size = std::max(size, std::abs(w));
    worst = std::max(worst, std::isfinite(g) ? std::abs(w - g) : INFINITY);
  }
  EXPECT_LE(worst, tolerance * size) << what;
}

// sum(y * cos(0, 1, ...)), whose gradients the goldens are.
inline Tensor weighed(const Tensor& y) {
  Array w(DType::kFloat32, y.shape());
  for (int64_t i = 0; i < w.numel(); ++i)
    w.as<float>()[i] = static_cast<float>(std::cos(static_cast<double>(i)));
  return sum(y * Tensor(w));
}

}  // namespace trireme::test
