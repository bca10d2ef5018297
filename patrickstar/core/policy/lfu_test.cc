#include "patrickstar/core/policy/lfu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "patrickstar/core/testing/seed.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

void lease(Lfu* lfu, std::uint32_t payload, int times = 1) {
  for (int i = 0; i < times; ++i) {
    const Access access = reads(payload);
    lfu->untrack(access.payload);
    lfu->used({&access, 1});
    lfu->track(access.payload);
  }
}

TEST(Lfu, TheLeastOftenUsedGivesWay) {
  Lfu lfu;
  EXPECT_FALSE(lfu.victim().has_value());
  for (std::uint32_t i = 0; i < 3; ++i) lfu.track(PayloadId(i));
  lease(&lfu, 0, 3);
  lease(&lfu, 1, 1);
  lease(&lfu, 2, 2);
  EXPECT_EQ(lfu.victim(), PayloadId(1u));
  lease(&lfu, 1, 3);
  EXPECT_EQ(lfu.victim(), PayloadId(2u));
  lfu.untrack(PayloadId(2u));
  EXPECT_EQ(lfu.victim(), PayloadId(0u));  // used as often as in the past counts, whether it was there or not
  lfu.track(PayloadId(2u));
  EXPECT_EQ(lfu.victim(), PayloadId(2u));
  EXPECT_EQ(lfu.victim(), PayloadId(2u));  // stays tracked
}

TEST(Lfu, OfThoseUsedEquallyOftenTheLongestUnusedGivesWay) {
  Lfu lfu;
  for (std::uint32_t i = 0; i < 3; ++i) lfu.track(PayloadId(i));
  for (const std::uint32_t i : {2u, 0u, 1u}) lease(&lfu, i);
  EXPECT_EQ(lfu.victim(), PayloadId(2u));
  lfu.untrack(PayloadId(2u));
  EXPECT_EQ(lfu.victim(), PayloadId(0u));
}

// On a tier beneath the compute tier a payload that is used may be a candidate.
TEST(Lfu, ACandidateThatIsUsedCountsAtOnce) {
  Lfu lfu;
  for (std::uint32_t i = 0; i < 2; ++i) lfu.track(PayloadId(i));
  const std::vector<Access> moment = {reads(0), reads(1), reads(0)};
  lfu.used(moment);
  EXPECT_EQ(lfu.victim(), PayloadId(1u));
}

TEST(Lfu, AgreesWithASearchOfAllCandidates) {
  const std::uint32_t seed = test_seed(5);
  std::mt19937 random(seed);
  Lfu lfu;
  struct Known {
    int count = 0;
    int since = 0;
    bool tracked = false;
  };
  std::vector<Known> model(64);
  for (int i = 0; i < 10'000; ++i) {
    const auto payload = static_cast<std::uint32_t>(random() % model.size());
    Known& known = model[payload];
    if (random() % 3 == 0) {
      const Access access = writes(payload);
      lfu.used({&access, 1});
      ++known.count;
    } else if (known.tracked) {
      lfu.untrack(PayloadId(payload));
      known.tracked = false;
    } else {
      lfu.track(PayloadId(payload));
      known.tracked = true;
      known.since = i;
    }
    const Known* least = nullptr;
    for (const Known& each : model) {
      if (!each.tracked) continue;
      if (least == nullptr || std::pair(each.count, each.since) < std::pair(least->count, least->since)) least = &each;
    }
    ASSERT_EQ(lfu.victim().has_value(), least != nullptr) << "seed " << seed << " operation " << i;
    if (least != nullptr) {
      ASSERT_EQ(lfu.victim()->index(), static_cast<std::size_t>(least - model.data())) << "seed " << seed << " operation " << i;
    }
  }
}

}  // namespace
}  // namespace patrickstar
