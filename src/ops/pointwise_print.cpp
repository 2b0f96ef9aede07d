// Pointwise clusters as CUDA text. Halves are computed as float, integers as 64 bits, as on the
// CPU; nothing is rounded between two operators of a cluster.
#include "ops/pointwise_print.h"

#include <algorithm>
#include <bit>
#include <set>
#include <unordered_map>

#include "ops/pointwise.h"
#include "ops/pointwise_space.h"

namespace trireme {

extern const char* const kPointwisePrelude;  // pointwise_text.cpp.in

namespace {

// A line of pointwise.def: `function` of (x, a, b) or (x, y).
struct Line {
  const char *name, *value;
  bool binary, compares, gradient;
};

const std::unordered_map<const Op*, Line>& lines() {
  static const std::unordered_map<const Op*, Line> map = {
#define TRI_UNARY(name, value, kind, ...)                  \
  {&ops::name##_op, {#name, #value, false, false, false}}, \
      TRI_IF_##kind({&ops::name##_grad_op, {#name, #__VA_ARGS__, false, false, true}}, )
#define TRI_FLOAT(name, value, kind, ...)                  \
  {&ops::name##_op, {#name, #value, false, false, false}}, \
      TRI_IF_##kind({&ops::name##_grad_op, {#name, #__VA_ARGS__, false, false, true}}, )
#define TRI_BINARY(name, value, ...) {&ops::name##_op, {#name, #value, true, false, false}},
#define TRI_COMPARE(name, ...) {&ops::name##_op, {#name, #__VA_ARGS__, true, true, false}},
#define TRI_LOGIC(name, ...) {&ops::name##_op, {#name, #__VA_ARGS__, true, true, false}},
#include "ops/pointwise.def"
#undef TRI_UNARY
#undef TRI_FLOAT
#undef TRI_BINARY
#undef TRI_COMPARE
#undef TRI_LOGIC
  };
  return map;
}

const char* class_of(DType dtype) {
  if (dtype == DType::kFloat64) return "double";
  return is_floating(dtype) ? "float" : "int64_t";
}

const char* form_of(DType dtype) {
  switch (dtype) {
    case DType::kBool: return "BOOL";
    case DType::kUInt8: return "U8";
    case DType::kInt8: return "I8";
    case DType::kInt16: return "I16";
    case DType::kInt32: return "I32";
    case DType::kInt64: return "I64";
    case DType::kFloat16: return "F16";
    case DType::kBFloat16: return "BF16";
    case DType::kFloat32: return "F32";
    case DType::kFloat64: return "F64";
  }
  return "";
}

template <class... Parts> std::string cat(const Parts&... parts) {
  std::string s;
  const auto one = [&](const auto& p) {
    using P = std::remove_cvref_t<decltype(p)>;
    if constexpr (std::is_integral_v<P> && !std::is_same_v<P, char>) s += std::to_string(p);
    else s += p;
  };
  (one(parts), ...);
  return s;
}

// How the elements of an input come to a vector of V results.
enum class Access {
  kDense,        // lie as the result does
  kScalar,       // one for all
  kInnerDense,   // a vector within the innermost dimension
  kInnerScalar,  // one for a vector
  kElements      // each on its own
};

class Printer {
 public:
  Printer(const std::vector<const Node*>& nodes, const std::vector<const Value*>& inputs,
          const std::vector<const Value*>& outputs)
      : nodes_(nodes), inputs_(inputs), outputs_(outputs), space_(inputs, outputs[0]->type) {
    while (space_.dims.size() > 1 && space_.dims[0] == 1) {
      space_.dims.erase(space_.dims.begin());
      for (auto& s : space_.strides) s.erase(s.begin());
    }
    choose();
  }

  PrintedPointwise print() {
    PrintedPointwise p;
    p.elements = outputs_[0]->type.shape.numel();
    p.per_block = int64_t{kPointwiseThreads} * vector_ * unroll_;
    word(p.elements);  // w[0]
    const std::string body = print_body(), offsets = print_offsets(), kernel = print_kernel();
    p.source = cat(kPointwisePrelude, "\nstruct Numbers { long long w[", numbers_.size(),
                   "]; };\ntypedef ", wide_ ? "unsigned long long" : "unsigned", " Index;\n",
                   functions_, body, offsets, kernel);
    p.numbers = numbers_;
    return p;
  }

 private:
  std::string word(int64_t value) {
    numbers_.push_back(value);
    return cat("s.w[", numbers_.size() - 1, "]");
  }

  void choose() {
    size_t smallest = 8, reach = 0;
    for (const auto* list : {&inputs_, &outputs_}) {
      for (const Value* v : *list) {
        smallest = std::min(smallest, size_of(v->type.dtype));
        reach = std::max(reach, static_cast<size_t>(v->type.shape.numel()));
      }
    }
    wide_ = reach >= size_t{1} << 31;
    vector_ = smallest <= 2 ? 8 : smallest == 4 ? 4 : 2;
    const std::vector<int64_t>& dense = space_.strides.back();
    size_t bytes = 0;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      access_.push_back(access_of(space_.strides[i], dense));
      bytes += size_of(inputs_[i]->type.dtype) * static_cast<size_t>(vector_);
    }
    unroll_ = bytes <= 64 ? 2 : 1;  // two vectors in flight, where they fit the registers
  }

  Access access_of(const std::vector<int64_t>& s, const std::vector<int64_t>& dense) const {
    if (std::all_of(s.begin(), s.end(), [](int64_t v) { return v == 0; })) return Access::kScalar;
    // Dimensions of 1 are gone, so that equal strides mean equal order.
    if (s == dense) return Access::kDense;
    if (space_.dims.back() % vector_ != 0) return Access::kElements;
    if (s.back() == 0) return Access::kInnerScalar;
    const bool even =
        std::all_of(s.begin(), s.end() - 1, [&](int64_t v) { return v % vector_ == 0; });
    return s.back() == 1 && even ? Access::kInnerDense : Access::kElements;
  }

  // ---- the operators

  std::string as_class(const Value* v, const std::string& c) const {
    const std::string& name = names_.at(v);
    return class_of(v->type.dtype) == c ? name : cat('(' + c, ')', name);
  }

  // The function of a line, printed once.
  std::string function(const Line& line) {
    const std::string name = cat(line.gradient ? "grad_" : "op_", line.name);
    if (!printed_.insert(name).second) return name;
    const char* parameters = line.binary ? "T x, T y" : "T x, T a, T b";
    functions_ +=
        cat("template <class T> inline ", line.compares ? "bool " : "T ", name, '(', parameters,
            ") { return static_cast<", line.compares ? "bool" : "T", ">(", line.value, "); }\n");
    return name;
  }

  std::string attribute(double value, const std::string& c) {
    if (c == "float") {
      const auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
      return cat("__uint_as_float((unsigned)", word(bits), ')');
    }
    if (c == "double")
      return cat("__longlong_as_double(", word(std::bit_cast<int64_t>(value)), ')');
    return word(static_cast<int64_t>(value));
  }

  std::string call(const Node& n) {
    const Line& line = lines().at(n.op);
    // Comparisons compute in the class of what they compare.
    const std::string c = operand_class(n, line);
    std::string arguments = as_class(n.inputs[0], c);
    if (line.binary) {
      arguments += ", " + as_class(n.inputs[1], c);
    } else {
      PointwiseAttrs a;
      if (n.op->attrs == &attr_info<PointwiseAttrs>) a = n.get<PointwiseAttrs>();
      arguments += cat(", ", attribute(a.alpha, c), ", ", attribute(a.beta, c));
    }
    const std::string value = cat(function(line), '<', c, ">(", arguments, ')');
    return line.gradient ? cat(as_class(n.inputs[1], c), " * ", value) : value;
  }

  static std::string operand_class(const Node& n, const Line& line) {
    if (!line.compares) return class_of(n.out()->type.dtype);
    const std::string x = class_of(n.inputs[0]->type.dtype), y = class_of(n.inputs[1]->type.dtype);
    return x == "double" || y == "double" ? "double" : x == "float" || y == "float" ? "float" : x;
  }

  std::string expression(const Node& n) {
    const std::string c = class_of(n.out()->type.dtype);
    if (n.op == &ops::cast_op) {
      const DType from = n.inputs[0]->type.dtype;
      if (n.out()->type.dtype == DType::kBool && from != DType::kBool)
        return cat(names_.at(n.inputs[0]), " != 0");
      return as_class(n.inputs[0], c);
    }
    if (n.op == &ops::logical_not_op) return cat(names_.at(n.inputs[0]), " == 0");
    if (n.op == &ops::where_op)
      return cat(names_.at(n.inputs[0]), " ? ", as_class(n.inputs[1], c), " : ",
                 as_class(n.inputs[2], c));
    return call(n);
  }

  // body(s, x0, x1 ..., y0, y1 ...): one element.
  std::string print_body() {
    std::string parameters = "const Numbers& s", text;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      names_[inputs_[i]] = cat('x', i);
      parameters += cat(", const ", class_of(inputs_[i]->type.dtype), " x", i);
    }
    for (size_t k = 0; k < nodes_.size(); ++k) {
      const Node& n = *nodes_[k];
      const std::string value = expression(n);
      names_[n.out()] = cat('v', k);
      text += cat("  const ", class_of(n.out()->type.dtype), " v", k, " = ", value, ";\n");
    }
    for (size_t k = 0; k < outputs_.size(); ++k) {
      parameters += cat(", ", class_of(outputs_[k]->type.dtype), "& y", k);
      text += cat("  y", k, " = ", names_.at(outputs_[k]), ";\n");
    }
    return cat("static inline void body(", parameters, ") {\n", text, "}\n");
  }

  // ---- where the elements are

  bool is_placed(size_t i) const {
    return access_[i] != Access::kDense && access_[i] != Access::kScalar;
  }

  // offset_i(s, index): of the inputs that neither lie as the result nor are scalars.
  std::string print_offsets() {
    std::string text;
    const size_t rank = space_.dims.size();
    std::vector<std::string> divisors(rank);
    for (size_t d = 1; d < rank; ++d) divisors[d] = print_divisor(space_.dims[d]);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (!is_placed(i)) continue;
      text +=
          cat("static inline Index offset", i, "(const Numbers& s, Index i) {\n  Index o = 0;\n");
      for (size_t d = rank; d-- > 1;) {
        text += cat("  { const Index q = divided(i, ", divisors[d], "); o += (i - q * (Index)",
                    divisors[d].substr(0, divisors[d].find(',')), ") * (Index)",
                    word(space_.strides[i][d]), "; i = q; }\n");
      }
      text += cat("  return o + i * (Index)", word(space_.strides[i][0]), ";\n}\n");
    }
    return text;
  }

