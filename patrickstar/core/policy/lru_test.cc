#include "patrickstar/core/policy/lru.h"

#include <gtest/gtest.h>

#include <list>
#include <random>

namespace patrickstar {
namespace {

TEST(Lru, TheLongestUnusedGivesWay) {
  Lru lru;
  EXPECT_FALSE(lru.victim().has_value());
  for (std::uint32_t i : {3u, 1u, 2u}) lru.track(PayloadId(i));
  EXPECT_EQ(lru.victim(), PayloadId(3u));
  lru.untrack(PayloadId(3u));
  lru.track(PayloadId(3u));
  EXPECT_EQ(lru.victim(), PayloadId(1u));
  EXPECT_EQ(lru.victim(), PayloadId(1u));  // stays tracked
}

TEST(Lru, AgreesWithAPlainList) {
  constexpr unsigned kSeed = 7;
  std::mt19937 random(kSeed);
  Lru lru;
  std::list<std::uint32_t> model;
  for (int i = 0; i < 10'000; ++i) {
    const std::uint32_t payload = random() % 64;
    const auto found = std::find(model.begin(), model.end(), payload);
    if (found == model.end()) {
      lru.track(PayloadId(payload));
      model.push_back(payload);
    } else {
      lru.untrack(PayloadId(payload));
      model.erase(found);
    }
    ASSERT_EQ(lru.victim().has_value(), !model.empty()) << "seed " << kSeed << " operation " << i;
    if (!model.empty()) {
      ASSERT_EQ(lru.victim()->value, model.front()) << "seed " << kSeed << " operation " << i;
    }
  }
}

}  // namespace
}  // namespace patrickstar
