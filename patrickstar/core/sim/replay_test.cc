#include "patrickstar/core/sim/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/testing/random_steps.h"
#include "patrickstar/core/testing/seed.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

using testing::HasSubstr;

constexpr Bytes kTile = 4'096'000;
constexpr double kBandwidth = 1.024e9;  // a tile in 4 ms
constexpr Nanos kMs = 1'000'000;

// `tiles` moments, each of which accesses the next tile.
Trace round_of(std::uint32_t tiles, Access (*access)(std::uint32_t), Nanos compute) {
  std::vector<MomentSpec> moments;
  for (std::uint32_t i = 0; i < tiles; ++i) moments.push_back({.accesses = {access(i)}, .compute = compute});
  return trace_of(std::vector<Bytes>(tiles, kTile), moments);
}
ReplayOptions with_room(Bytes room) { return {.host_budget = room, .disk = {.bytes_per_second = kBandwidth}}; }

// Lets the tile before go and fetches the next, as soon as a tile is granted.
std::function<void(ChunkManager*, std::size_t)> fetch_ahead(std::uint32_t tiles) {
  return [tiles](ChunkManager* manager, std::size_t t) {
    (void)manager->give_up(PayloadId((t + tiles - 1) % tiles));
    (void)manager->prefetch(PayloadId((t + 1) % tiles));  // refused in the first step, while what was created is written
  };
}

TEST(Replay, WhatFitsMovesNothing) {
  const Trace trace = round_of(5, writes, kMs);
  const auto report = replay(trace, with_room(5 * kTile));
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_EQ(report.value().steps.size(), 3u);
  for (const StepReport& step : report.value().steps) {
    EXPECT_EQ(step, (StepReport{.time = 5 * kMs, .accesses = 5}));
    EXPECT_EQ(step.hit_rate(), 1);
  }
  EXPECT_EQ(report.value().peak, 5 * kTile);
}

// Each tile waits for the write-back of the one that gives way, then for itself.
TEST(Replay, LruMissesEveryTileOfARoundThatIsOneTileTooLong) {
  const auto report = replay(round_of(5, writes, kMs), with_room(4 * kTile));
  ASSERT_TRUE(report.ok()) << report.status().message();
  for (const StepReport& step : report.value().steps) {
    EXPECT_EQ(step, (StepReport{.time = 5 * (4 + 4 + 1) * kMs,
                                .stall = 5 * 8 * kMs,
                                .read = 5 * kTile,
                                .written = 5 * kTile,
                                .accesses = 5,
                                .misses = 5}));
    EXPECT_EQ(step.hit_rate(), 0);
  }
  EXPECT_EQ(report.value().peak, 4 * kTile);
}

TEST(Replay, CleanTilesGiveWayWithoutAWrite) {
  const auto report = replay(round_of(5, reads, kMs), with_room(4 * kTile));
  ASSERT_TRUE(report.ok()) << report.status().message();
  const StepReport& last = report.value().steps.back();
  EXPECT_EQ(last, (StepReport{.time = 5 * 5 * kMs, .stall = 5 * 4 * kMs, .read = 5 * kTile, .accesses = 5, .misses = 5}));
}

// A tile's transfer takes 4 ms. Fetched while the one before is computed on, it hides behind 4 ms and takes its own time else.
TEST(Replay, WhatIsFetchedAheadHidesBehindCompute) {
  for (const Nanos compute : {2 * kMs, 4 * kMs, 7 * kMs}) {
    ReplayOptions options = with_room(2 * kTile);
    options.granted = fetch_ahead(6);
    const auto report = replay(round_of(6, reads, compute), options);
    ASSERT_TRUE(report.ok()) << report.status().message();
    const StepReport& last = report.value().steps.back();
    EXPECT_EQ(last.time, 6 * std::max(compute, 4 * kMs));
    EXPECT_EQ(last.stall, last.time - 6 * compute);
    EXPECT_EQ(last.read, 6 * kTile);
    EXPECT_EQ(last.misses, 0);  // what is on its way is none
  }
}

TEST(Replay, ASlowSpellCostsWhatItStretches) {
  ReplayOptions options = with_room(2 * kTile);
  options.granted = fetch_ahead(6);
  const Trace trace = round_of(6, reads, 4 * kMs);
  const auto calm = replay(trace, options);
  ASSERT_TRUE(calm.ok()) << calm.status().message();
  const Nanos second = calm.value().steps[0].time;  // when the second step begins
  EXPECT_EQ(calm.value().steps[1].time, 24 * kMs);
  options.slow_spells = {{.from = second + 4 * kMs, .to = second + 16 * kMs, .factor = 3}};  // one tile instead of three
  const auto slowed = replay(trace, options);
  ASSERT_TRUE(slowed.ok()) << slowed.status().message();
  EXPECT_EQ(slowed.value().steps[0], calm.value().steps[0]);
  EXPECT_EQ(slowed.value().steps[1].time, (24 + 8) * kMs);
  EXPECT_EQ(slowed.value().steps[1].stall, 8 * kMs);
  EXPECT_EQ(slowed.value().steps[2].time, 24 * kMs);
}

