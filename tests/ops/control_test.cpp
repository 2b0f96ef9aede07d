// if and while with a stand-in for the planner, and rnn in sizes that reach every block of its
// product.
#include <cmath>
#include <map>

#include "ops/control.h"
#include "ops/op_test.h"
#include "ops/pointwise.h"
#include "ops/rnn.h"

namespace trireme::test {
namespace {

// Runs a graph node by node, its values in memory of their own.
Kernel interpret(const Graph& graph) {
  return {[&graph](const Launch& l) {
    std::map<const Value*, void*> at;
    std::vector<std::vector<char>> memory;
    const auto bytes = [&](const Value* v) {
      return memory.emplace_back(v->type.bytes() + 1).data();
    };
    for (size_t i = 0; i < graph.inputs.size(); ++i) at[graph.inputs[i]] = l.in[i];
    for (const auto& n : graph.nodes) {
      if (n->op == &kConstant) at[n->out()] = const_cast<void*>(constant_of(n->out())->data());
      if (n->op->cpu == nullptr) continue;
      std::vector<void*> in, out;
      for (const Value* v : n->inputs) in.push_back(v ? at.at(v) : nullptr);
      for (const auto& v : n->outputs) out.push_back(at[v.get()] = bytes(v.get()));
      const Kernel k = n->op->cpu(Prepare{.node = *n});
      std::vector<char> scratch(k.scratch + 64);
      k.run(Launch{in.data(), out.data(),
                   scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64});
    }
    for (size_t i = 0; i < graph.outputs.size(); ++i)
      std::memcpy(l.out[i], at.at(graph.outputs[i]), graph.outputs[i]->type.bytes());
  }};
}

Array of_floats(std::initializer_list<float> values) {
  const std::vector<float> v(values);
  return Array::from(Shape{static_cast<int64_t>(v.size())}, std::span<const float>(v),
                     DType::kFloat32);
}

std::vector<std::vector<double>> run_node(const Node& node, std::vector<Array> inputs) {
  const Kernel k = node.op->cpu(Prepare{.node = node, .plan_subgraph = interpret});
  std::vector<void*> in, out;
  for (Array& t : inputs) in.push_back(t.data());
  std::vector<Array> results;
  for (const auto& v : node.outputs) results.emplace_back(v->type.dtype, v->type.shape);
  for (Array& t : results) out.push_back(t.data());
  Array scratch(DType::kUInt8, Shape{static_cast<int64_t>(k.scratch)});
  k.run(Launch{in.data(), out.data(), scratch.data()});
  std::vector<std::vector<double>> numbers;
  for (const Array& t : results) numbers.push_back(doubles_of(t));
  return numbers;
}

Array flag(bool value) {
  Array t(DType::kBool, Shape{});
  *t.as<bool>() = value;
  return t;
}

std::shared_ptr<Graph> build(
    std::initializer_list<Type> inputs,
    const std::function<std::vector<Value*>(const std::vector<Value*>&)>& body) {
  auto graph = std::make_shared<Graph>();
  const BuilderScope scope(*graph);
  for (const Type& t : inputs) graph->add_input(t);
  graph->outputs = body(graph->inputs);
  return graph;
}

TEST(If, RunsTheChosenBranch) {
  const Type type{DType::kFloat32, {2}};
  const auto twice = build({type}, [](const auto& v) { return std::vector{ops::add(v[0], v[0])}; });
  const auto square =
      build({type}, [](const auto& v) { return std::vector{ops::multiply(v[0], v[0])}; });
  Graph graph;
  const BuilderScope scope(graph);
  Value* condition = graph.add_input({DType::kBool, {}});
  Value* x = graph.add_input(type);
  const Node& node = *ops::if_else(condition, {x}, twice, square)[0]->node;
  EXPECT_EQ(run_node(node, {flag(true), of_floats({3, 5})})[0], (std::vector<double>{6, 10}));
  EXPECT_EQ(run_node(node, {flag(false), of_floats({3, 5})})[0], (std::vector<double>{9, 25}));
  const auto longer =
      build({type}, [](const auto&) { return std::vector{scalar(1, DType::kFloat32)}; });
  EXPECT_EQ(error_of([&] { ops::if_else(condition, {x}, twice, longer); }),
            "[if] result 0 of the branches expects one type, got float32[2] and float32[]");
}

TEST(While, VariablesGoRoundUntilTheConditionFalls) {
  const Type type{DType::kFloat32, {1}};
  // (count, sum; limit): count + 1, sum + count, going on while count + 1 < limit; the two change
  // places on the way.
  const auto body = build({type, type, type}, [](const auto& v) {
    Value* next = ops::add(v[0], scalar(1, DType::kFloat32));
    return std::vector{ops::less_than(next, v[2]), next, ops::add(v[1], v[0])};
  });
  Graph graph;
  const BuilderScope scope(graph);
  Value* condition = graph.add_input({DType::kBool, {}});
  Value *count = graph.add_input(type), *sum = graph.add_input(type),
        *limit = graph.add_input(type);
  const auto results = ops::while_loop(condition, {count, sum}, {limit}, body);
  ASSERT_EQ(results.size(), 2u);
  const Node& node = *results[0]->node;
  for (const float n : {1.f, 2.f, 5.f, 6.f}) {
    const auto y = run_node(node, {flag(true), of_floats({0}), of_floats({10}), of_floats({n})});
    EXPECT_EQ(y[0][0], n);
    EXPECT_EQ(y[1][0], 10 + n * (n - 1) / 2);
  }
  const auto none = run_node(node, {flag(false), of_floats({7}), of_floats({8}), of_floats({9})});
  EXPECT_EQ(none, (std::vector<std::vector<double>>{{7}, {8}}));
}

// One direction of an LSTM in double; gates i, f, g, o.
std::vector<double> lstm(const Array& x, const Array& w_ih, const Array& w_hh, const Array& b_ih,
                         const Array& b_hh) {
  const auto xs = doubles_of(x), wi = doubles_of(w_ih), wh = doubles_of(w_hh),
             bi = doubles_of(b_ih), bh = doubles_of(b_hh);
  const auto steps = size_t(x.shape()[0]), batch = size_t(x.shape()[1]), in = size_t(x.shape()[2]),
             n = size_t(w_hh.shape()[1]);
  std::vector<double> h(batch * n, 0), c(batch * n, 0), y, next(batch * n), gate(4 * n);
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  for (size_t t = 0; t < steps; ++t) {
    for (size_t b = 0; b < batch; ++b) {
      for (size_t g = 0; g < 4 * n; ++g) {
        gate[g] = bi[g] + bh[g];
        for (size_t k = 0; k < in; ++k) gate[g] += wi[g * in + k] * xs[(t * batch + b) * in + k];
        for (size_t k = 0; k < n; ++k) gate[g] += wh[g * n + k] * h[b * n + k];
      }
      for (size_t k = 0; k < n; ++k) {
        double& cell = c[b * n + k];
        cell = sigmoid(gate[n + k]) * cell + sigmoid(gate[k]) * std::tanh(gate[2 * n + k]);
        next[b * n + k] = sigmoid(gate[3 * n + k]) * std::tanh(cell);
      }
    }
    h = next;
    y.insert(y.end(), h.begin(), h.end());
  }
  return y;
}

TEST(Rnn, LstmOfManySizes) {
  for (const auto& [batch, hidden] :
       {std::pair<int64_t, int64_t>{1, 48}, {5, 17}, {9, 33}, {16, 5}}) {
    const int64_t in = 7;
    const auto small = [](const Shape& shape, int64_t seed) {
      Array t = ramp(shape, seed);
      for (int64_t i = 0; i < t.numel(); ++i) t.as<float>()[i] *= 0.25f;
      return t;
    };
    const Array x = small({6, batch, in}, 1), wi = small({4 * hidden, in}, 2),
                wh = small({4 * hidden, hidden}, 3);
    const Array bi = small({4 * hidden}, 4), bh = small({4 * hidden}, 5);
    const RnnAttrs attrs{"LSTM", hidden, 1, false};
    const auto record = [&](const auto& v) {
      return ops::rnn(v[0], nullptr, nullptr, nullptr, {v[1], v[2], v[3], v[4]}, attrs);
    };
    for (const bool constants : {false, true})
      expect_near(run_ops(record, {x, wi, wh, bi, bh}, {Layout::kPlain, constants})[0],
                  lstm(x, wi, wh, bi, bh), 2e-6, 1e-5, "lstm");
  }
}

}  // namespace
}  // namespace trireme::test