  std::string print_divisor(int64_t d) {
    int shift = 0;
    while ((int64_t{1} << shift) < d && shift < 31) ++shift;
    const uint64_t factor =
        d == 0 || wide_
            ? 0
            : ((uint64_t{1} << 32) * ((uint64_t{1} << shift) - static_cast<uint64_t>(d))) /
                      static_cast<uint64_t>(d) +
                  1;
    const std::string size = word(d), by = word(static_cast<int64_t>(factor));
    return cat(size, ", ", by, ", ", word(shift));
  }

  // ---- the kernel

  std::string print_load(size_t i) const {
    const char* form = form_of(inputs_[i]->type.dtype);
    switch (access_[i]) {
      case Access::kDense: return cat("      r", i, "[u].load(p", i, ", at * V);\n");
      case Access::kInnerDense:
        return cat("      r", i, "[u].load(p", i, ", offset", i, "(s, at * V));\n");
      case Access::kInnerScalar:
        return cat("      c", i, "[u] = get<", form, ">(p", i, ", offset", i, "(s, at * V));\n");
      default: return "";
    }
  }

  std::string argument(size_t i, bool single) const {
    const char* form = form_of(inputs_[i]->type.dtype);
    if (access_[i] == Access::kScalar) return cat('c', i);
    if (single) {
      if (is_placed(i)) return cat("get<", form, ">(p", i, ", offset", i, "(s, at))");
      return cat("get<", form, ">(p", i, ", at)");
    }
    if (access_[i] == Access::kInnerScalar) return cat('c', i, "[u]");
    if (access_[i] == Access::kElements)
      return cat("get<", form, ">(p", i, ", offset", i, "(s, at * V + k))");
    return cat('r', i, "[u].at(k)");
  }

