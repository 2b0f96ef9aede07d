// The gradient checker, and the test that every operator has a rule or a reason.
#include "ops/grad_test.h"

#include <gtest/gtest-spi.h>

#include <algorithm>
#include <cmath>

#include "ops/anchor.h"
#include "passes/gradient.h"
#include "passes/pass.h"
#include "runtime/plan.h"

namespace trireme::test {
namespace {

// `record` and its gradient as one Record: inputs are those of `record`, then one out_grad for each
// floating result; results are the gradients of the inputs `wrt`.
Record gradient_record(const Record& record, std::vector<size_t> wrt, size_t inputs) {
  return [=](const std::vector<Value*>& values) {
    const std::vector<Value*> x(values.begin(), values.begin() + static_cast<int64_t>(inputs));
    std::vector<Value*> outputs, grads, targets;
    size_t next = inputs;
    for (Value* v : record(x)) {
      if (!is_floating(v->type.dtype)) continue;
      outputs.push_back(v);
      grads.push_back(values[next++]);
    }
    for (const size_t i : wrt) targets.push_back(x[i]);
    std::vector<Value*> result = gradients(outputs, grads, targets);
    for (size_t i = 0; i < result.size(); ++i)
      if (result[i] == nullptr) {
        ADD_FAILURE() << "no gradient reaches input " << wrt[i];
        result[i] = targets[i];
      }
    return result;
  };
}

std::vector<Array> cast_floating(const std::vector<Array>& inputs, DType dtype) {
  std::vector<Array> r;
  for (const Array& t : inputs)
    r.push_back(t.defined() && is_floating(t.dtype()) ? t.to(dtype) : t);
  return r;
}

std::vector<size_t> differentiable(const std::vector<Array>& inputs, const GradOptions& options) {
  std::vector<size_t> wrt;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].defined() && is_floating(inputs[i].dtype()) &&
        std::find(options.fixed.begin(), options.fixed.end(), i) == options.fixed.end())
      wrt.push_back(i);
  return wrt;
}

// Inputs of the gradient's graph: the inputs, then a random out_grad for each floating result.
std::vector<Array> with_out_grads(const Record& record, const std::vector<Array>& inputs) {
  std::vector<Array> all = inputs;
  int64_t seed = 71;
  for (const Array& out : run_ops(record, inputs))
    if (is_floating(out.dtype())) all.push_back(noise(out.shape(), seed++).to(out.dtype()));
  return all;
}

// The derivative of sum(results * out_grads) by element `at` of input `i`.
double difference(const Record& record, std::vector<Array> inputs, const std::vector<Array>& grads,
                  size_t i, int64_t at, double step) {
  const Array original = inputs[i];
  std::vector<double> side[2];
  double width = 0;
  for (const int s : {0, 1}) {
    Array moved(original.dtype(), original.shape());
    std::copy_n(original.as<double>(), original.numel(), moved.as<double>());
    double& x = moved.as<double>()[at];
    x += s == 0 ? step : -step;
    width += s == 0 ? x : -x;
    inputs[i] = moved;
    for (const Array& out : run_ops(record, inputs)) {
      if (!is_floating(out.dtype())) continue;
      const std::vector<double> values = doubles_of(out);
      side[s].insert(side[s].end(), values.begin(), values.end());
    }
  }
  double sum = 0;
  size_t k = 0;
  for (const Array& g : grads)
    for (const double v : doubles_of(g)) sum += v * (side[0][k] - side[1][k]), ++k;
  return sum / width;
}

bool differences_agree(const Record& record, const std::vector<Array>& inputs,
                       const std::vector<size_t>& wrt, const std::vector<Array>& all,
                       const std::vector<Array>& gradients, const GradOptions& options) {
  const std::vector<Array> grads(all.begin() + static_cast<int64_t>(inputs.size()), all.end());
  for (size_t k = 0; k < wrt.size(); ++k) {
    const Array& got = gradients[k];
    if (got.shape() != inputs[wrt[k]].shape() || got.dtype() != DType::kFloat64) {
      ADD_FAILURE() << "gradient of input " << wrt[k] << " is " << name_of(got.dtype())
                    << got.shape().str();
      return false;
    }
    for (int64_t at = 0; at < got.numel(); ++at) {
      const double g = got.as<double>()[at];
      const double want = difference(record, inputs, grads, wrt[k], at, options.step);
      if (std::abs(g - want) <= options.tolerance * (0.5 + std::abs(want))) continue;
      ADD_FAILURE() << "gradient of input " << wrt[k] << ", element " << at << ": " << g << " for "
                    << want;
      return false;
    }
  }
  return true;
}

