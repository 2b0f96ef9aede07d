// Networks: those of paddle.vision.models under its names (and names of state), and some more.
//
// All take float32 pictures [N, C, H, W] unless a comment says otherwise. A network is a layer, so
// a handle; create() makes one by its name, for configurations.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/nn.h"

namespace trireme::models {

// What constructors and create() take; a network ignores what it has no use for.
struct Options {
  int64_t num_classes = 0;     // 0: the network's own default; -1: without the last product
  bool with_pool = true;       // without: what comes in front of the pool
  double scale = 1;            // of channels (MobileNets, PP-LCNet, resnet_cifar, ppocrv4)
  bool batch_norm = false;     // VGG
  std::string size = "small";  // CRNN: or "large"
  int64_t in_channels = 3;     // ResNet, CRNN
  double dropout = -1;         // of transformers; negative: their own
  int64_t vocab_size = 0;      // of transformers; 0: their own
};

// 1x28x28 -> 10 classes. features.0 ..., fc.0 ...
struct LeNet : nn::Layer {
  explicit LeNet(const Options& options = {});
  Tensor forward(const Tensor& x) override;
  nn::Sequential features, fc;
};

struct ResNet : nn::Layer {
  ResNet(int depth, const Options& options = {});  // 18, 34, 50, 101, 152
  Tensor forward(const Tensor& x) override;
  nn::Conv2D conv1;
  nn::BatchNorm2D bn1;
  std::vector<nn::Sequential> stages;  // layer1 ... layer4
  std::optional<nn::Linear> fc;
  bool with_pool;
};

// For small pictures (CIFAR's 32x32, textures): a 3x3 convolution, three stages of basic blocks
// with 32, 64 and 128 channels times `scale`, a mean, a product. Depth 6 n + 2: 8, 14, 20 ...
struct ResNetCifar : nn::Layer {
  ResNetCifar(int depth, const Options& options = {});
  Tensor forward(const Tensor& x) override;
  nn::Conv2D conv1;
  nn::BatchNorm2D bn1;
  std::vector<nn::Sequential> stages;  // layer1 ... layer3
  std::optional<nn::Linear> fc;
};

struct MobileNetV1 : nn::Layer {
  explicit MobileNetV1(const Options& options = {});
  Tensor forward(const Tensor& x) override;
  nn::Sequential features;
  std::optional<nn::Linear> fc;
  bool with_pool;
};

// MobileNetV2, V3, VGG: features, a pool, a classifier.
struct Classifier : nn::Layer {
  using nn::Layer::Layer;
  Tensor forward(const Tensor& x) override;
  nn::Sequential features, classifier;
  int64_t pool = 1;  // side of what the pool gives; 0: none
};
struct MobileNetV2 : Classifier {
  explicit MobileNetV2(const Options& options = {});
};
struct MobileNetV3Small : Classifier {
  explicit MobileNetV3Small(const Options& options = {});
};
struct MobileNetV3Large : Classifier {
  explicit MobileNetV3Large(const Options& options = {});
};
struct VGG : Classifier {
  VGG(int depth, const Options& options = {});  // 11, 13, 16, 19
};

// PaddleClas' PPLCNet.
struct PPLCNet : nn::Layer {
  explicit PPLCNet(const Options& options = {});
  Tensor forward(const Tensor& x) override;
  nn::Sequential features;
  nn::Conv2D last_conv;
  nn::Dropout dropout;
  std::optional<nn::Linear> fc;
};

// PP-OCR's recogniser with MobileNetV3 at half the channels: 3x32xW -> [N, W / 4, classes], by
// default 6,625. In training these are what ctc_loss takes (after a transpose to [W / 4, N,
// classes]), in evaluation probabilities.
struct CRNN : nn::Layer {
  explicit CRNN(const Options& options = {});
  Tensor forward(const Tensor& x) override;
  nn::Sequential backbone;
  nn::LSTM lstm;
  nn::Linear fc;
};

// Ids int64 [N, length] -> classes: an embedding, 4 encoder layers (256 wide, 4 heads, 1,024
// between, gelu), the mean over the length, a product.
struct EncoderOptions {
  int64_t vocab_size = 5000, width = 256, layers = 4, heads = 4, feedforward = 1024, classes = 2;
  int64_t positions = 0;  // learned positions, 0: none
  std::string activation = "gelu";
  double dropout = 0;
  bool normalize_before = false;
};
struct EncoderClassifier : nn::Layer {
  explicit EncoderClassifier(const EncoderOptions& options = {});
  Tensor forward(const Tensor& ids) override;
  nn::Embedding emb;
  std::optional<nn::Embedding> pos;
  nn::TransformerEncoder enc;
  nn::Linear fc;
};

struct BertOptions {
  int64_t vocab_size = 30522, hidden_size = 768, num_hidden_layers = 12, num_attention_heads = 12;
  int64_t intermediate_size = 3072, max_position_embeddings = 512, type_vocab_size = 2;
  double dropout = 0.1;
  std::string activation = "gelu";
  double initializer_range = 0.02, layer_norm_eps = 1e-12;
};
// {ids [N, length]}, then token types [N, length] and a mask as MultiHeadAttention takes it ->
// [N, length, hidden_size]. Names of PaddleNLP's BertModel.
struct BertModel : nn::Layer {
  explicit BertModel(const BertOptions& options = {});
  Tensor forward(const std::vector<Tensor>& in) override;
  Tensor pooled(const Tensor& encoded);  // tanh of a product of the first position
  nn::Embedding word_embeddings, position_embeddings, token_type_embeddings;
  nn::LayerNorm layer_norm;
  nn::Dropout dropout;
  nn::TransformerEncoder encoder;
  nn::Linear pooler;
};
// The same inputs -> classes.
struct BertForSequenceClassification : nn::Layer {
  explicit BertForSequenceClassification(int64_t num_classes = 2, const BertOptions& options = {});
  Tensor forward(const std::vector<Tensor>& in) override;
  BertModel bert;
  nn::Dropout dropout;
  nn::Linear classifier;
};
// The same inputs -> scores of the vocabulary's words [N, length, vocab_size]; the last product is
// by the words' own embeddings.
struct BertForMaskedLM : nn::Layer {
  explicit BertForMaskedLM(const BertOptions& options = {});
  Tensor forward(const std::vector<Tensor>& in) override;
  BertModel bert;
  nn::Linear transform;
  nn::LayerNorm layer_norm;
  Tensor decoder_bias;  // [vocab_size]
};

struct ProgramOptions {
  std::string params{};     // file of the weights; empty: beside the program
  int64_t num_classes = 0;  // not 0: the last product with a weight gets so many, new weight and
                            // bias with Linear's initialisers
  // Where the new classes come from: class j starts as the program's class kept_classes[j], or
  // anew when that is negative. Empty: all anew. As long as num_classes otherwise.
  std::vector<int64_t> kept_classes{};
};
// An inference program of Paddle's (a folder, .pdmodel or inference.json) as a network to train
// further, with one input and output. Its floating parameters become the layer's, under the
// program's names; batch norms normalise by the statistics that the program has, which are buffers,
// and their scale and bias are trained. A softmax at the end is left out in training: the result
// is logits then. Throws as reading a model does, and kInvalidArgument when there is no product
// that could get num_classes.
std::shared_ptr<nn::Layer> from_program(const std::string& path,
                                        const ProgramOptions& options = {});

// lenet, resnet18 ... resnet152, resnet_cifar8, resnet_cifar14, resnet_cifar20, mobilenet_v1,
// mobilenet_v2, mobilenet_v3_small, mobilenet_v3_large, vgg11 ... vgg19, pplcnet, crnn, encoder,
// bert_base, ppocrv4_rec, ppocrv4_rec_deploy, ppocrv4_det (trireme/models_ocr.h). Throws
// kInvalidArgument, with the names there are, for another one.
std::shared_ptr<nn::Layer> create(const std::string& name, const Options& options = {});
const std::vector<std::string>& names();

}  // namespace trireme::models
