// Reading graphs back from text: recursive descent over the form that text_print.cpp writes.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "graph/text.h"

namespace trireme {
namespace {

constexpr int kMaxDepth = 32;              // graphs inside attributes
constexpr int64_t kMaxElements = 1 << 24;  // of a constant that gets pseudo-random values

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::unique_ptr<Graph> whole() {
    auto g = graph(0);
    skip();
    if (at_ != text_.size()) error("nothing more");
    return g;
  }

 private:
  using Names = std::unordered_map<std::string, Value*>;

  [[noreturn]] void error(const std::string& expected) const {
    const auto line =
        1 + std::count(text_.begin(),
                       text_.begin() + static_cast<std::ptrdiff_t>(std::min(at_, text_.size())),
                       '\n');
    const std::string found(text_.substr(std::min(at_, text_.size()), 12));
    fail(Code::kInvalidArgument, "[graph text] expected " + expected + ", found '" + found + "'",
         "line " + std::to_string(line));
  }

  void skip() {
    while (at_ < text_.size()) {
      if (std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
      else if (text_[at_] == '#') at_ = std::min(text_.find('\n', at_), text_.size());
      else return;
    }
  }
  bool peek(std::string_view s) {
    skip();
    return text_.substr(at_).starts_with(s);
  }
  bool take(std::string_view s) {
    if (!peek(s)) return false;
    at_ += s.size();
    return true;
  }
  void need(std::string_view s) {
    if (!take(s)) error('\'' + std::string(s) + '\'');
  }
  std::string word() {
    skip();
    const size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) ||
                                  text_[at_] == '_' || text_[at_] == '.'))
      ++at_;
    if (at_ == start) error("a word");
    return std::string(text_.substr(start, at_ - start));
  }
  std::string name() {
    need("%");
    return word();
  }
  template <class T> T number() {
    skip();
    T v{};
    const auto r = std::from_chars(text_.data() + at_, text_.data() + text_.size(), v);
    if (r.ec != std::errc()) error("a number");
    at_ = static_cast<size_t>(r.ptr - text_.data());
    return v;
  }
  template <class T> std::vector<T> list() {
    std::vector<T> values;
    need("[");
    while (!take("]")) {
      values.push_back(number<T>());
      if (!take(",") && !peek("]")) error("',' or ']'");
    }
    return values;
  }
  Type type() {
    Type t;
    t.dtype = dtype_from_name(word());
    t.shape = Shape(std::span<const int64_t>(list<int64_t>()));
    if (take("nhwc")) t.layout = Layout::kChannelsLast;
    return t;
  }

  std::unique_ptr<Graph> graph(int depth) {
    if (depth > kMaxDepth) error("fewer graphs inside graphs");
    auto g = std::make_unique<Graph>();
    g->fold_below = 0;
    Names names;
    need("graph(");
    while (!take(")")) {
      const std::string n = name();
      need(":");
      const Type t = type();
      if (take("constant")) {
        names[n] = random_constant(*g, t, n, n);
        g->inputs.push_back(names[n]);
      } else {
        names[n] = g->add_input(t, n);
      }
      if (!take(",") && !peek(")")) error("',' or ')'");
    }
    need("{");
    while (!peek("return")) node(*g, names, depth);
    need("return");
    while (!take("}")) {
      g->outputs.push_back(known(names));
      if (!take(",") && !peek("}")) error("',' or '}'");
    }
    return g;
  }

  Value* known(const Names& names) {
    const std::string n = name();
    const auto it = names.find(n);
    if (it == names.end()) error("a value that stands above, not %" + n);
    return it->second;
  }

  void node(Graph& g, Names& names, int depth) {
    std::vector<std::pair<std::string, Type>> results;
    do {
      std::string n = name();
      need(":");
      results.emplace_back(std::move(n), type());
    } while (take(","));
    need("=");
    const std::string op_name = word();
    if (op_name == "constant") {
      names[results[0].first] = constant(g, results[0].second, results[0].first);
      return;
    }
    const Op* op = find_op(op_name);
    if (op == nullptr || op->infer == nullptr) error("an operator, not '" + op_name + "'");
    std::vector<Value*> inputs;
    need("(");
    while (!take(")")) {
      inputs.push_back(take("-") ? nullptr : known(names));
      if (!take(",") && !peek(")")) error("',' or ')'");
    }
    const std::vector<Value*> values = g.add(*op, std::move(inputs), attributes(*op, depth));
    if (values.size() != results.size())
      error(std::to_string(values.size()) + " results of " + op_name);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i]->type.layout = results[i].second.layout;
      if (!(values[i]->type == results[i].second))
        error(values[i]->type.str() + " as the type of %" + results[i].first);
      names[results[i].first] = values[i];
    }
  }

  Attrs attributes(const Op& op, int depth) {
    if (op.attrs == nullptr) return {};
    const std::shared_ptr<void> data = op.attrs->make();
    if (take("{")) {
      while (!take("}")) {
        const std::string key = word();
        need("=");
        const Field* field = nullptr;
        for (const Field& f : op.attrs->fields)
          if (f.name == key) field = &f;
        if (field == nullptr)
          error("an attribute of " + std::string(op.name) + ", not '" + key + "'");
        read(*field, static_cast<char*>(data.get()) + field->offset, depth);
        if (!take(",") && !peek("}")) error("',' or '}'");
      }
    }
    return Attrs(op.attrs, data);
  }

  void read(const Field& f, char* to, int depth) {
    switch (f.kind) {
      case Field::kBool: *reinterpret_cast<bool*>(to) = word() == "true"; return;
      case Field::kInt: *reinterpret_cast<int64_t*>(to) = number<int64_t>(); return;
      case Field::kFloat: *reinterpret_cast<double*>(to) = number<double>(); return;
      case Field::kInts: *reinterpret_cast<std::vector<int64_t>*>(to) = list<int64_t>(); return;
      case Field::kFloats: *reinterpret_cast<std::vector<double>*>(to) = list<double>(); return;
      case Field::kDType: *reinterpret_cast<DType*>(to) = dtype_from_name(word()); return;
      case Field::kGraph: *reinterpret_cast<std::shared_ptr<Graph>*>(to) = graph(depth + 1); return;
      case Field::kString: {
        need("\"");
        const size_t end = text_.find('"', at_);
        if (end == std::string_view::npos) error("the string's end");
        *reinterpret_cast<std::string*>(to) = text_.substr(at_, end - at_);
        at_ = end + 1;
        return;
      }
      case Field::kArray: error("no tensor attribute");
    }
  }

  Value* constant(Graph& g, const Type& t, const std::string& n) {
    skip();
    if (at_ < text_.size() && text_[at_] == '"') {
      const size_t end = text_.find('"', at_ + 1);
      if (end == std::string_view::npos) error("the name's end");
      const std::string label(text_.substr(at_ + 1, end - at_ - 1));
      at_ = end + 1;
      return random_constant(g, t, label, label);
    }
    const bool value = at_ < text_.size() &&
                       (std::isdigit(static_cast<unsigned char>(text_[at_])) || text_[at_] == '-');
    if (!value) return random_constant(g, t, n, {});
    Array filled(DType::kFloat64, t.shape);
    std::fill_n(filled.as<double>(), filled.numel(), number<double>());
    return g.add_constant(filled.to(t.dtype), {});
  }

  // Values in [-1, 1) that depend on the seed alone.
  Value* random_constant(Graph& g, const Type& t, const std::string& seed,
                         const std::string& label) {
    if (t.shape.numel() > kMaxElements) error("a smaller constant");
    Array filled(DType::kFloat64, t.shape);
    uint64_t state = 1469598103934665603ull;
    for (char c : seed) state = (state ^ static_cast<unsigned char>(c)) * 1099511628211ull;
    for (int64_t i = 0; i < filled.numel(); ++i) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      filled.as<double>()[i] = static_cast<double>(state >> 40) * 0x1p-23 - 1;
    }
    return g.add_constant(filled.to(t.dtype), label);
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::unique_ptr<Graph> parse_graph(std::string_view text) { return Parser(text).whole(); }

}  // namespace trireme
