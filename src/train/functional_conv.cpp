// Products, convolutions and pools.
#include <algorithm>

#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/pool.h"
#include "runtime/call.h"
#include "train/spatial_sizes.h"

namespace trireme::nn {

Ints sizes(const Sizes& s, size_t n, const std::string& what) {
  TRI_CHECK(s.algorithm.empty() && (s.values.size() == 1 || s.values.size() == n),
            what + " expects 1 or " + std::to_string(n) + " numbers, got " +
                (s.algorithm.empty() ? std::to_string(s.values.size()) : s.algorithm));
  return s.values.size() == n ? s.values : Ints(n, s.values[0]);
}

Ints paddings(const Sizes& s, size_t n, const std::string& what, const Ints& in, const Ints& kernel,
              const Ints& stride, Ints& dilation) {
  if (s.algorithm == "VALID") return Ints(2 * n, 0);
  if (s.algorithm == "SAME") {
    Ints result;
    for (size_t i = 0; i < n; ++i) {
      dilation[i] = 1;  // as Paddle does
      const int64_t step = std::max<int64_t>(stride[i], 1), out = (in[i] + step - 1) / step;
      const int64_t total = std::max<int64_t>((out - 1) * step + kernel[i] - in[i], 0);
      result.push_back(total / 2);
      result.push_back(total - total / 2);
    }
    return result;
  }
  TRI_CHECK(s.algorithm.empty(), what + " expects SAME or VALID, got " + s.algorithm);
  if (s.values.size() == 2 * n) return s.values;
  const Ints each = sizes(s, n, what);
  Ints result;
  for (const int64_t p : each) result.insert(result.end(), {p, p});
  return result;
}

namespace functional {
namespace {

// Paddings of rank 3 for the picture of height 1.
Ints above(const Ints& width, int64_t value) {
  Ints r(width.size(), value);
  r.insert(r.end(), width.begin(), width.end());
  return r;
}

Ints spatial(const Tensor& x, int from = 2) { return {x.shape().begin() + from, x.shape().end()}; }

void check_rank(const Tensor& x, int rank, const char* op) {
  TRI_CHECK(x.ndim() == rank, '[' + std::string(op) + "] x expects rank " + std::to_string(rank) +
                                  ", got " + x.shape().str());
}

Tensor pool(const Tensor& x, const char* op, const Sizes& kernel_size, const Sizes& stride,
            const Sizes& padding, bool ceil_mode, Pool2dAttrs attrs) {
  const bool line = x.ndim() == 3;
  const size_t n = line ? 1 : 2;
  const std::string name = '[' + std::string(op) + "] ";
  attrs.kernel = sizes(kernel_size, n, name + "kernel_size");
  attrs.strides = stride.empty() ? attrs.kernel : sizes(stride, n, name + "stride");
  Ints dilation(n, 1);
  attrs.paddings =
      paddings(padding, n, name + "padding", spatial(x), attrs.kernel, attrs.strides, dilation);
  attrs.ceil_mode = ceil_mode;
  if (line) {
    attrs.kernel = above(attrs.kernel, 1);
    attrs.strides = above(attrs.strides, 1);
    attrs.paddings = above(attrs.paddings, 0);
  }
  const Tensor y = call([&](Value* v) { return ops::pool2d(v, attrs); }, line ? as_picture(x) : x);
  return line ? squeeze(y, {2}) : y;
}

Tensor adaptive(const Tensor& x, const char* op, const char* type, const Sizes& output_size) {
  const bool line = x.ndim() == 3;
  Pool2dAttrs attrs;
  attrs.pooling_type = type;
  attrs.adaptive = true;
  attrs.kernel = sizes(output_size, line ? 1 : 2, '[' + std::string(op) + "] output_size");
  if (line) attrs.kernel = above(attrs.kernel, 1);
  const Tensor picture = line ? as_picture(x) : x;
  for (size_t i = 0; i < 2; ++i)
    if (attrs.kernel[i] == -1) attrs.kernel[i] = picture.size(static_cast<int>(i) + 2);
  const Tensor y = call([&](Value* v) { return ops::pool2d(v, attrs); }, picture);
  return line ? squeeze(y, {2}) : y;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return call([](Value* v, Value* w, Value* b) { return ops::matmul(v, w, b); }, x, weight, bias);
}

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Sizes& stride,
              const Sizes& padding, const Sizes& dilation, int64_t groups) {
  check_rank(x, 4, "conv2d");
  check_rank(weight, 4, "conv2d");
  Conv2dAttrs a;
  a.strides = sizes(stride, 2, "[conv2d] stride");
  a.dilations = sizes(dilation, 2, "[conv2d] dilation");
  a.paddings =
      paddings(padding, 2, "[conv2d] padding", spatial(x), spatial(weight), a.strides, a.dilations);
  a.groups = groups;
  return call([&](Value* v, Value* w, Value* b) { return ops::conv2d(v, w, b, a); }, x, weight,
              bias);
}

Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Sizes& stride,
              const Sizes& padding, const Sizes& dilation, int64_t groups) {
  check_rank(x, 3, "conv1d");
  check_rank(weight, 3, "conv1d");
  const Ints s = sizes(stride, 1, "[conv1d] stride");
  Ints d = sizes(dilation, 1, "[conv1d] dilation");
  const Ints p = paddings(padding, 1, "[conv1d] padding", spatial(x), spatial(weight), s, d);
  return squeeze(conv2d(as_picture(x), as_picture(weight), bias, above(s, 1), above(p, 0),
                        above(d, 1), groups),
                 {2});
}

Tensor conv2d_transpose(const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const Sizes& stride, const Sizes& padding, const Sizes& output_padding,
                        const Sizes& dilation, int64_t groups, const Sizes& output_size) {
  check_rank(x, 4, "conv2d_transpose");
  check_rank(weight, 4, "conv2d_transpose");
  Conv2dAttrs a;
  a.strides = sizes(stride, 2, "[conv2d_transpose] stride");
  a.dilations = sizes(dilation, 2, "[conv2d_transpose] dilation");
  a.paddings = paddings(padding, 2, "[conv2d_transpose] padding", spatial(x), spatial(weight),
                        a.strides, a.dilations);
  a.groups = groups;
  a.output_padding = sizes(output_padding, 2, "[conv2d_transpose] output_padding");
  if (!output_size.empty()) {
    const Ints want = sizes(output_size, 2, "[conv2d_transpose] output_size");
    for (size_t i = 0; i < 2; ++i) {
      const int at = static_cast<int>(i) + 2;
      const int64_t least = (x.size(at) - 1) * a.strides[i] - a.paddings[2 * i] -
                            a.paddings[2 * i + 1] + a.dilations[i] * (weight.size(at) - 1) + 1;
      a.output_padding[i] = want[i] - least;
      TRI_CHECK(a.output_padding[i] >= 0 && a.output_padding[i] < a.strides[i],
                "[conv2d_transpose] output_size expects " + std::to_string(least) + " to " +
                    std::to_string(least + a.strides[i] - 1) + ", got " + std::to_string(want[i]));
    }
  }
  return call([&](Value* v, Value* w, Value* b) { return ops::conv2d_transpose(v, w, b, a); }, x,
              weight, bias);
}

Tensor conv1d_transpose(const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const Sizes& stride, const Sizes& padding, const Sizes& output_padding,
                        int64_t groups, const Sizes& dilation, const Sizes& output_size) {
  check_rank(x, 3, "conv1d_transpose");
  check_rank(weight, 3, "conv1d_transpose");
  const Ints s = sizes(stride, 1, "[conv1d_transpose] stride");
  Ints d = sizes(dilation, 1, "[conv1d_transpose] dilation");
  const Ints p =
      paddings(padding, 1, "[conv1d_transpose] padding", spatial(x), spatial(weight), s, d);
  const Ints o = sizes(output_padding, 1, "[conv1d_transpose] output_padding");
  const Sizes size = output_size.empty()
                         ? Sizes()
                         : Sizes(above(sizes(output_size, 1, "[conv1d_transpose] output_size"), 1));
  return squeeze(conv2d_transpose(as_picture(x), as_picture(weight), bias, above(s, 1), above(p, 0),
                                  above(o, 0), above(d, 1), groups, size),
                 {2});
}

Tensor max_pool1d(const Tensor& x, const Sizes& kernel_size, const Sizes& stride,
                  const Sizes& padding, bool ceil_mode) {
  check_rank(x, 3, "max_pool1d");
  return pool(x, "max_pool1d", kernel_size, stride, padding, ceil_mode, {});
}
Tensor max_pool2d(const Tensor& x, const Sizes& kernel_size, const Sizes& stride,
                  const Sizes& padding, bool ceil_mode) {
  check_rank(x, 4, "max_pool2d");
  return pool(x, "max_pool2d", kernel_size, stride, padding, ceil_mode, {});
}
std::vector<Tensor> max_pool2d_with_index(const Tensor& x, const Sizes& kernel_size,
                                          const Sizes& stride, const Sizes& padding,
                                          bool ceil_mode) {
  check_rank(x, 4, "max_pool2d");
  Pool2dAttrs a;
  a.kernel = sizes(kernel_size, 2, "[max_pool2d] kernel_size");
  a.strides = stride.empty() ? a.kernel : sizes(stride, 2, "[max_pool2d] stride");
  Ints dilation(2, 1);
  a.paddings =
      paddings(padding, 2, "[max_pool2d] padding", spatial(x), a.kernel, a.strides, dilation);
  a.ceil_mode = ceil_mode;
  return call([&](Value* v) { return ops::max_pool2d_with_index(v, a); }, x);
}
Tensor avg_pool1d(const Tensor& x, const Sizes& kernel_size, const Sizes& stride,
                  const Sizes& padding, bool exclusive, bool ceil_mode) {
  check_rank(x, 3, "avg_pool1d");
  Pool2dAttrs attrs;
  attrs.pooling_type = "avg";
  attrs.exclusive = exclusive;
  return pool(x, "avg_pool1d", kernel_size, stride, padding, ceil_mode, attrs);
}
Tensor avg_pool2d(const Tensor& x, const Sizes& kernel_size, const Sizes& stride,
                  const Sizes& padding, bool ceil_mode, bool exclusive, double divisor_override) {
  check_rank(x, 4, "avg_pool2d");
  Pool2dAttrs attrs;
  attrs.pooling_type = "avg";
  attrs.exclusive = exclusive && divisor_override == 0;
  const Tensor y = pool(x, "avg_pool2d", kernel_size, stride, padding, ceil_mode, attrs);
  if (divisor_override == 0) return y;
  const Ints k = sizes(kernel_size, 2, "[avg_pool2d] kernel_size");
  return y * (static_cast<double>(k[0] * k[1]) / divisor_override);
}

Tensor adaptive_avg_pool1d(const Tensor& x, const Sizes& output_size) {
  check_rank(x, 3, "adaptive_avg_pool1d");
  return adaptive(x, "adaptive_avg_pool1d", "avg", output_size);
}
Tensor adaptive_avg_pool2d(const Tensor& x, const Sizes& output_size) {
  check_rank(x, 4, "adaptive_avg_pool2d");
  return adaptive(x, "adaptive_avg_pool2d", "avg", output_size);
}
Tensor adaptive_max_pool1d(const Tensor& x, const Sizes& output_size) {
  check_rank(x, 3, "adaptive_max_pool1d");
  return adaptive(x, "adaptive_max_pool1d", "max", output_size);
}
Tensor adaptive_max_pool2d(const Tensor& x, const Sizes& output_size) {
  check_rank(x, 4, "adaptive_max_pool2d");
  return adaptive(x, "adaptive_max_pool2d", "max", output_size);
}

}  // namespace functional
}  // namespace trireme::nn
