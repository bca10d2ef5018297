#include "patrickstar/core/mem/host_tier.h"

#include <gtest/gtest.h>

#include "patrickstar/core/testing/counting_pages.h"

namespace patrickstar {
namespace {

TEST(HostTier, PlacesAreChunkBytesOfTheArena) {
  CountingPages pages;
  Ledger ledger(4 * kMiB);
  auto arena = Arena::create(&pages, &ledger, 64 * kMiB);
  ASSERT_TRUE(arena.ok());
  HostTier tier(arena.value().get());
  const auto place = tier.allocate(3 * kMiB);
  ASSERT_TRUE(place.ok());
  EXPECT_EQ(ledger.in(Account::kChunks), 3 * kMiB);

  const auto full = tier.allocate(2 * kMiB);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.status().code(), StatusCode::kOutOfRoom);
  EXPECT_EQ(tier.shortfall(2 * kMiB), 2 * kMiB);

  tier.free(place.value(), 3 * kMiB);
  EXPECT_EQ(ledger.in(Account::kChunks), 0);
  EXPECT_EQ(tier.shortfall(2 * kMiB), 0);
}

TEST(HostTier, ARefusalOfTheSystemIsNoLackOfRoom) {
  CountingPages pages;
  Ledger ledger(4 * kMiB);
  auto arena = Arena::create(&pages, &ledger, 64 * kMiB);
  ASSERT_TRUE(arena.ok());
  HostTier tier(arena.value().get());
  pages.commits().arm(1);
  EXPECT_EQ(tier.allocate(kMiB).status().code(), StatusCode::kIoError);  // evicting more would not help
}

}  // namespace
}  // namespace patrickstar
