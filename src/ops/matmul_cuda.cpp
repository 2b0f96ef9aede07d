// matmul on the GPU, alone and with what stands behind it: strides become cuBLASLt's leading
// dimensions, flags and batches; rows that would be read slowly are lined up first.
#include "ops/matmul_cuda.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/switches.h"
#include "device/precision.h"
#include "ops/batch_matmul.h"
#include "ops/cuda_choice.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/matmul.h"
#include "ops/matmul_few_rows.h"
#include "ops/pointwise.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

using cpu::BatchMatmulSpec;
using cpu::MatrixStrides;
using cuda::FewRows;
using cuda::MatrixPlace;
using cuda::ProductArgs;
using cuda::ProductSpec;
using Act = ProductSpec::Act;

constexpr size_t kAlign = 256;
size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

bool is_half(DType dtype) { return dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

// ---- which nodes

// Takes the nodes behind a matmul, in the order in which cuBLASLt works them off.
class Matcher {
 public:
  explicit Matcher(const Node& matmul) {
    m_.matmul = &matmul;
    m_.result = matmul.out();
    if (matmul.inputs.size() > 2) m_.bias = matmul.inputs[2];
  }
  bool take(const Node& n) {
    const Type &now = m_.result->type, &next = n.out()->type;
    if (n.outputs.size() != 1 || !(now == next) || m_.act != Act::kNone) return false;
    if (!take_add(n) && !take_act(n)) return false;
    m_.result = n.out();
    return true;
  }
  const MatmulMatch& match() const { return m_; }

 private:
  bool take_add(const Node& n) {
    if (n.op != &ops::add_op || n.inputs[0] == n.inputs[1] || m_.residual) return false;
    if (n.inputs[0] != m_.result && n.inputs[1] != m_.result) return false;
    const Value* other = n.inputs[0] == m_.result ? n.inputs[1] : n.inputs[0];
    const Shape &whole = m_.result->type.shape, &s = other->type.shape;
    if (other->type.dtype != m_.result->type.dtype) return false;
    if (s == whole) {
      m_.residual = other;
      return true;
    }
    const bool row = whole.rank() > 0 && s.rank() > 0 && s.numel() == s.back() &&
                     s.rank() <= whole.rank() && s.back() == whole.back() && columns_last();
    if (!row || m_.bias) return false;
    m_.bias = other;
    return true;
  }
  bool columns_last() const { return m_.matmul->inputs[1]->type.shape.rank() > 1; }
  bool take_act(const Node& n) {
    // cuBLASLt's tanh is good for halves alone.
    const bool gelu = n.op == &ops::gelu_tanh_op && is_half(m_.result->type.dtype);
    if (n.op != &ops::relu_op && !gelu) return false;
    m_.act = n.op == &ops::relu_op ? Act::kRelu : Act::kGeluTanh;
    return n.inputs[0] == m_.result;
  }

  MatmulMatch m_;
};

std::optional<MatmulMatch> match(const std::vector<const Node*>& nodes) {
  if (nodes.empty() || nodes[0]->op != &ops::matmul_op) return std::nullopt;
  if (!is_floating(nodes[0]->inputs[0]->type.dtype)) return std::nullopt;
  Matcher m(*nodes[0]);
  for (size_t i = 1; i < nodes.size(); ++i)
    if (!m.take(*nodes[i])) return std::nullopt;
  return m.match();
}

// ---- strides

// How the matrix [rows, columns] is told to cuBLASLt; none: its elements lie otherwise.
std::optional<MatrixPlace> place_of(const MatrixStrides& s, int64_t rows, int64_t columns) {
  if (s.column == 1 && rows == 1) return MatrixPlace{false, columns, 0};
  if (s.row == 1 && columns == 1) return MatrixPlace{true, rows, 0};
  if ((s.column == 1 || columns == 1) && s.row >= columns) return MatrixPlace{false, s.row, 0};
  if ((s.row == 1 || rows == 1) && s.column >= rows) return MatrixPlace{true, s.column, 0};
  return std::nullopt;
}

bool composes(const MatrixStrides& s, const BatchMatmulSpec& of) {
  return of.outer == 1 || of.inner == 1 || s.outer == s.inner * of.inner;
}

MatrixStrides turned(MatrixStrides s) {
  std::swap(s.row, s.column);
  return s;
}

// A column as a result is a row of the transposed product, whose rows are long.
BatchMatmulSpec turned(const BatchMatmulSpec& s) {
  BatchMatmulSpec t = s;
  std::swap(t.m, t.n);
  t.a = turned(s.b), t.b = turned(s.a), t.c = turned(s.c);
  return t;
}

// One product of many: which of them cuBLASLt runs as a batch, how far the rest is apart.
struct Batches {
  int64_t loops = 1;
  int64_t a = 0, b = 0, c = 0;  // elements from one round to the next
};

Batches split_batches(const BatchMatmulSpec& s, ProductSpec& to) {
  const bool one = composes(s.a, s) && composes(s.b, s) && composes(s.c, s);
  const bool outer_loops = s.outer <= s.inner;
  const auto step = [&](const MatrixStrides& m) { return outer_loops ? m.outer : m.inner; };
  const auto within = [&](const MatrixStrides& m) {
    if (one) return s.inner > 1 ? m.inner : m.outer;
    return outer_loops ? m.inner : m.outer;
  };
  to.batch = one ? s.outer * s.inner : outer_loops ? s.inner : s.outer;
  to.a.batch = within(s.a), to.b.batch = within(s.b);
  to.c.batch = to.residual.batch = within(s.c);
  if (one) return {};
  return {outer_loops ? s.outer : s.inner, step(s.a), step(s.b), step(s.c)};
}

int64_t alignment_of(const ProductSpec& s, const Batches& rest) {
  int64_t bits = 256;
  const auto element = static_cast<int64_t>(size_of(s.dtype));
  if (s.batch > 1) bits |= (s.a.batch | s.b.batch | s.c.batch) * element;
  if (rest.loops > 1) bits |= (rest.a | rest.b | rest.c) * element;
  return bits & -bits;
}

// ---- rows whose starts are no multiple of 16 bytes: cuBLASLt's kernels for them are up to three
// times slower, so large products may be worth lining up the rows in scratch memory.

// Sizes, too, have to be multiples then: what is added is zeros, and is dropped from the result.

constexpr int64_t kLine = 64;  // elements

int64_t lined(int64_t size) { return (size + kLine - 1) / kLine * kLine; }

// Sizes after lining up, and which operands that concerns.
struct Lined {
  int64_t m = 0, n = 0, k = 0;
  bool a = false, b = false, c = false;
  bool any() const { return a || b || c; }
};

Lined could_line(const ProductSpec& s, const Batches& rest) {
  Lined l{s.m, s.n, s.k};
  if (!is_half(s.dtype) || s.batch > 1 || rest.loops > 1 || s.has_residual) return l;
  if (s.n % 8 != 0) l.n = lined(s.n);
  if (s.a.transposed && s.m % 8 != 0) l.m = lined(s.m);
  if ((!s.a.transposed || s.b.transposed) && s.k % 8 != 0) l.k = lined(s.k);
  l.a = l.m != s.m || l.k != s.k;
  l.b = l.k != s.k || l.n != s.n;
  l.c = l.m != s.m || l.n != s.n;
  return l;
}

double copies_us(const ProductSpec& s, const Lined& l) {
  const auto cost = [](bool moved, int64_t x, int64_t y, int64_t ld) {
    const double speed = ld % 2 == 0 ? 2.4e6 : 1.2e6;  // bytes in a microsecond
    return moved ? 4.0 * static_cast<double>(x) * static_cast<double>(y) / speed + 2 : 0;
  };
  return cost(l.a, s.m, s.k, s.a.ld) + cost(l.b, s.k, s.n, s.b.ld) + cost(l.c, s.m, s.n, s.c.ld);
}

// ---- the kernel

// Everything that is known at plan time. Offsets are of the scratch memory.
struct Plan {
  int a = -1, b = -1, bias = -1, residual = -1;       // inputs
  std::shared_ptr<const void> packed_b, packed_bias;  // constants in the product's dtype
  bool casts_bias = false;
  DType bias_type = DType::kFloat32;
  BatchMatmulSpec spec;  // as the node has it
  ProductSpec product;
  Batches rest;
  Lined lined;
  ProductSpec own;  // as it would be without lining up
  size_t bias_at = 0, a_at = 0, b_at = 0, c_at = 0, workspace_at = 0;
  Kernel copy_a, copy_b;                     // elements that lie otherwise are moved first
  std::shared_ptr<const cuda::Product> run;  // null: the plain kernel
  Act act = Act::kNone;
  bool finish = false;  // bias, residual and activation by a pass of their own
  bool turned = false;  // a and b changed places

  void launch(const Launch& l) const;
};

void copy_with(const Kernel& copy, const void* from, void* to, void* stream) {
  void *in = const_cast<void*>(from), *out = to;
  copy.run(Launch{&in, &out, nullptr, stream});
}

void Plan::launch(const Launch& l) const {
  char* const scratch = static_cast<char*>(l.scratch);
  ProductArgs args{l.in[a], packed_b ? packed_b.get() : l.in[b],
                   residual < 0 ? nullptr : l.in[residual],
                   packed_bias ? packed_bias.get()
                   : bias < 0  ? nullptr
                               : l.in[bias],
                   l.out[0]};
  if (casts_bias) {
    cuda::run_cast(args.bias, bias_type, scratch + bias_at, spec.dtype, spec.n, l.stream);
    args.bias = scratch + bias_at;
  }
  if (!run) {
    cuda::run_plain_product({spec, act, true}, args, l.stream);
    return;
  }
  ProductArgs given = args;
  if (copy_a) copy_with(copy_a, args.a, scratch + a_at, l.stream), given.a = scratch + a_at;
  if (copy_b) copy_with(copy_b, args.b, scratch + b_at, l.stream), given.b = scratch + b_at;
  if (turned) std::swap(given.a, given.b);
  const ProductSpec& s = product;
  const auto line_up = [&](const void*& from, int64_t ld, const MatrixPlace& to, cuda::RowBox box,
                           int64_t to_rows, size_t place) {
    if (to.transposed) std::swap(box.rows, box.columns);
    cuda::run_line_up_rows(from, ld, box, scratch + place, to.ld, to_rows, l.stream);
    from = scratch + place;
  };
  if (lined.a) line_up(given.a, own.a.ld, s.a, {own.m, own.k}, s.a.transposed ? s.k : s.m, a_at);
  if (lined.b) line_up(given.b, own.b.ld, s.b, {own.k, own.n}, s.b.transposed ? s.n : s.k, b_at);
  if (lined.c) given.c = scratch + c_at;
  if (lined.any() && lined.n != own.n && given.bias) {
    cuda::run_line_up_rows(given.bias, own.n, {1, own.n}, scratch + bias_at, s.n, 1, l.stream);
    given.bias = scratch + bias_at;
  }
  if (finish) given.bias = given.residual = nullptr;
  const auto element = static_cast<int64_t>(size_of(s.dtype));
  const auto at = [&](const void* base, int64_t round, int64_t step) {
    return base ? static_cast<const char*>(base) + round * step * element : nullptr;
  };
  for (int64_t i = 0; i < rest.loops; ++i)
    run->run({at(given.a, i, rest.a), at(given.b, i, rest.b), at(given.residual, i, rest.c),
              given.bias, const_cast<char*>(at(given.c, i, rest.c))},
             scratch + workspace_at, l.stream);
  if (lined.c) cuda::run_set_back_rows(given.c, s.c.ld, {own.m, own.n}, args.c, own.c.ld, l.stream);
  if (finish) cuda::run_plain_product({spec, act, false}, args, l.stream);
}

// ---- making the plan

class Planner {
 public:
  Planner(const Prepare& p, const Graph* body, const MatmulMatch& m) : p_(p), body_(body), m_(m) {}

  Kernel kernel() {
    plan_.spec = batch_matmul_spec(*m_.matmul);
    plan_.act = m_.act;
    const BatchMatmulSpec& s = plan_.spec;
    place_inputs();
    if (p_.out().shape.numel() == 0) return {[](const Launch&) {}};
    if (s.k > 0 && is_floating(s.dtype)) choose();
    plan_.workspace_at = scratch_;
    const size_t scratch = scratch_ + (plan_.run ? plan_.run->workspace() : 0);
    const auto plan = std::make_shared<const Plan>(std::move(plan_));
    const Kernel library{[plan](const Launch& l) { plan->launch(l); }, scratch};
    return plan->run && may_be_few_rows(*plan) ? few_rows_or(library, *plan) : library;
  }

 private:
  // ---- few rows and a constant matrix

  FewRows few_rows_of(const Plan& plan) const {
    const BatchMatmulSpec& s = plan.spec;
    return {s.dtype, s.m, s.n, s.k, s.m == 1 ? s.k : s.a.row, m_.act == Act::kRelu};
  }
  // Whether our own kernel may stand in for cuBLASLt's.
  bool may_be_few_rows(const Plan& plan) const {
    constexpr int64_t kMostBytes = int64_t{32} << 20;  // a turned copy beside other plans' matrix
    const BatchMatmulSpec& s = plan.spec;
    const auto constant = [&](int input) {
      return input < 0 || p_.constant(static_cast<size_t>(input)) != nullptr;
    };
    const bool matrix = is_turned(s) || (s.b.column == 1 && s.b.row == s.n);
    return s.outer * s.inner == 1 && !m_.residual && m_.act != Act::kGeluTanh && constant(plan.b) &&
           constant(plan.bias) && matrix && s.a.column == 1 && (s.n == 1 || s.c.column == 1) &&
           (s.m == 1 || s.c.row == s.n) && s.n * s.k * 2 <= kMostBytes &&
           few_rows_of(plan).serves();
  }
  // Whether the terms of a column lie side by side.
  static bool is_turned(const BatchMatmulSpec& s) { return s.b.row == 1 && s.b.column == s.k; }

  Kernel few_rows_or(const Kernel& library, const Plan& plan) const {
    const auto kernel = [&](std::shared_ptr<const void> weight) -> Kernel {
      return {[of = few_rows_of(plan), weight = std::move(weight), x = plan.a, b = plan.b,
               bias = plan.bias, packed_bias = plan.packed_bias](const Launch& l) {
        const void* added = packed_bias ? packed_bias.get() : bias < 0 ? nullptr : l.in[bias];
        cuda::run_few_rows(of, {l.in[x], weight ? weight.get() : l.in[b], added, l.out[0]},
                           l.stream);
      }};
    };
    // As long as it is timed any matrix serves.
    const Kernel as_it_lies = kernel(plan.packed_b);
    const bool own = is_disabled("cublaslt") ||
                     cuda::fastest_of(p_, {{"cuBLASLt", library}, {"own", as_it_lies}},
                                      "cuBLASLt or few rows") == 1;
    if (!own) return library;
    return is_turned(plan.spec) ? as_it_lies : kernel(turned_weight(plan));
  }
  // [columns, terms], once per model.
  std::shared_ptr<const void> turned_weight(const Plan& plan) const {
    const int64_t n = plan.spec.n, k = plan.spec.k;
    const DType to = plan.spec.dtype;
    return p_.packed(static_cast<size_t>(plan.b), "turned as " + std::string(name_of(to)),
                     static_cast<size_t>(n * k) * 2, [=](const Array& source, void* there) {
                       const Array t = source.to(to);
                       const auto* from = static_cast<const uint16_t*>(t.data());
                       auto* at = static_cast<uint16_t*>(there);
                       for (int64_t c = 0; c < n; ++c)
                         for (int64_t r = 0; r < k; ++r) *at++ = from[r * n + c];
                     });
  }

  int place(const Value* v) const {
    if (v == nullptr) return -1;
    const std::vector<Value*>& list = body_ ? body_->inputs : p_.node.inputs;
    const auto it = std::find(list.begin(), list.end(), v);
    if (it == list.end())
      fail(Code::kInternal, "[fused] a value of the pattern is not an input of the node");
    return static_cast<int>(it - list.begin());
  }

  size_t take(size_t bytes) {
    const size_t at = scratch_;
    scratch_ += aligned(bytes);
    return at;
  }

  // A constant in the dtype of the product, once per model; null when it is no constant of another.
  std::shared_ptr<const void> packed(int input, const Value* v) const {
    const DType to = plan_.spec.dtype;
    if (input < 0 || v->type.dtype == to || !p_.constant(static_cast<size_t>(input)))
      return nullptr;
    return p_.packed(static_cast<size_t>(input), "as " + std::string(name_of(to)),
                     static_cast<size_t>(v->type.shape.numel()) * size_of(to),
                     [to](const Array& source, void* there) {
                       const Array t = source.to(to);
                       std::memcpy(there, t.data(), t.bytes());
                     });
  }

  void place_inputs() {
    plan_.a = place(m_.matmul->inputs[0]);
    plan_.b = place(m_.matmul->inputs[1]);
    plan_.bias = place(m_.bias);
    plan_.residual = place(m_.residual);
    plan_.packed_b = packed(plan_.b, m_.matmul->inputs[1]);
    plan_.packed_bias = packed(plan_.bias, m_.bias);
    if (m_.bias && m_.bias->type.dtype != plan_.spec.dtype && !plan_.packed_bias) {
      TRI_CHECK(
          is_floating(m_.bias->type.dtype) && is_floating(plan_.spec.dtype),
          message("matmul", "bias expects ", plan_.spec.dtype, ", got ", m_.bias->type.dtype));
      plan_.casts_bias = true;
      plan_.bias_type = m_.bias->type.dtype;
      plan_.bias_at = take(static_cast<size_t>(plan_.spec.n) * size_of(plan_.spec.dtype));
    }
  }

  // The operand's elements in rows, through a copy where they lie otherwise.
  MatrixPlace lay_out(MatrixStrides& m, int64_t rows, int64_t columns, Kernel& copy, size_t& at) {
    if (const auto place = place_of(m, rows, columns)) return *place;
    const BatchMatmulSpec& s = plan_.spec;
    const int64_t outer = m.outer == 0 ? 1 : s.outer, inner = m.inner == 0 ? 1 : s.inner;
    const MatrixStrides dense{m.outer == 0 ? 0 : inner * rows * columns,
                              m.inner == 0 ? 0 : rows * columns, columns, 1};
    const size_t element = size_of(s.dtype);
    copy = copy_boxes(p_,
                      {CopyBox{.dims = {outer, inner, rows, columns},
                               .src = {m.outer, m.inner, m.row, m.column},
                               .dst = {dense.outer, dense.inner, dense.row, 1}}},
                      element);
    at = take(static_cast<size_t>(outer * inner * rows * columns) * element);
    m = dense;
    return {false, columns, 0};
  }

  void choose() {
    BatchMatmulSpec s = plan_.spec;
    ProductSpec& to = plan_.product;
    to.dtype = s.dtype;
    to.tf32 = allows_tf32(Products::kMatrices);
    MatrixPlace a = lay_out(s.a, s.m, s.k, plan_.copy_a, plan_.a_at);
    MatrixPlace b = lay_out(s.b, s.k, s.n, plan_.copy_b, plan_.b_at);
    if (s.n == 1 && s.m > 1 && s.c.row == 1 && !m_.bias) {
      plan_.turned = true;
      s = turned(s);
      std::swap(a, b);
      a.transposed = !a.transposed, b.transposed = !b.transposed;
    }
    const auto c = place_of(s.c, s.m, s.n);
    if (!c || (c->transposed && s.n > 1)) return;
    to.m = s.m, to.n = s.n, to.k = s.k;
    to.a = a, to.b = b,
    to.c = to.residual = {false, s.n == 1 ? std::max<int64_t>(s.c.row, 1) : c->ld, 0};
    to.has_bias = m_.bias != nullptr;
    to.has_residual = m_.residual != nullptr;
    to.act = m_.act;
    plan_.rest = split_batches(s, to);
    to.alignment = alignment_of(to, plan_.rest);
    plan_.run = make(to);
    if (plan_.run && !plan_.copy_a && !plan_.copy_b && !plan_.turned) line_up_rows();
  }

  std::shared_ptr<const cuda::Product> make(ProductSpec& s) {
    auto product = cuda::Product::create(s, *p_.device);
    const bool plain = !s.has_bias && !s.has_residual && s.act == Act::kNone;
    if (product || plain) return product;
    s.has_bias = s.has_residual = false;
    s.act = Act::kNone;
    plan_.finish = true;
    return cuda::Product::create(s, *p_.device);
  }

  // Where the faster product pays for the copies, by the times that were measured.
  void line_up_rows() {
    const Lined lined = could_line(plan_.product, plan_.rest);
    constexpr double kSlow = 50;
    if (!lined.any() || plan_.casts_bias || plan_.run->us() < kSlow) return;
    ProductSpec s = plan_.product;
    s.m = lined.m, s.n = lined.n, s.k = lined.k;
    const auto line = [&](bool wanted, MatrixPlace& p, int64_t rows, int64_t columns) {
      if (wanted) p.ld = p.transposed ? rows : columns;
    };
    line(lined.a, s.a, s.m, s.k);
    line(lined.b, s.b, s.k, s.n);
    line(lined.c, s.c, s.m, s.n);
    s.residual = s.c;
    const auto faster = cuda::Product::create(s, *p_.device);
    if (!faster || faster->us() <= 0 ||
        faster->us() + copies_us(plan_.product, lined) > plan_.run->us())
      return;
    const auto room = [&](bool wanted, int64_t rows, int64_t columns, size_t& at) {
      if (wanted) at = take(static_cast<size_t>(rows * columns) * 2);
    };
    room(lined.a, s.m, s.k, plan_.a_at);
    room(lined.b, s.k, s.n, plan_.b_at);
    room(lined.c, s.m, s.n, plan_.c_at);
    if (s.has_bias) plan_.bias_at = take(static_cast<size_t>(s.n) * 2);
    plan_.own = plan_.product;
    plan_.lined = lined;
    plan_.product = s;
    plan_.run = faster;
  }

  const Prepare& p_;
  const Graph* body_;
  const MatmulMatch& m_;
  Plan plan_;
  size_t scratch_ = 0;
};

}  // namespace

Kernel cuda_matmul(const Prepare& p) {
  const MatmulMatch m{
      .matmul = &p.node, .bias = p.has(2) ? p.node.inputs[2] : nullptr, .result = p.node.out()};
  return Planner(p, nullptr, m).kernel();
}

bool cuda_fuses_matmul(const std::vector<const Node*>& nodes) { return match(nodes).has_value(); }

Kernel cuda_fused_matmul(const Prepare& p, const Graph& body,
                         const std::vector<const Node*>& nodes) {
  const auto m = match(nodes);
  if (!m) fail(Code::kInternal, "[fused] no product takes this body", p.node.where);
  return Planner(p, &body, *m).kernel();
}

}  // namespace trireme
