// Translations of operators that move, cut, join or rename elements.
#include <algorithm>

#include "formats/context.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme {
namespace {

void reshape(Context& c) {
  Value* x = c.in("X");
  c.out("Out", ops::reshape(x, c.ints("shape", {"ShapeTensor", "Shape"})));
}

void transpose(Context& c) { c.out("Out", ops::transpose(c.in("X"), c.ints("axis"))); }

std::vector<int64_t> normal_axes(const Context& c, std::vector<int64_t> axes, int64_t rank) {
  for (int64_t& axis : axes) axis = normal_axis(c, axis, rank);
  return axes;
}

// Paddle leaves alone dimensions that are not 1.
void squeeze(Context& c) {
  Value* x = c.in("X");
  std::vector<int64_t> axes = normal_axes(c, c.ints("axes"), x->type.shape.rank());
  const bool all = axes.empty();
  std::erase_if(axes, [&](int64_t axis) { return x->type.shape[static_cast<int>(axis)] != 1; });
  c.out("Out", all || !axes.empty() ? ops::squeeze(x, axes) : x);
}

void unsqueeze(Context& c) {
  Value* x = c.in("X");
  const std::vector<int64_t> axes = c.ints("axes", {"AxesTensor", "AxesTensorList"});
  // One after the other, as Paddle does: later axes count the dimensions that earlier ones put in.
  std::vector<int64_t> dims = dims_of(x);
  for (int64_t axis : axes) {
    const int64_t at = normal_axis(c, axis, static_cast<int64_t>(dims.size()) + 1);
    dims.insert(dims.begin() + at, 1);
  }
  c.out("Out", axes.empty() ? x : ops::reshape(x, dims));
}

void flatten_range(Context& c) {
  Value* x = c.in("X");
  const int64_t rank = x->type.shape.rank();
  if (rank == 0) return c.out("Out", ops::reshape(x, {1}));
  c.out("Out", ops::flatten(x, normal_axis(c, c.integer("start_axis", 1), rank),
                            normal_axis(c, c.integer("stop_axis", 1), rank)));
}

// To a matrix: the dimensions before `axis` are rows.
void flatten_matrix(Context& c) {
  Value* x = c.in("X");
  const int64_t axis = c.integer("axis", 1);
  if (axis < 0 || axis > x->type.shape.rank()) c.damaged("axis " + std::to_string(axis));
  int64_t rows = 1;
  for (int i = 0; i < axis; ++i) rows *= x->type.shape[i];
  c.out("Out", ops::reshape(x, {rows, rows == 0 ? 0 : x->type.shape.numel() / rows}));
}

// ---- cutting ----

Value* drop_axes(const Context& c, Value* x, const std::vector<int64_t>& axes) {
  if (axes.empty()) return x;
  for (int64_t axis : normal_axes(c, axes, x->type.shape.rank())) {
    if (x->type.shape[static_cast<int>(axis)] != 1) {
      c.damaged("decrease_axis " + std::to_string(axis) + " of " + x->type.shape.str() +
                " is not 1");
    }
  }
  return ops::squeeze(x, normal_axes(c, axes, x->type.shape.rank()));
}

void slice(Context& c) {
  Value* x = c.in("Input");
  const std::vector<int64_t> axes = normal_axes(c, c.ints("axes"), x->type.shape.rank());
  const std::vector<int64_t> starts = c.ints("starts", {"StartsTensor", "StartsTensorList"});
  std::vector<int64_t> ends = c.ints("ends", {"EndsTensor", "EndsTensorList"});
  const std::vector<int64_t> strides = c.ints("strides", {"StridesTensor", "StridesTensorList"});
  if (starts.size() != axes.size() || ends.size() != axes.size() ||
      (!strides.empty() && strides.size() != axes.size())) {
    c.damaged("axes, starts and ends have " + std::to_string(axes.size()) + ", " +
              std::to_string(starts.size()) + " and " + std::to_string(ends.size()) + " numbers");
  }
  const std::vector<int64_t> dropped = c.ints("decrease_axis");
  for (size_t i = 0; i < axes.size(); ++i) {
    // x[-1] is written as start -1, end 0.
    const bool one = std::ranges::find(dropped, axes[i]) != dropped.end();
    if (one && starts[i] == -1 && ends[i] == 0) ends[i] = x->type.shape[static_cast<int>(axes[i])];
  }
  c.out("Out",
        drop_axes(c, axes.empty() ? x : ops::slice(x, axes, starts, ends, strides), dropped));
}

void split(Context& c) {
  Value* x = c.in("X");
  const int64_t axis = normal_axis(c, c.integer("axis", 0, {"AxisTensor"}), x->type.shape.rank());
  const int64_t whole = x->type.shape[static_cast<int>(axis)];
  std::vector<int64_t> sections = c.ints("sections", {"SectionsTensorList"});
  if (sections.empty()) {
    const int64_t count = c.integer("num", static_cast<int64_t>(c.count_out("Out")));
    if (count < 1 || whole % count != 0) {
      c.damaged(std::to_string(whole) + " does not split into " + std::to_string(count) + " parts");
    }
    sections.assign(static_cast<size_t>(count), whole / count);
  }
  int64_t known = 0;
  for (int64_t section : sections) known += std::max<int64_t>(section, 0);
  for (int64_t& section : sections) section = section < 0 ? whole - known : section;
  c.out("Out", ops::split(x, sections, axis));
}

void unstack(Context& c) {
  Value* x = c.in("X");
  const int64_t axis = normal_axis(c, c.integer("axis", 0), x->type.shape.rank());
  std::vector<Value*> parts;
  for (int64_t i = 0; i < x->type.shape[static_cast<int>(axis)]; ++i) {
    parts.push_back(ops::squeeze(ops::slice(x, {axis}, {i}, {i + 1}), {axis}));
  }
  c.out(parts);
}

// ---- joining ----

std::vector<Value*> present(const Context& c, std::string_view slot) {
  std::vector<Value*> values = c.all(slot);
  std::erase(values, nullptr);
  if (values.empty()) c.damaged("no inputs");
  return values;
}

void concat(Context& c) {
  std::vector<Value*> xs = present(c, "X");
  // Programs from before rank 0 join what were shapes of [1] then.
  for (Value*& x : xs) x = x->type.shape.rank() == 0 ? ops::reshape(x, {1}) : x;
  const int64_t axis =
      normal_axis(c, c.integer("axis", 0, {"AxisTensor"}), xs[0]->type.shape.rank());
  c.out(xs.size() == 1 ? xs[0] : ops::concat(xs, axis));
}

void stack(Context& c) {
  const std::vector<Value*> xs = present(c, "X");
  c.out(ops::stack(xs, normal_axis(c, c.integer("axis", 0), xs[0]->type.shape.rank() + 1)));
}

// ---- repeating ----

void expand(Context& c) {
  Value* x = c.in("X");
  std::vector<int64_t> shape = c.ints("shape", {"Shape", "expand_shapes_tensor"});
  const auto lead = static_cast<int64_t>(shape.size()) - x->type.shape.rank();
  for (int64_t i = 0; i < static_cast<int64_t>(shape.size()); ++i) {
    int64_t& dim = shape[static_cast<size_t>(i)];
    if (dim == -1 && i >= lead) dim = x->type.shape[static_cast<int>(i - lead)];
  }
  c.out(ops::expand(x, shape));
}

void expand_as(Context& c) {
  std::vector<int64_t> shape = c.has("Y") ? dims_of(c.in("Y")) : c.ints("target_shape");
  c.out(ops::expand(c.in("X"), shape));
}

void tile(Context& c) {
  Value* x = c.in("X");
  std::vector<int64_t> times = c.ints("repeat_times", {"RepeatTimes", "repeat_times_tensor"});
  if (times.empty()) times = c.ints("expand_times", {"ExpandTimes", "expand_times_tensor"});
  const auto rank = static_cast<size_t>(x->type.shape.rank());
  if (times.size() > rank) {
    std::vector<int64_t> dims = dims_of(x);
    dims.insert(dims.begin(), times.size() - rank, 1);
    x = ops::reshape(x, dims);
  } else {
    times.insert(times.begin(), rank - times.size(), 1);
  }
  c.out(ops::tile(x, times));
}

void flip(Context& c) {
  Value* x = c.in("X");
  c.out(ops::flip(x, normal_axes(c, c.ints("axis"), x->type.shape.rank())));
}

void roll(Context& c) {
  Value* x = c.in("X");
  const std::vector<int64_t> shifts = c.ints("shifts", {"ShiftsTensor"});
  std::vector<int64_t> axes = normal_axes(c, c.ints("axis"), x->type.shape.rank());
  const std::vector<int64_t> before = dims_of(x);
  if (axes.empty()) {
    x = ops::reshape(x, {-1});
    axes = {0};
  }
  if (shifts.size() != axes.size()) c.damaged("shifts and axis differ in length");
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t size = x->type.shape[static_cast<int>(axes[i])];
    if (size == 0) continue;
    const int64_t shift = ((shifts[i] % size) + size) % size;
    if (shift == 0) continue;
    x = ops::concat({ops::slice(x, {axes[i]}, {size - shift}, {size}),
                     ops::slice(x, {axes[i]}, {0}, {size - shift})},
                    axes[i]);
  }
  c.out(ops::reshape(x, before));
}

