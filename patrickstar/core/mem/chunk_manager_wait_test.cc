// What the manager promises when several threads hold and want: who waits, who is refused, and that room is given back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <latch>
#include <thread>

#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/testing/manager_rig.h"
#include "patrickstar/core/testing/worker_thread.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Bytes kUnit = kPayloadAlignment;

// The manager runs on this thread; `other` is a second one that a test lets act while this one waits. Each has a step of its own.
class WaitTest : public testing::Test {
 protected:
  WaitTest() : rig({2 * kUnit, 20 * kUnit}) {
    for (int i = 0; i < 5; ++i) {
      ids.push_back(rig.add());
      EXPECT_TRUE(rig.fill(ids.back(), 10 + i).ok());
    }
    rig.complete_all();  // 3 and 4 are up
    const auto main = std::this_thread::get_id();
    rig.waiter().set_step([this, main] {
      rig.manager().check_invariants();
      if (rig.complete_oldest()) return true;
      return std::this_thread::get_id() == main ? my_step() : other_step();
    });
  }
  LeaseSet read(PayloadId id) {
    auto lease = rig.acquire(id, AccessMode::kRead);
    EXPECT_TRUE(lease.ok()) << lease.status().message();
    return lease.ok() ? std::move(lease).value() : LeaseSet();
  }

  ManagerRig rig;
  std::vector<PayloadId> ids;
  std::function<bool()> my_step = [] { return false; };
  std::function<bool()> other_step = [] { return false; };
  std::atomic<bool> waiting_there = false;
  std::atomic<bool> go_on = false;
  WorkerThread other;
};

TEST_F(WaitTest, WaitsForAnotherThreadsLease) {
  LeaseSet mine = read(ids[3]);
  LeaseSet theirs;
  other.run([&] { theirs = read(ids[4]); });
  my_step = [&] {
    other.run([&] { theirs.release(); });
    return true;
  };
  EXPECT_EQ(*read(ids[0]).address(0), std::byte{10});
}

// Two threads fill parts of a new payload. The first creates it, and it goes to the disk before the other's turn comes.
TEST_F(WaitTest, WhatAnotherCreatedMeanwhileIsNotCreatedAgain) {
  const PayloadId fresh = rig.add();
  std::byte found{};
  rig.waiter().set_step([&, main = std::this_thread::get_id()] {
    if (std::this_thread::get_id() != main) return other_step();
    if (!waiting_there) {
      other.start([&] {
        auto lease = rig.manager().acquire_or_create(fresh);
        ASSERT_TRUE(lease.ok()) << lease.status().message();
        found = *lease.value().address(0);
      });
      while (!waiting_there) std::this_thread::yield();
    }
    return rig.complete_oldest();
  });
  other_step = [&] {
    waiting_there = true;
    while (!go_on) std::this_thread::yield();
    return rig.complete_oldest() || true;
  };
  {
    auto lease = rig.manager().acquire_or_create(fresh);
    ASSERT_TRUE(lease.ok()) << lease.status().message();
    std::memset(lease.value().address(0), 77, kUnit);
  }
  ASSERT_TRUE(rig.manager().give_up(fresh));
  rig.complete_all();
  ASSERT_FALSE(rig.manager().resident(fresh));
  go_on = true;
  other.finish();
  EXPECT_EQ(found, std::byte{77});
  EXPECT_EQ(rig.value(fresh), 77);
  rig.manager().check_invariants();
}

TEST_F(WaitTest, MakeRoomWaitsForAnotherThreadsLeaseToo) {
  LeaseSet mine = read(ids[3]);
  LeaseSet theirs;
  other.run([&] { theirs = read(ids[4]); });
  my_step = [&] {
    theirs.release();  // on another thread than acquired it
    return true;
  };
  EXPECT_TRUE(rig.manager().make_room(kUnit).ok());
  EXPECT_FALSE(rig.manager().resident(ids[4]));
}

// We hold 3 and gather; the other holds 4 and wants its turn to gather: neither can go on.
TEST_F(WaitTest, WhenEveryHolderWaitsOneIsRefusedWithTheHolders) {
  LeaseSet mine = read(ids[3]);
  LeaseSet theirs;
  Status refusal;
  other.run([&] { theirs = read(ids[4]); });
  int steps = 0;
  my_step = [&] {
    if (++steps == 1) {
      other.start([&] {
        auto more = rig.acquire(ids[1], AccessMode::kRead);
        refusal = more.status();
        theirs.release();
      });
      while (!waiting_there) std::this_thread::yield();
    }
    return true;
  };
  other_step = [&] {
    waiting_there = true;
    while (!go_on) std::this_thread::yield();
    return true;
  };
  const auto lease = rig.acquire(ids[0], AccessMode::kRead);
  EXPECT_EQ(lease.status().code(), StatusCode::kDeadlock) << lease.status().message();
  EXPECT_THAT(lease.status().message(), AllOf(HasSubstr("chunk 3 param"), HasSubstr("chunk 4 param")));
  mine.release();
  go_on = true;
  other.finish();
  EXPECT_TRUE(refusal.ok()) << refusal.message();  // our failure left it room
}

