#include "patrickstar/core/sim/bounds.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>

#include "patrickstar/core/sim/testing/random_steps.h"
#include "patrickstar/core/testing/seed.h"

namespace patrickstar {
namespace {

StepBounds with_room(const Trace& trace, Bytes room, double bytes_per_second = 1e9) {
  return step_bounds(trace, std::vector<Bytes>(trace.moments.size(), room), bytes_per_second);
}

// --- closed forms -------------------------------------------------------------------------------------------------------------

// Forward and backward read and write the parameters, each of which fits; then each tile is written once. The tightest moment
// is one of backward.
TEST(Bounds, WhenOnlyTilesDoNotFitTheTrafficIsTwiceWhatLacks) {
  constexpr std::uint32_t kTiles = 12;
  const Bytes param = 8 * kMiB;
  const Bytes tile = 12 * kMiB;
  std::vector<Bytes> payloads = {param, param};
  std::vector<MomentSpec> steps = {
      {.accesses = {reads(0)}}, {.accesses = {reads(1)}}, {.accesses = {writes(1)}}, {.accesses = {writes(0)}}};
  for (std::uint32_t i = 0; i < kTiles; ++i) {
    payloads.push_back(tile);
    steps.push_back({.accesses = {writes(i % 2), writes(2 + i)}});
  }
  steps[2].non_model = 20 * kMiB;
  const Trace trace = trace_of(payloads, steps);
  const Bytes model = 2 * param + kTiles * tile;
  EXPECT_EQ(trace.model_data_bytes(), model);
  for (const Bytes room : {param * 2, 50 * kMiB, 100 * kMiB, 150 * kMiB, model}) {
    const StepBounds bounds = step_bounds(trace, room_for_chunks(trace, room + 20 * kMiB), 1e9);
    EXPECT_EQ(bounds.lacking, 0);
    EXPECT_EQ(bounds.min_read, model - room);
    EXPECT_EQ(bounds.min_write, model - room);
  }
  // With the same room everywhere the tile that is being updated needs some: N tiles of which k fit lose N (N - k) / (N - 1).
  const Bytes room = 2 * param + 5 * tile;
  EXPECT_EQ(with_room(trace, room).min_read, tile * kTiles * (kTiles - 5) / (kTiles - 1));
}

TEST(Bounds, WhatFitsMovesNothing) {
  const Trace trace =
      trace_of({kMiB, 2 * kMiB}, {{.accesses = {reads(0)}, .compute = 5}, {.accesses = {writes(1)}, .compute = 6}});
  const StepBounds bounds = with_room(trace, 3 * kMiB);
  EXPECT_EQ(bounds.min_read + bounds.min_write, 0);
  EXPECT_EQ(bounds.limit, 11);
  EXPECT_EQ(with_room(trace, kMiB).lacking, kMiB);
  EXPECT_EQ(with_room(Trace(), 0).limit, 0);
}

TEST(Bounds, ReadsAloneAreNeverWrittenBack) {
  const Trace trace = trace_of({kMiB, kMiB}, {{.accesses = {reads(0)}}, {.accesses = {reads(1)}}});
  EXPECT_EQ(with_room(trace, kMiB).min_read, 2 * kMiB);
  EXPECT_EQ(with_room(trace, kMiB).min_write, 0);
}

// What is created anew is not fetched, and not written back once nothing reads it any more.
TEST(Bounds, DeadBytesAreNotMoved) {
  const Trace trace = trace_of({kMiB, kMiB, kMiB}, {{.accesses = {creates(0)}},
                                                    {.accesses = {reads(1)}},
                                                    {.accesses = {reads(0)}},
                                                    {.accesses = {creates(2)}},
                                                    {.accesses = {reads(1)}}});
  const StepBounds bounds = with_room(trace, kMiB);
  EXPECT_EQ(bounds.min_read, 3 * kMiB);  // 0 once, 1 twice
  EXPECT_EQ(bounds.min_write, kMiB);     // 0 between its creation and its read; 2 never
  EXPECT_EQ(with_room(trace, 2 * kMiB).min_write, 0);
}

// --- windows ------------------------------------------------------------------------------------------------------------------

// One second of compute that uses nothing, then four tiles updated in no time: what lacks of the four is read and written then.
TEST(Bounds, AWindowOfUpdatesAlone) {
  const Bytes tile = 100'000'000;
  std::vector<MomentSpec> steps = {{.compute = 1'000'000'000}};
  for (std::uint32_t i = 0; i < 4; ++i) steps.push_back({.accesses = {writes(i)}});
  const Trace trace = trace_of({tile, tile, tile, tile}, steps);
  const StepBounds bounds = with_room(trace, 3 * tile, 1e9);
  EXPECT_EQ(bounds.window, 1'200'000'000);
  EXPECT_EQ(bounds.limit, 1'200'000'000);
  EXPECT_EQ(bounds.window_begin, 1u);
  EXPECT_EQ(bounds.window_moments, 4u);
  EXPECT_EQ(bounds.window_stride, 1u);
  EXPECT_EQ(with_room(trace, 3 * tile, 1e8).limit, 3'000'000'000);  // ten times slower
}

// The same window by sets, straight from the definition.
double window_bound(const RandomCase& of, std::size_t begin, std::size_t length, double nanos_per_byte) {
  const std::size_t n = of.trace.moments.size();
  std::set<std::uint32_t> touched;
  std::set<std::uint32_t> dirtied;
  Bytes used = 0;
  Bytes dirty = 0;
  Nanos outside = of.trace.compute();
  for (std::size_t i = 0; i < length; ++i) {
    outside -= of.trace.moments[(begin + i) % n].compute;
    for (const Access& access : of.trace.at((begin + i) % n)) {
      if (touched.insert(access.payload.value).second && access.mode != AccessMode::kCreate)
        used += of.trace.bytes_of(access.payload);
      if (access.mode != AccessMode::kRead) dirtied.insert(access.payload.value);
    }
  }
  for (const std::uint32_t payload : dirtied) {
    bool decided = false;
    for (std::size_t i = 0; i < n && !decided; ++i) {
      for (const Access& access : of.trace.at((begin + length + i) % n)) {
        if (access.payload.value != payload) continue;
        decided = true;
        if (access.mode != AccessMode::kCreate) dirty += of.trace.bytes_of(access.payload);
      }
    }
  }
  // Where two moments meet both rooms hold, whichever is less.
  const auto room_before = [&](std::size_t moment) { return std::min(of.room[(moment + n - 1) % n], of.room[moment % n]); };
  const Bytes moved = std::max<Bytes>(0, used - room_before(begin)) + std::max<Bytes>(0, dirty - room_before(begin + length));
  return static_cast<double>(outside) + static_cast<double>(moved) * nanos_per_byte;
}

TEST(Bounds, TheBestWindowIsTheBestOfAll) {
  const std::uint32_t seed = test_seed(6);
  std::mt19937 random(seed);
  for (int i = 0; i < 500; ++i) {
    const RandomCase tried = random_case(random, Sizes::kMixed);
    double best = static_cast<double>(tried.trace.compute());
    for (std::size_t begin = 0; begin < tried.trace.moments.size(); ++begin) {
      for (std::size_t length = 1; length <= tried.trace.moments.size(); ++length)
        best = std::max(best, window_bound(tried, begin, length, 0.5));
    }
    const StepBounds bounds = step_bounds(tried.trace, tried.room, 2e9);
    ASSERT_NEAR(static_cast<double>(bounds.window), best, 2) << "seed " << seed << " case " << i;
    ASSERT_GE(bounds.limit, std::max({bounds.compute, bounds.transfers, bounds.window}));
  }
}

}  // namespace
}  // namespace patrickstar
