// if and while: the chosen graph, or the body again and again, runs as one kernel of its own plan.
#include "ops/control.h"

#include <cstring>

#include "ops/elements.h"

namespace trireme {
namespace {

void check_condition(const Infer& i) {
  TRI_CHECK(i.dtype(0) == DType::kBool && i.shape(0).numel() == 1,
            message(i.op.name, "the condition expects one bool, got ", i.dtype(0), i.shape(0)));
}

bool same_type(const Type& a, const Type& b) { return a.dtype == b.dtype && a.shape == b.shape; }

void check_inputs(const Infer& i, const Graph& graph, const char* which) {
  TRI_CHECK(graph.inputs.size() + 1 == i.inputs.size(),
            message(i.op.name, which, " expects ", i.inputs.size() - 1, " inputs, got ",
                    graph.inputs.size()));
  for (size_t k = 0; k < graph.inputs.size(); ++k) {
    TRI_CHECK(same_type(graph.inputs[k]->type, i.type(k + 1)),
              message(i.op.name, "input ", k, " of ", which, " expects ", i.type(k + 1).str(),
                      ", got ", graph.inputs[k]->type.str()));
  }
}

void infer_if(const Infer& i) {
  const auto& a = i.attrs<BranchAttrs>();
  TRI_CHECK(a.then_graph && a.else_graph, message(i.op.name, "expects two graphs"));
  check_condition(i);
  check_inputs(i, *a.then_graph, "the first branch");
  check_inputs(i, *a.else_graph, "the second branch");
  const auto &x = a.then_graph->outputs, &y = a.else_graph->outputs;
  TRI_CHECK(x.size() == y.size(),
            message(i.op.name, "the branches expect equally many results, got ", x.size(), " and ",
                    y.size()));
  for (size_t k = 0; k < x.size(); ++k) {
    TRI_CHECK(same_type(x[k]->type, y[k]->type),
              message(i.op.name, "result ", k, " of the branches expects one type, got ",
                      x[k]->type.str(), " and ", y[k]->type.str()));
    i.out(x[k]->type.dtype, x[k]->type.shape);
  }
}

Kernel prepare_if(const Prepare& p) {
  const auto& a = p.attrs<BranchAttrs>();
  const Kernel yes = p.plan_subgraph(*a.then_graph), no = p.plan_subgraph(*a.else_graph);
  return {[yes, no](const Launch& l) {
            (*l.input<bool>(0) ? yes : no).run(Launch{l.in + 1, l.out, l.scratch});
          },
          std::max(yes.scratch, no.scratch)};
}

void infer_while(const Infer& i) {
  const auto& a = i.attrs<LoopAttrs>();
  TRI_CHECK(a.body != nullptr, message(i.op.name, "expects a body"));
  check_condition(i);
  check_inputs(i, *a.body, "the body");
  TRI_CHECK(
      a.variables >= 0 && static_cast<size_t>(a.variables) < i.inputs.size(),
      message(i.op.name, "variables expects at most ", i.inputs.size() - 1, ", got ", a.variables));
  const auto variables = static_cast<size_t>(a.variables);
  TRI_CHECK(a.body->outputs.size() == variables + 1,
            message(i.op.name, "the body expects ", variables + 1, " results, got ",
                    a.body->outputs.size()));
  const Type& condition = a.body->outputs[0]->type;
  TRI_CHECK(
      condition.dtype == DType::kBool && condition.shape.numel() == 1,
      message(i.op.name, "the first result of the body expects one bool, got ", condition.str()));
  for (size_t k = 0; k < variables; ++k) {
    const Type &before = i.type(k + 1), &after = a.body->outputs[k + 1]->type;
    TRI_CHECK(same_type(before, after),
              message(i.op.name, "variable ", k, " expects to stay ", before.str(), ", got ",
                      after.str(), " from the body"));
    i.out(before.dtype, before.shape);
  }
}

// Variables live in two sets of buffers: one round reads the one (first: the inputs) and writes the
// other.
Kernel prepare_while(const Prepare& p) {
  const auto& a = p.attrs<LoopAttrs>();
  const Kernel body = p.plan_subgraph(*a.body);
  const auto variables = static_cast<size_t>(a.variables), inputs = p.node.inputs.size() - 1;
  std::vector<size_t> bytes, offsets;
  size_t set = 64;  // the condition comes first
  for (size_t k = 0; k < variables; ++k) {
    bytes.push_back(p.out(k).bytes());
    offsets.push_back(set);
    set += align_up(bytes.back());
  }
  const auto run = [=](const Launch& l) {
    char* buffers[2] = {static_cast<char*>(l.scratch), static_cast<char*>(l.scratch) + set};
    void* rest = buffers[1] + set;
    std::vector<void*> in(l.in + 1, l.in + 1 + inputs), out(variables + 1);
    bool go_on = *l.input<bool>(0);
    for (int to = 0; go_on; to ^= 1) {
      out[0] = buffers[to];
      for (size_t k = 0; k < variables; ++k) out[k + 1] = buffers[to] + offsets[k];
      body.run(Launch{in.data(), out.data(), rest});
      go_on = *static_cast<const bool*>(out[0]);
      for (size_t k = 0; k < variables; ++k) in[k] = out[k + 1];
    }
    for (size_t k = 0; k < variables; ++k)
      if (bytes[k] > 0) std::memcpy(l.out[k], in[k], bytes[k]);
  };
  return {run, 2 * set + body.scratch};
}

}  // namespace

namespace ops {

constinit const Op if_op{.name = "if",
                         .inputs = -1,
                         .outputs = -1,
                         .attrs = &attr_info<BranchAttrs>,
                         .infer = infer_if,
                         .cpu = prepare_if,
                         .amp = Amp::kFloat,  // the graphs' inputs have types
                         .pure = false};      // folding one would need a plan
constinit const Op while_op{.name = "while",
                            .inputs = -1,
                            .outputs = -1,
                            .attrs = &attr_info<LoopAttrs>,
                            .infer = infer_while,
                            .cpu = prepare_while,
                            .amp = Amp::kFloat,
                            .pure = false};

std::vector<Value*> if_else(Value* condition, const std::vector<Value*>& captured,
                            std::shared_ptr<Graph> then_graph, std::shared_ptr<Graph> else_graph) {
  std::vector<Value*> inputs{condition};
  inputs.insert(inputs.end(), captured.begin(), captured.end());
  return record(if_op, std::move(inputs),
                BranchAttrs{std::move(then_graph), std::move(else_graph)});
}

std::vector<Value*> while_loop(Value* condition, const std::vector<Value*>& variables,
                               const std::vector<Value*>& captured, std::shared_ptr<Graph> body) {
  std::vector<Value*> inputs{condition};
  inputs.insert(inputs.end(), variables.begin(), variables.end());
  inputs.insert(inputs.end(), captured.begin(), captured.end());
  return record(while_op, std::move(inputs),
                LoopAttrs{std::move(body), static_cast<int64_t>(variables.size())});
}

}  // namespace ops
}  // namespace trireme
