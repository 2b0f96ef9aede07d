// PP-OCRv4's recogniser and detector. Sublayers are registered in the order of their use.
#include "trireme/models_ocr.h"

#include <cmath>

#include "train/model_parts.h"
#include "trireme/manipulation.h"

namespace trireme::models {

using namespace nn;  // NOLINT: these files are made of layers

namespace {

// scale * x + bias, one number each.
struct LearnableAffine : Layer {
  Tensor scale, bias;
  LearnableAffine() : Layer("learnable_affine_block") {
    scale = create_parameter("scale", Shape{1}, {}, initializer::Constant(1));
    bias = create_parameter("bias", Shape{1}, {}, initializer::Constant(0));
  }
  Tensor forward(const Tensor& x) override { return x * scale + bias; }
};

struct Act : Layer {
  LearnableAffine lab;
  Act() : Layer("act") { add_sublayer("lab", lab); }
  Tensor forward(const Tensor& x) override { return lab(functional::hardswish(x)); }
};

struct RepOptions {
  Ints stride = {1, 1};
  int64_t groups = 1;
  bool activation = true, deploy = false;
  int64_t branches = 4;
};

// A convolution as a sum of branches; in its deploy form one convolution with a bias.
struct RepConv : Layer {
  Sequential conv_kxk;
  std::optional<Sequential> conv_1x1;
  std::optional<BatchNorm2D> identity;
  LearnableAffine lab;
  std::optional<Act> act;

