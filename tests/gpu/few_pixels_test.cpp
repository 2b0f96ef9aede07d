// Our own convolution of few pixels: every tiling against sums in float64, and a chain of kernels
// that begin before the one in front has ended.
#ifdef TRIREME_CUDA
#include "ops/conv_few_pixels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "device/device.h"
#include "support/distance.h"
#include "support/gpu.h"

namespace trireme::cuda {
namespace {

constexpr int64_t kMargin = 4096;  // bytes behind a result that must stay as they were

Array random(int64_t count, DType dtype, unsigned seed, float most = 1) {
  Array t(DType::kFloat32, Shape{count});
  std::mt19937 numbers(seed);
  std::uniform_real_distribution<float> some(-most, most);
  for (int64_t i = 0; i < count; ++i) t.as<float>()[i] = some(numbers);
  return t.to(dtype);
}

std::vector<double> convolve(const FewPixelsConv& c, const Array& x, const Array& weight) {
  const Array xs = x.to(DType::kFloat32), ws = weight.to(DType::kFloat32);
  std::vector<double> y(static_cast<size_t>(c.pixels() * c.o));
  for (int64_t m = 0; m < c.pixels(); ++m) {
    const int64_t ow = m % c.ow, oh = m / c.ow % c.oh, n = m / c.ow / c.oh;
    for (int64_t o = 0; o < c.o; ++o) {
      double sum = 0;
      for (int64_t r = 0; r < c.kh; ++r) {
        for (int64_t s = 0; s < c.kw; ++s) {
          const int64_t h = oh * c.stride_h - c.top + r, w = ow * c.stride_w - c.left + s;
          if (h < 0 || h >= c.h || w < 0 || w >= c.w) continue;
          const float* px = xs.as<float>() + ((n * c.h + h) * c.w + w) * c.c;
          const float* pw = ws.as<float>() + ((o * c.kh + r) * c.kw + s) * c.c;
          for (int64_t k = 0; k < c.c; ++k) sum += static_cast<double>(px[k]) * pw[k];
        }
      }
      y[static_cast<size_t>(m * c.o + o)] = sum;
    }
  }
  return y;
}

struct Case {
  const char* name;
  FewPixelsConv conv;  // oh and ow follow from the ends of the padding
  int bottom = 0, right = 0;
};

std::vector<Case> cases() {
  std::vector<Case> list = {
      {"1x1, one chunk", {.n = 1, .h = 7, .w = 7, .c = 64, .o = 64}},
      {"1x1, eight chunks", {.n = 1, .h = 7, .w = 7, .c = 512, .o = 96}},
      {"1x1, ten chunks, stride 2",
       {.n = 2, .h = 9, .w = 5, .c = 640, .o = 32, .stride_h = 2, .stride_w = 2}},
      {"3x3",
       {.n = 2, .h = 9, .w = 11, .c = 64, .o = 64, .kh = 3, .kw = 3, .top = 1, .left = 1},
       1,
       1},
      {"3x3, stride 2",
       {.n = 1,
        .h = 13,
        .w = 10,
        .c = 128,
        .o = 128,
        .kh = 3,
        .kw = 3,
        .stride_h = 2,
        .stride_w = 2,
        .top = 1,
        .left = 1},
       1,
       1},
      {"3x3, more chunks than stages",
       {.n = 1, .h = 5, .w = 5, .c = 256, .o = 64, .kh = 3, .kw = 3, .top = 1, .left = 1},
       1,
       1},
      {"5x3, strides 2 and 1, padding below and left",
       {.n = 1, .h = 12, .w = 9, .c = 64, .o = 32, .kh = 5, .kw = 3, .stride_h = 2, .left = 2},
       3,
       0},
      {"1x3", {.n = 1, .h = 4, .w = 20, .c = 192, .o = 64, .kw = 3, .left = 1}, 0, 1},
      {"7x7, eight channels",
       {.n = 1,
        .h = 14,
        .w = 15,
        .c = 8,
        .o = 64,
        .kh = 7,
        .kw = 7,
        .stride_h = 2,
        .stride_w = 2,
        .top = 3,
        .left = 3},
       3,
       3},
      {"3x3, few channels",
       {.n = 1, .h = 8, .w = 8, .c = 24, .o = 40, .kh = 3, .kw = 3, .top = 1, .left = 1},
       1,
       1},
      {"1x1, a chunk and a half", {.n = 1, .h = 6, .w = 6, .c = 96, .o = 8}},
      {"one pixel", {.n = 1, .h = 3, .w = 3, .c = 192, .o = 64, .kh = 3, .kw = 3}},
      {"several tiles", {.n = 3, .h = 12, .w = 12, .c = 64, .o = 160}},
      {"padding alone",
       {.n = 1, .h = 1, .w = 1, .c = 64, .o = 32, .kh = 3, .kw = 3, .top = 3, .left = 3},
       3,
       3},
  };
  for (Case& c : list) {
    FewPixelsConv& v = c.conv;
    v.oh = (v.h + v.top + c.bottom - v.kh) / v.stride_h + 1;
    v.ow = (v.w + v.left + c.right - v.kw) / v.stride_w + 1;
  }
  return list;
}

struct Follow {
  const char* name;
  bool bias, residual, in_place, relu;
};
constexpr Follow kFollows[] = {{"plain", false, false, false, false},
                               {"bias, relu", true, false, false, true},
                               {"residual, bias, relu", true, true, false, true},
                               {"residual in place", false, true, true, false}};

class FewPixels : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    TRI_NEEDS_GPU();
    gpu_ = &find_device("gpu:0");
    gpu_->activate();
    if (gpu_->info().major < 9) GTEST_SKIP() << "needs compute capability 9.0";
  }
  Storage upload(const Array& t) {
    return gpu_->upload(t.data(), static_cast<int64_t>(t.bytes()), "an operand");
  }
  double allowed() const { return GetParam() == DType::kFloat16 ? 6e-4 : 5e-3; }