void expect_close(const std::vector<Array>& got, const std::vector<Array>& want, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t k = 0; k < got.size(); ++k) {
    ASSERT_EQ(got[k].shape(), want[k].shape()) << what;
    const std::vector<double> w = doubles_of(want[k]);
    double largest = 1e-3;
    for (const double v : w) largest = std::max(largest, std::abs(v));
    expect_near(got[k], w, tolerance * largest, tolerance,
                what + ", gradient " + std::to_string(k));
  }
}

// The gradient's gradient; rules that have none say so.
void check_second(const Record& gradient, const std::vector<Array>& all, GradOptions options) {
  options.second = options.single = options.layouts = false;
  options.tolerance *= 10;
  // Piecewise linear operators have gradients that do not depend on x at all: only inputs that the
  // second gradient reaches are compared, the others must not matter.
  const std::vector<size_t> wrt = differentiable(all, options);
  const auto masked = [&](const std::vector<Value*>& values) {
    std::vector<Value*> results = gradient(values);
    for (const size_t i : wrt) results.push_back(values[i]);  // so that a gradient always comes
    return results;
  };
  try {
    check_gradients(masked, all, options);
  } catch (const Error& e) {
    if (e.code() != Code::kUnimplemented) throw;
    ADD_FAILURE() << e.message() << " (say GradOptions::second = false)";
  }
}

// As a plan runs it: all passes, memory shared. Every input is given at run time.
std::vector<Array> run_planned(const Record& record, const std::vector<Array>& inputs) {
  auto graph = std::make_unique<Graph>();
  {
    const BuilderScope scope(*graph);
    std::vector<Value*> values;
    for (const Array& t : inputs)
      values.push_back(t.defined() ? graph->add_input({t.dtype(), t.shape()}) : nullptr);
    graph->outputs = record(values);
  }
  run_passes(*graph, PassContext{cpu_target()});
  const Plan plan(std::move(graph), nullptr);
  std::vector<Array> results;
  std::vector<void*> in, out;
  for (const Array& t : inputs)
    if (t.defined()) in.push_back(const_cast<void*>(t.data()));
  for (const Value* v : plan.graph().outputs) {
    results.emplace_back(v->type.dtype, v->type.shape);
    out.push_back(results.back().data());
  }
  std::vector<char> arena(static_cast<size_t>(plan.arena_bytes()) + 64);
  char* start = arena.data() + (64 - reinterpret_cast<uintptr_t>(arena.data()) % 64) % 64;
  plan.run(in, out, start);
  return results;
}

std::vector<std::vector<Sample> (*)()>& lists() {
  static std::vector<std::vector<Sample> (*)()> all;
  return all;
}

}  // namespace

void check_gradients(const Record& record, const std::vector<Array>& inputs,
                     const GradOptions& options) {
  const std::vector<Array> single = cast_floating(inputs, DType::kFloat32);
  const std::vector<Array> x = cast_floating(single, DType::kFloat64);
  const std::vector<size_t> wrt = differentiable(x, options);
  const Record gradient = gradient_record(record, wrt, x.size());
  const std::vector<Array> all = with_out_grads(record, x);
  const std::vector<Array> want = run_ops(gradient, all);
  if (!differences_agree(record, x, wrt, all, want, options)) return;
  if (options.single) {
    const std::vector<Array> floats = cast_floating(all, DType::kFloat32);
    expect_close(run_ops(gradient, floats), want, options.float32, "float32");
    expect_close(run_planned(gradient, floats), want, options.float32, "planned");
    if (options.layouts)
      expect_close(run_ops(gradient, floats, {.layout = Layout::kChannelsLast, .spread = true}),
                   want, options.float32, "channels-last");
  }
  if (options.second) check_second(gradient, all, options);
}

std::vector<Array> gradients_of(const Record& record, const std::vector<Array>& inputs) {
  std::vector<Array> all = inputs;
  for (const Array& out : run_ops(record, inputs)) {
    if (!is_floating(out.dtype())) continue;
    Array ones(DType::kFloat64, out.shape());
    std::fill(ones.as<double>(), ones.as<double>() + ones.numel(), 1.0);
    all.push_back(ones.to(out.dtype()));
  }
  return run_ops(gradient_record(record, differentiable(inputs, {}), inputs.size()), all);
}

Array noise(const Shape& shape, int64_t seed, double low, double high) {
  Array t(DType::kFloat64, shape);
  for (int64_t i = 0; i < t.numel(); ++i) {
    const double golden = 0.61803398874989485 * static_cast<double>(i + 1 + 17 * seed);
    const double at = low + (high - low) * (golden - std::floor(golden));
    double v = std::floor(at * 512) / 512;
    if (static_cast<int64_t>(std::floor(at * 512)) % 4 == 0) v += 1.0 / 512;
    t.as<double>()[i] = v <= low ? low + 1.0 / 512 : v;
  }
  return t.to(DType::kFloat32);
}

Array ints(const Shape& shape, const std::vector<int64_t>& values) {
  return Array::from(shape, std::span<const int64_t>(values), DType::kInt64);
}

