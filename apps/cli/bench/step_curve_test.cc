#include "apps/cli/bench/step_curve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "patrickstar/core/base/units.h"

namespace patrickstar::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Bytes kModel = 5'000'000'000;

StepCurve curve() {
  StepCurve curve;
  curve.add(512, {.seconds = 5.4, .non_model = 600e6});
  curve.add(32, {.seconds = 1.0, .non_model = 120e6});
  curve.add(128, {.seconds = 1.56, .non_model = 216e6});
  return curve;
}

MachineFacts machine() { return {.model_data = kModel, .bytes_per_second = 2.5e9, .memory = 20'000'000'000}; }

TEST(TokenShapeTest, FewSequencesWhoseTokensAreNearest) {
  EXPECT_EQ(shape_of(1, 512), (TokenShape{1, 32}));
  EXPECT_EQ(shape_of(100, 512), (TokenShape{1, 96}));
  EXPECT_EQ(shape_of(113, 512), (TokenShape{1, 128}));
  EXPECT_EQ(shape_of(512, 512), (TokenShape{1, 512}));
  EXPECT_EQ(shape_of(520, 512), (TokenShape{1, 512}));
  EXPECT_EQ(shape_of(576, 512), (TokenShape{2, 288}));
  EXPECT_EQ(shape_of(1537, 512), (TokenShape{3, 512}));
  EXPECT_EQ(shape_of(1600, 512), (TokenShape{4, 416}));
  EXPECT_EQ(shape_of(128, 64), (TokenShape{2, 64}));
  EXPECT_EQ(shape_of(128, 70), (TokenShape{2, 64}));
  EXPECT_EQ(shape_of(4096, 100'000), (TokenShape{8, 512}));
}

TEST(StepCurveTest, StraightBetweenTheMeasuredPointsAndBeyond) {
  EXPECT_DOUBLE_EQ(curve().at(32).seconds, 1.0);
  EXPECT_DOUBLE_EQ(curve().at(80).seconds, 1.28);
  EXPECT_DOUBLE_EQ(curve().at(80).non_model, 168e6);
  EXPECT_DOUBLE_EQ(curve().at(320).seconds, 3.48);
  EXPECT_DOUBLE_EQ(curve().at(1024).seconds, 10.52);
  EXPECT_DOUBLE_EQ(curve().tokens_for(1.28), 80);
  EXPECT_DOUBLE_EQ(curve().tokens_for(3.48), 320);
  EXPECT_DOUBLE_EQ(curve().tokens_for(10.52), 1024);
}

TEST(StepCurveTest, WhatIsMeasuredLaterCounts) {
  StepCurve refined = curve();
  refined.add(512, {.seconds = 3.48});
  refined.add(256, {.seconds = 2.0});
  EXPECT_DOUBLE_EQ(refined.at(512).seconds, 3.48);
  EXPECT_DOUBLE_EQ(refined.tokens_for(2.74), 384);
}

TEST(StepCurveTest, AStretchThatDoesNotRiseIsPassed) {
  StepCurve flat = curve();
  flat.add(64, {.seconds = 0.9});
  EXPECT_NEAR(flat.tokens_for(1.23), 96, 1e-9);  // on the line from 64 to 128
  flat.add(1024, {.seconds = 5.0});
  EXPECT_EQ(flat.tokens_for(9), 1024);  // more cannot be told
}

TEST(ChooseTokens, ComputeIsTheWantedPartOfTheTransfers) {
  // 2 x 50 % x 5 GB at 2.5 GB/s: 2 s.
  const auto half = choose_tokens({.share = 0.5, .ratio = 0.78}, machine(), curve());
  ASSERT_TRUE(half.ok()) << half.status().message();
  EXPECT_EQ(half.value(), (TokenShape{1, 128}));
  const auto twice = choose_tokens({.share = 0.5, .ratio = 5.26}, machine(), curve());
  ASSERT_TRUE(twice.ok());
  EXPECT_EQ(twice.value(), (TokenShape{2, 512}));
  EXPECT_EQ(choose_tokens({.share = 0.5, .ratio = 0.5}, machine(), curve()).value(), (TokenShape{1, 32}));
}

TEST(ChooseTokens, WhatCannotBeReachedIsNamedWithTheArithmetic) {
  const auto little = choose_tokens({.share = 0.75, .ratio = 0.5}, machine(), curve());
  ASSERT_FALSE(little.ok());
  EXPECT_EQ(little.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(little.status().message(), AllOf(HasSubstr("budget 75 %, compute 0.5 x transfers"), HasSubstr("1 x 32 tokens"),
                                               HasSubstr("1.00 s already, 1.00 x the transfers"), HasSubstr("2 x 1.16 GiB at"),
                                               HasSubstr("2.50 GB/s: 1.00 s")));
  // A tenth more than wanted is near enough.
  EXPECT_TRUE(choose_tokens({.share = 0.75, .ratio = 0.92}, machine(), curve()).ok());
  EXPECT_FALSE(choose_tokens({.share = 0.75, .ratio = 0.90}, machine(), curve()).ok());

  MachineFacts spacious = machine();
  spacious.spare = 1'250'000'000;
  EXPECT_THAT(choose_tokens({.share = 0.75, .ratio = 2}, spacious, curve()).status().message(),
              HasSubstr("nothing has to leave memory: 25 % of 4.66 GiB fit into the 1.16 GiB"));
  EXPECT_EQ(choose_tokens({.share = 0.5, .ratio = 1.56}, spacious, curve()).value(), (TokenShape{1, 128}));

  MachineFacts small = machine();
  small.memory = 9'000'000'000;
  EXPECT_TRUE(choose_tokens({.share = 0.25, .ratio = 0.5}, small, curve()).ok());
  const auto much = choose_tokens({.share = 0.75, .ratio = 2}, small, curve());
  ASSERT_FALSE(much.ok());
  EXPECT_THAT(much.status().message(), AllOf(HasSubstr("tokens to compute for 2.00 s"), HasSubstr("8.38 GiB of memory")));
}

}  // namespace
}  // namespace patrickstar::cli
