// uniform, gaussian, randint, randperm, bernoulli.
#include "ops/random.h"
#include "ops/cuda_kernels.h"

#include <numbers>
#include <numeric>

#include "ops/random_draw.h"

namespace trireme {
namespace {

Shape checked_shape(const Infer& i, const RandomAttrs& a) {
  TRI_CHECK(a.shape.size() <= 16, message(i.op.name, "shape has too many dimensions"));
  int64_t numel = 1;
  for (const int64_t d : a.shape) {
    TRI_CHECK(d >= 0 && (d == 0 || numel <= (int64_t{1} << 40) / d),
              message(i.op.name, "shape expects sizes of 0 or more, not too many, got ", d));
    numel *= d;
  }
  return Shape(std::span(a.shape));
}

void infer_floating(const Infer& i) {
  const auto& a = i.attrs<RandomAttrs>();
  check_state(i, 0);
  TRI_CHECK(is_floating(a.dtype),
            message(i.op.name, "dtype expects a floating one, got ", a.dtype));
  i.out(a.dtype, checked_shape(i, a));
}

void infer_integer(const Infer& i) {
  const auto& a = i.attrs<RandomAttrs>();
  check_state(i, 0);
  TRI_CHECK(a.dtype == DType::kInt32 || a.dtype == DType::kInt64,
            message(i.op.name, "dtype expects int32 or int64, got ", a.dtype));
  TRI_CHECK(
      a.low < a.high &&
          static_cast<uint64_t>(a.high) - static_cast<uint64_t>(a.low) <= (uint64_t{1} << 32),
      message(i.op.name, "low and high expect at most 2^32 values, got ", a.low, " and ", a.high));
  i.out(a.dtype, checked_shape(i, a));
}

void infer_randperm(const Infer& i) {
  const auto& a = i.attrs<RandomAttrs>();
  check_state(i, 0);
  TRI_CHECK(a.dtype == DType::kInt32 || a.dtype == DType::kInt64,
            message(i.op.name, "dtype expects int32 or int64, got ", a.dtype));
  TRI_CHECK(a.high >= 0 && a.high < (int64_t{1} << 31),
            message(i.op.name, "n expects 0 to 2^31, got ", a.high));
  i.out(a.dtype, Shape{a.high});
}

void infer_bernoulli(const Infer& i) {
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  check_state(i, 1);
  i.out(i.dtype(0), i.shape(0));
}

constexpr double kUnit = 1.0 / 4294967296.0;

Kernel prepare_uniform(const Prepare& p) {
  const auto a = p.attrs<RandomAttrs>();
  const int64_t n = p.out().shape.numel();
  return with_floating(*p.node.op, a.dtype, [&]<class T>(Tag<T>) -> Kernel {
    using A = Compute<T>;
    return {[=](const Launch& l) {
      for_random_blocks(stream_of(l, 0, a.index), n,
                        [&](int64_t at, int64_t count, const uint32_t* numbers) {
                          for (int64_t i = 0; i < count; ++i) {
                            // 24 bits are exact in float32, and stay below 1.
                            const double u = (numbers[i] >> 8) * (kUnit * 256);
                            l.output<T>()[at + i] = T(static_cast<A>(a.min + u * (a.max - a.min)));
                          }
                        });
    }};
  });
}

// Box and Muller: two numbers make two; a block's first quarter and its second belong together, the
// third and the fourth.
Kernel prepare_gaussian(const Prepare& p) {
  const auto a = p.attrs<RandomAttrs>();
  const int64_t n = p.out().shape.numel();
  return with_floating(*p.node.op, a.dtype, [&]<class T>(Tag<T>) -> Kernel {
    using A = Compute<T>;
    return {[=](const Launch& l) {
      const auto fill = [&](int64_t at, int64_t count, const uint32_t* numbers) {
        for (int64_t i = 0; i < count; ++i) {
          const int64_t pair = i / 32 * 32 + i % 16;
          const A radius = std::sqrt(
              -2 * std::log(static_cast<A>((static_cast<double>(numbers[pair]) + 0.5) * kUnit)));
          const A angle = static_cast<A>(2 * std::numbers::pi * kUnit * numbers[pair + 16]);
          const A z = radius * (i % 32 < 16 ? std::cos(angle) : std::sin(angle));
          l.output<T>()[at + i] = T(static_cast<A>(a.min) + z * static_cast<A>(a.max));
        }
      };
      for_random_blocks(stream_of(l, 0, a.index), n, fill);
    }};
  });
}

Kernel prepare_randint(const Prepare& p) {
  const auto a = p.attrs<RandomAttrs>();
  const int64_t n = p.out().shape.numel();
  const uint64_t range = static_cast<uint64_t>(a.high) - static_cast<uint64_t>(a.low);
  return {[=](const Launch& l) {
    for_random_blocks(stream_of(l, 0, a.index), n,
                      [&](int64_t at, int64_t count, const uint32_t* numbers) {
                        for (int64_t i = 0; i < count; ++i) {
                          const int64_t v = a.low + static_cast<int64_t>(numbers[i] * range >> 32);
                          if (a.dtype == DType::kInt64) l.output<int64_t>()[at + i] = v;
                          else l.output<int32_t>()[at + i] = static_cast<int32_t>(v);
                        }
                      });
  }};
}

template <class T> void shuffle(const RandomStream& s, T* y, int64_t n) {
  std::iota(y, y + n, T(0));
  uint32_t numbers[kRandomBlock];
  for (int64_t i = n - 1, k = 0; i > 0; --i, ++k) {
    if (k % kRandomBlock == 0)
      random_rows().block(s, static_cast<uint64_t>(k / kRandomBlock), numbers);
    const uint64_t j = numbers[k % kRandomBlock] * static_cast<uint64_t>(i + 1) >> 32;
    std::swap(y[i], y[j]);
  }
}

Kernel prepare_randperm(const Prepare& p) {
  const auto a = p.attrs<RandomAttrs>();
  return {[=](const Launch& l) {
    const RandomStream s = stream_of(l, 0, a.index);
    if (a.dtype == DType::kInt64) shuffle(s, l.output<int64_t>(), a.high);
    else shuffle(s, l.output<int32_t>(), a.high);
  }};
}

Kernel prepare_bernoulli(const Prepare& p) {
  const int64_t n = p.out().shape.numel(), index = p.attrs<RandomAttrs>().index;
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) -> Kernel {
    using A = Compute<T>;
    return {[=](const Launch& l) {
      for_random_blocks(stream_of(l, 1, index), n,
                        [&](int64_t at, int64_t count, const uint32_t* numbers) {
                          for (int64_t i = 0; i < count; ++i) {
                            const auto u = static_cast<double>(numbers[i]) * kUnit;
                            const auto x = static_cast<double>(A(l.input<T>(0)[at + i]));
                            l.output<T>()[at + i] = T(u < x ? A(1) : A(0));
                          }
                        });
    }};
  });
}

}  // namespace

