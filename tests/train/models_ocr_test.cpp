// PP-OCRv4's networks as layers: the released weights give the released results, branches merge,
// both learn, and what they export reads in the pipeline. And resnet_cifar.
#include "trireme/models_ocr.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/data.h"
#include "support/temp.h"
#include "trireme/autograd.h"
#include "trireme/jit.h"
#include "trireme/models.h"
#include "trireme/ocr.h"
#include "trireme/optimizer.h"
#include "trireme/random.h"

namespace trireme {
namespace {

namespace F = nn::functional;

Tensor noise(const Ints& shape) {
  seed(4);
  return uniform(shape, DType::kFloat32, -1, 1);
}

void expect_same(nn::Layer& net, const std::string& name, const Ints& shape) {
  const std::string folder = (test::ocr_models() / name).string();
  models::load_released(net, folder);
  const auto program = models::from_program(folder);
  net.eval();
  program->eval();
  const no_grad guard;
  const Tensor x = noise(shape), got = net(x), want = (*program)(x);
  ASSERT_EQ(got.shape(), want.shape());
  EXPECT_LE(max(abs(got - want)).item(), 1e-4) << name;
}

TEST(PPOCRv4, ReleasedWeightsGiveTheReleasedResults) {
  TRI_NEEDS_OCR_MODELS();
  models::PPOCRv4Recognizer rec({.deploy = true});
  expect_same(rec, "rec", {2, 3, 48, 96});
  models::PPOCRv4Detector det({.deploy = true});
  expect_same(det, "det", {1, 3, 64, 96});
  EXPECT_THROW(models::load_released(det, (test::ocr_models() / "rec").string()), Error);
  models::PPOCRv4Recognizer other({.num_classes = 10, .deploy = true});
  EXPECT_THROW(models::load_released(other, (test::ocr_models() / "rec").string()), Error);
}

TEST(PPOCRv4, BranchesMergeIntoOneConvolution) {
  models::PPOCRv4Recognizer trained({.num_classes = 7, .scale = 0.25, .branches = 2});
  models::PPOCRv4Recognizer merged({.num_classes = 7, .scale = 0.25, .deploy = true});
  const Tensor x = noise({2, 3, 48, 64});
  (void)trained(x);  // in training: the norms' statistics are no longer 0 and 1
  synchronize();
  (void)merged.set_state_dict(models::merged_branches(trained));
  trained.eval();
  merged.eval();
  const no_grad guard;
  const Tensor want = trained(x);
  EXPECT_LE(max(abs(merged(x) - want)).item(), 1e-4);
  EXPECT_GT(max(want).item() - min(want).item(), 1e-3);
}

// Lines of bars, one kind a class.
TEST(PPOCRv4, TheRecognizerLearns) {
  seed(1);
  models::PPOCRv4Recognizer net({.num_classes = 5, .scale = 0.25, .branches = 1});
  Array pictures(DType::kFloat32, Shape{4, 3, 48, 64}), labels(DType::kInt32, Shape{4, 2});
  for (int64_t i = 0; i < pictures.numel(); ++i) {
    const int64_t x = i % 64, y = i / 64 % 48, n = i / (64 * 48 * 3);
    const int64_t kind = (n + x / 32) % 4, at = kind % 2 == 0 ? x : y;
    pictures.as<float>()[i] = at / (kind < 2 ? 4 : 8) % 2 == 0 ? 1.F : -1.F;
  }
  for (int64_t i = 0; i < 8; ++i)
    labels.as<int32_t>()[i] = static_cast<int32_t>((i / 2 + i % 2) % 4 + 1);
  optimizer::Adam adam({.learning_rate = 2e-3, .parameters = net.parameters()});
  double first = 0, last = 0;
  for (int k = 0; k < 30; ++k) {
    const Tensor y = net(Tensor(pictures));
    const Tensor loss = F::ctc_loss(transpose(y, {1, 0, 2}), labels,
                                    full({4}, static_cast<double>(y.size(1)), DType::kInt64),
                                    full({4}, 2, DType::kInt64));
    loss.backward();
    adam.step();
    adam.clear_grad();
    last = loss.item();
    if (k == 0) first = last;
  }
  EXPECT_LT(last, 0.5 * first) << first;
}

// A white box on a dark ground is what to find.
TEST(PPOCRv4, TheDetectorLearnsBoxes) {
  seed(1);
  models::PPOCRv4Detector net({.scale = 0.25, .branches = 1});
  Array pictures(DType::kFloat32, Shape{2, 3, 64, 64}), shrunken(DType::kFloat32, {2, 64, 64}),
      edges(DType::kFloat32, {2, 64, 64}), mask(DType::kFloat32, {2, 64, 64});
  for (int64_t i = 0; i < shrunken.numel(); ++i) {
    const int64_t x = i % 64, y = i / 64 % 64, n = i / 4096;
    const auto inside = [&](int64_t margin) {
      return x >= 10 + 8 * n + margin && x < 50 - margin && y >= 20 + margin && y < 44 - margin;
    };
    for (int64_t c = 0; c < 3; ++c)
      pictures.as<float>()[(n * 3 + c) * 4096 + i % 4096] = inside(0) ? 1.F : -1.F;
    shrunken.as<float>()[i] = inside(4) ? 1.F : 0.F;
    mask.as<float>()[i] = inside(-3) && !inside(4) ? 1.F : 0.F;
    edges.as<float>()[i] = inside(-1) && !inside(2) ? 0.7F : 0.3F;
  }
  optimizer::Adam adam({.learning_rate = 5e-3, .parameters = net.parameters()});
  double first = 0, last = 0;
  for (int k = 0; k < 30; ++k) {
    const Tensor loss = models::db_loss(net(Tensor(pictures)), Tensor(shrunken), ones({2, 64, 64}),
                                        Tensor(edges), Tensor(mask));
    loss.backward();
    adam.step();
    adam.clear_grad();
    last = loss.item();
    if (k == 0) first = last;
  }
  EXPECT_LT(last, 0.6 * first) << first;
  net.eval();
  EXPECT_EQ(net(Tensor(pictures)).shape(), (Shape{2, 1, 64, 64}));
  EXPECT_THROW((void)net(zeros({1, 3, 40, 64})), Error);
}

// Both networks, exported, in place of the released models.
TEST(PPOCRv4, ExportsReadInThePipeline) {
  TRI_NEEDS_OCR_MODELS();
  const test::TempFolder folder;
  models::PPOCRv4Recognizer rec({.deploy = true});
  models::load_released(rec, (test::ocr_models() / "rec").string());
  jit::save(rec, folder / "rec", {{{-1, 3, 48, -1}}});
  models::PPOCRv4Detector det({.deploy = true});
  models::load_released(det, (test::ocr_models() / "det").string());
  jit::save(det, folder / "det", {{{-1, 3, -1, -1}}});
  std::filesystem::copy_file(test::ocr_models() / "dict.txt", folder / "rec" / "dict.txt");
  ocr::Options options;
  options.models = test::ocr_models().string();
  const ocr::Image picture =
      ocr::read_image(std::string(TRIREME_SOURCE_DIR) + "/examples/ocr/sample.png");
  const std::vector<ocr::Line> want = ocr::create_pipeline(options)->run(picture);
  options.rec = folder / "rec";
  options.det = folder / "det";
  const std::vector<ocr::Line> got = ocr::create_pipeline(options)->run(picture);
  ASSERT_FALSE(want.empty());
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got[i].text, want[i].text);
  options.det = folder / "nothing";
  EXPECT_THROW((void)ocr::create_pipeline(options), Error);
}

TEST(ResNetCifar, ShapesDepthsAndLearning) {
  EXPECT_THROW(models::ResNetCifar(10), Error);
  seed(2);
  models::ResNetCifar net(8, {.num_classes = 3, .scale = 0.25});
  EXPECT_EQ(net.stages.size(), 3U);
  EXPECT_EQ(net.stages[0].size(), 1U);
  EXPECT_EQ(models::ResNetCifar(20, {.num_classes = 3}).stages[2].size(), 3U);
  const Tensor x = noise({6, 3, 32, 32});
  const Tensor y = to_tensor(std::vector<int64_t>{0, 1, 2, 0, 1, 2});
  optimizer::Momentum momentum({.learning_rate = 0.05, .parameters = net.parameters()});
  double first = 0, last = 0;
  for (int k = 0; k < 20; ++k) {
    const Tensor loss = F::cross_entropy(net(x), y);
    EXPECT_EQ(loss.numel(), 1);
    loss.backward();
    momentum.step();
    momentum.clear_grad();
    last = loss.item();
    if (k == 0) first = last;
  }
  EXPECT_LT(last, 0.3 * first);
  net.eval();
  EXPECT_EQ(net(x).shape(), (Shape{6, 3}));
}

}  // namespace
}  // namespace trireme
