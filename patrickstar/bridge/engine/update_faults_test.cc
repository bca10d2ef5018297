// Errors of the disk in the middle of updates: the user hears of it once, calls step() again or goes on, and the result is bit
// for bit that of a run without the error. Where it cannot be, the engine says what state it is in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "patrickstar/bridge/engine/update_test_util.h"
#include "patrickstar/core/io/testing/faulty_file_ops.h"

namespace patrickstar::bridge {
namespace {

using testing::AllOf;
using testing::HasSubstr;

auto names_the_disk_error() { return AllOf(HasSubstr("chunk "), HasSubstr(std::strerror(EIO))); }

class UpdateFaults : public testing::TestWithParam<GradientPlacement> {
 protected:
  // What three steps leave when nothing fails.
  std::vector<at::Tensor> three_steps(const std::function<void(UpdateRig&)>& before_second = {}) {
    UpdateRig calm(UpdateTiming::kAtStep, GetParam());
    calm.step();
    if (before_second) before_second(calm);
    calm.step();
    calm.step();
    return calm.values();
  }
  void break_disk(std::int64_t every = 1) { files.fail_every(FileCall::kRead, every, EIO); }
  void repair_disk() {
    EXPECT_GT(files.injected(FileCall::kRead), 0);
    files.fail_every(FileCall::kRead, 0, 0);
  }
  FaultyFileOps files;
};

TEST_P(UpdateFaults, StepAgainGoesOnWhereItStopped) {
  const auto expected = three_steps();
  UpdateRig rig(UpdateTiming::kAtStep, GetParam(), &files);
  rig.step();
  rig.backward();
  rig.send_tiles_down();
  break_disk(7);
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), names_the_disk_error());
  repair_disk();
  EXPECT_TRUE(!rig.due(0) && rig.due(3)) << "some are updated and others not";
  EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "");
  EXPECT_FALSE(rig.due(3));
  rig.optimizer->zero_grad();
  rig.step();
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateFaults, WhoGoesOnAfterAStepThatFailedLosesNothing) {
  const auto expected = three_steps();
  UpdateRig rig(UpdateTiming::kAtStep, GetParam(), &files);
  rig.step();
  rig.backward();
  rig.send_tiles_down();
  break_disk(7);
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), names_the_disk_error());
  repair_disk();
  rig.optimizer->zero_grad();
  rig.step();
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateFaults, AGradientThatStayedIsKeptForTheUpdateThatIsDue) {
  const auto expected = three_steps();
  UpdateRig rig(UpdateTiming::kAtStep, GetParam(), &files, kRoomy);
  rig.step();
  rig.backward();
  ASSERT_NE(rig.engine.core()->find(rig.weight(3).unsafeGetTensorImpl())->gradient_beside(), nullptr);
  rig.send_tiles_down();
  break_disk(7);
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), names_the_disk_error());
  repair_disk();
  ASSERT_TRUE(rig.due(3));
  rig.optimizer->zero_grad();  // the update that is due reads it yet
  rig.step();
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateFaults, AnUpdateThatFailsInForwardIsCompletedByTheNextForward) {
  const auto expected = three_steps();
  UpdateRig rig(UpdateTiming::kDeferred, GetParam(), &files);
  rig.step();
  rig.step();
  rig.send_tiles_down();
  break_disk(7);
  EXPECT_THAT(error_of([&] { (void)rig.forward(); }), names_the_disk_error());
  repair_disk();
  rig.backward();
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), AllOf(HasSubstr("step() did nothing"), names_the_disk_error()));
  EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "") << "told once";
  rig.optimizer->zero_grad();
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateFaults, AnUpdateThatFailsInBackwardIsPutOff) {
  const auto expected = three_steps();
  UpdateRig rig(UpdateTiming::kOverlapped, GetParam(), &files);
  rig.step();
  const at::Tensor loss = rig.forward();
  rig.send_tiles_down();
  break_disk();
  EXPECT_EQ(error_of([&] { loss.backward(); }), "");
  EXPECT_EQ(files.injected(FileCall::kRead), 1) << "after the first that failed none is tried: each could wait for its time-out";
  EXPECT_TRUE(rig.due(3));
  EXPECT_FALSE(rig.passing(3)) << "what is left lies where it can be evicted";
  EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "");
  rig.optimizer->zero_grad();
  EXPECT_THAT(error_of([&] { (void)rig.forward(); }), names_the_disk_error()) << "whoever needs it is told";
  repair_disk();
  rig.backward();
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), HasSubstr("step() did nothing"));
  EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "");
  rig.optimizer->zero_grad();
  EXPECT_TRUE(same(rig.values(), expected));
}