  Device* gpu_ = nullptr;
};

TEST_P(FewPixels, EveryTilingAgreesWithSums) {
  int runs = 0;
  for (const Case& c : cases()) {
    FewPixelsConv conv = c.conv;
    conv.dtype = GetParam();
    const int64_t results = conv.pixels() * conv.o;
    const Array x = random(int64_t{conv.n} * conv.h * conv.w * conv.c, GetParam(), 1),
                weight = random(conv.o * conv.terms(), GetParam(), 2),
                residual = random(results, GetParam(), 3);
    const Storage dx = upload(x), dw = upload(weight), dr = upload(residual);
    const std::vector<double> sums = convolve(conv, x, weight);
    for (const Follow& f : kFollows) {
      conv.relu = f.relu;
      const Array bias = random(conv.o, DType::kFloat32, 4);
      const Storage db = upload(bias);
      const Array wide = residual.to(DType::kFloat32);
      Array want(DType::kFloat32, Shape{results});
      for (int64_t i = 0; i < results; ++i) {
        double v = sums[static_cast<size_t>(i)];
        if (f.bias) v += bias.as<float>()[i % conv.o];
        if (f.residual) v += wide.as<float>()[i];
        want.as<float>()[i] = static_cast<float>(f.relu ? std::max(v, 0.0) : v);
      }
      const auto tilings = few_pixels_tilings(conv);
      ASSERT_FALSE(tilings.empty()) << c.name;
      for (const FewPixelsTiling& tiling : tilings) {
        SCOPED_TRACE(std::string(c.name) + ", " + f.name + ", " + tiling.str());
        Array y(GetParam(), Shape{results + kMargin / 2});
        std::memset(y.data(), 0xff, y.bytes());
        if (f.in_place) std::memcpy(y.data(), residual.data(), residual.bytes());
        const Storage dy = upload(y);
        few_pixels_kernel(conv, tiling)({dx.data, dw.data, f.bias ? db.data : nullptr,
                                         f.in_place   ? dy.data
                                         : f.residual ? dr.data
                                                      : nullptr,
                                         dy.data},
                                        gpu_->stream());
        gpu_->download(y.data(), dy.data, y.bytes());
        Array got(GetParam(), Shape{results});
        std::memcpy(got.data(), y.data(), got.bytes());
        const auto* behind = static_cast<const unsigned char*>(y.data()) + got.bytes();
        EXPECT_TRUE(std::all_of(behind, behind + kMargin, [](auto b) { return b == 0xff; }));
        ASSERT_LE(test::distance(got.to(DType::kFloat32), want, 1e-3), allowed());
        ++runs;
      }
    }
  }
  std::printf("%d runs\n", runs);
}

