// Pointwise clusters on the GPU: printed, compiled by NVRTC, launched.
#include "device/cuda/check.h"
#include "device/cuda/compile.h"
#include "device/cuda/launch.h"
#include "ops/cuda_kernels.h"
#include "ops/fused.h"
#include "ops/pointwise_print.h"

namespace trireme {
namespace {

// One kernel argument after the other, as the printed kernel takes them.
void launch(cudaKernel_t kernel, const PrintedPointwise& p, size_t inputs, size_t outputs,
            const Launch& l) {
  std::vector<void*> pointers(l.in, l.in + inputs);
  pointers.insert(pointers.end(), l.out, l.out + outputs);
  for (const void* pointer : pointers)
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0)
      fail(Code::kInternal, "[pointwise] an operand is not aligned to 16 bytes");
  std::vector<void*> arguments;
  for (void*& pointer : pointers) arguments.push_back(&pointer);
  arguments.push_back(const_cast<int64_t*>(p.numbers.data()));
  cudaLaunchAttribute overlap = cuda::overlap_attribute();
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(p.blocks()));
  config.blockDim = dim3(kPointwiseThreads);
  config.stream = static_cast<cudaStream_t>(l.stream);
  config.attrs = &overlap;
  config.numAttrs = cuda::launches_overlap() ? 1 : 0;
  TRI_CUDA_CALL(
      cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), arguments.data()));
}

}  // namespace

Kernel cuda_pointwise_cluster(const std::vector<const Node*>& nodes,
                              const std::vector<const Value*>& inputs,
                              const std::vector<const Value*>& outputs) {
  if (outputs[0]->type.shape.numel() == 0) return {[](const Launch&) {}};
  auto printed = std::make_shared<PrintedPointwise>(print_pointwise(nodes, inputs, outputs));
  const cudaKernel_t kernel = cuda::compiled_kernel(printed->source, "pointwise");
  return {[printed, kernel, in = inputs.size(), out = outputs.size()](const Launch& l) {
    launch(kernel, *printed, in, out, l);
  }};
}

Kernel cuda_pointwise(const Prepare& p) {
  std::vector<const Value*> outputs;
  for (const auto& v : p.node.outputs) outputs.push_back(v.get());
  return cuda_pointwise_cluster({&p.node}, {p.node.inputs.begin(), p.node.inputs.end()}, outputs);
}

}  // namespace trireme
