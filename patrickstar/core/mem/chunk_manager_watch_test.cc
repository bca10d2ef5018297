// Who waits for what: what is told of a wait that takes too long. Time is the virtual clock's.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "patrickstar/core/testing/chunk_manager_fixture.h"
#include "patrickstar/core/testing/worker_thread.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

constexpr Nanos kSecond = 1'000'000'000;

class WatchTest : public ChunkManagerTest {
 protected:
  ~WatchTest() override { finish_transfers(); }

  // Each time somebody waits on this thread a second goes by and nothing else happens, until `act` does something.
  void seconds_go_by(Nanos each = kSecond) {
    rig.waiter().set_step([this, each, main = std::this_thread::get_id()] {
      if (std::this_thread::get_id() != main) {
        waits_there = true;
        while (!go_on) std::this_thread::yield();
        rig.complete_oldest();
        return true;
      }
      rig.clock().advance(each);
      act();
      return true;
    });
  }
  void finish_transfers() {
    rig.waiter().set_step([this] { return rig.complete_oldest(); });
    rig.complete_all();
  }

  std::function<void()> act = [] {};
  std::atomic<bool> waits_there = false;
  std::atomic<bool> go_on = false;
  WorkerThread other;
};

TEST_F(WatchTest, AStuckReadIsToldOnceAndEndsWithTheSame) {
  fill(2);
  send_down(ids[0]);
  seconds_go_by();
  const auto lease = rig.acquire(ids[0], AccessMode::kRead);
  ASSERT_EQ(rig.warnings().size(), 1u);
  EXPECT_THAT(rig.warnings()[0],
              ContainsRegex(
                  "^\\[memory\\] a long wait: thread [0-9]+ \\([^)]+\\) has waited 10.0 s for chunk 0 param \\(4.0 KiB\\), "
                  "read to compute for 10.0 s \\(demand\\); under way: read of chunk 0 param \\(4.0 KiB, demand\\) for 10.0 s$"));
  ASSERT_EQ(lease.status().code(), StatusCode::kTimedOut);
  EXPECT_THAT(
      lease.status().message(),
      AllOf(HasSubstr("[memory] nothing happened for 120.0 s"), HasSubstr("has waited 120.0 s for chunk 0 param"),
            HasSubstr("under way: read of chunk 0 param (4.0 KiB, demand) for 120.0 s"), HasSubstr("held or wanted are")));
}

TEST_F(WatchTest, TicksOfAWaiterCountToo) {
  fill(2);
  send_down(ids[0]);
  rig.waiter().set_ticking();
  seconds_go_by();
  const std::int64_t before = rig.waiter().waits();
  const auto lease = rig.acquire(ids[0], AccessMode::kRead);
  EXPECT_EQ(rig.warnings().size(), 1u);
  EXPECT_EQ(lease.status().code(), StatusCode::kTimedOut);
  EXPECT_EQ(rig.waiter().waits() - before, 120);
  EXPECT_EQ(manager.stats().stalled, 120 * kSecond);
}

TEST_F(WatchTest, WhoWaitsOnAfterTheTimeOutLetsOthersIn) {
  fill(2);
  send_down(ids[0]);
  rig.waiter().set_ticking();
  seconds_go_by();
  EXPECT_EQ(rig.acquire(ids[0], AccessMode::kRead).status().code(), StatusCode::kTimedOut);
  int more = 0;
  rig.waiter().set_step([&] {
    rig.clock().advance(kSecond);
    return ++more < 5 || rig.complete_oldest();
  });
  manager.remove(ids[0]);
  EXPECT_EQ(more, 5);
  EXPECT_EQ(rig.pending(), 0u);
}

TEST_F(WatchTest, AStuckPrefetchIsOneAlsoWhenItsTimeBeganEarlier) {
  fill(2);
  send_down(ids[0]);
  EXPECT_TRUE(manager.prefetch(ids[0]));
  rig.clock().advance(30 * kSecond);  // nobody waits
  EXPECT_TRUE(rig.warnings().empty());
  seconds_go_by();
  act = [this] {
    if (!rig.warnings().empty()) rig.complete_all();
  };
  EXPECT_TRUE(rig.acquire(ids[0], AccessMode::kRead).ok());
  ASSERT_EQ(rig.warnings().size(), 1u);
  EXPECT_THAT(rig.warnings()[0], AllOf(HasSubstr("has waited 10.0 s for"), HasSubstr("for 40.0 s (prefetch)")));
}

