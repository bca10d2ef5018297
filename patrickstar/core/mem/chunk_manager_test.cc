// What the manager promises of leases and copies, one behaviour a test, on one thread. chunk_manager_failure_test.cc and
// chunk_manager_wait_test.cc have the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "patrickstar/core/testing/chunk_manager_fixture.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Bytes kUnit = kPayloadAlignment;

TEST_F(ChunkManagerTest, AcquireBringsAllAndPinsThem) {
  fill(4);
  auto lease = rig.acquire({{ids[0], AccessMode::kRead}, {ids[1], AccessMode::kRead}});
  ASSERT_TRUE(lease.ok());
  EXPECT_EQ(*lease.value().address(0), std::byte{10});
  EXPECT_EQ(*lease.value().address(1), std::byte{11});
  EXPECT_TRUE(lease.value().ready().done_on_cpu());
  EXPECT_EQ(rig.tier(0).ledger().pinned(), 2 * kUnit);
  EXPECT_FALSE(manager.give_up(ids[0]));
  lease.value().release();
  lease.value().release();  // once is enough
  EXPECT_EQ(rig.tier(0).ledger().pinned(), 0);
  EXPECT_TRUE(manager.give_up(ids[0]));
}

TEST_F(ChunkManagerTest, AcquireOfMoreThanFitsPinsNothingAndNamesWhatIsHeld) {
  fill(4);
  const auto lease = rig.acquire({{ids[0], AccessMode::kRead}, {ids[1], AccessMode::kRead}, {ids[2], AccessMode::kRead}});
  ASSERT_FALSE(lease.ok());
  EXPECT_EQ(lease.status().code(), StatusCode::kOutOfRoom);
  EXPECT_THAT(lease.status().message(), AllOf(HasSubstr("no room for chunk 1 param"), HasSubstr("chunk 0 param (4.0 KiB)"),
                                              HasSubstr("chunk 1 param"), HasSubstr("budget 8.0 KiB")));
  EXPECT_EQ(rig.tier(0).ledger().pinned(), 0);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(rig.value(ids[static_cast<std::size_t>(i)]), 10 + i);
}

TEST_F(ChunkManagerTest, OutOfRoomNamesTheHolders) {
  fill(3);
  auto held = rig.acquire({{ids[0], AccessMode::kRead}, {ids[1], AccessMode::kRead}});
  const auto lease = rig.acquire(ids[2], AccessMode::kRead);
  ASSERT_FALSE(lease.ok());
  EXPECT_EQ(lease.status().code(), StatusCode::kOutOfRoom);
  EXPECT_THAT(lease.status().message(), AllOf(HasSubstr("chunk 0 param"), HasSubstr("chunk 1 param"), HasSubstr("(1 leases)")));
  EXPECT_EQ(manager.make_room(kUnit).code(), StatusCode::kOutOfRoom);
  held.value().release();
  EXPECT_EQ(rig.value(ids[2]), 12);
}

TEST_F(ChunkManagerTest, APayloadMayBeNamedTwiceAndManyTimes) {
  fill(2);
  std::vector<Access> accesses;
  for (int i = 0; i < 9; ++i) accesses.push_back({ids[static_cast<std::size_t>(i % 2)], AccessMode::kRead});
  auto lease = rig.acquire(accesses);
  ASSERT_TRUE(lease.ok());
  ASSERT_EQ(lease.value().size(), 9u);
  for (std::size_t i = 0; i < 9; ++i) EXPECT_EQ(*lease.value().address(i), std::byte(10 + i % 2));
  LeaseSet moved = std::move(lease).value();
  LeaseSet again;
  again = std::move(moved);
  EXPECT_EQ(*again.address(8), std::byte{10});
  EXPECT_EQ(rig.tier(0).ledger().pinned(), 2 * kUnit);
  again.release();
  EXPECT_EQ(rig.tier(0).ledger().pinned(), 0);
}

