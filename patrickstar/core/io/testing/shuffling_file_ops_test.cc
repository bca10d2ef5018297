#include "patrickstar/core/io/testing/shuffling_file_ops.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "patrickstar/core/io/testing/link_fixture.h"
#include "patrickstar/core/testing/bytes.h"
#include "patrickstar/core/testing/seed.h"

namespace patrickstar {
namespace {

constexpr Bytes kBlock = 4096;

// `threads` threads write and read blocks of their own; every byte must come back.
void exchange(ShufflingFileOps* ops, int threads, int rounds) {
  const TempDir dir;
  const int fd = ops->open_scratch(dir.path());
  ASSERT_GE(fd, 0);
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([=] {
      Buffer data(kBlock);
      for (int i = 0; i < rounds; ++i) {
        std::memset(data.data(), t + i, kBlock);
        EXPECT_EQ(ops->pwrite(fd, data.data(), kBlock, t * kBlock), kBlock);
        std::memset(data.data(), 0, kBlock);
        EXPECT_EQ(ops->pread(fd, data.data(), kBlock, t * kBlock), kBlock);
        EXPECT_TRUE(all_bytes(data.data(), kBlock, static_cast<std::byte>(t + i)));
      }
    });
  }
  for (auto& worker : workers) worker.join();
  ops->close(fd);
}

TEST(ShufflingFileOps, CallsOvertakeEachOtherAndLoseNothing) {
  const std::uint32_t seed = test_seed(5);
  SCOPED_TRACE(seed);
  ShufflingFileOps ops({.seed = seed, .threads = 4});
  exchange(&ops, 4, 200);
  EXPECT_GT(ops.held(), 4 * 200);  // four of five draws of 1,600
  EXPECT_GT(ops.overtaken(), 0);
}

// Without the rule about threads this would take for ever.
TEST(ShufflingFileOps, WhoComesWhenAllStandHereLetsOneGo) {
  ShufflingFileOps ops({.seed = 1, .threads = 1, .rounds = std::numeric_limits<int>::max()});
  exchange(&ops, 1, 100);
  EXPECT_GT(ops.held(), 100);
  EXPECT_EQ(ops.overtaken(), 0);
}

TEST(ShufflingFileOps, NobodyWaitsForWhatDoesNotCome) {
  ShufflingFileOps ops({.seed = 1, .threads = 8, .rounds = 3});
  exchange(&ops, 1, 100);
  EXPECT_GT(ops.held(), 100);
}

TEST(ShufflingFileOps, CallsTakeLongerIfWanted) {
  ShufflingFileOps ops({.seed = 1, .most_delay = 20'000});
  const auto start = std::chrono::steady_clock::now();
  exchange(&ops, 1, 100);
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GT(ops.delayed(), 0);
  EXPECT_LE(ops.delayed(), 2 * 100 * 20'000);
  EXPECT_GE(took, std::chrono::nanoseconds(ops.delayed()));
}

TEST(ShufflingFileOps, TheDrawsAreTheSeeds) {
  const auto held = [](std::uint32_t seed) {
    ShufflingFileOps ops({.seed = seed, .most_overtakes = 1});
    exchange(&ops, 1, 200);
    return ops.held();
  };
  EXPECT_EQ(held(3), held(3));
  EXPECT_NE(held(3), held(4));
}

}  // namespace
}  // namespace patrickstar