// ---- writing ----

// x with a box of it, `axes[i]` from starts[i] on, replaced by `patch`: from the last axis inwards,
// what stands before and behind is joined around it.
Value* replace_box(Value* x, Value* patch, const std::vector<int64_t>& axes,
                   const std::vector<int64_t>& starts, const std::vector<int64_t>& ends,
                   size_t depth) {
  if (depth == axes.size()) return patch;
  const int64_t axis = axes[depth], size = x->type.shape[static_cast<int>(axis)];
  Value* middle = replace_box(ops::slice(x, {axis}, {starts[depth]}, {ends[depth]}), patch, axes,
                              starts, ends, depth + 1);
  std::vector<Value*> parts;
  if (starts[depth] > 0) parts.push_back(ops::slice(x, {axis}, {0}, {starts[depth]}));
  parts.push_back(middle);
  if (ends[depth] < size) parts.push_back(ops::slice(x, {axis}, {ends[depth]}, {size}));
  return parts.size() == 1 ? middle : ops::concat(parts, axis);
}

Value* set_value_patch(const Context& c, DType dtype) {
  if (c.has("ValueTensor")) return ops::cast(c.in("ValueTensor"), dtype);
  for (const char* name :
       {"values", "fp32_values", "fp64_values", "int64_values", "int32_values", "bool_values"}) {
    const std::vector<double> values = c.numbers(name);
    if (values.empty()) continue;
    const Array tensor =
        Array::from<double>(Shape{static_cast<int64_t>(values.size())}, values, DType::kFloat64);
    std::vector<int64_t> shape = c.ints("shape");
    Value* patch = constant(tensor.to(dtype));
    return shape.empty() || values.size() == 1 ? ops::reshape(patch, {})
                                               : ops::reshape(patch, shape);
  }
  c.damaged("no value to set");
}

