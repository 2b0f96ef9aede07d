// How exact and how repeatable products are.
#pragma once

namespace trireme {

enum class Products { kConvolutions, kMatrices };

// Whether they may be computed in TF32 (10 bits of mantissa, sums in float32). At the start it is
// what $FLAGS_allow_tf32_cudnn and $FLAGS_allow_tf32_cublas say ("0", "1"); without them
// convolutions may, matrix products may not. Kernels that were prepared before a change stay as
// they are. Thread-safe.
bool allows_tf32(Products products);
void allow_tf32(Products products, bool allowed);

// While it lives, kernels that this thread prepares use no TF32 (unless `on` is false).
class NoTf32Scope {
 public:
  explicit NoTf32Scope(bool on);
  ~NoTf32Scope();
  NoTf32Scope(const NoTf32Scope&) = delete;
  NoTf32Scope& operator=(const NoTf32Scope&) = delete;

 private:
  bool before_;
};

// Whether kernels for the CPU that this thread prepares may multiply constant weights in float16
// where the processor does that twice as fast as float32 (AVX512-FP16): f32::halves(). Not unless
// a HalfProductsScope says so.
bool allows_half_products();

class HalfProductsScope {
 public:
  explicit HalfProductsScope(bool on);
  ~HalfProductsScope();
  HalfProductsScope(const HalfProductsScope&) = delete;
  HalfProductsScope& operator=(const HalfProductsScope&) = delete;

 private:
  bool before_;
};

// $FLAGS_cudnn_deterministic ("0", "1"): whether cuDNN's kernels give the same bits for the same
// inputs, more slowly. Without it convolutions do, attention's gradients do not.
bool cudnn_deterministic(bool otherwise);

}  // namespace trireme
