// Four layers and an optimizer in a budget that holds half of them, for tests of when updates run.
#pragma once

#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/utils.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/bridge/engine/engine.h"
#include "patrickstar/bridge/engine/error.h"

namespace patrickstar::bridge {

constexpr std::int64_t kWidth = 512;
constexpr int kLayers = 4;
// Too tight for gradients to stay beside their parameters, and roomy enough for it.
constexpr Bytes kTight = 20 * kMiB;
constexpr Bytes kRoomy = 256 * kMiB;

// What the action throws; empty: nothing.
template <class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

struct UpdateRig {
  explicit UpdateRig(UpdateTiming timing, GradientPlacement gradients = GradientPlacement::kInParameter,
                     FileOps* files = &posix_file_ops(), Bytes budget = kTight)
      : runtime(Runtime::create({.memory_budget = budget,
                                 .spill_dir = testing::TempDir(),
                                 .layout = {.chunk_elems = kWidth * kWidth + 1024, .tile_elems = 64 * 1024},
                                 .file_ops = files})),
        engine(runtime, {.gradients = gradients}) {
    torch::manual_seed(11);
    for (int i = 0; i < kLayers; ++i) model->push_back(torch::nn::Linear(kWidth, kWidth));
    engine.attach(*model);
    optimizer.emplace(engine, model->parameters(), torch::optim::AdamWOptions(1e-2), timing);
  }
  at::Tensor weight(int layer) { return model->parameters()[static_cast<std::size_t>(2 * layer)]; }
  at::Tensor forward() { return model->forward(at::full({4, kWidth}, 0.5, at::kBFloat16)).square().sum(); }
  void backward() { forward().backward(); }
  void step() {
    backward();
    optimizer->step();
    optimizer->zero_grad();
  }
  void set_lr(double lr) {
    for (auto& group : optimizer->param_groups()) group.options().set_lr(lr);
  }
  bool due(int layer) {
    auto core = engine.core();
    return core->updates().due(core->find(weight(layer).unsafeGetTensorImpl())->id());
  }
  bool passing(int layer) { return engine.core()->find(weight(layer).unsafeGetTensorImpl())->has_passing(); }
  const ChunkPayloads& chunk(int layer) { return engine.core()->data().chunk(ChunkId(static_cast<std::uint32_t>(layer))); }
  // All state lies on disk only.
  void send_tiles_down() {
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const TilePayload& tile : chunk(layer).tiles) runtime->manager().give_up(tile.payload);
    }
    throw_if_error(runtime->manager().drain());
  }
  std::vector<at::Tensor> values() {
    std::vector<at::Tensor> values;
    for (const auto& parameter : model->parameters()) values.push_back(parameter.detach().clone());
    return values;
  }

  std::shared_ptr<Runtime> runtime;
  Engine engine;
  torch::nn::Sequential model;
  std::optional<ChunkedAdamW> optimizer;
};

inline bool same(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!at::equal(a[i], b[i])) return false;
  }
  return a.size() == b.size();
}

}  // namespace patrickstar::bridge
