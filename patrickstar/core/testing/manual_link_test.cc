#include "patrickstar/core/testing/manual_link.h"

#include <gtest/gtest.h>

#include "patrickstar/core/testing/manual_waiter.h"
#include "patrickstar/core/testing/memory_tier.h"

namespace patrickstar {
namespace {

struct Heard final : TransferSink {
  void transfer_done(const Transfer& transfer, Status status) override {
    ids.push_back(transfer.id);
    last = std::move(status);
  }
  std::vector<std::uint64_t> ids;
  Status last;
};

class ManualLinkTest : public testing::Test {
 protected:
  ManualLinkTest() {
    link.set_sink(&heard);
    for (int i = 0; i < 3; ++i) {
      upper.push_back(up.allocate(4096).value());
      lower.push_back(down.allocate(4096).value());
      upper.back().address()[0] = std::byte(i + 1);
    }
  }
  ~ManualLinkTest() override {
    while (link.pending() > 0) link.complete(0);
    for (int i = 0; i < 3; ++i) {
      up.free(upper[static_cast<std::size_t>(i)], 4096);
      down.free(lower[static_cast<std::size_t>(i)], 4096);
    }
  }
  void start(std::size_t i, Direction direction) {
    link.start({.id = i, .payload = PayloadId(i), .direction = direction, .upper = upper[i], .lower = lower[i], .bytes = 4096});
  }

  MemoryTier up{"up", 3 * 4096};
  MemoryTier down{"down", 3 * 4096};
  ManualLink link{"/scratch"};
  Heard heard;
  std::vector<Place> upper;
  std::vector<Place> lower;
};

TEST_F(ManualLinkTest, CompletesInAnyOrderAndReallyCopies) {
  for (std::size_t i = 0; i < 3; ++i) start(i, Direction::kDown);
  EXPECT_EQ(lower[1].address()[0], ManualLink::kGarbage);
  link.complete(1);
  EXPECT_EQ(lower[1].address()[0], std::byte{2});
  link.complete(1);
  link.complete(0);
  EXPECT_EQ(heard.ids, (std::vector<std::uint64_t>{1, 2, 0}));
  EXPECT_EQ(link.bytes_down(), 3 * 4096);
  EXPECT_EQ(link.bytes_up(), 0);
}

TEST_F(ManualLinkTest, AFailureNamesTheFileAndLeavesTheSource) {
  start(0, Direction::kDown);
  link.fail(0);
  EXPECT_EQ(heard.last.code(), StatusCode::kIoError);
  EXPECT_EQ(heard.last.message(), "[/scratch] injected write error");
  EXPECT_EQ(upper[0].address()[0], std::byte{1});
  EXPECT_EQ(lower[0].address()[0], ManualLink::kGarbage);
}

TEST_F(ManualLinkTest, TheNthCompletionOfADirectionFails) {
  link.failures(Direction::kUp).arm(1);
  start(0, Direction::kDown);
  start(1, Direction::kUp);
  link.complete(0);
  EXPECT_TRUE(heard.last.ok());
  link.complete(0);
  EXPECT_EQ(heard.last.message(), "[/scratch] injected read error");
  EXPECT_EQ(link.failures(Direction::kUp).injected(), 1);
}

TEST_F(ManualLinkTest, ARandomOrderIsTheSeeds) {
  const auto order = [&](std::uint32_t seed) {
    heard.ids.clear();
    std::mt19937 random(seed);
    for (std::size_t i = 0; i < 3; ++i) start(i, Direction::kDown);
    while (link.complete_random(random)) {
    }
    return heard.ids;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
}

TEST_F(ManualLinkTest, AWriteIntoASourceUnderWayEndsTheTest) {
  start(0, Direction::kDown);
  const std::byte before = upper[0].address()[5];
  upper[0].address()[5] = std::byte{77};
  EXPECT_DEATH(link.complete(0), "broken invariant");
  upper[0].address()[5] = before;
}

TEST(ManualWaiter, DoesItsStepWithTheLockReleased) {
  std::mutex mutex;
  std::condition_variable changed;
  bool free = false;
  int left = 1;
  ManualWaiter waiter([&] {
    free = mutex.try_lock();
    if (free) mutex.unlock();
    return left-- > 0;
  });
  std::unique_lock lock(mutex);
  EXPECT_EQ(waiter.wait(lock, changed), WaitResult::kWoken);
  EXPECT_TRUE(free);
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_EQ(waiter.wait(lock, changed), WaitResult::kTimedOut);
  EXPECT_EQ(waiter.waits(), 2);
}

}  // namespace
}  // namespace patrickstar
