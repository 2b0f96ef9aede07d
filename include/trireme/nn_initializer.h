// Initialisers of parameters: Paddle's nn.initializer.
//
// Values are made on the host by a counter-based generator (Philox 4x32-10): its key is the seed
// of trireme::seed(), its counter the number of the call and of the element. So the parameters of a
// network depend on the seed and on the order in which they are made, not on the device. Each call
// moves get_rng_state() on by one.
#pragma once

#include <string>

#include "trireme/layer.h"

namespace trireme::nn::initializer {

// fan_in and fan_out as Paddle derives them: of [in, out] the two; of a kernel [out, in, ...] the
// second and the first, each times the kernel's elements; of rank 1 its size.
struct Fans {
  double in = 1, out = 1;
};
Fans compute_fans(const Shape& shape);

// Paddle's gains; throws kInvalidArgument for another name. `param`: leaky_relu's slope.
double calculate_gain(const std::string& nonlinearity, double param = 0.01);

Initializer Constant(double value = 0);
Initializer Normal(double mean = 0, double std = 1);
Initializer TruncatedNormal(double mean = 0, double std = 1, double a = -2, double b = 2);
Initializer Uniform(double low = -1, double high = 1);

struct XavierOptions {
  double fan_in = 0, fan_out = 0;  // 0: of the shape
  double gain = 1;
};
Initializer XavierNormal(const XavierOptions& options = {});
Initializer XavierUniform(const XavierOptions& options = {});

struct KaimingOptions {
  double fan_in = 0;  // 0: of the shape
  double negative_slope = 0;
  std::string nonlinearity = "relu";
  std::string mode = "fan_in";  // or "fan_out"
};
Initializer KaimingNormal(const KaimingOptions& options = {});
Initializer KaimingUniform(const KaimingOptions& options = {});

Initializer Assign(const Array& value);  // a copy; of the parameter's number of elements
// Rows (or columns, whichever are fewer) of the matrix [shape[0], rest] are orthonormal times gain.
Initializer Orthogonal(double gain = 1);
Initializer Dirac(int64_t groups = 1);  // of kernels: the convolution that copies its input
// Of kernels [.., .., k, k]: a transposed convolution of stride (k + 1) / 2 that magnifies. (Paddle
// 3.3.1 takes the rows from a fraction, and so gives kernels that are not symmetric.)
Initializer Bilinear();

// What layers use in place of their own default, where the layer's attribute names none. Empty:
// back to the layers' own.
void set_global_initializer(const Initializer& weight, const Initializer& bias = {});

}  // namespace trireme::nn::initializer