TEST(Replay, NonModelBytesTakeTheRoomOfTilesAndStayWithinTheBudget) {
  Trace trace = round_of(4, writes, kMs);
  trace.moments[2].non_model = 2 * kTile;
  const auto report = replay(trace, with_room(4 * kTile));
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report.value().peak, 4 * kTile);
  // Two of 0, 1 and 3 leave for the non-model bytes at moment 2, the third for tile 2 if that was not there.
  const StepReport& last = report.value().steps.back();
  EXPECT_EQ(last.time - last.stall, 4 * kMs);
  EXPECT_EQ(last.stall, (last.read + last.written) / kTile * 4 * kMs);  // nothing runs ahead
  const StepBounds bounds = step_bounds(trace, room_for_chunks(trace, 4 * kTile), kBandwidth);
  EXPECT_EQ(bounds.min_read, 2 * kTile);
  EXPECT_GE(last.read, bounds.min_read);
}

TEST(Replay, WhatCannotFitEndsWithStepMomentAndHolders) {
  Trace trace = round_of(3, writes, kMs);
  trace.moments[1].non_model = 3 * kTile;
  const auto report = replay(trace, with_room(3 * kTile + kTile / 2));
  EXPECT_EQ(report.status().code(), StatusCode::kOutOfRoom);
  EXPECT_THAT(report.status().message(), HasSubstr("[replay] step 0: moment 1: "));
  EXPECT_THAT(report.status().message(), HasSubstr("payload 1 state"));
  trace.moments[1].non_model = 4 * kTile;
  EXPECT_EQ(replay(trace, with_room(3 * kTile)).status().code(), StatusCode::kOutOfRoom);
}

TEST(Replay, WrongTracesAreRefused) {
  EXPECT_EQ(replay(trace_of({kPayloadAlignment + 1}, {}), with_room(kGiB)).status().code(), StatusCode::kInvalidArgument);
  const Trace gap = trace_of({0, kPayloadAlignment}, {{.accesses = {reads(0)}}});
  EXPECT_EQ(replay(gap, with_room(kGiB)).status().code(), StatusCode::kInvalidArgument);
  const Trace beyond = trace_of({kPayloadAlignment}, {{.accesses = {reads(1)}}});
  EXPECT_EQ(replay(beyond, with_room(kGiB)).status().code(), StatusCode::kInvalidArgument);
  const Trace fine = trace_of({0, kPayloadAlignment}, {{.accesses = {reads(1)}, .compute = 1}});
  EXPECT_TRUE(replay(fine, with_room(kGiB)).ok());
}

TEST(Replay, HooksComeInTheirPlaces) {
  ReplayOptions options = with_room(kGiB);
  options.steps = 2;
  std::string calls;
  options.configure = [&](ChunkManagerOptions* made) {
    EXPECT_EQ(made->levels.size(), 2u);
    calls += "c";
  };
  options.granted = [&](ChunkManager* manager, std::size_t t) {
    EXPECT_TRUE(manager->resident(PayloadId(t)));
    calls += std::to_string(t);
  };
  options.step_done = [&](ChunkManager*) { calls += "."; };
  ASSERT_TRUE(replay(round_of(3, reads, kMs), options).ok());
  EXPECT_EQ(calls, "c012.012.");
}

// Random steps: the same figures twice, and never below the bounds. LRU comes to a steady state, so a late step tells.
TEST(Replay, IsRepeatableAndNeverBeatsTheBounds) {
  const std::uint32_t seed = test_seed(9);
  std::mt19937 random(seed);
  int tight = 0;
  for (int i = 0; i < 200; ++i) {
    RandomCase tried = random_case(random, Sizes::kMixed);
    const Bytes budget = *std::max_element(tried.room.begin(), tried.room.end());
    if (budget == 0) continue;
    for (std::size_t t = 0; t < tried.room.size(); ++t) {
      tried.trace.moments[t].non_model = budget - tried.room[t];
      if (i % 2 == 0) tried.trace.moments[t].compute = 0;  // LRU hides nothing behind it, so only then can it come near
    }
    ReplayOptions options{.host_budget = budget, .disk = {.bytes_per_second = 1e9}, .steps = 12};
    const auto report = replay(tried.trace, options);
    ASSERT_TRUE(report.ok()) << "seed " << seed << " case " << i << ": " << report.status().message();
    EXPECT_EQ(replay(tried.trace, options).value().steps, report.value().steps);
    EXPECT_LE(report.value().peak, budget);
    const StepBounds bounds = step_bounds(tried.trace, tried.room, 1e9);
    StepReport mean;
    for (std::size_t step = 6; step < 12; ++step) {
      mean.time += report.value().steps[step].time / 6;
      mean.read += report.value().steps[step].read / 6;
      mean.written += report.value().steps[step].written / 6;
    }
    ASSERT_GE(mean.read + 6, bounds.min_read) << "seed " << seed << " case " << i;
    ASSERT_GE(mean.written + 6, bounds.min_write) << "seed " << seed << " case " << i;
    ASSERT_GE(mean.time + 6, bounds.limit) << "seed " << seed << " case " << i;
    if (bounds.limit > bounds.compute && mean.time < bounds.limit + bounds.limit / 10) ++tight;
  }
  EXPECT_GT(tight, 5);  // the bounds are not far away either
}

}  // namespace
}  // namespace patrickstar
