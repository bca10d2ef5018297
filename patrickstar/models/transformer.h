// Transformer: the reference decoder-only transformer (GPT-2 and Llama shapes) for the command line, examples and benchmarks.
//
// Parameters, in the order of registration, creation and first use (N from 0; biases only with Biases::kAll):
//   embedding.tokens [vocab, hidden]      embedding.positions [max_positions, hidden] (learned)
//   blocks.N.attention_norm.weight [hidden], .bias (LayerNorm)
//   blocks.N.attention.qkv.weight [hidden + 2 kv_heads head_dim, hidden] (rows: queries, keys, values, each by heads), .bias
//   blocks.N.attention.out.weight [hidden, hidden], .bias
//   blocks.N.mlp_norm.weight [hidden], .bias (LayerNorm)
//   blocks.N.mlp.gate.weight [intermediate, hidden] (SwiGLU), .bias
//   blocks.N.mlp.up.weight [intermediate, hidden], .bias
//   blocks.N.mlp.down.weight [hidden, intermediate], .bias
//   final.norm.weight [hidden], .bias (LayerNorm)      final.head.weight [vocab, hidden] (untied)
// y = x weight^T + bias (Hugging Face's GPT-2 stores the transpose). A tied head has no parameter: it uses embedding.tokens.
//
// No tensor, dtype or device of a parameter is remembered between calls: set_data may replace them at any time outside forward
// and backward. Parameters are touched by dispatched operators only. Thread safety: as any module's (concurrent forwards are
// fine, concurrent backwards accumulate into the same gradients).
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "patrickstar/models/transformer_config.h"

namespace patrickstar::models {

struct Block;
struct EmbeddingPart;
struct FinalPart;
struct Stream;

struct TransformerOptions {
  // Compute dtype: each part is converted when it is initialised, before the next is built.
  at::ScalarType dtype = at::kFloat;
  // Called after each part (embedding, every block, final) is built and initialised in fp32, before the next: the callee may
  // take its parameters away with set_data, and converts them itself (`dtype` must stay fp32 then). It must not draw from the
  // default generator: the values are the same with and without it.
  std::function<void(torch::nn::Module&)> on_built = nullptr;
};

class Transformer final : public torch::nn::Module {
 public:
  // Draws from the default CPU generator. Throws c10::Error with validate()'s message for an impossible config.
  explicit Transformer(const TransformerConfig& config, TransformerOptions options = {});

  // tokens int64 [batch, sequence] -> logits [batch, sequence, vocab] in the parameters' dtype.
  at::Tensor forward(const at::Tensor& tokens);

  // tokens and targets int64 [batch, sequence] -> mean cross entropy, a scalar in fp32, without the logits of forward() (loss.h).
  at::Tensor loss(const at::Tensor& tokens, const at::Tensor& targets);

  // No gradients for the embedding (with it a tied head) and the first n blocks; n = 0 freezes nothing. 0 <= n <= layers.
  void freeze_first_layers(std::int64_t n);

  // Layer drop: the forward passes from now on go past these layers, as if they were the identity. By layer; empty: none is.
  void leave_out(std::vector<bool> layers);

  const TransformerConfig& config() const { return config_; }

 private:
  Stream run(const at::Tensor& tokens);  // all but the head

  TransformerConfig config_;
  std::shared_ptr<EmbeddingPart> embedding_;
  std::vector<std::shared_ptr<Block>> blocks_;
  std::vector<bool> left_out_;
  std::shared_ptr<FinalPart> final_;
};

}  // namespace patrickstar::models
