// Networks for sequences: CRNN, the encoder, BERT. And all networks by name.
#include <algorithm>

#include "train/model_parts.h"
#include "trireme/models.h"
#include "trireme/models_ocr.h"

namespace trireme::models {

using namespace nn;  // NOLINT: these files are made of layers

// ---- CRNN

namespace {

Sequential ocr_conv(int64_t in, int64_t out, int64_t kernel, const Sizes& stride, int64_t groups,
                    const std::string& activation) {
  Sequential s;
  s.append("conv", Conv2D(in, out, kernel,
                          {.stride = stride,
                           .padding = (kernel - 1) / 2,
                           .groups = groups,
                           .bias_attr = no_param()}));
  s.append("bn", BatchNorm(out));
  if (activation == "relu") s.append("act", ReLU());
  if (activation == "hardswish") s.append("act", Hardswish());
  return s;
}

struct OcrSqueeze : Layer {
  Conv2D conv1, conv2;
  explicit OcrSqueeze(int64_t channels)
      : Layer("se_module"), conv1(channels, channels / 4, 1), conv2(channels / 4, channels, 1) {
    add_sublayers("conv1", conv1, "conv2", conv2);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor pooled = functional::adaptive_avg_pool2d(x, 1);
    return x * functional::hardsigmoid(conv2(functional::relu(conv1(pooled))), 0.2, 0.5);
  }
};

struct OcrBlock {
  int64_t kernel, expanded, out;
  bool se, hardswish;
  int64_t down, across;  // strides
};

struct OcrResidual : Layer {
  Sequential body;
  bool residual;
  OcrResidual(int64_t in, const OcrBlock& b, double scale) : Layer("residual_unit") {
    const int64_t mid = make_divisible(scale * static_cast<double>(b.expanded));
    const int64_t out = make_divisible(scale * static_cast<double>(b.out));
    const std::string act = b.hardswish ? "hardswish" : "relu";
    residual = b.down == 1 && b.across == 1 && in == out;
    const auto part = [&](const std::string& name, const auto& layer) {
      add_sublayer(name, layer);
      body.append(layer);
    };
    part("expand_conv", ocr_conv(in, mid, 1, 1, 1, act));
    part("bottleneck_conv", ocr_conv(mid, mid, b.kernel, {b.down, b.across}, mid, act));
    if (b.se) part("mid_se", OcrSqueeze(mid));
    part("linear_conv", ocr_conv(mid, out, 1, 1, 1, ""));
  }
  Tensor forward(const Tensor& x) override { return residual ? x + body(x) : body(x); }
};

// PP-OCR's strides: the width is halved by the first convolution and the last pool alone.
constexpr OcrBlock kSmall[] = {{3, 16, 16, true, false, 1, 1},  {3, 72, 24, false, false, 2, 1},
                               {3, 88, 24, false, false, 1, 1}, {5, 96, 40, true, true, 2, 1},
                               {5, 240, 40, true, true, 1, 1},  {5, 240, 40, true, true, 1, 1},
                               {5, 120, 48, true, true, 1, 1},  {5, 144, 48, true, true, 1, 1},
                               {5, 288, 96, true, true, 2, 1},  {5, 576, 96, true, true, 1, 1},
                               {5, 576, 96, true, true, 1, 1}};
constexpr OcrBlock kLarge[] = {{3, 16, 16, false, false, 1, 1}, {3, 64, 24, false, false, 2, 1},
                               {3, 72, 24, false, false, 1, 1}, {5, 72, 40, true, false, 2, 1},
                               {5, 120, 40, true, false, 1, 1}, {5, 120, 40, true, false, 1, 1},
                               {3, 240, 80, false, true, 1, 1}, {3, 200, 80, false, true, 1, 1},
                               {3, 184, 80, false, true, 1, 1}, {3, 184, 80, false, true, 1, 1},
                               {3, 480, 112, true, true, 1, 1}, {3, 672, 112, true, true, 1, 1},
                               {5, 672, 160, true, true, 2, 1}, {5, 960, 160, true, true, 1, 1},
                               {5, 960, 160, true, true, 1, 1}};

constexpr double kOcrScale = 0.5;
int64_t ocr_channels(const Options& o) {
  TRI_CHECK(o.size == "small" || o.size == "large",
            "[crnn] size expects small or large, got " + o.size);
  return make_divisible(kOcrScale * (o.size == "small" ? 576 : 960));
}

}  // namespace

CRNN::CRNN(const Options& o)
    : Layer("crnn"),
      lstm(ocr_channels(o), 48, {.num_layers = 2, .direction = "bidirectional"}),
      fc(96, o.num_classes > 0 ? o.num_classes : 6625) {
  Layer own("mobilenet_v3");
  const auto part = [&](const std::string& name, const auto& layer) {
    own.add_sublayer(name, layer);
    backbone.append(layer);
  };
  int64_t in = make_divisible(16 * kOcrScale);
  part("conv1", ocr_conv(o.in_channels, in, 3, 2, 1, "hardswish"));
  Sequential blocks;
  const bool small = o.size == "small";
  for (const OcrBlock* b = small ? kSmall : kLarge;
       b != (small ? std::end(kSmall) : std::end(kLarge)); ++b) {
    blocks.append(OcrResidual(in, *b, kOcrScale));
    in = make_divisible(kOcrScale * static_cast<double>(b->out));
  }
  part("blocks", blocks);
  part("conv2", ocr_conv(in, ocr_channels(o), 1, 1, 1, "hardswish"));
  backbone.append(MaxPool2D(2, 2));
  Layer neck("sequence_encoder"), encoder("encoder_with_rnn"), head("ctc_head");
  encoder.add_sublayer("lstm", lstm);
  neck.add_sublayer("encoder", encoder);
  head.add_sublayer("fc", fc);
  add_sublayers("backbone", own, "neck", neck, "head", head);
}
Tensor CRNN::forward(const Tensor& x) {
  const Tensor y = backbone(x);
  TRI_CHECK(y.size(2) == 1, "[crnn] x expects a height of 32, got " + x.shape().str());
  const Tensor logits = fc(lstm(transpose(squeeze(y, {2}), {0, 2, 1})));
  return training() ? logits : functional::softmax(logits);
}

// ---- the encoder

EncoderClassifier::EncoderClassifier(const EncoderOptions& o)
    : Layer("encoder_classifier"),
      emb(o.vocab_size, o.width),
      enc(TransformerEncoderLayer(o.width, o.heads, o.feedforward,
                                  {.dropout = o.dropout,
                                   .activation = o.activation,
                                   .normalize_before = o.normalize_before}),
          o.layers),
      fc(o.width, o.classes) {
  add_sublayer("emb", emb);
  if (o.positions > 0) {
    pos.emplace(o.positions, o.width);
    add_sublayer("pos", *pos);
  }
  add_sublayers("enc", enc, "fc", fc);
}
Tensor EncoderClassifier::forward(const Tensor& ids) {
  TRI_CHECK(ids.ndim() == 2, "[encoder] expects ids [N, length], got " + ids.shape().str());
  Tensor x = emb(ids);
  if (pos) x = x + (*pos)(arange(0, static_cast<double>(ids.size(1))));
  return fc(mean(enc(x), {1}));
}

// ---- BERT

namespace {
ParamAttr narrow(const BertOptions& o) {
  return {.initializer = initializer::Normal(0, o.initializer_range)};
}
}  // namespace

BertModel::BertModel(const BertOptions& o)
    : Layer("bert_model"),
      word_embeddings(o.vocab_size, o.hidden_size, {.weight_attr = narrow(o)}),
      position_embeddings(o.max_position_embeddings, o.hidden_size, {.weight_attr = narrow(o)}),
      token_type_embeddings(o.type_vocab_size, o.hidden_size, {.weight_attr = narrow(o)}),
      layer_norm(o.hidden_size, {.epsilon = o.layer_norm_eps}),
      dropout(o.dropout),
      encoder(TransformerEncoderLayer(o.hidden_size, o.num_attention_heads, o.intermediate_size,
                                      {.dropout = o.dropout,
                                       .activation = o.activation,
                                       .attn_dropout = o.dropout,
                                       .act_dropout = 0,
                                       .weight_attr = narrow(o),
                                       .layer_norm_eps = o.layer_norm_eps}),
              o.num_hidden_layers),
      pooler(o.hidden_size, o.hidden_size, {.weight_attr = narrow(o)}) {
  Layer embeddings("bert_embeddings"), pool("bert_pooler");
  embeddings.add_sublayers("word_embeddings", word_embeddings, "position_embeddings",
                           position_embeddings, "token_type_embeddings", token_type_embeddings,
                           "layer_norm", layer_norm, "dropout", dropout);
  pool.add_sublayer("dense", pooler);
  add_sublayers("embeddings", embeddings, "encoder", encoder, "pooler", pool);
}
Tensor BertModel::forward(const std::vector<Tensor>& in) {
  TRI_CHECK(!in.empty() && in.size() <= 3 && in[0].ndim() == 2,
            "[bert] expects ids [N, length], then token types and a mask");
  // All of type 0: one row, whose gradient is a sum, not a scattering into one place.
  const Tensor type = in.size() > 1 && in[1].defined()
                          ? token_type_embeddings(in[1])
                          : slice(token_type_embeddings.weight, {0}, {0}, {1});
  const Tensor places = arange(0, static_cast<double>(in[0].size(1)));
  const Tensor x = word_embeddings(in[0]) + position_embeddings(places) + type;
  return encoder(dropout(layer_norm(x)), in.size() > 2 ? in[2] : Tensor());
}
Tensor BertModel::pooled(const Tensor& encoded) {
  return tanh(pooler(squeeze(slice(encoded, {1}, {0}, {1}), {1})));
}

BertForSequenceClassification::BertForSequenceClassification(int64_t num_classes,
                                                             const BertOptions& o)
    : Layer("bert_for_sequence_classification"),
      bert(o),
      dropout(o.dropout),
      classifier(o.hidden_size, num_classes, {.weight_attr = narrow(o)}) {
  add_sublayers("bert", bert, "dropout", dropout, "classifier", classifier);
}
Tensor BertForSequenceClassification::forward(const std::vector<Tensor>& in) {
  return classifier(dropout(bert.pooled(bert(in))));
}

BertForMaskedLM::BertForMaskedLM(const BertOptions& o)
    : Layer("bert_for_masked_lm"),
      bert(o),
      transform(o.hidden_size, o.hidden_size, {.weight_attr = narrow(o)}),
      layer_norm(o.hidden_size, {.epsilon = o.layer_norm_eps}) {
  Layer head("bert_lm_prediction_head");
  head.add_sublayers("transform", transform, "layer_norm", layer_norm);
  decoder_bias = head.create_parameter("decoder_bias", Shape{o.vocab_size}, {},
                                       initializer::Constant(0), true);
  add_sublayers("bert", bert, "cls", head);
}
Tensor BertForMaskedLM::forward(const std::vector<Tensor>& in) {
  const Tensor x = layer_norm(functional::gelu(transform(bert(in))));
  return matmul(x, bert.word_embeddings.weight, false, true) + decoder_bias;
}

// ---- by name

namespace {

template <class L, class... Args> std::shared_ptr<Layer> make(const Args&... args) {
  return std::make_shared<L>(args...);
}

struct Entry {
  const char* name;
  std::shared_ptr<Layer> (*make)(const Options&);
};
std::shared_ptr<Layer> recognizer(const Options& o, bool deploy) {
  OcrOptions ocr{.scale = o.scale == 1 ? 0 : 0.95 * o.scale, .deploy = deploy};
  if (o.num_classes > 0) ocr.num_classes = o.num_classes;
  return make<PPOCRv4Recognizer>(ocr);
}

std::shared_ptr<Layer> detector(const Options& o, bool deploy) {
  return make<PPOCRv4Detector>(
      OcrOptions{.scale = o.scale == 1 ? 0 : 0.75 * o.scale, .deploy = deploy});
}

constexpr Entry kEntries[] = {
    {"lenet", [](const Options& o) { return make<LeNet>(o); }},
    {"resnet18", [](const Options& o) { return make<ResNet>(18, o); }},
    {"resnet34", [](const Options& o) { return make<ResNet>(34, o); }},
    {"resnet50", [](const Options& o) { return make<ResNet>(50, o); }},
    {"resnet101", [](const Options& o) { return make<ResNet>(101, o); }},
    {"resnet152", [](const Options& o) { return make<ResNet>(152, o); }},
    {"resnet_cifar8", [](const Options& o) { return make<ResNetCifar>(8, o); }},
    {"resnet_cifar14", [](const Options& o) { return make<ResNetCifar>(14, o); }},
    {"resnet_cifar20", [](const Options& o) { return make<ResNetCifar>(20, o); }},
    {"mobilenet_v1", [](const Options& o) { return make<MobileNetV1>(o); }},
    {"mobilenet_v2", [](const Options& o) { return make<MobileNetV2>(o); }},
    {"mobilenet_v3_small", [](const Options& o) { return make<MobileNetV3Small>(o); }},
    {"mobilenet_v3_large", [](const Options& o) { return make<MobileNetV3Large>(o); }},
    {"vgg11", [](const Options& o) { return make<VGG>(11, o); }},
    {"vgg13", [](const Options& o) { return make<VGG>(13, o); }},
    {"vgg16", [](const Options& o) { return make<VGG>(16, o); }},
    {"vgg19", [](const Options& o) { return make<VGG>(19, o); }},
    {"pplcnet", [](const Options& o) { return make<PPLCNet>(o); }},
    {"crnn", [](const Options& o) { return make<CRNN>(o); }},
    {"encoder",
     [](const Options& o) {
       EncoderOptions e;
       if (o.num_classes > 0) e.classes = o.num_classes;
       if (o.vocab_size > 0) e.vocab_size = o.vocab_size;
       if (o.dropout >= 0) e.dropout = o.dropout;
       return make<EncoderClassifier>(e);
     }},
    {"bert_base",
     [](const Options& o) {
       BertOptions b;
       if (o.vocab_size > 0) b.vocab_size = o.vocab_size;
       if (o.dropout >= 0) b.dropout = o.dropout;
       return make<BertForSequenceClassification>(o.num_classes > 0 ? o.num_classes : int64_t{2},
                                                  b);
     }},
    {"ppocrv4_rec", [](const Options& o) { return recognizer(o, false); }},
    {"ppocrv4_rec_deploy", [](const Options& o) { return recognizer(o, true); }},
    {"ppocrv4_det", [](const Options& o) { return detector(o, false); }},
    {"ppocrv4_det_deploy", [](const Options& o) { return detector(o, true); }},
};

}  // namespace

const std::vector<std::string>& names() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> n;
    for (const Entry& e : kEntries) n.emplace_back(e.name);
    return n;
  }();
  return all;
}

std::shared_ptr<Layer> create(const std::string& name, const Options& options) {
  for (const Entry& e : kEntries)
    if (name == e.name) return e.make(options);
  std::string known;
  for (const std::string& n : names()) known += (known.empty() ? "" : ", ") + n;
  fail(Code::kInvalidArgument, "[models] there is no network '" + name + "'; there are " + known);
}

}  // namespace trireme::models
