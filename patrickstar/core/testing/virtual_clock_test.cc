#include "patrickstar/core/testing/virtual_clock.h"

#include <gtest/gtest.h>

namespace patrickstar {
namespace {

TEST(VirtualClock, MovesOnlyWhenTold) {
  VirtualClock clock;
  EXPECT_EQ(clock.now(), 0);
  clock.advance(5);
  clock.advance(0);
  EXPECT_EQ(clock.now(), 5);
}

}  // namespace
}  // namespace patrickstar
