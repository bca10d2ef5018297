// What the end-to-end tests share: a small transformer, trained by the plain loop or by an Engine, and a hash of all that it
// learned.
#pragma once

#include <torch/optim/adamw.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "patrickstar/bridge/device/tensor_counter.h"
#include "patrickstar/bridge/engine/engine.h"
#include "patrickstar/bridge/engine/plain_adamw.h"
#include "patrickstar/models/transformer.h"

namespace patrickstar {

enum class Shape : std::uint8_t { kGpt2, kLlama };

// 5 million parameters in 6 layers.
models::TransformerConfig small_config(Shape shape);

// Matrices with decay and a rate of 1e-3, vectors without and 5e-4.
std::vector<torch::optim::OptimizerParamGroup> groups_of(const torch::nn::Module& model);

// Each part of a model before it is attached, to freeze some; may be empty.
using PreparePart = std::function<void(torch::nn::Module&)>;

// The plain loop's model, with the peak of its non-model bytes counted. The seed of its values is the Engine's, too.
struct PlainModel {
  PlainModel(const models::TransformerConfig& config, DType dtype, const PreparePart& prepare = {});

  bridge::TensorCounter counter;
  bridge::PlainModelData data;
  std::unique_ptr<models::Transformer> model;
};
std::unique_ptr<models::Transformer> attached_model(const models::TransformerConfig& config, bridge::Engine& engine,
                                                    const PreparePart& prepare = {});

// Of all weights, masters and moments.
std::uint64_t hash_of(bridge::PlainModelData& data);
std::uint64_t hash_of(bridge::Engine& engine);

}  // namespace patrickstar
