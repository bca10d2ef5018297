#include "patrickstar/core/sim/sim_link.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/sim/sim_tier.h"
#include "patrickstar/core/sim/timeline.h"

namespace patrickstar {
namespace {

constexpr Bytes kMB = 1'000'000;  // a millisecond at 1e9 bytes per second
constexpr Nanos kMs = 1'000'000;

// Writes down what ended and when, and may start more.
class Recorder final : public TransferSink {
 public:
  explicit Recorder(const Clock* clock) : clock_(clock) {}
  void transfer_done(const Transfer& transfer, Status status) override {
    EXPECT_TRUE(status.ok());
    ended.emplace_back(transfer.id, clock_->now());
    if (link != nullptr) std::exchange(link, nullptr)->start(then);
  }
  std::vector<std::pair<std::uint64_t, Nanos>> ended;
  SimLink* link = nullptr;  // starts `then` there at the next end
  Transfer then;

 private:
  const Clock* const clock_;
};
using Ended = std::vector<std::pair<std::uint64_t, Nanos>>;

class SimLinkTest : public testing::Test {
 protected:
  SimLink* make(SimLinkOptions options) {
    link = std::make_unique<SimLink>(options, &timeline.clock());
    link->set_sink(&recorder);
    timeline.add(link.get());
    return link.get();
  }
  static Transfer up(std::uint64_t id, Bytes bytes, Urgency urgency = Urgency::kDemand) {
    return {.id = id, .direction = Direction::kUp, .urgency = urgency, .bytes = bytes};
  }
  static Transfer down(std::uint64_t id, Bytes bytes) {
    return {.id = id, .direction = Direction::kDown, .urgency = Urgency::kWriteBack, .bytes = bytes};
  }

  Timeline timeline;
  Recorder recorder{&timeline.clock()};
  std::unique_ptr<SimLink> link;
};

TEST_F(SimLinkTest, ASharedLinkServesOneAfterTheOtherTheMostUrgentFirst) {
  SimLink* disk = make({.bytes_per_second = 1e9, .latency = kMs / 2});
  disk->start(down(1, 2 * kMB));  // has begun when the others come
  disk->start(down(2, kMB));
  disk->start(up(3, kMB, Urgency::kPrefetch));
  disk->start(up(4, 3 * kMB));
  disk->start(up(5, kMB));
  while (timeline.deliver_next()) {
  }
  EXPECT_EQ(recorder.ended, (Ended{{1, 2'500'000}, {4, 6'000'000}, {5, 7'500'000}, {3, 9'000'000}, {2, 10'500'000}}));
  EXPECT_EQ(disk->bytes_up(), 5 * kMB);
  EXPECT_EQ(disk->bytes_down(), 3 * kMB);
}

TEST_F(SimLinkTest, ADuplexLinkServesBothDirectionsAtOnce) {
  SimLink* disk = make({.bytes_per_second = 1e9, .bytes_per_second_down = 5e8, .sharing = LinkSharing::kDuplex});
  disk->start(down(1, 2 * kMB));
  disk->start(up(2, kMB));
  disk->start(up(3, kMB));
  while (timeline.deliver_next()) {
  }
  EXPECT_EQ(recorder.ended, (Ended{{2, kMs}, {3, 2 * kMs}, {1, 4 * kMs}}));
}

TEST_F(SimLinkTest, RunningOnDeliversEachAtItsOwnTime) {
  SimLink* disk = make({});
  disk->start(up(1, kMB));
  disk->start(up(2, kMB));
  disk->start(up(3, kMB));
  recorder.link = disk;  // at the end of 1
  recorder.then = up(4, kMB);
  timeline.run_until(5 * kMs / 2);
  EXPECT_EQ(recorder.ended, (Ended{{1, kMs}, {2, 2 * kMs}}));
  EXPECT_EQ(timeline.clock().now(), 5 * kMs / 2);
  timeline.run_until(3 * kMs);  // also what is due at that very time
  EXPECT_EQ(recorder.ended.back(), (std::pair<std::uint64_t, Nanos>{3, 3 * kMs}));
  EXPECT_TRUE(timeline.deliver_next());
  EXPECT_EQ(recorder.ended.back(), (std::pair<std::uint64_t, Nanos>{4, 4 * kMs}));
  EXPECT_FALSE(timeline.deliver_next());
  EXPECT_EQ(timeline.clock().now(), 4 * kMs);
}

TEST_F(SimLinkTest, ASlowSpellStretchesWhatFallsIntoIt) {
  SimLink* disk = make({});
  disk->set_slow_spells({{.from = kMs, .to = 5 * kMs, .factor = 4}, {.from = 10 * kMs, .to = 12 * kMs, .factor = 2}});
  disk->start(up(1, kMB / 2));  // before it
  disk->start(up(2, kMB));      // half before, half in it: 0.5 + 2 ms
  disk->start(up(3, kMB));      // 2 ms in it do half of it, and half after it
  timeline.run_until(11 * kMs);
  disk->start(up(4, kMB));  // begins in the second
  while (timeline.deliver_next()) {
  }
  EXPECT_EQ(recorder.ended, (Ended{{1, kMs / 2}, {2, 3 * kMs}, {3, 11 * kMs / 2}, {4, 25 * kMs / 2}}));
}

TEST(SimTier, CountsAndRefusesLikeATier) {
  SimTier tier("host", 4 * kPayloadAlignment);
  const auto one = tier.allocate(3 * kPayloadAlignment);
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(tier.allocate(2 * kPayloadAlignment).status().code(), StatusCode::kOutOfRoom);
  EXPECT_EQ(tier.shortfall(2 * kPayloadAlignment), kPayloadAlignment);
  EXPECT_TRUE(tier.ledger().try_charge(Account::kNonModel, kPayloadAlignment));
  EXPECT_EQ(tier.shortfall(kPayloadAlignment), kPayloadAlignment);
  tier.free(one.value(), 3 * kPayloadAlignment);
  EXPECT_EQ(tier.ledger().room(), 3 * kPayloadAlignment);
}

TEST(SimTierDeathTest, APlaceComesBackOnceAndWhole) {
  EXPECT_DEATH(
      {
        SimTier tier("host", kGiB);
        const auto place = tier.allocate(2 * kPayloadAlignment);
        tier.free(place.value(), kPayloadAlignment);
      },
      "broken invariant");
}

}  // namespace
}  // namespace patrickstar
