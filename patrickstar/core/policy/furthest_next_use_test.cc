#include "patrickstar/core/policy/furthest_next_use.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "patrickstar/core/testing/seed.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

// Payload 0 is used at moments 0 and 5, 1 at 1 and 4, 2 at 2 and 3; 3 and 4 never.
Trace there_and_back() {
  return trace_of(std::vector<Bytes>(5, 4096),
                  {{{reads(0)}}, {{reads(1)}}, {{reads(2)}}, {{writes(2)}}, {{writes(1)}}, {{writes(0)}}});
}

// As on the compute tier: what is used is no candidate then.
void lease(FurthestNextUse* policy, const std::vector<Access>& moment) {
  for (const Access& access : moment) policy->untrack(access.payload);
  policy->used(moment);
  for (const Access& access : moment) policy->track(access.payload);
}
void lease(FurthestNextUse* policy, std::uint32_t payload) { lease(policy, {reads(payload)}); }

TEST(FurthestNextUse, WhatIsUsedLastGivesWayFirst) {
  FurthestNextUse policy(there_and_back());
  EXPECT_FALSE(policy.victim().has_value());
  for (std::uint32_t i = 0; i < 3; ++i) policy.track(PayloadId(i));
  EXPECT_EQ(policy.victim(), PayloadId(2u));  // before the first moment
  lease(&policy, 0);
  EXPECT_EQ(policy.victim(), PayloadId(0u));
  lease(&policy, 1);
  lease(&policy, 2);
  EXPECT_EQ(policy.victim(), PayloadId(0u));
  policy.untrack(PayloadId(0u));
  EXPECT_EQ(policy.victim(), PayloadId(1u));
  policy.track(PayloadId(0u));
  lease(&policy, 2);
  EXPECT_EQ(policy.victim(), PayloadId(2u));  // not before the next step
  EXPECT_EQ(policy.victim(), PayloadId(2u));  // stays tracked
  lease(&policy, 1);
  EXPECT_EQ(policy.victim(), PayloadId(2u));
  lease(&policy, 0);
  EXPECT_EQ(policy.victim(), PayloadId(2u));
}

TEST(FurthestNextUse, WhatTheTraceDoesNotUseGoesFirstTheLongestUnusedBeforeOthers) {
  FurthestNextUse policy(there_and_back());
  for (std::uint32_t i : {0u, 1u, 4u, 3u, 9u}) policy.track(PayloadId(i));
  EXPECT_EQ(policy.victim(), PayloadId(4u));
  lease(&policy, 4);
  EXPECT_EQ(policy.victim(), PayloadId(3u));
  policy.untrack(PayloadId(3u));
  EXPECT_EQ(policy.victim(), PayloadId(9u));  // the trace has no such payload
  policy.untrack(PayloadId(9u));
  policy.untrack(PayloadId(4u));
  EXPECT_EQ(policy.victim(), PayloadId(1u));
}

TEST(FurthestNextUse, AMomentThatTheTraceDoesNotKnowLeavesThePosition) {
  FurthestNextUse policy(there_and_back());
  for (std::uint32_t i = 0; i < 3; ++i) policy.track(PayloadId(i));
  lease(&policy, 0);
  lease(&policy, {reads(0), reads(1)});
  EXPECT_EQ(policy.follower().position(), 0);
  EXPECT_EQ(policy.victim(), PayloadId(0u));
  lease(&policy, 1);
  EXPECT_EQ(policy.follower().position(), 1);
}

// A candidate whose use was left out is used later than was thought.
TEST(FurthestNextUse, AJumpMovesTheNextUseOfWhatWasLeftOut) {
  FurthestNextUse policy(trace_of(std::vector<Bytes>(5, 4096),
                                  {{{reads(0)}}, {{reads(1)}}, {{reads(2)}}, {{reads(3)}}, {{reads(4)}}, {{reads(0)}}}));
  for (std::uint32_t i = 0; i < 5; ++i) policy.track(PayloadId(i));
  lease(&policy, 0);
  lease(&policy, 3);  // 1 and 2 were left out, as the next moment shows
  EXPECT_EQ(policy.victim(), PayloadId(0u));
  lease(&policy, 4);
  EXPECT_EQ(policy.follower().position(), 4);
  for (const std::uint32_t next : {4u, 3u, 2u, 1u, 0u}) {  // of the next step, but for 0
    EXPECT_EQ(policy.victim(), PayloadId(next));
    policy.untrack(PayloadId(next));
  }
}

// Random walks over a random trace, candidates that are used among them, as on a tier beneath: the victim is always one whose
// next use by a search of the whole trace lies furthest.
TEST(FurthestNextUse, AgreesWithASearchOfTheTrace) {
  const std::uint32_t seed = test_seed(17);
  std::mt19937 random(seed);
  constexpr std::size_t kPayloads = 24;
  std::vector<MomentSpec> moments(60);
  for (MomentSpec& moment : moments) {
    for (std::size_t i = 0; i < 1 + random() % 3; ++i)
      moment.accesses.push_back(reads(static_cast<std::uint32_t>(random() % (kPayloads - 2))));
  }
  const Trace trace = trace_of(std::vector<Bytes>(kPayloads, 4096), moments);
  FurthestNextUse policy(trace);
  std::set<PayloadId> tracked;
  const auto next_use = [&](PayloadId payload) {
    const auto n = static_cast<Position>(trace.moments.size());
    for (Position p = policy.follower().position() + 1; p <= policy.follower().position() + n; ++p) {
      for (const Access& access : trace.at(static_cast<std::size_t>(p % n))) {
        if (access.payload == payload) return p;
      }
    }
    return Position{INT64_MAX};
  };
  std::size_t moment = 0;
  for (int i = 0; i < 10'000; ++i) {
    if (random() % 3 == 0) {
      const PayloadId payload(random() % kPayloads);
      if (tracked.erase(payload) == 1) {
        policy.untrack(payload);
      } else {
        tracked.insert(payload);
        policy.track(payload);
      }
    } else {
      if (random() % 20 == 0) moment = (moment + random() % 50) % moments.size();
      policy.used(trace.at(moment));
      moment = (moment + 1) % moments.size();
    }
    const auto victim = policy.victim();
    ASSERT_EQ(victim.has_value(), !tracked.empty());
    if (!victim) continue;
    ASSERT_EQ(tracked.count(*victim), 1u);
    Position furthest = -1;
    for (const PayloadId payload : tracked) furthest = std::max(furthest, next_use(payload));
    ASSERT_EQ(next_use(*victim), furthest) << "seed " << seed << " operation " << i;
  }
  EXPECT_GT(policy.follower().deviations(), 100);
}

}  // namespace
}  // namespace patrickstar
