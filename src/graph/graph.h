// Graph: nodes in an order in which they can run, the values between them, inputs and outputs. Data
// only.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/op.h"

namespace trireme {

struct Variable;  // runtime's: what a user's handle of a value refers to

// One result of a node.
struct Value {
  Node* node = nullptr;
  int index = 0;  // which output of the node
  Type type;
  std::string name;  // of inputs, constants and outputs of imported programs; may be empty
  std::shared_ptr<Variable> variable{};  // set by the recorder alone, while the value is pending
};

// One operation. Owned by its graph; values are stable in memory.
struct Node {
  const Op* op = nullptr;
  std::vector<Value*> inputs;  // null: an absent optional input
  std::vector<std::unique_ptr<Value>> outputs;
  Attrs attrs;
  std::string where;  // location when it was recorded
  size_t number =
      0;  // its place among the graph's nodes, unless nodes were moved since it was added

  Value* out(size_t i = 0) const { return outputs[i].get(); }
  template <class A> const A& get() const { return attrs.get<A>(); }
};

// The two kinds of leaves.
extern const Op kData;      // an input of the graph
extern const Op kConstant;  // a tensor known at plan time
struct ConstantAttrs {
  Array value;
  static const Field fields[];
};
inline constexpr Field ConstantAttrs::fields[] = {TRI_FIELD(ConstantAttrs, value)};

class Graph : public Builder {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  std::vector<Value*> inputs, outputs;
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<bool> donated;  // of inputs: their memory may be overwritten; empty: of none

  Value* add_input(const Type& type, std::string name = {});
  Value* add_constant(const Array& tensor, std::string name) override;
  std::vector<Value*> add(const Op& op, std::vector<Value*> inputs, Attrs attrs) override;

  // Small constants are computed when they are recorded, so that shape arithmetic gives shapes
  // (elements; 0: never).
  int64_t fold_below = 4096;
  // Whether floating constants that have a name, parameters, are folded too; an export keeps them.
  bool fold_named = true;

  void replace_uses(Value* from, Value* to);                 // in nodes and outputs
  std::unordered_map<const Value*, int> count_uses() const;  // graph outputs count as uses
  void sort();         // restores the order after nodes were inserted anywhere
  void drop_unused();  // removes nodes that no output needs; inputs stay
};

// The tensor behind a constant value; null when it is none.
const Array* constant_of(const Value* value);

// The same graph in new nodes; `map` (optional) tells where each value went.
std::unique_ptr<Graph> copy_graph(const Graph& graph,
                                  std::unordered_map<const Value*, Value*>* map = nullptr);

// Structure, types, attributes and donations agree (attributes as Attrs compares them).
bool same_graph(const Graph& a, const Graph& b);
size_t hash_of(const Graph& graph);  // equal for graphs that are the same

}  // namespace trireme
