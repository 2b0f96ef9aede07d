// oneDNN behind our own types: convolutions where no kernel of ours serves, products of two
// computed matrices. The library's heavy header is included in dnn.cpp alone.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "device/cpu/conv.h"

namespace trireme::cpu {

// A convolution by oneDNN under the same contract as Conv, with the packed form that this very spec
// wants. Serves all that ConvSpec can say, except input_scale; transposed ones with any kernel and
// stride when `full` describes them.
struct DnnConv {
  std::shared_ptr<const Conv> conv;
  size_t packed_bytes = 0;
  std::function<void(const float* weight, void* packed)> pack;
};
// `transposed` convolutions take spec.kh, sh, top... in their general meaning here.
DnnConv dnn_conv(const ConvSpec& spec, const Epilogue& epilogue);

// Elements between neighbours along each dimension of a batch of matrices; 0 broadcasts.
struct MatrixStrides {
  int64_t outer = 0, inner = 0, row = 0, column = 1;
};

// Products c = a b of outer x inner matrices: a is [m, k], b is [k, n].
struct BatchMatmulSpec {
  int64_t outer = 1, inner = 1, m = 1, n = 1, k = 1;
  MatrixStrides a, b, c;
  DType dtype = DType::kFloat32;
};

// run() may be called from many threads, each with scratch_bytes of its own. (oneDNN's own scratch
// memory belongs to the thread that created the primitive.)
struct DnnMatmul {
  std::function<void(const void* a, const void* b, const float* bias, void* c, void* scratch)> run;
  size_t scratch_bytes = 0;
};
DnnMatmul dnn_matmul(const BatchMatmulSpec& spec, bool with_bias);

std::string dnn_version();

}  // namespace trireme::cpu
