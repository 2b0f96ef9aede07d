// Networks for pictures: LeNet, ResNet, VGG, the MobileNets, PP-LCNet.
#include <algorithm>
#include <cmath>

#include "train/model_parts.h"
#include "trireme/models.h"

namespace trireme::models {

using namespace nn;  // NOLINT: these files are made of layers

int64_t make_divisible(double v, int64_t divisor) {
  const auto rounded = static_cast<int64_t>(v + static_cast<double>(divisor) / 2);
  const int64_t n = std::max(divisor, rounded / divisor * divisor);
  return static_cast<double>(n) < 0.9 * v ? n + divisor : n;
}

Sequential conv_norm(int64_t in, int64_t out, int64_t kernel, const ConvNorm& o) {
  Sequential s(Conv2D(in, out, kernel,
                      {.stride = o.stride,
                       .padding = (kernel - 1) / 2,
                       .groups = o.groups,
                       .bias_attr = no_param()}),
               BatchNorm2D(out, o.norm));
  if (o.activation == "relu") s.append(ReLU());
  else if (o.activation == "relu6") s.append(ReLU6());
  else if (o.activation == "hardswish") s.append(Hardswish());
  return s;
}

namespace {

int64_t classes(const Options& o, int64_t otherwise) {
  return o.num_classes == 0 ? otherwise : o.num_classes;
}

Tensor global_pool(const Tensor& x) { return functional::adaptive_avg_pool2d(x, 1); }

// ---- ResNet

struct ResidualBlock : Layer {
  Conv2D conv1;
  BatchNorm2D bn1;
  Conv2D conv2;
  BatchNorm2D bn2;
  std::optional<Conv2D> conv3;
  std::optional<BatchNorm2D> bn3;
  std::optional<Sequential> downsample;

  ResidualBlock(int64_t in, int64_t planes, int64_t stride, bool bottleneck)
      : Layer(bottleneck ? "bottleneck_block" : "basic_block"),
        conv1(bottleneck ? plain(in, planes, 1, 1) : plain(in, planes, 3, stride)),
        bn1(planes),
        conv2(bottleneck ? plain(planes, planes, 3, stride) : plain(planes, planes, 3, 1)),
        bn2(planes) {
    add_sublayers("conv1", conv1, "bn1", bn1, "conv2", conv2, "bn2", bn2);
    const int64_t out = planes * (bottleneck ? 4 : 1);
    if (bottleneck) {
      conv3 = plain(planes, out, 1, 1);
      bn3 = BatchNorm2D(out);
      add_sublayers("conv3", *conv3, "bn3", *bn3);
    }
    if (stride != 1 || in != out) {
      downsample = Sequential(plain(in, out, 1, stride), BatchNorm2D(out));
      add_sublayer("downsample", *downsample);
    }
  }
  Tensor forward(const Tensor& x) override {
    Tensor y = bn2(conv2(functional::relu(bn1(conv1(x)))));
    if (conv3) y = (*bn3)((*conv3)(functional::relu(y)));
    return functional::relu(y + (downsample ? (*downsample)(x) : x));
  }

