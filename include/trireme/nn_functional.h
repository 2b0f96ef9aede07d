// Functions of networks: Paddle's nn.functional. As operators (trireme/ops.h) they check their
// arguments now (kInvalidArgument), record, and return handles. Empty tensors stand for None.
//
// Pictures are [N, C, H, W], sequences of channels [N, C, L].
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "trireme/ops.h"

namespace trireme::nn {

// One number for every spatial dimension, or one each: `3`, `{3, 5}`. Paddings have two a dimension
// as well ({top, bottom, left, right}), or are "SAME" or "VALID".
struct Sizes {
  Ints values{};
  std::string algorithm{};  // "SAME", "VALID", or empty

  Sizes() = default;
  Sizes(int value) : values{value} {}                           // NOLINT
  Sizes(int64_t value) : values{value} {}                       // NOLINT
  Sizes(std::initializer_list<int64_t> list) : values(list) {}  // NOLINT
  Sizes(Ints list) : values(std::move(list)) {}                 // NOLINT
  Sizes(const char* name) : algorithm(name) {}                  // NOLINT
  bool empty() const { return values.empty() && algorithm.empty(); }
};

namespace functional {

// ---- activations
using trireme::sigmoid;
using trireme::tanh;
Tensor relu(const Tensor& x);
Tensor relu6(const Tensor& x);
Tensor leaky_relu(const Tensor& x, double negative_slope = 0.01);
Tensor elu(const Tensor& x, double alpha = 1);
Tensor celu(const Tensor& x, double alpha = 1);
Tensor selu(const Tensor& x, double scale = 1.0507009873554804934193349852946,
            double alpha = 1.6732632423543772848170429916717);
Tensor gelu(const Tensor& x, bool approximate = false);
Tensor silu(const Tensor& x);
Tensor swish(const Tensor& x);
Tensor mish(const Tensor& x);
Tensor hardswish(const Tensor& x);
Tensor hardsigmoid(const Tensor& x, double slope = 0.1666667, double offset = 0.5);
Tensor hardtanh(const Tensor& x, double min = -1, double max = 1);
Tensor hardshrink(const Tensor& x, double threshold = 0.5);
Tensor softshrink(const Tensor& x, double threshold = 0.5);
Tensor tanhshrink(const Tensor& x);
Tensor thresholded_relu(const Tensor& x, double threshold = 1, double value = 0);
Tensor softplus(const Tensor& x, double beta = 1, double threshold = 20);
Tensor softsign(const Tensor& x);
Tensor log_sigmoid(const Tensor& x);
Tensor prelu(const Tensor& x, const Tensor& weight);  // weight: one, or one a channel
Tensor glu(const Tensor& x, int64_t axis = -1);
Tensor swiglu(const Tensor& x, const Tensor& y = {});  // y empty: the two halves of x
Tensor softmax(const Tensor& x, int64_t axis = -1);
Tensor log_softmax(const Tensor& x, int64_t axis = -1);
// Samples of the Gumbel-softmax distribution; hard: one-hot values with the soft gradient.
Tensor gumbel_softmax(const Tensor& x, double temperature = 1, bool hard = false,
                      int64_t axis = -1);
// The activation of that name ("relu", "gelu" ...) with default arguments; "" gives x.
Tensor activation(const std::string& name, const Tensor& x);

// ---- products and convolutions
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});  // weight [in, out]
Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              const Sizes& stride = 1, const Sizes& padding = 0, const Sizes& dilation = 1,
              int64_t groups = 1);
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              const Sizes& stride = 1, const Sizes& padding = 0, const Sizes& dilation = 1,
              int64_t groups = 1);
// weight [in, out / groups, ...]. output_size, where given, takes output_padding's place.
Tensor conv1d_transpose(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                        const Sizes& stride = 1, const Sizes& padding = 0,
                        const Sizes& output_padding = 0, int64_t groups = 1,
                        const Sizes& dilation = 1, const Sizes& output_size = {});
Tensor conv2d_transpose(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                        const Sizes& stride = 1, const Sizes& padding = 0,
                        const Sizes& output_padding = 0, const Sizes& dilation = 1,
                        int64_t groups = 1, const Sizes& output_size = {});

// ---- pools; an empty stride is the kernel
Tensor max_pool1d(const Tensor& x, const Sizes& kernel_size, const Sizes& stride = {},
                  const Sizes& padding = 0, bool ceil_mode = false);
Tensor max_pool2d(const Tensor& x, const Sizes& kernel_size, const Sizes& stride = {},
                  const Sizes& padding = 0, bool ceil_mode = false);
