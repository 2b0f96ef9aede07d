// Writing models: what is written is read back and computes the same, at sizes that were not
// recorded; names stay. TRIREME_EXPORT_KEEP=FOLDER keeps every case's files with input and output,
// for tools/check_export.py --cases, which runs real Paddle and ONNX Runtime on them.
#include "formats/export_model.h"

#include <cmath>
#include <cstdlib>

#include "base/npy.h"
#include "formats/context.h"
#include "formats/support.h"
#include "ops/control.h"
#include "ops/conv.h"
#include "ops/index.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "ops/reduce.h"
#include "ops/rnn.h"
#include "ops/shape.h"
#include "support/data.h"
#include "support/run_plan.h"
#include "support/temp.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using test::count_ops;
using test::error_of;
using Values = std::vector<Value*>;

// Numbers between -1 and 1 that their name decides.
Array numbers(const std::string& name, const Shape& shape, double low = -1) {
  Array a(DType::kFloat32, shape);
  uint64_t state = std::hash<std::string>{}(name) | 1;
  for (int64_t i = 0; i < a.numel(); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    a.as<float>()[i] = static_cast<float>(low + (1 - low) * static_cast<double>(state >> 40) /
                                                    static_cast<double>(1 << 24));
  }
  return a;
}

Value* param(const std::string& name, const Shape& shape, double low = -1) {
  return constant(numbers(name, shape, low), name);
}

struct Case {
  const char* name;
  std::vector<Shape> declared;  // float32; rank 2 with a second dimension of 5: int64 below 6
  std::vector<Shape> run;
  Values (*record)(const Values&);
};

RnnAttrs rnn_attrs(const std::string& mode) {
  return {.mode = mode, .hidden_size = 4, .num_layers = 2, .is_bidirec = true};
}

// x [B, T, 3], h0 of zeros that have the batch's size.
Values recurrent(const Values& in, const std::string& mode, int64_t gates) {
  Value* x = ops::transpose(in[0], {1, 0, 2});
  Values weights;
  for (int i = 0; i < 4; ++i) {
    const std::string n = std::to_string(i);
    weights.push_back(param("w_ih_" + n, Shape{gates * 4, i < 2 ? 3 : 8}));
    weights.push_back(param("w_hh_" + n, Shape{gates * 4, 4}));
  }
  for (int i = 0; i < 4; ++i) {
    weights.push_back(param("b_ih_" + std::to_string(i), Shape{gates * 4}));
    weights.push_back(param("b_hh_" + std::to_string(i), Shape{gates * 4}));
  }
  Value* zero = ops::full({4, x->type.shape[1], 4}, 0, DType::kFloat32);
  const auto y =
      ops::rnn(x, zero, mode == "LSTM" ? zero : nullptr, nullptr, weights, rnn_attrs(mode));
  return {ops::transpose(y[0], {1, 0, 2}), y[1]};
}

// ---- control flow

std::shared_ptr<Graph> graph_of(const Values& arguments, Values (*record)(const Values&)) {
  auto graph = std::make_shared<Graph>();
  graph->fold_below = 0;
  const BuilderScope scope(*graph);
  Values in;
  for (const Value* v : arguments) in.push_back(graph->add_input(v->type));
  graph->outputs = record(in);
  return graph;
}

Value* total(Value* x) { return ops::reduce(ops::sum_op, x, {}, false); }
Value* is_positive(Value* x) { return ops::greater_than(total(x), scalar(0)); }
Value* shared_weight() { return param("w", {8, 8}); }

