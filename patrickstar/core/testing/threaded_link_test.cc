#include "patrickstar/core/testing/threaded_link.h"

#include <gtest/gtest.h>

#include "patrickstar/core/testing/memory_tier.h"
#include "patrickstar/core/testing/worker_thread.h"

namespace patrickstar {
namespace {

struct Count final : TransferSink {
  void transfer_done(const Transfer&, Status status) override { done += status.ok() ? 1 : 1000; }
  std::atomic<int> done = 0;
};

TEST(ThreadedLink, ServesEverythingThatWasStarted) {
  constexpr std::size_t kTransfers = 50;
  MemoryTier up("up", kTransfers * 4096);
  MemoryTier down("down", kTransfers * 4096);
  Count count;
  std::vector<Place> upper;
  std::vector<Place> lower;
  {
    ThreadedLink link(3, 1);
    link.set_sink(&count);
    for (std::size_t i = 0; i < kTransfers; ++i) {
      upper.push_back(up.allocate(4096).value());
      lower.push_back(down.allocate(4096).value());
      upper[i].address()[9] = static_cast<std::byte>(i);
      link.start(
          {.id = i, .payload = PayloadId(i), .direction = Direction::kDown, .upper = upper[i], .lower = lower[i], .bytes = 4096});
    }
  }
  EXPECT_EQ(count.done, static_cast<int>(kTransfers));
  for (std::size_t i = 0; i < kTransfers; ++i) {
    EXPECT_EQ(lower[i].address()[9], static_cast<std::byte>(i));
    up.free(upper[i], 4096);
    down.free(lower[i], 4096);
  }
}

TEST(WorkerThread, RunsOnAThreadOfItsOwnUntilDone) {
  WorkerThread worker;
  std::thread::id ran_on;
  worker.run([&] { ran_on = std::this_thread::get_id(); });
  EXPECT_EQ(ran_on, worker.id());
  EXPECT_NE(ran_on, std::this_thread::get_id());
}

}  // namespace
}  // namespace patrickstar
