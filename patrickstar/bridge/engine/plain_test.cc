// A plain run is LibTorch alone: nothing of ours is registered. A program of its own, because registrations stay.
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include "patrickstar/bridge/device/cpu_allocator.h"
#include "patrickstar/bridge/engine/plain_adamw.h"
#include "patrickstar/bridge/engine/runtime.h"
#include "patrickstar/bridge/module/operator_hook.h"

namespace patrickstar::bridge {
namespace {

TEST(Plain, InstallsNothing) {
  torch::nn::Linear model(8, 8);
  PlainModelData data(DType::kBFloat16);
  data.attach(*model);
  PlainAdamW optimizer(data, {torch::optim::OptimizerParamGroup(model->parameters())});
  model->forward(at::ones({2, 8}, at::kBFloat16)).sum().backward();
  optimizer.clip_grad_norm_(1.0);
  optimizer.step();
  EXPECT_FALSE(allocator_installed());
  EXPECT_FALSE(operator_hook_installed());
  EXPECT_EQ(managed_operators(), 0);
  // The same questions have the other answer when a Runtime exists: this test can fail.
  const auto runtime = Runtime::create({.memory_budget = 64 * kMiB, .spill_dir = testing::TempDir()});
  EXPECT_TRUE(allocator_installed());
  EXPECT_TRUE(operator_hook_installed());
}

}  // namespace
}  // namespace patrickstar::bridge
