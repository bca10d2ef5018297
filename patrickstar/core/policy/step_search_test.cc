#include "patrickstar/core/policy/step_search.h"

#include <gtest/gtest.h>

#include <vector>

#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

class StepSearchTest : public testing::Test {
 protected:
  StepSearchTest() {
    for (std::uint32_t i = 0; i < 40; ++i) tracer_.added(PayloadId(i), PayloadKind::kParam, 4096);
  }
  // Payloads [from, from + 10), one a moment, 11 of them deviations from the plan if it says so.
  std::optional<Trace> step(std::uint32_t from, std::int64_t deviations) {
    for (std::uint32_t i = from; i < from + 10; ++i) {
      const Access access = reads(i);
      search_.granted({&access, 1}, {.compute = 7});
    }
    return search_.step_done(deviations, 10, {.compute = 7});
  }

  Tracer tracer_;
  StepSearch search_{&tracer_};
};

TEST_F(StepSearchTest, AStepThatComesAgainIsPlannedFrom) {
  EXPECT_FALSE(step(0, 0).has_value());
  EXPECT_FALSE(step(20, 10).has_value());  // another one
  EXPECT_FALSE(step(20, 10).has_value());  // watched
  const auto found = step(20, 10);         // it would have been the better guide
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->moments.size(), 10u);
  EXPECT_EQ(found->at(3)[0].payload, PayloadId(23u));
  EXPECT_EQ(found->moments[9].compute, 7);
  EXPECT_FALSE(step(20, 0).has_value());
}

TEST_F(StepSearchTest, AFewDeviationsAreForgiven) {
  for (int i = 0; i < 6; ++i) EXPECT_FALSE(step(20, 3).has_value());  // 2 and a tenth of the moments
  EXPECT_FALSE(step(20, 4).has_value());
  EXPECT_FALSE(step(20, 4).has_value());
  EXPECT_TRUE(step(20, 4).has_value());
}

TEST_F(StepSearchTest, OneStepThatDeviatesChangesNothing) {
  EXPECT_FALSE(step(20, 10).has_value());
  EXPECT_FALSE(step(0, 0).has_value());  // watched
  EXPECT_FALSE(step(0, 0).has_value());  // as good a guide as the plan
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(step(0, 0).has_value());
}

TEST_F(StepSearchTest, StepsThatDifferEachTimeAreSearchedEverMoreRarely) {
  const auto steps_until_watched = [&] {
    int steps = 0;
    for (std::size_t traced = 0; traced == 0; ++steps) {
      const Access access = reads(static_cast<std::uint32_t>(steps) % 30);
      search_.granted({&access, 1}, {});
      traced = tracer_.moments();
      if (traced == 0) {
        EXPECT_FALSE(step(static_cast<std::uint32_t>(steps) % 30, 10).has_value());
      }
    }
    EXPECT_FALSE(step(0, 10).has_value());   // the watched one
    EXPECT_FALSE(step(15, 10).has_value());  // not like it
    return steps;
  };
  std::vector<int> steps;
  for (int i = 0; i < 4; ++i) steps.push_back(steps_until_watched());
  // The step in which one is compared counts as the first of the next row.
  EXPECT_EQ(steps, (std::vector<int>{2, 2, 4, 8}));
}

TEST_F(StepSearchTest, AfterSixteenCalmStepsTheFirstThatDeviatesIsSearchedFor) {
  for (std::uint32_t i = 0; i < 30; ++i) EXPECT_FALSE(step(11 * i % 30, 10).has_value());  // each another one
  const auto steps_until_found = [&] {
    for (int steps = 1;; ++steps) {
      if (step(20, 10).has_value() || steps == 100) return steps;
    }
  };
  for (int i = 0; i < 15; ++i) EXPECT_FALSE(step(0, 0).has_value());
  EXPECT_GT(steps_until_found(), 8);
  for (std::uint32_t i = 0; i < 30; ++i) EXPECT_FALSE(step(11 * i % 30, 10).has_value());
  for (int i = 0; i < 16; ++i) EXPECT_FALSE(step(0, 0).has_value());
  EXPECT_EQ(steps_until_found(), 3);
}

TEST_F(StepSearchTest, StopForgetsTheSearch) {
  EXPECT_FALSE(step(20, 10).has_value());
  EXPECT_FALSE(step(20, 10).has_value());
  search_.stop();
  EXPECT_FALSE(step(20, 10).has_value());
  EXPECT_FALSE(step(20, 10).has_value());
  EXPECT_TRUE(step(20, 10).has_value());
}

}  // namespace
}  // namespace patrickstar
