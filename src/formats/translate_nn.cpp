// Translations of convolutions, normalisations and matrix products.
#include "formats/context.h"
#include "formats/spatial.h"
#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme {
namespace {

// ---- convolutions ----

Value* activate(const Context& c, Value* x, const std::string& name) {
  if (name.empty() || name == "identity") return x;
  if (name == "relu") return ops::relu(x, 0, 0);
  if (name == "relu6") return ops::relu6(x, 0, 0);
  if (name == "sigmoid") return ops::sigmoid(x, 0, 0);
  if (name == "tanh") return ops::tanh(x, 0, 0);
  if (name == "gelu") return ops::gelu(x, 0, 0);
  if (name == "swish") return ops::swish(x, c.number("fuse_beta", 1), 0);
  if (name == "hard_swish") return ops::hardswish(x, 0, 0);
  if (name == "leaky_relu") return ops::leaky_relu(x, c.number("fuse_alpha", 0.02), 0);
  c.refuse("activation '" + name + "' is not supported");
}

Conv2dAttrs conv_attrs(const Context& c, const Value* x, const Value* filter) {
  if (x->type.shape.rank() != 4 || filter->type.shape.rank() != 4) {
    c.damaged("input and filter must have rank 4, got " + x->type.str() + " and " +
              filter->type.str());
  }
  Conv2dAttrs attrs;
  attrs.strides = pair_of(c, "strides", {1, 1});
  attrs.dilations = pair_of(c, "dilations", {1, 1});
  attrs.groups = c.integer("groups", 1);
  const std::vector<int64_t> kernel{filter->type.shape[2], filter->type.shape[3]};
  attrs.paddings = resolve_paddings(c, x, kernel, attrs.strides, attrs.dilations);
  return attrs;
}

void conv2d(Context& c) {
  const bool last = channels_last(c);
  Value* x = last ? to_channels_first(c.in("Input")) : c.in("Input");
  Value* filter = c.in("Filter");
  const Conv2dAttrs attrs = conv_attrs(c, x, filter);
  Value* y = ops::conv2d(x, filter, c.maybe("Bias"), attrs);
  if (Value* residual = c.maybe("ResidualData")) {
    y = ops::add(y, last ? to_channels_first(residual) : residual);
  }
  y = activate(c, y, c.text("fuse_activation", c.text("activation", "")));
  c.out("Output", last ? to_channels_last(y) : y);
}

void conv2d_transpose(Context& c) {
  const bool last = channels_last(c);
  Value* x = last ? to_channels_first(c.in("Input")) : c.in("Input");
  Value* filter = c.in("Filter");
  Conv2dAttrs attrs = conv_attrs(c, x, filter);
  const std::vector<int64_t> extra = c.ints("output_padding");
  const std::vector<int64_t> size = c.ints("output_size", {"OutputSizeTensor"});
  for (size_t i = 0; i < 2; ++i) {
    const int d = static_cast<int>(i) + 2;
    if (!extra.empty()) attrs.output_padding[i] = extra[extra.size() == 1 ? 0 : i];
    if (size.empty()) continue;
    const int64_t reach = attrs.dilations[i] * (filter->type.shape[d] - 1) + 1;
    const int64_t least = (x->type.shape[d] - 1) * attrs.strides[i] + reach -
                          attrs.paddings[2 * i] - attrs.paddings[2 * i + 1];
    attrs.output_padding[i] = size[size.size() == 1 ? 0 : i] - least;
    if (attrs.output_padding[i] < 0 || attrs.output_padding[i] >= attrs.strides[i]) {
      c.damaged("output_size " + std::to_string(size[size.size() == 1 ? 0 : i]) +
                " is out of reach, " + std::to_string(least) + " is the least");
    }
  }
  Value* y = ops::conv2d_transpose(x, filter, c.maybe("Bias"), attrs);
  y = activate(c, y, c.text("fuse_activation", ""));
  c.out("Output", last ? to_channels_last(y) : y);
}

// ---- normalisations ----

void batch_norm(Context& c) {
  const bool frozen = c.flag("is_test", false) && !c.flag("trainable_statistics", false);
  if (!frozen && !c.flag("use_global_stats", false)) {
    c.refuse("it would compute the statistics of the batch: export the model in eval() mode");
  }
  const bool last = channels_last(c, c.known("data_layout") ? "data_layout" : "data_format");
  Value* x = last ? to_channels_first(c.in("X")) : c.in("X");
  Value* y = ops::batch_norm(x, c.in("Scale"), c.in("Bias"), c.in("Mean"), c.in("Variance"),
                             c.number("epsilon", 1e-5));
  y = activate(c, y, c.text("act_type", ""));
  c.out("Y", last ? to_channels_last(y) : y);
}

void layer_norm(Context& c) {
  Value* x = c.in("X");
  const int64_t axis = normal_axis(c, c.integer("begin_norm_axis", 1), x->type.shape.rank());
  c.out("Y",
        ops::layer_norm(x, c.maybe("Scale"), c.maybe("Bias"), axis, c.number("epsilon", 1e-5)));
}

void group_norm(Context& c) {
  const bool last = channels_last(c, c.known("data_layout") ? "data_layout" : "data_format");
  Value* x = last ? to_channels_first(c.in("X")) : c.in("X");
  Value* y = ops::group_norm(x, c.maybe("Scale"), c.maybe("Bias"), c.integer("groups", 1),
                             c.number("epsilon", 1e-5));
  c.out("Y", last ? to_channels_last(y) : y);
}

void instance_norm(Context& c) {
  c.out("Y", ops::instance_norm(c.in("X"), c.maybe("Scale"), c.maybe("Bias"),
                                c.number("epsilon", 1e-5)));
}

// [C] as a shape that broadcasts along dimension 1 of x.
Value* along_channels(Value* vector, const Value* x) {
  std::vector<int64_t> dims(static_cast<size_t>(x->type.shape.rank() - 1), 1);
  dims[0] = vector->type.shape.numel();
  return ops::reshape(vector, dims);
}

void affine_channel(Context& c) {
  const bool last = channels_last(c, "data_layout");
  Value* x = c.in("X");
  if (x->type.shape.rank() < 2) c.damaged("input must have rank 2 or more");
  Value* scale = last ? c.in("Scale") : along_channels(c.in("Scale"), x);
  Value* bias = last ? c.in("Bias") : along_channels(c.in("Bias"), x);
  c.out(ops::add(ops::multiply(x, scale), bias));
}

void prelu(Context& c) {
  Value* x = c.in("X");
  Value* alpha = c.in("Alpha");
  const std::string mode = c.text("mode", "all");
  const int rank = x->type.shape.rank();
  if (mode == "all") {
    alpha = ops::reshape(alpha, {});
  } else if (mode == "channel") {
    if (rank < 2) c.damaged("mode 'channel' wants an input of rank 2 or more");
    alpha = channels_last(c) ? ops::reshape(alpha, {-1}) : along_channels(alpha, x);
  } else if (mode == "element") {
    std::vector<int64_t> dims = dims_of(x);
    dims[0] = 1;
    alpha = ops::reshape(alpha, dims);
  } else {
    c.refuse("mode '" + mode + "' is not known");
  }
  c.out(ops::prelu(x, alpha));
}

void dropout(Context& c) {
  Value* x = c.in("X");
  const std::string mode = c.text("dropout_implementation", "downgrade_in_infer");
  if (mode == "upscale_in_train") {
    c.out("Out", x);
  } else if (mode == "downgrade_in_infer") {
    c.out("Out", ops::affine(x, 1 - c.number("dropout_prob", 0.5), 0));
  } else {
    c.refuse("mode '" + mode + "' is not known");
  }
}

// ---- matrix products ----

// matmul (v1), matmul_v2 and bmm.
void matmul(Context& c) {
  const bool tx = c.flag("trans_x", c.flag("transpose_X", false));
  const bool ty = c.flag("trans_y", c.flag("transpose_Y", false));
  Value* y = ops::matmul(c.in("X"), c.in("Y"), nullptr, tx, ty);
  const double alpha = c.number("alpha", 1);
  c.out(alpha == 1 ? y : ops::affine(y, alpha, 0));
}

// x and y as matrices: dimensions before x_columns and y_columns are rows.
Value* flat_product(const Context& c, Value* x, Value* y, Value* bias, int64_t x_columns,
                    int64_t y_columns) {
  const std::vector<int64_t> xs = dims_of(x), ys = dims_of(y);
  const auto xn = static_cast<int64_t>(xs.size()), yn = static_cast<int64_t>(ys.size());
  if (x_columns < 1 || x_columns >= xn || y_columns < 1 || y_columns >= yn) {
    c.damaged("num_col_dims do not fit shapes " + x->type.shape.str() + " and " +
              y->type.shape.str());
  }
  if (yn > 2) y = ops::flatten(ops::flatten(y, y_columns, yn - 1), 0, y_columns - 1);
  if (x_columns + 1 < xn) x = ops::flatten(x, x_columns, xn - 1);
  Value* product = ops::matmul(x, y, bias);
  if (yn == 2) return product;
  std::vector<int64_t> dims(xs.begin(), xs.begin() + x_columns);
  dims.insert(dims.end(), ys.begin() + y_columns, ys.end());
  return ops::reshape(product, dims);
}

void mul(Context& c) {
  c.out(flat_product(c, c.in("X"), c.in("Y"), nullptr, c.integer("x_num_col_dims", 1),
                     c.integer("y_num_col_dims", 1)));
}

void fc(Context& c) {
  if (c.flag("padding_weights", false)) c.refuse("padding_weights is not supported");
  Value* bias = c.maybe("Bias");
  if (bias != nullptr && bias->type.shape.rank() != 1) bias = ops::reshape(bias, {-1});
  Value* y = flat_product(c, c.in("Input"), c.in("W"), bias, c.integer("in_num_col_dims", 1), 1);
  c.out(activate(c, y, c.text("activation_type", "")));
}

void addmm(Context& c) {
  Value* product = ops::matmul(c.in("X"), c.in("Y"));
  const double alpha = c.number("Alpha", 1, {}), beta = c.number("Beta", 1, {});
  if (alpha != 1) product = ops::affine(product, alpha, 0);
  Value* input = c.in("Input");
  c.out(ops::add(beta == 1 ? input : ops::affine(input, beta, 0), product));
}

constexpr Translation kTable[] = {
    {"conv2d", conv2d},
    {"depthwise_conv2d", conv2d},
    {"conv2d_fusion", conv2d},
    {"fused_conv2d", conv2d},
    {"conv2d_transpose", conv2d_transpose},
    {"depthwise_conv2d_transpose", conv2d_transpose},
    {"batch_norm", batch_norm},
    {"sync_batch_norm", batch_norm},
    {"layer_norm", layer_norm},
    {"group_norm", group_norm},
    {"instance_norm", instance_norm},
    {"affine_channel", affine_channel},
    {"prelu", prelu},
    {"dropout", dropout},
    {"matmul", matmul},
    {"matmul_v2", matmul},
    {"bmm", matmul},
    {"mul", mul},
    {"fc", fc},
    {"addmm", addmm},
};

}  // namespace

std::span<const Translation> nn_translations() { return kTable; }

}  // namespace trireme
