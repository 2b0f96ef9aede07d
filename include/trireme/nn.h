// Layers: Paddle's nn, with its names, defaults, initialisers and names of state.
//
// A layer is a handle (trireme/layer.h). Optional arguments are fields of an aggregate:
//   nn::Conv2D conv{1, 6, 5, {.padding = 2, .bias_attr = nn::no_param()}};
// Constructors throw kInvalidArgument for sizes that make no sense; forward() as its function does.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "trireme/layer.h"
#include "trireme/nn_functional.h"
#include "trireme/nn_initializer.h"
#include "trireme/nn_rnn.h"
#include "trireme/nn_transformer.h"

namespace trireme::nn {

// ---- products and convolutions (Linear: trireme/nn_linear.h)

struct ConvOptions {
  Sizes stride = 1, padding = 0, dilation = 1;
  int64_t groups = 1;
  std::string padding_mode = "zeros";  // reflect, replicate, circular
  ParamAttr weight_attr{}, bias_attr{};
};
struct ConvTransposeOptions {
  Sizes stride = 1, padding = 0, output_padding = 0, dilation = 1;
  int64_t groups = 1;
  ParamAttr weight_attr{}, bias_attr{};
};

// weight [out, in / groups, kernel...], normal with std sqrt(2 / (in * kernel)); bias [out], zeros.
struct Conv1D : Layer {
  Tensor weight, bias;
  Conv1D(int64_t in_channels, int64_t out_channels, const Sizes& kernel_size,
         const ConvOptions& with = {});
  Tensor forward(const Tensor& x) override;
  ConvOptions options;
};
struct Conv2D : Layer {
  Tensor weight, bias;
  Conv2D(int64_t in_channels, int64_t out_channels, const Sizes& kernel_size,
         const ConvOptions& with = {});
  Tensor forward(const Tensor& x) override;
  ConvOptions options;
};
// weight [in, out / groups, kernel...], Xavier uniform.
struct Conv1DTranspose : Layer {
  Tensor weight, bias;
  Conv1DTranspose(int64_t in_channels, int64_t out_channels, const Sizes& kernel_size,
                  const ConvTransposeOptions& with = {});
  Tensor forward(const Tensor& x) override;
  ConvTransposeOptions options;
};
struct Conv2DTranspose : Layer {
  Tensor weight, bias;
  Conv2DTranspose(int64_t in_channels, int64_t out_channels, const Sizes& kernel_size,
                  const ConvTransposeOptions& with = {});
  Tensor forward(const Tensor& x) override;
  ConvTransposeOptions options;
};

struct EmbeddingOptions {
  std::optional<int64_t> padding_idx{};  // this row stays zero
  double max_norm = 0, norm_type = 2;    // as of functional::embedding
  ParamAttr weight_attr{};
};
// weight [num_embeddings, embedding_dim], Xavier uniform.
struct Embedding : Layer {
  Tensor weight;
  Embedding(int64_t num_embeddings, int64_t embedding_dim, const EmbeddingOptions& options = {});
  Tensor forward(const Tensor& x) override;
  int64_t padding_idx = -1;
  double max_norm, norm_type;
};

// ---- normalisation

struct BatchNormOptions {
  double momentum = 0.9, epsilon = 1e-5;
  ParamAttr weight_attr{}, bias_attr{};
  bool use_global_stats = false;
};
// State: weight, bias, _mean, _variance, each [num_features].
struct BatchNorm : Layer {
  Tensor weight, bias, running_mean, running_variance;
  explicit BatchNorm(int64_t num_features, const BatchNormOptions& with = {})
      : BatchNorm("batch_norm", 0, num_features, with) {}
  Tensor forward(const Tensor& x) override;
  BatchNormOptions options;

