// When updates run: whoever looks at a parameter sees what step() at once would have left there, bit for bit.
#include "patrickstar/bridge/engine/update_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/serialize.h>

#include <algorithm>
#include <functional>
#include <sstream>

#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/bridge/engine/update_test_util.h"

namespace patrickstar::bridge {
namespace {

using testing::HasSubstr;

// What `loop` leaves with updates at step(): what every other schedule must leave.
std::vector<at::Tensor> at_step(GradientPlacement gradients, const std::function<void(UpdateRig&)>& loop) {
  UpdateRig rig(UpdateTiming::kAtStep, gradients);
  loop(rig);
  return rig.values();
}

class UpdateScheduleTest : public testing::TestWithParam<GradientPlacement> {};

TEST_P(UpdateScheduleTest, AnUpdateThatIsPutOffUsesTheHyperparametersOfItsStep) {
  const auto loop = [](UpdateRig& rig) {
    for (int step = 0; step < 3; ++step) {
      rig.backward();
      rig.optimizer->clip_grad_norm_(0.1);
      rig.optimizer->step();
      rig.optimizer->zero_grad();
      rig.set_lr(step == 0 ? 5e-3 : 1.0);  // after the step: must not reach what is due
    }
  };
  const auto expected = at_step(GetParam(), loop);
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
  loop(rig);
  EXPECT_TRUE(rig.due(0) && rig.due(3)) << "else nothing was put off";
  EXPECT_TRUE(same(rig.values(), expected));
  EXPECT_FALSE(rig.due(0) || rig.due(3));
}

TEST_P(UpdateScheduleTest, ClippingEndsWithTheGradientsItWasFor) {
  const auto loop = [](UpdateRig& rig, bool clip_what_is_dropped) {
    for (int step = 0; step < 2; ++step) {
      rig.backward();
      if (clip_what_is_dropped) rig.optimizer->clip_grad_norm_(1e-4);
      rig.optimizer->zero_grad();  // as after a step() that failed
      rig.step();
    }
  };
  const auto expected = at_step(GetParam(), [&](UpdateRig& rig) { loop(rig, false); });
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
  loop(rig, true);
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateScheduleTest, AGradientOnTopOfAClippedOneIsRefused) {
  const auto expected = at_step(GetParam(), [](UpdateRig& rig) { rig.step(); });
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
  rig.backward();
  rig.optimizer->clip_grad_norm_(1e-4);
  EXPECT_THAT(error_of([&] { rig.backward(); }), HasSubstr("clip after the last backward()"));
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), HasSubstr("step() did nothing"));
  rig.optimizer->zero_grad();
  rig.step();
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateScheduleTest, AWriteAfterStepComesAfterTheUpdate) {
  const auto loop = [](UpdateRig& rig) {
    for (int step = 0; step < 3; ++step) {
      rig.backward();
      rig.optimizer->step();
      const at::NoGradGuard no_grad;
      rig.weight(1).mul_(0.5);
      rig.optimizer->zero_grad();
    }
  };
  const auto expected = at_step(GetParam(), loop);
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
  loop(rig);
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateScheduleTest, DueUpdatesOutliveTheOptimizerAndReachVisitors) {
  const auto loop = [](UpdateRig& rig) {
    rig.backward();
    rig.optimizer->step();
    rig.optimizer->zero_grad();
  };
  const auto expected = at_step(GetParam(), loop);
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
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
  const auto loop = [](UpdateRig& rig) {
    for (int step = 0; step < 3; ++step) {
      rig.set_lr(1e-2 / (1 + step));
      rig.backward();
      rig.optimizer->step();
      rig.optimizer->zero_grad();
    }
  };
  const auto expected = at_step(GetParam(), loop);
  UpdateRig rig(UpdateTiming::kOverlapped, GetParam());
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
  UpdateRig rig(UpdateTiming::kDeferred, GradientPlacement::kOwnChunks);
  rig.backward();
  const at::Tensor gradient = rig.weight(1).grad().clone();
  rig.optimizer->step();
  ASSERT_TRUE(rig.due(1));
  EXPECT_TRUE(at::equal(rig.weight(1).grad(), gradient));
  EXPECT_FALSE(rig.due(1)) << "who may change the gradient has its update completed first";
}