 private:
  static Conv2D plain(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
    return {
        in, out, kernel, {.stride = stride, .padding = (kernel - 1) / 2, .bias_attr = no_param()}};
  }
};

}  // namespace

ResNet::ResNet(int depth, const Options& o)
    : Layer("resnet"),
      conv1(o.in_channels, 64, 7, {.stride = 2, .padding = 3, .bias_attr = no_param()}),
      bn1(64),
      with_pool(o.with_pool) {
  struct Depth {
    int depth;
    bool bottleneck;
    int blocks[4];
  };
  static constexpr Depth depths[] = {{18, false, {2, 2, 2, 2}},
                                     {34, false, {3, 4, 6, 3}},
                                     {50, true, {3, 4, 6, 3}},
                                     {101, true, {3, 4, 23, 3}},
                                     {152, true, {3, 8, 36, 3}}};
  const Depth* d = std::find_if(std::begin(depths), std::end(depths),
                                [&](const Depth& e) { return e.depth == depth; });
  TRI_CHECK(d != std::end(depths),
            "[resnet] depth expects 18, 34, 50, 101 or 152, got " + std::to_string(depth));
  add_sublayers("conv1", conv1, "bn1", bn1);
  int64_t in = 64, planes = 64;
  for (int stage = 0; stage < 4; ++stage, planes *= 2) {
    Sequential blocks;
    for (int i = 0; i < d->blocks[stage]; ++i) {
      blocks.append(ResidualBlock(in, planes, i == 0 && stage > 0 ? 2 : 1, d->bottleneck));
      in = planes * (d->bottleneck ? 4 : 1);
    }
    add_sublayer("layer" + std::to_string(stage + 1), blocks);
    stages.push_back(blocks);
  }
  if (const int64_t n = classes(o, 1000); n > 0) {
    fc.emplace(in, n);
    add_sublayer("fc", *fc);
  }
}
Tensor ResNet::forward(const Tensor& x) {
  Tensor y = functional::max_pool2d(functional::relu(bn1(conv1(x))), 3, 2, 1);
  for (Sequential& stage : stages) y = stage(y);
  if (with_pool) y = global_pool(y);
  return fc ? (*fc)(flatten(y, 1)) : y;
}

ResNetCifar::ResNetCifar(int depth, const Options& o)
    : Layer("resnet_cifar"),
      conv1(o.in_channels, make_divisible(32 * o.scale), 3,
            {.padding = 1, .bias_attr = no_param()}),
      bn1(make_divisible(32 * o.scale)) {
  TRI_CHECK(depth >= 8 && depth % 6 == 2,
            "[resnet_cifar] depth expects 8, 14, 20 ..., got " + std::to_string(depth));
  add_sublayers("conv1", conv1, "bn1", bn1);
  const int64_t first = make_divisible(32 * o.scale);
  int64_t in = first;
  for (int stage = 0; stage < 3; ++stage) {
    const int64_t out = first << stage;
    Sequential blocks;
    for (int i = 0; i < (depth - 2) / 6; ++i, in = out)
      blocks.append(ResidualBlock(in, out, i == 0 && stage > 0 ? 2 : 1, false));
    add_sublayer("layer" + std::to_string(stage + 1), blocks);
    stages.push_back(blocks);
  }
  if (const int64_t n = classes(o, 10); n > 0) {
    fc.emplace(in, n);
    add_sublayer("fc", *fc);
  }
}
Tensor ResNetCifar::forward(const Tensor& x) {
  Tensor y = functional::relu(bn1(conv1(x)));
  for (Sequential& stage : stages) y = stage(y);
  y = flatten(global_pool(y), 1);
  return fc ? (*fc)(y) : y;
}

// ---- LeNet, VGG

LeNet::LeNet(const Options& o)
    : Layer("lenet"),
      features(Conv2D(1, 6, 3, {.padding = 1}), ReLU(), MaxPool2D(2, 2), Conv2D(6, 16, 5), ReLU(),
               MaxPool2D(2, 2)) {
  add_sublayer("features", features);
  if (const int64_t n = classes(o, 10); n > 0) {
    fc = Sequential(Linear(400, 120), Linear(120, 84), Linear(84, n));
    add_sublayer("fc", fc);
  }
}
Tensor LeNet::forward(const Tensor& x) {
  const Tensor y = features(x);
  return fc.size() > 0 ? fc(flatten(y, 1)) : y;
}

Tensor Classifier::forward(const Tensor& x) {
  Tensor y = features(x);
  if (pool > 0) y = functional::adaptive_avg_pool2d(y, pool);
  return classifier.size() > 0 ? classifier(flatten(y, 1)) : y;
}

VGG::VGG(int depth, const Options& o) : Classifier("vgg") {
  const int per_stage = depth == 11 ? 0 : depth == 13 ? 1 : depth == 16 ? 2 : depth == 19 ? 3 : -1;
  TRI_CHECK(per_stage >= 0, "[vgg] depth expects 11, 13, 16 or 19, got " + std::to_string(depth));
  static constexpr int convs[4][5] = {
      {1, 1, 2, 2, 2}, {2, 2, 2, 2, 2}, {2, 2, 3, 3, 3}, {2, 2, 4, 4, 4}};
  int64_t in = 3;
  for (int stage = 0; stage < 5; ++stage) {
    const int64_t out = std::min<int64_t>(int64_t{64} << stage, 512);
    for (int i = 0; i < convs[per_stage][stage]; ++i, in = out) {
      features.append(Conv2D(in, out, 3, {.padding = 1}));
      if (o.batch_norm) features.append(BatchNorm2D(out));
      features.append(ReLU());
    }
    features.append(MaxPool2D(2, 2));
  }
  add_sublayer("features", features);
  pool = o.with_pool ? 7 : 0;
  if (const int64_t n = classes(o, 1000); n > 0) {
    classifier = Sequential(Linear(512 * 7 * 7, 4096), ReLU(), Dropout(), Linear(4096, 4096),
                            ReLU(), Dropout(), Linear(4096, n));
    add_sublayer("classifier", classifier);
  }
}

// ---- MobileNets

MobileNetV1::MobileNetV1(const Options& o) : Layer("mobilenetv1"), with_pool(o.with_pool) {
  const auto scaled = [&](int64_t c) {
    return static_cast<int64_t>(static_cast<double>(c) * o.scale);
  };
  struct Stage {
    const char* name;
    int64_t in, out, stride;
  };
  static constexpr Stage stages[] = {
      {"conv2_1", 32, 64, 1},   {"conv2_2", 64, 128, 2},  {"conv3_1", 128, 128, 1},
      {"conv3_2", 128, 256, 2}, {"conv4_1", 256, 256, 1}, {"conv4_2", 256, 512, 2},
      {"conv5_1", 512, 512, 1}, {"conv5_2", 512, 512, 1}, {"conv5_3", 512, 512, 1},
      {"conv5_4", 512, 512, 1}, {"conv5_5", 512, 512, 1}, {"conv5_6", 512, 1024, 2},
      {"conv6", 1024, 1024, 1}};
  // `features` runs them; their names are this layer's own.
  const auto part = [&](const std::string& name, const auto& layer) {
    add_sublayer(name, layer);
    features.append(name, layer);
  };
  part("conv1", conv_norm(3, scaled(32), 3, {.stride = 2}));
  for (const Stage& s : stages) {
    const int64_t in = scaled(s.in);
    Sequential block;
    block.append("_depthwise_conv", conv_norm(in, in, 3, {.stride = s.stride, .groups = in}));
    block.append("_pointwise_conv", conv_norm(in, scaled(s.out), 1));
    part(s.name, block);
  }
  if (const int64_t n = classes(o, 1000); n > 0) {
    fc.emplace(scaled(1024), n);
    add_sublayer("fc", *fc);
  }
}
Tensor MobileNetV1::forward(const Tensor& x) {
  Tensor y = features(x);
  if (with_pool) y = global_pool(y);
  return fc ? (*fc)(flatten(y, 1)) : y;
}

namespace {

struct InvertedResidualV2 : Layer {
  Sequential conv;
  bool residual;
  InvertedResidualV2(int64_t in, int64_t out, int64_t stride, int64_t expand)
      : Layer("inverted_residual"), residual(stride == 1 && in == out) {
    const int64_t hidden = in * expand;
    if (expand != 1) conv.append(conv_norm(in, hidden, 1, {.activation = "relu6"}));
    conv.append(
        conv_norm(hidden, hidden, 3, {.stride = stride, .groups = hidden, .activation = "relu6"}));
    conv.append(Conv2D(hidden, out, 1, {.bias_attr = no_param()}));
    conv.append(BatchNorm2D(out));
    add_sublayer("conv", conv);
  }
  Tensor forward(const Tensor& x) override { return residual ? x + conv(x) : conv(x); }
};

}  // namespace

MobileNetV2::MobileNetV2(const Options& o) : Classifier("mobilenetv2") {
  static constexpr int64_t settings[][4] = {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2},
                                            {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2},
                                            {6, 320, 1, 1}};
  int64_t in = make_divisible(32 * o.scale);
  const int64_t last = make_divisible(1280 * std::max(1.0, o.scale));
  features.append(conv_norm(3, in, 3, {.stride = 2, .activation = "relu6"}));
  for (const auto& [expand, channels, repeats, stride] : settings) {
    const int64_t out = make_divisible(static_cast<double>(channels) * o.scale);
    for (int64_t i = 0; i < repeats; ++i, in = out)
      features.append(InvertedResidualV2(in, out, i == 0 ? stride : 1, expand));
  }
  features.append(conv_norm(in, last, 1, {.activation = "relu6"}));
  add_sublayer("features", features);
  pool = o.with_pool ? 1 : 0;
  if (const int64_t n = classes(o, 1000); n > 0) {
    classifier = Sequential(Dropout(0.2), Linear(last, n));
    add_sublayer("classifier", classifier);
  }
}

