// What an access costs a policy among 10,000 candidates, in entries that are looked at or moved: no clock, and no scan over all.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "patrickstar/core/policy/furthest_next_use.h"
#include "patrickstar/core/policy/lfu.h"
#include "patrickstar/core/policy/orchestrator.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

constexpr std::uint32_t kCandidates = 10'000;
// A heap with four children a node has seven levels: an entry that goes all the way down looks at 28 and moves seven; the access
// untracks and tracks, and something else may be re-keyed once for each moment that is passed by.
constexpr std::int64_t kMostSteps = 3 * 37;

Trace one_after_the_other() {
  std::vector<MomentSpec> moments;
  for (std::uint32_t i = 0; i < kCandidates; ++i) moments.push_back({.accesses = {reads(i)}, .compute = 1});
  return trace_of(std::vector<Bytes>(kCandidates, 4096), moments);
}

// Two steps, in which every `every`-th moment is left out. `steps`: of the policy so far. The most that an access cost.
template <class Lease, class Steps>
std::int64_t most_steps(std::size_t every, Lease&& lease, Steps&& steps) {
  std::int64_t most = 0;
  for (std::uint32_t i = 0; i < 2 * kCandidates; ++i) {
    if (i % every == every - 1) continue;
    const std::int64_t before = steps();
    lease(PayloadId(i % kCandidates));
    most = std::max(most, steps() - before);
  }
  return most;
}

template <class P>
std::int64_t most_steps_of(P* policy, std::size_t every) {
  for (std::uint32_t i = 0; i < kCandidates; ++i) policy->track(PayloadId(i));
  return most_steps(
      every,
      [&](PayloadId payload) {
        const Access access{payload, AccessMode::kRead};
        policy->untrack(payload);
        policy->used({&access, 1});
        policy->track(payload);
        EXPECT_TRUE(policy->victim().has_value());
      },
      [&] { return policy->order_steps(); });
}

TEST(CostOfAnAccess, FurthestNextUseLooksAtFewCandidates) {
  for (const std::size_t every : {100'000, 10}) {
    FurthestNextUse policy(one_after_the_other());
    const std::int64_t most = most_steps_of(&policy, every);
    EXPECT_LE(most, kMostSteps) << every;
    EXPECT_GE(most, 8) << every;  // it does count
    EXPECT_EQ(policy.follower().deviations() > 1000, every == 10);
  }
}

TEST(CostOfAnAccess, LfuLooksAtFewCandidates) {
  Lfu policy;
  const std::int64_t most = most_steps_of(&policy, 10);
  EXPECT_LE(most, kMostSteps);
  EXPECT_GE(most, 8);
}

TEST(CostOfAnAccess, APlanThatIsFollowedLooksAtFewCandidatesAlsoWhenTheRunJumps) {
  for (const std::size_t every : {100'000, 10}) {
    const Trace trace = one_after_the_other();
    Orchestrator orchestrator({.budget = 8'000 * 4096});
    const auto policy = orchestrator.make_policy();
    for (std::uint32_t i = 0; i < kCandidates; ++i) {
      orchestrator.added(PayloadId(i), PayloadKind::kState, 4096);
      policy->track(PayloadId(i));
    }
    const auto lease = [&](PayloadId payload) {
      const Access access{payload, AccessMode::kRead};
      policy->untrack(payload);
      orchestrator.granted({&access, 1}, {.compute = 1});
      policy->track(payload);
      EXPECT_TRUE(policy->victim().has_value());
    };
    for (std::uint32_t i = 0; i < 2 * kCandidates; ++i) {
      if (i == 3) orchestrator.evicted(PayloadId(std::uint32_t{0}));
      lease(PayloadId(i % kCandidates));
      if (i % kCandidates == kCandidates - 1) orchestrator.step_done({.compute = 1});
    }
    ASSERT_TRUE(orchestrator.stats().following);
    std::size_t wants = 0;
    const auto lease_and_bring = [&](PayloadId payload) {
      lease(payload);
      for (auto want = orchestrator.want(); want.has_value() && want->left >= 4096; want = orchestrator.want()) {
        orchestrator.brought(want->payload);
        ++wants;
      }
    };
    const std::int64_t most = most_steps(every, lease_and_bring, [&] { return orchestrator.stats().order_steps; });
    EXPECT_LE(most, kMostSteps) << every;
    EXPECT_GE(most, 8) << every;
    EXPECT_EQ(orchestrator.stats().deviations > 1000, every == 10);
    // What was brought ahead is not gone through again after a jump: each fetch is wanted once in two steps and what lies ahead.
    EXPECT_LE(wants, 3 * orchestrator.plan().fetches.size()) << every;
    EXPECT_GE(wants, orchestrator.plan().fetches.size()) << every;
  }
}

}  // namespace
}  // namespace patrickstar
