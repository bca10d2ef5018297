#include "apps/cli/bench/limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "patrickstar/core/policy/plan.h"
#include "patrickstar/core/sim/synthetic.h"

namespace patrickstar::cli {
namespace {

using testing::HasSubstr;

Trace small_trace() {
  return gpt_trace({.layers = 6,
                    .hidden = 256,
                    .vocab = 2048,
                    .positions = 64,
                    .tokens = 256,
                    .recompute = Recompute::kNone,
                    .update = UpdateAt::kSplit,
                    .layout = {.chunk_elems = 1 << 18, .tile_elems = 1 << 16}});
}

StepFacts facts(const Trace& trace, double ratio) {
  StepFacts facts{.budget = budget_with_room(trace, 0.5), .bytes_per_second = 1e9};
  facts.compute = static_cast<Nanos>(ratio * static_cast<double>(trace.model_data_bytes()));  // ns: 2 x half at 1 B/ns
  return facts;
}

TEST(StepLimitTest, IsThatOfTheTraceWithTheMeasuredCompute) {
  const Trace trace = small_trace();
  const StepFacts given = facts(trace, 2);
  const auto limit = limit_of(trace, given);
  ASSERT_TRUE(limit.ok()) << limit.status().message();
  Trace scaled = trace;
  scale_compute(&scaled, given.compute);
  const StepBounds bounds = step_bounds(scaled, room_for_chunks(scaled, given.budget), given.bytes_per_second);
  EXPECT_EQ(limit.value().bounds.limit, bounds.limit);
  EXPECT_EQ(limit.value().bounds.compute, scaled.compute());
  EXPECT_NEAR(static_cast<double>(limit.value().bounds.compute), static_cast<double>(given.compute), 1e3);
  EXPECT_STREQ(limit.value().name(), "compute");
}

TEST(StepLimitTest, WithLittleComputeTheDiskIsTheLimit) {
  const auto limit = limit_of(small_trace(), facts(small_trace(), 0.01));
  ASSERT_TRUE(limit.ok());
  EXPECT_STRNE(limit.value().name(), "compute");
  EXPECT_GE(limit.value().bounds.limit, limit.value().bounds.transfers);
}

TEST(StepLimitTest, ThePredictionIsTheRealPolicysAndNotBelowTheLimit) {
  for (const double ratio : {0.2, 1.0, 4.0}) {
    const auto limit = limit_of(small_trace(), facts(small_trace(), ratio));
    ASSERT_TRUE(limit.ok());
    EXPECT_GE(limit.value().predicted, limit.value().bounds.limit) << ratio;
    EXPECT_LE(limit.value().predicted, 3 * limit.value().bounds.limit) << ratio;  // the small model's ring is tiny
  }
}

TEST(StepLimitTest, AllowedTrafficIsThatOfTheRing) {
  const Trace trace = small_trace();
  StepFacts given = facts(trace, 1);
  given.reserve = kMiB;
  const auto limit = limit_of(trace, given);
  ASSERT_TRUE(limit.ok());
  const Plan plan = make_plan(trace, {.budget = given.budget, .reserve = given.reserve});
  ASSERT_GT(plan.ring, 0);
  EXPECT_EQ(limit.value().ring, plan.ring);
  EXPECT_EQ(limit.value().model_data, trace.model_data_bytes());
  const Bytes away = trace.model_data_bytes() - limit.value().tightest_room;
  EXPECT_NEAR(static_cast<double>(away), 0.5 * static_cast<double>(trace.model_data_bytes()), kMiB);
  EXPECT_DOUBLE_EQ(limit.value().allowed_traffic(), 1.05 + static_cast<double>(plan.ring) / static_cast<double>(away));
}

TEST(StepLimitTest, ATraceThatCannotBeJudged) {
  StepFacts given = facts(small_trace(), 1);
  given.budget = kMiB;
  EXPECT_THAT(limit_of(small_trace(), given).status().message(), HasSubstr("lacks"));
  EXPECT_THAT(limit_of(Trace{}, given).status().message(), HasSubstr("does not compute"));
}

}  // namespace
}  // namespace patrickstar::cli
