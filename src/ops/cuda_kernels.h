// The operators' kernels for NVIDIA's GPUs: a function of an Op's `cuda` each. Their code is in the
// .cu of the family's name. None waits for the host or allocates; all can be captured. Sums are
// taken in a fixed order: the same inputs give the same bits. Indices outside their range, which a
// GPU cannot report, read as zero (a loss: NaN) and write nothing.
#pragma once

#include <span>

#include "graph/kernel.h"

namespace trireme {

struct AnchorMatch;
struct CopyBox;
Kernel cuda_copy_boxes(const std::vector<CopyBox>& boxes, size_t element_size);

Kernel cuda_pointwise(const Prepare& p);
Kernel cuda_pointwise_cluster(const std::vector<const Node*>& nodes,
                              const std::vector<const Value*>& inputs,
                              const std::vector<const Value*>& outputs);

Kernel cuda_matmul(const Prepare& p);
// Of nodes in running order: a matmul, then [add a row] [add a value of the result's shape] [relu
// or gelu_tanh]. Whether one kernel serves them, and that kernel for a fused node of them.
bool cuda_fuses_matmul(const std::vector<const Node*>& nodes);
Kernel cuda_fused_matmul(const Prepare& p, const Graph& body,
                         const std::vector<const Node*>& nodes);

Kernel cuda_flash_attn(const Prepare& p);
Kernel cuda_flash_attn_grad(const Prepare& p);

Kernel cuda_conv2d(const Prepare& p);  // conv2d_transpose too
Kernel cuda_conv2d_statistics(const Prepare& p);
Kernel cuda_conv2d_wgrad(const Prepare& p);
Kernel cuda_fused_conv(const Prepare& p, const Graph& body, const AnchorMatch& match);

Kernel cuda_softmax(const Prepare& p);
Kernel cuda_log_softmax(const Prepare& p);
Kernel cuda_softmax_grad(const Prepare& p);
Kernel cuda_cross_entropy(const Prepare& p);
Kernel cuda_cross_entropy_grad(const Prepare& p);

Kernel cuda_gelu_grad_sum(const Prepare& p);

Kernel cuda_layer_norm(const Prepare& p);
Kernel cuda_layer_norm_grad(const Prepare& p);
Kernel cuda_group_norm(const Prepare& p);  // instance_norm too
Kernel cuda_group_norm_grad(const Prepare& p);

Kernel cuda_batch_norm(const Prepare& p);
Kernel cuda_batch_norm_train(const Prepare& p);
Kernel cuda_batch_norm_grad(const Prepare& p);
Kernel cuda_fused_batch_norm(const Prepare& p);  // fused_batch_norm_act, fused_bn_add_activation
Kernel cuda_fused_batch_norm_act_grad(const Prepare& p);
Kernel cuda_fused_bn_add_activation_grad(const Prepare& p);
Kernel cuda_fused_dual_bn_add_activation(const Prepare& p);
Kernel cuda_fused_dual_bn_add_activation_grad(const Prepare& p);
Kernel cuda_fused_batch_norm_act_pool(const Prepare& p);
Kernel cuda_fused_batch_norm_act_pool_grad(const Prepare& p);

Kernel cuda_reduce(const Prepare& p);  // sum, mean, max, min, prod, any, all

Kernel cuda_pool2d(const Prepare& p);  // max_pool2d_with_index too
Kernel cuda_pool2d_grad(const Prepare& p);

Kernel cuda_nearest_interp(const Prepare& p);
Kernel cuda_bilinear_interp(const Prepare& p);
Kernel cuda_nearest_interp_grad(const Prepare& p);
Kernel cuda_bilinear_interp_grad(const Prepare& p);

Kernel cuda_gather(const Prepare& p);
Kernel cuda_gather_nd(const Prepare& p);
Kernel cuda_embedding(const Prepare& p);
Kernel cuda_one_hot(const Prepare& p);
Kernel cuda_index_add(const Prepare& p);
Kernel cuda_scatter(const Prepare& p);
Kernel cuda_scatter_nd_add(const Prepare& p);
Kernel cuda_embedding_grad(const Prepare& p);

Kernel cuda_pad_border(const Prepare& p);  // reflect, replicate, circular

Kernel cuda_dropout(const Prepare& p);
Kernel cuda_uniform(const Prepare& p);
Kernel cuda_gaussian(const Prepare& p);
Kernel cuda_randint(const Prepare& p);
Kernel cuda_randperm(const Prepare& p);  // one thread: for orders of some thousands
Kernel cuda_bernoulli(const Prepare& p);

Kernel cuda_update(const Prepare& p);  // every optimizer of optimizer.h
Kernel cuda_clip_factors(const Prepare& p);
Kernel cuda_check_finite_and_unscale(const Prepare& p);
Kernel cuda_update_loss_scaling(const Prepare& p);

Kernel cuda_argmax(const Prepare& p);
Kernel cuda_topk(const Prepare& p);  // k passes over a line: for a small k
Kernel cuda_cumsum(const Prepare& p);
Kernel cuda_cumprod(const Prepare& p);
Kernel cuda_cumprod_grad(const Prepare& p);
Kernel cuda_searchsorted(const Prepare& p);
Kernel cuda_take_along_axis(const Prepare& p);
Kernel cuda_put_along_axis(const Prepare& p);

struct RnnAttrs;
Kernel cuda_rnn(const Prepare& p);
Kernel cuda_cudnn_rnn(const Prepare& p);
Kernel cuda_cudnn_rnn_grad(const Prepare& p);
// What cudnn_rnn of these inputs keeps for its gradient, in bytes.
int64_t cuda_rnn_reserve(std::span<Value* const> inputs, const RnnAttrs& attrs, Device& gpu);

Kernel cuda_warpctc(const Prepare& p);

// All outputs zero: of operators whose input is empty.
Kernel cuda_zero_outputs(const Prepare& p);

}  // namespace trireme
