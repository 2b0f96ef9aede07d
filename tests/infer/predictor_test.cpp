// The predictor as a user meets it: handles, clones in threads, limits, precisions, errors.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <thread>

#include "base/cpu_features.h"
#include "base/npy.h"
#include "support/data.h"
#include "support/temp.h"
#include "trireme/inference.h"
#include "trireme/ops.h"
#include "trireme/tensor.h"

namespace trireme::inference {
namespace {

namespace fs = std::filesystem;

fs::path lenet() { return test::data_folder() / "paddle_models/lenet"; }

std::string message_of(const std::function<void()>& f, Code expected) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), expected) << e.what();
    return e.what();
  }
  return "nothing was thrown";
}

Array noise(const Shape& shape, uint32_t seed) {
  Array t(DType::kFloat32, shape);
  for (int64_t i = 0; i < t.numel(); ++i) {
    seed = seed * 1664525u + 1013904223u;
    t.as<float>()[i] = static_cast<float>(seed >> 8) * 0x1p-23f - 1;
  }
  return t;
}

double largest_difference(const Array& a, const Array& b) {
  double d = 0;
  for (int64_t i = 0; i < a.numel(); ++i)
    d = std::max(d, static_cast<double>(std::abs(a.as<float>()[i] - b.as<float>()[i])));
  return d;
}

TEST(Predictor, RunsThroughHandlesAsPaddleDoes) {
  TRI_NEEDS_DATA("paddle_models/lenet");
  const auto predictor = create_predictor(Config(lenet().string()));
  const Array in = read_npy((lenet() / "input.npy").string());
  const Array expected = read_npy((lenet() / "output.npy").string());
  Handle* x = predictor->get_input_handle(predictor->get_input_names()[0]);
  x->reshape(in.shape());
  x->copy_from_cpu(in.as<float>());
  predictor->run();
  const Handle* y = predictor->get_output_handle(predictor->get_output_names()[0]);
  ASSERT_EQ(y->shape(), expected.shape());
  std::vector<float> values(static_cast<size_t>(expected.numel()));
  y->copy_to_cpu(values.data());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected.as<float>()[i], 1e-4);
}

TEST(Predictor, TakesTensorsThatLieOnItsDevice) {
  TRI_NEEDS_DATA("paddle_models/lenet");
  const auto predictor = create_predictor(Config(lenet().string()));
  const Array in = read_npy((lenet() / "input.npy").string());
  const Array expected = read_npy((lenet() / "output.npy").string());
  Handle* x = predictor->get_input_handle(predictor->get_input_names()[0]);
  x->share_external_data(Tensor(in) * 2.0 * 0.5);  // pending when it is handed over
  predictor->run();
  const Handle* y = predictor->get_output_handle(predictor->get_output_names()[0]);
  EXPECT_LT(largest_difference(y->tensor(), expected), 1e-4);
  const std::string message =
      message_of([&] { x->share_external_data(ones({1}, DType::kInt64)); }, Code::kInvalidArgument);
  EXPECT_NE(message.find("expects float32, got int64"), std::string::npos) << message;
}

TEST(Predictor, InputsOfOneCallLeaveTheHandlesAlone) {
  TRI_NEEDS_DATA("paddle_models/lenet");
  const auto predictor = create_predictor(Config(lenet().string()));
  const Array in = read_npy((lenet() / "input.npy").string());
  const Array expected = read_npy((lenet() / "output.npy").string());
  Handle* x = predictor->get_input_handle(predictor->get_input_names()[0]);
  x->share_external_data(in);
  (void)predictor->run({noise(in.shape(), 1)});
  predictor->run();
  const Handle* y = predictor->get_output_handle(predictor->get_output_names()[0]);
  EXPECT_LT(largest_difference(y->tensor(), expected), 1e-4);
  Shape larger = in.shape();
  larger[0] += 1;
  x->reshape(larger);  // and nothing of that shape was given
  const std::string message = message_of([&] { predictor->run(); }, Code::kInvalidArgument);
  EXPECT_NE(message.find("was not given"), std::string::npos) << message;
}

