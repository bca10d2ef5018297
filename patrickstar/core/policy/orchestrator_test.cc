#include "patrickstar/core/policy/orchestrator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "patrickstar/core/policy/orchestrator_test_util.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

constexpr Bytes kTile = kMiB;

// Forward reads `n` parameters, backward writes them, each with its tile's update: 2 n moments, n + n payloads.
Trace layers(std::uint32_t n = 8) {
  std::vector<MomentSpec> moments;
  for (std::uint32_t i = 0; i < n; ++i) moments.push_back({.accesses = {reads(i)}, .compute = 1});
  for (std::uint32_t i = n; i-- > 0;) moments.push_back({.accesses = {writes(i), writes(n + i)}, .compute = 1});
  Trace trace = trace_of(std::vector<Bytes>(2 * n, kTile), moments);
  for (std::size_t i = 0; i < n; ++i) trace.payloads[i].kind = PayloadKind::kParam;
  return trace;
}
// Parameters fit, and with the ring two or three tiles.
OrchestratorOptions room_for(Bytes tiles) { return {.budget = tiles * kTile, .ring = 2 * kTile}; }

TEST(Orchestrator, WatchesTwoStepsThenFollows) {
  TrainingRun run(layers(), room_for(12));
  EXPECT_TRUE(run.orchestrator.keep(PayloadId(0u)));
  EXPECT_FALSE(run.orchestrator.want().has_value());
  EXPECT_EQ(run.orchestrator.trace(), nullptr);
  EXPECT_EQ(run.watch(), 2);
  EXPECT_EQ(run.orchestrator.stats().plans, 1);
  ASSERT_NE(run.orchestrator.trace(), nullptr);
  EXPECT_EQ(run.orchestrator.trace()->moments.size(), 16u);
  EXPECT_EQ(run.orchestrator.stats().planned_read, run.orchestrator.plan().read_bytes);
}

TEST(Orchestrator, WhatFitsIsNeverPlanned) {
  TrainingRun run(layers(), room_for(16));
  for (int i = 0; i < 6; ++i) run.step();
  EXPECT_FALSE(run.orchestrator.stats().following);
  run.calm = false;
  run.force_out();  // now it does not fit any more: the rest of this step and a whole one
  run.step();
  EXPECT_FALSE(run.orchestrator.stats().following);
  run.step();
  EXPECT_TRUE(run.orchestrator.stats().following);
}

TEST(Orchestrator, InCalmEverythingIsThereBeforeItsUseInTheOrderOfUse) {
  for (const Bytes room : {8, 10, 12, 14}) {  // with less the ring is smaller than a tile
    TrainingRun run(layers(), room_for(room));
    run.watch();
    for (int i = 0; i < 4; ++i) run.step();
    EXPECT_EQ(run.misses, 0) << room;
    EXPECT_GT(run.wanted.size(), 4u) << room;
    EXPECT_EQ(run.orchestrator.stats().forced, 0) << room;
    EXPECT_EQ(run.orchestrator.stats().deviations, 0) << room;
    EXPECT_LE(static_cast<Bytes>(run.resident.size()), room);
    run.wanted.clear();
    run.step();
    EXPECT_EQ(static_cast<Bytes>(run.wanted.size()) * kTile, run.orchestrator.stats().planned_read) << room;
  }
}

// Payload 0 is used twice a step and may not stay in between: the later use is thought of only after the earlier one.
TEST(Orchestrator, NothingIsWantedForAUseBeforeTheOneBeforeIt) {
  std::vector<MomentSpec> half = {
      {.accesses = {reads(1)}, .non_model = 2 * kTile}, {.accesses = {reads(1)}}, {.accesses = {reads(0)}}};
  std::vector<MomentSpec> moments = half;
  moments.insert(moments.end(), half.begin(), half.end());
  TrainingRun run(trace_of({kTile, kTile}, moments), room_for(4));
  run.watch();
  EXPECT_EQ(run.orchestrator.stats().planned_read, 2 * kTile);
  for (int i = 0; i < 4; ++i) {
    run.step();
    EXPECT_EQ(run.misses, i == 0 ? 1 : 0) << i;  // what is kept comes once
  }
}

