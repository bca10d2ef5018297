// What the manager tells of its payloads: counts for each, and events with what they were for.
#include <gmock/gmock.h>

#include "patrickstar/core/testing/chunk_manager_fixture.h"

namespace patrickstar {
namespace {

using testing::ElementsAre;
using testing::Pair;

constexpr Bytes kUnit = kPayloadAlignment;

class ReportTest : public ChunkManagerTest {
 protected:
  PayloadReport of(PayloadId id) {
    for (const PayloadReport& report : manager.report()) {
      if (report.id == id) return report;
    }
    ADD_FAILURE() << "no report of payload " << id.value;
    return {};
  }
  std::vector<Event> events_since(std::size_t before) {
    auto events = rig.events().snapshot();
    return {events.begin() + static_cast<std::ptrdiff_t>(before), events.end()};
  }
  std::vector<Bytes> readings(EventKind kind, std::size_t before = 0) {
    std::vector<Bytes> values;
    for (const Event& event : events_since(before)) {
      if (event.kind == kind) values.push_back(event.bytes);
    }
    return values;
  }
};

TEST_F(ReportTest, CountsOfAPayloadAreItsOwn) {
  fill(2);
  rig.clock().advance(100);
  send_down(ids[0]);
  rig.clock().advance(50);
  EXPECT_EQ(rig.value(ids[0]), 10);
  rig.clock().advance(7);
  const auto lease = rig.acquire(ids[0], AccessMode::kRead);
  const PayloadReport report = of(ids[0]);
  EXPECT_EQ(report.spec.name, "chunk 0 param");
  EXPECT_EQ(report.spec.bytes, kUnit);
  EXPECT_THAT(report.states, ElementsAre(CopyState::kValid, CopyState::kValid, CopyState::kNone));
  EXPECT_EQ(report.pins, 1);
  EXPECT_EQ(report.counts.uses, 3);  // the one that filled it, and two
  EXPECT_EQ(report.counts.misses, 1 + 1);
  EXPECT_EQ(report.counts.evictions, 1);
  EXPECT_EQ(report.counts.late, 0);
  EXPECT_EQ(report.counts.read, kUnit);
  EXPECT_EQ(report.counts.written, kUnit);
  EXPECT_EQ(report.counts.resident, 100 + 7);
  EXPECT_EQ(of(ids[1]).counts.read, 0);
  EXPECT_EQ(of(ids[1]).counts.resident, 157);
}

TEST_F(ReportTest, OnlyWhatThereIsIsReported) {
  fill(2);
  manager.remove(ids[0]);
  ASSERT_EQ(manager.report().size(), 1u);
  EXPECT_EQ(manager.report()[0].id, ids[1]);
  manager.discard(ids[1]);
  EXPECT_EQ(of(ids[1]).states[0], CopyState::kNone);
  EXPECT_EQ(of(ids[1]).counts.uses, 1);
}

TEST_F(ReportTest, AFetchThatFailedIsNoResidency) {
  fill(2);
  send_down(ids[0]);
  rig.link(0).failures(Direction::kUp).arm(1);
  EXPECT_FALSE(rig.acquire(ids[0], AccessMode::kRead).ok());
  rig.clock().advance(10);
  EXPECT_EQ(of(ids[0]).counts.resident, 0);
  EXPECT_EQ(of(ids[0]).counts.read, 0);
}

TEST_F(ReportTest, WhoComesBeforeAPrefetchIsDoneFindsItLate) {
  fill(2);
  send_down(ids[0]);
  const std::size_t before = rig.events().snapshot().size();
  EXPECT_TRUE(manager.prefetch(ids[0]));
  EXPECT_TRUE(rig.acquire(ids[0], AccessMode::kRead).ok());
  EXPECT_EQ(of(ids[0]).counts.late, 1);
  EXPECT_EQ(of(ids[0]).counts.misses, 1);  // of the filling alone
  std::vector<std::pair<EventKind, std::string_view>> story;
  for (const Event& event : events_since(before)) {
    if (!is_reading(event.kind)) story.emplace_back(event.kind, event.why);
  }
  EXPECT_THAT(story, ElementsAre(Pair(EventKind::kFetchStart, "prefetch"), Pair(EventKind::kLate, ""),
                                 Pair(EventKind::kStallStart, "transfer"), Pair(EventKind::kFetchDone, ""),
                                 Pair(EventKind::kStallEnd, "transfer"), Pair(EventKind::kAccess, "")));
}

TEST_F(ReportTest, ReadingsFollowTheBytes) {
  fill(2);
  send_down(ids[0]);
  const std::size_t before = rig.events().snapshot().size();
  EXPECT_TRUE(manager.prefetch(ids[0]));
  EXPECT_TRUE(rig.tier(0).ledger().try_charge(Account::kNonModel, 0));
  rig.complete_all();
  EXPECT_TRUE(rig.acquire(ids[0], AccessMode::kRead).ok());
  EXPECT_THAT(readings(EventKind::kChunkBytes, before), ElementsAre(2 * kUnit));
  EXPECT_THAT(readings(EventKind::kUnderWayBytes, before), ElementsAre(kUnit, 0));
  EXPECT_THAT(readings(EventKind::kAheadBytes, before), ElementsAre(kUnit, 0));
  EXPECT_THAT(readings(EventKind::kBudgetBytes), ElementsAre(2 * kUnit));
}

TEST_F(ReportTest, AStallForRoomSaysSo) {
  fill(3);  // 0 is down, 1 and 2 are up and dirty
  const std::size_t before = rig.events().snapshot().size();
  rig.waiter().set_step([this] {
    rig.clock().advance(5);
    return rig.complete_oldest();
  });
  EXPECT_TRUE(rig.acquire(ids[0], AccessMode::kRead).ok());
  std::vector<std::pair<std::string, Nanos>> stalls;
  for (const Event& event : events_since(before)) {
    if (event.kind != EventKind::kStallStart && event.kind != EventKind::kStallEnd) continue;
    EXPECT_EQ(event.payload, ids[0]);
    EXPECT_EQ(event.bytes, kUnit);
    stalls.emplace_back(std::string(event.why) + (event.kind == EventKind::kStallStart ? " starts" : " ends"), event.time);
  }
  EXPECT_THAT(stalls,
              ElementsAre(Pair("room starts", 0), Pair("room ends", 5), Pair("transfer starts", 5), Pair("transfer ends", 10)));
}

TEST_F(ReportTest, WhatHasToGoForRoomIsMarked) {
  fill(2);
  const std::size_t before = rig.events().snapshot().size();
  EXPECT_TRUE(manager.make_room(kUnit).ok());
  std::vector<EventKind> kinds;
  for (const Event& event : events_since(before)) {
    if (!is_reading(event.kind)) kinds.push_back(event.kind);
  }
  EXPECT_THAT(kinds, ElementsAre(EventKind::kForced, EventKind::kWriteStart, EventKind::kStallStart, EventKind::kWriteDone,
                                 EventKind::kDrop, EventKind::kStallEnd));
}

}  // namespace
}  // namespace patrickstar