// Both branches use one weight; sizes that are known only when the program runs enter both; a
// result may be what came in. Within: a branch in a branch.
Values branches(const Values& in) {
  const auto yes = [](const Values& v) -> Values {
    const int64_t b = v[0]->type.shape[0];
    const auto inner = [](const Values& w) -> Values { return {ops::affine(w[0], -2, 1)}; };
    const auto other = [](const Values& w) -> Values {
      return {ops::matmul(w[0], shared_weight())};
    };
    const Values some{v[0]};
    Value* y = ops::if_else(is_positive(ops::slice(v[0], {1}, {0}, {1})), some,
                            graph_of(some, inner), graph_of(some, other))[0];
    return {ops::add(y, ops::full({b, 8}, 0.25, DType::kFloat32)), v[1]};
  };
  const auto no = [](const Values& v) -> Values {
    const int64_t b = v[0]->type.shape[0], t = v[1]->type.shape[1];
    Value* wide = ops::expand(ops::reshape(param("token", {1}), {1, 1}), {b, t});
    return {ops::matmul(v[0], shared_weight()), ops::add(v[1], wide)};
  };
  Value* condition = is_positive(in[0]);
  Values out = ops::if_else(condition, in, graph_of(in, yes), graph_of(in, no));
  out.push_back(ops::cast(condition, DType::kInt32));
  out.push_back(ops::add(out[1], in[1]));
  return out;
}

// A counter, two variables that change places, a branch within, what is captured.
Values loops(const Values& in) {
  const auto body = [](const Values& v) -> Values {  // count, a, b; limit
    const auto grow = [](const Values& w) -> Values { return {ops::affine(w[0], 1.5, 0.25)}; };
    const auto shrink = [](const Values& w) -> Values {
      return {ops::matmul(w[0], shared_weight())};
    };
    Value* count = ops::affine(v[0], 1, 1);
    Value* next = ops::if_else(is_positive(v[1]), {v[1]}, graph_of({v[1]}, grow),
                               graph_of({v[1]}, shrink))[0];
    return {ops::less_than(count, v[3]), count, v[2], next};
  };
  Value* count = ops::reshape(ops::cast(ops::affine(total(in[0]), 0, 0), DType::kInt32), {});
  Value* limit = ops::affine(count, 1, 5);
  const Values variables{count, in[0], ops::affine(in[0], -1, 0)};
  Values all = variables;
  all.push_back(limit);
  Values out =
      ops::while_loop(ops::less_than(count, limit), variables, {limit}, graph_of(all, body));
  // And one that makes no round.
  const auto never = [](const Values& v) -> Values {
    return {ops::less_than(total(v[0]), scalar(0)), ops::affine(v[0], 2, 0)};
  };
  out.push_back(ops::while_loop(ops::less_than(ops::affine(total(in[0]), 0, 1), scalar(0)), {in[0]},
                                {}, graph_of({in[0]}, never))[0]);
  return out;
}

// The loop of the branch that is not taken would not end.
Values guarded(const Values& in) {
  const auto endless = [](const Values& v) -> Values {
    const auto body = [](const Values& w) -> Values {
      return {ops::less_equal(total(w[0]), scalar(1e30)), ops::affine(w[0], -1, 0)};
    };
    const Values some{v[0]};
    return {ops::while_loop(ops::less_equal(total(v[0]), scalar(1e30)), some, {},
                            graph_of(some, body))[0],
            v[0]};
  };
  const auto plain = [](const Values& v) -> Values { return {ops::affine(v[0], 2, 1), v[0]}; };
  return ops::if_else(ops::greater_than(total(in[0]), scalar(1e9)), in, graph_of(in, endless),
                      graph_of(in, plain));
}

