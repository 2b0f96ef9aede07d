// diagonal (of two dimensions of x) and diag_embed, which puts it back among zeros.
#include "ops/elements.h"
#include "ops/shape.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

// The shape of the matrices' diagonal: the other dimensions in order, its length behind.
Shape diagonal_of(std::string_view op, const Shape& full, const DiagonalAttrs& a) {
  TRI_CHECK(
      a.axis1 >= 0 && a.axis2 >= 0 && a.axis1 < full.rank() && a.axis2 < full.rank() &&
          a.axis1 != a.axis2,
      message(op, "axes expect two dimensions of ", full, ", got ", a.axis1, " and ", a.axis2));
  const int64_t rows = full[static_cast<int>(a.axis1)], columns = full[static_cast<int>(a.axis2)];
  const int64_t room = a.offset >= 0 ? std::min(rows, columns - std::min(a.offset, columns))
                                     : std::min(rows + std::max(a.offset, -rows), columns);
  Shape s;
  for (int d = 0; d < full.rank(); ++d)
    if (d != a.axis1 && d != a.axis2) s.push_back(full[d]);
  s.push_back(std::max<int64_t>(room, 0));
  return s;
}

void infer_diagonal(const Infer& i) {
  i.out(i.dtype(0), diagonal_of(i.op.name, i.shape(0), i.attrs<DiagonalAttrs>()));
}

void infer_embed(const Infer& i) {
  const auto& a = i.attrs<DiagonalAttrs>();
  TRI_CHECK(a.shape.size() <= Shape::kMaxRank,
            message(i.op.name, "the result has more than ", Shape::kMaxRank, " dimensions"));
  for (const int64_t d : a.shape)
    TRI_CHECK(d >= 0, message(i.op.name, "shape expects dimensions of 0 or more, got ", d));
  const Shape full{std::span(a.shape)}, expected = diagonal_of(i.op.name, full, a);
  TRI_CHECK(i.shape(0) == expected,
            message(i.op.name, "x expects shape ", expected, ", got ", i.shape(0)));
  i.out(i.dtype(0), full);
}

// Where the diagonal lies in the dense `full`: strides for its shape, and its first element.
struct Course {
  std::vector<int64_t> dims, strides;
  int64_t first = 0;

  Course(const Shape& full, const Shape& diagonal, const DiagonalAttrs& a)
      : dims(diagonal.begin(), diagonal.end()) {
    const std::vector<int64_t> dense = dense_strides({full.begin(), full.end()});
    const int64_t down = dense[static_cast<size_t>(a.axis1)],
                  across = dense[static_cast<size_t>(a.axis2)];
    for (int d = 0; d < full.rank(); ++d)
      if (d != a.axis1 && d != a.axis2) strides.push_back(dense[static_cast<size_t>(d)]);
    strides.push_back(down + across);
    first = a.offset >= 0 ? a.offset * across : -a.offset * down;
  }
};

Kernel prepare_diagonal(const Prepare& p) {
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  const Course c(p.in().shape, p.out().shape, p.attrs<DiagonalAttrs>());
  return copy_boxes(p, {{c.dims, c.strides, dense_strides(c.dims), c.first}},
                    size_of(p.in().dtype));
}

Kernel prepare_embed(const Prepare& p) {
  const int64_t total = p.out().shape.numel();
  std::vector<CopyBox> boxes{{{total}, {0}, {1}, 0, 0, 0, true, 0}};
  if (p.in().shape.numel() > 0) {
    const Course c(p.out().shape, p.in().shape, p.attrs<DiagonalAttrs>());
    boxes.push_back({c.dims, dense_strides(c.dims), c.strides, 0, c.first});
  }
  return copy_boxes(p, boxes, size_of(p.in().dtype));
}

void diagonal_rule(Grad& g) {
  DiagonalAttrs a = g.attrs<DiagonalAttrs>();
  a.shape.assign(g.in()->type.shape.begin(), g.in()->type.shape.end());
  g.set(0, record1(ops::diag_embed_op, {g.dout()}, a));
}

void embed_rule(Grad& g) {
  DiagonalAttrs a = g.attrs<DiagonalAttrs>();
  a.shape.clear();
  g.set(0, record1(ops::diagonal_op, {g.dout()}, a));
}

}  // namespace

namespace ops {

constinit const Op diagonal_op{.name = "diagonal",
                               .attrs = &attr_info<DiagonalAttrs>,
                               .infer = infer_diagonal,
                               .grad = diagonal_rule,
                               .cpu = prepare_diagonal,
                               .cuda = TRI_CUDA(prepare_diagonal)};
constinit const Op diag_embed_op{.name = "diag_embed",
                                 .attrs = &attr_info<DiagonalAttrs>,
                                 .infer = infer_embed,
                                 .grad = embed_rule,
                                 .cpu = prepare_embed,
                                 .cuda = TRI_CUDA(prepare_embed)};

Value* diagonal(Value* x, int64_t offset, int64_t axis1, int64_t axis2) {
  const int64_t rank = x->type.shape.rank();
  return record1(
      diagonal_op, {x},
      DiagonalAttrs{
          offset, normal_axis("diagonal", axis1, rank), normal_axis("diagonal", axis2, rank), {}});
}

Value* diag_embed(Value* x, int64_t offset, int64_t axis1, int64_t axis2) {
  const Shape& from = x->type.shape;
  TRI_CHECK(from.rank() >= 1, message("diag_embed", "x expects at least one dimension"));
  TRI_CHECK(from.rank() < Shape::kMaxRank,
            message("diag_embed", "x has too many dimensions: ", from));
  const int64_t rank = from.rank() + 1;
  axis1 = normal_axis("diag_embed", axis1, rank);
  axis2 = normal_axis("diag_embed", axis2, rank);
  const int64_t n = from.back() + std::abs(offset);
  std::vector<int64_t> shape;
  for (int64_t d = 0, k = 0; d < rank; ++d)
    shape.push_back(d == axis1 || d == axis2 ? n : from[static_cast<int>(k++)]);
  return record1(diag_embed_op, {x}, DiagonalAttrs{offset, axis1, axis2, std::move(shape)});
}

}  // namespace ops
}  // namespace trireme
