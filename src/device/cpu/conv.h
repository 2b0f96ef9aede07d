// Convolutions and matrix products on channels-last data: our own kernels for AVX-512 (float32) and
// AMX (bfloat16).
//
// One family serves conv2d (any kernel size, stride, dilation, groups), depthwise conv2d, depthwise
// followed by 1x1 in one go, transposed convolutions (those whose kernel equals their stride at
// once, others as one convolution for each phase of the stride), and matmul by a constant matrix (a
// 1x1 convolution over M pixels). Preparing one is cheap: no code is generated, only the weights
// are packed, once per model.
//
// Where cpu_supports() says no, oneDNN does the work (ops/*).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "trireme/types.h"

namespace trireme::cpu {

enum class Act : uint8_t {
  kNone,
  kRelu,
  kClip,
  kLeakyRelu,
  kHardSwish,
  kHardSigmoid,
  kSigmoid,
  kSwish,
  kGelu,
  kTanh
};

// What happens to an accumulator before it is stored, all in float32 registers:
//   v = acc + bias[c];  if residual is kBeforeAct: v += r;  v = act(v);  v = v * scale + shift;
//   if residual is kAfter: v += r
// kClip: min(max(v, alpha), beta).  kLeakyRelu: v < 0 ? alpha v : v.  kHardSwish: v min(max(v + 3,
// 0), 6) / 6. kHardSigmoid: min(max(alpha v + beta, 0), 1).  kSwish: v sigmoid(v).  kGelu: the
// exact one, with erf.
struct Epilogue {
  // Where the residual is added; kGeluGrad: times gelu's derivative at the residual instead, all
  // that follows (of products in float32 alone).
  enum Residual : uint8_t { kNone, kBeforeAct, kAfter, kGeluGrad };
  Act act = Act::kNone;
  Residual residual = kNone;
  float alpha = 0, beta = 0;
  float scale = 1, shift = 0;
};

// Geometry of a convolution. Logical shapes are Paddle's; memory is channels-last: pixel (n, y, x)
// of the input starts at ((n * h + y) * w + x) * ldx elements, its channels are contiguous. The
// output likewise with oh, ow, ldy.
struct ConvSpec {
  int64_t n = 1, h = 1, w = 1, ic = 1;                     // input
  int64_t oh = 1, ow = 1, oc = 1;                          // output
  int64_t kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1;  // kernel, stride, dilation
  int64_t top = 0, left = 0;  // zero padding before; after is whatever oh and ow imply
  int64_t groups = 1;         // ic and oc are totals; groups == ic == oc is depthwise
  int64_t ldx = 0, ldy = 0;   // elements between neighbouring pixels; 0: ic and oc
  // The convolution's adjoint: input pixel (y, x) goes to the outputs y sh + ky dh - top, ...
  bool transposed = false;
  bool x_planar = false;  // the input is row-major NCHW instead (only for ic <= 4, groups 1)
  DType dtype = DType::kFloat32;  // of input, output, residual: kFloat32 or kBFloat16
  // float32 may be multiplied as float16 times powers of two that keep it in range, at most 64
  // products summed in float16 before they go on in float32: about as exact as bfloat16 products.
  bool half_products = false;
};

// Pointers for one run. Types: x, y, residual have the spec's dtype; bias and input_scale are
// float32.
struct ConvArgs {
  const void* x = nullptr;
  void* y = nullptr;
  const void* weight = nullptr;  // packed by pack()
  const float* bias = nullptr;   // [oc], or null
  const void* residual =
      nullptr;  // laid out like y (pixel distance ldr elements), when the epilogue has one
  int64_t ldr = 0;
  const float* input_scale =
      nullptr;  // [n, ic] or null: x is multiplied by it first (squeeze-and-excitation); 1x1 only
  // Depthwise prologue (see Conv::create's second form):
  const void* dw_weight = nullptr;
  const float* dw_bias = nullptr;
  void* scratch = nullptr;  // scratch_bytes() of 64-byte aligned memory
};

// Whether this processor can run our kernels for the dtype (AVX-512 F/BW/DQ/VL for float32,
// AMX-BF16 for bfloat16).
bool cpu_supports(DType dtype);

// A prepared convolution: immutable, run() may be called from many threads with different scratch
// memory. run() spreads the work with parallel_for.
class Conv {
 public:
  virtual ~Conv() = default;
  virtual void run(const ConvArgs& args) const = 0;
  virtual size_t scratch_bytes() const = 0;

  // Null when our kernels do not serve the spec (then oneDNN does).
  static std::unique_ptr<Conv> create(const ConvSpec& spec, const Epilogue& epilogue);
  // Depthwise `dw` with its own epilogue (no residual), then the 1x1 stride-1 convolution `pw` on
  // its result, without storing what lies between: dw's output is pw's input. Null when that is not
  // served or not worth it.
  static std::unique_ptr<Conv> create(const ConvSpec& dw, const Epilogue& dw_epilogue,
                                      const ConvSpec& pw, const Epilogue& epilogue);

  // Whether y may be the residual's memory: each of its elements is read before the result goes
  // there, and nothing unfinished does.
  static bool adds_in_place(const ConvSpec& spec);

  // The packed form depends on ic, oc, the kernel's size, stride and dilation, groups, transposed,
  // dtype and half_products only, for transposed also on the padding (and on the processor), so
  // plans of different picture sizes share it. `weight` is float32 in Paddle's layout: [oc, ic /
  // groups, kh, kw], or [ic, oc / groups, kh, kw] for transposed.
  static size_t packed_bytes(const ConvSpec& spec);
  static void pack(const ConvSpec& spec, const float* weight, void* packed);
};

}  // namespace trireme::cpu