const Case kCases[] = {
    {"conv",
     {{-1, 4, -1, -1}},
     {{2, 4, 9, 7}},
     [](const Values& in) -> Values {
       Value* y = ops::conv2d(in[0], param("conv.w", {6, 4, 3, 3}), param("conv.b", {6}),
                              {.strides = {2, 1}, .paddings = {1, 0, 2, 1}});
       Value* d = ops::conv2d(y, param("dw.w", {6, 1, 3, 3}), nullptr,
                              {.paddings = {1, 1, 1, 1}, .groups = 6});
       Value* g = ops::conv2d(d, param("group.w", {4, 3, 1, 1}), nullptr, {.groups = 2});
       return {ops::conv2d_transpose(
           g, param("up.w", {4, 3, 3, 3}), param("up.b", {3}),
           {.strides = {2, 2}, .paddings = {1, 1, 1, 1}, .output_padding = {1, 1}})};
     }},
    {"norms",
     {{-1, 6, 4, 5}},
     {{3, 6, 4, 5}},
     [](const Values& in) -> Values {
       Value* b = ops::batch_norm(in[0], param("bn.w", {6}), param("bn.b", {6}), param("bn.m", {6}),
                                  param("bn.v", {6}, 0.1), 1e-4);
       Value* g = ops::group_norm(in[0], param("gn.w", {6}), param("gn.b", {6}), 3, 1e-5);
       Value* i = ops::instance_norm(in[0], param("in.w", {6}), param("in.b", {6}), 1e-5);
       Value* l = ops::layer_norm(in[0], param("ln.w", {20}), param("ln.b", {20}), 2, 1e-6);
       Value* n = ops::layer_norm(in[0], nullptr, nullptr, 3, 1e-5);
       return {b, g, i, l, n, ops::softmax(in[0], 1), ops::log_softmax(in[0], 3)};
     }},
    {"pools",
     {{-1, 3, 12, 8}},
     {{2, 3, 12, 8}},
     [](const Values& in) -> Values {
       Value* x = in[0];
       return {ops::pool2d(x, {.kernel = {3, 2}, .strides = {2, 2}, .paddings = {1, 1, 0, 0}}),
               ops::pool2d(x, {.pooling_type = "avg",
                               .kernel = {3, 3},
                               .strides = {2, 2},
                               .paddings = {1, 1, 1, 1}}),
               ops::pool2d(x, {.pooling_type = "avg",
                               .kernel = {3, 3},
                               .strides = {2, 2},
                               .paddings = {1, 1, 1, 1},
                               .exclusive = false}),
               ops::pool2d(x, {.pooling_type = "avg", .kernel = {1, 1}, .adaptive = true}),
               ops::pool2d(x, {.pooling_type = "avg", .kernel = {3, 4}, .adaptive = true})};
     }},
    {"resize",
     {{-1, 2, -1, -1}},
     {{2, 2, 5, 6}},
     [](const Values& in) -> Values {
       Value* x = in[0];
       const int64_t h = x->type.shape[2], w = x->type.shape[3];
       return {ops::nearest_interp(x, {.size = {2 * h, 2 * w}, .scale = {2, 2}}),
               ops::bilinear_interp(x, {.size = {2 * h, 2 * w}, .scale = {2, 2}, .align_mode = 0}),
               ops::bilinear_interp(x, {.size = {7, 9}, .align_corners = true}),
               ops::nearest_interp(x, {.size = {11, 4}}),
               ops::bilinear_interp(x, {.size = {10, 3}})};
     }},
    {"products",
     {{-1, 4, 6}},
     {{3, 4, 6}},
     [](const Values& in) -> Values {
       Value* y = ops::matmul(in[0], param("fc.w", {6, 5}), param("fc.b", {5}));
       Value* s = ops::matmul(in[0], in[0], nullptr, false, true);
       return {y, ops::matmul(s, in[0]), ops::matmul(in[0], y, nullptr, true, false)};
     }},
    {"activations",
     {{-1, 3, 7}},
     {{2, 3, 7}},
     [](const Values& in) -> Values {
       Value* x = ops::affine(in[0], 4, 0.5);
       return {ops::relu(x),
               ops::relu6(x),
               ops::leaky_relu(x, 0.1),
               ops::elu(x, 0.7),
               ops::sigmoid(x),
               ops::hardsigmoid(x, 0.2, 0.4),
               ops::hardswish(x),
               ops::swish(x, 1),
               ops::swish(x, 1.5),
               ops::mish(x),
               ops::gelu(x),
               ops::gelu_tanh(x),
               ops::tanh(x),
               ops::softplus(x, 2, 20),
               ops::clip(x, -1, 2),
               ops::prelu(x, param("slope", {3, 1}))};
     }},
    {"functions",
     {{-1, 9}},
     {{4, 9}},
     [](const Values& in) -> Values {
       Value* x = ops::affine(in[0], 1, 1.5);
       return {ops::exp(x),
               ops::log(x),
               ops::sqrt(x),
               ops::rsqrt(x),
               ops::square(x),
               ops::abs(in[0]),
               ops::floor(ops::affine(x, 3, 0)),
               ops::ceil(x),
               ops::erf(x),
               ops::sin(x),
               ops::cos(x),
               ops::reciprocal(x),
               ops::pow(x, 1.7),
               ops::round(ops::affine(x, 3.3, 0))};
     }},
    {"arithmetic",
     {{-1, 3, 4}, {-1, 1, 4}},
     {{2, 3, 4}, {2, 1, 4}},
     [](const Values& in) -> Values {
       Value *x = ops::affine(in[0], 3, 0), *y = ops::affine(in[1], 1, 1.5);
       Value* less = ops::less_than(x, y);
       Value* big = ops::greater_equal(x, scalar(0.5));
       return {ops::add(x, y),
               ops::subtract(x, y),
               ops::multiply(param("s", {1}), x),
               ops::divide(x, y),
               ops::maximum(x, y),
               ops::minimum(x, y),
               ops::elementwise_pow(y, x),
               ops::remainder(x, y),
               ops::floor_divide(x, y),
               ops::where(less, x, y),
               ops::where(big, x, scalar(0)),
               ops::cast(ops::logical_xor(less, big), DType::kInt32),
               ops::cast(ops::logical_and(ops::logical_not(less), ops::not_equal(x, y)),
                         DType::kFloat32),
               ops::cast(ops::logical_or(ops::less_equal(x, y), ops::equal(x, y)), DType::kInt64),
               ops::cast(ops::greater_than(x, y), DType::kFloat32)};
     }},
    {"reductions",
     {{-1, 3, 4}},
     {{2, 3, 4}},
     [](const Values& in) -> Values {
       Value* x = in[0];
       Value* positive = ops::greater_than(x, scalar(0));
       return {ops::reduce(ops::sum_op, x, {1}, false),
               ops::reduce(ops::mean_op, x, {1, 2}, true),
               ops::reduce(ops::max_op, x, {2}, false),
               ops::reduce(ops::min_op, x, {}, false),
               ops::reduce(ops::prod_op, x, {2}, true),
               ops::cast(ops::reduce(ops::any_op, positive, {2}, false), DType::kInt32),
               ops::cast(ops::reduce(ops::all_op, positive, {1}, true), DType::kInt32),
               ops::cumsum(x, 2, false, false, false),
               ops::cumsum(x, 1, false, true, true)};
     }},
    {"shapes",
     {{-1, 6, -1}},
     {{2, 6, 7}},
     [](const Values& in) -> Values {
       Value* x = in[0];
       const int64_t b = x->type.shape[0], t = x->type.shape[2];
       Value* heads = ops::transpose(ops::reshape(x, {b, 2, 3, t}), {0, 3, 1, 2});
       Value* merged = ops::reshape(heads, {b * t, 6});
       Value* back = ops::reshape(merged, {b, t, 6});
       Value* wide = ops::expand(ops::slice(x, {1}, {0}, {1}), {b, 4, t});
       return {heads,
               merged,
               back,
               wide,
               ops::expand(param("token", {1, 6, 1}), {b, 6, t}),
               ops::slice(x, {1, 2}, {1, t - 3}, {5, t}),
               ops::slice(x, {1}, {4}, {0}, {-2}),
               ops::slice(x, {2}, {0}, {t - 1}),
               ops::flip(x, {1, 2}),
               ops::tile(x, {1, 2, 3}),
               ops::concat({x, wide, ops::full({b, 1, t}, 2, DType::kFloat32)}, 1),
               ops::pad(x, {0, 0, 1, 0, 2, 1}, "constant", 0.5),
               ops::pad(x, {0, 0, 0, 0, 2, 1}, "reflect", 0),
               ops::pad(x, {0, 0, 0, 0, 1, 2}, "replicate", 0)};
     }},
    {"indices",
     {{-1, 5}, {-1, 4, 6}},
     {{3, 5}, {3, 4, 6}},
     [](const Values& in) -> Values {
       Value* ids = in[0];
       Value* x = in[1];
       Value* table = param("embedding.w", {6, 8});
       const std::vector<int64_t> picks{3, 0, 2};
       Value* some = constant(Array::from<int64_t>(Shape{3}, picks, DType::kInt64));
       const auto top = ops::topk(x, 2, 2, true, true);
       return {ops::embedding(table, ids),
               ops::embedding(table, ids, 2),
               ops::one_hot(ids, 6),
               ops::gather(x, some, 1),
               ops::gather(table, ids, 0),
               top[0],
               top[1],
               ops::argmax(x, 2, false, false, DType::kInt64),
               ops::argmax(x, 1, true, false, DType::kInt32, true),
               ops::gather_nd(x, constant(Array::from<int64_t>(
                                     Shape{1, 2}, std::vector<int64_t>{0, 3}, DType::kInt64)))};
     }},
    {"lstm",
     {{-1, -1, 3}},
     {{2, 5, 3}},
     [](const Values& in) -> Values { return recurrent(in, "LSTM", 4); }},
    {"gru",
     {{-1, -1, 3}},
     {{2, 5, 3}},
     [](const Values& in) -> Values { return recurrent(in, "GRU", 3); }},
    {"rnn_tanh",
     {{-1, -1, 3}},
     {{2, 5, 3}},
     [](const Values& in) -> Values { return recurrent(in, "RNN_TANH", 1); }},
    {"branch", {{-1, 8}, {-1, -1}}, {{3, 8}, {3, 4}}, branches},
    {"other_branch",
     {{-1, 8}, {-1, -1}},
     {{3, 8}, {3, 4}},
     [](const Values& in) {
       return branches({ops::affine(in[0], -1, 0), in[1]});
     }},
    {"loop", {{-1, 8}}, {{3, 8}}, loops},
    {"guarded_loop", {{-1, 8}}, {{3, 8}}, guarded},
};

