// The folded convolution and its gradient by the weights, by cuDNN.
#include "ops/conv_folded.h"

#include "device/precision.h"
#include "ops/conv.h"
#include "ops/conv_operands.h"
#include "ops/elements.h"

namespace trireme::cuda {
namespace {

// Where TF32 is allowed (without, there are no tensor cores to feed) and indices fit 32 bits.
bool worth_folding(const cpu::ConvSpec& s, DType dtype) {
  return dtype == DType::kFloat32 && allows_tf32(Products::kConvolutions) && may_fold(s) &&
         s.oc % 4 == 0 && s.n * (s.h + 8) * (s.w + 8) * 4 < int64_t{1} << 31;
}

DnnTensor picture_of(const Folding& f) {
  return dnn_channels_last(DType::kFloat32, {f.spec.n, f.channels, f.size[0], f.size[1]});
}
std::vector<int64_t> weight_dims(const Folding& f) {
  return {f.spec.oc, f.channels, f.kernel[0], f.kernel[1]};
}
DnnTensor result_of(const cpu::ConvSpec& s) {
  return dnn_channels_last(DType::kFloat32, {s.n, s.oc, s.oh, s.ow});
}

// What both ways have in common: the plan, and places for the folded picture and weights.
struct Folded {
  Folding f;
  std::shared_ptr<const DnnPlan> plan;
  size_t picture, weight, workspace, bytes;

  Folded(const Folding& folding, DnnGraph& graph, Device& device)
      : f(folding), plan(graph.plan(device, dnn_conv_options())) {
    Scratch scratch;
    picture = scratch.take(f.picture_bytes()), weight = scratch.take(f.weight_bytes());
    workspace = scratch.take(plan->workspace());
    bytes = scratch.bytes();
  }
};

}  // namespace

std::vector<Alternative> folded_conv(const Prepare& p, const Node& conv, const Type& result, int x,
                                     int weight) {
  std::vector<Alternative> all;
  const Type& picture = conv.inputs[0]->type;
  // Folding reads the weight as it lies, and a constant that cuDNN's way packed is not there.
  if (p.constant(static_cast<size_t>(weight)) != nullptr || conv.op == &ops::conv2d_transpose_op ||
      strides_of(result)[1] != 1 || !worth_folding(conv_spec(conv), picture.dtype))
    return all;
  for (const int64_t channels : {4 * picture.shape[1], int64_t{16}}) {
    const Folding f(conv_spec(conv), strides_of(picture), channels);
    DnnGraph graph(DType::kFloat32, DType::kFloat32);
    const int gx = graph.input(picture_of(f));
    const int gw = graph.input(dnn_channels_last(DType::kFloat32, weight_dims(f)));
    graph.output(graph.conv(gx, gw, {}), result_of(f.spec));
    const Folded c(f, graph, *p.device);
    all.push_back({message("folded ", channels),
                   {[=](const Launch& l) {
                      char* memory = static_cast<char*>(l.scratch);
                      c.f.fold_picture(l.in[x], memory + c.picture, l.stream);
                      c.f.fold_weight(l.in[weight], memory + c.weight, l.stream);
                      void* pointers[3] = {memory + c.picture, memory + c.weight, l.out[0]};
                      c.plan->run(pointers, memory + c.workspace, l.stream);
                    },
                    c.bytes}});
  }
  return all;
}

std::vector<Alternative> folded_conv_wgrad(const Prepare& p, const cpu::ConvSpec& conv) {
  std::vector<Alternative> all;
  if (strides_of(p.in(1))[1] != 1 || !worth_folding(conv, p.in(0).dtype)) return all;
  for (const int64_t channels : {4 * conv.ic, int64_t{16}}) {
    const Folding f(conv, strides_of(p.in(0)), channels);
    DnnGraph graph(DType::kFloat32, DType::kFloat32);
    const int gy = graph.input(result_of(conv)), gx = graph.input(picture_of(f));
    graph.output(graph.conv_wgrad(gy, gx, {}, weight_dims(f)),
                 dnn_channels_last(DType::kFloat32, weight_dims(f)));
    const Folded c(f, graph, *p.device);
    all.push_back({message("folded ", channels),
                   {[=](const Launch& l) {
                      char* memory = static_cast<char*>(l.scratch);
                      c.f.fold_picture(l.in[0], memory + c.picture, l.stream);
                      void* pointers[3] = {l.in[1], memory + c.picture, memory + c.weight};
                      c.plan->run(pointers, memory + c.workspace, l.stream);
                      c.f.unfold_weight(memory + c.weight, l.out[0], l.stream);
                    },
                    c.bytes}});
  }
  return all;
}

}  // namespace trireme::cuda
