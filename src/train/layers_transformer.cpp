// Attention and transformers.
#include "trireme/nn_transformer.h"

#include <cmath>

#include "train/attention.h"
#include "trireme/nn_initializer.h"

namespace trireme::nn {
namespace {

Tensor at(const std::vector<Tensor>& in, size_t i) { return i < in.size() ? in[i] : Tensor(); }

void check_inputs(const std::vector<Tensor>& in, size_t least, size_t most, const char* op) {
  TRI_CHECK(in.size() >= least && in.size() <= most,
            '[' + std::string(op) + "] expects " + std::to_string(least) + " to " +
                std::to_string(most) + " tensors, got " + std::to_string(in.size()));
}

// What is added to the products: 0 where a mask of bool or integers lets through, else -1e9.
Tensor additive(const Tensor& mask, DType dtype) {
  if (!mask.defined() || mask.dtype() == dtype) return mask;
  const bool floats = mask.dtype() == DType::kFloat32 || mask.dtype() == DType::kFloat64 ||
                      mask.dtype() == DType::kFloat16 || mask.dtype() == DType::kBFloat16;
  return floats ? cast(mask, dtype) : scale(cast(mask, dtype), 1e9, -1e9);
}

Tensor split_heads(const Tensor& x, int64_t heads) {
  return reshape(x, {0, 0, heads, x.size(2) / heads});
}
Tensor join_heads(const Tensor& x) { return reshape(x, {0, 0, x.size(2) * x.size(3)}); }

LayerNormOptions norm_options(const TransformerLayerOptions& o) {
  return {.epsilon = o.layer_norm_eps};
}
AttentionOptions attention_options(const TransformerLayerOptions& o) {
  return {.dropout = o.attn_dropout.value_or(o.dropout),
          .weight_attr = o.weight_attr,
          .bias_attr = o.bias_attr};
}
LinearOptions linear_options(const TransformerLayerOptions& o) {
  return {.weight_attr = o.weight_attr, .bias_attr = o.bias_attr};
}

// Layers "layers.0", "layers.1" ...: the given one and new ones like it.
template <class L>
void add_layers(Layer& owner, std::vector<L>& layers, const L& first, int64_t n) {
  TRI_CHECK(n >= 1, "[transformer] num_layers expects 1 or more, got " + std::to_string(n));
  Layer list("layer_list");
  for (int64_t i = 0; i < n; ++i) {
    layers.push_back(i == 0 ? first
                            : L(first.d_model, first.nhead, first.dim_feedforward, first.o));
    list.add_sublayer(std::to_string(i), layers.back());
  }
  owner.add_sublayer("layers", list);
}

}  // namespace

// ---- attention

MultiHeadAttention::MultiHeadAttention(int64_t embed_dim, int64_t heads, const AttentionOptions& o)
    : Layer("multi_head_attention"),
      q_proj(embed_dim, embed_dim, {o.weight_attr, o.bias_attr}),
      k_proj(o.kdim > 0 ? o.kdim : embed_dim, embed_dim, {o.weight_attr, o.bias_attr}),
      v_proj(o.vdim > 0 ? o.vdim : embed_dim, embed_dim, {o.weight_attr, o.bias_attr}),
      out_proj(embed_dim, embed_dim, {o.weight_attr, o.bias_attr}),
      num_heads(heads),
      dropout(o.dropout) {
  TRI_CHECK(heads > 0 && embed_dim % heads == 0,
            "[multi_head_attention] num_heads expects to divide embed_dim, got " +
                std::to_string(heads) + " and " + std::to_string(embed_dim));
  add_sublayers("q_proj", q_proj, "k_proj", k_proj, "v_proj", v_proj, "out_proj", out_proj);
}

// [N, length, embed_dim] -> [N, heads, length, head size]: a transpose that the products absorb.
Tensor MultiHeadAttention::heads(const Tensor& x) const {
  return transpose(split_heads(x, num_heads), {0, 2, 1, 3});
}

MultiHeadAttention::Cache MultiHeadAttention::static_cache(const Tensor& key, const Tensor& value) {
  return {heads(k_proj(key)), heads(v_proj(value.defined() ? value : key)), true};
}

// Query, key and value from one product on a GPU: a third of the launches, and x is read once.
// Empty where the projections differ in form, have hooks, or the attention is not one operator.
Tensor MultiHeadAttention::attend_to_itself(const Tensor& x, const Tensor& mask, double factor) {
  const Linear* all[] = {&q_proj, &k_proj, &v_proj};
  std::vector<Tensor> weights, biases;
  for (const Linear* one : all) {
    if (one->has_forward_hooks() || one->weight.shape() != q_proj.weight.shape() ||
        one->weight.dtype() != x.dtype() || one->bias.defined() != q_proj.bias.defined())
      return {};
    weights.push_back(one->weight);
    if (one->bias.defined()) biases.push_back(one->bias);
  }
  const Tensor wide =
      functional::linear(x, concat(weights, 1), biases.empty() ? Tensor() : concat(biases, 0));
  const int64_t size = wide.size(2) / 3;
  return flash_attention(reshape(wide, {0, 0, 3, num_heads, size / num_heads}), {}, {},
                         additive(mask, wide.dtype()), factor, training() ? dropout : 0, false);
}

Tensor MultiHeadAttention::attend(const Tensor& query, const Tensor& key_or_none,
                                  const Tensor& value_or_none, const Tensor& mask, Cache* cache) {
  TRI_CHECK(query.ndim() == 3, "[multi_head_attention] query expects [N, length, embed_dim], got " +
                                   query.shape().str());
  const Tensor key = key_or_none.defined() ? key_or_none : query;
  const Tensor value = value_or_none.defined() ? value_or_none : query;
  const bool fixed = cache != nullptr && cache->fixed;
  const bool own = key.variable() == query.variable() && value.variable() == query.variable();
  const bool half = query.dtype() == DType::kFloat16 || query.dtype() == DType::kBFloat16;
  if (cache == nullptr && own && half && query.device() != "cpu") {
    const int64_t size = q_proj.weight.size(1) / num_heads;
    const Tensor joined = attend_to_itself(query, mask, std::pow(static_cast<double>(size), -0.5));
    if (joined.defined()) return out_proj(join_heads(joined));
  }
  const Tensor wide_q = q_proj(query), wide_k = fixed ? Tensor() : k_proj(key),
               wide_v = fixed ? Tensor() : v_proj(value);
  const double factor = std::pow(static_cast<double>(wide_q.size(2) / num_heads), -0.5);
  if (cache == nullptr && wide_q.device() != "cpu") {
    const Tensor joined =
        flash_attention(split_heads(wide_q, num_heads), split_heads(wide_k, num_heads),
                        split_heads(wide_v, num_heads), additive(mask, wide_q.dtype()), factor,
                        training() ? dropout : 0, false);
    if (joined.defined()) return out_proj(join_heads(joined));
  }
  const Tensor q = heads(wide_q);
  Tensor k = fixed ? cache->k : heads(wide_k), v = fixed ? cache->v : heads(wide_v);
  if (cache != nullptr && !fixed) {
    if (cache->k.defined()) {
      k = concat({cache->k, k}, 2);
      v = concat({cache->v, v}, 2);
    }
    cache->k = k;
    cache->v = v;
  }
  Tensor weights = matmul(q * factor, k, false, true);
  if (mask.defined()) weights = weights + additive(mask, weights.dtype());
  weights = functional::dropout(functional::softmax(weights), dropout, {}, training());
  return out_proj(join_heads(transpose(matmul(weights, v), {0, 2, 1, 3})));
}

Tensor MultiHeadAttention::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 1, 4, "multi_head_attention");
  return attend(in[0], at(in, 1), at(in, 2), at(in, 3));
}