// Every kernel reads what the one in front wrote, and writes what that one still reads.
TEST_P(FewPixels, ChainsThatOverlapGiveTheSameBits) {
  FewPixelsConv conv{.dtype = GetParam(),
                     .n = 1,
                     .h = 14,
                     .w = 14,
                     .c = 256,
                     .oh = 14,
                     .ow = 14,
                     .o = 256,
                     .kh = 3,
                     .kw = 3,
                     .top = 1,
                     .left = 1,
                     .relu = true};
  const int64_t elements = conv.pixels() * conv.c;
  const auto tilings = few_pixels_tilings(conv);
  std::vector<Storage> weights;
  for (unsigned k = 0; k < tilings.size(); ++k)
    weights.push_back(upload(random(conv.o * conv.terms(), GetParam(), k, 0.05f)));
  const Array input = random(elements, GetParam(), 99);
  const Storage first = upload(input), bias = upload(random(conv.o, DType::kFloat32, 98));
  const Storage buffers[2] = {upload(input), upload(input)};
  std::vector<FewPixelsKernel> kernels;
  for (const auto& tiling : tilings) kernels.push_back(few_pixels_kernel(conv, tiling));
  const auto chain = [&](void* stream, bool apart) {
    gpu_->copy(buffers[0].data, first.data, input.bytes(), stream);
    for (size_t k = 0; k < kernels.size(); ++k) {
      void *from = buffers[k % 2].data, *to = buffers[(k + 1) % 2].data;
      kernels[k]({from, weights[k].data, bias.data, from, to}, stream);
      if (apart) gpu_->synchronize();
    }
  };
  const auto result = [&] {
    Array y(GetParam(), Shape{elements});
    gpu_->download(y.data(), buffers[kernels.size() % 2].data, y.bytes());
    return y;
  };
  chain(gpu_->stream(), true);
  const Array want = result();
  const auto recording = gpu_->record([&](void* stream) { chain(stream, false); });
  ASSERT_NE(recording, nullptr);
  for (int round = 0; round < 50; ++round) {
    recording->launch();
    const Array got = result();
    ASSERT_EQ(std::memcmp(got.data(), want.data(), want.bytes()), 0) << "launch " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Gpu, FewPixels, testing::Values(DType::kFloat16, DType::kBFloat16),
                         [](const auto& i) { return std::string(name_of(i.param)); });

// The rules need no device.
TEST(FewPixelsTilings, AreThoseThatServe) {
  FewPixelsConv c{.n = 1, .h = 7, .w = 7, .c = 512, .oh = 7, .ow = 7, .o = 512, .kh = 3, .kw = 3};
  const auto names = [&] {
    std::string all;
    for (const auto& t : likely_tilings(c, 132)) all += t.str() + ' ';
    return all;
  };
  EXPECT_NE((' ' + names()).find(" 64x64/8 "), std::string::npos) << names();
  EXPECT_LE(likely_tilings(c, 132).size(), 24U);
  c.oh = c.ow = 56, c.n = 8;  // many tiles: nothing is split
  EXPECT_EQ(names(), "32x32/1 32x64/1 64x32/1 64x64/1 64x128/1 128x64/1 ");
  c.n = 1, c.kh = c.kw = 1, c.c = 64;  // one chunk
  EXPECT_EQ(few_pixels_tilings(c).size(), 6U);
  c.c = 60;
  EXPECT_TRUE(few_pixels_tilings(c).empty());
  c.c = 64, c.dtype = DType::kFloat32;
  EXPECT_TRUE(few_pixels_tilings(c).empty());
  c.dtype = DType::kBFloat16;
  EXPECT_FALSE(few_pixels_tilings(c).empty());
}

}  // namespace
}  // namespace trireme::cuda
#endif
