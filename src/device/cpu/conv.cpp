// Conv's front: checks the geometry and hands over to the half that serves the data type.
#include "device/cpu/conv.h"

#include "base/cpu_features.h"
#include "device/cpu/conv_impl.h"
#include "device/cpu/narrow_f32.h"

namespace trireme::cpu {
namespace {

ConvSpec with_defaults(ConvSpec s) {
  if (s.ldx == 0) s.ldx = s.ic;
  if (s.ldy == 0) s.ldy = s.oc;
  return s;
}

bool valid(const ConvSpec& s) {
  for (const int64_t v :
       {s.n, s.h, s.w, s.ic, s.oh, s.ow, s.oc, s.kh, s.kw, s.sh, s.sw, s.dh, s.dw, s.groups}) {
    if (v < 1) return false;
  }
  if (s.ic % s.groups || s.oc % s.groups || s.top < 0 || s.left < 0) return false;
  if (s.ldy < s.oc || (!s.x_planar && s.ldx < s.ic)) return false;
  return !s.x_planar || (s.ic <= 4 && s.groups == 1 && !s.transposed);
}

// Every input pixel fills a rectangle of outputs of its own.
bool kernel_is_stride(const ConvSpec& s) {
  return s.groups == 1 && s.kh == s.sh && s.kw == s.sw && s.dh == 1 && s.dw == 1 && s.top == 0 &&
         s.left == 0;
}
bool is_phased(const ConvSpec& s) { return s.transposed && !kernel_is_stride(s); }

bool served(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

}  // namespace

bool cpu_supports(DType dtype) {
  if (dtype == DType::kFloat32) return cpu_features().avx512;
  return dtype == DType::kBFloat16 && cpu_features().amx_bf16;
}

std::unique_ptr<Conv> Conv::create(const ConvSpec& spec, const Epilogue& epilogue) {
  const ConvSpec s = with_defaults(spec);
  if (!cpu_supports(s.dtype) || !valid(s)) return nullptr;
  if (f32::is_narrow(s)) return f32::make_narrow(s, epilogue);
  if (is_phased(s)) return make_phased(s, epilogue);
  if (s.transposed && (s.oh != s.h * s.kh || s.ow != s.w * s.kw)) return nullptr;
  return s.dtype == DType::kFloat32 ? f32::create(s, epilogue) : bf16::create(s, epilogue);
}

std::unique_ptr<Conv> Conv::create(const ConvSpec& dw, const Epilogue& dw_epilogue,
                                   const ConvSpec& pw, const Epilogue& epilogue) {
  const ConvSpec d = with_defaults(dw), p = with_defaults(pw);
  if (!cpu_supports(d.dtype) || p.dtype != d.dtype || !valid(d) || !valid(p)) return nullptr;
  const bool depthwise = d.groups == d.ic && d.groups == d.oc && !d.transposed && !d.x_planar;
  const bool pointwise = p.kh == 1 && p.kw == 1 && p.sh == 1 && p.sw == 1 && p.groups == 1 &&
                         p.top == 0 && p.left == 0 && !p.transposed && !p.x_planar;
  const bool chained =
      p.n == d.n && p.h == d.oh && p.w == d.ow && p.ic == d.oc && p.oh == p.h && p.ow == p.w;
  if (!depthwise || !pointwise || !chained || dw_epilogue.residual != Epilogue::kNone) {
    return nullptr;
  }
  return d.dtype == DType::kFloat32 ? f32::create(d, dw_epilogue, p, epilogue)
                                    : bf16::create(d, dw_epilogue, p, epilogue);
}

bool Conv::adds_in_place(const ConvSpec& spec) {
  const ConvSpec s = with_defaults(spec);
  if (!cpu_supports(s.dtype) || !valid(s) || f32::is_narrow(s) || is_phased(s)) return false;
  return s.dtype == DType::kFloat32 ? f32::adds_in_place(s) : bf16::adds_in_place(s);
}

size_t Conv::packed_bytes(const ConvSpec& spec) {
  if (!served(spec.dtype)) return 0;
  const ConvSpec s = with_defaults(spec);
  if (f32::is_narrow(s)) return f32::narrow_packed_bytes(s);
  if (is_phased(s)) return phased_packed_bytes(s);
  return s.dtype == DType::kFloat32 ? f32::packed_bytes(s) : bf16::packed_bytes(s);
}

void Conv::pack(const ConvSpec& spec, const float* weight, void* packed) {
  if (!served(spec.dtype)) return;
  const ConvSpec s = with_defaults(spec);
  if (f32::is_narrow(s)) return f32::narrow_pack(s, weight, packed);
  if (is_phased(s)) return phased_pack(s, weight, packed);
  if (s.dtype == DType::kFloat32) f32::pack(s, weight, packed);
  else bf16::pack(s, weight, packed);
}

}  // namespace trireme::cpu
