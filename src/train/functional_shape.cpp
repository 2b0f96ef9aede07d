// Tables, padding, resizing, rearranging pictures.
#include <cmath>

#include "ops/index.h"
#include "ops/pool.h"
#include "ops/shape.h"
#include "runtime/call.h"
#include "train/spatial_sizes.h"
#include "trireme/autograd.h"
#include "trireme/manipulation.h"
#include "trireme/math.h"

namespace trireme::nn::functional {
namespace {

void check_picture(const Tensor& x, const char* op) {
  TRI_CHECK(x.ndim() == 4,
            '[' + std::string(op) + "] x expects [N, C, H, W], got " + x.shape().str());
}

}  // namespace

Tensor embedding(const Tensor& x, const Tensor& weight, int64_t padding_idx, double max_norm,
                 double norm_type) {
  TRI_CHECK(max_norm >= 0 && norm_type > 0,
            "[embedding] max_norm expects 0 or more, norm_type a positive number");
  if (max_norm > 0) {
    const no_grad guard;
    const Tensor index = reshape(x, {-1}), rows = gather(weight, index);
    const Tensor norm = linalg::norm(rows, norm_type, {1}, true);
    const Tensor limit = full_like(norm, max_norm);
    const Tensor factor =
        where(greater_than(norm, limit), limit / (norm + 1e-7), full_like(norm, 1));
    Tensor(weight).set_value(scatter(weight, index, rows * factor));
  }
  return call([&](Value* ids, Value* w) { return ops::embedding(w, ids, padding_idx); }, x, weight);
}

Tensor one_hot(const Tensor& x, int64_t num_classes) {
  return call([&](Value* v) { return ops::one_hot(v, num_classes); }, x);
}

Tensor label_smooth(const Tensor& label, const Tensor& prior_dist, double epsilon) {
  TRI_CHECK(epsilon >= 0 && epsilon <= 1,
            "[label_smooth] epsilon expects 0 to 1, got " + std::to_string(epsilon));
  if (prior_dist.defined()) return label * (1 - epsilon) + prior_dist * epsilon;
  return scale(label, 1 - epsilon, epsilon / static_cast<double>(label.size(-1)));
}

Tensor sequence_mask(const Tensor& x, int64_t maxlen, DType dtype) {
  const Tensor positions = arange(0, static_cast<double>(maxlen), 1, x.dtype());
  return cast(less_than(positions, unsqueeze(x, {-1})), dtype);
}

Tensor pad(const Tensor& x, const Ints& pad, const std::string& mode, double value) {
  const size_t rank = static_cast<size_t>(x.ndim());
  TRI_CHECK(pad.size() % 2 == 0 && pad.size() <= 2 * rank,
            "[pad] expects two numbers for each of at most " + std::to_string(rank) +
                " dimensions, got " + std::to_string(pad.size()));
  Ints all = pad;
  if (pad.size() < 2 * rank) {
    all.assign(2 * rank, 0);
    for (size_t i = 0; i < pad.size() / 2; ++i) {  // the innermost first
      all[2 * (rank - 1 - i)] = pad[2 * i];
      all[2 * (rank - 1 - i) + 1] = pad[2 * i + 1];
    }
  }
  return call([&](Value* v) { return ops::pad(v, all, mode, value); }, x);
}

Tensor zeropad2d(const Tensor& x, const Ints& padding) {
  check_picture(x, "zeropad2d");
  return pad(x, padding.size() == 1 ? Ints(4, padding[0]) : padding);
}

Tensor interpolate(const Tensor& x, const InterpolateOptions& o) {
  const bool line = x.ndim() == 3;
  TRI_CHECK(line || x.ndim() == 4, "[interpolate] x expects rank 3 or 4, got " + x.shape().str());
  const size_t n = line ? 1 : 2;
  TRI_CHECK(o.size.empty() != o.scale_factor.empty(),
            "[interpolate] expects one of size and scale_factor");
  InterpAttrs a;
  if (!o.size.empty()) {
    a.size = sizes(o.size, n, "[interpolate] size");
  } else {
    TRI_CHECK(o.scale_factor.size() == 1 || o.scale_factor.size() == n,
              "[interpolate] scale_factor expects 1 or " + std::to_string(n) + " numbers");
    for (size_t i = 0; i < n; ++i) {
      a.scale.push_back(o.scale_factor[o.scale_factor.size() == n ? i : 0]);
      const double size = static_cast<double>(x.size(static_cast<int>(i) + 2)) * a.scale.back();
      TRI_CHECK(size >= 1 && size < 1e9, "[interpolate] the result is empty or too large");
      a.size.push_back(static_cast<int64_t>(size));
    }
  }
  if (o.mode == "area")
    return line ? adaptive_avg_pool1d(x, a.size) : adaptive_avg_pool2d(x, a.size);
  a.align_corners = o.align_corners;
  a.align_mode = o.align_mode;
  if (line) {
    a.size.insert(a.size.begin(), 1);
    if (!a.scale.empty()) a.scale.insert(a.scale.begin(), 1);
  }
  if (o.mode == "bicubic" && !line) return resize_bicubic(x, a.size, a.scale, o.align_corners);
  const bool nearest = o.mode == "nearest";
  TRI_CHECK(
      nearest || o.mode == (line ? "linear" : "bilinear"),
      "[interpolate] mode expects nearest, linear (rank 3), bilinear or bicubic (rank 4) or area, "
      "got " +
          o.mode);
  const Tensor y = call(
      [&](Value* v) { return nearest ? ops::nearest_interp(v, a) : ops::bilinear_interp(v, a); },
      line ? as_picture(x) : x);
  return line ? squeeze(y, {2}) : y;
}
Tensor upsample(const Tensor& x, const InterpolateOptions& options) {
  return interpolate(x, options);
}

Tensor pixel_shuffle(const Tensor& x, int64_t r) {
  check_picture(x, "pixel_shuffle");
  TRI_CHECK(r > 0 && x.size(1) % (r * r) == 0,
            "[pixel_shuffle] upscale_factor squared expects to divide the channels of " +
                x.shape().str());
  const int64_t n = x.size(0), c = x.size(1) / (r * r), h = x.size(2), w = x.size(3);
  return reshape(transpose(reshape(x, {n, c, r, r, h, w}), {0, 1, 4, 2, 5, 3}),
                 {n, c, h * r, w * r});
}

Tensor pixel_unshuffle(const Tensor& x, int64_t r) {
  check_picture(x, "pixel_unshuffle");
  TRI_CHECK(
      r > 0 && x.size(2) % r == 0 && x.size(3) % r == 0,
      "[pixel_unshuffle] downscale_factor expects to divide the picture of " + x.shape().str());
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2) / r, w = x.size(3) / r;
  return reshape(transpose(reshape(x, {n, c, h, r, w, r}), {0, 1, 3, 5, 2, 4}),
                 {n, c * r * r, h, w});
}

