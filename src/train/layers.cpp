// Layers with parameters: products, convolutions, normalisation; losses of several inputs.
#include "trireme/nn.h"

#include <cmath>

#include "train/spatial_sizes.h"

namespace trireme::nn {
namespace {

const Initializer kZeros = initializer::Constant(0), kOnes = initializer::Constant(1);

Shape kernel_shape(int64_t first, int64_t second, const Ints& kernel) {
  Shape s{first, second};
  for (const int64_t k : kernel) s.push_back(k);
  return s;
}

void check_channels(const char* op, int64_t in, int64_t out, int64_t groups, const Ints& kernel) {
  TRI_CHECK(in > 0 && out > 0 && groups > 0 && in % groups == 0 && out % groups == 0,
            '[' + std::string(op) + "] expects positive channels that groups divide, got " +
                std::to_string(in) + ", " + std::to_string(out) + " and " + std::to_string(groups) +
                " groups");
  for (const int64_t k : kernel)
    TRI_CHECK(k > 0, '[' + std::string(op) + "] kernel_size expects positive numbers, got " +
                         std::to_string(k));
}

void check_size(const char* op, int64_t size) {
  TRI_CHECK(size > 0,
            '[' + std::string(op) + "] expects positive sizes, got " + std::to_string(size));
}

// The weight of a convolution; its bias comes behind it.
Tensor conv_weight(Layer& layer, const char* op, int64_t in, int64_t out, const Ints& kernel,
                   const ConvOptions& o) {
  check_channels(op, in, out, o.groups, kernel);
  double elements = static_cast<double>(in);
  for (const int64_t k : kernel) elements *= static_cast<double>(k);
  return layer.create_parameter("weight", kernel_shape(out, in / o.groups, kernel), o.weight_attr,
                                initializer::Normal(0, std::sqrt(2 / elements)));
}

// Padding that is not zeros comes in front of a convolution without padding.
template <class F>
Tensor padded_conv(const Tensor& x, const ConvOptions& o, size_t n, F&& convolve) {
  if (o.padding_mode == "zeros") return convolve(x, o.padding);
  Ints dilation(n, 1);
  const Ints p = paddings(o.padding, n, "[conv] padding", {}, {}, {}, dilation);
  Ints inner_first;
  for (size_t i = n; i-- > 0;) inner_first.insert(inner_first.end(), {p[2 * i], p[2 * i + 1]});
  return convolve(functional::pad(x, inner_first, o.padding_mode), Sizes(0));
}

}  // namespace

Linear::Linear(int64_t in_features, int64_t out_features, const LinearOptions& options)
    : Layer("linear") {
  check_size("linear", std::min(in_features, out_features));
  weight = create_parameter("weight", Shape{in_features, out_features}, options.weight_attr,
                            initializer::XavierUniform());
  bias = create_parameter("bias", Shape{out_features}, options.bias_attr, kZeros, true);
}

Conv1D::Conv1D(int64_t in_channels, int64_t out_channels, const Sizes& kernel_size,
               const ConvOptions& with)
    : Layer("conv1d"), options(with) {
  weight = conv_weight(*this, "conv1d", in_channels, out_channels,
                       sizes(kernel_size, 1, "[conv1d] kernel_size"), options);
  bias = create_parameter("bias", Shape{out_channels}, options.bias_attr, kZeros, true);
}
Tensor Conv1D::forward(const Tensor& x) {
  return padded_conv(x, options, 1, [&](const Tensor& v, const Sizes& padding) {
    return functional::conv1d(v, weight, bias, options.stride, padding, options.dilation,
                              options.groups);
  });
}

Conv2D::Conv2D(int64_t in_channels, int64_t out_channels, const Sizes& kernel_size,
               const ConvOptions& with)
    : Layer("conv2d"), options(with) {
  weight = conv_weight(*this, "conv2d", in_channels, out_channels,
                       sizes(kernel_size, 2, "[conv2d] kernel_size"), options);
  bias = create_parameter("bias", Shape{out_channels}, options.bias_attr, kZeros, true);
}
Tensor Conv2D::forward(const Tensor& x) {
  return padded_conv(x, options, 2, [&](const Tensor& v, const Sizes& padding) {
    return functional::conv2d(v, weight, bias, options.stride, padding, options.dilation,
                              options.groups);
  });
}

Conv1DTranspose::Conv1DTranspose(int64_t in_channels, int64_t out_channels,
                                 const Sizes& kernel_size, const ConvTransposeOptions& with)
    : Layer("conv1d_transpose"), options(with) {
  const Ints kernel = sizes(kernel_size, 1, "[conv1d_transpose] kernel_size");
  check_channels("conv1d_transpose", in_channels, out_channels, options.groups, kernel);
  weight =
      create_parameter("weight", kernel_shape(in_channels, out_channels / options.groups, kernel),
                       options.weight_attr, initializer::XavierUniform());
  bias = create_parameter("bias", Shape{out_channels}, options.bias_attr, kZeros, true);
}
Tensor Conv1DTranspose::forward(const Tensor& x) {
  return functional::conv1d_transpose(x, weight, bias, options.stride, options.padding,
                                      options.output_padding, options.groups, options.dilation);
}

Conv2DTranspose::Conv2DTranspose(int64_t in_channels, int64_t out_channels,
                                 const Sizes& kernel_size, const ConvTransposeOptions& with)
    : Layer("conv2d_transpose"), options(with) {
  const Ints kernel = sizes(kernel_size, 2, "[conv2d_transpose] kernel_size");
  check_channels("conv2d_transpose", in_channels, out_channels, options.groups, kernel);
  weight =
      create_parameter("weight", kernel_shape(in_channels, out_channels / options.groups, kernel),
                       options.weight_attr, initializer::XavierUniform());
  bias = create_parameter("bias", Shape{out_channels}, options.bias_attr, kZeros, true);
}
Tensor Conv2DTranspose::forward(const Tensor& x) {
  return functional::conv2d_transpose(x, weight, bias, options.stride, options.padding,
                                      options.output_padding, options.dilation, options.groups);
}

Embedding::Embedding(int64_t num_embeddings, int64_t embedding_dim, const EmbeddingOptions& options)
    : Layer("embedding"), max_norm(options.max_norm), norm_type(options.norm_type) {
  check_size("embedding", std::min(num_embeddings, embedding_dim));
  if (options.padding_idx) {
    padding_idx = *options.padding_idx;
    if (padding_idx < 0) padding_idx += num_embeddings;
    TRI_CHECK(padding_idx >= 0 && padding_idx < num_embeddings,
              "[embedding] padding_idx expects a row of " + std::to_string(num_embeddings) +
                  ", got " + std::to_string(*options.padding_idx));
  }
  const Initializer& given = options.weight_attr.initializer;
  ParamAttr attr = options.weight_attr;
  if (padding_idx >= 0)
    attr.initializer = [inner = given ? given : initializer::XavierUniform(), row = padding_idx](
                           const Shape& shape, DType dtype) {
      const Array a = inner(shape, dtype);
      Array own(a.dtype(), a.shape());
      if (a.bytes() > 0) std::memcpy(own.data(), a.data(), a.bytes());
      const size_t bytes = a.bytes() / static_cast<size_t>(shape[0]);
      std::memset(static_cast<char*>(own.data()) + bytes * static_cast<size_t>(row), 0, bytes);
      return own;
    };
  weight = create_parameter("weight", Shape{num_embeddings, embedding_dim}, attr,
                            initializer::XavierUniform());
}
Tensor Embedding::forward(const Tensor& x) {
  return functional::embedding(x, weight, padding_idx, max_norm, norm_type);
}

BatchNorm::BatchNorm(const char* type, unsigned ranks, int64_t num_features,
                     const BatchNormOptions& with)
    : Layer(type), options(with), ranks_(ranks) {
  check_size(type, num_features);
  const Shape shape{num_features};
  weight = create_parameter("weight", shape, options.weight_attr, kOnes);
  bias = create_parameter("bias", shape, options.bias_attr, kZeros, true);
  running_mean = Tensor(kZeros(shape, DType::kFloat32));
  running_variance = Tensor(kOnes(shape, DType::kFloat32));
  running_mean.set_name(state()->type + ".w_1");
  running_variance.set_name(state()->type + ".w_2");
  register_buffer("_mean", running_mean);
  register_buffer("_variance", running_variance);
}
Tensor BatchNorm::forward(const Tensor& x) {
  TRI_CHECK(ranks_ == 0 || (x.ndim() < 32 && (ranks_ >> x.ndim() & 1) != 0),
            "[batch_norm] the layer does not take rank " + std::to_string(x.ndim()) + ", " +
                x.shape().str());
  return functional::batch_norm(x, running_mean, running_variance, weight, bias, training(),
                                options.momentum, options.epsilon, options.use_global_stats);
}

LayerNorm::LayerNorm(const Sizes& shape, const LayerNormOptions& options)
    : Layer("layer_norm"), normalized_shape(shape.values), epsilon(options.epsilon) {
  const Shape flat{Shape(normalized_shape).numel()};
  check_size("layer_norm", flat[0]);
  weight = create_parameter("weight", flat, options.weight_attr, kOnes);
  bias = create_parameter("bias", flat, options.bias_attr, kZeros, true);
}

GroupNorm::GroupNorm(int64_t groups, int64_t num_channels, const GroupNormOptions& options)
    : Layer("group_norm"), num_groups(groups), epsilon(options.epsilon) {
  TRI_CHECK(groups > 0 && num_channels > 0 && num_channels % groups == 0,
            "[group_norm] num_groups expects to divide the channels, got " +
                std::to_string(groups) + " and " + std::to_string(num_channels));
  weight = create_parameter("weight", Shape{num_channels}, options.weight_attr, kOnes);
  bias = create_parameter("bias", Shape{num_channels}, options.bias_attr, kZeros, true);
}
Tensor GroupNorm::forward(const Tensor& x) {
  return functional::group_norm(x, num_groups, epsilon, weight, bias);
}

InstanceNorm2D::InstanceNorm2D(const char* type, int64_t num_features,
                               const GroupNormOptions& options)
    : Layer(type), epsilon(options.epsilon) {
  check_size(type, num_features);
  scale = create_parameter("scale", Shape{num_features}, options.weight_attr, kOnes);
  bias = create_parameter("bias", Shape{num_features}, options.bias_attr, kZeros, true);
}
Tensor InstanceNorm2D::forward(const Tensor& x) {
  return functional::instance_norm(x, scale, bias, epsilon);
}

// ---- losses

namespace {
void check_inputs(const std::vector<Tensor>& in, size_t n, const char* loss) {
  TRI_CHECK(in.size() == n, '[' + std::string(loss) + "] expects " + std::to_string(n) +
                                " tensors, got " + std::to_string(in.size()));
}
}  // namespace

Tensor CrossEntropyLoss::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 2, "cross_entropy");
  return functional::cross_entropy(in[0], in[1], options);
}
Tensor CTCLoss::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 4, "ctc_loss");
  return functional::ctc_loss(in[0], in[1], in[2], in[3], blank, reduction, false, zero_infinity);
}
Tensor MarginRankingLoss::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 3, "margin_ranking_loss");
  return functional::margin_ranking_loss(in[0], in[1], in[2], margin, reduction);
}
Tensor CosineEmbeddingLoss::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 3, "cosine_embedding_loss");
  return functional::cosine_embedding_loss(in[0], in[1], in[2], margin, reduction);
}
Tensor TripletMarginLoss::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 3, "triplet_margin_loss");
  return functional::triplet_margin_loss(in[0], in[1], in[2], o.margin, o.p, o.epsilon, o.swap,
                                         o.reduction);
}

}  // namespace trireme::nn
