#include "patrickstar/core/policy/non_model_peaks.h"

#include <gtest/gtest.h>

#include <vector>

namespace patrickstar {
namespace {

using Verdict = NonModelPeaks::Verdict;

class NonModelPeaksTest : public testing::Test {
 protected:
  NonModelPeaksTest() : trace_(needing({40, 100, 30})) { peaks_.planned(trace_); }

  static Trace needing(const std::vector<Bytes>& non_model) {
    Trace trace;
    for (const Bytes bytes : non_model) trace.moments.push_back({.non_model = bytes});
    return trace;
  }
  Verdict step(const std::vector<Bytes>& non_model, bool calm = true) {
    for (std::size_t m = 0; m < non_model.size(); ++m) {
      if (non_model[m] >= 0) peaks_.saw(m, non_model[m]);
    }
    const Verdict verdict = peaks_.step_done(calm, /*slack=*/5, /*worth=*/20, &trace_);
    if (verdict != Verdict::kAsPlanned) peaks_.planned(trace_);
    return verdict;
  }
  std::vector<Bytes> needs() const {
    std::vector<Bytes> all;
    for (const Moment& moment : trace_.moments) all.push_back(moment.non_model);
    return all;
  }

  Trace trace_;
  NonModelPeaks peaks_;
};

TEST_F(NonModelPeaksTest, MoreAtAnyMomentIsMore) {
  EXPECT_EQ(step({40, 100, 35}), Verdict::kAsPlanned) << "within the slack";
  EXPECT_EQ(needs(), (std::vector<Bytes>{40, 100, 35})) << "but the next plan knows it";
  EXPECT_EQ(step({40, 100, 36}), Verdict::kMore) << "by what was planned with, not by what was seen since";
  EXPECT_EQ(needs(), (std::vector<Bytes>{40, 100, 36}));
}

TEST_F(NonModelPeaksTest, LessInFourCalmStepsIsLessForGood) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(step({40, 50 + i, 30}), Verdict::kAsPlanned);
  EXPECT_EQ(step({20, 50, 30}), Verdict::kLessForGood);
  EXPECT_EQ(needs(), (std::vector<Bytes>{40, 52, 30})) << "the most of the four";
  for (int i = 0; i < 20; ++i) EXPECT_EQ(step({40, 52, 30}), Verdict::kAsPlanned);
}

TEST_F(NonModelPeaksTest, ALittleLessIsNotWorthAPlan) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(step({40, 80, 30}), Verdict::kAsPlanned);
  EXPECT_EQ(needs(), (std::vector<Bytes>{40, 100, 30}));
}

TEST_F(NonModelPeaksTest, OneLongStepAmongShortOnesIsEnough) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(step({40, i % 4 == 2 ? 90 : 20, 30}), Verdict::kAsPlanned);
}

TEST_F(NonModelPeaksTest, StepsThatDeviateSayNothing) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(step({40, 0, 30}, /*calm=*/false), Verdict::kAsPlanned);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(step({40, 0, 30}, /*calm=*/i % 2 != 0), Verdict::kAsPlanned);
  EXPECT_EQ(step({40, 0, 30}), Verdict::kLessForGood) << "an evaluation between steps does not begin the count anew";
}

TEST_F(NonModelPeaksTest, AMomentThatWasNotSeenCountsAsPlanned) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(step({40, -1, 30}), Verdict::kAsPlanned) << "it may need as much as ever";
  for (int i = 0; i < 3; ++i) EXPECT_EQ(step({-1, 50, 30}), Verdict::kAsPlanned);
  EXPECT_EQ(step({-1, 50, 30}), Verdict::kLessForGood);
  EXPECT_EQ(needs(), (std::vector<Bytes>{40, 50, 30}));
}

TEST_F(NonModelPeaksTest, MoreFarFromThePeakDoesNotHideThatThePeakIsLower) {
  for (int i = 0; i < 3; ++i) {
    peaks_.saw(0, 60);
    peaks_.saw(1, 70);
    EXPECT_EQ(peaks_.step_done(true, 5, 20, &trace_), Verdict::kMore);  // nothing gave way to it: no new plan
  }
  EXPECT_EQ(step({60, 70, 30}), Verdict::kLessForGood);
}

TEST_F(NonModelPeaksTest, WhoWasWrongLooksBackTwiceAsFar) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(step({40, 50, 30}), Verdict::kAsPlanned);
  EXPECT_EQ(step({40, 50, 30}), Verdict::kLessForGood);
  EXPECT_EQ(step({40, 100, 30}), Verdict::kMore);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(step({40, 50, 30}), Verdict::kAsPlanned);
  EXPECT_EQ(step({40, 50, 30}), Verdict::kLessForGood);
}

TEST_F(NonModelPeaksTest, AForgottenPassWasNoStep) {
  peaks_.saw(1, 500);
  peaks_.forget_pass();
  EXPECT_EQ(step({40, 100, 30}), Verdict::kAsPlanned);
  EXPECT_EQ(needs(), (std::vector<Bytes>{40, 100, 30}));
}

}  // namespace
}  // namespace patrickstar