bool is_index(const Shape& s) { return s.rank() == 2 && s[1] == 5; }

std::vector<Array> inputs_of(const Case& c) {
  std::vector<Array> arrays;
  for (const Shape& s : c.run) {
    arrays.push_back(numbers("input" + std::to_string(arrays.size()), s));
    if (!is_index(s)) continue;
    Array ids(DType::kInt64, s);
    for (int64_t i = 0; i < ids.numel(); ++i) ids.as<int64_t>()[i] = (i * 7 + 2) % 6;
    arrays.back() = ids;
  }
  return arrays;
}

ExportModel model_of(const Case& c, size_t outputs) {
  ExportSpec spec;
  for (const Shape& s : c.declared)
    spec.inputs.push_back({"x" + std::to_string(spec.inputs.size()),
                           is_index(s) ? DType::kInt64 : DType::kFloat32, s});
  for (size_t i = 0; i < outputs; ++i) spec.outputs.push_back("y" + std::to_string(i));
  return ExportModel(spec, c.record);
}

template <class F> std::vector<Array> run(const std::vector<Array>& inputs, F record) {
  auto graph = std::make_unique<Graph>();
  const BuilderScope scope(*graph);
  Values in;
  for (const Array& a : inputs) in.push_back(graph->add_input({a.dtype(), a.shape()}));
  graph->outputs = record(in);
  graph->drop_unused();
  return test::run_on(find_device("cpu"), std::move(graph), inputs);
}

