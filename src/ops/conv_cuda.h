// What the GPU's convolutions consist of beside cuDNN: pictures, weights and biases in the form
// that tensor cores take, and depthwise convolutions of our own.
#pragma once

#include <array>

#include "device/cuda/cudnn.h"
#include "ops/anchor.h"

namespace trireme::cuda {

// What convolutions ask of cuDNN: TF32 and repeatable bits as they are set.
DnnOptions dnn_conv_options();

// A picture as it lies, and its copy: channels innermost, their number rounded up, with zeros where
// the picture has nothing.
struct PictureCopy {
  DType dtype = DType::kFloat32;
  std::array<int64_t, 4> size{}, strides{};  // of the picture: n, c, h, w
  int64_t c = 0, h = 0, w = 0;               // of the copy; h and w may be smaller, too

  size_t bytes() const { return static_cast<size_t>(size[0] * c * h * w) * size_of(dtype); }
  void make(const void* picture, void* copy, void* stream) const;
  // From the copy, `bias` (a number a channel, may be null) added; copy and picture may be the
  // same.
  void take_back(const void* copy, void* picture, const void* bias, DType bias_dtype,
                 void* stream) const;
};

// Weights [O, C, kh, kw] as they lie, and [o, kh, kw, c] with o >= O, c >= C.
struct WeightCopy {
  DType from = DType::kFloat32, to = DType::kFloat32;
  std::array<int64_t, 4> size{};
  int64_t o = 0, c = 0;

  size_t bytes() const { return static_cast<size_t>(o * c * size[2] * size[3]) * size_of(to); }
  void make(const void* weight, void* copy, void* stream) const;
  void take_back(const void* copy, void* weight, void* stream) const;  // both of dtype `to`
};

// A vector in another dtype, with zeros behind it.
void copy_vector(const void* from, DType from_dtype, int64_t count, void* to, DType to_dtype,
                 int64_t to_count, void* stream);

// Each channel's sums of x and of its squares, [2, C] of float32 (float64: float64), of a picture
// as it lies.
size_t channel_sums_scratch(const Type& x);
void channel_sums(const Type& x, const void* data, void* sums, void* scratch, void* stream);
// The same from parts of them, [parts, 2, C] of float32.
void join_channel_sums(const float* partial, int parts, int64_t channels, void* sums, void* stream);

// ---- few channels: the first convolution of a network, on tensor cores

struct FewChannels {
  cpu::ConvSpec spec;  // geometry; dtype is not looked at
  DType dtype = DType::kFloat32;
  std::array<int64_t, 4> x{};  // strides of the picture as it lies: n, c, h, w, in elements
};
struct FewChannelsArgs {
  const void* x = nullptr;
  const void* weight = nullptr;  // [K, kh, kw, 4] of the dtype
  const void* bias = nullptr;    // [K] or null
  DType bias_dtype = DType::kFloat32;
  bool relu = false;
  void* y = nullptr;     // channels-last
  void* sums = nullptr;  // null, or those of channel_sums(y); then without bias and relu
};
// Whether the kernels take it: halves, up to four channels in, a multiple of 64 out, two pixels
// apart in width, kernels of up to 7 by 8.
bool takes_few_channels(const FewChannels& c);
size_t few_channels_scratch(const FewChannels& c);  // read where sums are wanted
void few_channels_forward(const FewChannels& c, const FewChannelsArgs& a, void* scratch,
                          void* stream);
// dy: channels-last; dweight [K, C, kh, kw]; both of the dtype.
size_t few_channels_wgrad_scratch(const FewChannels& c);
void few_channels_wgrad(const FewChannels& c, const void* x, const void* dy, void* dweight,
                        void* scratch, void* stream);

// ---- depthwise: as many channels out as in, a group each

struct DepthwisePicture {
  std::array<int64_t, 4> strides{};  // n, c, h, w, in elements
};

// Of the convolution (x -> y); `x` and `y` are pictures as they lie.
struct Depthwise {
  cpu::ConvSpec spec;  // geometry; transposed and dtype are not looked at
  DType dtype = DType::kFloat32;
  DepthwisePicture x, y;
};
struct DepthwiseArgs {
  const void* in = nullptr;        // x; of a transposed one y
  const void* weight = nullptr;    // [kh, kw, C] of the dtype
  const void* bias = nullptr;      // [C] of depthwise_sums(dtype), or null
  const void* residual = nullptr;  // lies like the result
  void* out = nullptr;
};
// The dtype that sums are taken in.
inline DType depthwise_sums(DType dtype) {
  return dtype == DType::kFloat64 ? dtype : DType::kFloat32;
}
// float32 and the halves take 16 bytes at a time where channels are innermost and their number is a
// multiple of them. The epilogue is that of cpu::Conv.
void depthwise_forward(const Depthwise& d, const cpu::Epilogue& e, const DepthwiseArgs& a,
                       void* stream);
void depthwise_dgrad(const Depthwise& d, const cpu::Epilogue& e, const DepthwiseArgs& a,
                     void* stream);
// dweight [C, kh, kw] of the dtype.
size_t depthwise_wgrad_scratch(const Depthwise& d);
void depthwise_wgrad(const Depthwise& d, const void* x, const void* dy, void* dweight,
                     void* scratch, void* stream);

}  // namespace trireme::cuda