// ---- encoder

TransformerEncoderLayer::TransformerEncoderLayer(int64_t model, int64_t heads, int64_t feedforward,
                                                 const TransformerLayerOptions& with)
    : Layer("transformer_encoder_layer"),
      d_model(model),
      nhead(heads),
      dim_feedforward(feedforward),
      o(with),
      self_attn(model, heads, attention_options(with)),
      linear1(model, feedforward, linear_options(with)),
      dropout(with.act_dropout.value_or(with.dropout)),
      linear2(feedforward, model, linear_options(with)),
      norm1(model, norm_options(with)),
      norm2(model, norm_options(with)),
      dropout1(with.dropout),
      dropout2(with.dropout) {
  add_sublayers("self_attn", self_attn, "linear1", linear1, "dropout", dropout, "linear2", linear2,
                "norm1", norm1, "norm2", norm2, "dropout1", dropout1, "dropout2", dropout2);
}

Tensor TransformerEncoderLayer::encode(const Tensor& src, const Tensor& mask,
                                       MultiHeadAttention::Cache* cache) {
  const bool before = o.normalize_before;
  const Tensor m = additive(mask, src.dtype());
  const Tensor x = before ? norm1(src) : src;
  Tensor y = src + dropout1(cache != nullptr ? self_attn.attend(x, x, x, m, cache)
                                             : self_attn(std::vector<Tensor>{x, x, x, m}));
  if (!before) y = norm1(y);
  const Tensor z = before ? norm2(y) : y;
  y = y + dropout2(linear2(dropout(functional::activation(o.activation, linear1(z)))));
  return before ? y : norm2(y);
}
Tensor TransformerEncoderLayer::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 1, 2, "transformer_encoder_layer");
  return encode(in[0], at(in, 1));
}

