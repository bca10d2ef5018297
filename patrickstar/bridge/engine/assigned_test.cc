// Storages and gradients that the user assigns, holds or throws away: each is what plain LibTorch makes of it, or refused by
// name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/serialize.h>

#include <cerrno>
#include <functional>
#include <sstream>
#include <string>

#include "patrickstar/bridge/engine/update_test_util.h"
#include "patrickstar/core/io/testing/faulty_file_ops.h"

namespace patrickstar::bridge {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Assigned : public testing::TestWithParam<GradientPlacement> {
 protected:
  // What a step leaves when `change` comes between backward and step().
  std::vector<at::Tensor> after_a_step(const std::function<void(UpdateRig&)>& change, Bytes budget) {
    UpdateRig rig(UpdateTiming::kDeferred, GetParam(), &posix_file_ops(), budget);
    rig.step();
    rig.backward();
    change(rig);
    rig.optimizer->clip_grad_norm_(0.5);
    rig.optimizer->step();
    rig.optimizer->zero_grad();
    return rig.values();
  }
};

TEST_P(Assigned, AGradientPutInByHandIsTheOneThatCounts) {
  for (const Bytes budget : {kTight, kRoomy}) {
    const auto expected = after_a_step([](UpdateRig& rig) { rig.weight(1).mutable_grad().mul_(0.5); }, budget);
    const auto replaced =
        after_a_step([](UpdateRig& rig) { rig.weight(1).mutable_grad() = rig.weight(1).grad().clone().mul_(0.5); }, budget);
    EXPECT_TRUE(same(replaced, expected));
    const auto taken_away = after_a_step([](UpdateRig& rig) { rig.weight(1).mutable_grad() = at::Tensor(); }, budget);
    EXPECT_FALSE(same(taken_away, expected));
  }
}

TEST_P(Assigned, AnotherParametersGradientMayServe) {
  for (const Bytes budget : {kTight, kRoomy}) {
    const auto expected = after_a_step([](UpdateRig& rig) { rig.weight(1).mutable_grad().copy_(rig.weight(2).grad()); }, budget);
    const auto shared = after_a_step([](UpdateRig& rig) { rig.weight(1).mutable_grad() = rig.weight(2).grad(); }, budget);
    EXPECT_TRUE(same(shared, expected));
  }
}

TEST_P(Assigned, AnEarlierGradientMayBePutBackWhereItsBytesAreStillThere) {
  for (const Bytes budget : {kTight, kRoomy}) {
    const auto expected = after_a_step([](UpdateRig&) {}, budget);
    const auto put_back = after_a_step(
        [](UpdateRig& rig) {
          const at::Tensor earlier = rig.weight(1).grad();
          rig.weight(1).mutable_grad() = at::Tensor();
          rig.weight(1).mutable_grad() = earlier;
        },
        budget);
    EXPECT_TRUE(same(put_back, expected));
  }
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
  rig.step();
  rig.backward();
  const at::Tensor earlier = rig.weight(1).grad();
  rig.optimizer->zero_grad();
  rig.backward();
  rig.weight(1).mutable_grad() = earlier;  // the next one lies in its place
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), HasSubstr("earlier backward"));
  rig.optimizer->zero_grad();
}

TEST_P(Assigned, AGradientOfAnotherShapeIsRefused) {
  for (const Bytes budget : {kTight, kRoomy}) {
    UpdateRig rig(UpdateTiming::kDeferred, GetParam(), &posix_file_ops(), budget);
    rig.weight(1).mutable_grad() = at::ones({2 * kWidth, kWidth}, at::kBFloat16);
    EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), AllOf(HasSubstr("1.weight"), HasSubstr("[1024, 512], not [512, 512]")));
    rig.optimizer->zero_grad();
  }
}

TEST_P(Assigned, AGradientCountsWithoutABackwardWhateverTheSchedule) {
  std::vector<std::vector<at::Tensor>> found;
  for (const UpdateTiming timing : {UpdateTiming::kAtStep, UpdateTiming::kDeferred, UpdateTiming::kOverlapped}) {
    UpdateRig rig(timing, GetParam());
    rig.step();
    for (int i = 0; i < 2; ++i) {
      rig.weight(2).mutable_grad() = at::full({kWidth, kWidth}, 0.25, at::kBFloat16);
      EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "");
      rig.optimizer->zero_grad();
    }
    rig.step();
    found.push_back(rig.values());
  }
  EXPECT_TRUE(same(found[1], found[0]));
  EXPECT_TRUE(same(found[2], found[0]));
}

TEST_P(Assigned, AGradientThatCouldNotBeTakenIsTakenByStepAgain) {
  FaultyFileOps files;
  const auto run = [&](bool fails) {
    UpdateRig rig(UpdateTiming::kDeferred, GetParam(), &files);
    rig.step();
    {
      const at::NoGradGuard no_grad;
      rig.weight(1).mul_(0.5);  // the master has to take it over before the gradient takes the place
    }
    rig.weight(1).mutable_grad() = at::full({kWidth, kWidth}, 0.25, at::kBFloat16);
    if (fails) {
      rig.send_tiles_down();
      files.fail_every(FileCall::kRead, 1, EIO);
      EXPECT_NE(error_of([&] { rig.optimizer->step(); }), "");
      EXPECT_GT(files.injected(FileCall::kRead), 0);
      files.fail_every(FileCall::kRead, 0, 0);
    }
    EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "");
    rig.optimizer->zero_grad();
    return rig.values();
  };
  const auto expected = run(false);
  EXPECT_TRUE(same(run(true), expected));
}