TEST_F(ChunkManagerTest, ReadingNeverDirtiesAndACleanCopyIsDroppedWithoutAWrite) {
  fill(1);
  send_down(ids[0]);
  EXPECT_EQ(write_backs(), 1);
  EXPECT_EQ(rig.value(ids[0]), 10);
  EXPECT_TRUE(manager.give_up(ids[0]));
  EXPECT_EQ(rig.pending(), 0u);
  EXPECT_FALSE(manager.resident(ids[0]));
  EXPECT_EQ(write_backs(), 1);
  EXPECT_EQ(rig.value(ids[0]), 10);
  EXPECT_EQ(fetches(), 2);
}

TEST_F(ChunkManagerTest, ADirtyCopyIsWrittenBackBeforeItGoes) {
  fill(1);
  ASSERT_TRUE(manager.give_up(ids[0]));
  EXPECT_EQ(rig.pending(), 1u);
  EXPECT_TRUE(manager.resident(ids[0]));  // until the write is done
  rig.complete_all();
  EXPECT_FALSE(manager.resident(ids[0]));
  EXPECT_TRUE(manager.has_contents(ids[0]));
  EXPECT_EQ(rig.value(ids[0]), 10);
}

TEST_F(ChunkManagerTest, WritingMakesTheCopiesBeneathStale) {
  fill(1);
  send_down(ids[0]);
  {
    auto lease = rig.acquire(ids[0], AccessMode::kWrite);
    ASSERT_TRUE(lease.ok());
    EXPECT_EQ(*lease.value().address(0), std::byte{10});  // kWrite reads as well
    std::memset(lease.value().address(0), 99, kUnit);
  }
  send_down(ids[0]);
  EXPECT_EQ(write_backs(), 2);
  EXPECT_EQ(rig.value(ids[0]), 99);
}

TEST_F(ChunkManagerTest, CreateDoesNotFetch) {
  fill(1);
  send_down(ids[0]);
  ASSERT_TRUE(rig.fill(ids[0], 50).ok());
  EXPECT_EQ(fetches(), 0);
  send_down(ids[0]);
  EXPECT_EQ(rig.value(ids[0]), 50);
}

TEST_F(ChunkManagerTest, AReaderThatComesDuringAWriteBackKeepsTheCopy) {
  fill(1);
  ASSERT_TRUE(manager.give_up(ids[0]));
  auto lease = rig.acquire(ids[0], AccessMode::kRead);
  ASSERT_TRUE(lease.ok());
  EXPECT_EQ(rig.waiter().waits(), 0);
  rig.complete_all();
  EXPECT_EQ(*lease.value().address(0), std::byte{10});
  lease.value().release();
  EXPECT_TRUE(manager.resident(ids[0]));
  EXPECT_TRUE(manager.give_up(ids[0]));  // clean by now
  EXPECT_EQ(rig.pending(), 0u);
}

TEST_F(ChunkManagerTest, AWriterThatComesDuringAWriteBackWaitsForIt) {
  fill(1);
  ASSERT_TRUE(manager.give_up(ids[0]));
  auto lease = rig.acquire(ids[0], AccessMode::kWrite);
  ASSERT_TRUE(lease.ok());
  EXPECT_EQ(rig.waiter().waits(), 1);
  EXPECT_EQ(rig.pending(), 0u);
  std::memset(lease.value().address(0), 44, kUnit);
  lease.value().release();
  send_down(ids[0]);
  EXPECT_EQ(rig.value(ids[0]), 44);
  EXPECT_EQ(fetches(), 1);
}

