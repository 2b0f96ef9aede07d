// Gradients of convolutions, pools, norms, softmax, resizing, recurrent layers and losses that a
// library or a kernel of their own serves.
#include "ops/batch_norm_fused.h"
#include "ops/conv.h"

#include "ops/ctc.h"
#include "ops/grad_test.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "ops/random.h"
#include "ops/rnn.h"
#include "ops/shape.h"

namespace trireme::test {
namespace {

using Values = std::vector<Value*>;

Value* at(const Values& x, size_t i) { return i < x.size() ? x[i] : nullptr; }

Record conv(const Conv2dAttrs& a) {
  return [a](const Values& x) { return Values{ops::conv2d(x[0], x[1], at(x, 2), a)}; };
}
Record conv_transpose(const Conv2dAttrs& a) {
  return [a](const Values& x) { return Values{ops::conv2d_transpose(x[0], x[1], at(x, 2), a)}; };
}

const SampleList convolutions([] {
  return std::vector<Sample>{
      {"plain", conv({}), {noise({2, 3, 5, 4}), noise({4, 3, 3, 3}, 2), noise({4}, 3)}},
      {"one pixel wide", conv({}), {noise({2, 5, 3, 4}), noise({6, 5, 1, 1}, 2)}},
      {"padded", conv({.paddings = {1, 0, 2, 1}}), {noise({1, 2, 4, 5}), noise({3, 2, 3, 3}, 2)}},
      {"strided",
       conv({.strides = {2, 2}, .paddings = {1, 1, 1, 1}}),
       {noise({2, 2, 6, 7}), noise({3, 2, 3, 3}, 2), noise({3}, 3)}},
      {"strided 1x1", conv({.strides = {2, 2}}), {noise({1, 3, 5, 4}), noise({4, 3, 1, 1}, 2)}},
      {"two strides",
       conv({.strides = {2, 1}, .paddings = {2, 2, 2, 2}}),
       {noise({1, 2, 6, 5}), noise({2, 2, 5, 5}, 2)}},
      {"dilated",
       conv({.paddings = {2, 2, 2, 2}, .dilations = {2, 2}}),
       {noise({1, 2, 5, 6}), noise({2, 2, 3, 3}, 2)}},
      {"dilated and strided",
       conv({.strides = {2, 3}, .paddings = {1, 2, 2, 1}, .dilations = {3, 2}}),
       {noise({1, 2, 8, 9}), noise({2, 2, 3, 3}, 2)}},
      {"groups",
       conv({.paddings = {1, 1, 1, 1}, .groups = 2}),
       {noise({1, 4, 4, 3}), noise({6, 2, 3, 3}, 2)}},
      {"depthwise",
       conv({.paddings = {1, 1, 1, 1}, .groups = 3}),
       {noise({2, 3, 4, 5}), noise({3, 1, 3, 3}, 2), noise({3}, 3)}},
      {"depthwise strided",
       conv({.strides = {2, 1}, .paddings = {2, 2, 2, 2}, .groups = 2}),
       {noise({1, 2, 5, 6}), noise({2, 1, 5, 5}, 2)}},
      {"one channel",
       conv({.paddings = {1, 1, 1, 1}}),
       {noise({2, 1, 5, 5}), noise({2, 1, 3, 3}, 2)}},
      {"rest of the stride",
       conv({.strides = {3, 3}}),
       {noise({1, 1, 6, 7}), noise({2, 1, 2, 2}, 2)}},
      {"transposed",
       conv_transpose({}),
       {noise({1, 3, 3, 2}), noise({3, 2, 3, 3}, 2), noise({2}, 3)}},
      {"transposed kernel is stride",
       conv_transpose({.strides = {2, 2}}),
       {noise({2, 2, 3, 2}), noise({2, 3, 2, 2}, 2)}},
      {"transposed strided",
       conv_transpose({.strides = {2, 2}, .paddings = {1, 0, 1, 1}, .output_padding = {1, 0}}),
       {noise({1, 2, 3, 4}), noise({2, 2, 3, 3}, 2)}},
      {"transposed groups",
       conv_transpose({.strides = {2, 1}, .paddings = {1, 1, 1, 1}, .groups = 2}),
       {noise({1, 4, 3, 3}), noise({4, 2, 3, 3}, 2)}},
      {"of the weight",
       [](const Values& x) {
         return Values{ops::conv2d_wgrad(x[0], x[1], {.strides = {2, 1}, .kernel = {2, 3}})};
       },
       {noise({2, 2, 4, 5}), noise({2, 3, 2, 3}, 2)}},
  };
});

TEST(Gradient, Convolutions) { convolutions.check(); }

const SampleList batch_norms([] {
  const Record train = [](const Values& x) {
    return Values{ops::batch_norm_train(x[0], x[1], x[2], x[3], x[4], 0.9, 1e-5)[2]};
  };
  const Record given = [](const Values& x) {
    return Values{ops::batch_norm(x[0], x[1], x[2], x[3], x[4], 1e-3)};
  };
  const GradOptions options{.second = false, .fixed = {0, 1}};
  const auto inputs = [](const Shape& x) {
    const Shape c{x[1]};
    return std::vector<Array>{noise(c, 1), noise(c, 2, 0.5, 2), noise(x, 3), noise(c, 4),
                              noise(c, 5)};
  };
  const auto given_inputs = [](const Shape& x) {
    const Shape c{x[1]};
    return std::vector<Array>{noise(x, 3), noise(c, 4), noise(c, 5), noise(c, 1),
                              noise(c, 2, 0.5, 2)};
  };
  return std::vector<Sample>{
      {"pictures", train, inputs({2, 3, 3, 4}), options},
      {"many channels", train, inputs({2, 19, 2, 1}), options},
      {"rows", train, inputs({5, 4}), options},
      {"signals", train, inputs({3, 2, 5}), options},
      {"given statistics", given, given_inputs({2, 3, 2, 2}), {.second = false}},
      {"given statistics of rows", given, given_inputs({3, 4}), {.second = false}},
  };
});

TEST(Gradient, BatchNorm) { batch_norms.check(); }

// What the pass fuse_norm looks for, and what it makes of it.
const SampleList fused_norms([] {
  const auto norm = [](const Values& x) {
    return ops::batch_norm_train(x[0], x[1], x[2], x[3], x[4], 0.9, 1e-5)[2];
  };
  const Record act = [=](const Values& x) { return Values{ops::relu(norm(x))}; };
  const Record added = [=](const Values& x) { return Values{ops::relu(ops::add(norm(x), x[5]))}; };
  const Record with_pool = [=](const Values& x) {
    return Values{ops::pool2d(ops::relu(norm(x)),
                              {.kernel = {3, 3}, .strides = {2, 2}, .paddings = {1, 1, 1, 1}})};
  };
  const auto fused = [](const Op& op) -> Record {
    return [&op](const Values& x) {
      return Values{record(op, x, BatchNormAttrs{.momentum = 0.9, .epsilon = 1e-5})[2]};
    };
  };
  const GradOptions options{.second = false, .fixed = {0, 1}};
  const auto inputs = [](const Shape& x, bool residual = false) {
    const Shape c{x[1]};
    std::vector<Array> all{noise(c, 1), noise(c, 2, 0.5, 2), noise(x, 3), noise(c, 4), noise(c, 5)};
    if (residual) all.push_back(noise(x, 6));
    return all;
  };
  const Record dual = [=](const Values& x) {
    const Values other(x.begin() + 5, x.end());
    return Values{ops::relu(ops::add(norm(x), norm(other)))};
  };
  const auto two = [](const Shape& x) {
    const Shape c{x[1]};
    return std::vector<Array>{noise(c, 1), noise(c, 2, 0.5, 2), noise(x, 3),         noise(c, 4),
                              noise(c, 5), noise(c, 6),         noise(c, 7, 0.5, 2), noise(x, 8),
                              noise(c, 9), noise(c, 10)};
  };
  const GradOptions options2{.second = false, .fixed = {0, 1, 5, 6}};
  const GradOptions own{.layouts = false, .second = false, .fixed = {0, 1}};
  const GradOptions own2{.layouts = false, .second = false, .fixed = {0, 1, 5, 6}};
  return std::vector<Sample>{
      {"relu", act, inputs({2, 8, 3, 4}), options},
      {"relu, odd channels", act, inputs({3, 5, 2, 3}), options},
      {"relu, rows", act, inputs({5, 16}), options},
      {"add and relu", added, inputs({2, 8, 3, 4}, true), options},
      {"add and relu, odd channels", added, inputs({3, 5, 2, 3}, true), options},
      {"two norms and relu", dual, two({2, 8, 3, 4}), options2},
      {"two norms and relu, odd channels", dual, two({3, 5, 2, 3}), options2},
      {"max pool", with_pool, inputs({2, 8, 6, 5}), options},
      {"fused relu", fused(ops::fused_batch_norm_act_op), inputs({2, 6, 3, 4}), own},
      {"fused add and relu", fused(ops::fused_bn_add_activation_op), inputs({2, 6, 3, 5}, true),
       own},
      {"fused two norms and relu", fused(ops::fused_dual_bn_add_activation_op), two({2, 6, 3, 5}),
       own2},
  };
});

TEST(Gradient, FusedBatchNorm) { fused_norms.check(); }

const SampleList rows([] {
  const auto layer = [](int64_t axis) -> Record {
    return [axis](const Values& x) {
      return Values{ops::layer_norm(x[0], at(x, 1), at(x, 2), axis, 1e-4)};
    };
  };
  const auto soft = [](bool log, int64_t axis) -> Record {
    return [log, axis](const Values& x) {
      return Values{log ? ops::log_softmax(x[0], axis) : ops::softmax(x[0], axis)};
    };
  };
  const GradOptions no_second{.second = false};
  return std::vector<Sample>{
      {"layer_norm", layer(1), {noise({5, 21}), noise({21}, 2), noise({21}, 3)}, no_second},
      {"layer_norm of two dimensions",
       layer(1),
       {noise({2, 3, 4}), noise({3, 4}, 2), noise({12}, 3)},
       no_second},
      {"layer_norm, no scale", layer(2), {noise({2, 2, 5}), {}, noise({5}, 3)}, no_second},
      {"layer_norm alone", layer(0), {noise({7})}, no_second},
      {"softmax", soft(false, -1), {noise({3, 19})}},
      {"softmax, middle", soft(false, 1), {noise({2, 4, 3})}},
      {"log_softmax", soft(true, -1), {noise({3, 18})}},
      {"log_softmax, first", soft(true, 0), {noise({4, 3})}},
  };
});

TEST(Gradient, Rows) { rows.check(); }

const SampleList dropouts([] {
  const auto drop = [](const DropoutAttrs& a) -> Record {
    return [a](const Values& x) { return Values{ops::dropout(x[0], x[1], a)}; };
  };
  const Array state = ints({2}, {5, 6});
  return std::vector<Sample>{
      {"dropout", drop({.p = 0.3}), {noise({5, 17}), state}},
      {"dropout of channels",
       drop({.p = 0.5, .mode = "downscale_in_infer", .axis = {0, 1}}),
       {noise({2, 5, 2, 2}), state}},
  };
});

TEST(Gradient, Dropout) { dropouts.check(); }

// x, h0, c0, lengths and the weights of a network.
std::vector<Array> rnn_inputs(const RnnAttrs& a, int64_t gates, int64_t width,
                              const Array& lengths) {
  const int64_t d = a.is_bidirec ? 2 : 1, h = a.hidden_size, steps = 4, batch = 3;
  const Shape state{a.num_layers * d, batch, h};
  std::vector<Array> in{noise({steps, batch, width}), noise(state, 2), noise(state, 3), lengths};
  for (int64_t k = 0; k < 2 * a.num_layers * d; ++k) {
    const int64_t from = k % 2 ? h : k < 2 * d ? width : d * h;
    in.push_back(noise({gates * h, from}, 10 + k, -0.8, 0.8));
  }
  for (int64_t k = 0; k < 2 * a.num_layers * d; ++k)
    in.push_back(noise({gates * h}, 30 + k, -0.5, 0.5));
  return in;
}

const SampleList recurrent([] {
  const auto train = [](const RnnAttrs& a) -> Record {
    return [a](const Values& x) {
      Value* state = constant(ints({2}, {1, 2}));
      return ops::rnn_train(x[0], x[1], x[2], x[3], {x.begin() + 4, x.end()}, state, a, {.p = 0.3});
    };
  };
  const GradOptions no_second{.second = false};
  const GradOptions no_cell{.second = false, .fixed = {2}};
  const Array lengths = ints({3}, {4, 2, 3});
  const RnnAttrs lstm{.mode = "LSTM", .hidden_size = 5}, gru{.mode = "GRU", .hidden_size = 3};
  const RnnAttrs both{.mode = "LSTM", .hidden_size = 3, .num_layers = 2, .is_bidirec = true};
  const RnnAttrs gru_both{.mode = "GRU", .hidden_size = 2, .num_layers = 2, .is_bidirec = true};
  const RnnAttrs simple{.mode = "RNN_TANH", .hidden_size = 4, .is_bidirec = true};
  const RnnAttrs relu{.mode = "RNN_RELU", .hidden_size = 4};
  return std::vector<Sample>{
      {"lstm", train(lstm), rnn_inputs(lstm, 4, 3, {}), no_second},
      {"gru", train(gru), rnn_inputs(gru, 3, 2, {}), no_cell},
      {"lstm, two layers, both ways, lengths", train(both), rnn_inputs(both, 4, 2, lengths),
       no_second},
      {"gru, two layers, both ways, lengths", train(gru_both), rnn_inputs(gru_both, 3, 2, lengths),
       no_cell},
      {"tanh, lengths", train(simple), rnn_inputs(simple, 1, 2, lengths), no_cell},
      {"relu", train(relu), rnn_inputs(relu, 1, 2, {}), no_cell},
  };
});

TEST(Gradient, Recurrent) { recurrent.check(); }

// rnn and its training form are the same function with the same gradients; sizes of real networks.
TEST(Gradient, RnnIsItsTrainingForm) {
  for (const RnnAttrs& a :
       {RnnAttrs{.mode = "LSTM", .hidden_size = 20, .num_layers = 2, .is_bidirec = true},
        RnnAttrs{.mode = "GRU", .hidden_size = 17, .num_layers = 2, .is_bidirec = false}}) {
    const std::vector<Array> in = rnn_inputs(a, a.mode == "LSTM" ? 4 : 3, 19, ints({3}, {4, 0, 3}));
    const Record plain = [&](const Values& x) {
      return ops::rnn(x[0], x[1], x[2], x[3], {x.begin() + 4, x.end()}, a);
    };
    const Record train = [&](const Values& x) {
      return ops::rnn_train(x[0], x[1], x[2], x[3], {x.begin() + 4, x.end()}, nullptr, a, {});
    };
    const std::vector<Array> y = run_ops(plain, in), z = run_ops(train, in);
    for (size_t k = 0; k < y.size(); ++k) expect_near(z[k], doubles_of(y[k]), 1e-5, 1e-5, "result");
    std::vector<Array> wide;
    for (const Array& t : in)
      wide.push_back(t.defined() && is_floating(t.dtype()) ? t.to(DType::kFloat64) : t);
    const std::vector<Array> g = gradients_of(plain, in), h = gradients_of(train, wide);
    for (size_t k = 0; k < g.size(); ++k) {
      double largest = 1e-3;
      for (const double v : doubles_of(h[k])) largest = std::max(largest, std::abs(v));
      expect_near(g[k], doubles_of(h[k]), 1e-4 * largest, 1e-4, "gradient " + std::to_string(k));
    }
  }
}

Record ctc(const CtcAttrs& a) {
  return [a](const Values& x) { return Values{ops::warpctc(x[0], x[1], x[2], x[3], a)[0]}; };
}

const SampleList ctcs([] {
  const GradOptions no_second{.second = false};
  return std::vector<Sample>{
      {"ctc",
       ctc({}),
       {noise({6, 4, 5}), ints({4, 3}, {1, 2, 0, 3, 3, 0, 1, 1, 1, 0, 0, 0}),
        ints({4}, {6, 5, 6, 3}), ints({4}, {2, 2, 3, 0})},
       no_second},
      {"ctc, another blank",
       ctc({.blank = 2}),
       {noise({4, 2, 3}), ints({2, 2}, {0, 1, 1, 1}), ints({2}, {4, 4}), ints({2}, {2, 2})},
       no_second},
  };
});

TEST(Gradient, Ctc) { ctcs.check(); }

// Losses and gradients of real Paddle 3.3.1, paddle.nn.functional.ctc_loss with reduction none.
TEST(Ctc, AsPaddle) {
  const Array x = ramp({5, 3, 4}, 0), labels = ints({3, 2 + 1}, {1, 2, 0, 3, 3, 0, 1, 1, 1});
  const Record run = [](const Values& v) { return ops::warpctc(v[0], v[1], v[2], v[3], {}); };
  const auto r = run_ops(run, {x, labels, ints({3}, {5, 4, 5}), ints({3}, {2, 2, 3})});
  expect_near(r[0], {3.2607059, 5.9922261, 8.1643133}, 1e-5, 0, "losses");
  std::vector<double> g = doubles_of(r[1]);
  const std::vector<double> first{
      0.0456186, -0.3463642, 0.0719833, 0.2287623, 0.1666249,  0.0461538,  0.1466764,  -0.3594547,
      0.1673661, -0.4681116, 0.0719833, 0.2287623, -0.2882847, -0.0925514, -0.0853003, 0.4661368};
  const std::vector<double> last{-0.1578654, 0.0833532, 0.0386624,  0.0358498, 0,        0, 0,
                                 0,          0.3410330, -0.9538462, 0.1466764, 0.4661368};
  for (size_t i = 0; i < first.size(); ++i) EXPECT_NEAR(g[i], first[i], 1e-6) << i;
  for (size_t i = 0; i < last.size(); ++i) EXPECT_NEAR(g[48 + i], last[i], 1e-6) << i;

  const auto short_one = run_ops(run, {x, labels, ints({3}, {5, 2, 5}), ints({3}, {2, 2, 3})});
  EXPECT_EQ(doubles_of(short_one[0])[1], 0);
  for (const int64_t t : {0, 1, 4})
    for (int64_t c = 0; c < 4; ++c) EXPECT_EQ(short_one[1].as<float>()[(t * 3 + 1) * 4 + c], 0);
  const auto by_times = run_ops(
      [](const Values& v) { return ops::warpctc(v[0], v[1], v[2], v[3], {.norm_by_times = true}); },
      {x, labels, ints({3}, {5, 4, 5}), ints({3}, {2, 2, 3})});
  EXPECT_NEAR(doubles_of(by_times[1])[0], 0.00912372, 1e-7);
}

TEST(Ctc, RefusesLabelsAndLengthsOutOfRange) {
  const auto error = [](std::vector<int64_t> labels, int64_t steps, int64_t length) {
    return error_of([&] {
      run_ops([](const Values& v) { return ops::warpctc(v[0], v[1], v[2], v[3], {}); },
              {ramp({3, 1, 4}), ints({1, 2}, labels), ints({1}, {steps}), ints({1}, {length})});
    });
  };
  EXPECT_NE(error({1, 4}, 3, 2).find("label 1 of row 0"), std::string::npos);
  EXPECT_NE(error({1, 2}, 4, 2).find("logits_length"), std::string::npos);
  EXPECT_NE(error({1, 2}, 3, 3).find("labels_length"), std::string::npos);
}

const SampleList group_norms([] {
  const auto group = [](int64_t groups) -> Record {
    return [groups](const Values& x) {
      return Values{ops::group_norm(x[0], at(x, 1), at(x, 2), groups, 1e-4)};
    };
  };
  const Record instance = [](const Values& x) {
    return Values{ops::instance_norm(x[0], at(x, 1), at(x, 2), 1e-4)};
  };
  const GradOptions no_second{.second = false};
  const Array x = noise({2, 6, 3, 4});
  return std::vector<Sample>{
      {"two groups", group(2), {x, noise({6}, 2), noise({6}, 3)}, no_second},
      {"one group", group(1), {noise({3, 4, 5}), {}, noise({4}, 3)}, no_second},
      {"no pixels", group(2), {noise({3, 8}), noise({8}, 2)}, no_second},
      {"instance", instance, {x, noise({6}, 2), noise({6}, 3)}, no_second},
      {"instance, bare", instance, {noise({2, 3, 5})}, no_second},
  };
});

TEST(Gradient, GroupNorm) { group_norms.check(); }

const SampleList resizes([] {
  const auto nearest = [](const InterpAttrs& a) -> Record {
    return [a](const Values& x) { return Values{ops::nearest_interp(x[0], a)}; };
  };
  const auto bilinear = [](const InterpAttrs& a) -> Record {
    return [a](const Values& x) { return Values{ops::bilinear_interp(x[0], a)}; };
  };
  const Array x = noise({2, 3, 4, 5});
  return std::vector<Sample>{
      {"nearest up", nearest({.size = {8, 10}}), {x}},
      {"nearest down", nearest({.size = {3, 2}}), {x}},
      {"nearest, corners", nearest({.size = {7, 3}, .align_corners = true}), {x}},
      {"bilinear up", bilinear({.size = {7, 9}, .align_mode = 0}), {x}},
      {"bilinear down", bilinear({.size = {2, 3}}), {x}},
      {"bilinear, corners", bilinear({.size = {8, 4}, .align_corners = true}), {x}},
      {"bilinear of many channels",
       bilinear({.size = {3, 5}, .scale = {1.5, 1.25}}),
       {noise({1, 70, 2, 4})}},
  };
});

TEST(Gradient, Resizes) { resizes.check(); }

Record pool(const Pool2dAttrs& a) {
  return [a](const Values& x) { return Values{ops::pool2d(x[0], a)}; };
}

const SampleList pools([] {
  const GradOptions no_second{.second = false};
  const Array x = noise({2, 3, 7, 6});
  return std::vector<Sample>{
      {"max", pool({.kernel = {2, 2}, .strides = {2, 2}}), {x}, no_second},
      {"overlapping max",
       pool({.kernel = {3, 3}, .strides = {2, 2}, .paddings = {1, 1, 1, 1}}),
       {x},
       no_second},
      {"max, ceil mode",
       pool({.kernel = {2, 3}, .strides = {2, 2}, .ceil_mode = true}),
       {x},
       no_second},
      {"adaptive max", pool({.kernel = {3, 2}, .adaptive = true}), {x}, no_second},
      {"global max", pool({.kernel = {1, 1}, .adaptive = true}), {x}, no_second},
      {"average", pool({.pooling_type = "avg", .kernel = {2, 2}, .strides = {2, 2}}), {x}},
      {"average, padding left out",
       pool({.pooling_type = "avg", .kernel = {3, 2}, .strides = {2, 1}, .paddings = {1, 1, 1, 0}}),
       {x}},
      {"average, padding counted",
       pool({.pooling_type = "avg",
             .kernel = {3, 3},
             .strides = {2, 2},
             .paddings = {1, 1, 1, 1},
             .ceil_mode = true,
             .exclusive = false}),
       {x}},
      {"adaptive average", pool({.pooling_type = "avg", .kernel = {3, 4}, .adaptive = true}), {x}},
      {"global average", pool({.pooling_type = "avg", .kernel = {1, 1}, .adaptive = true}), {x}},
      {"max with index",
       [](const Values& v) {
         return Values{ops::max_pool2d_with_index(v[0], {.kernel = {3, 3}, .strides = {2, 2}})[0]};
       },
       {noise({1, 19, 5, 5})},
       no_second},
  };
});

TEST(Gradient, Pools) { pools.check(); }

TEST(Gradient, TheFirstOfEqualMaximaGetsIt) {
  Array x(DType::kFloat64, {1, 1, 2, 2});
  std::fill_n(x.as<double>(), 4, 1.0);
  expect_near(gradients_of(pool({.kernel = {2, 2}}), {x})[0], {1, 0, 0, 0}, 0, 0, "ties");
}

// Models in half precision have biases in it too; kernels compute in float32.
TEST(Anchors, TakeABiasInHalfPrecision) {
  const std::vector<Record> all = {
      [](const Values& v) { return Values{ops::matmul(v[0], v[1], v[2])}; },
      [](const Values& v) {
        return Values{ops::conv2d(ops::reshape(v[0], {1, 32, 5, 1}),
                                  ops::reshape(v[1], {48, 32, 1, 1}), v[2], {})};
      }};
  const std::vector<Array> x = {ramp({5, 32}, 1), ramp({32, 48}, 2), ramp({48}, 3)};
  for (const Record& record : all) {
    std::vector<Array> wide, half;
    for (const Array& a : x) {
      half.push_back(a.to(DType::kBFloat16));
      wide.push_back(half.back().to(DType::kFloat64));
    }
    expect_near(run_ops(record, half)[0], doubles_of(run_ops(record, wide)[0]), 0.02, 0.01, "bias");
  }
}

// Several windows share a vector then: all numbers of channels, rows and columns left over, ties.
TEST(Gradient, MaximaOfTouchingPairs) {
  for (const int64_t channels : {1, 2, 3, 5, 6, 8, 15, 16, 20, 67}) {
    for (const auto& [h, w] : {std::pair<int64_t, int64_t>{2, 2}, {6, 28}, {7, 9}, {4, 35}}) {
      const Shape shape{2, channels, h, w};
      const Array x = ramp(shape, channels), dy = ramp({2, channels, h / 2, w / 2}, 7);
      const auto run = [&](DType dtype, Layout layout) {
        const auto record = [](const Values& v) {
          return Values{ops::pool2d_grad(v[0], v[1], {.kernel = {2, 2}, .strides = {2, 2}})};
        };
        return run_ops(record, {dy.to(dtype), x.to(dtype)}, {layout, true})[0];
      };
      const auto want = doubles_of(run(DType::kFloat64, Layout::kPlain));
      for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast})
        expect_near(run(DType::kFloat32, layout), want, 0, 0, shape.str());
    }
  }
}

