// TransformerConfig: the shape of a decoder-only transformer, and the shapes that have names.
//
// Plain values, no LibTorch. Thread safety: none needed. The presets have the sizes of the published models (GPT-2: Radford et
// al. 2019; Llama 3.2: Meta 2024) with their real vocabularies; Llama's long-context rescaling of the rotary frequencies is not
// applied (it matters to published weights only, and to positions beyond 8192 most).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace patrickstar::models {

enum class Positions : std::uint8_t { kLearned, kRotary };     // a table added to the embedding / rotated queries and keys
enum class Norm : std::uint8_t { kLayer, kRms };               // LayerNorm (weight and bias) / RMSNorm (weight only)
enum class Mlp : std::uint8_t { kGelu, kSwiGlu };              // down(gelu_tanh(up(x))) / down(silu(gate(x)) * up(x))
enum class Head : std::uint8_t { kTied, kUntied };             // the token embedding itself / a matrix of its own
enum class Biases : std::uint8_t { kAll, kNone };              // of the linear layers (the head never has one)
enum class Activations : std::uint8_t { kKeep, kCheckpoint };  // keep all for backward / a block's input only, recompute the rest

struct TransformerConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // divides heads; equal to it: ordinary multi-head attention
  std::int64_t intermediate_size = 0;
  std::int64_t max_positions = 0;
  Positions positions = Positions::kLearned;
  Norm norm = Norm::kLayer;
  Mlp mlp = Mlp::kGelu;
  Head head = Head::kTied;
  Biases biases = Biases::kAll;
  double norm_eps = 1e-5;
  double rope_theta = 10000.0;
  double initializer_std = 0.02;  // GPT-2's; projections onto the residual stream get std / sqrt(2 * layers)
  Activations activations = Activations::kKeep;
  // Rows (tokens) of logits that are in fp32 at once while the loss is taken: rows * vocab_size * 4 bytes.
  std::int64_t logits_chunk_rows = 64;

  bool operator==(const TransformerConfig&) const = default;

  std::int64_t head_dim() const { return hidden_size / heads; }
  std::int64_t kv_size() const { return kv_heads * head_dim(); }

  // Exact number of parameters; a tied head counts once. REQUIRES: !validate().
  std::int64_t parameter_count() const;
};

// Nothing when the shape is possible, else one message that names the field, its value and what to do.
std::optional<std::string> validate(const TransformerConfig& config);

struct PresetResult {
  std::optional<TransformerConfig> config;
  std::string error;  // lists the known names when there is no config
};

// gpt2, gpt2-medium, gpt2-large, gpt2-xl, llama-1b, llama-3b; tiny-gpt2 and tiny-llama for tests.
PresetResult preset(std::string_view name);
std::vector<std::string_view> preset_names();

}  // namespace patrickstar::models