 protected:
  // `ranks`: bits of the ranks allowed; 0: all from 2.
  BatchNorm(const char* type, unsigned ranks, int64_t num_features, const BatchNormOptions& with);
  unsigned ranks_ = 0;
};
struct BatchNorm1D : BatchNorm {
  explicit BatchNorm1D(int64_t num_features, const BatchNormOptions& with = {})
      : BatchNorm("batch_norm1d", 1U << 2 | 1U << 3, num_features, with) {}
};
struct BatchNorm2D : BatchNorm {
  explicit BatchNorm2D(int64_t num_features, const BatchNormOptions& with = {})
      : BatchNorm("batch_norm2d", 1U << 4, num_features, with) {}
};

// Within one process it is a batch norm.
struct SyncBatchNorm : BatchNorm {
  explicit SyncBatchNorm(int64_t num_features, const BatchNormOptions& with = {})
      : BatchNorm("sync_batch_norm", 0, num_features, with) {}
};

struct GroupNormOptions {
  double epsilon = 1e-5;
  ParamAttr weight_attr{}, bias_attr{};
};
struct GroupNorm : Layer {
  Tensor weight, bias;
  GroupNorm(int64_t groups, int64_t num_channels, const GroupNormOptions& options = {});
  Tensor forward(const Tensor& x) override;
  int64_t num_groups;
  double epsilon;
};

// State: scale, bias (Paddle's names).
struct InstanceNorm2D : Layer {
  Tensor scale, bias;
  explicit InstanceNorm2D(int64_t num_features, const GroupNormOptions& options = {})
      : InstanceNorm2D("instance_norm2d", num_features, options) {}
  Tensor forward(const Tensor& x) override;
  double epsilon;