// Paddle's return_mask: {maxima, int32 places h * W + w of them in x}.
std::vector<Tensor> max_pool2d_with_index(const Tensor& x, const Sizes& kernel_size,
                                          const Sizes& stride = {}, const Sizes& padding = 0,
                                          bool ceil_mode = false);
Tensor avg_pool1d(const Tensor& x, const Sizes& kernel_size, const Sizes& stride = {},
                  const Sizes& padding = 0, bool exclusive = true, bool ceil_mode = false);
Tensor avg_pool2d(const Tensor& x, const Sizes& kernel_size, const Sizes& stride = {},
                  const Sizes& padding = 0, bool ceil_mode = false, bool exclusive = true,
                  double divisor_override = 0);  // 0: the window's size
// A dimension of -1 in output_size stays as it is.
Tensor adaptive_avg_pool1d(const Tensor& x, const Sizes& output_size);
Tensor adaptive_avg_pool2d(const Tensor& x, const Sizes& output_size);
Tensor adaptive_max_pool1d(const Tensor& x, const Sizes& output_size);
Tensor adaptive_max_pool2d(const Tensor& x, const Sizes& output_size);

// ---- normalisation
// With training (and not use_global_stats) x is normalised by its own statistics, and the running
// ones are rebound to running * momentum + batch * (1 - momentum).
Tensor batch_norm(const Tensor& x, Tensor running_mean, Tensor running_var,
                  const Tensor& weight = {}, const Tensor& bias = {}, bool training = false,
                  double momentum = 0.9, double epsilon = 1e-5, bool use_global_stats = false);
Tensor layer_norm(const Tensor& x, const Ints& normalized_shape, const Tensor& weight = {},
                  const Tensor& bias = {}, double epsilon = 1e-5);
Tensor rms_norm(const Tensor& x, const Ints& normalized_shape, const Tensor& weight = {},
                double epsilon = 1e-5);
Tensor group_norm(const Tensor& x, int64_t num_groups, double epsilon = 1e-5,
                  const Tensor& weight = {}, const Tensor& bias = {});
Tensor instance_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {},
                     double epsilon = 1e-5);
Tensor local_response_norm(const Tensor& x, int64_t size, double alpha = 1e-4, double beta = 0.75,
                           double k = 1);
Tensor normalize(const Tensor& x, double p = 2, int64_t axis = 1, double epsilon = 1e-12);
Tensor cosine_similarity(const Tensor& x1, const Tensor& x2, int64_t axis = 1, double eps = 1e-8);

// ---- dropout; without training (or with p = 0) x itself in the default mode "upscale_in_train",
// x * (1 - p) in "downscale_in_infer". `axis`: one choice for each place of these dimensions.
Tensor dropout(const Tensor& x, double p = 0.5, const Ints& axis = {}, bool training = true,
               const std::string& mode = "upscale_in_train");
Tensor dropout2d(const Tensor& x, double p = 0.5, bool training = true);
Tensor alpha_dropout(const Tensor& x, double p = 0.5, bool training = true);

// ---- tables, shapes, pictures
// padding_idx -1: none. With max_norm > 0 the rows named whose norm_type-norm is larger are first
// scaled down to it, in the weight itself.
Tensor embedding(const Tensor& x, const Tensor& weight, int64_t padding_idx = -1,
                 double max_norm = 0, double norm_type = 2);
Tensor one_hot(const Tensor& x, int64_t num_classes);  // float32
Tensor label_smooth(const Tensor& label, const Tensor& prior_dist = {}, double epsilon = 0.1);
// [lengths..., maxlen]: 1 where the position is below the length.
Tensor sequence_mask(const Tensor& x, int64_t maxlen, DType dtype = DType::kInt64);
// `pad` has two numbers for each dimension from the first on, or two for each of the last ones,
// the innermost first: {left, right, top, bottom}. mode: constant, reflect, replicate, circular.
Tensor pad(const Tensor& x, const Ints& pad, const std::string& mode = "constant",
           double value = 0);
Tensor zeropad2d(const Tensor& x, const Ints& padding);

struct InterpolateOptions {
  Ints size{};                         // of the result, or
  std::vector<double> scale_factor{};  // one for all, or one a spatial dimension
  std::string mode = "nearest";        // linear (rank 3), bilinear, bicubic, area
  bool align_corners = false;
  int64_t align_mode = 0;
};
Tensor interpolate(const Tensor& x, const InterpolateOptions& options);
Tensor upsample(const Tensor& x, const InterpolateOptions& options);
// Where each pixel of out_shape [N, C, H, W] lies in a picture turned by theta [N, 2, 3]: [N, H, W,
// 2] of x, y from -1 to 1.
Tensor affine_grid(const Tensor& theta, const Ints& out_shape, bool align_corners = true);
// The pixels of x at grid [N, H, W, 2]. mode: bilinear, nearest; padding_mode: zeros, border,
// reflection.
Tensor grid_sample(const Tensor& x, const Tensor& grid, const std::string& mode = "bilinear",
                   const std::string& padding_mode = "zeros", bool align_corners = true);
