// Inference programs as networks to train: real Paddle's models.
#include <gtest/gtest.h>

#include <cmath>

#include "support/data.h"
#include "trireme/autograd.h"
#include "trireme/inference.h"
#include "trireme/models.h"
#include "trireme/optimizer.h"

namespace trireme {
namespace {

Tensor lines(int64_t n, int64_t height, int64_t width) {
  seed(6);
  return nn::initializer::Uniform(-1, 1)(Shape{n, 3, height, width}, DType::kFloat32);
}

TEST(FromProgram, TheRecognizerGivesWhatThePredictorGives) {
  TRI_NEEDS_OCR_MODELS();
  const std::string folder = (test::ocr_models() / "rec").string();
  const auto net = models::from_program(folder);
  net->eval();
  const Tensor x = lines(2, 48, 64);
  const no_grad guard;
  const Tensor y = (*net)(x);
  EXPECT_EQ(y.size(2), 6625);
  EXPECT_NEAR(sum(y).item(), static_cast<double>(y.numel() / 6625), 1e-2);
  net->train();
  const Tensor logits = (*net)(x);
  EXPECT_LT(max(abs(nn::functional::softmax(logits) - y)).item(), 1e-5);
}

TEST(FromProgram, TheRecognizerTrainsWithANewDictionary) {
  TRI_NEEDS_OCR_MODELS();
  const auto net = models::from_program((test::ocr_models() / "rec").string(), {.num_classes = 11});
  net->train();
  const Tensor x = lines(2, 48, 64);
  Array labels(DType::kInt32, Shape{2, 2});
  for (int i = 0; i < 4; ++i) labels.as<int32_t>()[i] = i + 1;
  const auto loss_of = [&] {
    const Tensor y = (*net)(x);
    TRI_CHECK(y.size(2) == 11, "eleven classes");
    return nn::functional::ctc_loss(transpose(y, {1, 0, 2}), labels,
                                    full({2}, static_cast<double>(y.size(1)), DType::kInt64),
                                    full({2}, 2, DType::kInt64));
  };
  const Tensor loss = loss_of();
  loss.backward();
  double squares = 0;
  for (auto& [name, p] : net->named_parameters()) {
    ASSERT_TRUE(p.grad().defined()) << name;
    squares += sum(square(p.grad())).item();
  }
  // A short step against the gradient: the loss falls by what the gradient promises.
  const double step = 1e-2 / squares;
  for (Tensor& p : net->parameters()) {
    const no_grad guard;
    p.set_value(p - p.grad() * step);
  }
  const double fall = loss.item() - loss_of().item();
  EXPECT_NEAR(fall, 1e-2, 2e-3) << "squares " << squares;
  // Training proper. (Scalars of the program have gradients a thousand times as large as the
  // rest: plain descent does not get far.)
  optimizer::Adam adam({.learning_rate = 1e-4, .parameters = net->parameters()});
  const double first = loss.item();
  double last = first;
  for (int k = 0; k < 15; ++k) {
    const Tensor now = loss_of();
    now.backward();
    adam.step();
    adam.clear_grad();
    last = now.item();
  }
  EXPECT_LT(last, first - 0.5) << first;
}

// Class j starts as the program's class kept_classes[j]; -1 starts anew.
TEST(FromProgram, KeptClassesGiveTheProgramsLogits) {
  TRI_NEEDS_OCR_MODELS();
  const std::string folder = (test::ocr_models() / "rec").string();
  const auto whole = models::from_program(folder);
  const std::vector<int64_t> kept = {0, 6624, -1, 17};
  const auto part = models::from_program(folder, {.num_classes = 4, .kept_classes = kept});
  whole->train();
  part->train();
  const no_grad guard;
  const Tensor x = lines(1, 48, 64), a = (*whole)(x), b = (*part)(x);
  for (int64_t j = 0; j < 4; ++j) {
    const Tensor now = slice(b, {2}, {j}, {j + 1});
    if (kept[static_cast<size_t>(j)] < 0) continue;
    const int64_t from = kept[static_cast<size_t>(j)];
    EXPECT_LE(max(abs(now - slice(a, {2}, {from}, {from + 1}))).item(), 1e-4) << j;
  }
  EXPECT_GT(max(abs(slice(b, {2}, {2}, {3}) - slice(a, {2}, {2}, {3}))).item(), 1e-3);
  EXPECT_THROW((void)models::from_program(folder, {.num_classes = 2, .kept_classes = {0, 6625}}),
               Error);
  EXPECT_THROW((void)models::from_program(folder, {.num_classes = 2, .kept_classes = {0}}), Error);
}

TEST(FromProgram, AnUnsuitableProgramIsAnError) {
  TRI_NEEDS_OCR_MODELS();
  EXPECT_THROW(
      (void)models::from_program((test::ocr_models() / "det").string(), {.num_classes = 5}), Error);
  EXPECT_THROW((void)models::from_program("/nowhere"), Error);
}

}  // namespace
}  // namespace trireme
