// Every order in which pending transfers can complete, each of them well or with an error.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "patrickstar/core/testing/all_orders.h"
#include "patrickstar/core/testing/manager_rig.h"

namespace patrickstar {
namespace {

constexpr Bytes kUnit = kPayloadAlignment;

class Scenario {
 public:
  explicit Scenario(const std::vector<Bytes>& capacities, int payloads) : rig(capacities), manager(rig.manager()) {
    for (int i = 0; i < payloads; ++i) {
      ids.push_back(rig.add());
      EXPECT_TRUE(rig.fill(ids.back(), 10 + i).ok());
    }
    rig.complete_all();
  }

  // Completes any pending transfer, well or not; returns its payload.
  PayloadId complete_one(AllOrders& orders) {
    std::size_t chosen = orders.pick(rig.pending());
    std::size_t link = 0;
    while (chosen >= rig.link(link).pending()) chosen -= rig.link(link++).pending();
    const PayloadId id = rig.link(link).transfer(chosen).payload;
    if (orders.pick(2) == 0) {
      rig.link(link).complete(chosen);
    } else {
      ++failed;
      rig.link(link).fail(chosen);
      failed_ids.push_back(id);
    }
    manager.check_invariants();
    return id;
  }

  bool has_failed(PayloadId id) const { return std::find(failed_ids.begin(), failed_ids.end(), id) != failed_ids.end(); }
  void expect_all_contents() {
    rig.waiter().set_step([this] { return rig.complete_oldest(); });
    for (std::size_t i = 0; i < ids.size(); ++i)
      ASSERT_EQ(rig.value(ids[i]), values.contains(ids[i]) ? values[ids[i]] : 10 + static_cast<int>(i));
  }

  ManagerRig rig;
  ChunkManager& manager;
  std::vector<PayloadId> ids;
  std::map<PayloadId, int> values;  // that were overwritten
  std::vector<PayloadId> failed_ids;
  int failed = 0;
};

TEST(TransferOrders, TwoWriteBacksAndTwoPrefetches) {
  AllOrders orders;
  do {
    Scenario s({4 * kUnit, 20 * kUnit}, 6);  // 2..5 are up and dirty but for what made room
    for (const std::size_t i : {0u, 1u, 2u, 3u}) ASSERT_TRUE(s.manager.give_up(s.ids[i]));
    s.rig.complete_all();
    ASSERT_TRUE(s.manager.prefetch(s.ids[0]) && s.manager.prefetch(s.ids[1]));
    ASSERT_TRUE(s.manager.give_up(s.ids[4]) && s.manager.give_up(s.ids[5]));
    ASSERT_EQ(s.rig.pending(), 4u);
    while (s.rig.pending() > 0) s.complete_one(orders);
    for (const std::size_t i : {0u, 1u}) EXPECT_EQ(s.manager.resident(s.ids[i]), !s.has_failed(s.ids[i]));
    for (const std::size_t i : {4u, 5u}) EXPECT_EQ(s.manager.resident(s.ids[i]), s.has_failed(s.ids[i]));
    s.expect_all_contents();
    if (testing::Test::HasFailure()) return;
  } while (orders.next());
  EXPECT_EQ(orders.runs(), 24u * 16u);
}

TEST(TransferOrders, AReaderAndAWriterJoinAtAnyMoment) {
  AllOrders orders;
  do {
    Scenario s({3 * kUnit, 20 * kUnit}, 3);
    for (const PayloadId id : s.ids) ASSERT_TRUE(s.manager.give_up(id));
    ASSERT_EQ(s.rig.pending(), 3u);
    for (std::size_t done = orders.pick(3); done > 0; --done) s.complete_one(orders);
    s.rig.waiter().set_step([&] {
      if (s.rig.pending() == 0) return false;
      s.complete_one(orders);
      return true;
    });
    const int failed = s.failed;
    auto lease = s.rig.acquire({{s.ids[0], AccessMode::kRead}, {s.ids[1], AccessMode::kWrite}});
    if (lease.ok()) {
      EXPECT_EQ(*lease.value().address(0), std::byte{10});
      EXPECT_EQ(*lease.value().address(1), std::byte{11});
      std::memset(lease.value().address(1), 60, kUnit);
      s.values[s.ids[1]] = 60;
      lease.value().release();
    } else {
      EXPECT_EQ(lease.status().code(), StatusCode::kIoError);
      EXPECT_GT(s.failed, failed);
    }
    EXPECT_EQ(s.rig.tier(0).ledger().pinned(), 0);
    while (s.rig.pending() > 0) s.complete_one(orders);
    s.expect_all_contents();
    if (testing::Test::HasFailure()) return;
  } while (orders.next());
  EXPECT_GT(orders.runs(), 300u);
}

TEST(TransferOrders, AnAcquireThatMustEvictTwoAndFetchTwo) {
  AllOrders orders;
  int granted = 0;
  do {
    Scenario s({2 * kUnit, 20 * kUnit}, 4);  // 2 and 3 are up and dirty
    s.rig.waiter().set_step([&] {
      if (s.rig.pending() == 0) return false;
      s.complete_one(orders);
      return true;
    });
    auto lease = s.rig.acquire({{s.ids[0], AccessMode::kRead}, {s.ids[1], AccessMode::kRead}});
    EXPECT_EQ(lease.ok(), s.failed == 0);
    if (lease.ok()) ++granted;
    EXPECT_EQ(s.rig.tier(0).ledger().pinned(), lease.ok() ? 2 * kUnit : 0);
    while (s.rig.pending() > 0) s.complete_one(orders);
    if (lease.ok()) lease.value().release();
    s.expect_all_contents();
    if (testing::Test::HasFailure()) return;
  } while (orders.next());
  EXPECT_GT(granted, 0);
  EXPECT_GT(orders.runs(), 4u);
}

TEST(TransferOrders, ThreeTiersWithPrefetchesUpAndEvictionsDown) {
  AllOrders orders;
  do {
    Scenario s({2 * kUnit, 3 * kUnit, 20 * kUnit}, 6);
    for (const std::size_t i : {0u, 1u, 2u, 3u, 4u, 5u}) s.manager.give_up(s.ids[i]);
    s.rig.complete_all();
    // 0 to 2 are at the bottom, 3 to 5 in the middle: a drop there makes room for a way up.
    s.manager.discard(s.ids[3]);
    s.values[s.ids[3]] = -1;
    ASSERT_TRUE(s.manager.prefetch(s.ids[4]));
    ASSERT_TRUE(s.manager.prefetch(s.ids[0]));
    s.rig.waiter().set_step([&] {
      if (s.rig.pending() == 0) return false;
      s.complete_one(orders);
      return true;
    });
    auto lease = s.rig.acquire({{s.ids[5], AccessMode::kRead}});
    EXPECT_TRUE(lease.ok() || s.failed > 0);
    while (s.rig.pending() > 0) s.complete_one(orders);
    if (lease.ok()) lease.value().release();
    s.expect_all_contents();
    if (testing::Test::HasFailure()) return;
  } while (orders.next());
  EXPECT_GT(orders.runs(), 20u);
}

}  // namespace
}  // namespace patrickstar