SampleList::SampleList(std::vector<Sample> (*make)()) : make_(make) { lists().push_back(make); }

void SampleList::check() const {
  for (const Sample& s : make_()) {
    SCOPED_TRACE(s.name);
    try {
      check_gradients(s.record, s.inputs, s.options);
    } catch (const Error& e) { ADD_FAILURE() << e.message(); }
  }
}

std::vector<Sample> all_samples() {
  std::vector<Sample> all;
  for (const auto make : lists())
    for (Sample& s : make()) all.push_back(std::move(s));
  return all;
}

GradientCase gradient_case(const Sample& sample, DType dtype) {
  const std::vector<Array> single = cast_floating(sample.inputs, DType::kFloat32);
  const size_t n = single.size();
  const std::vector<size_t> wrt = differentiable(single, sample.options);
  const std::vector<Array> all = with_out_grads(sample.record, single);
  const Record gradient = gradient_record(sample.record, wrt, n);
  const Record both = [=, forward = sample.record](const std::vector<Value*>& values) {
    std::vector<Value*> results =
        forward({values.begin(), values.begin() + static_cast<int64_t>(n)});
    if (!wrt.empty())
      for (Value* g : gradient(values)) results.push_back(g);
    return results;
  };
  return {both, cast_floating(all, dtype)};
}

std::set<std::string> sampled_operators() {
  std::set<std::string> names;
  for (const auto make : lists())
    for (const Sample& s : make()) {
      Graph graph;
      graph.fold_below = 0;
      const BuilderScope scope(graph);
      std::vector<Value*> values;
      for (const Array& t : s.inputs)
        values.push_back(t.defined() ? graph.add_input({t.dtype(), t.shape()}) : nullptr);
      s.record(values);
      for (const auto& n : graph.nodes) names.emplace(n->op->name);
    }
  return names;
}

// ---- completeness

TEST(Gradient, EveryOperatorHasARule) {
  // The gradient stops here: results are integers, or constant almost everywhere.
  const std::set<std::string> constant = {
      "argmax",       "one_hot",     "floor",       "ceil",         "round",         "equal",
      "not_equal",    "less_than",   "less_equal",  "greater_than", "greater_equal", "logical_and",
      "logical_or",   "logical_xor", "logical_not", "any",          "all",           "floor_divide",
      "trunc",        "sign",        "bitwise_not", "bitwise_and",  "bitwise_or",    "bitwise_xor",
      "searchsorted", "uniform",     "gaussian",    "randint",      "randperm",      "bernoulli"};
  // Leaves; made by passes behind `gradient`; or lowered otherwise in training; or (rnn, float32
  const std::set<std::string> elsewhere = {"data",
                                           "constant",
                                           "fused",
                                           "if",
                                           "while",
                                           "rnn",
                                           "flash_attn",
                                           "cudnn_rnn",
                                           "cross_entropy_half",
                                           "fused_batch_norm_act_pool",
                                           "conv2d_statistics",
                                           "layer_norm_grad_sum",
                                           "gelu_grad_sum",
                                           "cross_entropy_half_both"};
  // Of a training step, behind the gradients.
  const std::set<std::string> updates = {"clip_factors", "check_finite_and_unscale",
                                         "update_loss_scaling"};
  const std::set<std::string> sampled = sampled_operators();
  for (const Op* op : all_ops()) {
    const std::string name(op->name);
    if (elsewhere.contains(name) || updates.contains(name)) continue;
    if (op->in_place == kEveryOutput) continue;  // an optimizer's update
    if (constant.contains(name)) {
      EXPECT_EQ(op->grad, nullptr) << name << " has a rule, and stands in a list of those without";
      continue;
    }
    const bool backward = name.ends_with("_grad");
    EXPECT_TRUE(op->grad != nullptr || backward) << name << " has no gradient rule";
    EXPECT_TRUE(op->grad == nullptr || backward || sampled.contains(name))
        << name << " has no sample";
  }
}

TEST(Gradient, TheCheckerFindsAWrongRule) {
  static const Op twice{.name = "twice",
                        .infer = [](const Infer& i) { i.out(i.dtype(0), i.shape(0)); },
                        .grad = [](Grad& g) { g.set(0, g.dout()); },
                        .cpu = [](const Prepare& p) -> Kernel {
                          return {[n = p.in().shape.numel()](const Launch& l) {
                            for (int64_t i = 0; i < n; ++i)
                              l.output<double>()[i] = 2 * l.input<double>(0)[i];
                          }};
                        }};
  EXPECT_NONFATAL_FAILURE(
      check_gradients([](const std::vector<Value*>& x) { return record(twice, x); }, {noise({3})},
                      {.single = false, .second = false}),
      "gradient of input 0, element 0");
}

}  // namespace trireme::test
