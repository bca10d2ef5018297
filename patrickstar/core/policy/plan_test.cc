#include "patrickstar/core/policy/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "patrickstar/core/testing/seed.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

constexpr Bytes kTile = kMiB;

// One moment a tile, in each of which it is updated.
Trace tiles(std::uint32_t count, Nanos compute = 1000) {
  std::vector<MomentSpec> moments;
  for (std::uint32_t i = 0; i < count; ++i) moments.push_back({.accesses = {writes(i)}, .compute = compute});
  return trace_of(std::vector<Bytes>(count, kTile), moments);
}

// What is retained or in use at each moment, found by walking every gap moment by moment.
std::vector<Bytes> taken(const Plan& plan) {
  const Trace& t = plan.trace;
  const std::size_t n = t.moments.size();
  const auto uses_it = [&](std::size_t m, PayloadId payload) {
    return std::any_of(t.at(m).begin(), t.at(m).end(), [&](const Access& a) { return a.payload == payload; });
  };
  std::vector<Bytes> sum(n, 0);
  for (std::size_t m = 0; m < n; ++m) {
    for (std::size_t i = 0; i < t.moments[m].count; ++i) {
      const PayloadId payload = t.at(m)[i].payload;
      sum[m] += t.bytes_of(payload);
      if (plan.keep[t.moments[m].first + i] == 0) continue;
      for (std::size_t k = (m + 1) % n; k != m && !uses_it(k, payload); k = (k + 1) % n) sum[k] += t.bytes_of(payload);
    }
  }
  return sum;
}

TEST(Plan, WhatFitsIsAllKept) {
  const Plan plan = make_plan(tiles(8), {.budget = 8 * kTile, .ring = 0});
  EXPECT_EQ(plan.keep, std::vector<std::uint8_t>(8, 1));
  EXPECT_TRUE(plan.fetches.empty());
  EXPECT_EQ(plan.kept_bytes, 8 * kTile);
  EXPECT_EQ(plan.read_bytes, 0);
  EXPECT_EQ(plan.write_bytes, 0);
  EXPECT_TRUE(make_plan(Trace{}, {.budget = kTile}).fetches.empty());
  // The reserve is as good as gone.
  EXPECT_FALSE(make_plan(tiles(8), {.budget = 9 * kTile, .reserve = 2 * kTile, .ring = 0}).fetches.empty());
}

// Random steps: what stays fits at every moment beside what is in use, the ring and the non-model bytes; `left` is what is left.
TEST(Plan, RetainedGapsNeverExceedTheRoom) {
  const std::uint32_t seed = test_seed(5);
  std::mt19937 random(seed);
  int kept = 0, streamed = 0;
  for (int round = 0; round < 300; ++round) {
    const std::uint32_t payloads = 1 + random() % 12;
    std::vector<Bytes> sizes;
    for (std::uint32_t i = 0; i < payloads; ++i) sizes.push_back(4096 * (1 + random() % 64));
    std::vector<MomentSpec> moments(1 + random() % 25);
    for (MomentSpec& moment : moments) {
      std::vector<std::uint32_t> ids(payloads);
      for (std::uint32_t i = 0; i < payloads; ++i) ids[i] = i;
      std::shuffle(ids.begin(), ids.end(), random);
      ids.resize(random() % std::min<std::uint32_t>(4, payloads + 1));
      for (const std::uint32_t id : ids) moment.accesses.push_back({PayloadId(id), static_cast<AccessMode>(random() % 3)});
      moment.compute = random() % 1000;
      moment.non_model = 4096 * (random() % 100);
    }
    Trace trace = trace_of(sizes, moments);
    for (TracedPayload& payload : trace.payloads) payload.kind = static_cast<PayloadKind>(random() % kPayloadKinds);
    const PlanOptions options{.budget = 4096 * static_cast<Bytes>(100 + random() % 300),
                              .ring = 4096 * static_cast<Bytes>(random() % 20)};
    const Plan plan = make_plan(trace, options);
    const std::vector<Bytes> sum = taken(plan);
    for (std::size_t m = 0; m < trace.moments.size(); ++m) {
      const Bytes room = std::max<Bytes>(0, options.budget - trace.moments[m].non_model);
      ASSERT_EQ(plan.room[m], room);
      ASSERT_EQ(plan.left[m], room - sum[m]) << "seed " << seed << " round " << round << " moment " << m;
      Bytes in_use = 0;
      for (const Access& access : trace.at(m)) in_use += trace.bytes_of(access.payload);
      if (sum[m] > in_use) {
        ASSERT_LE(sum[m] + plan.ring, room) << "seed " << seed << " round " << round << " moment " << m;
      }
    }
    for (std::size_t i = 1; i < plan.fetches.size(); ++i) ASSERT_LE(plan.fetches[i - 1].moment, plan.fetches[i].moment);
    for (const std::uint8_t keep : plan.keep) ++(keep != 0 ? kept : streamed);
  }
  EXPECT_GT(kept, 1000);  // the cases are neither all loose nor all tight
  EXPECT_GT(streamed, 1000);
}

