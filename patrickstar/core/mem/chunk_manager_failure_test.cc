// What the manager promises when transfers fail, and with one and with three tiers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <utility>

#include "patrickstar/core/testing/chunk_manager_fixture.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Bytes kUnit = kPayloadAlignment;

class ThreeTiers : public ChunkManagerTest {
 protected:
  ThreeTiers() : ChunkManagerTest({kUnit, 2 * kUnit, 20 * kUnit}) {}
};

class OneTier : public ChunkManagerTest {
 protected:
  OneTier() : ChunkManagerTest({2 * kUnit}) {}
};

TEST_F(ChunkManagerTest, AFailedFetchChangesNothingAndNamesPayloadAndFile) {
  fill(2);
  send_down(ids[0]);
  rig.link(0).failures(Direction::kUp).arm(1);
  const auto lease = rig.acquire({{ids[1], AccessMode::kWrite}, {ids[0], AccessMode::kRead}});
  ASSERT_FALSE(lease.ok());
  EXPECT_EQ(lease.status().code(), StatusCode::kIoError);
  EXPECT_THAT(lease.status().message(), AllOf(HasSubstr("fetch of chunk 0 param (4.0 KiB) failed"), HasSubstr("/scratch/0")));
  EXPECT_EQ(rig.link(0).failures(Direction::kUp).injected(), 1);
  EXPECT_EQ(rig.tier(0).ledger().pinned(), 0);
  EXPECT_EQ(rig.tier(0).places(), 1u);  // the room for it went back
  EXPECT_EQ(rig.value(ids[0]), 10);
  EXPECT_EQ(rig.value(ids[1]), 11);
}

TEST_F(ChunkManagerTest, AFailedWriteBackKeepsTheOnlyCopy) {
  fill(1);
  ASSERT_TRUE(manager.give_up(ids[0]));
  rig.link(0).fail(0);
  EXPECT_TRUE(manager.resident(ids[0]));
  EXPECT_EQ(rig.value(ids[0]), 10);
  send_down(ids[0]);  // still dirty: it is written now
  EXPECT_EQ(write_backs(), 1);
  EXPECT_EQ(rig.value(ids[0]), 10);
}

// An acquire may give up; who throws a payload or the manager away cannot.
TEST_F(ChunkManagerTest, ATransferThatTakesLongerThanTheTimeOutIsWaitedFor) {
  fill(2);
  ASSERT_TRUE(manager.give_up(ids[0]));
  const auto idle = std::make_shared<int>(0);  // outlives this function, as the manager does
  rig.waiter().set_step([this, idle] { return ++*idle > 3 && rig.complete_oldest(); });
  EXPECT_EQ(rig.acquire(ids[0], AccessMode::kWrite).status().code(), StatusCode::kTimedOut);
  EXPECT_EQ(*idle, 1);
  manager.remove(ids[0]);
  EXPECT_EQ(*idle, 4);
  EXPECT_EQ(rig.pending(), 0u);
  ASSERT_TRUE(manager.give_up(ids[1]));
  *idle = 0;  // the manager's end waits, too
}

TEST_F(ChunkManagerTest, AFailedWriteBackOfWhatWasDiscardedIsNobodysFailure) {
  ManagerRig two({2 * kUnit, 20 * kUnit});
  const PayloadId dead = two.add(kUnit);
  const PayloadId alive = two.add(kUnit);
  ASSERT_TRUE(two.fill(dead, 1).ok() && two.fill(alive, 2).ok());
  ASSERT_TRUE(two.manager().give_up(dead));
  two.manager().discard(dead);
  bool failed = false;
  two.waiter().set_step([&] {
    if (std::exchange(failed, true)) return two.complete_oldest();
    two.link(0).fail(0);
    return true;
  });
  const Status room = two.manager().make_room(2 * kUnit);
  EXPECT_TRUE(failed);
  EXPECT_TRUE(room.ok()) << room.message();
  EXPECT_EQ(two.value(alive), 2);
  two.manager().check_invariants();
}

TEST_F(ChunkManagerTest, AnAcquireThatNeedsAFailedWriteBackSaysSo) {
  fill(3);
  auto written = rig.acquire({{ids[1], AccessMode::kWrite}, {ids[2], AccessMode::kWrite}});
  ASSERT_TRUE(written.ok());
  written.value().release();
  rig.link(0).failures(Direction::kDown).arm(1);
  const auto lease = rig.acquire(ids[0], AccessMode::kRead);
  ASSERT_FALSE(lease.ok());
  EXPECT_EQ(lease.status().code(), StatusCode::kIoError);
  EXPECT_THAT(lease.status().message(),
              AllOf(HasSubstr("no room for chunk 0 param"), HasSubstr("write-back of chunk 1 param"), HasSubstr("/scratch/0")));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(rig.value(ids[static_cast<std::size_t>(i)]), 10 + i);
}