namespace {

struct BlockV3 {
  int64_t in, kernel, expanded, out;
  bool se, hardswish;
  int64_t stride;
};

struct SqueezeExcitation : Layer {
  Conv2D fc1, fc2;
  SqueezeExcitation(int64_t channels, int64_t squeezed)
      : Layer("squeeze_excitation"), fc1(channels, squeezed, 1), fc2(squeezed, channels, 1) {
    add_sublayers("fc1", fc1, "fc2", fc2);
  }
  Tensor forward(const Tensor& x) override {
    return functional::hardsigmoid(fc2(functional::relu(fc1(global_pool(x))))) * x;
  }
};

struct InvertedResidualV3 : Layer {
  std::optional<Sequential> expand_conv;
  Sequential bottleneck_conv, linear_conv;
  std::optional<SqueezeExcitation> mid_se;
  bool residual;
  InvertedResidualV3(const BlockV3& b, const BatchNormOptions& norm)
      : Layer("inverted_residual"), residual(b.stride == 1 && b.in == b.out) {
    const std::string act = b.hardswish ? "hardswish" : "relu";
    if (b.in != b.expanded) {
      expand_conv = conv_norm(b.in, b.expanded, 1, {.activation = act, .norm = norm});
      add_sublayer("expand_conv", *expand_conv);
    }
    bottleneck_conv =
        conv_norm(b.expanded, b.expanded, b.kernel,
                  {.stride = b.stride, .groups = b.expanded, .activation = act, .norm = norm});
    add_sublayer("bottleneck_conv", bottleneck_conv);
    if (b.se) {
      mid_se.emplace(b.expanded, make_divisible(static_cast<double>(b.expanded / 4)));
      add_sublayer("mid_se", *mid_se);
    }
    linear_conv = conv_norm(b.expanded, b.out, 1, {.activation = "", .norm = norm});
    add_sublayer("linear_conv", linear_conv);
  }
  Tensor forward(const Tensor& x) override {
    Tensor y = bottleneck_conv(expand_conv ? (*expand_conv)(x) : x);
    if (mid_se) y = (*mid_se)(y);
    y = linear_conv(y);
    return residual ? x + y : y;
  }
};

// conv, blocks and lastconv are this layer's own names; `features` runs them.
template <size_t N>
void build_v3(Classifier& net, const BlockV3 (&blocks)[N], double last, const Options& o) {
  const BatchNormOptions norm{.momentum = 0.99, .epsilon = 0.001};
  const auto scaled = [&](int64_t c) { return make_divisible(static_cast<double>(c) * o.scale); };
  const auto part = [&](const std::string& name, const auto& layer) {
    net.add_sublayer(name, layer);
    net.features.append(name, layer);
  };
  part("conv", conv_norm(3, scaled(blocks[0].in), 3,
                         {.stride = 2, .activation = "hardswish", .norm = norm}));
  Sequential body;
  for (BlockV3 b : blocks) {
    b.in = scaled(b.in);
    b.expanded = scaled(b.expanded);
    b.out = scaled(b.out);
    body.append(InvertedResidualV3(b, norm));
  }
  part("blocks", body);
  // Paddle's arithmetic: six times the last block's *input*.
  const int64_t in = scaled(blocks[N - 1].in), out = in * 6;
  part("lastconv", conv_norm(in, out, 1, {.activation = "hardswish", .norm = norm}));
  net.pool = o.with_pool ? 1 : 0;
  if (const int64_t n = classes(o, 1000); n > 0) {
    const int64_t hidden = make_divisible(last * o.scale);
    net.classifier = Sequential(Linear(out, hidden), Hardswish(), Dropout(0.2), Linear(hidden, n));
    net.add_sublayer("classifier", net.classifier);
  }
}

}  // namespace