// The other releases the lease we wait for and wants room itself before we have run again. We are no longer blocked then: it
// must not be told that all holders wait.
TEST_F(WaitTest, WhoHasBeenWokenButNotRunYetIsNotWaiting) {
  LeaseSet mine = read(ids[3]);
  LeaseSet theirs;
  other.run([&] { theirs = read(ids[4]); });
  Status status;
  bool other_waited = false;
  other_step = [&] {
    other_waited = true;
    return false;
  };
  my_step = [&] {
    other.run([&] {
      theirs.release();
      status = rig.manager().make_room(2 * kUnit);  // 4 goes, 3 is ours
      status = rig.manager().make_room(kUnit);
    });
    return true;
  };
  EXPECT_TRUE(rig.manager().make_room(kUnit).ok());
  EXPECT_TRUE(other_waited);
  EXPECT_EQ(status.code(), StatusCode::kTimedOut) << status.message();  // it waited for us; nobody was there to end that
}

// A gather that waits for a lease holds nothing: whoever holds that lease may need room to finish.
TEST_F(WaitTest, AGatherThatWaitsForALeaseLetsGoOfWhatItHas) {
  LeaseSet theirs;
  other.run([&] { theirs = read(ids[3]); });
  Status made = Status(StatusCode::kTimedOut, "not run");
  int steps = 0;
  my_step = [&] {
    ++steps;
    EXPECT_EQ(rig.tier(0).ledger().pinned(), kUnit);  // theirs alone
    other.run([&] {
      made = rig.manager().make_room(kUnit);  // needs what we had gathered: 4
      theirs.release();
    });
    return true;
  };
  const auto lease = rig.acquire({{ids[4], AccessMode::kRead}, {ids[0], AccessMode::kRead}});
  ASSERT_TRUE(lease.ok()) << lease.status().message();
  EXPECT_TRUE(made.ok()) << made.message();
  EXPECT_EQ(steps, 1);
  EXPECT_EQ(*lease.value().address(0), std::byte{14});
  EXPECT_EQ(*lease.value().address(1), std::byte{10});
}

// Holders that each lack a little more than one payload would take from it for ever what it fetches for ever.
TEST_F(WaitTest, AGatherThatLetGoFetchesNothingUntilALeaseIsReleased) {
  LeaseSet theirs;
  other.run([&] { theirs = read(ids[3]); });
  int steps = 0;
  my_step = [&] {
    if (++steps < 4) {
      other.run([&] {
        if (rig.tier(0).ledger().room() < kUnit) {
          EXPECT_TRUE(rig.manager().make_room(kUnit).ok());
        }
      });
    } else {
      other.run([&] { theirs.release(); });
    }
    return true;
  };
  const auto before = rig.manager().stats().kinds[static_cast<std::size_t>(PayloadKind::kParam)].fetches;
  const auto lease = rig.acquire({{ids[0], AccessMode::kRead}, {ids[1], AccessMode::kRead}});
  ASSERT_TRUE(lease.ok()) << lease.status().message();
  EXPECT_EQ(steps, 4);
  const auto fetches = rig.manager().stats().kinds[static_cast<std::size_t>(PayloadKind::kParam)].fetches - before;
  EXPECT_EQ(fetches, 3);  // the first try, and both at last
}

TEST_F(WaitTest, ACreateThatWaitsGivesItsRoomToo) {
  LeaseSet theirs;
  other.run([&] { theirs = read(ids[3]); });
  Status made = Status(StatusCode::kTimedOut, "not run");
  my_step = [&] {
    other.run([&] {
      made = rig.tier(0).ledger().room() >= kUnit ? Status() : rig.manager().make_room(kUnit);
      theirs.release();
    });
    return true;
  };
  auto lease = rig.acquire({{ids[1], AccessMode::kCreate}, {ids[0], AccessMode::kRead}});
  ASSERT_TRUE(lease.ok()) << lease.status().message();
  EXPECT_TRUE(made.ok()) << made.message();
  EXPECT_EQ(*lease.value().address(1), std::byte{10});
}

// A holder that needs room while somebody gathers is not refused: the gather ends or lets go.
TEST_F(WaitTest, AHolderWaitsForAGatherUnderWay) {
  LeaseSet theirs;
  other.run([&] { theirs = read(ids[3]); });
  std::latch other_done(1);
  Status made = Status(StatusCode::kTimedOut, "not run");
  bool asked = false;
  rig.waiter().set_step([&, main = std::this_thread::get_id()] {
    if (std::this_thread::get_id() != main) {  // the other waits for our gather: go on here
      waiting_there = true;
      while (!go_on) std::this_thread::yield();
      return true;
    }
    if (!asked && rig.link(0).pending() == 1 && rig.link(0).transfer(0).direction == Direction::kUp) {
      asked = true;  // our gather has pinned 0 and its transfer is done, but has not seen it yet
      rig.complete_oldest();
      other.start([&] {
        made = rig.manager().make_room(kUnit);
        theirs.release();
        other_done.count_down();
      });
      while (!waiting_there) std::this_thread::yield();
      return true;
    }
    return rig.complete_oldest();
  });
  {
    auto lease = rig.acquire(ids[0], AccessMode::kRead);
    EXPECT_TRUE(lease.ok()) << lease.status().message();
  }
  EXPECT_TRUE(asked);
  go_on = true;
  other_done.wait();
  other.finish();
  EXPECT_TRUE(made.ok()) << made.message();
}

}  // namespace
}  // namespace patrickstar
