#include "patrickstar/core/io/testing/slow_file_ops.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "patrickstar/core/io/testing/link_fixture.h"

namespace patrickstar {
namespace {

constexpr Bytes kBlock = 4096;
using Clock = std::chrono::steady_clock;

TEST(SlowFileOps, ReadsAndWritesOfSeveralThreadsShareTheRate) {
  SlowFileOps ops;
  const TempDir dir;
  const int fd = ops.open_scratch(dir.path());
  ASSERT_GE(fd, 0);
  Buffer a(8 * kBlock);
  Buffer b(8 * kBlock);
  Buffer c(8 * kBlock);
  a.fill_random(1);
  b.fill_random(2);
  EXPECT_EQ(ops.pwrite(fd, a.data(), a.size(), 0), a.size());
  EXPECT_EQ(ops.slowed(), 0);
  ops.set_bytes_per_second(1'000'000);
  const auto start = Clock::now();
  std::thread other([&] { EXPECT_EQ(ops.pwrite(fd, b.data(), b.size(), a.size()), b.size()); });
  EXPECT_EQ(ops.pread(fd, c.data(), c.size(), 0), c.size());
  other.join();
  EXPECT_GE(Clock::now() - start, std::chrono::microseconds(2 * 8 * kBlock));
  EXPECT_TRUE(a == c);
  EXPECT_EQ(ops.slowed(), 16 * kBlock);
  ops.close(fd);
}

TEST(SlowFileOps, ResultsOfTheRingAreLateAndErrorsAreNot) {
  SlowFileOps ops;
  ops.set_bytes_per_second(1'000'000);
  const auto start = Clock::now();
  EXPECT_EQ(ops.completed(IoKind::kRead, 10'000), 10'000);
  EXPECT_GE(Clock::now() - start, std::chrono::milliseconds(10));
  EXPECT_EQ(ops.completed(IoKind::kWrite, -5), -5);
  EXPECT_EQ(ops.slowed(), 10'000);
  ops.set_bytes_per_second(0);
  EXPECT_EQ(ops.completed(IoKind::kRead, 10'000), 10'000);
  EXPECT_EQ(ops.slowed(), 10'000);
}

}  // namespace
}  // namespace patrickstar