MobileNetV3Small::MobileNetV3Small(const Options& o) : Classifier("mobilenetv3_small") {
  static constexpr BlockV3 blocks[] = {
      {16, 3, 16, 16, true, false, 2},  {16, 3, 72, 24, false, false, 2},
      {24, 3, 88, 24, false, false, 1}, {24, 5, 96, 40, true, true, 2},
      {40, 5, 240, 40, true, true, 1},  {40, 5, 240, 40, true, true, 1},
      {40, 5, 120, 48, true, true, 1},  {48, 5, 144, 48, true, true, 1},
      {48, 5, 288, 96, true, true, 2},  {96, 5, 576, 96, true, true, 1},
      {96, 5, 576, 96, true, true, 1}};
  build_v3(*this, blocks, 1024, o);
}
MobileNetV3Large::MobileNetV3Large(const Options& o) : Classifier("mobilenetv3_large") {
  static constexpr BlockV3 blocks[] = {
      {16, 3, 16, 16, false, false, 1},  {16, 3, 64, 24, false, false, 2},
      {24, 3, 72, 24, false, false, 1},  {24, 5, 72, 40, true, false, 2},
      {40, 5, 120, 40, true, false, 1},  {40, 5, 120, 40, true, false, 1},
      {40, 3, 240, 80, false, true, 2},  {80, 3, 200, 80, false, true, 1},
      {80, 3, 184, 80, false, true, 1},  {80, 3, 184, 80, false, true, 1},
      {80, 3, 480, 112, true, true, 1},  {112, 3, 672, 112, true, true, 1},
      {112, 5, 672, 160, true, true, 2}, {160, 5, 960, 160, true, true, 1},
      {160, 5, 960, 160, true, true, 1}};
  build_v3(*this, blocks, 1280, o);
}

