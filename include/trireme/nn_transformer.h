// Attention and transformers: Paddle's nn.MultiHeadAttention, nn.Transformer and their parts.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trireme/nn_linear.h"

namespace trireme::nn {

struct AttentionOptions {
  double dropout = 0;
  int64_t kdim = 0, vdim = 0;  // 0: embed_dim
  ParamAttr weight_attr{}, bias_attr{};
};
// q_proj, k_proj, v_proj, out_proj. Masks: bool or integers (true, not 0: is seen) or what is added
// to the products, broadcast to [N, heads, query length, key length].
struct MultiHeadAttention : Layer {
  // Keys and values of earlier positions, [N, heads, length, head size]; empty at first.
  struct Cache {
    Tensor k, v;
    bool fixed = false;  // k and v are used as they are, key and value ignored
  };

  Linear q_proj, k_proj, v_proj, out_proj;
  MultiHeadAttention(int64_t embed_dim, int64_t heads, const AttentionOptions& options = {});
  // {query}, {query, key, value} or {query, key, value, mask}; empty tensors for None.
  Tensor forward(const std::vector<Tensor>& in) override;
  // The same; a cache is read and, unless it is fixed, extended.
  Tensor attend(const Tensor& query, const Tensor& key = {}, const Tensor& value = {},
                const Tensor& mask = {}, Cache* cache = nullptr);
  // The projected keys and values of a memory, for cross attention.
  Cache static_cache(const Tensor& key, const Tensor& value);

  int64_t num_heads;
  double dropout;

 private:
  Tensor heads(const Tensor& x) const;
  Tensor attend_to_itself(const Tensor& x, const Tensor& mask, double factor);
};

struct TransformerLayerOptions {
  double dropout = 0.1;
  std::string activation = "relu";
  std::optional<double> attn_dropout{}, act_dropout{};  // none: dropout
  bool normalize_before = false;
  ParamAttr weight_attr{}, bias_attr{};
  double layer_norm_eps = 1e-5;
};

// {src} or {src, mask}; src [N, length, d_model].
struct TransformerEncoderLayer : Layer {
  int64_t d_model, nhead, dim_feedforward;
  TransformerLayerOptions o;
  MultiHeadAttention self_attn;
  Linear linear1;
  Dropout dropout;
  Linear linear2;
  LayerNorm norm1, norm2;
  Dropout dropout1, dropout2;
  TransformerEncoderLayer(int64_t model, int64_t heads, int64_t feedforward,
                          const TransformerLayerOptions& options = {});
  Tensor forward(const std::vector<Tensor>& in) override;
  Tensor encode(const Tensor& src, const Tensor& mask = {},
                MultiHeadAttention::Cache* cache = nullptr);
};

// `layer` and num_layers - 1 new ones like it.
struct TransformerEncoder : Layer {
  std::vector<TransformerEncoderLayer> layers;
  std::optional<LayerNorm> norm;
  TransformerEncoder(const TransformerEncoderLayer& layer, int64_t num_layers,
                     const std::optional<LayerNorm>& last = {});
  Tensor forward(const std::vector<Tensor>& in) override;
};

// {tgt, memory}, then tgt_mask, memory_mask.
struct TransformerDecoderLayer : Layer {
  // Of one layer: own positions so far, and the memory's projections.
  struct Cache {
    MultiHeadAttention::Cache incremental, memory;
  };
  int64_t d_model, nhead, dim_feedforward;
  TransformerLayerOptions o;
  MultiHeadAttention self_attn, cross_attn;
  Linear linear1;
  Dropout dropout;
  Linear linear2;
  LayerNorm norm1, norm2, norm3;
  Dropout dropout1, dropout2, dropout3;
  TransformerDecoderLayer(int64_t model, int64_t heads, int64_t feedforward,
                          const TransformerLayerOptions& options = {});
  Tensor forward(const std::vector<Tensor>& in) override;
  Tensor decode(const Tensor& tgt, const Tensor& memory, const Tensor& tgt_mask = {},
                const Tensor& memory_mask = {}, Cache* cache = nullptr);
  Cache gen_cache(const Tensor& memory);
};

struct TransformerDecoder : Layer {
  std::vector<TransformerDecoderLayer> layers;
  std::optional<LayerNorm> norm;
  TransformerDecoder(const TransformerDecoderLayer& layer, int64_t num_layers,
                     const std::optional<LayerNorm>& last = {});
  Tensor forward(const std::vector<Tensor>& in) override;
  Tensor decode(const Tensor& tgt, const Tensor& memory, const Tensor& tgt_mask = {},
                const Tensor& memory_mask = {},
                std::vector<TransformerDecoderLayer::Cache>* cache = nullptr);
  std::vector<TransformerDecoderLayer::Cache> gen_cache(const Tensor& memory);
};

struct TransformerOptions {
  int64_t d_model = 512, nhead = 8, num_encoder_layers = 6, num_decoder_layers = 6;
  int64_t dim_feedforward = 2048;
  TransformerLayerOptions layer{};
};
// {src, tgt}, then src_mask, tgt_mask, memory_mask.
struct Transformer : Layer {
  TransformerEncoder encoder;
  TransformerDecoder decoder;
  explicit Transformer(const TransformerOptions& options = {});
  Tensor forward(const std::vector<Tensor>& in) override;
  // [length, length]: 0 for positions up to the own one, -infinity behind it.
  static Tensor generate_square_subsequent_mask(int64_t length);
};

}  // namespace trireme::nn
