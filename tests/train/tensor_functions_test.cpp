// Tensor functions against real Paddle: results and gradients.
#include <cmath>

#include "train/goldens.h"
#include "trireme/manipulation.h"
#include "trireme/math.h"
#include "trireme/nn.h"
#include "trireme/random.h"

namespace trireme {
namespace {

namespace F = nn::functional;
using test::Function;
using test::In;

void check(const test::Functions& functions) {
  static const nlohmann::json cases = test::load_golden("tensors.json");
  test::check_functions(cases, functions);
}

Tensor mask(const Tensor& x) { return greater_than(x, full({}, 0, x.dtype())); }

// clang-format off
#define ONE(name) {#name, [](const In& x) { return name(x[0]); }}
#define TWO(name) {#name, [](const In& x) { return name(x[0], x[1]); }}
#define CASE(name, call) {name, [](const In& x) { return call; }}

TEST(TensorFunctions, Elements) {
  check({ONE(log1p), ONE(log2), ONE(log10), ONE(tan), ONE(acosh), ONE(asin), ONE(acos), ONE(atanh),
         ONE(atan), ONE(sinh), ONE(cosh), ONE(asinh), ONE(expm1), ONE(sign), ONE(trunc), ONE(neg),
         CASE("isnan", isnan(x[0] / x[1])), CASE("isinf", isinf(x[0] / x[1])),
         CASE("isfinite", isfinite(x[0] / x[1])), TWO(fmax), TWO(fmin), TWO(atan2), TWO(mod),
         TWO(bitwise_and), TWO(bitwise_or), TWO(bitwise_xor), ONE(bitwise_not),
         CASE("lerp", lerp(x[0], x[1], x[2])), CASE("lerp_number", lerp(x[0], x[1], 0.3)),
         CASE("nan_to_num", nan_to_num(x[0] / x[1], 0.5, 7, -9)),
         CASE("nan_to_num_plain", nan_to_num(x[0]))});
}

TEST(TensorFunctions, ComparisonsAndStatistics) {
  check({CASE("isclose", isclose(x[0], x[1], 1e-5, 0.5)),
         CASE("isclose_strange", isclose(x[0] / x[1], x[0] / x[1])),
         CASE("isclose_equal_nan", isclose(x[0] / x[1], x[0] / x[1], 1e-5, 1e-8, true)),
         CASE("allclose", allclose(x[0], x[1], 1e-5, 10)), TWO(equal_all),
         CASE("var", var(x[0], {1})), CASE("var_all", var(x[0], {}, false)),
         CASE("std", std(x[0], {0, 2}, true, true)), CASE("logsumexp", logsumexp(x[0], {-1})),
         CASE("count_nonzero", count_nonzero(x[0], {1})), ONE(median),
         CASE("median_axis", median(x[0], int64_t{1}, true)),
         CASE("median_even", median(x[0], int64_t{-1})),
         CASE("median_min", median(x[0], int64_t{-1}, false, "min")),
         CASE("cumprod", cumprod(x[0], 1)), CASE("bincount", bincount(x[0], {}, 6)),
         CASE("bincount_weights", bincount(x[0], x[1])),
         CASE("norm", linalg::norm(x[0], 3, {1})), CASE("norm_two", linalg::norm(x[0]))});
}

TEST(TensorFunctions, Products) {
  check({TWO(mm), TWO(bmm), TWO(mv), TWO(dot), CASE("dot_rows", dot(x[0], x[1])), TWO(outer),
         TWO(inner), CASE("addmm", addmm(x[0], x[1], x[2], 0.5, 2)), TWO(kron),
         CASE("kron_ranks", kron(x[0], x[1])), TWO(cross),
         CASE("cross_axis", cross(x[0], x[1], 0)), CASE("trace", trace(x[0], 1, 1, 2)),
         CASE("tensordot", tensordot(x[0], x[1], 2)),
         CASE("tensordot_lists", tensordot(x[0], x[1], {0, 2}, {1, 0})),
         CASE("einsum0", einsum("bij,bjk->bik", x)), CASE("einsum1", einsum("ij,kj->ik", x)),
         CASE("einsum2", einsum("ij->ji", x)), CASE("einsum3", einsum("ij->", x)),
         CASE("einsum4", einsum("ij, ij -> i", x)),
         CASE("einsum5", einsum("...ij,...jk->...ik", x)), CASE("einsum6", einsum("i,j", x)),
         CASE("einsum7", einsum("bij,bkj->bki", x)),
         CASE("einsum_three", einsum("ij,jk,kl->il", x))});
}

Tensor definite(const Tensor& x) { return matmul(x, x, false, true) + eye(3) * 3.0; }
Tensor together(const std::vector<Tensor>& parts) {
  std::vector<Tensor> flat;
  for (const Tensor& t : parts) flat.push_back(flatten(t));
  return concat(flat);
}
Tensor both_of_eigh(const Tensor& x) {
  const auto r = linalg::eigh(x + transpose(x, {0, 2, 1}));
  return together({r[0], square(r[1])});
}

TEST(TensorFunctions, Matrices) {
  using namespace linalg;
  check({ONE(inv), ONE(det), CASE("solve", solve(definite(x[0]), x[1])),
         CASE("solve_vector", solve(x[0], x[1])), CASE("cholesky", cholesky(definite(x[0]))),
         CASE("cholesky_upper", cholesky(definite(x[0]), true)),
         CASE("qr_square", together(qr(x[0]))), CASE("qr_high", together(qr(x[0]))),
         CASE("qr_wide_r", qr(x[0], "r")[0]), CASE("qr_complete", qr(x[0], "complete")[1]),
         CASE("svd_square", svd(x[0])[1]), CASE("svd_square_0", square(svd(x[0])[0])),
         CASE("svd_square_2", square(svd(x[0])[2])), CASE("svd_high", svd(x[0])[1]),
         CASE("svd_high_0", square(svd(x[0])[0])), CASE("svd_high_2", square(svd(x[0])[2])),
         CASE("svd_wide", svd(x[0])[1]), CASE("svd_wide_0", square(svd(x[0])[0])),
         CASE("svd_wide_2", square(svd(x[0])[2])), CASE("svd_full", square(svd(x[0], true)[0])),
         CASE("eigh", both_of_eigh(x[0]))});
}

TEST(TensorFunctions, MakingAndMoving) {
  check({CASE("eye", x[0] + eye(3, 4)), CASE("linspace", x[0] * linspace(-1, 2, 4)),
         CASE("diag", diag(x[0], 1, 2)), CASE("diag_of", diag(x[0], -1)),
         CASE("diagonal", diagonal(x[0], 1, 1, 2)), CASE("diag_embed", diag_embed(x[0], 1)),
         CASE("tril", tril(x[0], -1)), CASE("triu", triu(x[0], 1)),
         CASE("meshgrid", meshgrid(x)[0] * meshgrid(x)[1]),
         CASE("roll", roll(x[0], {1, -2}, {0, 2})), CASE("roll_flat", roll(x[0], {5})),
         CASE("moveaxis", moveaxis(x[0], {0, 1}, {-1, 0})),
         CASE("expand_as", expand_as(x[0], x[1]) * x[1]),
         CASE("broadcast_tensors", broadcast_tensors(x)[0] + broadcast_tensors(x)[1]),
         CASE("unbind", unbind(x[0], 1)[0] + unbind(x[0], 1)[1] + unstack(x[0], 1)[2]),
         CASE("repeat", repeat_interleave(x[0], int64_t{3}, 1)),
         CASE("repeat_flat", repeat_interleave(x[0], 2)),
         CASE("repeat_each", repeat_interleave(x[0], x[1], 0))});
}

TEST(TensorFunctions, PickingPlacingAndSorting) {
  check({CASE("index_select", index_select(x[0], x[1], 1)), TWO(index_sample),
         CASE("take_along_axis", take_along_axis(x[0], x[1], 1)),
         CASE("masked_select", masked_select(x[0], mask(x[1]))), ONE(nonzero),
         CASE("unique0", unique(x[0])[0]), CASE("unique1", unique(x[0], true)[1]),
         CASE("unique2", unique(x[0], false, true)[1]),
         CASE("unique3", unique(x[0], true, true, true)[3]),
         CASE("scatter", scatter(x[0], x[1], x[2])),
         CASE("scatter_add", scatter(x[0], x[1], x[2], false)),
         CASE("scatter_nd", scatter_nd(x[0], x[1], {3, 4})),
         CASE("scatter_nd_add", scatter_nd_add(x[0], x[1], x[2])),
         CASE("index_add", index_add(x[0], x[1], 1, x[2])),
         CASE("index_put", index_put(x[0], {x[1], x[2]}, x[3])),
         CASE("index_put_add", index_put(x[0], {x[1]}, x[2], true)),
         CASE("index_put_mask", index_put(x[0], {mask(x[1])}, x[2])),
         CASE("put_along_axis", put_along_axis(x[0], x[1], x[2], 1)),
         CASE("put_along_axis_add", put_along_axis(x[0], x[1], x[2], 1, "add")),
         CASE("masked_fill", masked_fill(x[0], mask(x[1]), 0.5)),
         CASE("sort", sort(x[0], 0, true)), CASE("argsort", argsort(x[0], 1)),
         CASE("searchsorted", searchsorted(x[0], x[1], true)),
         CASE("embedding_max_norm", F::embedding(x[0], x[1], -1, 0.7)),
         CASE("embedding_max_norm_one", F::embedding(x[0], x[1], -1, 0.7, 1))});
}

TEST(TensorFunctions, PicturesAtPlaces) {
  test::Functions all = {
      CASE("affine_grid0", F::affine_grid(x[0], {2, 3, 4, 5}, false)),
      CASE("affine_grid1", F::affine_grid(x[0], {2, 3, 4, 5})),
      CASE("bicubic0", F::interpolate(x[0], {.size = {7, 4}, .mode = "bicubic"})),
      CASE("bicubic1", F::interpolate(x[0], {.size = {7, 4}, .mode = "bicubic",
                                             .align_corners = true})),
      CASE("bicubic_scale", F::interpolate(x[0], {.scale_factor = {1.5, 2}, .mode = "bicubic"}))};
  for (const std::string mode : {"bilinear", "nearest"})
    for (const std::string padding : {"zeros", "border", "reflection"})
      for (const bool corners : {false, true})
        all["grid_sample_" + mode + "_" + padding + (corners ? "1" : "0")] =
            [=](const In& x) { return F::grid_sample(x[0], x[1], mode, padding, corners); };
  check(all);
}
// clang-format on

TEST(TensorFunctions, IncrementRebinds) {
  Tensor count = full({1}, 3, DType::kInt64);
  const Tensor again = increment(count, 2);
  EXPECT_EQ(count.item(), 5);
  EXPECT_EQ(again.variable(), count.variable());
  EXPECT_THROW((void)increment(zeros({2})), Error);
}

TEST(TensorFunctions, EmbeddingScalesItsRowsDown) {
  nn::Embedding layer(4, 3, {.max_norm = 0.1});
  layer.weight.set_value(ones({4, 3}));
  (void)layer(to_tensor(std::vector<int64_t>{1, 1, 2}));
  const Array norms = linalg::norm(layer.weight, 2, {1}).numpy();
  for (const int i : {1, 2}) EXPECT_NEAR(norms.as<float>()[i], 0.1, 1e-5);
  for (const int i : {0, 3}) EXPECT_NEAR(norms.as<float>()[i], std::sqrt(3.0), 1e-5);
}

TEST(TensorFunctions, SyncBatchNormIsBatchNormInOneProcess) {
  nn::SyncBatchNorm sync(3);
  nn::BatchNorm2D plain(3);
  seed(1);
  const Tensor x = randn({2, 3, 4, 4});
  EXPECT_TRUE(allclose(sync(x), plain(x)).item());
  EXPECT_TRUE(allclose(sync.running_variance, plain.running_variance).item());
}

TEST(TensorFunctions, RandomTensorsHaveTheirDistribution) {
  seed(7);
  const Tensor n = normal(2, 3, {100, 100}), u = uniform({100, 100}, DType::kFloat32, -1, 3);
  EXPECT_NEAR(mean(n).item(), 2, 0.1);
  EXPECT_NEAR(std(n).item(), 3, 0.1);
  EXPECT_NEAR(mean(u).item(), 1, 0.05);
  EXPECT_GE(min(rand({1000})).item(), 0);
  EXPECT_LT(max(rand({1000})).item(), 1);
  EXPECT_NEAR(mean(bernoulli(full({10000}, 0.3))).item(), 0.3, 0.02);
  const Tensor i = randint(-2, 3, {1000});
  EXPECT_EQ(min(i).item(), -2);
  EXPECT_EQ(max(i).item(), 2);
  EXPECT_TRUE(equal_all(sort(randperm(50)), arange(0, 50)).item());
  EXPECT_THROW((void)randint(3, 3, {2}), Error);
}

TEST(TensorFunctions, MultinomialFollowsItsWeights) {
  seed(3);
  const Tensor weights = to_tensor(std::vector<float>{1, 0, 3});
  const Array counts = bincount(multinomial(weights, 4000, true), {}, 3).numpy();
  EXPECT_NEAR(static_cast<double>(counts.as<int64_t>()[0]), 1000, 120);
  EXPECT_EQ(counts.as<int64_t>()[1], 0);
  for (int round = 0; round < 20; ++round) {  // the two that can be drawn, in either order
    const Tensor drawn = multinomial(expand(unsqueeze(weights, {0}), {5, 3}), 2);
    EXPECT_EQ(drawn.shape(), (Shape{5, 2}));
    EXPECT_TRUE(equal_all(sum(drawn, {1}), full({5}, 2, DType::kInt64)).item());
  }
  EXPECT_THROW((void)multinomial(weights, 4), Error);
}

TEST(TensorFunctions, BadArgumentsAreRefused) {
  const Tensor x = ones({2, 3});
  EXPECT_THROW((void)einsum("ij,jk->ik", {x, ones({4, 2})}), Error);
  EXPECT_THROW((void)einsum("ij", {x, x}), Error);
  EXPECT_THROW((void)einsum("ijk->i", {x}), Error);
  EXPECT_THROW((void)einsum("ij->iz", {x}), Error);
  EXPECT_THROW((void)einsum("i%->i", {x}), Error);
  EXPECT_THROW((void)tensordot(x, x, {0, 1}, {1, 0}), Error);
  EXPECT_THROW((void)cross(ones({2, 2}), ones({2, 2})), Error);
  EXPECT_THROW((void)bincount(to_tensor(std::vector<int64_t>{-1})), Error);
  EXPECT_THROW((void)median(x, int64_t{2}), Error);
  EXPECT_THROW((void)moveaxis(x, {0, 0}, {0, 1}), Error);
  EXPECT_THROW((void)index_put(x, {}, x), Error);
  EXPECT_THROW((void)masked_select(x, x), Error);
  EXPECT_THROW((void)F::grid_sample(ones({1, 1, 2, 2}), ones({2, 2, 2, 2})), Error);
}

}  // namespace
}  // namespace trireme