TEST(MaxPool2dWithIndex, PlacesCountInThePlane) {
  const std::vector<float> values{1, 5, 2, 0, 3, 4, 9, 8, 7, 6, 5, 4};
  const Array x = Array::from({1, 1, 3, 4}, std::span<const float>(values), DType::kFloat32);
  const std::vector<Array> r = run_ops(
      [](const Values& v) {
        return ops::max_pool2d_with_index(v[0], {.kernel = {2, 2}, .paddings = {1, 0, 0, 0}});
      },
      {x});
  expect_near(r[0], {5, 5, 2, 5, 9, 9, 7, 9, 9}, 0, 0, "maxima");
  expect_near(r[1], {1, 1, 2, 1, 6, 6, 8, 6, 6}, 0, 0, "places");
}

// Values of real Paddle 3.3.1: BatchNorm1D in training, momentum 0.9.
TEST(BatchNormTrain, StatisticsAreMovedAsPaddleDoes) {
  const auto array = [](const Shape& s, std::vector<float> v) {
    return Array::from(s, std::span<const float>(v), DType::kFloat32);
  };
  const std::vector<Array> r = run_ops(
      [](const Values& x) {
        return ops::batch_norm_train(x[0], x[1], x[2], x[3], x[4], 0.9, 1e-5);
      },
      {array({2}, {0, 0}), array({2}, {1, 1}), array({3, 2}, {1, 2, 3, 5, 4, 4}),
       array({2}, {1, 1}), array({2}, {0, 0})});
  expect_near(r[0], {0.26666674, 0.36666676}, 1e-6, 0, "mean");
  expect_near(r[1], {1.0555556, 1.0555556}, 1e-6, 0, "variance");
}

