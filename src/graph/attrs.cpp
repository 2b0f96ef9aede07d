// Comparing and printing attributes, field by field.
#include "graph/attrs.h"

#include <charconv>

#include "graph/graph.h"

namespace trireme {
namespace {

template <class T> const T& at(const void* data, const Field& f) {
  return *reinterpret_cast<const T*>(static_cast<const char*>(data) + f.offset);
}

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
      return x.data() == y.data() && x.dtype() == y.dtype() && x.shape() == y.shape();
    }
    case Field::kGraph: {
      const auto &x = at<std::shared_ptr<Graph>>(a, f), &y = at<std::shared_ptr<Graph>>(b, f);
      return x == y || (x && y && same_graph(*x, *y));
    }
  }
  return false;
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

bool operator==(const Attrs& a, const Attrs& b) {
  if (a.info_ != b.info_) return false;
  if (a.info_ == nullptr || a.data_ == b.data_) return true;
  for (const Field& f : a.info_->fields)
    if (!equal_field(f, a.data_.get(), b.data_.get())) return false;
  return true;
}

}  // namespace trireme
