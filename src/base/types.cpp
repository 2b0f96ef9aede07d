// Names and sizes of element types; shapes and their text.
#include "trireme/types.h"

#include <algorithm>
#include <charconv>

#include "trireme/error.h"

namespace trireme {
namespace {

struct DTypeInfo {
  std::string_view name;
  size_t size;
  bool floating;
};
constexpr DTypeInfo kDTypes[] = {{"bool", 1, false},   {"uint8", 1, false},   {"int8", 1, false},
                                 {"int16", 2, false},  {"int32", 4, false},   {"int64", 8, false},
                                 {"float16", 2, true}, {"bfloat16", 2, true}, {"float32", 4, true},
                                 {"float64", 8, true}};
const DTypeInfo& info(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

}  // namespace

size_t size_of(DType dtype) { return info(dtype).size; }
std::string_view name_of(DType dtype) { return info(dtype).name; }
bool is_floating(DType dtype) { return info(dtype).floating; }

DType dtype_from_name(std::string_view name) {
  for (size_t i = 0; i < std::size(kDTypes); ++i)
    if (kDTypes[i].name == name) return static_cast<DType>(i);
  fail(Code::kInvalidArgument, "no such dtype: '" + std::string(name) + "'");
}

Shape::Shape(std::span<const int64_t> dims) {
  for (int64_t d : dims) push_back(d);
}

void Shape::push_back(int64_t dim) {
  TRI_CHECK(rank_ < kMaxRank, "a shape has at most 8 dimensions");
  dims_[static_cast<size_t>(rank_++)] = dim;
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int64_t d : dims()) {
    TRI_CHECK(d >= 0, "the shape " + str() + " is not known completely");
    TRI_CHECK(!__builtin_mul_overflow(n, d, &n), "the shape " + str() + " has too many elements");
  }
  return n;
}

bool Shape::known() const {
  return std::all_of(begin(), end(), [](int64_t d) { return d >= 0; });
}

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string((*this)[i]);
  return s + "]";
}

bool operator==(const Shape& a, const Shape& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

Shape shape_from_text(std::string_view text) {
  Shape shape;
  std::string_view rest = text;
  if (rest.starts_with('[') && rest.ends_with(']')) rest = rest.substr(1, rest.size() - 2);
  while (!rest.empty()) {
    int64_t dim = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), dim);
    TRI_CHECK(error == std::errc() && dim >= -1,
              "not a shape: '" + std::string(text) + "' (write 1x3x640x640)");
    shape.push_back(dim);
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    const size_t separator = rest.find_first_not_of(" ,xX");
    TRI_CHECK(rest.empty() || separator != 0,
              "not a shape: '" + std::string(text) + "' (write 1x3x640x640)");
    rest.remove_prefix(std::min(separator, rest.size()));
  }
  return shape;
}

}  // namespace trireme