 protected:
  InstanceNorm2D(const char* type, int64_t num_features, const GroupNormOptions& options);
};
struct InstanceNorm1D : InstanceNorm2D {
  explicit InstanceNorm1D(int64_t num_features, const GroupNormOptions& options = {})
      : InstanceNorm2D("instance_norm1d", num_features, options) {}
};

struct LocalResponseNorm : Layer {
  int64_t size;
  double alpha, beta, k;
  explicit LocalResponseNorm(int64_t window, double a = 1e-4, double b = 0.75, double offset = 1)
      : Layer("local_response_norm"), size(window), alpha(a), beta(b), k(offset) {}
  Tensor forward(const Tensor& x) override {
    return functional::local_response_norm(x, size, alpha, beta, k);
  }
};

// ---- layers without state: name, then members with their defaults in the constructor's order

// clang-format off
#define TRI_LAYER0(Name, call) \
  struct Name : Layer { \
    Name() : Layer(#Name) {} \
    Tensor forward(const Tensor& x) override { return functional::call; } \
  };
#define TRI_LAYER1(Name, T1, a, d1, call) \
  struct Name : Layer { \
    T1 a; \
    explicit Name(const T1& a##_ d1) : Layer(#Name), a(a##_) {} \
    Tensor forward(const Tensor& x) override { return functional::call; } \
  };
#define TRI_LAYER2(Name, T1, a, d1, T2, b, d2, call) \
  struct Name : Layer { \
    T1 a; T2 b; \
    explicit Name(const T1& a##_ d1, const T2& b##_ d2) : Layer(#Name), a(a##_), b(b##_) {} \
    Tensor forward(const Tensor& x) override { return functional::call; } \
  };
#define TRI_IS(value) = value
TRI_LAYER0(ReLU, relu(x))
TRI_LAYER0(ReLU6, relu6(x))
TRI_LAYER0(Sigmoid, sigmoid(x))
TRI_LAYER0(Tanh, tanh(x))
TRI_LAYER0(Silu, silu(x))
TRI_LAYER0(Swish, swish(x))
TRI_LAYER0(Mish, mish(x))
TRI_LAYER0(Hardswish, hardswish(x))
TRI_LAYER0(Hardsigmoid, hardsigmoid(x))
TRI_LAYER0(LogSigmoid, log_sigmoid(x))
TRI_LAYER0(Softsign, softsign(x))
TRI_LAYER0(Tanhshrink, tanhshrink(x))
TRI_LAYER1(LeakyReLU, double, negative_slope, TRI_IS(0.01), leaky_relu(x, negative_slope))
TRI_LAYER1(ELU, double, alpha, TRI_IS(1), elu(x, alpha))
TRI_LAYER1(CELU, double, alpha, TRI_IS(1), celu(x, alpha))
TRI_LAYER1(GELU, bool, approximate, TRI_IS(false), gelu(x, approximate))
TRI_LAYER1(Hardshrink, double, threshold, TRI_IS(0.5), hardshrink(x, threshold))
TRI_LAYER1(Softshrink, double, threshold, TRI_IS(0.5), softshrink(x, threshold))
TRI_LAYER1(ThresholdedReLU, double, threshold, TRI_IS(1), thresholded_relu(x, threshold))
TRI_LAYER1(Softmax, int64_t, axis, TRI_IS(-1), softmax(x, axis))
TRI_LAYER1(LogSoftmax, int64_t, axis, TRI_IS(-1), log_softmax(x, axis))
TRI_LAYER1(GLU, int64_t, axis, TRI_IS(-1), glu(x, axis))
TRI_LAYER2(SELU, double, scale, TRI_IS(1.0507009873554804934193349852946),
           double, alpha, TRI_IS(1.6732632423543772848170429916717), selu(x, scale, alpha))
TRI_LAYER2(Hardtanh, double, min, TRI_IS(-1), double, max, TRI_IS(1), hardtanh(x, min, max))
TRI_LAYER2(Softplus, double, beta, TRI_IS(1), double, threshold, TRI_IS(20),
           softplus(x, beta, threshold))

TRI_LAYER1(AdaptiveAvgPool1D, Sizes, output_size, , adaptive_avg_pool1d(x, output_size))
TRI_LAYER1(AdaptiveAvgPool2D, Sizes, output_size, , adaptive_avg_pool2d(x, output_size))
TRI_LAYER1(AdaptiveMaxPool1D, Sizes, output_size, , adaptive_max_pool1d(x, output_size))
TRI_LAYER1(AdaptiveMaxPool2D, Sizes, output_size, , adaptive_max_pool2d(x, output_size))
TRI_LAYER1(PixelShuffle, int64_t, upscale_factor, , pixel_shuffle(x, upscale_factor))
TRI_LAYER1(PixelUnshuffle, int64_t, downscale_factor, , pixel_unshuffle(x, downscale_factor))
TRI_LAYER1(ChannelShuffle, int64_t, groups, , channel_shuffle(x, groups))
TRI_LAYER1(Upsample, functional::InterpolateOptions, options, , interpolate(x, options))
// clang-format on

struct UpsamplingNearest2D : Upsample {
  using Upsample::Upsample;
};
struct UpsamplingBilinear2D : Upsample {
  explicit UpsamplingBilinear2D(functional::InterpolateOptions o)
      : Upsample(bilinear(std::move(o))) {}