TEST_F(WatchTest, SlowButMovingIsNotTold) {
  fill(2);
  send_down(ids[0]);
  send_down(ids[1]);
  seconds_go_by(9 * kSecond);
  act = [this] { rig.complete_oldest(); };
  EXPECT_TRUE(rig.acquire({{ids[0], AccessMode::kRead}, {ids[1], AccessMode::kRead}}).ok());  // 18 s together
  EXPECT_TRUE(rig.warnings().empty());
}

// The others go on, so the time-out does not come; but this wait is told.
TEST_F(WatchTest, OthersThatGoOnHideNoStuckRead) {
  fill(2);
  send_down(ids[0]);
  seconds_go_by(6 * kSecond);
  int steps = 0;
  act = [&] {
    if (++steps == 30) return rig.complete_all();
    if (steps % 2 == 0) return;  // quiet, but not for as long as the time-out
    other.run([this] { EXPECT_TRUE(rig.acquire(ids[1], AccessMode::kRead).ok()); });
  };
  EXPECT_TRUE(rig.acquire(ids[0], AccessMode::kRead).ok());
  EXPECT_EQ(steps, 30);
  ASSERT_EQ(rig.warnings().size(), 1u);
  EXPECT_THAT(rig.warnings()[0], HasSubstr("has waited 12.0 s for chunk 0 param"));
}

TEST_F(WatchTest, EveryThreadThatWaitsIsNamedWithItsGoal) {
  fill(3);  // 0 is down
  send_down(ids[1]);
  seconds_go_by();
  act = [this] {
    if (waits_there) {
      if (!rig.warnings().empty()) rig.complete_all();
      return;
    }
    other.start([this] {
      pthread_setname_np(pthread_self(), "second");
      EXPECT_TRUE(rig.acquire(ids[0], AccessMode::kRead).ok());
    });
    while (!waits_there) std::this_thread::yield();
  };
  EXPECT_TRUE(rig.acquire(ids[1], AccessMode::kRead).ok());
  ASSERT_EQ(rig.warnings().size(), 1u);
  EXPECT_THAT(
      rig.warnings()[0],
      AllOf(
          ContainsRegex("thread [0-9]+ \\([^)]+\\) has waited 10.0 s for chunk 1 param"),
          ContainsRegex(
              "thread [0-9]+ \\(second\\) has waited 9.0 s for its turn to bring chunks, which thread [0-9]+ \\([^)]+\\) has")));
  go_on = true;
  other.finish();
}

TEST_F(WatchTest, WhoHoldsTheRoomIsNamed) {
  fill(3);  // 0 is down, 1 and 2 are up
  LeaseSet theirs;
  other.run([&] {
    pthread_setname_np(pthread_self(), "holder");
    theirs = rig.acquire(ids[2], AccessMode::kRead).value();
  });
  const LeaseSet mine = rig.acquire(ids[1], AccessMode::kRead).value();
  seconds_go_by();
  act = [&] {
    if (!rig.warnings().empty()) theirs.release();
    rig.complete_all();
  };
  EXPECT_TRUE(rig.acquire(ids[0], AccessMode::kRead).ok());
  ASSERT_EQ(rig.warnings().size(), 1u);
  EXPECT_THAT(
      rig.warnings()[0],
      ContainsRegex("has waited 10.0 s for room of 4.0 KiB on compute for chunk 0 param \\(4.0 KiB\\), for a lease to end: "
                    "thread [0-9]+ \\(holder\\) holds 1; no transfer is under way$"));
}

TEST_F(WatchTest, RoomForATensorNamesNoPayload) {
  fill(2);
  seconds_go_by();
  act = [this] {
    if (!rig.warnings().empty()) rig.complete_all();
  };
  EXPECT_TRUE(manager.make_room(kPayloadAlignment).ok());
  ASSERT_EQ(rig.warnings().size(), 1u);
  EXPECT_THAT(rig.warnings()[0],
              AllOf(HasSubstr("has waited 10.0 s for room of 4.0 KiB on compute; under way: write of chunk 0 param"),
                    Not(HasSubstr("compute for chunk"))));
}

TEST_F(WatchTest, AWaitThatIsOverIsForgotten) {
  fill(2);
  send_down(ids[0]);
  seconds_go_by(9 * kSecond);
  act = [this] { rig.complete_all(); };
  EXPECT_TRUE(rig.acquire(ids[0], AccessMode::kRead).ok());
  send_down(ids[0]);
  rig.clock().advance(100 * kSecond);
  seconds_go_by(9 * kSecond);
  EXPECT_TRUE(rig.acquire(ids[0], AccessMode::kRead).ok());  // the same goal as before
  EXPECT_TRUE(rig.warnings().empty());
}

}  // namespace
}  // namespace patrickstar
