// The layers of the reference transformer. Parameters only: no dtype, device or tensor is remembered, so an engine may replace
// a parameter's data (set_data), its dtype included, at any time outside a forward or backward.
//
// Parameters are created in fp32: weights from N(0, std) of the default CPU generator, biases 0, norms 1.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>

#include "patrickstar/models/transformer_config.h"

namespace patrickstar::models {

// cos and sin of the rotary angles, fp32 [sequence, head_dim / 2] each; undefined for learned positions.
struct RotaryTables {
  at::Tensor cos;
  at::Tensor sin;
};
RotaryTables rotary_tables(std::int64_t sequence, std::int64_t head_dim, double theta, c10::Device device);

// x [batch, heads, sequence, head_dim], the two halves of head_dim being the pairs (Su et al., arXiv 2104.09864, in the order of
// the published Llama weights). Computed in fp32, rounded once to x's dtype.
at::Tensor rotate(const at::Tensor& x, const RotaryTables& tables);

// x * rsqrt(mean(x^2) + eps) * weight over the last dimension (Zhang and Sennrich, arXiv 1910.07467), in fp32, rounded once.
// Keeps x and one number a row for backward.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

struct LinearLayer final : torch::nn::Module {
  LinearLayer(std::int64_t in, std::int64_t out, Biases biases, double std);
  at::Tensor forward(const at::Tensor& x) const;

  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out], or undefined
};

struct NormLayer final : torch::nn::Module {
  NormLayer(std::int64_t size, Norm kind, double eps);
  at::Tensor forward(const at::Tensor& x) const;

  at::Tensor weight;  // [size]
  at::Tensor bias;    // [size], or undefined (RMSNorm)
  double eps;
};

struct AttentionLayer final : torch::nn::Module {
  explicit AttentionLayer(const TransformerConfig& config);
  at::Tensor forward(const at::Tensor& x, const RotaryTables& rotary) const;

  std::int64_t heads;
  std::int64_t kv_heads;
  std::shared_ptr<LinearLayer> qkv;  // [queries; keys; values], each by heads
  std::shared_ptr<LinearLayer> out;
};

struct MlpLayer final : torch::nn::Module {
  explicit MlpLayer(const TransformerConfig& config);
  at::Tensor forward(const at::Tensor& x) const;

  std::shared_ptr<LinearLayer> gate;  // null for GELU
  std::shared_ptr<LinearLayer> up;
  std::shared_ptr<LinearLayer> down;
};

// x + attention(norm(x)), then x + mlp(norm(x)).
struct Block final : torch::nn::Module {
  explicit Block(const TransformerConfig& config);
  at::Tensor forward(const at::Tensor& x, const RotaryTables& rotary) const;

  std::shared_ptr<NormLayer> attention_norm;
  std::shared_ptr<AttentionLayer> attention;
  std::shared_ptr<NormLayer> mlp_norm;
  std::shared_ptr<MlpLayer> mlp;
};

// A parameter of N(0, std) in fp32.
at::Tensor normal_parameter(at::IntArrayRef shape, double std);

}  // namespace patrickstar::models