TransformerEncoder::TransformerEncoder(const TransformerEncoderLayer& layer, int64_t num_layers,
                                       const std::optional<LayerNorm>& last)
    : Layer("transformer_encoder"), norm(last) {
  add_layers(*this, layers, layer, num_layers);
  if (norm) add_sublayer("norm", *norm);
}
Tensor TransformerEncoder::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 1, 2, "transformer_encoder");
  Tensor x = in[0];
  const Tensor mask = additive(at(in, 1), x.dtype());
  for (TransformerEncoderLayer& layer : layers) x = layer(x, mask);
  return norm ? (*norm)(x) : x;
}

// ---- decoder

TransformerDecoderLayer::TransformerDecoderLayer(int64_t model, int64_t heads, int64_t feedforward,
                                                 const TransformerLayerOptions& with)
    : Layer("transformer_decoder_layer"),
      d_model(model),
      nhead(heads),
      dim_feedforward(feedforward),
      o(with),
      self_attn(model, heads, attention_options(with)),
      cross_attn(model, heads, attention_options(with)),
      linear1(model, feedforward, linear_options(with)),
      dropout(with.act_dropout.value_or(with.dropout)),
      linear2(feedforward, model, linear_options(with)),
      norm1(model, norm_options(with)),
      norm2(model, norm_options(with)),
      norm3(model, norm_options(with)),
      dropout1(with.dropout),
      dropout2(with.dropout),
      dropout3(with.dropout) {
  add_sublayers("self_attn", self_attn, "cross_attn", cross_attn, "linear1", linear1, "dropout",
                dropout, "linear2", linear2, "norm1", norm1, "norm2", norm2, "norm3", norm3,
                "dropout1", dropout1, "dropout2", dropout2, "dropout3", dropout3);
}

