// Translations of pooling, resizing and padding.
#include <algorithm>

#include "formats/context.h"
#include "formats/spatial.h"
#include "ops/pool.h"
#include "ops/shape.h"

namespace trireme {
namespace {

void pool2d(Context& c) {
  const bool last = channels_last(c);
  Value* x = last ? to_channels_first(c.in("X")) : c.in("X");
  if (x->type.shape.rank() != 4) c.damaged("input must have rank 4, got " + x->type.str());
  Pool2dAttrs attrs;
  attrs.pooling_type = c.text("pooling_type", "max");
  if (attrs.pooling_type != "max" && attrs.pooling_type != "avg") {
    c.refuse("pooling_type '" + attrs.pooling_type + "' is not known");
  }
  attrs.adaptive = c.flag("adaptive", false);
  attrs.exclusive = c.flag("exclusive", true);
  if (c.flag("global_pooling", false)) {
    attrs.adaptive = true;
    attrs.kernel = {1, 1};
  } else {
    attrs.kernel = pair_of(c, "ksize", {1, 1});
  }
  if (!attrs.adaptive) {
    attrs.strides = pair_of(c, "strides", {1, 1});
    attrs.ceil_mode = c.flag("ceil_mode", false);
    std::vector<int64_t> dilations{1, 1};
    attrs.paddings = resolve_paddings(c, x, attrs.kernel, attrs.strides, dilations);
    // Paddle divides by truncation, so a window that is larger than its input by less than a stride
    // still fits once.
    for (size_t i = 0; i < 2; ++i) {
      const int64_t in = x->type.shape[static_cast<int>(i) + 2] + attrs.paddings[2 * i] +
                         attrs.paddings[2 * i + 1];
      const int64_t over = attrs.kernel[i] - in;
      if (over > 0 && over < attrs.strides[i] && in > 0) attrs.kernel[i] = in;
    }
  }
  Value* y = ops::pool2d(x, attrs);
  c.out("Out", last ? to_channels_last(y) : y);
}

// ---- resizing ----

// Output size and, where it enters the ratio, the scale. v2 keeps the scale it was given; v1 uses
// only sizes.
InterpAttrs interp_attrs(const Context& c, const Value* x, bool v2) {
  InterpAttrs attrs;
  attrs.align_corners = c.flag("align_corners", true);
  attrs.align_mode = c.integer("align_mode", 1);
  attrs.size = {c.integer("out_h", -1), c.integer("out_w", -1)};
  if (c.has("SizeTensor")) {
    attrs.size = c.ints("", {"SizeTensor"});
  } else {
    std::vector<double> scale = c.numbers("scale", {"Scale"});
    if (scale.size() == 1) scale.push_back(scale[0]);
    if (scale.size() == 2 && scale[0] > 0 && scale[1] > 0) {
      for (int i = 0; i < 2; ++i) {
        // Paddle multiplies in float32 and truncates.
        const float size = static_cast<float>(x->type.shape[i + 2]) *
                           static_cast<float>(scale[static_cast<size_t>(i)]);
        attrs.size[static_cast<size_t>(i)] = static_cast<int64_t>(std::min(size, 1e9f));
      }
      if (v2) attrs.scale = scale;
    }
    if (c.has("OutSize")) attrs.size = c.ints("", {"OutSize"});
  }
  if (attrs.size.size() != 2 || attrs.size[0] <= 0 || attrs.size[1] <= 0) {
    c.refuse("the output size must be two positive numbers");
  }
  return attrs;
}

template <Value* (*F)(Value*, const InterpAttrs&), bool kV2> void interp(Context& c) {
  const bool last = channels_last(c, "data_layout") || channels_last(c, "data_format");
  Value* x = last ? to_channels_first(c.in("X")) : c.in("X");
  if (x->type.shape.rank() != 4)
    c.refuse("only inputs of rank 4 are supported, got " + x->type.str());
  Value* y = F(x, interp_attrs(c, x, kV2));
  c.out("Out", last ? to_channels_last(y) : y);
}

// ---- padding ----

std::string pad_mode(const Context& c) {
  const std::string mode = c.text("mode", "constant");
  if (mode == "edge") return "replicate";
  if (mode == "constant" || mode == "reflect" || mode == "replicate" || mode == "circular")
    return mode;
  c.refuse("mode '" + mode + "' is not known");
}

void pad(Context& c) {
  Value* x = c.in("X");
  const std::vector<int64_t> paddings = c.ints("paddings");
  if (paddings.size() != 2 * static_cast<size_t>(x->type.shape.rank())) {
    c.damaged("paddings has " + std::to_string(paddings.size()) + " numbers for an input of rank " +
              std::to_string(x->type.shape.rank()));
  }
  c.out(ops::pad(x, paddings, "constant", c.number("pad_value", 0)));
}

// Top, bottom, left, right of the two spatial dimensions.
void pad2d(Context& c) {
  Value* x = c.in("X");
  const std::vector<int64_t> given = c.ints("paddings", {"Paddings"});
  if (x->type.shape.rank() != 4 || given.size() != 4) c.damaged("rank 4 and 4 paddings expected");
  std::vector<int64_t> paddings(8, 0);
  std::ranges::copy(given, paddings.begin() + (channels_last(c) ? 2 : 4));
  c.out(ops::pad(x, paddings, pad_mode(c), c.number("pad_value", 0)));
}

// Left, right, top, bottom, front, back: the innermost spatial dimension first.
void pad3d(Context& c) {
  Value* x = c.in("X");
  const std::vector<int64_t> given = c.ints("paddings", {"Paddings"});
  if (x->type.shape.rank() != 5 || given.size() != 6) c.damaged("rank 5 and 6 paddings expected");
  const int first = channels_last(c) ? 1 : 2;
  std::vector<int64_t> paddings(10, 0);
  for (int i = 0; i < 3; ++i) {
    const auto to = static_cast<size_t>(2 * (first + i)), from = static_cast<size_t>(2 * (2 - i));
    paddings[to] = given[from];
    paddings[to + 1] = given[from + 1];
  }
  c.out(ops::pad(x, paddings, pad_mode(c), c.number("value", c.number("pad_value", 0))));
}

void pixel_shuffle(Context& c) {
  const bool last = channels_last(c);
  Value* x = last ? to_channels_first(c.in("X")) : c.in("X");
  const int64_t r = c.integer("upscale_factor", 1);
  if (x->type.shape.rank() != 4 || r < 1 || x->type.shape[1] % (r * r) != 0) {
    c.damaged("upscale_factor " + std::to_string(r) + " does not fit " + x->type.str());
  }
  const Shape& s = x->type.shape;
  const int64_t n = s[0], channels = s[1] / (r * r), h = s[2], w = s[3];
  Value* y = ops::reshape(x, {n, channels, r, r, h, w});
  y = ops::reshape(ops::transpose(y, {0, 1, 4, 2, 5, 3}), {n, channels, h * r, w * r});
  c.out(last ? to_channels_last(y) : y);
}

constexpr Translation kTable[] = {
    {"pool2d", pool2d},
    {"max_pool2d_with_index", pool2d},  // its indices have no operator: using them is an error
    {"nearest_interp", interp<ops::nearest_interp, false>},
    {"nearest_interp_v2", interp<ops::nearest_interp, true>},
    {"bilinear_interp", interp<ops::bilinear_interp, false>},
    {"bilinear_interp_v2", interp<ops::bilinear_interp, true>},
    {"pad", pad},
    {"pad2d", pad2d},
    {"pad3d", pad3d},
    {"pixel_shuffle", pixel_shuffle},
};

}  // namespace

std::span<const Translation> pool_translations() { return kTable; }

}  // namespace trireme