void expect_close(const std::vector<Array>& expected, const std::vector<Array>& got) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    SCOPED_TRACE("output " + std::to_string(i));
    EXPECT_EQ(got[i].dtype(), expected[i].dtype());
    ASSERT_EQ(got[i].shape(), expected[i].shape());
    const auto a = numbers_of(expected[i]), b = numbers_of(got[i]);
    for (size_t k = 0; k < a.size(); ++k)
      ASSERT_NEAR(a[k], b[k], 1e-5 * std::max(1.0, std::abs(a[k]))) << k;
  }
}

void keep(const Case& c, const std::vector<Array>& inputs, const std::vector<Array>& outputs,
          const ExportModel& model) {
  const char* root = std::getenv("TRIREME_EXPORT_KEEP");
  if (root == nullptr) return;
  const fs::path folder = fs::path(root) / c.name;
  fs::create_directories(folder);
  for (size_t i = 0; i < inputs.size(); ++i)
    write_npy((folder / ("in" + std::to_string(i) + ".npy")).string(), inputs[i]);
  for (size_t i = 0; i < outputs.size(); ++i)
    write_npy((folder / ("out" + std::to_string(i) + ".npy")).string(), outputs[i]);
  write_model(model, ExportFormat::kPdmodel, (folder / "pdmodel").string());
  write_model(model, ExportFormat::kPir, (folder / "pir").string());
  write_model(model, ExportFormat::kOnnx, (folder / "onnx").string());
}

