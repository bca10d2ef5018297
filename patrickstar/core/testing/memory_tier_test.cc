#include "patrickstar/core/testing/memory_tier.h"

#include <gtest/gtest.h>

namespace patrickstar {
namespace {

TEST(MemoryTier, KeepsItsCapacity) {
  MemoryTier tier("t", 3 * 4096);
  const auto a = tier.allocate(2 * 4096);
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(tier.allocate(2 * 4096).status().code(), StatusCode::kOutOfRoom);
  EXPECT_EQ(tier.shortfall(2 * 4096), 4096);
  EXPECT_EQ(tier.ledger().in(Account::kChunks), 2 * 4096);
  tier.free(a.value(), 2 * 4096);
  EXPECT_EQ(tier.places(), 0u);
  EXPECT_EQ(tier.allocations(), 2);
}

TEST(MemoryTier, AFreedPlaceIsPoisoned) {
  MemoryTier tier("t", 4096);
  const auto a = tier.allocate(4096);
  a.value().address()[7] = std::byte{1};
  tier.free(a.value(), 4096);
  EXPECT_EQ(a.value().address()[7], MemoryTier::kPoison);
}

TEST(MemoryTierDeathTest, AWriteThroughADanglingAddressEndsTheTest) {
  const auto write_after_free = [] {
    MemoryTier tier("t", 4096);
    const auto a = tier.allocate(4096);
    tier.free(a.value(), 4096);
    a.value().address()[7] = std::byte{1};
  };
  EXPECT_DEATH(write_after_free(), "all_bytes");
}

TEST(MemoryTier, RefusesTheNthAllocation) {
  MemoryTier tier("t", 10 * 4096);
  tier.refuse(2, StatusCode::kIoError);
  const auto a = tier.allocate(4096);
  EXPECT_EQ(tier.allocate(4096).status().code(), StatusCode::kIoError);
  const auto b = tier.allocate(4096);
  EXPECT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(tier.injected(), 1);
  tier.free(a.value(), 4096);
  tier.free(b.value(), 4096);
}

}  // namespace
}  // namespace patrickstar