 private:
  static functional::InterpolateOptions bilinear(functional::InterpolateOptions o) {
    o.mode = "bilinear";
    o.align_corners = true;
    return o;
  }
};

// weight [num_parameters]; state name _weight.
struct PReLU : Layer {
  Tensor weight;
  explicit PReLU(int64_t num_parameters = 1, double init = 0.25, const ParamAttr& weight_attr = {})
      : Layer("p_re_lu") {
    weight = create_parameter("_weight", Shape{num_parameters}, weight_attr,
                              initializer::Constant(init));
  }
  Tensor forward(const Tensor& x) override { return functional::prelu(x, weight); }
};

struct PoolOptions {
  Sizes stride{}, padding = 0;
  bool ceil_mode = false;
  bool exclusive = true;        // average: padding does not count
  double divisor_override = 0;  // average, 2D: in place of the window's size
};
// clang-format off
#define TRI_POOL(Name, call) \
  struct Name : Layer { \
    Sizes kernel_size; \
    PoolOptions o; \
    explicit Name(const Sizes& kernel, const PoolOptions& options = {}) \
        : Layer(#Name), kernel_size(kernel), o(options) {} \
    Name(const Sizes& kernel, const Sizes& stride, const Sizes& padding = 0) \
        : Name(kernel, PoolOptions{.stride = stride, .padding = padding}) {} \
    Tensor forward(const Tensor& x) override { return functional::call; } \
  };
TRI_POOL(MaxPool1D, max_pool1d(x, kernel_size, o.stride, o.padding, o.ceil_mode))
TRI_POOL(MaxPool2D, max_pool2d(x, kernel_size, o.stride, o.padding, o.ceil_mode))
TRI_POOL(AvgPool1D, avg_pool1d(x, kernel_size, o.stride, o.padding, o.exclusive, o.ceil_mode))
TRI_POOL(AvgPool2D, avg_pool2d(x, kernel_size, o.stride, o.padding, o.ceil_mode, o.exclusive,
                               o.divisor_override))
#undef TRI_POOL
// clang-format on

struct Dropout2D : Layer {
  double p;
  explicit Dropout2D(double probability = 0.5) : Layer("dropout2d"), p(probability) {}
  Tensor forward(const Tensor& x) override { return functional::dropout2d(x, p, training()); }
};
struct AlphaDropout : Layer {
  double p;
  explicit AlphaDropout(double probability = 0.5) : Layer("alpha_dropout"), p(probability) {}
  Tensor forward(const Tensor& x) override { return functional::alpha_dropout(x, p, training()); }
};

// padding: {left, right} or one number for both.
struct Pad1D : Layer {
  Ints padding;
  std::string mode;
  double value;
  explicit Pad1D(const Sizes& sizes, std::string how = "constant", double constant = 0)
      : Layer("pad1d"), padding(sizes.values), mode(std::move(how)), value(constant) {
    if (padding.size() == 1) padding.assign(2, padding[0]);
  }
  Tensor forward(const Tensor& x) override { return functional::pad(x, padding, mode, value); }
};
// padding: {left, right, top, bottom} or one number for all.
struct Pad2D : Layer {
  Ints padding;
  std::string mode;
  double value;
  explicit Pad2D(const Sizes& sizes, std::string how = "constant", double constant = 0)
      : Layer("pad2d"), padding(sizes.values), mode(std::move(how)), value(constant) {
    if (padding.size() == 1) padding.assign(4, padding[0]);
  }
  Tensor forward(const Tensor& x) override { return functional::pad(x, padding, mode, value); }
};
struct ZeroPad2D : Pad2D {
  explicit ZeroPad2D(const Sizes& sizes) : Pad2D(sizes) {}
};

struct Flatten : Layer {
  int64_t start_axis, stop_axis;
  explicit Flatten(int64_t start = 1, int64_t stop = -1)
      : Layer("flatten"), start_axis(start), stop_axis(stop) {}
  Tensor forward(const Tensor& x) override { return flatten(x, start_axis, stop_axis); }
};
struct Identity : Layer {
  Identity() : Layer("identity") {}
  Tensor forward(const Tensor& x) override { return x; }
};
struct CosineSimilarity : Layer {
  int64_t axis;
  double eps;
  explicit CosineSimilarity(int64_t dimension = 1, double epsilon = 1e-8)
      : Layer("cosine_similarity"), axis(dimension), eps(epsilon) {}
  Tensor forward(const std::vector<Tensor>& in) override {
    TRI_CHECK(in.size() == 2, "[cosine_similarity] expects two tensors");
    return functional::cosine_similarity(in[0], in[1], axis, eps);
  }
};

// ---- containers

// Layers in a row, under the names "0", "1" ... or names given to append().
struct Sequential : Layer {
  Sequential() : Layer("sequential") {}
  template <class L, class... Rest>
  requires(std::is_base_of_v<Layer, L> &&
           (sizeof...(Rest) > 0 ||
            !std::is_same_v<L, Sequential>)) explicit Sequential(const L& layer,
                                                                 const Rest&... rest)
      : Sequential() {
    append(layer);
    (append(rest), ...);
  }
  template <class L> Sequential& append(const L& layer) {
    return append(std::to_string(layers_.size()), layer);
  }
  template <class L> Sequential& append(const std::string& name, const L& layer) {
    static_assert(!std::is_same_v<L, Layer>, "a Layer alone has no forward()");
    add_sublayer(name, layer);
    layers_.push_back(std::make_shared<L>(layer));
    return *this;
  }
  size_t size() const { return layers_.size(); }
  Layer& operator[](size_t i) { return *layers_.at(i); }
  Tensor forward(const Tensor& x) override {
    Tensor y = x;
    for (const auto& layer : layers_) y = (*layer)(y);
    return y;
  }

