#include "patrickstar/models/layers.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

namespace patrickstar::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double eps) {
    const at::Tensor wide = x.to(at::kFloat);
    const at::Tensor scale = wide.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
    ctx->save_for_backward({x, weight, scale});
    return (wide * scale).mul_(weight).to(x.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "[rms_norm] has no second derivative (create_graph)");
    const auto saved = ctx->get_saved_variables();
    const at::Tensor& weight = saved[1];
    const at::Tensor& scale = saved[2];
    const at::Tensor normal = saved[0].to(at::kFloat) * scale;
    at::Tensor gradient = gradients[0].to(at::kFloat);
    at::Tensor weight_gradient;
    if (ctx->needs_input_grad(1)) {
      weight_gradient = (gradient * normal).reshape({-1, weight.size(0)}).sum(0).to(weight.scalar_type());
    }
    at::Tensor x_gradient;
    if (ctx->needs_input_grad(0)) {
      gradient = gradient * weight;
      const at::Tensor along = (gradient * normal).mean(-1, /*keepdim=*/true);
      x_gradient = gradient.sub_(normal * along).mul_(scale).to(saved[0].scalar_type());
    }
    return {x_gradient, weight_gradient, at::Tensor()};
  }
};

double residual_std(const TransformerConfig& config) {
  return config.initializer_std / std::sqrt(2.0 * static_cast<double>(config.layers));
}

}  // namespace

at::Tensor normal_parameter(at::IntArrayRef shape, double std) {
  const at::NoGradGuard no_grad;
  return at::empty(shape, at::TensorOptions().dtype(at::kFloat)).normal_(0.0, std);
}

RotaryTables rotary_tables(std::int64_t sequence, std::int64_t head_dim, double theta, c10::Device device) {
  const at::NoGradGuard no_grad;
  // Angles in double: at position 100,000 an fp32 product of position and frequency is already off by 0.004.
  const auto options = at::TensorOptions().dtype(at::kDouble).device(device);
  const at::Tensor exponents = at::arange(0, head_dim, 2, options).mul_(-std::log(theta) / static_cast<double>(head_dim));
  const at::Tensor angles = at::outer(at::arange(sequence, options), exponents.exp());
  return {angles.cos().to(at::kFloat), angles.sin().to(at::kFloat)};
}

at::Tensor rotate(const at::Tensor& x, const RotaryTables& tables) {
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor first = x.narrow(-1, 0, half);
  const at::Tensor second = x.narrow(-1, half, half);
  return at::cat({first * tables.cos - second * tables.sin, second * tables.cos + first * tables.sin}, -1).to(x.scalar_type());
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) { return RmsNormFunction::apply(x, weight, eps); }

LinearLayer::LinearLayer(std::int64_t in, std::int64_t out, Biases biases, double std) {
  weight = register_parameter("weight", normal_parameter({out, in}, std));
  if (biases == Biases::kAll) bias = register_parameter("bias", at::zeros({out}, at::TensorOptions().dtype(at::kFloat)));
}

at::Tensor LinearLayer::forward(const at::Tensor& x) const { return at::linear(x, weight, bias); }

NormLayer::NormLayer(std::int64_t size, Norm kind, double epsilon) : eps(epsilon) {
  weight = register_parameter("weight", at::ones({size}, at::TensorOptions().dtype(at::kFloat)));
  if (kind == Norm::kLayer) bias = register_parameter("bias", at::zeros({size}, at::TensorOptions().dtype(at::kFloat)));
}

at::Tensor NormLayer::forward(const at::Tensor& x) const {
  return bias.defined() ? at::layer_norm(x, {x.size(-1)}, weight, bias, eps) : rms_norm(x, weight, eps);
}

AttentionLayer::AttentionLayer(const TransformerConfig& c) : heads(c.heads), kv_heads(c.kv_heads) {
  qkv = register_module(
      "qkv", std::make_shared<LinearLayer>(c.hidden_size, c.hidden_size + 2 * c.kv_size(), c.biases, c.initializer_std));
  out = register_module("out", std::make_shared<LinearLayer>(c.hidden_size, c.hidden_size, c.biases, residual_std(c)));
}

at::Tensor AttentionLayer::forward(const at::Tensor& x, const RotaryTables& rotary) const {
  const std::int64_t head_dim = x.size(2) / heads;
  // [batch, sequence, heads + 2 kv_heads, head_dim] -> three of [batch, heads, sequence, head_dim]
  const at::Tensor all = qkv->forward(x).unflatten(-1, {heads + 2 * kv_heads, head_dim});
  auto parts = all.split_with_sizes({heads, kv_heads, kv_heads}, 2);
  for (at::Tensor& part : parts) part = part.transpose(1, 2);
  if (rotary.cos.defined()) {
    parts[0] = rotate(parts[0], rotary);
    parts[1] = rotate(parts[1], rotary);
  }
  const at::Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], /*attn_mask=*/{}, /*dropout_p=*/0.0,
                                                            /*is_causal=*/true, /*scale=*/{},
                                                            /*enable_gqa=*/heads != kv_heads);
  return out->forward(mixed.transpose(1, 2).flatten(2));
}

MlpLayer::MlpLayer(const TransformerConfig& c) {
  const auto into = [&c] {
    return std::make_shared<LinearLayer>(c.hidden_size, c.intermediate_size, c.biases, c.initializer_std);
  };
  if (c.mlp == Mlp::kSwiGlu) gate = register_module("gate", into());
  up = register_module("up", into());
  down = register_module("down", std::make_shared<LinearLayer>(c.intermediate_size, c.hidden_size, c.biases, residual_std(c)));
}

at::Tensor MlpLayer::forward(const at::Tensor& x) const {
  if (gate) return down->forward(at::silu(gate->forward(x)) * up->forward(x));
  return down->forward(at::gelu(up->forward(x), "tanh"));
}

Block::Block(const TransformerConfig& c) {
  attention_norm = register_module("attention_norm", std::make_shared<NormLayer>(c.hidden_size, c.norm, c.norm_eps));
  attention = register_module("attention", std::make_shared<AttentionLayer>(c));
  mlp_norm = register_module("mlp_norm", std::make_shared<NormLayer>(c.hidden_size, c.norm, c.norm_eps));
  mlp = register_module("mlp", std::make_shared<MlpLayer>(c));
}

at::Tensor Block::forward(const at::Tensor& x, const RotaryTables& rotary) const {
  const at::Tensor middle = x + attention->forward(attention_norm->forward(x), rotary);
  return middle + mlp->forward(mlp_norm->forward(middle));
}

}  // namespace patrickstar::models
