#include "tests/e2e/small_model.h"

#include <torch/utils.h>

#include <cstring>
#include <string>

namespace patrickstar {
namespace {

constexpr std::uint64_t kValues = 3;  // the seed of a model's first values

class Hash {
 public:
  void mix(const void* data, Bytes bytes) {
    const auto* at = static_cast<const unsigned char*>(data);
    for (Bytes i = 0; i + 8 <= bytes; i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, at + i, 8);
      hash_ = (hash_ ^ word) * 1099511628211u;
      hash_ ^= hash_ >> 29;
    }
    for (Bytes i = bytes / 8 * 8; i < bytes; ++i) hash_ = (hash_ ^ at[i]) * 1099511628211u;
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 1469598103934665603u;
};

template <class Holder>
std::uint64_t hash_of_all(Holder& holder) {
  Hash hash;
  holder.visit([&](const std::string&, const char*, const void* bytes, Bytes count) { hash.mix(bytes, count); });
  return hash.value();
}

}  // namespace

models::TransformerConfig small_config(Shape shape) {
  models::TransformerConfig config = *models::preset(shape == Shape::kGpt2 ? "tiny-gpt2" : "tiny-llama").config;
  config.vocab_size = 2048;
  config.hidden_size = 256;
  config.heads = 4;
  config.kv_heads = shape == Shape::kGpt2 ? 4 : 2;
  config.intermediate_size = 1024;
  config.layers = 6;
  return config;
}

std::vector<torch::optim::OptimizerParamGroup> groups_of(const torch::nn::Module& model) {
  std::vector<torch::Tensor> matrices;
  std::vector<torch::Tensor> vectors;
  for (const auto& p : model.parameters()) (p.dim() > 1 ? matrices : vectors).push_back(p);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(matrices, std::make_unique<torch::optim::AdamWOptions>(1e-3));
  auto options = std::make_unique<torch::optim::AdamWOptions>(5e-4);
  options->weight_decay(0);
  groups.emplace_back(vectors, std::move(options));
  return groups;
}

PlainModel::PlainModel(const models::TransformerConfig& config, DType dtype, const PreparePart& prepare) : data(dtype) {
  torch::manual_seed(kValues);
  std::size_t seen = 0;
  model = std::make_unique<models::Transformer>(
      config, models::TransformerOptions{.on_built = [&](torch::nn::Module& part) {
        if (prepare) prepare(part);
        data.attach(part);
        for (std::size_t i = seen; i < data.entries().size(); ++i) {
          const auto& e = data.entries()[i];
          for (const auto* t : {&e.tensor, &e.master, &e.exp_avg, &e.exp_avg_sq}) counter.mark_model_data(*t);
        }
        data.watch_gradients(seen, [this](const torch::Tensor& gradient) { counter.mark_model_data(gradient); });
        seen = data.entries().size();
      }});
}

std::unique_ptr<models::Transformer> attached_model(const models::TransformerConfig& config, bridge::Engine& engine,
                                                    const PreparePart& prepare) {
  torch::manual_seed(kValues);
  int parts = 0;  // names differ, so that a layout may name them
  return std::make_unique<models::Transformer>(config, models::TransformerOptions{.on_built = [&](torch::nn::Module& part) {
                                                 if (prepare) prepare(part);
                                                 engine.attach(part, "part" + std::to_string(parts++));
                                               }});
}

std::uint64_t hash_of(bridge::PlainModelData& data) { return hash_of_all(data); }
std::uint64_t hash_of(bridge::Engine& engine) { return hash_of_all(engine); }

}  // namespace patrickstar