TEST_F(ChunkManagerTest, AFailedCreateLeavesWhatStoodBefore) {
  fill(2);
  send_down(ids[0]);
  send_down(ids[1]);
  bool seen_while_reserved = false;
  rig.waiter().set_step([&] {
    seen_while_reserved |= manager.resident(ids[0]);
    EXPECT_TRUE(manager.prefetch(ids[0]));
    EXPECT_FALSE(manager.give_up(ids[0]));
    manager.check_invariants();
    return rig.complete_oldest();
  });
  rig.link(0).failures(Direction::kUp).arm(1);
  const auto lease = rig.acquire({{ids[0], AccessMode::kCreate}, {ids[1], AccessMode::kRead}});
  ASSERT_EQ(lease.status().code(), StatusCode::kIoError);
  EXPECT_FALSE(seen_while_reserved);
  EXPECT_EQ(rig.tier(0).places(), 0u);
  EXPECT_EQ(rig.value(ids[0]), 10);
}

TEST_F(ChunkManagerTest, AWaitThatNothingEndsTimesOut) {
  fill(2);
  send_down(ids[0]);
  rig.waiter().set_step([] { return false; });
  const auto lease = rig.acquire(ids[0], AccessMode::kRead);
  ASSERT_EQ(lease.status().code(), StatusCode::kTimedOut);
  EXPECT_THAT(lease.status().message(), HasSubstr("under way: read of chunk 0 param (4.0 KiB, demand) for 0.0 s"));
  manager.check_invariants();
  rig.waiter().set_step([this] { return rig.complete_oldest(); });
  EXPECT_EQ(rig.value(ids[0]), 10);
}

TEST_F(ThreeTiers, APrefetchGoesUpInTwoHops) {
  fill(4);  // 3 is up, 1 and 2 in the middle, 0 at the bottom
  for (const int i : {1, 2, 3}) manager.discard(ids[static_cast<std::size_t>(i)]);
  EXPECT_TRUE(manager.prefetch(ids[0]));
  EXPECT_EQ(rig.link(1).pending(), 1u);
  EXPECT_TRUE(rig.complete_oldest());
  EXPECT_EQ(rig.link(0).pending(), 1u);
  EXPECT_TRUE(rig.complete_oldest());
  EXPECT_TRUE(manager.resident(ids[0]));
  EXPECT_EQ(rig.value(ids[0]), 10);
}

TEST_F(ThreeTiers, APrefetchWithoutRoomAboveStaysHalfWay) {
  fill(4);
  manager.discard(ids[1]);
  EXPECT_TRUE(manager.prefetch(ids[0]));
  rig.complete_all();
  EXPECT_FALSE(manager.resident(ids[0]));
  const std::int64_t before = fetches();
  EXPECT_EQ(rig.value(ids[0]), 10);
  EXPECT_EQ(fetches(), before + 1);  // one hop only
}

TEST_F(ThreeTiers, GivingUpEndsAPrefetch) {
  fill(4);
  for (const int i : {1, 2, 3}) manager.discard(ids[static_cast<std::size_t>(i)]);
  EXPECT_TRUE(manager.prefetch(ids[0]));
  EXPECT_TRUE(manager.give_up(ids[0]));
  rig.complete_all();
  EXPECT_FALSE(manager.resident(ids[0]));
  EXPECT_EQ(rig.value(ids[0]), 10);
}

TEST_F(ThreeTiers, AnEvictionMakesRoomInTheMiddleFirst) {
  fill(6);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(rig.value(ids[static_cast<std::size_t>(i)]), 10 + i);
  EXPECT_GT(rig.link(1).bytes_down(), 0);
  EXPECT_GT(rig.link(1).bytes_up(), 0);
}

TEST_F(ThreeTiers, AVictimThatIsRemovedWhileRoomIsMadeForItLosesNoPlace) {
  fill(4);
  bool removed = false;
  rig.waiter().set_step([&] {
    if (!std::exchange(removed, true)) manager.remove(ids[3]);
    return rig.complete_oldest();
  });
  EXPECT_TRUE(manager.make_room(kUnit).ok());  // 3 waits for room in the middle
  EXPECT_TRUE(removed);
  manager.check_invariants();
  EXPECT_EQ(rig.tier(0).places(), 0u);
  EXPECT_EQ(rig.value(ids[0]), 10);
}

TEST_F(OneTier, HoldsWhatFitsAndSaysWhenNothingCanGiveWay) {
  fill(2);
  const PayloadId third = rig.add();
  const Status status = rig.fill(third, 1);
  EXPECT_EQ(status.code(), StatusCode::kOutOfRoom);
  EXPECT_THAT(status.message(), HasSubstr("nothing lies beneath"));
  EXPECT_FALSE(manager.give_up(ids[0]));
  manager.discard(ids[0]);
  ASSERT_TRUE(rig.fill(third, 1).ok());
  EXPECT_EQ(rig.value(third), 1);
  EXPECT_EQ(rig.value(ids[1]), 11);
}

}  // namespace
}  // namespace patrickstar