Tensor TransformerDecoderLayer::decode(const Tensor& tgt, const Tensor& memory,
                                       const Tensor& tgt_mask, const Tensor& memory_mask,
                                       Cache* cache) {
  const bool before = o.normalize_before;
  const Tensor x = before ? norm1(tgt) : tgt;
  Tensor y = tgt + dropout1(self_attn.attend(x, x, x, additive(tgt_mask, tgt.dtype()),
                                             cache != nullptr ? &cache->incremental : nullptr));
  if (!before) y = norm1(y);
  const Tensor q = before ? norm2(y) : y;
  y = y + dropout2(cross_attn.attend(q, memory, memory, additive(memory_mask, tgt.dtype()),
                                     cache != nullptr ? &cache->memory : nullptr));
  if (!before) y = norm2(y);
  const Tensor z = before ? norm3(y) : y;
  y = y + dropout3(linear2(dropout(functional::activation(o.activation, linear1(z)))));
  return before ? y : norm3(y);
}
Tensor TransformerDecoderLayer::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 2, 4, "transformer_decoder_layer");
  return decode(in[0], in[1], at(in, 2), at(in, 3));
}
TransformerDecoderLayer::Cache TransformerDecoderLayer::gen_cache(const Tensor& memory) {
  return {{}, cross_attn.static_cache(memory, memory)};
}

TransformerDecoder::TransformerDecoder(const TransformerDecoderLayer& layer, int64_t num_layers,
                                       const std::optional<LayerNorm>& last)
    : Layer("transformer_decoder"), norm(last) {
  add_layers(*this, layers, layer, num_layers);
  if (norm) add_sublayer("norm", *norm);
}
Tensor TransformerDecoder::decode(const Tensor& tgt, const Tensor& memory, const Tensor& tgt_mask,
                                  const Tensor& memory_mask,
                                  std::vector<TransformerDecoderLayer::Cache>* cache) {
  TRI_CHECK(cache == nullptr || cache->size() == layers.size(),
            "[transformer_decoder] expects one cache a layer");
  Tensor x = tgt;
  for (size_t i = 0; i < layers.size(); ++i)
    x = cache != nullptr ? layers[i].decode(x, memory, tgt_mask, memory_mask, &(*cache)[i])
                         : layers[i](std::vector<Tensor>{x, memory, tgt_mask, memory_mask});
  return norm ? (*norm)(x) : x;
}
Tensor TransformerDecoder::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 2, 4, "transformer_decoder");
  return decode(in[0], in[1], at(in, 2), at(in, 3));
}
std::vector<TransformerDecoderLayer::Cache> TransformerDecoder::gen_cache(const Tensor& memory) {
  std::vector<TransformerDecoderLayer::Cache> caches;
  for (TransformerDecoderLayer& layer : layers) caches.push_back(layer.gen_cache(memory));
  return caches;
}

// ---- both

Transformer::Transformer(const TransformerOptions& o)
    : Layer("transformer"),
      encoder(TransformerEncoderLayer(o.d_model, o.nhead, o.dim_feedforward, o.layer),
              o.num_encoder_layers, LayerNorm(o.d_model, norm_options(o.layer))),
      decoder(TransformerDecoderLayer(o.d_model, o.nhead, o.dim_feedforward, o.layer),
              o.num_decoder_layers, LayerNorm(o.d_model, norm_options(o.layer))) {
  add_sublayers("encoder", encoder, "decoder", decoder);
}
Tensor Transformer::forward(const std::vector<Tensor>& in) {
  check_inputs(in, 2, 5, "transformer");
  const Tensor memory = encoder(in[0], at(in, 2));
  return decoder(std::vector<Tensor>{in[1], memory, at(in, 3), at(in, 4)});
}
Tensor Transformer::generate_square_subsequent_mask(int64_t length) {
  TRI_CHECK(length > 0 && length <= 1 << 15,
            "[generate_square_subsequent_mask] length expects 1 to 32768");
  Array mask(DType::kFloat32, Shape{length, length});
  for (int64_t i = 0; i < length; ++i)
    for (int64_t j = 0; j < length; ++j)
      mask.as<float>()[i * length + j] = j <= i ? 0.0F : -INFINITY;
  return mask;
}

}  // namespace trireme::nn
