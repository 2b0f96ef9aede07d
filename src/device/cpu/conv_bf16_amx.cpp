// The bfloat16 half of Conv: implicit matrix products on AMX tiles, and depthwise convolutions.
#include <memory>

#include "device/cpu/bf16_math_amx.h"
#include "device/cpu/conv_impl.h"
#include "device/cpu/depthwise_bf16_amx.h"
#include "device/cpu/tasks_amx.h"
#include "device/cpu/tile_conv_bf16_amx.h"
#include "device/cpu/upsample_bf16_amx.h"

namespace trireme::cpu::bf16 {
namespace {

bool is_depthwise(const ConvSpec& s) {
  return s.groups > 1 && s.groups == s.ic && s.ic == s.oc && !s.transposed && !s.x_planar;
}

// Transposed 2x2 to a single channel.
class UpsampleConv final : public Conv {
 public:
  UpsampleConv(const ConvSpec& spec, const Epilogue& epilogue)
      : spec_(spec), kernel_(spec, epilogue) {}

  void run(const ConvArgs& args) const override {
    const int64_t rows = spec_.n * spec_.h;
    const int64_t tasks = useful_tasks(static_cast<double>(input_pixels(spec_)) * 3, rows);
    run_tasks(tasks,
              [&](int64_t t) { kernel_.run(args, rows * t / tasks, rows * (t + 1) / tasks); });
  }
  size_t scratch_bytes() const override { return 0; }

 private:
  ConvSpec spec_;
  Upsample kernel_;
};

class DepthwiseConv final : public Conv {
 public:
  DepthwiseConv(const ConvSpec& spec, const Epilogue& epilogue)
      : spec_(spec), kernel_(spec, epilogue) {}

  void run(const ConvArgs& args) const override {
    const ConvSpec& s = spec_;
    const DepthwiseArgs d{static_cast<const Bf16*>(args.x), static_cast<const float*>(args.weight),
                          args.bias, static_cast<const Bf16*>(args.residual), args.ldr};
    const double work = static_cast<double>(output_pixels(s) * round_up(s.oc, 32));
    const double ns = work * static_cast<double>(s.kh * s.kw + 8) / 80;
    const int64_t rows = s.n * s.oh, tasks = useful_tasks(ns, output_pixels(s));
    const int64_t unit = rows >= 8 * tasks ? s.ow : 1, units = output_pixels(s) / unit;
    run_tasks(tasks, [&](int64_t t) {
      const int64_t begin = units * t / tasks * unit, end = units * (t + 1) / tasks * unit;
      kernel_.run(d, begin, end, static_cast<Bf16*>(args.y) + begin * s.ldy, s.ldy);
    });
  }
  size_t scratch_bytes() const override { return 0; }

 private:
  ConvSpec spec_;
  Depthwise kernel_;
};

}  // namespace

std::unique_ptr<Conv> create(const ConvSpec& spec, const Epilogue& epilogue) {
  if (spec.dtype != DType::kBFloat16) return nullptr;
  if (is_depthwise(spec)) return std::make_unique<DepthwiseConv>(spec, epilogue);
  if (!TileConv::serves(spec)) return nullptr;
  if (serves_upsample(spec, epilogue)) return std::make_unique<UpsampleConv>(spec, epilogue);
  return std::make_unique<TileConv>(spec, epilogue);
}

std::unique_ptr<Conv> create(const ConvSpec& dw, const Epilogue& dw_epilogue, const ConvSpec& pw,
                             const Epilogue& epilogue) {
  const bool served = is_depthwise(dw) && dw_epilogue.residual == Epilogue::kNone &&
                      pw.kh * pw.kw == 1 && pw.sh * pw.sw == 1 && pw.groups == 1 &&
                      !pw.transposed && !pw.x_planar && pw.top == 0 && pw.left == 0 &&
                      pw.ic == dw.oc && pw.h == dw.oh && pw.w == dw.ow && pw.oh == pw.h &&
                      pw.ow == pw.w && pw.n == dw.n && pw.dtype == DType::kBFloat16;
  // With few pixels the threads had better share out the columns, of the 1x1 convolution alone.
  if (!served || output_pixels(dw) < 32) return nullptr;
  return std::make_unique<TileConv>(dw, dw_epilogue, pw, epilogue);
}

bool adds_in_place(const ConvSpec& spec) {
  return !spec.transposed && !is_depthwise(spec) && TileConv::serves(spec);
}

size_t packed_bytes(const ConvSpec& spec) {
  return is_depthwise(spec) ? packed_depthwise_bytes(spec) : packed_gemm_bytes(spec);
}

void pack(const ConvSpec& spec, const float* weight, void* packed) {
  is_depthwise(spec) ? pack_depthwise(spec, weight, packed) : pack_gemm(spec, weight, packed);
}

}  // namespace trireme::cpu::bf16