TEST_P(Assigned, AGradientThatIsOnlyHeldIsNotApplied) {
  for (const Bytes budget : {kTight, kRoomy}) {
    const auto expected = after_a_step([](UpdateRig& rig) { rig.optimizer->zero_grad(); }, budget);
    at::Tensor held;
    const auto values = after_a_step(
        [&](UpdateRig& rig) {
          held = rig.weight(1).grad();
          rig.optimizer->zero_grad();
        },
        budget);
    EXPECT_TRUE(same(values, expected));
  }
}

TEST_P(Assigned, AGradientThatIsHeldNeverShowsOtherBytes) {
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
  rig.step();
  rig.backward();
  const at::Tensor held = rig.weight(1).grad();
  const at::Tensor before = held.clone();
  rig.optimizer->zero_grad();
  EXPECT_TRUE(at::equal(held, before)) << "nothing has taken its place yet";
  rig.backward();
  EXPECT_THAT(error_of([&] { held.zero_(); }), AllOf(HasSubstr("1.weight"), HasSubstr("earlier backward")));
  EXPECT_GT(rig.weight(1).grad().abs().sum().item<float>(), 0);
  EXPECT_NE(error_of([&] { rig.optimizer->step(); }), "") << "an operator failed: told once";
  EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "");
  rig.optimizer->zero_grad();
  rig.runtime->manager().check_invariants();
}

TEST_P(Assigned, AFileIsNotLoadedPastTheEngine) {
  std::stringstream file;
  torch::save(torch::nn::Sequential(torch::nn::Linear(kWidth, kWidth)), file);
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
  const auto before = rig.values();
  EXPECT_THAT(error_of([&] { torch::load(rig.model, file); }), AllOf(HasSubstr("0.weight"), HasSubstr("Engine::release()")));
  EXPECT_TRUE(same(rig.values(), before));
}

TEST_P(Assigned, AParameterWithAnotherStorageIsNotTrainedUnaware) {
  const auto names_it = AllOf(HasSubstr("0.weight has another storage"), HasSubstr("before attach()"));
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
  rig.step();
  rig.weight(0).set_data(rig.weight(0).detach().clone());
  EXPECT_THAT(error_of([&] { rig.backward(); }), HasSubstr("another storage"));
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), HasSubstr("another storage")) << "an operator failed: told once";
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), names_it);
  EXPECT_THAT(error_of([&] { rig.engine.visit([](const std::string&, const char*, const void*, Bytes) {}); }), names_it);
  EXPECT_THAT(error_of([&] { rig.engine.attach(*rig.model); }), names_it);
  rig.model->to(at::kFloat);  // makes autograd forget our hook as well
  rig.model->to(at::kBFloat16);
  rig.optimizer->zero_grad();
  rig.backward();
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), names_it);
  // Autograd's queue of this thread holds nodes of a backward that failed, and so our parameters, until it runs another.
  at::ones({1}).requires_grad_().sum().backward();
}

TEST_P(Assigned, WhatWasFrozenWhenItWasAttachedCannotBeTrained) {
  auto runtime = Runtime::create({.memory_budget = kRoomy, .spill_dir = testing::TempDir()});
  Engine engine(runtime, {.gradients = GetParam()});
  torch::nn::Sequential model(torch::nn::Linear(kWidth, kWidth), torch::nn::Linear(kWidth, kWidth));
  model->parameters()[0].requires_grad_(false);
  engine.attach(*model);
  ChunkedAdamW optimizer(engine, model->parameters());
  model->parameters()[0].requires_grad_(true);
  model->forward(at::ones({1, kWidth}, at::kBFloat16)).sum().backward();
  EXPECT_THAT(error_of([&] { optimizer.step(); }), AllOf(HasSubstr("0.weight"), HasSubstr("frozen when it was attached")));
}

TEST_P(Assigned, WhatWasReleasedIsNotTakenForAttached) {
  UpdateRig rig(UpdateTiming::kDeferred, GetParam());
  Engine second(rig.runtime, {.gradients = GetParam()});
  EXPECT_THAT(error_of([&] { second.attach(*rig.model); }), AllOf(HasSubstr("0.weight"), HasSubstr("release()")));
  rig.engine.release(*rig.model);
  EXPECT_THAT(error_of([&] { rig.engine.attach(*rig.model); }), AllOf(HasSubstr("0.weight"), HasSubstr("was released")));
  rig.backward();
  EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "") << "nothing here is to be trained any more";
  EXPECT_NE(rig.weight(0).grad().data_ptr(), nullptr) << "an ordinary gradient";
  rig.optimizer->zero_grad();
  rig.optimizer.reset();
  EXPECT_THAT(error_of([&] { ChunkedAdamW(rig.engine, rig.model->parameters()); }), HasSubstr("is not attached"));
  second.attach(*rig.model);
  ChunkedAdamW optimizer(second, rig.model->parameters());
  const at::Tensor before = rig.weight(0).detach().clone();
  rig.backward();
  optimizer.step();
  EXPECT_FALSE(at::equal(rig.weight(0), before));
}

INSTANTIATE_TEST_SUITE_P(Gradients, Assigned, testing::Values(GradientPlacement::kInParameter, GradientPlacement::kOwnChunks),
                         [](const auto& test) {
                           return test.param == GradientPlacement::kInParameter ? "in_parameter" : "own_chunks";
                         });

}  // namespace
}  // namespace patrickstar::bridge
