// Checked access to PIR's JSON.
#include "formats/pir_json.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "trireme/error.h"

namespace trireme {

void PirJson::damaged(const std::string& what) const { fail(Code::kInvalidArgument, what, place_); }

const Json& PirJson::member(const Json& object, const char* key) const {
  if (!object.is_object()) damaged(std::string("an object with \"") + key + "\" was expected");
  const auto it = object.find(key);
  if (it == object.end()) damaged(std::string("\"") + key + "\" is missing");
  return *it;
}

const Json& PirJson::list(const Json& object, const char* key) const {
  const Json& value = member(object, key);
  if (!value.is_array()) damaged(std::string("\"") + key + "\" is not a list");
  return value;
}

const std::string& PirJson::text(const Json& value, const char* what) const {
  const auto* string = value.get_ptr<const std::string*>();
  if (string == nullptr) damaged(std::string(what) + " is not a text");
  return *string;
}

int64_t PirJson::integer(const Json& value, const char* what) const {
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (!value.is_number_integer()) damaged(std::string(what) + " is not an integer");
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{1} << 62) {
    damaged(std::string(what) + " is too large");
  }
  return value.get<int64_t>();
}

DType PirJson::element_type(const Json& type) const {
  static const std::unordered_map<std::string, DType> kTypes = {
      {"0.t_bool", DType::kBool},   {"0.t_ui8", DType::kUInt8},     {"0.t_i8", DType::kInt8},
      {"0.t_i16", DType::kInt16},   {"0.t_i32", DType::kInt32},     {"0.t_i64", DType::kInt64},
      {"0.t_f16", DType::kFloat16}, {"0.t_bf16", DType::kBFloat16}, {"0.t_f32", DType::kFloat32},
      {"0.t_f64", DType::kFloat64}, {"0.t_index", DType::kInt64}};
  const std::string& name = text(member(type, "#"), "an element type");
  const auto it = kTypes.find(name);
  if (it == kTypes.end()) {
    fail(Code::kUnimplemented, "element type '" + name + "' is not supported", place_);
  }
  return it->second;
}

std::vector<int64_t> PirJson::integers(const Json& values, const char* what) const {
  if (!values.is_array()) damaged(std::string(what) + " is not a list");
  std::vector<int64_t> out;
  for (const Json& value : values) out.push_back(integer(value, what));
  return out;
}

void PirJson::tensor_type(const Json& type, DType& dtype, Shape& shape, bool lenient) const {
  if (member(type, "#") != "0.t_dtensor") damaged("a tensor type was expected");
  const Json& data = list(type, "D");
  if (data.size() < 2) damaged("a tensor type is incomplete");
  dtype = element_type(data[0]);
  std::vector<int64_t> dims = integers(data[1], "a shape");
  // Paddle's own inference leaves numbers like -6 in shapes of outputs; they are not relied upon.
  if (lenient)
    std::ranges::replace_if(
        dims, [](int64_t dim) { return dim < -1; }, -1);
  shape = checked_shape(dims, place_);
}

double PirJson::floating(const Json& attr) const {
  if (const auto special = attr.find("VD"); special != attr.end()) {
    const std::string& name = text(*special, "a special number");
    if (name == "NaN") return std::numeric_limits<double>::quiet_NaN();
    if (name == "INF") return std::numeric_limits<double>::infinity();
    if (name == "-INF") return -std::numeric_limits<double>::infinity();
    damaged("a number is '" + name + "'");
  }
  const Json& value = member(attr, "D");
  if (!value.is_number()) damaged("an attribute is not a number");
  return value.get<double>();
}

ForeignAttr PirJson::array(const Json& parts) const {
  std::vector<int64_t> ints;
  std::vector<double> floats;
  std::vector<std::string> texts;
  for (const Json& part : parts) {
    const ForeignAttr value = attribute(part, false);
    if (const auto* number = std::get_if<int64_t>(&value)) {
      ints.push_back(*number);
      floats.push_back(static_cast<double>(*number));
    } else if (const auto* truth = std::get_if<bool>(&value)) {
      ints.push_back(*truth ? 1 : 0);
      floats.push_back(*truth ? 1 : 0);
    } else if (const auto* real = std::get_if<double>(&value)) {
      floats.push_back(*real);
    } else if (const auto* string = std::get_if<std::string>(&value)) {
      texts.push_back(*string);
    }
  }
  if (ints.size() == parts.size()) return ints;
  if (floats.size() == parts.size()) return floats;
  if (texts.size() == parts.size()) return texts;
  return std::monostate{};
}

ForeignAttr PirJson::attribute(const Json& attr, bool nested) const {
  const std::string& kind = text(member(attr, "#"), "an attribute's kind");
  const std::string_view name =
      std::string_view(kind).substr(std::min(kind.size(), kind.find('.') + 1));
  if (name == "a_f32" || name == "a_f64") return floating(attr);
  if (name == "a_bool") return integer(member(attr, "D"), "a truth value") != 0;
  if (name == "a_i32" || name == "a_i64" || name == "a_index")
    return integer(member(attr, "D"), "an attribute");
  if (name == "a_str" || name == "a_tensorname" || name == "a_dtype")
    return text(member(attr, "D"), "an attribute");
  if (name == "a_intarray") return integers(member(attr, "D"), "an attribute");
  if (name == "a_array" && nested) return array(list(attr, "D"));
  if (name == "a_scalar") return scalar(list(attr, "D"));
  return std::monostate{};
}

ForeignAttr PirJson::scalar(const Json& parts) const {
  if (parts.size() != 2) damaged("a scalar is incomplete");
  const Json& value = parts[1];
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return integer(value, "a scalar");
  if (value.is_number()) return value.get<double>();
  return std::monostate{};
}

}  // namespace trireme