// Parameters, too, may have to stream: they are brought for forward and again for backward.
TEST(Orchestrator, StreamedParametersAreThereForEachUse) {
  TrainingRun run(layers(32), room_for(20));
  run.watch();
  for (int i = 0; i < 4; ++i) run.step();
  EXPECT_EQ(run.misses, 0);
  run.wanted.clear();
  run.step();
  EXPECT_EQ(static_cast<Bytes>(run.wanted.size()) * kTile, run.orchestrator.stats().planned_read);
  EXPECT_GT(std::count_if(run.wanted.begin(), run.wanted.end(), [](PayloadId id) { return id.index() < 32; }), 0);
}

// A tile that streams leaves after its update; a moment that the plan does not know lets everything stay.
TEST(Orchestrator, AStreamedPayloadLeavesAfterItsLastUseUnlessOffTrack) {
  TrainingRun run(layers(), room_for(12));
  run.watch();
  const Plan& plan = run.orchestrator.plan();
  int streamed = 0;
  for (std::size_t m = 0; m < run.trace.moments.size(); ++m) {
    run.grant(m);
    for (std::size_t i = 0; i < run.trace.at(m).size(); ++i) {
      const bool keep = plan.keep[run.trace.moments[m].first + i] != 0;
      EXPECT_EQ(run.orchestrator.keep(run.trace.at(m)[i].payload), keep) << m;
      if (keep) continue;
      ++streamed;
      run.orchestrator.granted(std::vector<Access>{reads(0), reads(1)}, {});
      EXPECT_TRUE(run.orchestrator.keep(run.trace.at(m)[i].payload));
    }
  }
  EXPECT_GT(streamed, 3);
}

TEST(Orchestrator, WhatIsForcedOutIsWantedAgainAndAfterTheNextMomentOnly) {
  TrainingRun run(layers(), room_for(12));
  run.watch();
  run.step();
  run.grant(std::size_t{0});
  run.calm = false;
  // Kept ones too, once what is done with or ahead has gone.
  std::vector<PayloadId> out;
  for (int i = 0; i < 8; ++i) out.push_back(run.force_out());
  EXPECT_EQ(run.orchestrator.stats().forced, 8);
  EXPECT_FALSE(run.orchestrator.want().has_value());  // room is being made: none is taken ahead of need
  run.wanted.clear();
  for (std::size_t m = 1; m < run.trace.moments.size(); ++m) run.grant(m);
  for (const PayloadId payload : out) EXPECT_GE(std::count(run.wanted.begin(), run.wanted.end(), payload), 1) << payload.value;
  const Bytes reserve = run.orchestrator.stats().reserve;
  run.orchestrator.step_done({.compute = 1});
  EXPECT_EQ(run.orchestrator.stats().plans, 2);  // kept ones gave way: the room was less than was thought
  EXPECT_GT(run.orchestrator.stats().reserve, reserve);
  EXPECT_TRUE(run.orchestrator.stats().following);
}

TEST(Orchestrator, WhatWasBroughtAheadGivesWayBeforeWhatIsKept) {
  TrainingRun run(layers(), room_for(12));
  run.watch();
  run.step();
  run.wanted.clear();
  for (std::size_t m = 0; m < 4; ++m) run.grant(m);
  ASSERT_FALSE(run.wanted.empty());
  EXPECT_EQ(run.force_out(), run.wanted.back());  // used last of them
  const std::int64_t plans = run.orchestrator.stats().plans;
  for (std::size_t m = 4; m < 16; ++m) run.grant(m);
  run.orchestrator.step_done({});
  EXPECT_EQ(run.orchestrator.stats().plans, plans);
}

