// Attrs: an operator's attributes. A plain struct, described by a list of fields from which they
// are hashed, compared, printed and parsed; no operator writes code for that.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "trireme/array.h"

namespace trireme {

class Graph;

struct Field {
  enum Kind : uint8_t { kBool, kInt, kFloat, kString, kInts, kFloats, kDType, kArray, kGraph };
  std::string_view name;
  Kind kind;
  size_t offset;
};

struct AttrInfo {
  std::span<const Field> fields;
  std::shared_ptr<void> (*make)();  // default values
  std::shared_ptr<void> (*copy)(const void*);
};

namespace detail {
template <class T> consteval Field::Kind kind_of() {
  if constexpr (std::is_same_v<T, bool>) return Field::kBool;
  else if constexpr (std::is_same_v<T, int64_t>) return Field::kInt;
  else if constexpr (std::is_same_v<T, double>) return Field::kFloat;
  else if constexpr (std::is_same_v<T, std::string>) return Field::kString;
  else if constexpr (std::is_same_v<T, std::vector<int64_t>>) return Field::kInts;
  else if constexpr (std::is_same_v<T, std::vector<double>>) return Field::kFloats;
  else if constexpr (std::is_same_v<T, DType>) return Field::kDType;
  else if constexpr (std::is_same_v<T, Array>) return Field::kArray;
  else return Field::kGraph;
}
}  // namespace detail

// One line of a field list: TRI_FIELD(Conv2dAttrs, strides).
#define TRI_FIELD(Struct, member)                                                               \
  ::trireme::Field {                                                                            \
#member, ::trireme::detail::kind_of < decltype(Struct::member)>(), offsetof(Struct, member) \
  }

// attr_info<S>: the description of struct S, from its static array `fields`, which stands behind
// the struct:
//   struct ScaleAttrs { double scale = 1, bias = 0;  static const Field fields[]; };
//   inline constexpr Field ScaleAttrs::fields[] = {TRI_FIELD(ScaleAttrs, scale),
//   TRI_FIELD(ScaleAttrs, bias)};
template <class S>
inline const AttrInfo attr_info = {
    S::fields, [] { return std::shared_ptr<void>(std::make_shared<S>()); },
    [](const void* p) {
      return std::shared_ptr<void>(std::make_shared<S>(*static_cast<const S*>(p)));
    }};

// An immutable, shared attribute struct together with its description; empty for operators without
// attributes.
class Attrs {
 public:
  Attrs() = default;
  template <class S>
  requires(!std::is_same_v<std::remove_cvref_t<S>, Attrs>) Attrs(S value)
      : info_(&attr_info<S>),
        data_(std::make_shared<S>(std::move(value))) {}  // NOLINT: converting on purpose
  Attrs(const AttrInfo* info, std::shared_ptr<const void> data)
      : info_(info), data_(std::move(data)) {}

  template <class S> const S& get() const { return *static_cast<const S*>(data_.get()); }
  const AttrInfo* info() const { return info_; }
  const void* data() const { return data_.get(); }
  std::string str()
      const;  // "{strides=[2, 2], groups=1}"; fields with their default value are left out

  // Field by field. Arrays of up to 64 KiB by their elements, larger ones by identity.
  friend bool operator==(const Attrs& a, const Attrs& b);
  size_t hash() const;

 private:
  const AttrInfo* info_ = nullptr;
  std::shared_ptr<const void> data_;
};

}  // namespace trireme