 private:
  std::vector<std::shared_ptr<Layer>> layers_;
};

// Layers of one type under the names "0", "1" ...; its owner calls them.
template <class L> struct LayerListOf : Layer {
  LayerListOf() : Layer("layer_list") {}
  explicit LayerListOf(const std::vector<L>& layers) : LayerListOf() {
    for (const L& layer : layers) append(layer);
  }
  LayerListOf& append(const L& layer) {
    add_sublayer(std::to_string(layers_.size()), layer);
    layers_.push_back(layer);
    return *this;
  }
  size_t size() const { return layers_.size(); }
  L& operator[](size_t i) { return layers_.at(i); }
  auto begin() { return layers_.begin(); }
  auto end() { return layers_.end(); }

 private:
  std::vector<L> layers_;
};

// The same of any types.
struct LayerList : Layer {
  LayerList() : Layer("layer_list") {}
  template <class... Ls>
  requires(sizeof...(Ls) > 0 &&
           (std::is_base_of_v<Layer, Ls> && ...)) explicit LayerList(const Ls&... layers)
      : LayerList() {
    (append(layers), ...);
  }
  LayerList(const LayerList&) = default;
  template <class L> LayerList& append(const L& layer) {
    add_sublayer(std::to_string(layers_.size()), layer);
    layers_.push_back(std::make_shared<L>(layer));
    return *this;
  }
  size_t size() const { return layers_.size(); }
  Layer& operator[](size_t i) { return *layers_.at(i); }

 private:
  std::vector<std::shared_ptr<Layer>> layers_;
};

// Parameters under the names "0", "1" ...
struct ParameterList : Layer {
  ParameterList() : Layer("parameter_list") {}
  explicit ParameterList(const std::vector<Tensor>& parameters) : ParameterList() {
    for (const Tensor& p : parameters) append(p);
  }
  ParameterList& append(const Tensor& parameter) {
    add_parameter(std::to_string(parameters_.size()), parameter);
    parameters_.push_back(parameter);
    return *this;
  }
  size_t size() const { return parameters_.size(); }
  const Tensor& operator[](size_t i) const { return parameters_.at(i); }

