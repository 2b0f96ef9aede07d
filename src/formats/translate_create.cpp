// Translations of operators that make tensors from numbers and shapes.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "formats/context.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme {
namespace {

// The constant of fill_constant: str_value, where given, is the exact form of value.
double fill_number(const Context& c) {
  const std::string text = c.text("str_value", "");
  if (text.empty()) return c.number("value", 0);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str()) c.damaged("str_value '" + text + "' is no number");
  return value;
}

Value* filled(const Context& c, const std::vector<int64_t>& shape, DType dtype) {
  if (std::ranges::any_of(shape, [](int64_t dim) { return dim < 0; })) {
    c.damaged("shape " + Shape(shape).str() + " has a negative dimension");
  }
  Value* value = c.maybe("ValueTensor");
  if (value == nullptr || constant_of(value) != nullptr) {
    return ops::full(shape, value == nullptr ? fill_number(c) : c.number("", 0, {"ValueTensor"}),
                     dtype);
  }
  value = ops::cast(value, dtype);
  if (value->type.shape.rank() > 0) value = ops::reshape(value, {});
  return ops::expand(value, shape);
}

void fill_constant(Context& c) {
  c.out(filled(c, c.ints("shape", {"ShapeTensor", "ShapeTensorList"}),
               c.dtype("dtype", DType::kFloat32)));
}

void fill_like(Context& c) {
  const Value* x = c.in("X");
  c.out(filled(c, dims_of(x), c.dtype("dtype", x->type.dtype)));
}

void fill_zeros_like(Context& c) {
  const Value* x = c.in("X");
  c.out(ops::full(dims_of(x), 0, x->type.dtype));
}

void fill_batch_size_like(Context& c) {
  const Value* x = c.in("Input");
  std::vector<int64_t> shape = c.ints("shape");
  const int64_t from = normal_axis(c, c.integer("input_dim_idx", 0), x->type.shape.rank());
  const int64_t to =
      normal_axis(c, c.integer("output_dim_idx", 0), static_cast<int64_t>(shape.size()));
  if (x->type.shape.rank() == 0 || shape.empty()) c.damaged("the batch dimension is missing");
  shape[static_cast<size_t>(to)] = x->type.shape[static_cast<int>(from)];
  c.out(filled(c, shape, c.dtype("dtype", DType::kFloat32)));
}

Value* tensor_of(const std::vector<double>& values, const Shape& shape, DType dtype) {
  return constant(Array::from<double>(shape, values, DType::kFloat64).to(dtype));
}

void full_int_array(Context& c) {
  const std::vector<int64_t> values = c.ints("value");
  const Array tensor =
      Array::from<int64_t>(Shape{static_cast<int64_t>(values.size())}, values, DType::kInt64);
  c.out(constant(tensor.to(c.dtype("dtype", DType::kInt64))));
}

void assign_value(Context& c) {
  const std::vector<int64_t> dims = c.ints("shape");
  const DType dtype = c.dtype("dtype", DType::kFloat32);
  const Shape shape = checked_shape(dims, "[assign_value] shape");
  for (const char* name : {"values", "fp32_values", "fp64_values", "int32_values", "bool_values"}) {
    const std::vector<double> values = c.numbers(name);
    if (!values.empty()) return c.out(tensor_of(values, shape, dtype));
  }
  const std::vector<int64_t> exact = c.ints("int64_values");
  c.out(constant(Array::from<int64_t>(shape, exact, DType::kInt64).to(dtype)));
}

void shape(Context& c) { c.out(ops::shape_of(c.in("Input"), DType::kInt32)); }
void shape64(Context& c) { c.out(ops::shape_of(c.in("Input"), DType::kInt64)); }

void numel(Context& c) {
  const Value* x = c.in("Input");
  c.out(ops::full({}, static_cast<double>(x->type.shape.numel()), DType::kInt64));
}

void range(Context& c) {
  const double start = c.number("start", 0, {"Start"}), end = c.number("end", 0, {"End"});
  const double step = c.number("step", 1, {"Step"});
  DType dtype = c.has("Start") ? c.in("Start")->type.dtype : DType::kInt64;
  dtype = c.dtype("dtype", dtype);
  if (!(step != 0) || !(std::abs((end - start) / step) < 1e9)) {
    c.damaged("from " + std::to_string(start) + " to " + std::to_string(end) + " by " +
              std::to_string(step));
  }
  c.out(ops::arange(start, end, step, dtype));
}

void linspace(Context& c) {
  const double start = c.number("", 0, {"Start"}), stop = c.number("", 0, {"Stop"});
  const int64_t count = c.integer("", 1, {"Num"});
  if (count < 1 || count > (int64_t{1} << 24)) c.damaged("num " + std::to_string(count));
  std::vector<double> values(static_cast<size_t>(count), start);
  for (int64_t i = 1; i < count; ++i) {
    values[static_cast<size_t>(i)] =
        start + (stop - start) * static_cast<double>(i) / static_cast<double>(count - 1);
  }
  c.out(tensor_of(values, Shape{count}, c.dtype("dtype", DType::kFloat32)));
}

// The lower or upper triangle of the last two dimensions.
void triangle(Context& c) {
  Value* x = c.in("X");
  const auto diagonal = static_cast<int64_t>(c.number("diagonal", 0));
  c.out(c.flag("lower", true) && c.op().type != "triu" ? ops::tril(x, diagonal)
                                                       : ops::triu(x, diagonal));
}

constexpr Translation kTable[] = {
    {"fill_constant", fill_constant},
    {"fill_any_like", fill_like},
    {"fill_zeros_like", fill_zeros_like},
    {"fill_constant_batch_size_like", fill_batch_size_like},
    {"full_int_array", full_int_array},
    {"assign_value", assign_value},
    {"shape", shape},
    {"shape64", shape64},
    {"size", numel},
    {"range", range},
    {"linspace", linspace},
    {"tril_triu", triangle},
    {"triu", triangle},
};

}  // namespace

std::span<const Translation> create_translations() { return kTable; }

}  // namespace trireme
