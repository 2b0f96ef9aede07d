// What happens to all gradients at once before an update: norms, limits, loss scales.
#include <cmath>
#include <cstring>

#include "ops/cuda_kernels.h"
#include "ops/optimizer.h"
#include "ops/optimizer_chunks.h"

namespace trireme {
namespace {

constexpr uint32_t kNotFinite = 0x7f800000U;

void check_scalar(const Infer& i, size_t k, DType dtype, const char* what) {
  TRI_CHECK(i.has(k) && i.dtype(k) == dtype && i.shape(k).numel() == 1,
            message(i.op.name, what, " expects one ", dtype));
}

void check_gradients(const Infer& i, size_t n) {
  for (size_t k = 0; k < n; ++k)
    TRI_CHECK(i.has(k) && is_floating(i.dtype(k)),
              message(i.op.name, "gradient ", k, " expects a floating dtype"));
}

void infer_factors(const Infer& i) {
  const auto& a = i.attrs<ClipAttrs>();
  const size_t n = a.group.size();
  TRI_CHECK(
      i.inputs.size() == n + 1 && a.need_clip.size() == n && a.kind.size() == a.max_norm.size(),
      message(i.op.name, "expects ", n, " gradients and a scale, got ", i.inputs.size(),
              " inputs"));
  check_gradients(i, n);
  for (const int64_t g : a.group)
    TRI_CHECK(g >= 0 && g < static_cast<int64_t>(a.kind.size()),
              message(i.op.name, "group expects one of ", a.kind.size(), ", got ", g));
  if (i.has(n)) check_scalar(i, n, DType::kFloat32, "scale");
  i.out(DType::kFloat32, Shape{static_cast<int64_t>(n)});
  i.out(DType::kBool, Shape{1});
  i.out(DType::kFloat32, Shape{static_cast<int64_t>(a.kind.size())});
}

// A piece's sum of squares, and whether all of it is finite.
struct Part {
  double squares;
  uint32_t top;
};

Part part_of(const void* from, DType dtype, const Chunk& c) {
  const RuleTable& table = rule_table();
  Part part{0, 0};
  if (dtype == DType::kFloat64) {
    const auto* g = static_cast<const double*>(from);
    for (int64_t i = c.begin; i < c.end; ++i) {
      part.squares += g[i] * g[i];
      if (!std::isfinite(g[i])) part.top = kNotFinite;
    }
    return part;
  }
  float buffer[kRuleBlock];
  each_block(c.begin, c.end, [&](int64_t at, int64_t n) {
    const float* g = load_block<float>(table, from, dtype, at, n, buffer);
    double squares = 0;
    const uint32_t top = table.squares(g, n, &squares);
    // Finite elements whose squares are too large for float32.
    if (top < kNotFinite && !std::isfinite(squares)) {
      squares = 0;
      for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(g[i]) * g[i];
    }
    part.squares += squares;
    part.top = std::max(part.top, top);
  });
  return part;
}

std::vector<int64_t> sizes_of(const Prepare& p, size_t n) {
  std::vector<int64_t> sizes;
  for (size_t k = 0; k < n; ++k) sizes.push_back(p.in(k).shape.numel());
  return sizes;
}

std::vector<DType> dtypes_of(const Prepare& p, size_t n) {
  std::vector<DType> dtypes;
  for (size_t k = 0; k < n; ++k) dtypes.push_back(p.in(k).dtype);
  return dtypes;
}

void factors_from(const ClipAttrs& a, const std::vector<double>& squares, float inverse,
                  float* factors, float* norms) {
  std::vector<double> total(a.kind.size(), 0);
  for (size_t k = 0; k < squares.size(); ++k)
    if (a.need_clip[k] != 0) total[static_cast<size_t>(a.group[k])] += squares[k];
  for (size_t g = 0; g < total.size(); ++g)
    norms[g] = static_cast<float>(std::sqrt(total[g]) * inverse);
  for (size_t k = 0; k < squares.size(); ++k) {
    const auto g = static_cast<size_t>(a.group[k]);
    float factor = 1;
    if (a.need_clip[k] != 0 && a.kind[g] != ClipAttrs::kNone) {
      const auto limit = static_cast<float>(a.max_norm[g]);
      const float norm = a.kind[g] == ClipAttrs::kGlobalNorm
                             ? norms[g]
                             : static_cast<float>(std::sqrt(squares[k]) * inverse);
      if (norm > limit) factor = limit / norm;
    }
    factors[k] = inverse * factor;
  }
}

Kernel prepare_factors(const Prepare& p) {
  const ClipAttrs a = p.attrs<ClipAttrs>();
  const size_t n = a.group.size();
  const Chunks chunks(sizes_of(p, n));
  const auto run = [a, n, chunks, dtypes = dtypes_of(p, n), scaled = p.has(n)](const Launch& l) {
    auto* parts = static_cast<Part*>(l.scratch);
    parallel_for(chunks.count(), chunks.grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t c = begin; c < end; ++c) {
        const Chunk& chunk = chunks.list[static_cast<size_t>(c)];
        parts[c] = part_of(l.in[chunk.tensor], dtypes[chunk.tensor], chunk);
      }
    });
    std::vector<double> squares(n, 0);
    bool finite = true;
    for (size_t c = 0; c < chunks.list.size(); ++c) {
      squares[chunks.list[c].tensor] += parts[c].squares;
      finite = finite && parts[c].top < kNotFinite;
    }
    *l.output<bool>(1) = !finite;
    factors_from(a, squares, scaled ? 1 / *l.input<float>(n) : 1.0F, l.output<float>(0),
                 l.output<float>(2));
  };
  return {run, static_cast<size_t>(chunks.count()) * sizeof(Part) + 64};
}

