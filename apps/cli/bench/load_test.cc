#include "apps/cli/bench/load.h"

#include <gtest/gtest.h>

namespace patrickstar::cli {
namespace {

TEST(Load, WhatTheSystemWasBusyWith) {
  // user 100, nice 20, system 30, idle and iowait no work, irq and softirq nobody's, steal 7; guest is in user already.
  EXPECT_EQ(busy_seconds("cpu  100 20 30 4000 500 60 70 7 80 9\ncpu0 1 2 3 4\n", 100), 1.57);
  EXPECT_FALSE(busy_seconds("", 100).has_value());
  EXPECT_FALSE(busy_seconds("cpu 1 2 3", 100).has_value());
  EXPECT_FALSE(busy_seconds("intr 1 2 3 4 5 6 7 8 9", 100).has_value());
}

TEST(Load, WhatAProcessUsed) {
  EXPECT_EQ(process_seconds("42 (a (b) c) R 1 42 42 0 -1 4194304 5 6 7 8 250 50 900 901 20 0", 100), 3.0);
  EXPECT_FALSE(process_seconds("", 100).has_value());
  EXPECT_FALSE(process_seconds("42 (name) R 1 2 3", 100).has_value());
}

TEST(Load, DisturbsWhenItIsMuchAndProven) {
  EXPECT_FALSE((ForeignLoad{.cores = 0.25, .seconds = 5}.disturbs()));
  EXPECT_TRUE((ForeignLoad{.cores = 0.26, .seconds = 5}.disturbs()));
  EXPECT_FALSE((ForeignLoad{.cores = 2, .seconds = 0.1}.disturbs()));  // some ticks in a short time
  EXPECT_TRUE((ForeignLoad{.cores = 2, .seconds = 0.11}.disturbs()));
}

}  // namespace
}  // namespace patrickstar::cli
