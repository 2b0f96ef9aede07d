// Comparing and printing attributes, field by field.
#include "graph/attrs.h"

#include <charconv>
#include <cstring>

#include "graph/graph.h"

namespace trireme {
namespace {

template <class T> const T& at(const void* data, const Field& f) {
  return *reinterpret_cast<const T*>(static_cast<const char*>(data) + f.offset);
}

constexpr size_t kByContent = size_t{64} << 10;

bool equal_field(const Field& f, const void* a, const void* b) {
  switch (f.kind) {
    case Field::kBool: return at<bool>(a, f) == at<bool>(b, f);
    case Field::kInt: return at<int64_t>(a, f) == at<int64_t>(b, f);
    case Field::kFloat: return at<double>(a, f) == at<double>(b, f);
    case Field::kString: return at<std::string>(a, f) == at<std::string>(b, f);
    case Field::kInts: return at<std::vector<int64_t>>(a, f) == at<std::vector<int64_t>>(b, f);
    case Field::kFloats: return at<std::vector<double>>(a, f) == at<std::vector<double>>(b, f);
    case Field::kDType: return at<DType>(a, f) == at<DType>(b, f);
    case Field::kArray: {
      const Array &x = at<Array>(a, f), &y = at<Array>(b, f);
      return x.dtype() == y.dtype() && x.shape() == y.shape() &&
             (x.data() == y.data() ||
              (x.bytes() <= kByContent && std::memcmp(x.data(), y.data(), x.bytes()) == 0));
    }
    case Field::kGraph: {
      const auto &x = at<std::shared_ptr<Graph>>(a, f), &y = at<std::shared_ptr<Graph>>(b, f);
      return x == y || (x && y && same_graph(*x, *y));
    }
  }
  return false;
}

size_t hash_field(const Field& f, const void* data) {
  const auto bytes = [](const void* p, size_t n) {
    return std::hash<std::string_view>()({static_cast<const char*>(p), n});
  };
  switch (f.kind) {
    case Field::kBool: return at<bool>(data, f) ? 1 : 2;
    case Field::kInt: return std::hash<int64_t>()(at<int64_t>(data, f));
    case Field::kFloat: return std::hash<double>()(at<double>(data, f));
    case Field::kString: return std::hash<std::string>()(at<std::string>(data, f));
    case Field::kInts: {
      const auto& v = at<std::vector<int64_t>>(data, f);
      return bytes(v.data(), v.size() * sizeof(int64_t));
    }
    case Field::kFloats: {
      size_t h = 0;  // by value: 0 and -0 are equal
      for (const double v : at<std::vector<double>>(data, f)) h = h * 31 + std::hash<double>()(v);
      return h;
    }
    case Field::kDType: return static_cast<size_t>(at<DType>(data, f));
    case Field::kArray: {
      const Array& x = at<Array>(data, f);
      return x.bytes() <= kByContent ? bytes(x.data(), x.bytes())
                                     : std::hash<const void*>()(x.data());
    }
    case Field::kGraph: {
      const auto& x = at<std::shared_ptr<Graph>>(data, f);
      return x ? x->nodes.size() : 0;
    }
  }
  return 0;
}

std::string number(double v) {
  char buffer[32];
  const auto r = std::to_chars(buffer, buffer + sizeof buffer, v);
  return std::string(buffer, r.ptr);
}

template <class T, class F> std::string list(const std::vector<T>& values, F&& text) {
  std::string s = "[";
  for (size_t i = 0; i < values.size(); ++i) s += (i ? ", " : "") + text(values[i]);
  return s + "]";
}

std::string field_text(const Field& f, const void* data) {
  switch (f.kind) {
    case Field::kBool: return at<bool>(data, f) ? "true" : "false";
    case Field::kInt: return std::to_string(at<int64_t>(data, f));
    case Field::kFloat: return number(at<double>(data, f));
    case Field::kString: return '"' + at<std::string>(data, f) + '"';
    case Field::kInts:
      return list(at<std::vector<int64_t>>(data, f), [](int64_t v) { return std::to_string(v); });
    case Field::kFloats: return list(at<std::vector<double>>(data, f), number);
    case Field::kDType: return std::string(name_of(at<DType>(data, f)));
    case Field::kArray: return "...";
    case Field::kGraph: return "graph";
  }
  return {};
}

}  // namespace

std::string Attrs::str() const {
  if (info_ == nullptr) return {};
  const std::shared_ptr<void> defaults = info_->make();
  std::string s;
  for (const Field& f : info_->fields) {
    if (equal_field(f, data_.get(), defaults.get())) continue;
    s += (s.empty() ? "" : ", ") + std::string(f.name) + '=' + field_text(f, data_.get());
  }
  return s.empty() ? s : '{' + s + '}';
}

size_t Attrs::hash() const {
  size_t h = 0;
  if (info_ != nullptr)
    for (const Field& f : info_->fields) h = h * 0x9e3779b97f4a7c15U + hash_field(f, data_.get());
  return h;
}

bool operator==(const Attrs& a, const Attrs& b) {
  if (a.info_ != b.info_) return false;
  if (a.info_ == nullptr || a.data_ == b.data_) return true;
  for (const Field& f : a.info_->fields)
    if (!equal_field(f, a.data_.get(), b.data_.get())) return false;
  return true;
}

}  // namespace trireme