// [Note: another step] of StepSearch: meanwhile the stale plan is followed.
TEST(Orchestrator, AStepThatHasBecomeAnotherIsPlannedFromAfterThreeSteps) {
  TrainingRun run(layers(), room_for(12));
  run.watch();
  run.calm = false;
  const auto other_step = [&] {  // every layer twice
    for (std::size_t m = 0; m < 16; ++m) {
      run.grant(m);
      run.grant({reads(0), reads(1), reads(2)});
    }
    run.orchestrator.step_done({});
  };
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(run.orchestrator.trace()->moments.size(), 16u);
    other_step();
    EXPECT_TRUE(run.orchestrator.stats().following);
  }
  EXPECT_EQ(run.orchestrator.stats().retraces, 1);
  EXPECT_EQ(run.orchestrator.trace()->moments.size(), 32u);
  const std::int64_t deviations = run.orchestrator.stats().deviations;
  EXPECT_GE(deviations, 3 * 16);
  other_step();
  EXPECT_EQ(run.orchestrator.stats().deviations, deviations);
  for (int i = 0; i < 3; ++i) run.step();  // and back
  EXPECT_EQ(run.orchestrator.stats().retraces, 2);
  EXPECT_EQ(run.orchestrator.trace()->moments.size(), 16u);
}

TEST(Orchestrator, OneStepThatDeviatesIsForgiven) {
  TrainingRun run(layers(), room_for(12));
  run.watch();
  run.calm = false;
  for (int i = 0; i < 6; ++i) {
    run.step();
    for (std::size_t m = 0; m < 16; ++m) {
      run.grant(m);
      run.grant({reads(0), reads(1), reads(2)});
    }
    run.orchestrator.step_done({});
  }
  EXPECT_TRUE(run.orchestrator.stats().following);
  EXPECT_EQ(run.orchestrator.stats().retraces, 0);
}

// orchestrator.h, [Note: passes that are no steps]
TEST(Orchestrator, WhatAnEvaluationNeedsIsNotLearnedAndWhatAStepNeedsIs) {
  TrainingRun run(layers(), room_for(12));
  run.watch();
  run.calm = false;
  const auto evaluate = [&] {
    for (std::size_t m = 0; m < 8; ++m) {
      run.trace.moments[m].non_model = 6 * kTile;
      run.grant(m);
      run.trace.moments[m].non_model = 0;
      if (m == 3) run.force_out();
      if (m == 4) run.force_out();
    }
  };
  const Bytes reserve = run.orchestrator.stats().reserve;
  for (int i = 0; i < 6; ++i) {  // (one in every step would be planned for, as a part of it)
    if (i % 3 == 0) evaluate();
    run.step();
    EXPECT_EQ(run.orchestrator.stats().plans, 1);
    EXPECT_EQ(run.orchestrator.stats().reserve, reserve);
    for (const Moment& moment : run.orchestrator.trace()->moments) EXPECT_LE(moment.non_model, 0);
  }
  EXPECT_EQ(run.orchestrator.stats().retraces, 0);
  run.trace.moments[5].non_model = kTile;
  run.step();
  EXPECT_EQ(run.orchestrator.trace()->moments[5].non_model, kTile);
  run.step();
  run.trace.moments[15].non_model = kTile;  // told at the step's end
  run.step();
  EXPECT_EQ(run.orchestrator.trace()->moments[15].non_model, kTile);
}

TEST(Orchestrator, WhatTheFirstMomentUsesIsNotTheFurthestBeforeIt) {
  std::vector<MomentSpec> moments;
  for (std::uint32_t i = 0; i < 16; ++i) moments.push_back({.accesses = {writes(i)}, .compute = 1});
  TrainingRun run(trace_of(std::vector<Bytes>(16, kTile), moments), room_for(12));
  run.watch();
  run.calm = false;
  for (std::uint32_t i = 0; i < 16; ++i) {
    if (run.resident.insert(PayloadId(i)).second) run.policy->track(PayloadId(i));
  }
  ASSERT_NE(run.orchestrator.plan().keep[0], 0) << "else it would be no equal of those that are kept";
  while (run.resident.size() > 1) EXPECT_NE(run.force_out(), PayloadId(0u));
}