void set_value(Context& c) {
  Value* x = c.in("Input");
  const int64_t rank = x->type.shape.rank();
  const std::vector<int64_t> axes = normal_axes(c, c.ints("axes"), rank);
  std::vector<int64_t> starts = c.ints("starts", {"StartsTensorList"});
  std::vector<int64_t> ends = c.ints("ends", {"EndsTensorList"});
  const std::vector<int64_t> steps = c.ints("steps", {"StepsTensorList"});
  if (starts.size() != axes.size() || ends.size() != axes.size())
    c.damaged("starts do not fit axes");
  if (!std::ranges::all_of(steps, [](int64_t step) { return step == 1; })) {
    c.refuse("steps other than 1 are not supported");
  }
  if (!c.ints("none_axes").empty()) c.refuse("none_axes is not supported");
  std::vector<int64_t> box = dims_of(x);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t size = box[static_cast<size_t>(axes[i])];
    if (starts[i] < 0) starts[i] += size;
    // x[-1] = v is written as start -1, end 0.
    if (ends[i] < 0 || (ends[i] == 0 && starts[i] > 0)) ends[i] += size;
    starts[i] = std::clamp<int64_t>(starts[i], 0, size);
    ends[i] = std::clamp<int64_t>(ends[i], starts[i], size);
    box[static_cast<size_t>(axes[i])] = ends[i] - starts[i];
  }
  Value* patch = set_value_patch(c, x->type.dtype);
  // Dimensions that an integer index took away come back as 1.
  std::vector<int64_t> dropped = normal_axes(c, c.ints("decrease_axes"), rank);
  std::ranges::sort(dropped);
  if (!dropped.empty() && patch->type.shape.rank() > 0) {
    std::vector<int64_t> dims = dims_of(patch);
    const int64_t lead = rank - static_cast<int64_t>(dropped.size() + dims.size());
    if (lead >= 0) {
      dims.insert(dims.begin(), static_cast<size_t>(lead), 1);
      for (int64_t axis : dropped) dims.insert(dims.begin() + axis, 1);
      patch = ops::reshape(patch, dims);
    }
  }
  c.out(replace_box(x, ops::expand(patch, box), axes, starts, ends, 0));
}

constexpr Translation kTable[] = {
    {"reshape", reshape},
    {"reshape2", reshape},
    {"transpose", transpose},
    {"transpose2", transpose},
    {"squeeze", squeeze},
    {"squeeze2", squeeze},
    {"unsqueeze", unsqueeze},
    {"unsqueeze2", unsqueeze},
    {"flatten_contiguous_range", flatten_range},
    {"flatten", flatten_matrix},
    {"flatten2", flatten_matrix},
    {"slice", slice},
    {"strided_slice", slice},
    {"split", split},
    {"unstack", unstack},
    {"unbind", unstack},
    {"concat", concat},
    {"stack", stack},
    {"expand", tile},
    {"expand_v2", expand},
    {"expand_as_v2", expand_as},
    {"tile", tile},
    {"flip", flip},
    {"roll", roll},
    {"set_value", set_value},
};

}  // namespace

std::span<const Translation> shape_translations() { return kTable; }

}  // namespace trireme