int longest_run(const std::vector<std::uint8_t>& keep, std::uint8_t value) {
  int longest = 0, run = 0;
  for (const std::uint8_t k : keep) longest = std::max(longest, run = k == value ? run + 1 : 0);
  return longest;
}

TEST(Plan, TilesThatStayAreSpreadEvenly) {
  // One in use, two of ring: half of the 64 fit.
  const Plan half = make_plan(tiles(64), {.budget = 35 * kTile, .ring = 2 * kTile});
  EXPECT_EQ(std::count(half.keep.begin(), half.keep.end(), 1), 32);
  EXPECT_LE(longest_run(half.keep, 0), 2);
  EXPECT_LE(longest_run(half.keep, 1), 2);
  const Plan quarter = make_plan(tiles(64), {.budget = 19 * kTile, .ring = 2 * kTile});
  EXPECT_NEAR(static_cast<double>(std::count(quarter.keep.begin(), quarter.keep.end(), 1)), 16, 1);
  EXPECT_LE(longest_run(quarter.keep, 0), 5);
  EXPECT_LE(longest_run(quarter.keep, 1), 1);
}

// The first half comes in a burst: there is no time to bring its tiles.
TEST(Plan, OfABurstMoreTilesStay) {
  Trace trace = tiles(64);
  for (std::size_t m = 0; m < 32; ++m) trace.moments[m].compute = 0;
  const auto kept_of_burst = [&](double by_time) {
    const Plan plan = make_plan(trace, {.budget = 35 * kTile, .ring = 2 * kTile, .spread_by_time = by_time});
    EXPECT_NEAR(static_cast<double>(std::count(plan.keep.begin(), plan.keep.end(), 1)), 32, 1);
    return std::count(plan.keep.begin(), plan.keep.begin() + 32, 1);
  };
  EXPECT_NEAR(static_cast<double>(kept_of_burst(0)), 16, 1);
  EXPECT_NEAR(static_cast<double>(kept_of_burst(0.5)), 24, 2);
  EXPECT_GE(kept_of_burst(1), 30);
}

// Two bursts, each after a long pause. Before the second the room is tight: no more of it can lie ahead than the ring holds.
TEST(Plan, OfABurstAsManyStreamAsThereIsRoomAhead) {
  std::vector<MomentSpec> moments;
  for (std::uint32_t i = 0; i < 64; ++i) {
    if (i % 32 == 0) moments.push_back({.compute = 1'000'000, .non_model = i == 0 ? 0 : 20 * kTile});
    moments.push_back({.accesses = {writes(i)}, .compute = 1});
  }
  const Plan plan = make_plan(trace_of(std::vector<Bytes>(64, kTile), moments),
                              {.budget = 76 * kTile, .ring = 2 * kTile, .spread_by_time = 1});  // 10 of 64 stream
  const auto streams_of = [&](std::size_t begin) {
    return std::count(plan.keep.begin() + begin, plan.keep.begin() + begin + 32, 0);
  };
  EXPECT_EQ(streams_of(0) + streams_of(32), 10);
  EXPECT_LE(streams_of(32), 3);  // two in the ring, and one on its way
  EXPECT_GE(streams_of(0), 7);
}