TEST(Orchestrator, SmallerStepsAreNoticedAndPlannedFor) {
  TrainingRun run(layers(), room_for(14));
  for (Moment& moment : run.trace.moments) moment.non_model = 4 * kTile;
  run.watch();
  const Bytes kept = run.orchestrator.plan().kept_bytes;
  for (Moment& moment : run.trace.moments) moment.non_model = 0;
  run.calm = false;
  for (int i = 0; i < 6; ++i) run.step();
  EXPECT_EQ(run.orchestrator.stats().retraces, 1);
  EXPECT_EQ(run.orchestrator.stats().plans, 2);
  EXPECT_GT(run.orchestrator.plan().kept_bytes, kept);
}

TEST(Orchestrator, OnlyWhatThePlanDoesNotKnowOrIsDoneWithIsSurplus) {
  TrainingRun run(layers(), room_for(12));
  run.watch();
  run.add(PayloadId(20u), {PayloadKind::kParam, kTile});
  EXPECT_FALSE(run.orchestrator.surplus(PayloadId(20u))) << "not on the plan's track yet";
  run.grant(std::size_t{0});
  EXPECT_TRUE(run.orchestrator.surplus(PayloadId(20u)));
  for (const PayloadId payload : run.resident) EXPECT_FALSE(run.orchestrator.surplus(payload)) << payload.value;
  run.calm = false;
  run.grant({creates(20)});
  EXPECT_FALSE(run.orchestrator.surplus(PayloadId(20u))) << "an evaluation may use it again and again";
}

TEST(Orchestrator, APayloadThatIsAddedIsUnknownToThePlan) {
  TrainingRun run(layers(), room_for(12));
  run.watch();
  run.add(PayloadId(20u), {PayloadKind::kParam, kTile});
  run.grant(std::size_t{0});
  run.calm = false;
  run.grant({creates(20)});
  EXPECT_TRUE(run.orchestrator.keep(PayloadId(20u)));
  EXPECT_EQ(run.force_out(), PayloadId(20u));  // nobody knows when it will be used
  run.grant({reads(20)});
  EXPECT_EQ(run.orchestrator.stats().deviations, 2);
  for (std::size_t m = 1; m < 16; ++m) run.grant(m);
  EXPECT_EQ(run.orchestrator.stats().deviations, 2);
  EXPECT_TRUE(run.orchestrator.stats().following);
}

TEST(Orchestrator, APayloadThatIsRemovedEndsThePlan) {
  TrainingRun run(layers(), room_for(12));
  run.watch();
  run.grant(std::size_t{0});
  run.orchestrator.removed(PayloadId(15u));
  EXPECT_FALSE(run.orchestrator.stats().following);
  EXPECT_FALSE(run.orchestrator.want().has_value());
  Trace& trace = run.trace;
  const auto step_without = [&] {
    for (std::size_t m = 0; m < 16; ++m)
      run.grant(m == 8 ? std::vector<Access>{writes(7)} : std::vector<Access>{trace.at(m).begin(), trace.at(m).end()});
    run.orchestrator.step_done({});
  };
  run.orchestrator.step_done({});  // what was left of this step is no step
  EXPECT_FALSE(run.orchestrator.stats().following);
  step_without();
  ASSERT_TRUE(run.orchestrator.stats().following);
  EXPECT_EQ(run.orchestrator.trace()->payloads[15].bytes, 0);
  EXPECT_EQ(run.orchestrator.trace()->moments.size(), 16u);
}

TEST(Orchestrator, AStepInWhichAPayloadIsRemovedIsNotPlannedFrom) {
  TrainingRun run(layers(), room_for(12));
  run.step();
  run.grant(std::size_t{0});
  run.force_out();
  run.orchestrator.removed(PayloadId(0u));
  run.orchestrator.step_done({});
  EXPECT_FALSE(run.orchestrator.stats().following);
}

}  // namespace
}  // namespace patrickstar
