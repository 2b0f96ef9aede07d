// Context: typed access to a foreign operator's inputs and attributes.
#include "formats/context.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "trireme/error.h"

namespace trireme {
namespace {

template <class... Fs> struct Overload : Fs... { using Fs::operator()...; };
template <class... Fs> Overload(Fs...) -> Overload<Fs...>;

std::string brief(double number) {
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), "%g", number);
  return buffer;
}

template <class T, class F> std::string list_text(const std::vector<T>& values, F text) {
  std::string out = "[";
  for (size_t i = 0; i < values.size() && i < 16; ++i) out += (i ? ", " : "") + text(values[i]);
  return out + (values.size() > 16 ? ", ...]" : "]");
}

std::string text_of(const ForeignAttr& attr) {
  const auto number = [](auto x) { return brief(static_cast<double>(x)); };
  return std::visit(
      Overload{[](std::monostate) { return std::string("?"); },
               [](bool x) { return std::string(x ? "true" : "false"); },
               [](int64_t x) { return std::to_string(x); }, [](double x) { return brief(x); },
               [](const std::string& x) { return "'" + x.substr(0, 80) + "'"; },
               [&](const std::vector<int64_t>& x) { return list_text(x, number); },
               [&](const std::vector<double>& x) { return list_text(x, number); },
               [](const std::vector<std::string>& x) {
                 return list_text(x,
                                  [](const std::string& s) { return "'" + s.substr(0, 80) + "'"; });
               }},
      attr);
}

// Any kind of attribute as a list of numbers; nothing when it is a text or unknown.
std::optional<std::vector<double>> as_numbers(const ForeignAttr& attr) {
  using List = std::vector<double>;
  return std::visit(
      Overload{[](bool x) -> std::optional<List> { return List{x ? 1.0 : 0.0}; },
               [](int64_t x) -> std::optional<List> { return List{static_cast<double>(x)}; },
               [](double x) -> std::optional<List> { return List{x}; },
               [](const std::vector<int64_t>& x) -> std::optional<List> {
                 return List(x.begin(), x.end());
               },
               [](const List& x) -> std::optional<List> { return x; },
               [](const auto&) -> std::optional<List> { return std::nullopt; }},
      attr);
}

template <class T> std::vector<double> widen(const Array& tensor) {
  const T* data = tensor.as<T>();
  return std::vector<double>(data, data + tensor.numel());
}

// A list of numbers of a file as integers, which they must nearly be. Paddle's "to the end" bounds
// are near the limits of int64, where a double is no longer exact: they are clamped.
int64_t to_integer(double x) {
  constexpr double kMost = 9.0e18;
  if (std::isnan(x)) return 0;
  return static_cast<int64_t>(std::clamp(x, -kMost, kMost));
}

}  // namespace

std::vector<double> numbers_of(const Array& tensor) {
  switch (tensor.dtype()) {
    case DType::kBool:
    case DType::kUInt8: return widen<uint8_t>(tensor);
    case DType::kInt8: return widen<int8_t>(tensor);
    case DType::kInt16: return widen<int16_t>(tensor);
    case DType::kInt32: return widen<int32_t>(tensor);
    case DType::kInt64: return widen<int64_t>(tensor);
    case DType::kFloat32: return widen<float>(tensor);
    case DType::kFloat64: return widen<double>(tensor);
    default: return widen<float>(tensor.to(DType::kFloat32));
  }
}

Value* scalar_like(const Value* x, double value) { return scalar(value, x->type.dtype); }

std::vector<int64_t> dims_of(const Value* x) {
  return {x->type.shape.begin(), x->type.shape.end()};
}

int64_t normal_axis(const Context& c, int64_t axis, int64_t rank) {
  const int64_t normal = axis < 0 ? axis + rank : axis;
  if (normal < 0 || normal >= std::max<int64_t>(rank, 1)) {
    c.damaged("axis " + std::to_string(axis) + " of a value of rank " + std::to_string(rank));
  }
  return normal;
}

const ForeignSlot* Context::slot(std::string_view name) const {
  for (const ForeignSlot& slot : op_.inputs) {
    if (slot.name == name) return &slot;
  }
  return nullptr;
}

const ForeignAttr* Context::attr(std::string_view name) const {
  for (const auto& [key, value] : op_.attrs) {
    if (key == name) return std::holds_alternative<std::monostate>(value) ? nullptr : &value;
  }
  return nullptr;
}

void Context::refuse(const std::string& why) const {
  std::string attrs;
  for (const auto& [key, value] : op_.attrs) {
    attrs += (attrs.empty() ? "" : ", ") + key + "=" + text_of(value);
  }
  fail(Code::kUnimplemented, "[" + op_.type + "] " + why + "; attributes: {" + attrs + "}",
       op_.where);
}