  std::string print_kernel() const {
    std::string parameters, declared, loads, in_vector, in_single, results, set, store, put;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const char* form = form_of(inputs_[i]->type.dtype);
      parameters += cat("const void* p", i, ", ");
      if (access_[i] == Access::kScalar)
        declared += cat("  const ", form, "::Value c", i, " = get<", form, ">(p", i, ", 0);\n");
      else if (access_[i] == Access::kInnerScalar)
        declared += cat("  ", form, "::Value c", i, "[U];\n");
      else if (access_[i] != Access::kElements)
        declared += cat("  Vector<", form, ", V> r", i, "[U];\n");
      loads += print_load(i);
      in_vector += argument(i, false) + ", ";
      in_single += argument(i, true) + ", ";
    }
    std::string values, names;
    for (size_t k = 0; k < outputs_.size(); ++k) {
      const char* form = form_of(outputs_[k]->type.dtype);
      parameters += cat("void* q", k, ", ");
      results += cat("      Vector<", form, ", V> z", k, ";\n");
      values += cat(form, "::Value y", k, "; ");
      names += cat(k ? ", " : "", 'y', k);
      set += cat(" z", k, ".set(k, y", k, ");");
      store += cat("      z", k, ".store(q", k, ", at * V);\n");
      put += cat(" put<", form, ">(q", k, ", at, y", k, ");");
    }
    return cat("extern \"C\" __global__ void __launch_bounds__(", kPointwiseThreads, ") pointwise(",
               parameters, "const Numbers s) {\n  constexpr int V = ", vector_, ", U = ", unroll_,
               ";\n  begin_behind_previous();\n"
               "  const Index n = (Index)s.w[0], vectors = n / V;\n  const Index first = "
               "(Index)blockIdx.x * (",
               kPointwiseThreads, " * U) + threadIdx.x;\n", declared,
               "#pragma unroll\n  for (int u = 0; u < U; ++u) {\n    const Index at = first + u * ",
               kPointwiseThreads, ";\n    if (at < vectors) {\n", loads, "    }\n  }\n",
               "#pragma unroll\n  for (int u = 0; u < U; ++u) {\n    const Index at = first + u * ",
               kPointwiseThreads, ";\n    if (at < vectors) {\n", results,
               "#pragma unroll\n      for (int k = 0; k < V; ++k) { ", values, "body(s, ",
               in_vector, names, ");", set, " }\n", store, "    }\n  }\n",
               "  if (blockIdx.x == 0 && threadIdx.x < n - vectors * V) {\n"
               "    const Index at = vectors * V + threadIdx.x;\n    ",
               values, "body(s, ", in_single, names, ");", put, "\n  }\n}\n");
  }

  const std::vector<const Node*>& nodes_;
  const std::vector<const Value*>&inputs_, outputs_;
  PointwiseSpace space_;
  std::vector<Access> access_;
  int vector_ = 4, unroll_ = 1;
  bool wide_ = false;
  std::vector<int64_t> numbers_;
  std::unordered_map<const Value*, std::string> names_;
  std::set<std::string> printed_;
  std::string functions_;
};

}  // namespace

PrintedPointwise print_pointwise(const std::vector<const Node*>& nodes,
                                 const std::vector<const Value*>& inputs,
                                 const std::vector<const Value*>& outputs) {
  return Printer(nodes, inputs, outputs).print();
}

}  // namespace trireme