// Sizes that reach the vector kernels' blocks, float32 beside float64.
TEST(Gradient, LargeConvolutions) {
  const auto check = [](const Conv2dAttrs& a, const Shape& x, const Shape& w) {
    SCOPED_TRACE(x.str() + w.str());
    const auto run = [&](DType dtype, bool spread) {
      return run_ops(
          [&](const Values& v) {
            Conv2dAttrs by_weight = a;
            by_weight.kernel = {w[2], w[3]};
            Value* y = ops::conv2d(v[0], v[1], nullptr, a);
            return Values{ops::conv2d_dgrad(y, v[1], v[0], a),
                          ops::conv2d_wgrad(v[0], y, by_weight)};
          },
          {noise(x).to(dtype), noise(w, 2, -0.1, 0.1).to(dtype)},
          {.layout = spread ? Layout::kChannelsLast : Layout::kPlain, .spread = spread});
    };
    const std::vector<Array> want = run(DType::kFloat64, false), got = run(DType::kFloat32, true);
    for (size_t k = 0; k < want.size(); ++k) {
      double largest = 0;
      for (const double v : doubles_of(want[k])) largest = std::max(largest, std::abs(v));
      expect_near(got[k], doubles_of(want[k]), 1e-5 * largest, 1e-5, "result");
    }
  };
  check({.paddings = {1, 1, 1, 1}}, {2, 40, 14, 13}, {50, 40, 3, 3});
  check({.strides = {2, 2}, .paddings = {1, 1, 1, 1}}, {2, 32, 15, 14}, {70, 32, 3, 3});
  check({.strides = {2, 2}, .paddings = {3, 3, 3, 3}}, {2, 3, 40, 44}, {24, 3, 7, 7});
  check({}, {3, 70, 20, 21}, {33, 70, 1, 1});
  check({.paddings = {1, 1, 1, 1}}, {9, 64, 7, 7}, {64, 64, 3, 3});
  check({.paddings = {2, 2, 2, 2}, .groups = 40}, {2, 40, 9, 30}, {40, 1, 5, 5});
  check({.strides = {2, 1}, .paddings = {4, 4, 4, 4}, .groups = 20}, {2, 20, 12, 20},
        {20, 1, 9, 9});
  check({.paddings = {1, 1, 1, 1}, .groups = 4}, {2, 48, 12, 12}, {64, 12, 3, 3});
}

}  // namespace
}  // namespace trireme::test