TEST(Predictor, ClonesRunAtOnceOnOneSetOfWeights) {
  TRI_NEEDS_OCR_MODELS();
  Config config((test::ocr_models() / "rec").string());
  config.set_cpu_math_library_num_threads(1);
  const auto first = create_predictor(config);
  const std::vector<Array> in{noise({1, 3, 48, 128}, 1)}, other{noise({2, 3, 48, 64}, 2)};
  const Array expected = first->run(in)[0], expected_other = first->run(other)[0];
  const int64_t weights = first->stats().weight_bytes;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, clone = std::shared_ptr<Predictor>(first->clone())] {
      for (int i = 0; i < 10; ++i) {
        wrong += largest_difference(clone->run(in)[0], expected) > 1e-6;
        wrong += largest_difference(clone->run(other)[0], expected_other) > 1e-6;
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(first->stats().weight_bytes, weights);
}

TEST(Predictor, AnswersWrongInputsAndGoesOn) {
  TRI_NEEDS_DATA("paddle_models/lenet");
  const auto predictor = create_predictor(Config(lenet().string()));
  const Array in = read_npy((lenet() / "input.npy").string());
  const std::string shape = message_of(
      [&] {
        predictor->run({noise({1, 2, 28, 28}, 1)});
      },
      Code::kInvalidArgument);
  EXPECT_NE(shape.find("got [1, 2, 28, 28]"), std::string::npos) << shape;
  EXPECT_NE(message_of([&] { predictor->run({in.to(DType::kFloat64)}); }, Code::kInvalidArgument)
                .find("expects float32"),
            std::string::npos);
  EXPECT_NE(
      message_of([&] { predictor->get_input_handle("nosuch"); }, Code::kNotFound).find("it has: "),
      std::string::npos);
  EXPECT_NO_THROW(predictor->run({in}));
}

TEST(Predictor, HonoursTheMemoryLimitAndGoesOn) {
  TRI_NEEDS_OCR_MODELS();
  Config config((test::ocr_models() / "det").string());
  config.set_memory_limit_mib(40);
  const auto predictor = create_predictor(config);
  const std::string text = message_of(
      [&] {
        predictor->run({noise({1, 3, 1280, 1280}, 1)});
      },
      Code::kResourceExhausted);
  EXPECT_NE(text.find("cap of 41943040"), std::string::npos) << text;
  EXPECT_NO_THROW(predictor->run({noise({1, 3, 96, 96}, 1)}));
}

TEST(Predictor, RefusesADeviceThatIsNotThere) {
  Config config(lenet().string());
  config.set_device("gpu:0");
  EXPECT_NE(message_of([&] { create_predictor(config); }, Code::kUnavailable).find("gpu:0"),
            std::string::npos);
}

// Where models would be in float32 (computed_precision) products are of float16, or ctest runs
// these with TRIREME_CPU=bf16.
#define TRI_NEEDS_BFLOAT16()                                    \
  if (!cpu_features().fast_bf16 && !cpu_features().avx512_fp16) \
  GTEST_SKIP() << "no AVX512-FP16, and neither AMX nor TRIREME_CPU=bf16"

// Half precision keeps 8 bits of each value: text must be the same, maps nearly so.
TEST(Bfloat16, RecognizerChoosesTheSameClasses) {
  TRI_NEEDS_OCR_MODELS();
  TRI_NEEDS_DATA("paddle_models/lenet");
  TRI_NEEDS_BFLOAT16();
  const Array in = noise({1, 3, 48, 160}, 5);
  Config config((test::ocr_models() / "rec").string());
  const Array wide = create_predictor(config)->run({in})[0];
  config.set_precision(Precision::kBFloat16);
  const Array half = create_predictor(config)->run({in})[0];
  ASSERT_EQ(half.dtype(), DType::kFloat32);
  const int64_t classes = wide.shape().back(), steps = wide.numel() / classes;
  for (int64_t s = 0; s < steps; ++s) {
    const float *a = wide.as<float>() + s * classes, *b = half.as<float>() + s * classes;
    EXPECT_EQ(std::max_element(a, a + classes) - a, std::max_element(b, b + classes) - b)
        << "step " << s;
  }
  EXPECT_LT(largest_difference(wide, half), 0.1);
}

TEST(Bfloat16, DetectorMapStaysClose) {
  TRI_NEEDS_OCR_MODELS();
  TRI_NEEDS_BFLOAT16();
  const Array in = noise({1, 3, 224, 160}, 9);
  Config config((test::ocr_models() / "det").string());
  const Array wide = create_predictor(config)->run({in})[0];
  config.set_precision(Precision::kBFloat16);
  const Array half = create_predictor(config)->run({in})[0];
  double sum = 0;
  for (int64_t i = 0; i < wide.numel(); ++i)
    sum += std::abs(wide.as<float>()[i] - half.as<float>()[i]);
  EXPECT_LT(sum / static_cast<double>(wide.numel()), 2e-3);
}

TEST(Bfloat16, OperatorsThatStayFloat32GiveItsMap) {
  TRI_NEEDS_OCR_MODELS();
  TRI_NEEDS_BFLOAT16();
  const Array in = noise({1, 3, 96, 96}, 9);
  Config config((test::ocr_models() / "det").string());
  const Array wide = create_predictor(config)->run({in})[0];
  config.set_precision(Precision::kBFloat16);
  EXPECT_GT(largest_difference(wide, create_predictor(config)->run({in})[0]), 0);
  config.exp_disable_mixed_precision_ops({"conv2d", "depthwise_conv2d", "conv2d_transpose"});
  EXPECT_EQ(largest_difference(wide, create_predictor(config)->run({in})[0]), 0);
}

TEST(Predictor, RefusesToKeepOperatorsThatItDoesNotKnow) {
  TRI_NEEDS_DATA("paddle_models/lenet");
  Config config(lenet().string());
  config.exp_disable_mixed_precision_ops({"conv2d", "convolution"});
  EXPECT_NE(
      message_of([&] { create_predictor(config); }, Code::kInvalidArgument).find("'convolution'"),
      std::string::npos);
}

TEST(Profile, ListsNodesAndWritesATrace) {
  TRI_NEEDS_DATA("paddle_models/lenet");
  const test::TempFolder folder;
  const fs::path trace = folder / "trace.json";
  {
    Config config(lenet().string());
    config.enable_profile(trace.string());
    const auto predictor = create_predictor(config);
    (void)predictor->run({read_npy((lenet() / "input.npy").string())});
    EXPECT_NE(predictor->profile().find("conv2d"), std::string::npos);
  }
  std::string text;
  std::getline(std::ifstream(trace), text, '\0');
  EXPECT_NE(text.find("\"traceEvents\""), std::string::npos);
}

}  // namespace
}  // namespace trireme::inference
