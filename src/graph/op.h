// Op: everything the engine knows about an operator, in one constant; and record(), which adds a
// node.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/attrs.h"
#include "graph/type.h"

namespace trireme {

struct Node;
struct Value;
struct Op;
struct Kernel;
struct Prepare;

// Which precision an operator works in when a program runs in half precision.
enum class Amp : uint8_t {
  kFollow,     // takes what comes
  kHalf,       // worth casting for: convolutions and matrix products
  kFloatInO1,  // float32 where precision goes before speed (auto_cast's O1), else kFollow
  kFloat,      // always float32
};

// How the fusion passes may use an operator.
enum class Fuse : uint8_t { kNone, kPointwise, kAnchor };

// How an operator relates to physical layouts.
enum class Layouts : uint8_t {
  kPlainOnly,  // wants row-major inputs, gives row-major outputs
  kFollow,     // runs in either layout; output as its first input, the others brought to it
  kPrefersChannelsLast,  // input 0 and output 0 channels-last when rank is 4; of an anchor the
                         // other inputs as they are, of others channels-last as well
  kReadsChannelsLast,    // pictures among the inputs channels-last, outputs row-major
};

// What the shape and dtype rule of an operator sees. It throws (TRI_CHECK) with the operator's name
// in brackets.
struct Infer {
  const Op& op;
  std::span<Value* const> inputs;
  const Attrs& attributes;
  std::vector<Type>& outputs;

  bool has(size_t i) const { return i < inputs.size() && inputs[i] != nullptr; }
  const Type& type(size_t i) const;
  const Shape& shape(size_t i) const { return type(i).shape; }
  DType dtype(size_t i) const { return type(i).dtype; }
  const Array* constant(size_t i) const;  // the value of a constant input, else null
  template <class A> const A& attrs() const { return attributes.get<A>(); }
  void out(DType dtype, const Shape& shape) const { outputs.push_back({dtype, shape}); }
};

// What an operator's gradient rule sees: the values of its node and the gradients that came to the
// outputs. The rule calls ordinary operators, which land in the graph that is being built, and
// hands over one gradient an input. It need not undo broadcasting or promotion: whoever calls the
// rule sums each gradient to its input's shape and casts it to its dtype.
struct Grad {
  const Op& op;
  std::span<Value*const> inputs, outputs;
  const Attrs& attributes;
  std::span<Value* const> out_grads;  // null where none came; never all null
  std::vector<bool> wanted;           // one an input
  std::vector<Value*> in_grads;       // the result, one an input; null: zero

  Value* in(size_t i = 0) const { return i < inputs.size() ? inputs[i] : nullptr; }
  Value* out(size_t i = 0) const { return outputs[i]; }
  Value* dout(size_t i = 0) const { return out_grads[i]; }
  bool wants(size_t i) const { return i < wanted.size() && wanted[i]; }
  void set(size_t i, Value* gradient) { in_grads[i] = gradient; }
  template <class A> const A& attrs() const { return attributes.get<A>(); }
};

inline constexpr int kEveryOutput = 1 << 30;  // of Op::in_place

struct Op {
  std::string_view name;            // Paddle's name
  int inputs = 1, outputs = 1;      // -1: variadic; optional inputs are null values
  const AttrInfo* attrs = nullptr;  // null: none
  void (*infer)(const Infer&) = nullptr;
  void (*grad)(Grad&) = nullptr;             // null: not differentiable, the gradient stops here
  Kernel (*cpu)(const Prepare&) = nullptr;   // chosen and built once per plan
  Kernel (*cuda)(const Prepare&) = nullptr;  // TRI_CUDA(function): null in a build without CUDA
  Amp amp = Amp::kFollow;
  unsigned amp_inputs = ~0U;  // bits: the inputs that this concerns; a norm's parameters and
                              // statistics stay what they are
  Fuse fuse = Fuse::kNone;
  Layouts layouts = Layouts::kPlainOnly;
  bool view = false;  // output 0 is input 0's memory under another shape (row-major only)
  int in_place = 0;  // the first so many outputs may each overwrite the input of the same index, if
                     // that dies there and is as large; kEveryOutput: all of them
  bool pure = true;  // same inputs, same outputs: may be folded, shared, dropped
};

// The rule of mixed precision, of auto_cast and of inference: kHalf, kFloat or kFollow.
// `pays_only`: O1.
inline Amp amp_of(const Op& op, bool pays_only) {
  if (op.amp != Amp::kFloatInO1) return op.amp;
  return pays_only ? Amp::kFloat : Amp::kFollow;
}

#ifdef TRIREME_CUDA
#define TRI_CUDA(function) function
#else
#define TRI_CUDA(function) nullptr
#endif

// ---- recording

// Receives the nodes that operators record on this thread: a recorder, an importer, a pass.
class Builder {
 public:
  virtual ~Builder() = default;
  virtual std::vector<Value*> add(const Op& op, std::vector<Value*> inputs, Attrs attrs) = 0;
  virtual Value* add_constant(const Array& tensor, std::string name) = 0;
};

// Makes `builder` the receiver on this thread for the life of the object.
class BuilderScope {
 public:
  explicit BuilderScope(Builder& builder);
  ~BuilderScope();
  BuilderScope(const BuilderScope&) = delete;
  BuilderScope& operator=(const BuilderScope&) = delete;

 private:
  Builder* previous_;
};
Builder& current_builder();  // throws kInternal when there is none

// Adds a node; the arguments are checked here, by the operator's rule.
std::vector<Value*> record(const Op& op, std::vector<Value*> inputs, Attrs attrs = {});
Value* record1(const Op& op, std::vector<Value*> inputs,
               Attrs attrs = {});  // of an operator with one output
Value* constant(const Array& tensor, std::string name = {});
Value* scalar(double value, DType dtype = DType::kFloat32);  // a rank-0 constant

// Where the following record() calls on this thread come from ("op 17 'conv2d' of
// inference.pdmodel"); kept in nodes and put into their errors.
void set_location(std::string location);
const std::string& current_location();

// The operator of that name, or null. The table is ops/list.def.
const Op* find_op(std::string_view name);
std::span<const Op* const> all_ops();

}  // namespace trireme