// ---- PP-LCNet

namespace {

// conv and bn, as PaddleClas and PaddleOCR name them.
Sequential named_conv_norm(int64_t in, int64_t out, int64_t kernel, int64_t stride,
                           int64_t groups) {
  Sequential s;
  s.append("conv", Conv2D(in, out, kernel,
                          {.stride = stride,
                           .padding = (kernel - 1) / 2,
                           .groups = groups,
                           .weight_attr = {.initializer = initializer::KaimingNormal()},
                           .bias_attr = no_param()}));
  s.append("bn", BatchNorm2D(out));
  s.append("act", Hardswish());
  return s;
}

struct SEModule : Layer {
  Conv2D conv1, conv2;
  explicit SEModule(int64_t channels)
      : Layer("se_module"), conv1(channels, channels / 4, 1), conv2(channels / 4, channels, 1) {
    add_sublayers("conv1", conv1, "conv2", conv2);
  }
  Tensor forward(const Tensor& x) override {
    return x * functional::hardsigmoid(conv2(functional::relu(conv1(global_pool(x)))));
  }
};

}  // namespace

PPLCNet::PPLCNet(const Options& o)
    : Layer("pplcnet"),
      last_conv(make_divisible(512 * o.scale), 1280, 1, {.bias_attr = no_param()}),
      dropout(0.2, {.mode = "downscale_in_infer"}) {
  struct Block {
    const char* stage;
    int64_t kernel, in, out, stride;
    bool se;
  };
  static constexpr Block blocks[] = {
      {"blocks2", 3, 16, 32, 1, false},   {"blocks3", 3, 32, 64, 2, false},
      {"blocks3", 3, 64, 64, 1, false},   {"blocks4", 3, 64, 128, 2, false},
      {"blocks4", 3, 128, 128, 1, false}, {"blocks5", 3, 128, 256, 2, false},
      {"blocks5", 5, 256, 256, 1, false}, {"blocks5", 5, 256, 256, 1, false},
      {"blocks5", 5, 256, 256, 1, false}, {"blocks5", 5, 256, 256, 1, false},
      {"blocks5", 5, 256, 256, 1, false}, {"blocks6", 5, 256, 512, 2, true},
      {"blocks6", 5, 512, 512, 1, true}};
  const auto scaled = [&](int64_t c) { return make_divisible(static_cast<double>(c) * o.scale); };
  const Sequential first = named_conv_norm(3, scaled(16), 3, 2, 1);
  add_sublayer("conv1", first);
  features.append(first);
  for (size_t i = 0; i < std::size(blocks);) {
    const std::string name = blocks[i].stage;
    Sequential stage;
    for (; i < std::size(blocks) && name == blocks[i].stage; ++i) {
      const Block& b = blocks[i];
      const int64_t in = scaled(b.in);
      Sequential block;
      block.append("dw_conv", named_conv_norm(in, in, b.kernel, b.stride, in));
      if (b.se) block.append("se", SEModule(in));
      block.append("pw_conv", named_conv_norm(in, scaled(b.out), 1, 1, 1));
      stage.append(block);
    }
    add_sublayer(name, stage);
    features.append(stage);
  }
  add_sublayers("last_conv", last_conv, "dropout", dropout);
  if (const int64_t n = classes(o, 1000); n > 0) {
    fc.emplace(1280, n);
    add_sublayer("fc", *fc);
  }
}
Tensor PPLCNet::forward(const Tensor& x) {
  const Tensor y = dropout(functional::hardswish(last_conv(global_pool(features(x)))));
  return fc ? (*fc)(flatten(y, 1)) : y;
}

}  // namespace trireme::models
