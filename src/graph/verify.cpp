// The legality table of graphs.
#include "graph/verify.h"

#include <unordered_set>

namespace trireme {
namespace {

[[noreturn]] void broken(std::string_view pass, const Node* n, const std::string& rule) {
  fail(Code::kInternal,
       "after pass '" + std::string(pass) + "': " + rule +
           (n ? " at node '" + std::string(n->op->name) + "'" : ""),
       n ? n->where : "");
}

void check_rule(const Node& n, std::string_view pass) {
  if (n.op->infer == nullptr) return;
  std::vector<Type> types;
  try {
    n.op->infer(Infer{*n.op, n.inputs, n.attrs, types});
  } catch (const Error& e) {
    broken(pass, &n, "the operator's rule refuses its inputs: " + e.message());
  }
  if (types.size() != n.outputs.size()) broken(pass, &n, "the number of outputs is wrong");
  for (size_t i = 0; i < types.size(); ++i)
    if (types[i].dtype != n.out(i)->type.dtype || !(types[i].shape == n.out(i)->type.shape))
      broken(pass, &n,
             "output " + std::to_string(i) + " is " + n.out(i)->type.str() + ", the rule says " +
                 types[i].str());
}

void check_layouts(const Node& n, std::string_view pass) {
  for (const auto& v : n.outputs)
    if (v->type.layout == Layout::kChannelsLast && layouts_agree(v->type.shape))
      broken(pass, &n, "a channels-last value whose layouts agree");
  if (n.op->layouts != Layouts::kPlainOnly || n.op->name == "fused" || n.op->name == "reorder")
    return;
  for (const Value* v : n.inputs)
    if (v && v->type.layout != Layout::kPlain)
      broken(pass, &n, "a channels-last input of a row-major operator");
}

}  // namespace

void verify(const Graph& graph, std::string_view pass) {
  std::unordered_set<const Value*> known;
  for (const auto& n : graph.nodes) {
    for (const Value* v : n->inputs)
      if (v && !known.contains(v)) broken(pass, n.get(), "an input that no earlier node gives");
    check_rule(*n, pass);
    check_layouts(*n, pass);
    for (const auto& v : n->outputs) {
      if (v->node != n.get()) broken(pass, n.get(), "an output that names another node");
      known.insert(v.get());
    }
  }
  for (const Value* v : graph.inputs)
    if (!known.contains(v) || (v->node->op != &kData && v->node->op != &kConstant))
      broken(pass, v->node, "a graph input that is no leaf");
  for (const Value* v : graph.outputs)
    if (!known.contains(v)) broken(pass, nullptr, "a graph output that no node gives");
}

}  // namespace trireme
