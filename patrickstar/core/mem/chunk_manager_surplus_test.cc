// Payloads that a schedule can do without make room for what it wants brought, unasked: what need not be written all at once,
// what must be written one after another, and none after a write-back that failed or where it would have to wait for room.
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/policy/lru.h"
#include "patrickstar/core/testing/manual_link.h"
#include "patrickstar/core/testing/manual_waiter.h"
#include "patrickstar/core/testing/memory_tier.h"
#include "patrickstar/core/testing/virtual_clock.h"

namespace patrickstar {
namespace {

constexpr Bytes kUnit = kPayloadAlignment;

// Wants what the test says, in that order, and can do without all the rest.
class Wishes final : public Schedule {
 public:
  void added(PayloadId, PayloadKind, Bytes) override {}
  void removed(PayloadId) override {}
  void granted(std::span<const Access>, const MomentFacts&) override {}
  bool keep(PayloadId) const override { return true; }
  bool surplus(PayloadId) const override { return true; }
  std::optional<Want> want() override {
    if (wanted.empty()) return std::nullopt;
    return Want{wanted.front(), room, room};
  }
  void brought(PayloadId) override { wanted.pop_front(); }
  void evicted(PayloadId) override {}
  void step_done(const MomentFacts&) override {}

  std::deque<PayloadId> wanted;
  Bytes room = 0;
};

// Room for four payloads on the compute tier; `middle` on the one beneath, if there is one.
struct Rig {
  explicit Rig(Bytes middle = 0) {
    tiers.push_back(std::make_unique<MemoryTier>("compute", 4 * kUnit));
    if (middle > 0) tiers.push_back(std::make_unique<MemoryTier>("middle", middle));
    tiers.push_back(std::make_unique<MemoryTier>("bottom", 64 * kUnit));
    std::vector<Level> levels;
    for (std::size_t i = 0; i < tiers.size(); ++i) {
      levels.push_back({.tier = tiers[i].get()});
      if (i + 1 == tiers.size()) break;
      links.push_back(std::make_unique<ManualLink>("/scratch/" + std::to_string(i)));
      levels.back().link_below = links.back().get();
      levels.back().policy = std::make_unique<Lru>();
    }
    wishes.room = 4 * kUnit;
    manager = std::make_unique<ChunkManager>(
        ChunkManagerOptions{.levels = std::move(levels), .waiter = &waiter, .clock = &clock, .schedule = &wishes});
  }
  ~Rig() {
    wishes.wanted.clear();
    (void)complete_all();
  }
  bool complete_all() {
    bool any = false;
    for (auto& link : links) {
      for (; link->pending() > 0; any = true) link->complete(0);
    }
    return any;
  }
  PayloadId add() {
    auto id = manager->add({.kind = PayloadKind::kState, .name = "chunk", .bytes = kUnit});
    EXPECT_TRUE(id.ok());
    return id.value();
  }
  void use(PayloadId id, AccessMode mode) {
    const Access access{id, mode};
    EXPECT_TRUE(manager->acquire({&access, 1}).ok());
  }
  PayloadId add_and_write() {
    const PayloadId id = add();
    use(id, AccessMode::kCreate);
    return id;
  }
  // A payload whose only copy is at the bottom.
  PayloadId add_below() {
    const PayloadId id = add_and_write();
    send_down(id);
    return id;
  }
  void send_down(PayloadId id) {
    for (int hop = 0; hop < 4 && manager->resident(id); ++hop) {
      (void)manager->give_up(id);
      (void)complete_all();
    }
    EXPECT_FALSE(manager->resident(id));
  }
  int going_down() const { return going(Direction::kDown); }
  int going(Direction direction) const {
    int count = 0;
    for (std::size_t i = 0; i < links[0]->pending(); ++i) count += links[0]->transfer(i).direction == direction ? 1 : 0;
    return count;
  }

