// Functions against real Paddle: results and gradients.
#include "trireme/nn_functional.h"

#include "train/goldens.h"

namespace trireme {
namespace {

namespace F = nn::functional;
using test::Function;
using test::In;

template <class T> Function one(T f) {
  return [f](const In& x) { return f(x[0]); };
}

test::Functions losses() {
  return {
      {"cross_entropy_mean", [](const In& x) { return F::cross_entropy(x[0], x[1]); }},
      {"cross_entropy_sum",
       [](const In& x) { return F::cross_entropy(x[0], x[1], {.reduction = "sum"}); }},
      {"cross_entropy_none",
       [](const In& x) { return F::cross_entropy(x[0], x[1], {.reduction = "none"}); }},
      {"cross_entropy_weight_ignore",
       [](const In& x) {
         return F::cross_entropy(x[0], x[1], {.weight = x[2], .ignore_index = 4});
       }},
      {"cross_entropy_soft",
       [](const In& x) { return F::cross_entropy(x[0], x[1], {.soft_label = true}); }},
      {"cross_entropy_soft_weight",
       [](const In& x) {
         return F::cross_entropy(x[0], x[1], {.weight = x[2], .soft_label = true});
       }},
      {"cross_entropy_smooth",
       [](const In& x) { return F::cross_entropy(x[0], x[1], {.label_smoothing = 0.1}); }},
      {"cross_entropy_axis", [](const In& x) { return F::cross_entropy(x[0], x[1], {.axis = 1}); }},
      {"cross_entropy_probabilities",
       [](const In& x) { return F::cross_entropy(x[0], x[1], {.use_softmax = false}); }},
      {"mse_loss", [](const In& x) { return F::mse_loss(x[0], x[1]); }},
      {"l1_loss", [](const In& x) { return F::l1_loss(x[0], x[1]); }},
      {"smooth_l1_loss", [](const In& x) { return F::smooth_l1_loss(x[0], x[1], "mean", 0.7); }},
      {"smooth_l1_loss_not_huber",
       [](const In& x) { return F::smooth_l1_loss(x[0], x[1], "mean", 0.7, false); }},
      {"bce", [](const In& x) { return F::binary_cross_entropy(x[0], x[1]); }},
      {"bce_logits", [](const In& x) { return F::binary_cross_entropy_with_logits(x[0], x[1]); }},
      {"bce_logits_pos",
       [](const In& x) {
         return F::binary_cross_entropy_with_logits(x[0], x[1], x[2], "mean", x[3]);
       }},
      {"nll_loss", [](const In& x) { return F::nll_loss(x[0], x[1], x[2], 0); }},
      {"nll_loss_picture", [](const In& x) { return F::nll_loss(x[0], x[1], {}, -100, "none"); }},
      {"kl_div_mean", [](const In& x) { return F::kl_div(x[0], x[1]); }},
      {"kl_div_batchmean", [](const In& x) { return F::kl_div(x[0], x[1], "batchmean"); }},
      {"kl_div_log", [](const In& x) { return F::kl_div(x[0], x[1], "mean", true); }},
      {"margin_ranking", [](const In& x) { return F::margin_ranking_loss(x[0], x[1], x[2], 0.3); }},
      {"hinge_embedding", [](const In& x) { return F::hinge_embedding_loss(x[0], x[1]); }},
      {"cosine_embedding",
       [](const In& x) { return F::cosine_embedding_loss(x[0], x[1], x[2], 0.1); }},
      {"triplet",
       [](const In& x) { return F::triplet_margin_loss(x[0], x[1], x[2], 1, 2, 1e-6, true); }},
      {"focal", [](const In& x) { return F::sigmoid_focal_loss(x[0], x[1]); }},
      {"dice", [](const In& x) { return F::dice_loss(x[0], x[1]); }},
      {"log_loss", [](const In& x) { return F::log_loss(x[0], x[1]); }},
      {"soft_margin", [](const In& x) { return F::soft_margin_loss(x[0], x[1]); }},
      {"ctc_mean", [](const In& x) { return F::ctc_loss(x[0], x[1], x[2], x[3]); }},
      {"ctc_none", [](const In& x) { return F::ctc_loss(x[0], x[1], x[2], x[3], 0, "none"); }},
  };
}

test::Functions activations() {
  return {
      {"act_relu", one([](const Tensor& x) { return F::relu(x); })},
      {"act_relu6", one([](const Tensor& x) { return F::relu6(x); })},
      {"act_leaky_relu", one([](const Tensor& x) { return F::leaky_relu(x); })},
      {"act_elu", one([](const Tensor& x) { return F::elu(x); })},
      {"act_celu", one([](const Tensor& x) { return F::celu(x); })},
      {"act_selu", one([](const Tensor& x) { return F::selu(x); })},
      {"act_gelu", one([](const Tensor& x) { return F::gelu(x); })},
      {"act_gelu_tanh", one([](const Tensor& x) { return F::gelu(x, true); })},
      {"act_silu", one([](const Tensor& x) { return F::silu(x); })},
      {"act_swish", one([](const Tensor& x) { return F::swish(x); })},
      {"act_mish", one([](const Tensor& x) { return F::mish(x); })},
      {"act_hardswish", one([](const Tensor& x) { return F::hardswish(x); })},
      {"act_hardsigmoid", one([](const Tensor& x) { return F::hardsigmoid(x); })},
      {"act_hardtanh", one([](const Tensor& x) { return F::hardtanh(x); })},
      {"act_hardshrink", one([](const Tensor& x) { return F::hardshrink(x); })},
      {"act_softshrink", one([](const Tensor& x) { return F::softshrink(x); })},
      {"act_tanhshrink", one([](const Tensor& x) { return F::tanhshrink(x); })},
      {"act_thresholded_relu", one([](const Tensor& x) { return F::thresholded_relu(x); })},
      {"act_softplus", one([](const Tensor& x) { return F::softplus(x); })},
      {"act_softsign", one([](const Tensor& x) { return F::softsign(x); })},
      {"act_log_sigmoid", one([](const Tensor& x) { return F::log_sigmoid(x); })},
      {"act_softmax", one([](const Tensor& x) { return F::softmax(x); })},
      {"act_log_softmax", one([](const Tensor& x) { return F::log_softmax(x); })},
      {"act_glu", one([](const Tensor& x) { return F::glu(x); })},
      {"swiglu", one([](const Tensor& x) { return F::swiglu(x); })},
      {"prelu", [](const In& x) { return F::prelu(x[0], x[1]); }},
  };
}

test::Functions pictures() {
  return {
      {"conv2d",
       [](const In& x) {
         return F::conv2d(x[0], x[1], x[2], {2, 1}, {1, 2}, {1, 2}, 2);
       }},
      {"conv2d_same", [](const In& x) { return F::conv2d(x[0], x[1], {}, 2, "SAME"); }},
      {"conv2d_four",
       [](const In& x) {
         return F::conv2d(x[0], x[1], {}, 1, {1, 0, 2, 1});
       }},
      {"conv1d", [](const In& x) { return F::conv1d(x[0], x[1], x[2], 2, 2); }},
      {"conv2d_transpose",
       [](const In& x) { return F::conv2d_transpose(x[0], x[1], x[2], 2, 1, 1, 1, 2); }},
      {"conv2d_transpose_size",
       [](const In& x) {
         return F::conv2d_transpose(x[0], x[1], {}, 2, 1, 0, 1, 1, {10, 11});
       }},
      {"conv1d_transpose", [](const In& x) { return F::conv1d_transpose(x[0], x[1], {}, 2, 1); }},
      {"max_pool2d", one([](const Tensor& x) { return F::max_pool2d(x, 3, 2, 1); })},
      {"max_pool2d_ceil", one([](const Tensor& x) { return F::max_pool2d(x, 2, 2, 0, true); })},
      {"avg_pool2d", one([](const Tensor& x) { return F::avg_pool2d(x, 3, 2, 1); })},
      {"avg_pool2d_inclusive",
       one([](const Tensor& x) { return F::avg_pool2d(x, 3, 2, 1, false, false); })},
      {"avg_pool2d_divisor",
       one([](const Tensor& x) { return F::avg_pool2d(x, 2, 2, 0, false, true, 3); })},
      {"max_pool1d", one([](const Tensor& x) { return F::max_pool1d(x, 3, 2, 1); })},
      {"avg_pool1d", one([](const Tensor& x) { return F::avg_pool1d(x, 3, 2, 1); })},
      {"adaptive_avg_pool2d", one([](const Tensor& x) {
         return F::adaptive_avg_pool2d(x, {2, 4});
       })},
      {"adaptive_avg_pool1d", one([](const Tensor& x) { return F::adaptive_avg_pool1d(x, 3); })},
      {"adaptive_max_pool2d", one([](const Tensor& x) {
         return F::adaptive_max_pool2d(x, {2, 3});
       })},
      {"pad2d", one([](const Tensor& x) {
         return F::pad(x, {1, 2, 0, 1}, "reflect");
       })},
      {"pad_constant", one([](const Tensor& x) {
         return F::pad(x, {1, 2, 0, 1}, "constant", 0.5);
       })},
      {"pad_all", one([](const Tensor& x) {
         return F::pad(x, {1, 0, 0, 2}, "constant", 0.5);
       })},
      {"nearest", one([](const Tensor& x) { return F::interpolate(x, {.scale_factor = {2}}); })},
      {"bilinear", one([](const Tensor& x) {
         return F::interpolate(x, {.size = {7, 9}, .mode = "bilinear"});
       })},
      {"bilinear_corners", one([](const Tensor& x) {
         return F::interpolate(x, {.size = {7, 9}, .mode = "bilinear", .align_corners = true});
       })},
      {"pixel_shuffle", one([](const Tensor& x) { return F::pixel_shuffle(x, 2); })},
      {"pixel_unshuffle", one([](const Tensor& x) { return F::pixel_unshuffle(x, 2); })},
      {"channel_shuffle", one([](const Tensor& x) { return F::channel_shuffle(x, 2); })},
      {"unfold", one([](const Tensor& x) {
         return F::unfold(x, {3, 2}, 2, 1);
       })},
  };
}

test::Functions norms() {
  return {
      {"layer_norm",
       [](const In& x) {
         return F::layer_norm(x[0], {5, 6}, x[1], x[2]);
       }},
      {"group_norm", [](const In& x) { return F::group_norm(x[0], 2, 1e-5, x[1], x[2]); }},
      {"instance_norm", [](const In& x) { return F::instance_norm(x[0], x[1], x[2]); }},
      {"rms_norm", [](const In& x) { return F::rms_norm(x[0], {5}, x[1]); }},
      {"local_response_norm", one([](const Tensor& x) { return F::local_response_norm(x, 3); })},
      {"normalize", one([](const Tensor& x) { return F::normalize(x); })},
      {"cosine_similarity", [](const In& x) { return F::cosine_similarity(x[0], x[1]); }},
      {"label_smooth", one([](const Tensor& x) { return F::label_smooth(x, {}, 0.2); })},
      {"embedding", [](const In& x) { return F::embedding(x[0], x[1], 1); }},
      {"attention",
       [](const In& x) { return F::scaled_dot_product_attention(x[0], x[1], x[2], {}, 0, true); }},
  };
}

void check(const test::Functions& functions) {
  static const nlohmann::json cases = test::load_golden("functions.json");
  test::check_functions(cases, functions);
}

TEST(Functional, LossesAreAsPaddles) { check(losses()); }
TEST(Functional, ActivationsAreAsPaddles) { check(activations()); }
TEST(Functional, ConvolutionsPoolsAndPicturesAreAsPaddles) { check(pictures()); }
TEST(Functional, NormsAndTheRestAreAsPaddles) { check(norms()); }

// A sigmoid that is exactly 0 or 1: the loss is 100 or 0, its gradient a number.
TEST(Functional, CrossEntropyOfCertaintyHasAGradient) {
  Tensor x = to_tensor(std::vector<float>{0, 0, 1, 1, 0.25F});
  const Tensor y = to_tensor(std::vector<float>{0, 1, 0, 1, 1});
  x.set_stop_gradient(false);
  const Tensor loss = F::binary_cross_entropy(x, y, {}, "none");
  const Array values = loss.numpy();
  const float want[] = {0, 100, 100, 0, 1.3862944F};
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(values.as<float>()[i], want[i], 1e-5);
  sum(loss).backward();
  const Array gradient = x.grad().numpy();
  for (size_t i = 0; i < 5; ++i) EXPECT_TRUE(std::isfinite(gradient.as<float>()[i])) << i;
  EXPECT_NEAR(gradient.as<float>()[4], -4, 1e-5);
}

TEST(Functional, PoolsGiveThePlacesOfMaxima) {
  const Tensor x = reshape(arange(0, 16, 1, DType::kFloat32), {1, 1, 4, 4});
  const std::vector<Tensor> r = F::max_pool2d_with_index(x, 2);
  const int want[] = {5, 7, 13, 15};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(r[0].numpy().as<float>()[i], static_cast<float>(want[i]));
    EXPECT_EQ(r[1].numpy().as<int32_t>()[i], want[i]);
  }
}

TEST(Functional, DropoutKeepsTheMeanAndDependsOnTheSeed) {
  const Tensor x = ones({100, 100});
  seed(3);
  const Array first = F::dropout(x, 0.25).numpy();
  seed(3);
  const Array again = F::dropout(x, 0.25).numpy();
  const Array next = F::dropout(x, 0.25).numpy();
  EXPECT_EQ(std::memcmp(first.data(), again.data(), first.bytes()), 0);
  EXPECT_NE(std::memcmp(first.data(), next.data(), first.bytes()), 0);
  EXPECT_NEAR(mean(Tensor(first)).item(), 1, 0.05);
  EXPECT_EQ(F::dropout(x, 0.25, {}, false).numpy().as<float>()[0], 1);
  EXPECT_EQ(F::dropout(x, 0.25, {}, false, "downscale_in_infer").numpy().as<float>()[0], 0.75F);
  // One choice a row.
  const Array rows = F::dropout(x, 0.5, {0}).numpy();
  for (int64_t i = 0; i < rows.numel(); ++i)
    EXPECT_EQ(rows.as<float>()[i], rows.as<float>()[i / 100 * 100]);
}

TEST(Functional, AlphaDropoutKeepsMeanAndDeviation) {
  seed(5);
  const Array a = F::alpha_dropout(zeros({200, 200}), 0.3).numpy();
  double total = 0;
  for (int64_t i = 0; i < a.numel(); ++i) total += a.as<float>()[i];
  EXPECT_NEAR(total / static_cast<double>(a.numel()), 0, 0.02);
}

TEST(Functional, GumbelSoftmaxIsOneHotWhenHard) {
  seed(1);
  Tensor x = zeros({50, 4}) + 0.0;
  const Array y = F::gumbel_softmax(x, 0.5, true).numpy();
  for (int64_t i = 0; i < 50; ++i) {
    float total = 0, most = 0;
    for (int64_t k = 0; k < 4; ++k) {
      total += y.as<float>()[i * 4 + k];
      most = std::max(most, y.as<float>()[i * 4 + k]);
    }
    EXPECT_NEAR(total, 1, 1e-5);
    EXPECT_NEAR(most, 1, 1e-5);
  }
}

TEST(Functional, ArgumentsAreCheckedAtTheCall) {
  const Tensor x = ones({2, 3, 4, 4});
  EXPECT_THROW((void)F::conv2d(x, ones({2, 3, 3, 3}), {}, {1, 1, 1}), Error);
  EXPECT_THROW((void)F::conv2d(x, ones({2, 3, 3, 3}), {}, 1, "OTHER"), Error);
  EXPECT_THROW((void)F::cross_entropy(ones({2, 3}), zeros({3}, DType::kInt64)), Error);
  EXPECT_THROW((void)F::cross_entropy(ones({2, 3}), zeros({2})), Error);
  EXPECT_THROW((void)F::mse_loss(x, x, "average"), Error);
  EXPECT_THROW((void)F::dropout(x, 1.5), Error);
  EXPECT_THROW((void)F::layer_norm(x, {3}), Error);
  EXPECT_THROW((void)F::pixel_shuffle(x, 2), Error);
  EXPECT_THROW((void)F::interpolate(x, {}), Error);
}

}  // namespace
}  // namespace trireme
