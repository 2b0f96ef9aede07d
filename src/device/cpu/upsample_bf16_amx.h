// Transposed 2x2 convolution to a single channel: the last step of text detectors, at full size.
#pragma once

#include "device/cpu/epilogue_bf16_amx.h"
#include "device/cpu/gemm_bf16_amx.h"

namespace trireme::cpu::bf16 {

bool serves_upsample(const ConvSpec& spec, const Epilogue& epilogue);

class Upsample {
 public:
  Upsample(const ConvSpec& spec, const Epilogue& epilogue);
  void run(const ConvArgs& args, int64_t row_begin, int64_t row_end) const;  // input rows

 private:
  ConvSpec spec_;
  Epilogue epilogue_;
  KLayout k_;
  EpilogueFn finish_;
};

}  // namespace trireme::cpu::bf16