class Export : public testing::TestWithParam<Case> {};

TEST_P(Export, ComputesTheSameWhenReadBack) {
  const Case& c = GetParam();
  const std::vector<Array> inputs = inputs_of(c);
  const std::vector<Array> expected = run(inputs, c.record);
  const ExportModel model = model_of(c, expected.size());
  for (const ExportFormat format : {ExportFormat::kPdmodel, ExportFormat::kPir}) {
    SCOPED_TRACE(format == ExportFormat::kPir ? "pir" : "pdmodel");
    const test::TempFolder folder;
    write_model(model, format, folder.path());
    const auto program = load_program(folder.path());
    expect_close(expected, run(inputs, [&](const Values& in) { return program->record(in); }));
  }
  const test::TempFolder folder;
  write_model(model, ExportFormat::kOnnx, folder.path());
  EXPECT_GT(fs::file_size(folder / "model.onnx"), 100u);
  keep(c, inputs, expected, model);
}

INSTANTIATE_TEST_SUITE_P(All, Export, testing::ValuesIn(kCases),
                         [](const auto& given) { return std::string(given.param.name); });

TEST(ExportModel, BatchNormsGoIntoTheConvolutionsBeforeThem) {
  const Case c{
      "merge", {{-1, 4, -1, -1}}, {{2, 4, 9, 7}}, [](const Values& in) -> Values {
        const auto norm = [](Value* x, const std::string& n) {
          const Shape s{x->type.shape[1]};
          return ops::batch_norm(x, param(n + ".w", s), param(n + ".b", s), param(n + ".m", s),
                                 param(n + ".v", s, 0.1), 1e-5);
        };
        Value* x =
            norm(ops::conv2d(in[0], param("conv.w", {6, 2, 3, 3}), nullptr, {.groups = 2}), "a");
        x = norm(ops::conv2d_transpose(x, param("up.w", {6, 2, 3, 3}), param("up.b", {4}),
                                       {.groups = 2}),
                 "b");
        // Not these: no convolution before it, and one whose result is needed as it is.
        Value* y = ops::conv2d(norm(ops::relu(x), "c"), param("last.w", {4, 4, 1, 1}), nullptr, {});
        return {norm(y, "d"), y};
      }};
  const std::vector<Array> inputs = inputs_of(c), expected = run(inputs, c.record);
  ExportSpec spec{{{"x", DType::kFloat32, c.declared[0]}}, {"y", "z"}, true};
  const ExportModel model(spec, c.record);
  EXPECT_EQ(count_ops(model.graph()).at("batch_norm"), 2);
  for (const ExportFormat format : {ExportFormat::kPdmodel, ExportFormat::kPir}) {
    const test::TempFolder folder;
    write_model(model, format, folder.path());
    const auto program = load_program(folder.path());
    EXPECT_EQ(program->parameters()[0].name, "a.b");  // the bias that conv had not
    expect_close(expected, run(inputs, [&](const Values& in) { return program->record(in); }));
  }
}

