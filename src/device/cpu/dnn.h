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

// A batch of products c[b] = a[b] b[b] with row and column strides in elements; batch strides of 0
// broadcast.
struct BatchMatmulSpec {
  int64_t batch = 1, m = 1, n = 1, k = 1;
  int64_t a_batch = 0, a_row = 0, a_column = 1;
  int64_t b_batch = 0, b_row = 0, b_column = 1;
  DType dtype = DType::kFloat32;
};
std::function<void(const void* a, const void* b, const float* bias, void* c)> dnn_matmul(
    const BatchMatmulSpec& spec, bool with_bias);

std::string dnn_version();

}  // namespace trireme::cpu
