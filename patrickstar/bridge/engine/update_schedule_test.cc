// When updates run: whoever looks at a parameter sees what step() at once would have left there, bit for bit.
#include "patrickstar/bridge/engine/update_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/utils.h>

#include <functional>
#include <optional>

#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/bridge/engine/engine.h"
#include "patrickstar/bridge/engine/error.h"

namespace patrickstar::bridge {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kWidth = 512;
constexpr int kLayers = 4;
// Too tight for gradients to stay beside their parameters.
constexpr Bytes kTight = 20 * kMiB;

struct Rig {
  explicit Rig(UpdateTiming timing, GradientPlacement gradients = GradientPlacement::kInParameter, Bytes budget = kTight)
      : runtime(Runtime::create({.memory_budget = budget,
                                 .spill_dir = testing::TempDir(),
                                 .layout = {.chunk_elems = kWidth * kWidth + 1024, .tile_elems = 64 * 1024}})),
        engine(runtime, {.gradients = gradients}) {
    torch::manual_seed(11);
    for (int i = 0; i < kLayers; ++i) model->push_back(torch::nn::Linear(kWidth, kWidth));
    engine.attach(*model);
    optimizer.emplace(engine, model->parameters(), torch::optim::AdamWOptions(1e-2), timing);
  }
  at::Tensor weight(int layer) { return model->parameters()[static_cast<std::size_t>(2 * layer)]; }
  void backward() { model->forward(at::full({4, kWidth}, 0.5, at::kBFloat16)).square().sum().backward(); }
  void set_lr(double lr) {
    for (auto& group : optimizer->param_groups()) group.options().set_lr(lr);
  }
  bool due(int layer) {
    auto core = engine.core();
    return core->updates().due(core->find(weight(layer).unsafeGetTensorImpl())->id());
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

bool same(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!at::equal(a[i], b[i])) return false;
  }
  return a.size() == b.size();
}

// What `loop` leaves with updates at step(): what every other schedule must leave.
std::vector<at::Tensor> at_step(GradientPlacement gradients, const std::function<void(Rig&)>& loop) {
  Rig rig(UpdateTiming::kAtStep, gradients);
  loop(rig);
  return rig.values();
}

class UpdateScheduleTest : public testing::TestWithParam<GradientPlacement> {};

TEST_P(UpdateScheduleTest, AnUpdateThatIsPutOffUsesTheHyperparametersOfItsStep) {
  const auto loop = [](Rig& rig) {
    for (int step = 0; step < 3; ++step) {
      rig.backward();
      rig.optimizer->clip_grad_norm_(0.1);
      rig.optimizer->step();
      rig.optimizer->zero_grad();
      rig.set_lr(step == 0 ? 5e-3 : 1.0);  // after the step: must not reach what is due
    }
  };
  const auto expected = at_step(GetParam(), loop);
  Rig rig(UpdateTiming::kDeferred, GetParam());
  loop(rig);
  EXPECT_TRUE(rig.due(0) && rig.due(3)) << "else nothing was put off";
  EXPECT_TRUE(same(rig.values(), expected));
  EXPECT_FALSE(rig.due(0) || rig.due(3));
}

TEST_P(UpdateScheduleTest, AWriteAfterStepComesAfterTheUpdate) {
  const auto loop = [](Rig& rig) {
    for (int step = 0; step < 3; ++step) {
      rig.backward();
      rig.optimizer->step();
      const at::NoGradGuard no_grad;
      rig.weight(1).mul_(0.5);
      rig.optimizer->zero_grad();
    }
  };
  const auto expected = at_step(GetParam(), loop);
  Rig rig(UpdateTiming::kDeferred, GetParam());
  loop(rig);
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateScheduleTest, DueUpdatesOutliveTheOptimizerAndReachVisitors) {
  const auto loop = [](Rig& rig) {
    rig.backward();
    rig.optimizer->step();
    rig.optimizer->zero_grad();
  };
  const auto expected = at_step(GetParam(), loop);
  Rig rig(UpdateTiming::kDeferred, GetParam());
  loop(rig);
  rig.optimizer.reset();
  EXPECT_TRUE(rig.due(2));
  EXPECT_TRUE(at::equal(rig.weight(2), expected[4]));
  EXPECT_TRUE(rig.due(3));
  rig.engine.visit([](const std::string&, const char*, const void*, Bytes) {});
  EXPECT_FALSE(rig.due(3));
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateScheduleTest, OverlappedLeavesTheSameAndUpdatesInBackward) {
  const auto loop = [](Rig& rig) {
    for (int step = 0; step < 3; ++step) {
      rig.set_lr(1e-2 / (1 + step));
      rig.backward();
      rig.optimizer->step();
      rig.optimizer->zero_grad();
    }
  };
  const auto expected = at_step(GetParam(), loop);
  Rig rig(UpdateTiming::kOverlapped, GetParam());
  std::int64_t before = rig.runtime->manager().stats().accesses;
  rig.backward();
  const std::int64_t in_backward = rig.runtime->manager().stats().accesses - before;
  rig.optimizer->step();
  before = rig.runtime->manager().stats().accesses;
  ASSERT_TRUE(rig.engine.core()->updates().complete_all().ok());
  EXPECT_LT(rig.runtime->manager().stats().accesses - before, in_backward);
  rig.optimizer->zero_grad();
  for (int step = 1; step < 3; ++step) {
    rig.set_lr(1e-2 / (1 + step));
    rig.backward();
    rig.optimizer->step();
    rig.optimizer->zero_grad();
  }
  EXPECT_TRUE(same(rig.values(), expected));
}

INSTANTIATE_TEST_SUITE_P(Gradients, UpdateScheduleTest,
                         testing::Values(GradientPlacement::kInParameter, GradientPlacement::kOwnChunks));

TEST(UpdateSchedule, AGradientChunkStaysReadableWhileItsUpdateIsDue) {
  Rig rig(UpdateTiming::kDeferred, GradientPlacement::kOwnChunks);
  rig.backward();
  const at::Tensor gradient = rig.weight(1).grad().clone();
  rig.optimizer->step();
  ASSERT_TRUE(rig.due(1));
  EXPECT_TRUE(at::equal(rig.weight(1).grad(), gradient));
  EXPECT_FALSE(rig.due(1)) << "who may change the gradient has its update completed first";
}

TEST(UpdateSchedule, OverlappedRefusesWhatItCannotDo) {
  Rig rig(UpdateTiming::kOverlapped);
  rig.backward();
  EXPECT_THROW(rig.optimizer->clip_grad_norm_(1.0), Error);
  std::string text;
  try {
    rig.backward();  // a second one before step()
  } catch (const std::exception& error) {
    text = error.what();
  }
  EXPECT_THAT(text, HasSubstr("use deferred updates"));
}

TEST(UpdateSchedule, StepTwiceWithTheSameGradientUpdatesTwiceAsTorchDoes) {
  const auto loop = [](Rig& rig) {
    rig.backward();
    rig.optimizer->step();
    rig.optimizer->step();
  };
  const auto expected = at_step(GradientPlacement::kOwnChunks, loop);
  Rig rig(UpdateTiming::kDeferred, GradientPlacement::kOwnChunks);
  loop(rig);
  EXPECT_TRUE(same(rig.values(), expected));
}

}  // namespace
}  // namespace patrickstar::bridge
