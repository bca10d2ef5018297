#include "patrickstar/core/testing/counting_pages.h"

#include <gtest/gtest.h>

namespace patrickstar {
namespace {

TEST(CountingPages, CountsRefusesAndPoisons) {
  CountingPages pages;
  std::byte* base = pages.reserve(4 * kPageBytes).value();
  ASSERT_TRUE(pages.commit(base, 2 * kPageBytes).ok());
  EXPECT_EQ(base[5], std::byte{0});
  base[5] = std::byte{1};
  pages.commits().arm(1);
  EXPECT_FALSE(pages.commit(base + 2 * kPageBytes, kPageBytes).ok());
  EXPECT_EQ(pages.committed_bytes(), 2 * kPageBytes);
  ASSERT_TRUE(pages.decommit(base, kPageBytes).ok());
  EXPECT_EQ(base[5], CountingPages::kPoison);
  EXPECT_EQ(pages.committed_bytes(), kPageBytes);
  EXPECT_EQ(pages.peak_bytes(), 2 * kPageBytes);
  EXPECT_EQ(pages.decommits(), 1);
  ASSERT_TRUE(pages.decommit(base + kPageBytes, kPageBytes).ok());
  pages.unreserve(base, 4 * kPageBytes);
}

TEST(CountingPagesDeathTest, CommittingTwiceEndsTheTest) {
  CountingPages pages;
  std::byte* base = pages.reserve(kPageBytes).value();
  ASSERT_TRUE(pages.commit(base, kPageBytes).ok());
  EXPECT_DEATH((void)pages.commit(base, kPageBytes), "broken invariant");
  ASSERT_TRUE(pages.decommit(base, kPageBytes).ok());
  pages.unreserve(base, kPageBytes);
}

}  // namespace
}  // namespace patrickstar