Tensor pixel_shuffle(const Tensor& x, int64_t upscale_factor);
Tensor pixel_unshuffle(const Tensor& x, int64_t downscale_factor);
Tensor channel_shuffle(const Tensor& x, int64_t groups);
// Windows as columns: [N, C * kh * kw, windows].
Tensor unfold(const Tensor& x, const Sizes& kernel_sizes, const Sizes& strides = 1,
              const Sizes& paddings = 0, const Sizes& dilations = 1);

// query, key, value [N, length, heads, head size]; the mask (bool: true is kept; else added) [N,
// heads, query length, key length], broadcast.
Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const Tensor& attn_mask = {}, double dropout_p = 0,
                                    bool is_causal = false, bool training = true);

// ---- losses. reduction: "mean", "sum" or "none".
struct CrossEntropyOptions {
  Tensor weight{};  // one a class
  int64_t ignore_index = -100;
  std::string reduction = "mean";
  bool soft_label = false;  // label holds probabilities
  int64_t axis = -1;        // of the classes
  bool use_softmax = true;  // else input holds probabilities
  double label_smoothing = 0;
};
// label: classes, with the axis missing or 1; or probabilities of input's shape.
Tensor cross_entropy(const Tensor& input, const Tensor& label,
                     const CrossEntropyOptions& options = {});
Tensor softmax_with_cross_entropy(const Tensor& logits, const Tensor& label,
                                  bool soft_label = false, int64_t ignore_index = -100,
                                  int64_t axis = -1);
Tensor mse_loss(const Tensor& input, const Tensor& label, const std::string& reduction = "mean");
Tensor l1_loss(const Tensor& input, const Tensor& label, const std::string& reduction = "mean");
// Huber's loss with is_huber, else divided by delta.
Tensor smooth_l1_loss(const Tensor& input, const Tensor& label,
                      const std::string& reduction = "mean", double delta = 1,
                      bool is_huber = true);
Tensor binary_cross_entropy(const Tensor& input, const Tensor& label, const Tensor& weight = {},
                            const std::string& reduction = "mean");
Tensor binary_cross_entropy_with_logits(const Tensor& logit, const Tensor& label,
                                        const Tensor& weight = {},
                                        const std::string& reduction = "mean",
                                        const Tensor& pos_weight = {});
// input: log probabilities with the classes in dimension 1.
Tensor nll_loss(const Tensor& input, const Tensor& label, const Tensor& weight = {},
                int64_t ignore_index = -100, const std::string& reduction = "mean");
Tensor kl_div(const Tensor& input, const Tensor& label, const std::string& reduction = "mean",
              bool log_target = false);  // "batchmean" too
// log_probs [T, N, classes], unnormalised (the softmax is inside, as in Paddle); labels [N, L];
// lengths [N], int64. mean: each loss over its label length, then the mean.
Tensor ctc_loss(const Tensor& log_probs, const Tensor& labels, const Tensor& input_lengths,
                const Tensor& label_lengths, int64_t blank = 0,
                const std::string& reduction = "mean", bool norm_by_times = false,
                bool zero_infinity = false);
Tensor margin_ranking_loss(const Tensor& input, const Tensor& other, const Tensor& label,
                           double margin = 0, const std::string& reduction = "mean");
Tensor hinge_embedding_loss(const Tensor& input, const Tensor& label, double margin = 1,
                            const std::string& reduction = "mean");
Tensor cosine_embedding_loss(const Tensor& input1, const Tensor& input2, const Tensor& label,
                             double margin = 0, const std::string& reduction = "mean");
Tensor triplet_margin_loss(const Tensor& input, const Tensor& positive, const Tensor& negative,
                           double margin = 1, double p = 2, double epsilon = 1e-6,
                           bool swap = false, const std::string& reduction = "mean");
Tensor soft_margin_loss(const Tensor& input, const Tensor& label,
                        const std::string& reduction = "mean");
Tensor square_error_cost(const Tensor& input, const Tensor& label);
Tensor log_loss(const Tensor& input, const Tensor& label, double epsilon = 1e-4);
Tensor sigmoid_focal_loss(const Tensor& logit, const Tensor& label, const Tensor& normalizer = {},
                          double alpha = 0.25, double gamma = 2,
                          const std::string& reduction = "sum");
// input [N, ..., classes] probabilities, label [N, ..., 1] classes.
Tensor dice_loss(const Tensor& input, const Tensor& label, double epsilon = 1e-5);

}  // namespace functional
}  // namespace trireme::nn