namespace ops {

constinit const Op uniform_op{.name = "uniform",
                              .attrs = &attr_info<RandomAttrs>,
                              .infer = infer_floating,
                              .cpu = prepare_uniform,
                              .cuda = TRI_CUDA(cuda_uniform)};
constinit const Op gaussian_op{.name = "gaussian",
                               .attrs = &attr_info<RandomAttrs>,
                               .infer = infer_floating,
                               .cpu = prepare_gaussian,
                               .cuda = TRI_CUDA(cuda_gaussian)};
constinit const Op randint_op{.name = "randint",
                              .attrs = &attr_info<RandomAttrs>,
                              .infer = infer_integer,
                              .cpu = prepare_randint,
                              .cuda = TRI_CUDA(cuda_randint)};
constinit const Op randperm_op{.name = "randperm",
                               .attrs = &attr_info<RandomAttrs>,
                               .infer = infer_randperm,
                               .cpu = prepare_randperm,
                               .cuda = TRI_CUDA(cuda_randperm)};
constinit const Op bernoulli_op{.name = "bernoulli",
                                .inputs = 2,
                                .attrs = &attr_info<RandomAttrs>,
                                .infer = infer_bernoulli,
                                .cpu = prepare_bernoulli,
                                .cuda = TRI_CUDA(cuda_bernoulli),
                                .amp = Amp::kFloat};

Value* uniform(Value* state, const RandomAttrs& attrs) {
  return record1(uniform_op, {state}, attrs);
}
Value* gaussian(Value* state, const RandomAttrs& attrs) {
  return record1(gaussian_op, {state}, attrs);
}
Value* randint(Value* state, const RandomAttrs& attrs) {
  return record1(randint_op, {state}, attrs);
}
Value* randperm(Value* state, int64_t n, DType dtype, int64_t index) {
  return record1(randperm_op, {state}, RandomAttrs{.dtype = dtype, .high = n, .index = index});
}
Value* bernoulli(Value* x, Value* state, int64_t index) {
  return record1(bernoulli_op, {x, state}, RandomAttrs{.index = index});
}

}  // namespace ops
}  // namespace trireme
