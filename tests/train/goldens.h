// Reading tests/train/data: arrays and cases that tools/make_nn_goldens.py and
// tools/make_tensor_goldens.py wrote.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
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

using In = std::vector<Tensor>;
using Function = std::function<Tensor(const In&)>;
using Functions = std::map<std::string, Function>;  // by the name of the case

// Results, and gradients of weighed(result) by the floating inputs.
inline void check_functions(const nlohmann::json& cases, const Functions& functions) {
  for (const auto& [name, f] : functions) {
    ASSERT_TRUE(cases.contains(name)) << name;
    const auto& c = cases[name];
    In in;
    for (const auto& j : c["inputs"]) {
      const auto constant = c["constant"].get<std::vector<size_t>>();
      Tensor t(array_of(j));
      t.set_stop_gradient(t.dtype() != DType::kFloat32 ||
                          std::count(constant.begin(), constant.end(), in.size()) > 0);
      in.push_back(t);
    }
    try {
      const Tensor y = f(in);
      expect_near(y.numpy().to(DType::kFloat32), c["output"], name);
      if (c["grads"].empty()) continue;
      weighed(y).backward();
      size_t g = 0;
      for (size_t i = 0; i < in.size(); ++i) {
        if (in[i].stop_gradient()) continue;
        const auto& want = c["grads"].at(g++);
        if (want.is_null()) continue;  // Paddle gives none
        ASSERT_TRUE(in[i].grad().defined()) << name << ", input " << i;
        expect_near(in[i].grad().numpy(), want, name + ", gradient of input " + std::to_string(i),
                    1e-4);
      }
    } catch (const Error& error) { ADD_FAILURE() << name << ": " << error.what(); }
  }
}

}  // namespace trireme::test
