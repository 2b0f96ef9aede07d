// Paddle's training files: names, masters, schedulers, slices; and the way there and back.
#include "formats/paddle_state.h"

#include <nlohmann/json.hpp>

#include "formats/support.h"
#include "support/data.h"
#include "support/temp.h"

namespace trireme {
namespace {

using Json = nlohmann::json;
using test::error_of;

std::string checkpoint(const std::string& name) {
  return (test::data_folder() / "paddle_models/checkpoint" / name).string();
}

void expect_same(const Array& a, const Array& b) {
  EXPECT_EQ(a.dtype(), b.dtype());
  EXPECT_EQ(a.shape(), b.shape());
  ASSERT_EQ(a.bytes(), b.bytes());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0);
}

TEST(PaddleState, ReadsNamesOfEveryProtocol) {
  TRI_NEEDS_DATA("paddle_models/checkpoint");
  const PaddleState state = read_paddle_state(checkpoint("small.pdparams"));
  ASSERT_EQ(state.tensors.size(), 8u);
  EXPECT_EQ(state.tensors[0].key, "conv.weight");
  EXPECT_EQ(state.tensors[0].name, "conv2d_0.w_0");
  EXPECT_EQ(state.tensors[0].array.shape(), (Shape{4, 3, 3, 3}));
  for (const char* other : {"small.protocol2.pdparams", "small.protocol3.pdparams"}) {
    const PaddleState same = read_paddle_state(checkpoint(other));
    ASSERT_EQ(same.tensors.size(), 8u);
    for (size_t i = 0; i < 8; ++i) {
      EXPECT_EQ(same.tensors[i].name, state.tensors[i].name);
      expect_same(same.tensors[i].array, state.tensors[i].array);
    }
  }
}

TEST(PaddleState, ReadsOptimizersMastersAndBareTensors) {
  TRI_NEEDS_DATA("paddle_models/checkpoint");
  const PaddleState adam = read_paddle_state(checkpoint("small.pdopt"));
  EXPECT_TRUE(Json::parse(adam.scheduler).contains("last_epoch"));
  EXPECT_EQ(adam.tensors[0].key, "conv2d_0.w_0_moment1_0");
  const PaddleState masters = read_paddle_state(checkpoint("master_sgd_bf16.pdopt"));
  ASSERT_EQ(masters.master_weights.size(), 2u);
  EXPECT_EQ(masters.master_weights[0].first, "linear_0.w_0");
  EXPECT_EQ(masters.master_weights[0].second.dtype(), DType::kFloat32);
  const PaddleState bare = read_paddle_state(checkpoint("tensor.pdparams"));
  ASSERT_EQ(bare.tensors.size(), 1u);
  EXPECT_EQ(bare.tensors[0].name, "linear_0.w_0");
  EXPECT_EQ(read_paddle_state(checkpoint("bf16.pdparams")).tensors[0].array.dtype(),
            DType::kBFloat16);
  EXPECT_HAS(error_of([] { read_paddle_state(checkpoint("nested.pdparams")); }).what(),
             "'epoch' is a int, a tensor expected");
}

// What protocol 3 writes for an array of more than a GiB, with small pieces.
TEST(PaddleState, JoinsSlices) {
  const test::TempFolder folder;
  const Array a = Array::from<float>(Shape{2}, std::vector<float>{1, 2}, DType::kFloat32);
  const Array b = Array::from<float>(Shape{1}, std::vector<float>{3}, DType::kFloat32);
  const std::string path = (folder / "s.pdparams").string();
  write_pdparams(path, std::vector<PaddleTensor>{{"w@@.0", "", a}, {"w@@.1", "", b}});
  std::string bytes;
  {
    const MappedFile file(path);
    bytes.assign(file.bytes().data(), file.bytes().size());
  }
  const std::string zeros(3, '\0');
  const auto text = [&](const std::string& s) {
    return "X" + std::string(1, static_cast<char>(s.size())) + zeros + s;
  };
  bytes.resize(bytes.size() - 2);  // the end of the dict and the stop
  const std::string rest = text("UnpackBigParamInfor@@") + "}(" + text("w") +
                           "}(" +  // codespell:ignore
                           text("OriginShape") + "K\x01K\x03\x86" + text("slices") + "](" +
                           text("w@@.0") + text("w@@.1") + "euuu.";
  const std::string whole = bytes + rest;
  const PaddleState state = read_paddle_state(std::span<const char>(whole), "s");
  ASSERT_EQ(state.tensors.size(), 1u);
  EXPECT_EQ(state.tensors[0].key, "w");
  EXPECT_EQ(state.tensors[0].array.shape(), (Shape{1, 3}));
  EXPECT_EQ(state.tensors[0].array.as<float>()[2], 3.0f);
  std::string twice = whole;
  twice.replace(twice.rfind("w@@.1"), 5, "w@@.0");
  EXPECT_HAS(error_of([&] { read_paddle_state(std::span<const char>(twice), "s"); }).what(),
             "missing or used twice");
}

TEST(PaddleState, WritesWhatItReads) {
  TRI_NEEDS_DATA("paddle_models/checkpoint");
  const test::TempFolder folder;
  for (const char* name : {"small.pdopt", "master_sgd_bf16.pdopt", "bf16.pdparams"}) {
    SCOPED_TRACE(name);
    const PaddleState state = read_paddle_state(checkpoint(name));
    const std::string path = (folder / name).string();
    if (std::string(name).ends_with("pdopt")) {
      write_pdopt(path, state);
    } else {
      write_pdparams(path, state.tensors);
    }
    const PaddleState same = read_paddle_state(path);
    EXPECT_EQ(same.scheduler, state.scheduler);
    ASSERT_EQ(same.tensors.size(), state.tensors.size());
    for (size_t i = 0; i < state.tensors.size(); ++i) {
      EXPECT_EQ(same.tensors[i].key, state.tensors[i].key);
      EXPECT_EQ(same.tensors[i].name,
                state.tensors[i].name.empty() ? state.tensors[i].key : state.tensors[i].name);
      expect_same(same.tensors[i].array, state.tensors[i].array);
    }
    ASSERT_EQ(same.master_weights.size(), state.master_weights.size());
    for (size_t i = 0; i < state.master_weights.size(); ++i)
      expect_same(same.master_weights[i].second, state.master_weights[i].second);
  }
}

}  // namespace
}  // namespace trireme
