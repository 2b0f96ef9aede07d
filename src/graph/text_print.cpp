// Printing graphs.
#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include "graph/text.h"

namespace trireme {
namespace {

class Printer {
 public:
  std::string graph(const Graph& g, const std::string& indent) {
    std::string s = "graph(";
    for (size_t i = 0; i < g.inputs.size(); ++i) {
      const Value* v = g.inputs[i];
      s += (i ? ", " : "") + name(v) + ": " + v->type.str() + (constant_of(v) ? " constant" : "");
    }
    s += ") {\n";
    for (const auto& n : g.nodes) {
      const bool input = std::find(g.inputs.begin(), g.inputs.end(),
                                   n->outputs.empty() ? nullptr : n->out()) != g.inputs.end();
      if (n->op != &kData && !input) s += node(*n, indent + "  ");
    }
    s += indent + "  return";
    for (size_t i = 0; i < g.outputs.size(); ++i) s += (i ? ", " : " ") + name(g.outputs[i]);
    return s + '\n' + indent + "}";
  }

 private:
  std::string node(const Node& n, const std::string& indent) {
    std::string s = indent;
    for (size_t i = 0; i < n.outputs.size(); ++i)
      s += (i ? ", " : "") + name(n.out(i)) + ": " + n.out(i)->type.str();
    s += " = " + std::string(n.op->name);
    if (n.op == &kConstant) return s + constant_text(*n.out()) + '\n';
    s += '(';
    for (size_t i = 0; i < n.inputs.size(); ++i)
      s += (i ? ", " : "") + (n.inputs[i] ? name(n.inputs[i]) : "-");
    return s + ')' + attributes(n, indent) + '\n';
  }

  // Graphs in attributes are printed in place; Attrs::str knows everything else.
  std::string attributes(const Node& n, const std::string& indent) {
    std::string s = n.attrs.str();
    size_t from = 0;  // behind the graphs that stand there: they may hold fields of that name
    if (n.attrs.info()) {
      for (const Field& f : n.attrs.info()->fields) {
        if (f.kind != Field::kGraph) continue;
        const auto& g = *reinterpret_cast<const std::shared_ptr<Graph>*>(
            static_cast<const char*>(n.attrs.data()) + f.offset);
        const std::string mark = std::string(f.name) + "=graph";
        const size_t at = s.find(mark, from);
        if (!g || at == std::string::npos) continue;
        const std::string text = std::string(f.name) + '=' + Printer().graph(*g, indent);
        s.replace(at, mark.size(), text);
        from = at + text.size();
      }
    }
    return s.empty() ? s : ' ' + s;
  }

  static std::string constant_text(const Value& v) {
    const Array& t = *constant_of(&v);
    if (t.numel() == 1) {
      if (!is_floating(t.dtype())) return ' ' + std::to_string(*t.to(DType::kInt64).as<int64_t>());
      char buffer[40];
      std::snprintf(buffer, sizeof buffer, " %.9g", *t.to(DType::kFloat64).as<double>());
      return buffer;
    }
    return v.name.empty() ? "" : " \"" + v.name + '"';
  }

  std::string name(const Value* v) {
    const auto [it, fresh] = names_.try_emplace(v, "");
    if (fresh) it->second = '%' + std::to_string(names_.size() - 1);
    return it->second;
  }

  std::unordered_map<const Value*, std::string> names_;
};

}  // namespace

std::string to_text(const Graph& graph) { return Printer().graph(graph, "") + '\n'; }

}  // namespace trireme