void infer_unscale(const Infer& i) {
  TRI_CHECK(!i.inputs.empty(), message(i.op.name, "expects gradients and a scale"));
  const size_t n = i.inputs.size() - 1;
  check_gradients(i, n);
  check_scalar(i, n, DType::kFloat32, "scale");
  for (size_t k = 0; k < n; ++k) i.out(i.dtype(k), i.shape(k));
  i.out(DType::kBool, Shape{1});
}

// Out-of-place or in it.
bool unscale(const void* from, void* to, DType dtype, const Chunk& c, float inverse) {
  if (dtype == DType::kFloat64) {
    bool finite = true;
    for (int64_t i = c.begin; i < c.end; ++i) {
      const double v = static_cast<const double*>(from)[i] * inverse;
      static_cast<double*>(to)[i] = v;
      finite = finite && std::isfinite(v);
    }
    return finite;
  }
  const RuleTable& table = rule_table();
  float buffer[kRuleBlock], scaled[kRuleBlock];
  uint32_t top = 0;
  RuleNumbers<float> numbers;
  numbers.factor = inverse;
  each_block(c.begin, c.end, [&](int64_t at, int64_t n) {
    const float* g = load_block<float>(table, from, dtype, at, n, buffer);
    double ignored = 0;
    top = std::max(top, table.squares(g, n, &ignored));
    table.prepare(numbers, g, g, scaled, n);
    store_block<float>(table, scaled, to, dtype, at, n);
  });
  return top < kNotFinite;
}

Kernel prepare_unscale(const Prepare& p) {
  const size_t n = p.node.inputs.size() - 1;
  const Chunks chunks(sizes_of(p, n));
  const auto run = [n, chunks, dtypes = dtypes_of(p, n)](const Launch& l) {
    auto* finite = static_cast<bool*>(l.scratch);
    const float inverse = 1 / *l.input<float>(n);
    parallel_for(chunks.count(), chunks.grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t c = begin; c < end; ++c) {
        const Chunk& chunk = chunks.list[static_cast<size_t>(c)];
        finite[c] =
            unscale(l.in[chunk.tensor], l.out[chunk.tensor], dtypes[chunk.tensor], chunk, inverse);
      }
    });
    *l.output<bool>(n) = !std::all_of(finite, finite + chunks.count(), [](bool f) { return f; });
  };
  return {run, static_cast<size_t>(chunks.count()) + 64};
}

void infer_scaling(const Infer& i) {
  check_scalar(i, 0, DType::kFloat32, "scale");
  TRI_CHECK(i.dtype(1) == DType::kFloat32 && i.shape(1) == Shape{2},
            message(i.op.name, "counts expects float32 [2], got ", i.dtype(1), i.shape(1)));
  check_scalar(i, 2, DType::kBool, "found_inf");
  i.out(i.dtype(0), i.shape(0));
  i.out(i.dtype(1), i.shape(1));
}

Kernel prepare_scaling(const Prepare& p) {
  return {[a = p.attrs<LossScalingAttrs>()](const Launch& l) {
    float scale = *l.input<float>(0), good = l.input<float>(1)[0], bad = l.input<float>(1)[1];
    if (*l.input<bool>(2)) {
      good = 0;
      if (++bad >= static_cast<float>(a.decr_every_n_nan_or_inf)) {
        scale *= static_cast<float>(a.decr_ratio);
        bad = 0;
      }
    } else {
      bad = 0;
      if (++good >= static_cast<float>(a.incr_every_n_steps)) {
        const float more = scale * static_cast<float>(a.incr_ratio);
        if (std::isfinite(more)) scale = more;
        good = 0;
      }
    }
    *l.output<float>(0) = scale;
    l.output<float>(1)[0] = good;
    l.output<float>(1)[1] = bad;
  }};
}

}  // namespace

namespace ops {

constinit const Op clip_factors_op{.name = "clip_factors",
                                   .inputs = -1,
                                   .outputs = 3,
                                   .attrs = &attr_info<ClipAttrs>,
                                   .infer = infer_factors,
                                   .cpu = prepare_factors,
                                   .cuda = TRI_CUDA(cuda_clip_factors)};
constinit const Op check_finite_and_unscale_op{.name = "check_finite_and_unscale",
                                               .inputs = -1,
                                               .outputs = -1,
                                               .infer = infer_unscale,
                                               .cpu = prepare_unscale,
                                               .cuda = TRI_CUDA(cuda_check_finite_and_unscale),
                                               .in_place = kEveryOutput};
constinit const Op update_loss_scaling_op{.name = "update_loss_scaling",
                                          .inputs = 3,
                                          .outputs = 2,
                                          .attrs = &attr_info<LossScalingAttrs>,
                                          .infer = infer_scaling,
                                          .cpu = prepare_scaling,
                                          .cuda = TRI_CUDA(cuda_update_loss_scaling),
                                          .in_place = 2};

}  // namespace ops
}  // namespace trireme
