// Checks gradient rules: against central differences in float64, float32 against float64, again in
// channels-last, and the gradient's own gradient.
//
// A family's samples stand in one file tests/ops/grad_<family>_test.cpp:
//   const SampleList list([] { return std::vector<Sample>{{"relu", record, {noise({3, 4})}}}; });
//   TEST(Gradient, Activations) { list.check(); }
// The test Gradient.EveryOperatorHasARule fails for an operator without a sample.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "ops/op_test.h"

namespace trireme::test {

struct GradOptions {
  double step = 1e-5;
  double tolerance = 1e-6;      // of central differences, relative to the values
  double float32 = 2e-5;        // of the float32 kernels, relative to the largest gradient
  bool single = true;           // compare float32 kernels at all
  bool layouts = true;          // again with pictures channels-last
  bool second = true;           // the gradient's gradient, where the rules have one
  std::vector<size_t> fixed{};  // floating inputs that have no gradient
};

// Floating inputs may come in any floating dtype; they are rounded to float32 first. Every floating
// input that is not `fixed` must get a gradient.
void check_gradients(const Record& record, const std::vector<Array>& inputs,
                     const GradOptions& options = {});

// The gradients themselves, for values that are known otherwise (ties, kinks, conventions): those
// of the floating inputs, in order, for out_grads of all ones.
std::vector<Array> gradients_of(const Record& record, const std::vector<Array>& inputs);

// Values in (low, high) that are exact in float32, all different (up to a thousand or so), and keep
// 1/512 away from multiples of 1/128: so from 0, 0.5, 1, 3, 6.
Array noise(const Shape& shape, int64_t seed = 1, double low = -2, double high = 2);

// int64 indices.
Array ints(const Shape& shape, const std::vector<int64_t>& values);

struct Sample {
  std::string name;
  Record record;
  std::vector<Array> inputs;
  GradOptions options{};
};

// A family's samples; every list that lives is walked by the test of completeness.
class SampleList {
 public:
  explicit SampleList(std::vector<Sample> (*make)());
  void check() const;

 private:
  std::vector<Sample> (*make_)();
};

// Of all lists.
std::vector<Sample> all_samples();

// A sample's gradient as something to run: its results are those of the sample, then the gradients.
struct GradientCase {
  Record record;
  std::vector<Array> inputs;
};
GradientCase gradient_case(const Sample& sample, DType dtype);  // of its floating inputs

// The names of all operators that the samples record.
std::set<std::string> sampled_operators();

}  // namespace trireme::test
