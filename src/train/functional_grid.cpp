// Pictures at computed places: affine_grid, grid_sample, bicubic resizing.
#include <algorithm>
#include <cmath>

#include "runtime/call.h"
#include "train/spatial_sizes.h"
#include "trireme/manipulation.h"

namespace trireme::nn {
namespace functional {
namespace {

// The weights of a bicubic resize of one dimension as a matrix [out, in]; Keys' kernel with a =
// -0.75, borders repeated.
Tensor bicubic_matrix(int64_t in, int64_t out, double scale, bool align_corners, DType dtype) {
  double ratio = scale > 0 ? 1 / scale : static_cast<double>(in) / static_cast<double>(out);
  if (align_corners)
    ratio = out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0;
  const auto near = [](double d) { return ((1.25 * d) - 2.25) * d * d + 1; };
  const auto far = [](double d) { return ((-0.75 * d + 3.75) * d - 6) * d + 3; };
  Array m(DType::kFloat32, Shape{out, in});
  std::fill_n(m.as<float>(), m.numel(), 0.F);
  for (int64_t o = 0; o < out; ++o) {
    const double at = align_corners ? ratio * static_cast<double>(o)
                                    : ratio * (static_cast<double>(o) + 0.5) - 0.5;
    const double first = std::floor(at), t = at - first;
    const double weights[] = {far(t + 1), near(t), near(1 - t), far(2 - t)};
    for (int k = 0; k < 4; ++k) {
      const int64_t i = std::clamp(static_cast<int64_t>(first) + k - 1, int64_t{0}, in - 1);
      m.as<float>()[o * in + i] += static_cast<float>(weights[k]);
    }
  }
  return Tensor(m.to(dtype));
}

// Folds places back into the picture of `size` pixels.
Tensor reflected(const Tensor& at, int64_t size, bool align_corners) {
  const double span = static_cast<double>(align_corners ? size - 1 : size);
  if (span == 0) return at * 0.0;
  const Tensor x = abs(align_corners ? at : at + 0.5);
  const Tensor rest = x - floor(x / (2 * span)) * (2 * span);
  const Tensor back = minimum(rest, 2 * span - rest);
  return clip(align_corners ? back : back - 0.5, 0, static_cast<double>(size - 1));
}

struct Places {
  int64_t height, width;
  std::string padding;
  bool align_corners;

  // From [-1, 1] to pixels.
  Tensor pixels(const Tensor& g, int64_t size) const {
    const double n = static_cast<double>(size);
    const Tensor at =
        align_corners ? scale(g, (n - 1) / 2, (n - 1) / 2) : scale(g, n / 2, (n - 1) / 2);
    if (padding == "border") return clip(at, 0, n - 1);
    return padding == "reflection" ? reflected(at, size, align_corners) : at;
  }
  // The pixels [N, C, places] at whole numbers y, x [N, places], zero outside.
  Tensor take(const Tensor& flat, const Tensor& y, const Tensor& x) const {
    const auto bound = [](int64_t size) { return static_cast<double>(size - 1); };
    const Tensor cy = clip(y, 0, bound(height)), cx = clip(x, 0, bound(width));
    const Tensor inside = logical_and(equal(cy, y), equal(cx, x));
    const Tensor index =
        cast(cy, DType::kInt64) * full({}, static_cast<double>(width), DType::kInt64) +
        cast(cx, DType::kInt64);
    return take_along_axis(flat, unsqueeze(index, {1}), 2) *
           unsqueeze(cast(inside, flat.dtype()), {1});
  }
};

}  // namespace

Tensor affine_grid(const Tensor& theta, const Ints& out_shape, bool align_corners) {
  TRI_CHECK(theta.ndim() == 3 && theta.size(1) == 2 && theta.size(2) == 3,
            "[affine_grid] theta expects [N, 2, 3], got " + theta.shape().str());
  TRI_CHECK(out_shape.size() == 4 && out_shape[0] == theta.size(0) && out_shape[2] > 0 &&
                out_shape[3] > 0,
            "[affine_grid] out_shape expects [N, C, H, W] with theta's N");
  const auto line = [&](int64_t n) {
    const double edge = align_corners ? 1 : static_cast<double>(n - 1) / static_cast<double>(n);
    return n == 1 && align_corners ? zeros({1}, theta.dtype())
                                   : linspace(-edge, edge, n, theta.dtype());
  };
  const int64_t n = out_shape[0], h = out_shape[2], w = out_shape[3];
  const Tensor x = expand(reshape(line(w), {1, w}), {h, w});
  const Tensor y = expand(reshape(line(h), {h, 1}), {h, w});
  const Tensor base = reshape(stack({x, y, ones({h, w}, theta.dtype())}, 2), {h * w, 3});
  return reshape(matmul(base, theta, false, true), {n, h, w, 2});
}

Tensor grid_sample(const Tensor& x, const Tensor& grid, const std::string& mode,
                   const std::string& padding_mode, bool align_corners) {
  TRI_CHECK(x.ndim() == 4 && grid.ndim() == 4 && grid.size(3) == 2 && grid.size(0) == x.size(0) &&
                x.numel() > 0,
            "[grid_sample] expects x [N, C, H, W] and grid [N, H, W, 2], got " + x.shape().str() +
                " and " + grid.shape().str());
  TRI_CHECK(mode == "bilinear" || mode == "nearest",
            "[grid_sample] mode expects bilinear or nearest, got " + mode);
  TRI_CHECK(padding_mode == "zeros" || padding_mode == "border" || padding_mode == "reflection",
            "[grid_sample] padding_mode expects zeros, border or reflection, got " + padding_mode);
  const Places p{x.size(2), x.size(3), padding_mode, align_corners};
  const int64_t n = x.size(0), c = x.size(1), h = grid.size(1), w = grid.size(2);
  const Tensor flat = reshape(x, {n, c, p.height * p.width});
  const Tensor places = reshape(grid, {n, h * w, 2});
  const auto coordinate = [&](int64_t k) { return squeeze(slice(places, {2}, {k}, {k + 1}), {2}); };
  const Tensor px = p.pixels(coordinate(0), p.width), py = p.pixels(coordinate(1), p.height);
  const Ints out{n, c, h, w};
  if (mode == "nearest") return reshape(p.take(flat, round(py), round(px)), out);
  const Tensor x0 = floor(px).detach(), y0 = floor(py).detach();
  const Tensor right = px - x0, low = py - y0;
  Tensor sum;
  for (int k = 0; k < 4; ++k) {
    const Tensor wx = k % 2 == 0 ? 1.0 - right : right, wy = k < 2 ? 1.0 - low : low;
    const Tensor part =
        p.take(flat, k < 2 ? y0 : y0 + 1.0, k % 2 == 0 ? x0 : x0 + 1.0) * unsqueeze(wx * wy, {1});
    sum = k == 0 ? part : sum + part;
  }
  return reshape(sum, out);
}

}  // namespace functional

Tensor resize_bicubic(const Tensor& x, const Ints& size, const std::vector<double>& scales,
                      bool align_corners) {
  const auto matrix = [&](int dim) {
    const auto k = static_cast<size_t>(dim);
    return functional::bicubic_matrix(x.size(dim + 2), size[k], scales.empty() ? 0 : scales[k],
                                      align_corners, x.dtype());
  };
  return matmul(matrix(0), matmul(x, matrix(1), false, true));
}

}  // namespace trireme::nn
