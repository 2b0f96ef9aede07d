// Runs operators of a small recorded graph one by one, between guard bytes, in either layout and
// any dtype.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "graph/kernel.h"

namespace trireme::test {

// Records the operators under test on the inputs (null: absent) and returns the results.
using Record = std::function<std::vector<Value*>(const std::vector<Value*>&)>;

struct RunOptions {
  Layout layout =
      Layout::kPlain;      // of the first input and what follows it, where the operators allow it
  bool spread = false;     // the layout pass carries it through operators of any kind
  bool constants = false;  // inputs of fewer dimensions than the first are constants
};

// The results, row-major. Fails the test when a kernel writes outside of its outputs or scratch, or
// into its inputs.
std::vector<Array> run_ops(const Record& record, const std::vector<Array>& inputs,
                           const RunOptions& options = {});

// Whether every operator that `record` records runs in channels-last on these inputs.
bool follows_layout(const Record& record, const std::vector<Array>& inputs);

// (((i + 1) * 37 + seed * 13) % 101 - 50) / 32: the ramp of tools/make_op_goldens.py, exact in
// every floating dtype.
Array ramp(const Shape& shape, int64_t seed = 1, DType dtype = DType::kFloat32);

std::vector<double> doubles_of(const Array& tensor);

// |got - want| <= absolute + relative * |want| everywhere; equal NaNs and infinities agree.
void expect_near(const Array& got, const std::vector<double>& want, double absolute,
                 double relative, const std::string& what);

// The relative error that results of a dtype may show, a few units in the last place.
double tolerance_of(DType dtype);

// The message of the error that f throws; fails the test when it throws none.
std::string error_of(const std::function<void()>& f);

}  // namespace trireme::test