Tensor channel_shuffle(const Tensor& x, int64_t groups) {
  check_picture(x, "channel_shuffle");
  TRI_CHECK(groups > 0 && x.size(1) % groups == 0,
            "[channel_shuffle] groups expects to divide the channels of " + x.shape().str());
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  return reshape(transpose(reshape(x, {n, groups, c / groups, h, w}), {0, 2, 1, 3, 4}),
                 {n, c, h, w});
}

Tensor unfold(const Tensor& x, const Sizes& kernel_sizes, const Sizes& strides, const Sizes& pads,
              const Sizes& dilations) {
  check_picture(x, "unfold");
  const Ints k = sizes(kernel_sizes, 2, "[unfold] kernel_sizes");
  const Ints s = sizes(strides, 2, "[unfold] strides");
  Ints d = sizes(dilations, 2, "[unfold] dilations");
  const Ints p = paddings(pads, 2, "[unfold] paddings", {x.size(2), x.size(3)}, k, s, d);
  const Tensor padded = pad(x, {p[2], p[3], p[0], p[1]});
  Ints out;
  for (size_t i = 0; i < 2; ++i) {
    const int64_t extent = d[i] * (k[i] - 1) + 1, size = padded.size(static_cast<int>(i) + 2);
    TRI_CHECK(k[i] > 0 && s[i] > 0 && size >= extent,
              "[unfold] the window is larger than the padded picture");
    out.push_back((size - extent) / s[i] + 1);
  }
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < k[0]; ++i)
    for (int64_t j = 0; j < k[1]; ++j) {
      const int64_t top = i * d[0], left = j * d[1];
      const Tensor part =
          strided_slice(padded, {2, 3}, {top, left},
                        {top + (out[0] - 1) * s[0] + 1, left + (out[1] - 1) * s[1] + 1}, s);
      parts.push_back(reshape(part, {x.size(0), x.size(1), out[0] * out[1]}));
    }
  return reshape(stack(parts, 2), {x.size(0), x.size(1) * k[0] * k[1], out[0] * out[1]});
}

}  // namespace trireme::nn::functional