  RepConv(int64_t in, int64_t out, int64_t kernel, const RepOptions& o)
      : Layer("learnable_rep_layer") {
    const ConvNorm plain{.stride = o.stride, .groups = o.groups, .activation = ""};
    if (o.deploy) {
      conv_kxk.append(Conv2D(
          in, out, kernel, {.stride = o.stride, .padding = (kernel - 1) / 2, .groups = o.groups}));
      add_sublayer("reparam_conv", conv_kxk);
    } else {
      if (in == out && o.stride == Ints{1, 1}) {
        identity.emplace(in);
        add_sublayer("identity", *identity);
      }
      for (int64_t i = 0; i < o.branches; ++i) conv_kxk.append(conv_norm(in, out, kernel, plain));
      add_sublayer("conv_kxk", conv_kxk);
      if (kernel > 1) {
        conv_1x1 = conv_norm(in, out, 1, plain);
        add_sublayer("conv_1x1", *conv_1x1);
      }
    }
    add_sublayer("lab", lab);
    if (!o.activation) return;
    act.emplace();
    add_sublayer("act", *act);
  }
  Tensor forward(const Tensor& x) override {
    Tensor sum;
    const auto take = [&sum](const Tensor& y) { sum = sum.defined() ? sum + y : y; };
    if (identity) take((*identity)(x));
    if (conv_1x1) take((*conv_1x1)(x));
    for (size_t i = 0; i < conv_kxk.size(); ++i) take(conv_kxk[i](x));
    sum = lab(sum);
    return act ? (*act)(sum) : sum;
  }
};

// Channels weighted by what their means tell.
struct SqueezeExcite : Layer {
  Conv2D conv1, conv2;
  double slope;
  SqueezeExcite(int64_t channels, double hardsigmoid_slope)
      : Layer("se_layer"),
        conv1(channels, channels / 4, 1),
        conv2(channels / 4, channels, 1),
        slope(hardsigmoid_slope) {
    add_sublayers("conv1", conv1, "conv2", conv2);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor s = functional::relu(conv1(functional::adaptive_avg_pool2d(x, 1)));
    return x * functional::hardsigmoid(conv2(s), slope, 0.5);
  }
};

struct LCNetV3Block : Layer {
  RepConv dw, pw;
  std::optional<SqueezeExcite> se;
  LCNetV3Block(int64_t in, int64_t out, int64_t kernel, const Ints& stride, bool use_se,
               const OcrOptions& o)
      : Layer("lcnetv3_block"),
        dw(in, in, kernel,
           {.stride = stride,
            .groups = in,
            .activation = stride != Ints{2, 2},
            .deploy = o.deploy,
            .branches = o.branches}),
        pw(in, out, 1, {.deploy = o.deploy, .branches = o.branches}) {
    add_sublayer("dw_conv", dw);
    if (use_se) {
      se.emplace(in, 1.0 / 6);
      add_sublayer("se", *se);
    }
    add_sublayer("pw_conv", pw);
  }
  Tensor forward(const Tensor& x) override {
    Tensor y = dw(x);
    if (se) y = (*se)(y);
    return pw(y);
  }
};

struct BlockConfig {
  int stage;
  int64_t kernel, out;
  Ints recognizer, detector;  // strides
  bool se;
};
const std::vector<BlockConfig>& block_configs() {
  static const std::vector<BlockConfig> all = {
      {0, 3, 32, {1, 1}, {1, 1}, false},  {1, 3, 64, {1, 1}, {2, 2}, false},
      {1, 3, 64, {1, 1}, {1, 1}, false},  {2, 3, 128, {2, 1}, {2, 2}, false},
      {2, 3, 128, {1, 1}, {1, 1}, false}, {3, 3, 256, {1, 2}, {2, 2}, false},
      {3, 5, 256, {1, 1}, {1, 1}, false}, {3, 5, 256, {1, 1}, {1, 1}, false},
      {3, 5, 256, {1, 1}, {1, 1}, false}, {3, 5, 256, {1, 1}, {1, 1}, false},
      {4, 5, 512, {2, 1}, {2, 2}, true},  {4, 5, 512, {1, 1}, {1, 1}, true},
      {4, 5, 512, {2, 1}, {1, 1}, false}, {4, 5, 512, {1, 1}, {1, 1}, false}};
  return all;
}

double scale_of(const OcrOptions& o, double usual) {
  TRI_CHECK(o.scale >= 0 && o.branches > 0 && o.num_classes > 0,
            "[ocr] expects a scale of 0 or more, branches and classes above 0");
  return o.scale > 0 ? o.scale : usual;
}

}  // namespace

PPLCNetV3::PPLCNetV3(bool detector, double scale, const OcrOptions& options)
    : Layer("pplcnetv3"),
      conv1(conv_norm(3, make_divisible(16 * scale, 16), 3, {.stride = 2, .activation = ""})) {
  add_sublayer("conv1", conv1);
  int64_t in = make_divisible(16 * scale, 16);
  for (const BlockConfig& b : block_configs()) {
    if (static_cast<size_t>(b.stage) == stages.size()) {
      stages.emplace_back();
      channels.push_back(0);
    }
    const int64_t out = make_divisible(static_cast<double>(b.out) * scale, 16);
    stages.back().append(
        LCNetV3Block(in, out, b.kernel, detector ? b.detector : b.recognizer, b.se, options));
    channels.back() = in = out;
  }
  for (size_t i = 0; i < stages.size(); ++i)
    add_sublayer("blocks" + std::to_string(i + 2), stages[i]);
}

std::vector<Tensor> PPLCNetV3::stages_of(const Tensor& x) {
  Tensor y = conv1(x);
  std::vector<Tensor> all;
  for (Sequential& stage : stages) all.push_back(y = stage(y));
  return all;
}
Tensor PPLCNetV3::forward(const Tensor& x) { return stages_of(x).back(); }

// ---- the recogniser

namespace {

// Attention among all places, then two products; norms in front.
struct SvtrBlock : Layer {
  LayerNorm norm1, norm2;
  Linear qkv, proj, fc1, fc2;
  int64_t heads;
  SvtrBlock(int64_t width, int64_t head_count)
      : Layer("svtr_block"),
        norm1(width),
        norm2(width),
        qkv(width, 3 * width),
        proj(width, width),
        fc1(width, 2 * width),
        fc2(2 * width, width),
        heads(head_count) {
    add_sublayers("norm1", norm1, "mixer.qkv", qkv, "mixer.proj", proj, "norm2", norm2, "mlp.fc1",
                  fc1, "mlp.fc2", fc2);
  }
  Tensor forward(const Tensor& x) override {
    const int64_t n = x.size(0), width = x.size(2);
    const Tensor all = reshape(qkv(norm1(x)), {n, -1, 3, heads, width / heads});
    const auto part = [&](int64_t i) { return squeeze(slice(all, {2}, {i}, {i + 1}), {2}); };
    const Tensor mixed = functional::scaled_dot_product_attention(part(0), part(1), part(2));
    const Tensor y = x + proj(reshape(mixed, {n, -1, width}));
    return y + fc2(functional::swish(fc1(norm2(y))));
  }
};

Sequential neck_conv(int64_t in, int64_t out, bool wide) {
  Sequential s(Conv2D(in, out, wide ? Sizes{1, 3} : Sizes{1, 1},
                      {.padding = wide ? Sizes{0, 1} : Sizes{0, 0}, .bias_attr = no_param()}),
               BatchNorm2D(out));
  s.append(Swish());
  return s;
}

constexpr int64_t kNeckWidth = 120, kHeads = 8;

}  // namespace

PPOCRv4Recognizer::PPOCRv4Recognizer(const OcrOptions& o)
    : Layer("ppocrv4_rec"),
      backbone(false, scale_of(o, 0.95), o),
      conv1(neck_conv(backbone.channels.back(), backbone.channels.back() / 8, true)),
      conv2(neck_conv(backbone.channels.back() / 8, kNeckWidth, false)),
      conv3(neck_conv(kNeckWidth, backbone.channels.back(), false)),
      conv4(neck_conv(2 * backbone.channels.back(), backbone.channels.back() / 8, true)),
      conv1x1(neck_conv(backbone.channels.back() / 8, kNeckWidth, false)),
      norm(kNeckWidth, {.epsilon = 1e-6}),
      fc(kNeckWidth, o.num_classes) {
  add_sublayers("backbone", backbone, "neck.conv1", conv1, "neck.conv2", conv2);
  for (int i = 0; i < 2; ++i) {
    const auto block = std::make_shared<SvtrBlock>(kNeckWidth, kHeads);
    add_sublayer("neck.svtr_block." + std::to_string(i), *block);
    blocks.push_back(block);
  }
  add_sublayers("neck.norm", norm, "neck.conv3", conv3, "neck.conv4", conv4, "neck.conv1x1",
                conv1x1, "head.fc", fc);
}

Tensor PPOCRv4Recognizer::forward(const Tensor& x) {
  TRI_CHECK(x.ndim() == 4 && x.size(2) == 48,
            "[ppocrv4_rec] x expects [N, 3, 48, W], got " + x.shape().str());
  const Tensor h = functional::avg_pool2d(backbone(x), {3, 2}, {3, 2});
  const int64_t n = h.size(0);
  Tensor z = conv2(conv1(h));
  z = transpose(flatten(z, 2), {0, 2, 1});
  for (const auto& block : blocks) z = (*block)(z);
  z = transpose(norm(z), {0, 2, 1});
  z = conv3(reshape(z, {n, kNeckWidth, 1, -1}));
  z = conv1x1(conv4(concat({h, z}, 1)));
  const Tensor y = fc(transpose(squeeze(z, {2}), {0, 2, 1}));
  return training() ? y : functional::softmax(y, 2);
}

// ---- the detector

namespace {

// A convolution without bias, and its channels weighted: x + se(x).
struct RseConv : Layer {
  Conv2D in_conv;
  SqueezeExcite se;
  RseConv(int64_t in, int64_t out, int64_t kernel)
      : Layer("rse_layer"),
        in_conv(in, out, kernel, {.padding = kernel / 2, .bias_attr = no_param()}),
        se(out, 0.2) {
    add_sublayers("in_conv", in_conv, "se_block", se);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor y = in_conv(x);
    return y + se(y);
  }
};

constexpr int64_t kFpnWidth = 96;

// Four times the size, one channel from 0 to 1.
Sequential db_head(int64_t in) {
  const int64_t c = in / 4;
  Sequential s(Conv2D(in, c, 3, {.padding = 1, .bias_attr = no_param()}), BatchNorm2D(c));
  s.append(ReLU());
  s.append(Conv2DTranspose(c, c, 2, {.stride = 2}));
  s.append(BatchNorm2D(c));
  s.append(ReLU());
  s.append(Conv2DTranspose(c, 1, 2, {.stride = 2}));
  s.append(Sigmoid());
  return s;
}

Tensor enlarged(const Tensor& x, double factor) {
  return functional::upsample(x, {.scale_factor = {factor}});
}

}  // namespace

PPOCRv4Detector::PPOCRv4Detector(const OcrOptions& o)
    : Layer("ppocrv4_det"),
      backbone(true, scale_of(o, 0.75), o),
      binarize(db_head(kFpnWidth)),
      thresh(db_head(kFpnWidth)) {
  const double scale = scale_of(o, 0.75);
  add_sublayer("backbone", backbone);
  for (int i = 0; i < 4; ++i) {
    constexpr double kWidths[] = {16, 24, 56, 480};
    reduce.emplace_back(backbone.channels[static_cast<size_t>(i) + 1],
                        static_cast<int64_t>(kWidths[i] * scale), 1);
    add_sublayer("backbone.layer_list." + std::to_string(i), reduce.back());
    lateral.push_back(
        std::make_shared<RseConv>(static_cast<int64_t>(kWidths[i] * scale), kFpnWidth, int64_t{1}));
    out.push_back(std::make_shared<RseConv>(kFpnWidth, kFpnWidth / 4, int64_t{3}));
  }
  for (size_t i = 4; i-- > 0;) add_sublayer("neck.ins_conv." + std::to_string(i), *lateral[i]);
  for (size_t i = 4; i-- > 0;) add_sublayer("neck.inp_conv." + std::to_string(i), *out[i]);
  add_sublayers("head.binarize", binarize, "head.thresh", thresh);
}

Tensor PPOCRv4Detector::forward(const Tensor& x) {
  TRI_CHECK(
      x.ndim() == 4 && x.size(2) % 32 == 0 && x.size(3) % 32 == 0,
      "[ppocrv4_det] x expects [N, 3, H, W] with sides of multiples of 32, got " + x.shape().str());
  const std::vector<Tensor> stages = backbone.stages_of(x);
  std::vector<Tensor> levels;
  for (size_t i = 0; i < 4; ++i) levels.push_back((*lateral[i])(reduce[i](stages[i + 1])));
  for (size_t i = 3; i-- > 0;) levels[i] = levels[i] + enlarged(levels[i + 1], 2);
  std::vector<Tensor> fused;
  for (size_t i = 4; i-- > 0;) {
    const Tensor y = (*out[i])(levels[i]);
    fused.push_back(i == 0 ? y : enlarged(y, static_cast<double>(1 << i)));
  }
  const Tensor f = concat(fused, 1), shrink = binarize(f);
  if (!training()) return shrink;
  const Tensor threshold = thresh(f);
  return concat({shrink, threshold, functional::sigmoid((shrink - threshold) * 50.0)}, 1);
}

namespace {

// Only the hardest of the pixels without text count, so that they do not outweigh those with it.
// Their number follows from the data: all are sorted, and those behind it weigh nothing.
Tensor balanced_cross_entropy(const Tensor& map, const Tensor& truth, const Tensor& mask,
                              const DBLossOptions& o) {
  const Tensor loss = functional::binary_cross_entropy(map, truth, {}, "none");
  const Tensor positive = truth * mask, negative = (1.0 - truth) * mask;
  const Tensor positives = sum(positive);
  const Tensor negatives = minimum(sum(negative), positives * o.negative_ratio);
  const Tensor hardest = sort(flatten(negative * loss), -1, true);
  const Tensor counts = cast(
      less_than(arange(0, static_cast<double>(hardest.numel()), 1, DType::kFloat32), negatives),
      DType::kFloat32);
  return (sum(positive * loss) + sum(hardest * counts)) / (positives + negatives + o.epsilon);
}

}  // namespace

Tensor db_loss(const Tensor& maps, const Tensor& shrink_map, const Tensor& shrink_mask,
               const Tensor& threshold_map, const Tensor& threshold_mask, const DBLossOptions& o) {
  TRI_CHECK(maps.ndim() == 4 && maps.size(1) == 3,
            "[db_loss] maps expects [N, 3, H, W], got " + maps.shape().str());
  const Shape flat{maps.size(0), maps.size(2), maps.size(3)};
  for (const Tensor* t : {&shrink_map, &shrink_mask, &threshold_map, &threshold_mask})
    TRI_CHECK(t->shape() == flat,
              "[db_loss] labels expect " + flat.str() + ", got " + t->shape().str());
  const auto map = [&](int64_t i) { return squeeze(slice(maps, {1}, {i}, {i + 1}), {1}); };
  const auto dice = [&](const Tensor& p) {
    const Tensor both = sum(p * shrink_map * shrink_mask);
    const Tensor all = sum(p * shrink_mask) + sum(shrink_map * shrink_mask) + o.epsilon;
    return 1.0 - both * 2.0 / all;
  };
  const Tensor l1 =
      sum(abs(map(1) - threshold_map) * threshold_mask) / (sum(threshold_mask) + o.epsilon);
  const Tensor text = o.balanced_cross_entropy
                          ? balanced_cross_entropy(map(0), shrink_map, shrink_mask, o)
                          : dice(map(0));
  return text * o.alpha + l1 * o.beta + dice(map(2));
}

}  // namespace trireme::models