  VirtualClock clock;
  Wishes wishes;
  std::vector<std::unique_ptr<MemoryTier>> tiers;
  std::vector<std::unique_ptr<ManualLink>> links;
  ManualWaiter waiter{[this] { return complete_all(); }};
  std::unique_ptr<ChunkManager> manager;
};

TEST(Surplus, WhatMustBeWrittenGoesOneAfterAnother) {
  Rig rig;
  const PayloadId a = rig.add_below();
  const PayloadId b = rig.add_below();
  std::vector<PayloadId> written;
  for (int i = 0; i < 4; ++i) written.push_back(rig.add_and_write());
  EXPECT_EQ(rig.links[0]->pending(), 0u) << "nothing is wanted";
  rig.wishes.wanted = {a, b};
  rig.use(written[3], AccessMode::kRead);
  EXPECT_EQ(rig.going_down(), 1);
  rig.use(written[3], AccessMode::kRead);
  EXPECT_EQ(rig.going_down(), 1) << "while one leaves no other does";
  rig.links[0]->complete(0);
  EXPECT_EQ(rig.going(Direction::kUp), 1) << "its room is taken";
  EXPECT_EQ(rig.going_down(), 1) << "and the next one leaves, for the second wish";
  (void)rig.complete_all();
  EXPECT_TRUE(rig.manager->resident(a) && rig.manager->resident(b));
  EXPECT_FALSE(rig.manager->resident(written[0]) || rig.manager->resident(written[1]));
  EXPECT_TRUE(rig.manager->resident(written[2]) && rig.manager->resident(written[3]));
}

TEST(Surplus, WhatNeedNotBeWrittenGoesAtOnce) {
  Rig rig;
  const PayloadId a = rig.add_below();
  const PayloadId b = rig.add_below();
  std::vector<PayloadId> clean;
  for (int i = 0; i < 4; ++i) clean.push_back(rig.add_below());
  for (const PayloadId id : clean) rig.use(id, AccessMode::kRead);
  rig.wishes.wanted = {a, b};
  rig.use(clean[3], AccessMode::kRead);
  EXPECT_EQ(rig.going_down(), 0);
  EXPECT_EQ(rig.going(Direction::kUp), 2);
}

TEST(Surplus, AfterAWriteBackThatFailedNoneGoesBeforeTheNextGrant) {
  Rig rig;
  const PayloadId a = rig.add_below();
  std::vector<PayloadId> written;
  for (int i = 0; i < 4; ++i) written.push_back(rig.add_and_write());
  rig.wishes.wanted = {a};
  rig.use(written[3], AccessMode::kRead);
  ASSERT_EQ(rig.going_down(), 1);
  rig.links[0]->fail(0);
  EXPECT_EQ(rig.links[0]->pending(), 0u) << "on a broken disk it would go on for ever";
  rig.use(written[3], AccessMode::kRead);
  EXPECT_EQ(rig.going_down(), 1);
  (void)rig.complete_all();
  EXPECT_TRUE(rig.manager->resident(a));
  rig.use(written[0], AccessMode::kRead);  // and nothing was lost
}

TEST(Surplus, WhereTheTierBeneathIsFullNobodyWaitsForIt) {
  Rig rig(kUnit);
  const PayloadId a = rig.add_below();
  const PayloadId below = rig.add_below();
  rig.use(below, AccessMode::kRead);  // a copy of it lies on the middle tier, and fills it
  std::vector<PayloadId> written;
  for (int i = 0; i < 3; ++i) written.push_back(rig.add_and_write());
  rig.use(below, AccessMode::kWrite);  // the middle copy is not valid any more, and goes
  ASSERT_EQ(rig.links[0]->pending() + rig.links[1]->pending(), 0u);
  const auto place = rig.tiers[1]->allocate(kUnit);
  ASSERT_TRUE(place.ok());
  rig.wishes.wanted = {a};
  rig.use(written[2], AccessMode::kRead);
  EXPECT_EQ(rig.links[0]->pending(), 0u) << "no room beneath: it stays, and the wish waits";
  rig.tiers[1]->free(place.value(), kUnit);
  rig.use(written[2], AccessMode::kRead);
  EXPECT_EQ(rig.going_down(), 1);
  (void)rig.complete_all();
}

}  // namespace
}  // namespace patrickstar