TEST_P(UpdateFaults, ABackwardThatFailedCanBeDoneAgainWhereNothingWasUpdatedInIt) {
  const auto expected = three_steps();
  for (const UpdateTiming timing : {UpdateTiming::kAtStep, UpdateTiming::kDeferred}) {
    UpdateRig rig(timing, GetParam(), &files);
    rig.step();
    const at::Tensor loss = rig.forward();
    for (int layer = 0; layer < 2; ++layer) rig.runtime->manager().give_up(rig.chunk(layer).param);
    throw_if_error(rig.runtime->manager().drain());
    break_disk();
    EXPECT_THAT(error_of([&] { loss.backward(); }), names_the_disk_error());
    repair_disk();
    rig.optimizer->zero_grad();
    EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), HasSubstr("step() did nothing"));
    rig.step();
    rig.step();
    EXPECT_TRUE(same(rig.values(), expected));
  }
}

TEST_P(UpdateFaults, ABackwardThatFailedAfterOverlappedUpdatesSaysHowManyAreAStepAhead) {
  UpdateRig rig(UpdateTiming::kOverlapped, GetParam(), &files);
  rig.step();
  const at::Tensor loss = rig.forward();
  for (int layer = 0; layer < 2; ++layer) rig.runtime->manager().give_up(rig.chunk(layer).param);
  throw_if_error(rig.runtime->manager().drain());
  break_disk();
  EXPECT_THAT(error_of([&] { loss.backward(); }), names_the_disk_error());
  repair_disk();
  const std::string text = error_of([&] { rig.optimizer->step(); });
  EXPECT_THAT(text, AllOf(HasSubstr("step() did nothing"), HasSubstr("of 8 parameters have got their update in that backward"),
                          HasSubstr("resume from a checkpoint"), names_the_disk_error()));
  for (const at::Tensor& value : rig.values()) EXPECT_TRUE(value.isfinite().all().item<bool>());
  EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "");
  rig.optimizer->zero_grad();
  EXPECT_EQ(error_of([&] { rig.step(); }), "") << "the engine stays usable";
  rig.runtime->manager().check_invariants();
}

TEST_P(UpdateFaults, AnErrorOfTheUsersInBackwardAfterOverlappedUpdatesIsSaidByStep) {
  UpdateRig rig(UpdateTiming::kOverlapped, GetParam(), &files);
  rig.step();
  bool bad = true;
  rig.weight(0).register_hook([&](at::Tensor) {
    if (bad) throw std::runtime_error("a bad batch");
  });
  EXPECT_THAT(error_of([&] { rig.backward(); }), HasSubstr("a bad batch"));
  bad = false;
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }),
              AllOf(HasSubstr("backward() ended with an error"), HasSubstr("of 8 parameters have got their update")));
  EXPECT_EQ(error_of([&] { rig.optimizer->step(); }), "") << "told once";
  rig.optimizer->zero_grad();
  EXPECT_EQ(error_of([&] { rig.step(); }), "") << "a whole backward is no error";
  rig.runtime->manager().check_invariants();
}

TEST_P(UpdateFaults, AGradientThatCouldNotBeTakenIsToldByStepToo) {
  UpdateRig rig(UpdateTiming::kDeferred, GetParam(), &files);
  rig.step();
  const at::Tensor loss = rig.forward();
  const auto& payloads = rig.chunk(1);
  rig.weight(1).register_hook([&](at::Tensor) {  // just before it is taken
    for (const PayloadId payload : {payloads.param, payloads.grad}) {
      if (payload.valid()) rig.runtime->manager().give_up(payload);
    }
    throw_if_error(rig.runtime->manager().drain());
    break_disk();
  });
  EXPECT_THAT(error_of([&] { loss.backward(); }), names_the_disk_error());
  repair_disk();
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), AllOf(HasSubstr("step() did nothing"), names_the_disk_error()));
  // Autograd's queue of this thread holds nodes of a backward that failed, and so our parameters, until it runs another.
  at::ones({1}).requires_grad_().sum().backward();
}

TEST_P(UpdateFaults, AWriteByTheUserIsNotForgotten) {
  const auto write = [](UpdateRig& rig) {
    const at::NoGradGuard no_grad;
    rig.weight(1).mul_(0.5);
  };
  const auto expected = three_steps(write);
  UpdateRig rig(UpdateTiming::kDeferred, GetParam(), &files);
  rig.step();
  write(rig);
  at::Tensor loss = rig.forward();
  if (GetParam() == GradientPlacement::kInParameter) {  // the master takes it over when the gradient arrives, else in step()
    rig.send_tiles_down();
    break_disk();
    EXPECT_THAT(error_of([&] { loss.backward(); }), names_the_disk_error());
    repair_disk();
    rig.optimizer->zero_grad();
    EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), HasSubstr("step() did nothing"));
    rig.backward();
  } else {
    loss.backward();
    rig.send_tiles_down();
    break_disk();
    EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), names_the_disk_error());
    repair_disk();
  }
  rig.optimizer->step();
  rig.optimizer->zero_grad();
  rig.step();
  EXPECT_TRUE(same(rig.values(), expected));
}

INSTANTIATE_TEST_SUITE_P(Gradients, UpdateFaults, testing::Values(GradientPlacement::kInParameter, GradientPlacement::kOwnChunks),
                         [](const auto& test) {
                           return test.param == GradientPlacement::kInParameter ? "in_parameter" : "own_chunks";
                         });

}  // namespace
}  // namespace patrickstar::bridge