TEST(UpdateSchedule, OverlappedRefusesWhatItCannotDo) {
  UpdateRig rig(UpdateTiming::kOverlapped);
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

TEST(UpdateSchedule, AnEngineHasOneOptimizerAtATime) {
  UpdateRig rig(UpdateTiming::kDeferred);
  std::string text;
  try {
    ChunkedAdamW second(rig.engine, {rig.weight(0)});
  } catch (const std::exception& error) {
    text = error.what();
  }
  EXPECT_THAT(text, HasSubstr("has an optimizer already"));
  rig.optimizer.reset();
  ChunkedAdamW second(rig.engine, {rig.weight(0)});
}

TEST(UpdateSchedule, WhereGradientsHaveChunksAQuarterOfTheTilesWaitsByWholeChunks) {
  auto runtime = Runtime::create({.memory_budget = kRoomy,
                                  .spill_dir = testing::TempDir(),
                                  .layout = {.chunk_elems = kWidth * kWidth + 1024, .tile_elems = kWidth * kWidth / 4}});
  Engine engine(runtime, {.gradients = GradientPlacement::kOwnChunks});
  torch::nn::Sequential model;
  model->push_back(torch::nn::Linear(kWidth, 8 * kWidth));  // a chunk of eight times as many tiles
  for (int i = 0; i < 16; ++i) model->push_back(torch::nn::Linear(kWidth, kWidth));
  engine.attach(*model);
  std::size_t all = 0, waiting = 0, mixed = 0;
  const ModelData& data = engine.core()->data();
  for (std::size_t c = 0; c < data.layout().chunks(); ++c) {
    const auto& tiles = data.chunk(ChunkId(c)).tiles;
    const auto waits = static_cast<std::size_t>(
        std::count_if(tiles.begin(), tiles.end(), [](const TilePayload& tile) { return tile.waits_for_forward; }));
    all += tiles.size();
    waiting += waits;
    mixed += waits != 0 && waits != tiles.size() ? 1 : 0;
  }
  EXPECT_EQ(mixed, 0u);
  EXPECT_GE(5 * waiting, all) << waiting << " of " << all;
  EXPECT_LE(4 * waiting, all) << waiting << " of " << all;
}

TEST(UpdateSchedule, AQuarterOfTheTilesWaitsForForwardHoweverManyAChunkHas) {
  for (const Elems tile : {kWidth * kWidth + 1024, kWidth * kWidth / 2, kWidth * kWidth / 4}) {
    auto runtime = Runtime::create({.memory_budget = kRoomy,
                                    .spill_dir = testing::TempDir(),
                                    .layout = {.chunk_elems = kWidth * kWidth + 1024, .tile_elems = tile}});
    Engine engine(runtime, {});
    torch::nn::Sequential model;
    for (int i = 0; i < 12; ++i) model->push_back(torch::nn::Linear(kWidth, kWidth));
    engine.attach(*model);
    int all = 0, waiting = 0;
    const ModelData& data = engine.core()->data();
    for (std::size_t c = 0; c < data.layout().chunks(); ++c) {
      for (const TilePayload& payload : data.chunk(ChunkId(c)).tiles) {
        ++all;
        waiting += payload.waits_for_forward ? 1 : 0;
      }
    }
    EXPECT_EQ(waiting, all / 4) << all;
  }
}

// An update that is the last to read its chunk's gradients discards them before the plan can let them go.
TEST(UpdateSchedule, GradientsThatDiedWithTheirUpdateAreNotWritten) {
  constexpr std::int64_t kWide = 1024;
  auto runtime = Runtime::create({.memory_budget = 56 * kMiB,
                                  .spill_dir = testing::TempDir(),
                                  .layout = {.chunk_elems = kWide * kWide + 1024, .tile_elems = 256 * 1024}});
  Engine engine(runtime, {.dtype = DType::kFloat32, .gradients = GradientPlacement::kOwnChunks});
  torch::nn::Sequential model;
  for (int i = 0; i < 8; ++i) model->push_back(torch::nn::Linear(kWide, kWide));
  engine.attach(*model);
  ChunkedAdamW optimizer(engine, model->parameters(), torch::optim::AdamWOptions(1e-2), UpdateTiming::kDeferred);
  const auto grad = [&] { return runtime->manager().stats().kinds[static_cast<std::size_t>(PayloadKind::kGrad)]; };
  KindTraffic before{};
  for (int i = 0; i < 10; ++i) {
    if (i == 6) before = grad();
    model->forward(at::full({4, kWide}, 0.5)).square().sum().backward();
    optimizer.step();
    optimizer.zero_grad();
  }
  EXPECT_GT(grad().fetches, before.fetches) << "they have to leave and come back for their updates";
  // A few more where one is used again while its write-back goes on. With dead ones it was three times as many.
  EXPECT_LE(grad().write_backs - before.write_backs, grad().fetches - before.fetches + 4);
}

TEST(UpdateSchedule, TheOptimizerRefusesArchives) {
  UpdateRig rig(UpdateTiming::kDeferred);
  std::stringstream archive;
  EXPECT_THAT(error_of([&] { torch::save(*rig.optimizer, archive); }), HasSubstr("Engine::visit()"));
  torch::serialize::InputArchive none;
  EXPECT_THAT(error_of([&] { rig.optimizer->load(none); }), HasSubstr("Engine::visit()"));
}

// parameter.h, [Note: passing gradients]
TEST(UpdateSchedule, AGradientThatPassedIsGoneAfterBackward) {
  UpdateRig rig(UpdateTiming::kOverlapped);
  rig.backward();
  for (int layer = 0; layer < kLayers; ++layer) EXPECT_FALSE(rig.passing(layer)) << layer;
  EXPECT_TRUE(rig.due(0)) << "some tiles wait for forward";
}

TEST(UpdateSchedule, AGradientThatNoUpdateFollowsLiesWhereItBelongs) {
  const auto gradients = [](UpdateRig& rig) {
    std::vector<at::Tensor> found;
    for (int layer = 0; layer < kLayers; ++layer) found.push_back(rig.weight(layer).grad().clone());
    return found;
  };
  std::vector<at::Tensor> expected;
  {
    UpdateRig calm(UpdateTiming::kAtStep);
    calm.backward();
    expected = gradients(calm);
  }
  {
    UpdateRig rig(UpdateTiming::kOverlapped);
    rig.optimizer.emplace(rig.engine, std::vector<at::Tensor>{rig.weight(0)}, torch::optim::AdamWOptions(1e-2),
                          UpdateTiming::kOverlapped);
    rig.backward();
    for (int layer = 1; layer < kLayers; ++layer) {
      EXPECT_TRUE(at::equal(rig.weight(layer).grad(), expected[static_cast<std::size_t>(layer)])) << layer;
      EXPECT_FALSE(rig.passing(layer)) << layer;
    }
  }
  {
    UpdateRig rig(UpdateTiming::kOverlapped);  // the options of the weights became impossible: nothing is put
    std::vector<torch::optim::OptimizerParamGroup> groups;
    std::vector<at::Tensor> weights, biases;
    for (const auto& parameter : rig.model->parameters()) (parameter.dim() == 2 ? weights : biases).push_back(parameter);
    groups.emplace_back(biases);
    groups.emplace_back(weights);
    rig.optimizer.emplace(rig.engine, groups, torch::optim::AdamWOptions(1e-2), UpdateTiming::kOverlapped);
    static_cast<torch::optim::AdamWOptions&>(rig.optimizer->param_groups()[1].options()).amsgrad(true);
    EXPECT_THROW(rig.backward(), std::exception);
    EXPECT_TRUE(at::equal(rig.weight(kLayers - 1).grad(), expected[kLayers - 1]));
    EXPECT_FALSE(rig.passing(kLayers - 1));
  }
  // Autograd's queue of this thread holds nodes of a backward that failed, and so our parameters, until it runs another.
  at::ones({1}).requires_grad_().sum().backward();
}

// A gradient that is in no group stays, and the next backward adds to it.
TEST(UpdateSchedule, ClippingEndsWithTheStepAlsoForWhatItDoesNotUpdate) {
  UpdateRig rig(UpdateTiming::kDeferred, GradientPlacement::kOwnChunks);
  rig.optimizer.emplace(rig.engine, std::vector<at::Tensor>{rig.weight(0)}, torch::optim::AdamWOptions(1e-2));
  for (int step = 0; step < 2; ++step) {
    EXPECT_EQ(error_of([&] { rig.backward(); }), "");
    rig.optimizer->clip_grad_norm_(1e-4);
    rig.optimizer->step();
    rig.optimizer->zero_grad();
  }
}

TEST(UpdateSchedule, AGradientThatAStepConsumedIsNotPassedOverInSilence) {
  const auto expected = at_step(GradientPlacement::kInParameter, [](UpdateRig& rig) {
    rig.step();
    rig.step();
  });
  for (const UpdateTiming timing : {UpdateTiming::kAtStep, UpdateTiming::kDeferred, UpdateTiming::kOverlapped}) {
    for (const Bytes budget : {kTight, kRoomy}) {
      UpdateRig rig(timing, GradientPlacement::kInParameter, &posix_file_ops(), budget);
      rig.backward();
      rig.optimizer->step();
      EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), HasSubstr("an earlier step() consumed"));
      rig.optimizer->zero_grad();
      rig.step();
      EXPECT_TRUE(same(rig.values(), expected));
    }
  }
}

TEST(UpdateSchedule, StepTwiceWithTheSameGradientUpdatesTwiceAsTorchDoes) {
  const auto loop = [](UpdateRig& rig) {
    rig.backward();
    rig.optimizer->step();
    rig.optimizer->step();
  };
  const auto expected = at_step(GradientPlacement::kOwnChunks, loop);
  UpdateRig rig(UpdateTiming::kDeferred, GradientPlacement::kOwnChunks);
  loop(rig);
  EXPECT_TRUE(same(rig.values(), expected));
}

}  // namespace
}  // namespace patrickstar::bridge
