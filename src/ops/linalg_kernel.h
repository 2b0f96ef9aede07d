// How the operators on matrices run: one matrix after another, in float64.
#pragma once

#include <vector>

#include "ops/elements.h"
#include "ops/linalg.h"

namespace trireme {

// Numbers of each input's and output's part that belongs to one matrix of the batch.
struct MatrixParts {
  int64_t batch = 1;
  std::vector<int64_t> inputs, outputs;
  int64_t scratch = 0;  // further float64 numbers
};

using MatrixRun = void (*)(const double* const* in, double* const* out, double* scratch,
                           const MatrixShape& x, const MatrixAttrs& attrs);

template <class T>
Kernel matrix_kernel(MatrixParts parts, MatrixRun run, MatrixShape x, MatrixAttrs attrs) {
  int64_t total = parts.scratch;
  for (const int64_t n : parts.inputs) total += n;
  for (const int64_t n : parts.outputs) total += n;
  const auto call = [=](const Launch& l) {
    auto* at = static_cast<double*>(l.scratch);
    std::vector<double*> in, out;
    for (const int64_t n : parts.inputs) in.push_back(at), at += n;
    for (const int64_t n : parts.outputs) out.push_back(at), at += n;
    for (int64_t b = 0; b < parts.batch; ++b) {
      for (size_t k = 0; k < in.size(); ++k) {
        const T* from = static_cast<const T*>(l.in[k]) + b * parts.inputs[k];
        std::copy_n(from, parts.inputs[k], in[k]);
      }
      run(in.data(), out.data(), at, x, attrs);
      for (size_t k = 0; k < out.size(); ++k) {
        T* to = static_cast<T*>(l.out[k]) + b * parts.outputs[k];
        for (int64_t i = 0; i < parts.outputs[k]; ++i) to[i] = static_cast<T>(out[k][i]);
      }
    }
  };
  return {call, static_cast<size_t>(total) * sizeof(double)};
}

inline Kernel each_matrix(const Prepare& p, MatrixRun run, int64_t scratch,
                          const MatrixAttrs& attrs) {
  MatrixShape x = matrix_shape(p.in().shape);
  if (p.node.inputs.size() > 1) x.others = matrix_shape(p.in(1).shape).columns;
  MatrixParts parts{x.batch, {}, {}, scratch};
  if (x.batch == 0) return {[](const Launch&) {}};
  for (const Value* v : p.node.inputs) parts.inputs.push_back(v->type.shape.numel() / x.batch);
  for (const auto& v : p.node.outputs) parts.outputs.push_back(v->type.shape.numel() / x.batch);
  return p.in().dtype == DType::kFloat64 ? matrix_kernel<double>(parts, run, x, attrs)
                                         : matrix_kernel<float>(parts, run, x, attrs);
}

}  // namespace trireme
