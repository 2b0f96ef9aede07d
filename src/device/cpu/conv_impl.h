// The halves of Conv (conv.h), one per data type; conv.cpp chooses between them. Internal.
//
// Each half gets specs of its own dtype only, with ldx and ldy filled in (never 0) and already
// found consistent by conv.cpp: positive extents, groups dividing ic and oc, output extents in
// agreement with `transposed`. create() returns null for what it does not serve. conv.cpp asks
// cpu_supports() first, so the functions here may use their instructions at once.
#pragma once

#include <cstddef>
#include <memory>

#include "device/cpu/conv.h"

namespace trireme::cpu {

// Transposed convolutions of any kernel and stride (conv_phased.cpp).
std::unique_ptr<Conv> make_phased(const ConvSpec& spec, const Epilogue& epilogue);
size_t phased_packed_bytes(const ConvSpec& spec);
void phased_pack(const ConvSpec& spec, const float* weight, void* packed);

namespace f32 {
std::unique_ptr<Conv> create(const ConvSpec& spec, const Epilogue& epilogue);
std::unique_ptr<Conv> create(const ConvSpec& dw, const Epilogue& dw_epilogue, const ConvSpec& pw,
                             const Epilogue& epilogue);
bool adds_in_place(const ConvSpec& spec);
size_t packed_bytes(const ConvSpec& spec);
void pack(const ConvSpec& spec, const float* weight, void* packed);
}  // namespace f32

namespace bf16 {
std::unique_ptr<Conv> create(const ConvSpec& spec, const Epilogue& epilogue);
std::unique_ptr<Conv> create(const ConvSpec& dw, const Epilogue& dw_epilogue, const ConvSpec& pw,
                             const Epilogue& epilogue);
bool adds_in_place(const ConvSpec& spec);
size_t packed_bytes(const ConvSpec& spec);
void pack(const ConvSpec& spec, const float* weight, void* packed);
}  // namespace bf16

}  // namespace trireme::cpu