 private:
  std::vector<Tensor> parameters_;
};

// ---- losses: loss(input, label)

struct CrossEntropyLoss : Layer {
  functional::CrossEntropyOptions options;
  explicit CrossEntropyLoss(functional::CrossEntropyOptions with = {})
      : Layer("cross_entropy_loss"), options(std::move(with)) {}
  Tensor forward(const std::vector<Tensor>& in) override;
};
struct LossOptions {
  std::string reduction = "mean";
};
// clang-format off
#define TRI_LOSS(Name, Options, call) \
  struct Name : Layer { \
    Options o; \
    explicit Name(Options options = {}) : Layer(#Name), o(std::move(options)) {} \
    Tensor forward(const std::vector<Tensor>& in) override { \
      TRI_CHECK(in.size() == 2, "[" #Name "] expects an input and a label"); \
      const Tensor &input = in[0], &label = in[1]; \
      return functional::call; \
    } \
  };
// clang-format on
struct SmoothL1Options {
  std::string reduction = "mean";
  double delta = 1;
  bool is_huber = true;
};
struct BCEOptions {
  Tensor weight{};
  std::string reduction = "mean";
};
struct BCEWithLogitsOptions {
  Tensor weight{};
  std::string reduction = "mean";
  Tensor pos_weight{};
};
struct NLLOptions {
  Tensor weight{};
  int64_t ignore_index = -100;
  std::string reduction = "mean";
};
struct KLDivOptions {
  std::string reduction = "mean";
  bool log_target = false;
};
struct HingeEmbeddingOptions {
  double margin = 1;
  std::string reduction = "mean";
};
TRI_LOSS(MSELoss, LossOptions, mse_loss(input, label, o.reduction))
TRI_LOSS(L1Loss, LossOptions, l1_loss(input, label, o.reduction))
TRI_LOSS(SmoothL1Loss, SmoothL1Options,
         smooth_l1_loss(input, label, o.reduction, o.delta, o.is_huber))
TRI_LOSS(BCELoss, BCEOptions, binary_cross_entropy(input, label, o.weight, o.reduction))
TRI_LOSS(BCEWithLogitsLoss, BCEWithLogitsOptions,
         binary_cross_entropy_with_logits(input, label, o.weight, o.reduction, o.pos_weight))
TRI_LOSS(NLLLoss, NLLOptions, nll_loss(input, label, o.weight, o.ignore_index, o.reduction))
TRI_LOSS(KLDivLoss, KLDivOptions, kl_div(input, label, o.reduction, o.log_target))
TRI_LOSS(HingeEmbeddingLoss, HingeEmbeddingOptions,
         hinge_embedding_loss(input, label, o.margin, o.reduction))
TRI_LOSS(SoftMarginLoss, LossOptions, soft_margin_loss(input, label, o.reduction))

// loss(log_probs, labels, input_lengths, label_lengths), as functional::ctc_loss.
struct CTCLoss : Layer {
  int64_t blank;
  std::string reduction;
  bool zero_infinity;
  explicit CTCLoss(int64_t blank_class = 0, std::string reduce = "mean", bool zero = false)
      : Layer("ctc_loss"), blank(blank_class), reduction(std::move(reduce)), zero_infinity(zero) {}
  Tensor forward(const std::vector<Tensor>& in) override;
};
// loss(input, other, label)
struct MarginRankingLoss : Layer {
  double margin;
  std::string reduction;
  explicit MarginRankingLoss(double least = 0, std::string reduce = "mean")
      : Layer("margin_ranking_loss"), margin(least), reduction(std::move(reduce)) {}
  Tensor forward(const std::vector<Tensor>& in) override;
};
// loss(input1, input2, label)
struct CosineEmbeddingLoss : Layer {
  double margin;
  std::string reduction;
  explicit CosineEmbeddingLoss(double least = 0, std::string reduce = "mean")
      : Layer("cosine_embedding_loss"), margin(least), reduction(std::move(reduce)) {}
  Tensor forward(const std::vector<Tensor>& in) override;
};
struct TripletMarginOptions {
  double margin = 1, p = 2, epsilon = 1e-6;
  bool swap = false;
  std::string reduction = "mean";
};
// loss(input, positive, negative)
struct TripletMarginLoss : Layer {
  TripletMarginOptions o;
  explicit TripletMarginLoss(TripletMarginOptions options = {})
      : Layer("triplet_margin_loss"), o(std::move(options)) {}
  Tensor forward(const std::vector<Tensor>& in) override;
};

#undef TRI_LAYER0
#undef TRI_LAYER1
#undef TRI_LAYER2
#undef TRI_IS
#undef TRI_LOSS

}  // namespace trireme::nn
