#include "patrickstar/models/transformer_config.h"

#include <array>
#include <limits>
#include <sstream>
#include <utility>

namespace patrickstar::models {
namespace {

TransformerConfig gpt2(std::int64_t layers, std::int64_t hidden, std::int64_t heads) {
  TransformerConfig c;
  c.vocab_size = 50257;
  c.hidden_size = hidden;
  c.layers = layers;
  c.heads = heads;
  c.kv_heads = heads;
  c.intermediate_size = 4 * hidden;
  c.max_positions = 1024;
  return c;
}

TransformerConfig llama(std::int64_t layers, std::int64_t hidden, std::int64_t heads, std::int64_t kv_heads,
                        std::int64_t intermediate) {
  TransformerConfig c;
  c.vocab_size = 128256;
  c.hidden_size = hidden;
  c.layers = layers;
  c.heads = heads;
  c.kv_heads = kv_heads;
  c.intermediate_size = intermediate;
  c.max_positions = 131072;
  c.positions = Positions::kRotary;
  c.norm = Norm::kRms;
  c.mlp = Mlp::kSwiGlu;
  c.biases = Biases::kNone;
  c.rope_theta = 500000.0;
  return c;
}

TransformerConfig tiny(TransformerConfig c) {
  c.vocab_size = 211;  // a prime: nothing divides it by accident
  c.max_positions = 64;
  return c;
}

using Named = std::pair<std::string_view, TransformerConfig>;

const std::array<Named, 8>& presets() {
  static const std::array<Named, 8> table = {{{"gpt2", gpt2(12, 768, 12)},
                                              {"gpt2-medium", gpt2(24, 1024, 16)},
                                              {"gpt2-large", gpt2(36, 1280, 20)},
                                              {"gpt2-xl", gpt2(48, 1600, 25)},
                                              {"llama-1b", llama(16, 2048, 32, 8, 8192)},
                                              {"llama-3b", llama(28, 3072, 24, 8, 8192)},
                                              {"tiny-gpt2", tiny(gpt2(3, 48, 4))},
                                              {"tiny-llama", tiny(llama(3, 64, 8, 2, 160))}}};
  return table;
}

}  // namespace

std::int64_t TransformerConfig::parameter_count() const {
  const std::int64_t bias = biases == Biases::kAll ? 1 : 0;
  const auto linear = [bias](std::int64_t in, std::int64_t out) { return in * out + bias * out; };
  const std::int64_t norm_size = (norm == Norm::kLayer ? 2 : 1) * hidden_size;
  const std::int64_t attention = linear(hidden_size, hidden_size + 2 * kv_size()) + linear(hidden_size, hidden_size);
  const std::int64_t ups = mlp == Mlp::kSwiGlu ? 2 : 1;
  const std::int64_t feed_forward = ups * linear(hidden_size, intermediate_size) + linear(intermediate_size, hidden_size);
  const std::int64_t tables =
      vocab_size + (positions == Positions::kLearned ? max_positions : 0) + (head == Head::kUntied ? vocab_size : 0);
  return tables * hidden_size + layers * (2 * norm_size + attention + feed_forward) + norm_size;
}

std::optional<std::string> validate(const TransformerConfig& c) {
  const std::array<std::pair<const char*, std::int64_t>, 8> sizes = {{{"vocab_size", c.vocab_size},
                                                                      {"hidden_size", c.hidden_size},
                                                                      {"layers", c.layers},
                                                                      {"heads", c.heads},
                                                                      {"kv_heads", c.kv_heads},
                                                                      {"intermediate_size", c.intermediate_size},
                                                                      {"max_positions", c.max_positions},
                                                                      {"logits_chunk_rows", c.logits_chunk_rows}}};
  std::ostringstream out;
  out << "[transformer] ";
  for (const auto& [name, value] : sizes) {
    if (value <= 0) {
      out << name << " is " << value << ": it must be at least 1";
      return out.str();
    }
    if (value > std::numeric_limits<std::int32_t>::max()) {
      out << name << " is " << value << ": it must be below 2^31";
      return out.str();
    }
  }
  if (c.hidden_size % c.heads != 0) {
    out << "hidden_size " << c.hidden_size << " is not divisible by heads " << c.heads;
    return out.str();
  }
  if (c.heads % c.kv_heads != 0) {
    out << "heads " << c.heads << " is not divisible by kv_heads " << c.kv_heads;
    return out.str();
  }
  if (c.positions == Positions::kRotary && c.head_dim() % 2 != 0) {
    out << "rotary positions need an even head size: hidden_size " << c.hidden_size << " / heads " << c.heads << " is "
        << c.head_dim();
    return out.str();
  }
  const std::array<std::pair<const char*, double>, 3> reals = {
      {{"norm_eps", c.norm_eps}, {"rope_theta", c.rope_theta}, {"initializer_std", c.initializer_std}}};
  for (const auto& [name, value] : reals) {
    if (!(value > 0.0 && value <= std::numeric_limits<double>::max())) {  // not a number fails too
      out << name << " is " << value << ": it must be a positive number";
      return out.str();
    }
  }
  return std::nullopt;
}

PresetResult preset(std::string_view name) {
  for (const auto& [known, config] : presets()) {
    if (known == name) return {config, {}};
  }
  std::ostringstream out;
  out << "[transformer] unknown model '" << name << "': known are";
  const char* separator = " ";
  for (const auto& [known, config] : presets()) {
    out << separator << known;
    separator = ", ";
  }
  return {std::nullopt, out.str()};
}

std::vector<std::string_view> preset_names() {
  std::vector<std::string_view> names;
  for (const auto& entry : presets()) names.push_back(entry.first);
  return names;
}

}  // namespace patrickstar::models