// Parameters are used in forward, in backward and at their update, and read and written in each.
TEST(Plan, ParametersStayBeforeState) {
  std::vector<MomentSpec> moments;
  for (std::uint32_t i = 0; i < 8; ++i) moments.push_back({.accesses = {reads(i)}, .compute = 1});
  for (std::uint32_t i = 8; i-- > 0;) moments.push_back({.accesses = {writes(i)}, .compute = 1});
  for (std::uint32_t i = 0; i < 8; ++i) moments.push_back({.accesses = {writes(i), writes(8 + i)}, .compute = 1});
  Trace trace = trace_of(std::vector<Bytes>(16, kTile), moments);
  for (std::size_t i = 0; i < 8; ++i) trace.payloads[i].kind = PayloadKind::kParam;
  const Plan plan = make_plan(trace, {.budget = 11 * kTile, .ring = 0});
  for (std::size_t a = 0; a < trace.accesses.size(); ++a) {
    if (trace.accesses[a].payload.index() < 8) {
      EXPECT_EQ(plan.keep[a], 1) << a;
    }
  }
  EXPECT_EQ(plan.kept_bytes, (8 + 2) * kTile);  // the third tile is the one in use
  EXPECT_EQ(plan.fetches.size(), 6u);
}

TEST(Plan, ARingIsLeft) {
  const auto ring = [](Bytes budget, Bytes most) {
    const Plan plan = make_plan(tiles(1024), {.budget = budget, .ring = most});
    for (const Bytes left : plan.left) EXPECT_GE(left, plan.ring);
    return plan.ring;
  };
  EXPECT_EQ(ring(600 * kTile, 3 * kTile), 3 * kTile);                   // as much as was asked for
  EXPECT_EQ(ring(495 * kTile, 120 * kMiB), 529 * kTile / 40);           // more would cost more traffic than it is worth
  EXPECT_EQ(ring(980 * kTile, 120 * kMiB), 4 * kTile);                  // but some on their way in, some on their way out
  EXPECT_EQ(ring(61 * kTile, 120 * kMiB), 15 * kMiB);                   // a quarter of the room beside what is in use
  EXPECT_EQ(make_plan(tiles(4), {.budget = kTile / 2}).ring, 0);        // nothing works, and nothing is promised
  const Plan large = make_plan(tiles(4096), {.budget = 1896 * kTile});  // 2200 stream
  EXPECT_EQ(large.ring, 55 * kMiB);
}

TEST(Plan, TrafficIsThatOfAHandCount) {
  // 0 a parameter; 1 to 3 tiles twice as large, of which one may stay.
  Trace trace = trace_of({kTile, 2 * kTile, 2 * kTile, 2 * kTile},
                         {{{reads(0)}}, {{writes(1)}}, {{writes(2)}}, {{writes(3)}}, {{writes(0)}}});
  trace.payloads[0].kind = PayloadKind::kParam;
  const Plan one = make_plan(trace, {.budget = 5 * kTile, .ring = 0});
  EXPECT_EQ(one.read_bytes, 4 * kTile);
  EXPECT_EQ(one.write_bytes, 4 * kTile);
  EXPECT_EQ(one.kept_bytes, 3 * kTile);
  ASSERT_EQ(one.fetches.size(), 2u);
  EXPECT_EQ(one.fetches[0].previous, 5u);  // the whole step
  // 0: read in forward, written in backward. 1: created, read later. 2, 3: tiles in between, as large as the room.
  trace = trace_of({kTile, kTile, 4 * kTile, 4 * kTile},
                   {{{reads(0)}}, {{writes(2)}}, {{writes(0), creates(1)}}, {{writes(3)}}, {{reads(1)}}, {{writes(2)}}});
  trace.payloads[0].kind = PayloadKind::kParam;
  trace.payloads[1].kind = PayloadKind::kGrad;
  const Plan none = make_plan(trace, {.budget = 4 * kTile, .ring = 0});
  EXPECT_EQ(none.keep, std::vector<std::uint8_t>(none.keep.size(), 0));
  // Read: 0 twice, 1 once (not where it is created), 2 twice, 3 once. Written: 0 and 1 once, as they are clean the other time.
  EXPECT_EQ(none.read_bytes, (2 + 1 + 2 * 4 + 4) * kTile);
  EXPECT_EQ(none.write_bytes, (1 + 1 + 2 * 4 + 4) * kTile);
  ASSERT_EQ(none.fetches.size(), 6u);
  EXPECT_EQ(none.fetches[0].payload, PayloadId(0u));
  EXPECT_EQ(none.fetches[0].previous, 4u);
  EXPECT_EQ(none.fetches[2].payload, PayloadId(0u));
  EXPECT_EQ(none.fetches[2].previous, 2u);
  EXPECT_EQ(none.kept_bytes, 0);
}

}  // namespace
}  // namespace patrickstar