void Context::damaged(const std::string& why) const {
  fail(Code::kInvalidArgument, "[" + op_.type + "] " + why, op_.where);
}

bool Context::has(std::string_view name) const {
  const ForeignSlot* found = slot(name);
  return found != nullptr && found->values[0] >= 0;
}

Value* Context::maybe(std::string_view name) const {
  return has(name) ? recording_.get(slot(name)->values[0], &op_) : nullptr;
}

Value* Context::in(std::string_view name) const {
  Value* value = maybe(name);
  if (value == nullptr) damaged("input " + std::string(name) + " is missing");
  return value;
}

std::vector<Value*> Context::all(std::string_view name) const {
  std::vector<Value*> values;
  if (const ForeignSlot* found = slot(name)) {
    for (int id : found->values) values.push_back(id < 0 ? nullptr : recording_.get(id, &op_));
  }
  return values;
}

std::optional<std::vector<double>> Context::from_inputs(std::string_view name, Names slots) const {
  const auto read = [&](std::string_view key) {
    std::vector<double> numbers;
    for (const Value* value : all(key)) {
      const Array* tensor = value == nullptr ? nullptr : constant_of(value);
      if (tensor == nullptr) {
        refuse("input " + std::string(key) +
               " depends on the data; it must be known while recording");
      }
      for (double x : numbers_of(*tensor)) numbers.push_back(x);
    }
    return numbers;
  };
  for (std::string_view key : slots) {
    if (has(key)) return read(key);
  }
  if (has(name)) return read(name);
  return std::nullopt;
}

bool Context::known(std::string_view name, Names slots) const {
  return attr(name) != nullptr || has(name) ||
         std::ranges::any_of(slots, [&](auto s) { return has(s); });
}

std::vector<double> Context::numbers(std::string_view name, Names slots) const {
  if (auto values = from_inputs(name, slots)) return *std::move(values);
  const ForeignAttr* found = attr(name);
  if (found == nullptr) return {};
  auto values = as_numbers(*found);
  if (!values) refuse("attribute " + std::string(name) + " is not numeric");
  return *std::move(values);
}

std::vector<int64_t> Context::ints(std::string_view name, Names slots) const {
  if (const ForeignAttr* found = attr(name); found != nullptr) {
    const auto* exact = std::get_if<std::vector<int64_t>>(found);
    const bool from_input = has(name) || std::ranges::any_of(slots, [&](auto s) { return has(s); });
    if (exact != nullptr && !from_input) return *exact;
  }
  std::vector<int64_t> out;
  for (double x : numbers(name, slots)) out.push_back(to_integer(x));
  return out;
}

double Context::number(std::string_view name, double otherwise, Names slots) const {
  const std::vector<double> values = numbers(name, slots);
  return values.empty() ? otherwise : values[0];
}

int64_t Context::integer(std::string_view name, int64_t otherwise, Names slots) const {
  const std::vector<int64_t> values = ints(name, slots);
  return values.empty() ? otherwise : values[0];
}

bool Context::flag(std::string_view name, bool otherwise) const {
  return number(name, otherwise ? 1 : 0) != 0;
}

std::string Context::text(std::string_view name, std::string otherwise) const {
  const ForeignAttr* found = attr(name);
  if (found == nullptr) return otherwise;
  const auto* value = std::get_if<std::string>(found);
  if (value == nullptr) refuse("attribute " + std::string(name) + " is not a text");
  return *value;
}

DType Context::dtype(std::string_view name, DType otherwise) const {
  const ForeignAttr* found = attr(name);
  if (found == nullptr) return otherwise;
  if (const auto* value = std::get_if<std::string>(found)) {
    if (value->empty() || value->starts_with("Undefined")) return otherwise;
    return dtype_from_name(*value);
  }
  const int64_t code = integer(name, -1);
  return code < 0 ? otherwise : dtype_from_paddle(code, "attribute " + std::string(name));
}

void Context::out(const std::vector<Value*>& values) const {
  if (op_.outputs.empty()) damaged("the operator has no output");
  out(op_.outputs[0].name, values);
}

void Context::out(std::string_view name, Value* value) const {
  out(name, std::vector<Value*>{value});
}

void Context::out(std::string_view name, const std::vector<Value*>& values) const {
  for (const ForeignSlot& slot : op_.outputs) {
    if (slot.name != name) continue;
    if (slot.values.size() != values.size()) {
      damaged("output " + slot.name + " lists " + std::to_string(slot.values.size()) +
              " variables, the operator gives " + std::to_string(values.size()));
    }
    for (size_t i = 0; i < values.size(); ++i) {
      if (slot.values[i] >= 0) recording_.set(slot.values[i], values[i]);
    }
  }
}

size_t Context::count_out(std::string_view name) const {
  for (const ForeignSlot& slot : op_.outputs) {
    if (slot.name == name) return slot.values.size();
  }
  return 0;
}

}  // namespace trireme