TEST_F(ChunkManagerTest, DiscardForgetsWithoutAWrite) {
  fill(2);
  manager.discard(ids[0]);
  EXPECT_FALSE(manager.has_contents(ids[0]));
  EXPECT_EQ(rig.tier(0).places(), 1u);
  EXPECT_EQ(manager.stats().written(), 0);
  const auto lease = rig.acquire(ids[0], AccessMode::kRead);
  EXPECT_EQ(lease.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(lease.status().message(), HasSubstr("chunk 0 param has no contents"));
}

// As an update does with the gradients that it was the last to read: the plan, which is done with them, must not write them.
TEST_F(ChunkManagerTest, WhatIsDiscardedWhileItIsLeasedGoesWithTheLease) {
  fill(2);
  auto last = rig.acquire(ids[0], AccessMode::kRead);
  auto other = rig.acquire(ids[0], AccessMode::kRead);
  ASSERT_TRUE(last.ok() && other.ok());
  manager.discard(ids[0]);
  manager.discard(ids[0]);
  EXPECT_FALSE(manager.has_contents(ids[0]));
  EXPECT_EQ(rig.acquire(ids[0], AccessMode::kRead).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(rig.acquire(ids[0], AccessMode::kWrite).status().code(), StatusCode::kInvalidArgument);
  manager.check_invariants();
  last.value().release();
  EXPECT_EQ(rig.tier(0).places(), 2u) << "the other reads it yet";
  other.value().release();
  EXPECT_EQ(rig.tier(0).places(), 1u);
  EXPECT_EQ(manager.stats().written(), 0);
  manager.check_invariants();
}

TEST_F(ChunkManagerTest, WhatIsDiscardedWhileItIsLeasedCanBeFilledAnew) {
  fill(2);
  auto last = rig.acquire(ids[0], AccessMode::kRead);
  ASSERT_TRUE(last.ok());
  manager.discard(ids[0]);
  auto created = manager.acquire_or_create(ids[0]);
  ASSERT_TRUE(created.ok());
  std::memset(created.value().address(0), 9, kUnit);
  last.value().release();
  created.value().release();
  manager.check_invariants();
  EXPECT_EQ(rig.value(ids[0]), 9);
}

TEST_F(ChunkManagerTest, WhatIsDiscardedWhileItIsLeasedAndWrittenGoesAfterBoth) {
  fill(2);
  ASSERT_TRUE(manager.give_up(ids[0]));
  auto last = rig.acquire(ids[0], AccessMode::kRead);  // along with the write-back
  ASSERT_TRUE(last.ok());
  manager.discard(ids[0]);
  manager.check_invariants();
  rig.complete_all();
  manager.check_invariants();
  EXPECT_FALSE(manager.has_contents(ids[0]));
  EXPECT_EQ(rig.tier(0).places(), 2u);
  last.value().release();
  EXPECT_EQ(rig.tier(0).places(), 1u);
  manager.check_invariants();
}

TEST_F(ChunkManagerTest, WhatIsDiscardedOnItsWayGoesWhenItArrives) {
  fill(2);
  ASSERT_TRUE(manager.give_up(ids[1]));  // on its way down
  manager.discard(ids[1]);
  EXPECT_EQ(rig.waiter().waits(), 0);
  EXPECT_EQ(rig.pending(), 1u);
  EXPECT_FALSE(manager.has_contents(ids[1]));
  manager.check_invariants();
  EXPECT_EQ(rig.acquire(ids[1], AccessMode::kRead).status().code(), StatusCode::kInvalidArgument);
  rig.complete_all();
  EXPECT_EQ(rig.tier(0).places(), 1u);
  ASSERT_TRUE(manager.give_up(ids[0]));
  rig.complete_all();
  ASSERT_TRUE(manager.prefetch(ids[0]));  // on its way up
  manager.discard(ids[0]);
  EXPECT_FALSE(manager.has_contents(ids[0]));
  ASSERT_TRUE(rig.fill(ids[0], 7).ok()) << "waits, and is new";
  EXPECT_EQ(rig.value(ids[0]), 7);
  EXPECT_EQ(rig.tier(0).places(), 1u);
  manager.check_invariants();
}

TEST_F(ChunkManagerTest, WhatIsDiscardedOnItsWayUpThroughThreeTiersStopsHalfWay) {
  ManagerRig three({2 * kUnit, 3 * kUnit, 20 * kUnit});
  const PayloadId id = three.add(kUnit);
  ASSERT_TRUE(three.fill(id, 3).ok());
  ASSERT_TRUE(three.manager().give_up(id));
  three.complete_all();
  ASSERT_TRUE(three.manager().prefetch(id));
  three.manager().discard(id);
  three.complete_all();
  EXPECT_FALSE(three.manager().has_contents(id));
  EXPECT_EQ(three.tier(0).places() + three.tier(1).places(), 0u);
  three.manager().check_invariants();
}

TEST_F(ChunkManagerTest, RemoveGivesEverythingBack) {
  fill(3);
  for (const PayloadId id : ids) manager.remove(id);
  EXPECT_EQ(rig.tier(0).places(), 0u);
  EXPECT_EQ(rig.tier(1).places(), 0u);
}

TEST_F(ChunkManagerTest, AddWithoutASlotAddsNothing) {
  rig.tier(1).refuse(1, StatusCode::kOutOfRoom);
  const auto refused = manager.add({.name = "chunk 7 grad", .bytes = kUnit});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::kOutOfRoom);
  EXPECT_THAT(refused.status().message(), HasSubstr("no slot for chunk 7 grad"));
  fill(1);
  EXPECT_EQ(rig.value(ids[0]), 10);
}

TEST_F(ChunkManagerTest, PrefetchTakesRoomThatIsThereAndNeverEvicts) {
  fill(3);  // 1 and 2 are up
  EXPECT_FALSE(manager.prefetch(ids[0]));
  EXPECT_TRUE(manager.prefetch(ids[1]));
  EXPECT_EQ(rig.pending(), 0u);
  send_down(ids[1]);
  EXPECT_TRUE(manager.prefetch(ids[0]));
  EXPECT_TRUE(manager.prefetch(ids[0]));  // on its way
  EXPECT_EQ(rig.pending(), 1u);
  EXPECT_EQ(rig.link(0).transfer(0).urgency, Urgency::kPrefetch);
  EXPECT_EQ(rig.value(ids[0]), 10);  // joins the transfer
  EXPECT_EQ(fetches(), 1);
  const PayloadId empty = rig.add();
  EXPECT_FALSE(manager.prefetch(empty));
}

TEST_F(ChunkManagerTest, MakeRoomEvictsAsMuchAsWasAsked) {
  fill(2);
  EXPECT_TRUE(manager.make_room(kUnit).ok());
  EXPECT_EQ(rig.tier(0).ledger().room(), kUnit);
  EXPECT_FALSE(manager.resident(ids[0]));  // the longest unused
  EXPECT_TRUE(manager.make_room(kUnit).ok());
  EXPECT_EQ(rig.tier(0).ledger().room(), 2 * kUnit);
  EXPECT_EQ(manager.stats().evictions, 2);
  EXPECT_EQ(manager.make_room(kUnit).code(), StatusCode::kOutOfRoom);
  EXPECT_EQ(rig.value(ids[0]), 10);
}

TEST_F(ChunkManagerTest, EventsTellTheStoryInOrder) {
  fill(1);
  send_down(ids[0]);
  const std::size_t before = rig.events().snapshot().size();
  rig.clock().advance(77);
  EXPECT_EQ(rig.value(ids[0]), 10);
  const auto events = rig.events().snapshot();
  std::vector<EventKind> kinds;
  for (std::size_t i = before; i < events.size(); ++i) {
    EXPECT_EQ(events[i].time, 77);
    if (is_reading(events[i].kind)) continue;
    kinds.push_back(events[i].kind);
    EXPECT_EQ(events[i].payload, ids[0]);
    EXPECT_EQ(events[i].payload_kind, "param");
  }
  EXPECT_EQ(kinds, (std::vector<EventKind>{EventKind::kMiss, EventKind::kFetchStart, EventKind::kStallStart,
                                           EventKind::kFetchDone, EventKind::kStallEnd, EventKind::kAccess}));
}

}  // namespace
}  // namespace patrickstar