TEST(ExportModel, KeepsTheNamesOfParametersInputsAndOutputs) {
  const ExportModel model = model_of(kCases[0], 1);
  for (const ExportFormat format : {ExportFormat::kPdmodel, ExportFormat::kPir}) {
    const test::TempFolder folder;
    write_model(model, format, folder.path());
    const auto program = load_program(folder.path());
    std::vector<std::string> names;
    for (const auto& p : program->parameters()) names.push_back(p.name);
    EXPECT_EQ(names,
              (std::vector<std::string>{"conv.b", "conv.w", "dw.w", "group.w", "up.b", "up.w"}));
    EXPECT_EQ(program->inputs()[0].name, "x0");
    EXPECT_EQ(program->inputs()[0].shape, (Shape{-1, 4, -1, -1}));
    EXPECT_EQ(program->outputs()[0].name, format == ExportFormat::kPir ? "fetch_name_0" : "y0");
  }
}

TEST(ExportModel, SaysWhatDependsOnTheSize) {
  const Case c{"size", {{-1, 8}}, {}, [](const Values& in) -> Values {
                 const int64_t n = in[0]->type.shape[0];
                 return {ops::add(
                     in[0], ops::reshape(ops::arange(0, static_cast<double>(n), 1, DType::kFloat32),
                                         {n, 1}))};
               }};
  const test::TempFolder folder;
  const Error error =
      error_of([&] { write_model(model_of(c, 1), ExportFormat::kPir, folder.path()); });
  EXPECT_EQ(error.code(), Code::kUnimplemented);
  EXPECT_HAS(error.what(), "depends on the size of the inputs");
}

TEST(ExportModel, NamesOperatorsWithoutAFormInBranchesToo) {
  const Case c{"if", {{-1, 8}}, {}, [](const Values& in) -> Values {
                 const auto branch = graph_of(
                     in, [](const Values& v) -> Values { return {ops::cumprod(v[0], 1)}; });
                 return ops::if_else(is_positive(in[0]), in, branch, branch);
               }};
  const test::TempFolder folder;
  for (const ExportFormat format :
       {ExportFormat::kPdmodel, ExportFormat::kPir, ExportFormat::kOnnx}) {
    const Error error = error_of([&] { write_model(model_of(c, 1), format, folder.path()); });
    EXPECT_HAS(error.what(), "no form for: 'cumprod'");
  }
}

TEST(ExportModel, ControlFlowOfPaddlesNetComputesTheSame) {
  TRI_NEEDS_DATA("paddle_models/control_flow");
  const fs::path source = test::data_folder() / "paddle_models/control_flow";
  const auto array = [&](const std::string& name) { return read_npy((source / name).string()); };
  const ExportModel model = export_of(*load_program(source.string()));
  for (const ExportFormat format : {ExportFormat::kPdmodel, ExportFormat::kPir}) {
    const test::TempFolder folder;
    write_model(model, format, folder.path());
    const auto same = load_program(folder.path());
    for (const std::string of : {".case0.npy", ".case1.npy"}) {
      SCOPED_TRACE(of);
      expect_close({array("output_0" + of), array("output_1" + of)},
                   run({array("input" + of)}, [&](const Values& in) { return same->record(in); }));
    }
  }
}

TEST(ExportModel, PaddlesNetsComputeTheSame) {
  TRI_NEEDS_DATA("paddle_models/lenet");
  for (const char* name : {"lenet", "conv_bn_relu_pool", "transformer", "bilstm", "mixed_ops"}) {
    SCOPED_TRACE(name);
    const fs::path source = test::data_folder() / "paddle_models" / name;
    const auto program = load_program(source.string());
    const std::vector<Array> inputs{read_npy((source / "input.npy").string())};
    const auto expected = run(inputs, [&](const Values& in) { return program->record(in); });
    const ExportModel model = export_of(*program);
    for (const ExportFormat format : {ExportFormat::kPdmodel, ExportFormat::kPir}) {
      const test::TempFolder folder;
      write_model(model, format, folder.path());
      const auto same = load_program(folder.path());
      expect_close(expected, run(inputs, [&](const Values& in) { return same->record(in); }));
    }
  }
}

}  // namespace
}  // namespace trireme
