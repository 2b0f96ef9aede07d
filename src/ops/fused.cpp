// Fused nodes on the CPU: a body with an anchor becomes one convolution kernel, one of pointwise
// operators a cluster.
#include "ops/fused.h"

#include <algorithm>

#include "ops/anchor.h"
#include "ops/batch_matmul.h"
#include "ops/cuda_kernels.h"

namespace trireme {
namespace {

void infer(const Infer& in) {
  const Graph& body = *in.attrs<FusedAttrs>().body;
  TRI_CHECK(in.inputs.size() == body.inputs.size(),
            "[fused] expects " + std::to_string(body.inputs.size()) + " inputs, got " +
                std::to_string(in.inputs.size()));
  for (const Value* v : body.outputs) in.outputs.push_back(v->type);
}

Kernel prepare(const Prepare& p) {
  const Graph& body = *p.attrs<FusedAttrs>().body;
  const std::vector<const Node*> nodes = operators_of(body);
  if (std::all_of(nodes.begin(), nodes.end(),
                  [](const Node* n) { return n->op->fuse == Fuse::kPointwise; }))
    return pointwise_cluster(nodes, {body.inputs.begin(), body.inputs.end()},
                             {body.outputs.begin(), body.outputs.end()});
  if (const auto product = match_product(nodes)) return fused_product(p, body, *product);
  const auto match = match_anchor(nodes);
  if (!match) fail(Code::kInternal, "[fused] no lowering takes this body", p.node.where);
  return prepare_fused_anchor(p, body, *match);
}

#ifdef TRIREME_CUDA
Kernel prepare_cuda(const Prepare& p) {
  const Graph& body = *p.attrs<FusedAttrs>().body;
  const std::vector<const Node*> nodes = operators_of(body);
  if (cuda_fuses_matmul(nodes)) return cuda_fused_matmul(p, body, nodes);
  const auto pointwise = [](const Node* n) { return n->op->fuse == Fuse::kPointwise; };
  if (!std::all_of(nodes.begin(), nodes.end(), pointwise)) {
    const auto match = match_anchor(nodes);
    if (!match) fail(Code::kInternal, "[fused] no CUDA lowering takes this body", p.node.where);
    return cuda_fused_conv(p, body, *match);
  }
  return cuda_pointwise_cluster(nodes, {body.inputs.begin(), body.inputs.end()},
                                {body.outputs.begin(), body.outputs.end()});
}
#endif

}  // namespace

std::vector<const Node*> operators_of(const Graph& body) {
  std::vector<const Node*> nodes;
  for (const auto& n : body.nodes)
    if (n->op != &kData && n->op != &kConstant) nodes.push_back(n.get());
  return nodes;
}

namespace ops {
const Op fused_op{.name = "fused",
                  .inputs = -1,
                  .outputs = -1,
                  .attrs = &attr_info<FusedAttrs>,
                  .infer = infer,
                  .cpu = prepare,
                  .cuda = TRI_CUDA(prepare_cuda)};
}  // namespace ops
}  // namespace trireme
