// Layers against real Paddle: results, gradients, state and its names; behaviour of the tree.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "train/goldens.h"
#include "trireme/autograd.h"
#include "trireme/models.h"

namespace trireme {
namespace {

using In = std::vector<Tensor>;

void check(const std::string& name, nn::Layer& layer, bool evaluate = false) {
  static const nlohmann::json cases = test::load_golden("functions.json");
  ASSERT_TRUE(cases.contains(name)) << name;
  const auto& c = cases[name];
  nn::StateDict state;
  for (const auto& [key, j] : c["state"].items()) state.emplace_back(key, test::array_of(j));
  (void)layer.set_state_dict(state);
  if (evaluate) layer.eval();
  In in;
  for (const auto& j : c["inputs"]) {
    Tensor t(test::array_of(j));
    t.set_stop_gradient(false);
    in.push_back(t);
  }
  const Tensor y = layer(in);
  test::expect_near(y.numpy(), c["output"], name);
  test::weighed(y).backward();
  const size_t n = in.size();
  for (size_t i = 0; i < n; ++i)
    test::expect_near(in[i].grad().numpy(), c["grads"].at(i), name + ", gradient of the input",
                      1e-4);
  const nn::StateDict parameters = layer.named_parameters();
  for (size_t k = 0; k < c["names"].size(); ++k) {
    const auto it = std::find_if(parameters.begin(), parameters.end(),
                                 [&](const auto& p) { return p.first == c["names"][k]; });
    ASSERT_NE(it, parameters.end()) << name << ' ' << c["names"][k];
    test::expect_near(it->second.grad().numpy(), c["grads"].at(n + k), name + ' ' + it->first,
                      1e-4);
  }
  for (const auto& [key, t] : layer.state_dict())  // what changed is in "after"
    test::expect_near(t.detach().numpy(), c[c["after"].contains(key) ? "after" : "state"][key],
                      name + " afterwards, " + key);
}

TEST(Layers, NormsAreAsPaddles) {
  nn::BatchNorm2D norm(4), other(4);
  check("BatchNorm2D", norm);
  check("BatchNorm2D_eval", other, true);
  nn::BatchNorm1D flat(5, {.momentum = 0.8}), line(3);
  check("BatchNorm1D", flat);
  check("BatchNorm1D_line", line);
  nn::LayerNorm layer_norm(6);
  check("LayerNorm", layer_norm);
}

TEST(Layers, AConvolutionPadsByReflection) {
  nn::Conv2D conv(4, 3, 3, {.padding = 1, .padding_mode = "reflect"});
  check("Conv2D_reflect", conv);
}

TEST(Layers, AttentionAndTransformersAreAsPaddles) {
  nn::MultiHeadAttention attention(8, 2), cross(8, 2, {.kdim = 6, .vdim = 4});
  check("MultiHeadAttention", attention);
  check("MultiHeadAttention_cross", cross);
  nn::TransformerEncoderLayer encoder(
      8, 2, 12, {.dropout = 0, .activation = "gelu", .normalize_before = true});
  check("EncoderLayer_before", encoder);
  nn::TransformerDecoderLayer decoder(8, 2, 12, {.dropout = 0});
  check("DecoderLayer", decoder);
  nn::Transformer both({.d_model = 8,
                        .nhead = 2,
                        .num_encoder_layers = 1,
                        .num_decoder_layers = 1,
                        .dim_feedforward = 12,
                        .layer = {.dropout = 0}});
  check("Transformer", both);
}

TEST(Layers, RecurrentLayersAreAsPaddles) {
  const nn::RnnOptions two{.num_layers = 2, .direction = "bidirect"};
  nn::LSTM lstm(3, 4, two);
  check("LSTM", lstm);
  nn::GRU gru(3, 4, two);
  check("GRU", gru);
  nn::SimpleRNN rnn(3, 4, two);
  check("SimpleRNN", rnn);
  nn::LSTMCell lstm_cell(3, 4);
  check("LSTMCell", lstm_cell);
  nn::GRUCell gru_cell(3, 4);
  check("GRUCell", gru_cell);
  nn::SimpleRNNCell rnn_cell(3, 4);
  check("SimpleRNNCell", rnn_cell);
}

TEST(Layers, ADecoderStepsThroughACache) {
  nn::TransformerDecoder decoder(nn::TransformerDecoderLayer(8, 2, 12, {.dropout = 0}), 2);
  decoder.eval();
  seed(2);
  const Tensor memory(nn::initializer::Normal()(Shape{2, 4, 8}, DType::kFloat32));
  const Tensor target(nn::initializer::Normal()(Shape{2, 3, 8}, DType::kFloat32));
  const Tensor all = decoder(
      std::vector<Tensor>{target, memory, nn::Transformer::generate_square_subsequent_mask(3)});
  auto cache = decoder.gen_cache(memory);
  for (int64_t i = 0; i < 3; ++i) {
    const Tensor step = decoder.decode(slice(target, {1}, {i}, {i + 1}), memory, {}, {}, &cache);
    EXPECT_LT(max(abs(step - slice(all, {1}, {i}, {i + 1}))).item(), 1e-5);
  }
}

// ---- names of state

std::vector<std::string> lines(const nn::Layer& layer) {
  std::vector<std::string> all;
  for (const auto& [name, t] : layer.state_dict()) {
    std::string line = name + ' ';
    for (int i = 0; i < t.ndim(); ++i) line += (i > 0 ? "x" : "") + std::to_string(t.size(i));
    all.push_back(line);
  }
  return all;
}

std::string fnv1a(const std::vector<std::string>& all) {
  uint64_t h = 0xCBF29CE484222325;
  for (const std::string& line : all)
    for (const char c : line + '\n') h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  char text[17];
  (void)snprintf(text, sizeof text, "%016lx", static_cast<unsigned long>(h));
  return text;
}

TEST(Layers, StateHasPaddlesNames) {
  const nlohmann::json golden = test::load_golden("state_dicts.json")["layers"];
  const auto expect = [&](const char* name, const nn::Layer& layer) {
    EXPECT_EQ(lines(layer), golden[name].get<std::vector<std::string>>()) << name;
  };
  expect("LSTM", nn::LSTM(3, 4, {.num_layers = 2, .direction = "bidirect"}));
  expect("GRU", nn::GRU(3, 4));
  expect("BatchNorm2D", nn::BatchNorm2D(3));
  expect("InstanceNorm2D", nn::InstanceNorm2D(3));
  expect("PReLU", nn::PReLU(2));
  expect("LSTMCell", nn::LSTMCell(3, 4));
  expect("Conv2DTranspose", nn::Conv2DTranspose(4, 6, 3, {.groups = 2}));
  expect("GroupNorm", nn::GroupNorm(2, 4));
  expect("LayerNorm", nn::LayerNorm({2, 3}));
  expect("Transformer", nn::Transformer({.d_model = 8,
                                         .nhead = 2,
                                         .num_encoder_layers = 1,
                                         .num_decoder_layers = 2,
                                         .dim_feedforward = 12}));
}

TEST(Models, StateHasPaddlesNamesAndShapes) {
  const nlohmann::json golden = test::load_golden("state_dicts.json")["networks"];
  for (const auto& [name, want] : golden.items()) {
    if (name.starts_with("vgg")) continue;  // large; the names are Sequential's
    const std::vector<std::string> got = lines(*models::create(name));
    EXPECT_EQ(got.size(), want["entries"].get<size_t>()) << name;
    EXPECT_EQ(fnv1a(got), want["fnv1a"].get<std::string>()) << name;
  }
}

TEST(Models, TrainAStep) {
  seed(0);
  for (const char* name : {"resnet18", "resnet50", "mobilenet_v1", "mobilenet_v2",
                           "mobilenet_v3_small", "mobilenet_v3_large", "pplcnet"}) {
    const auto net = models::create(name, {.num_classes = 5, .scale = 0.25});
    const Tensor x(nn::initializer::Normal()(Shape{2, 3, 32, 32}, DType::kFloat32));
    const Tensor loss =
        nn::functional::cross_entropy((*net)(x), to_tensor(std::vector<int64_t>{1, 3}));
    loss.backward();
    EXPECT_TRUE(std::isfinite(loss.item())) << name;
    for (const auto& [parameter, t] : net->named_parameters()) {
      ASSERT_TRUE(t.grad().defined()) << name << ' ' << parameter;
      EXPECT_TRUE(std::isfinite(sum(abs(t.grad())).item())) << name << ' ' << parameter;
    }
    net->eval();
    EXPECT_EQ((*net)(x).shape().str(), Shape({2, 5}).str()) << name;
  }
}

TEST(Models, SequencesTrainAStep) {
  seed(0);
  const auto crnn = models::create("crnn", {.num_classes = 20});
  const Tensor x(nn::initializer::Normal()(Shape{2, 3, 32, 64}, DType::kFloat32));
  const Tensor logits = (*crnn)(x);
  EXPECT_EQ(logits.shape().str(), Shape({2, 16, 20}).str());
  mean(square(logits)).backward();
  for (const auto& [parameter, t] : crnn->named_parameters())
    EXPECT_TRUE(t.grad().defined()) << parameter;
  crnn->eval();
  EXPECT_NEAR(sum((*crnn)(x)).item(), 32, 1e-3);

  const auto encoder = models::create("encoder", {.vocab_size = 50});
  const Tensor ids = zeros({2, 6}, DType::kInt64);
  EXPECT_EQ((*encoder)(ids).shape().str(), Shape({2, 2}).str());
  models::BertForSequenceClassification bert(3, {.vocab_size = 40,
                                                 .hidden_size = 16,
                                                 .num_hidden_layers = 2,
                                                 .num_attention_heads = 2,
                                                 .intermediate_size = 24,
                                                 .max_position_embeddings = 10});
  const Tensor loss =
      nn::functional::cross_entropy(bert(ids), to_tensor(std::vector<int64_t>{1, 2}));
  loss.backward();
  for (const auto& [parameter, t] : bert.named_parameters())
    EXPECT_TRUE(t.grad().defined()) << parameter;
  models::BertForMaskedLM language({.vocab_size = 40,
                                    .hidden_size = 16,
                                    .num_hidden_layers = 1,
                                    .num_attention_heads = 2,
                                    .intermediate_size = 24,
                                    .max_position_embeddings = 10,
                                    .dropout = 0});
  const Tensor scores = language({ids});
  const Array given = language({ids, zeros({2, 6}, DType::kInt64)}).numpy();
  const Array alone = scores.numpy();
  for (int64_t i = 0; i < given.numel(); ++i)  // without types all are of type 0
    ASSERT_NEAR(given.as<float>()[i], alone.as<float>()[i], 1e-6);
  EXPECT_EQ(scores.shape().str(), Shape({2, 6, 40}).str());
  nn::functional::cross_entropy(scores, ids).backward();
  EXPECT_TRUE(language.decoder_bias.grad().defined());
  EXPECT_TRUE(language.bert.word_embeddings.weight.grad().defined());
  EXPECT_FALSE(language.bert.pooler.weight.grad().defined());
  EXPECT_THROW((void)models::create("resnet19"), Error);
}

// ---- the tree

TEST(Layers, HooksAndModes) {
  nn::Sequential net(nn::Linear(3, 4), nn::Dropout(0.5), nn::Linear(4, 2));
  int before = 0;
  net[2].register_forward_pre_hook([&](const In&) { ++before; });
  net[2].register_forward_post_hook([](const In&, const Tensor& y) { return y * 2.0; });
  net.eval();
  EXPECT_FALSE(net[1].training());
  const Tensor x = ones({1, 3});
  const Array twice = net(x).numpy();
  EXPECT_EQ(before, 1);
  nn::Linear last = static_cast<nn::Linear&>(net[2]);
  const Array once = last.forward(net[0](x)).numpy();
  EXPECT_FLOAT_EQ(twice.as<float>()[0], 2 * once.as<float>()[0]);
  net.train();
  EXPECT_TRUE(net[1].training());
  EXPECT_EQ(net.state_dict()[0].first, "0.weight");
  EXPECT_EQ(net.state_dict()[3].first, "2.bias");
}

TEST(Layers, AttributesOfParameters) {
  const nn::Linear plain(2, 3, {.bias_attr = nn::no_param()});
  EXPECT_FALSE(plain.bias.defined());
  EXPECT_EQ(plain.parameters().size(), 1U);
  const nn::Linear given(
      2, 3,
      {.weight_attr = {
           .name = "mine", .initializer = nn::initializer::Constant(0.5), .trainable = false}});
  EXPECT_EQ(given.weight.name(), "mine");
  EXPECT_TRUE(given.weight.stop_gradient());
  EXPECT_EQ(given.weight.numpy().as<float>()[5], 0.5F);
  const nn::Embedding table(4, 3, {.padding_idx = -1});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(table.weight.numpy().as<float>()[9 + i], 0);
  EXPECT_NE(table.weight.numpy().as<float>()[0], 0);
}

TEST(Layers, ListsRegisterWhatTheyHold) {
  nn::LayerList list(nn::Linear(2, 2), nn::ReLU());
  EXPECT_EQ(list.state_dict()[0].first, "0.weight");
  const nn::LayerListOf<nn::Linear> same({nn::Linear(2, 2), nn::Linear(2, 3)});
  EXPECT_EQ(same.state_dict()[3].first, "1.bias");
  const nn::ParameterList parameters({ones({2}), ones({3})});
  EXPECT_EQ(parameters.state_dict()[1].first, "1");
}

TEST(Layers, ErrorsNameTheLayersThatTheyPassed) {
  models::LeNet net;
  try {
    (void)net(ones({1, 3, 28, 28}));
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("features/0"), std::string::npos) << e.what();
  }
  EXPECT_THROW(nn::Conv2D(3, 4, 3, {.groups = 2}), Error);
  EXPECT_THROW(nn::MultiHeadAttention(8, 3), Error);
}

}  // namespace
}  // namespace trireme
