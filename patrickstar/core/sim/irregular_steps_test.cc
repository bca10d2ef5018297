// Steps that are not as planned, in simulation: what the Orchestrator makes of them beside policies on demand.
#include "patrickstar/core/sim/testing/irregular_steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/replay.h"
#include "patrickstar/core/sim/synthetic.h"
#include "patrickstar/core/testing/seed.h"

namespace patrickstar {
namespace {

constexpr double kBandwidth = 1.6e9;
constexpr int kSteps = 14;
constexpr std::size_t kWarmUp = 3;
constexpr std::size_t kLayers = 24;
constexpr double kRooms[] = {0.25, 0.5, 0.75};  // of the model data

// Of all steps after the warm-up together. `furthest` takes the first step for what every step is like.
double time_of(const std::string& policy, const Trace& all, const std::vector<const Trace*>& steps, Bytes budget) {
  PolicySet deciding = find_policy(policy)->make({.orchestrator = {.budget = budget}, .trace = steps[0]});
  ReplayOptions options{.host_budget = budget, .disk = {.bytes_per_second = kBandwidth}, .steps = kSteps};
  options.trace_of_step = [&](int i) { return steps[static_cast<std::size_t>(i) % steps.size()]; };
  decide_by(&deciding, &options);
  const auto report = replay(all, options);
  EXPECT_TRUE(report.ok()) << report.status().message();
  if (!report.ok()) return 0;
  double sum = 0;
  for (std::size_t i = kWarmUp; i < report.value().steps.size(); ++i) sum += static_cast<double>(report.value().steps[i].time);
  return sum;
}

std::vector<const Trace*> pointers(const std::vector<Trace>& traces) {
  std::vector<const Trace*> all;
  for (const Trace& trace : traces) all.push_back(&trace);
  return all;
}

// Nobody is slower than by the two policies on demand that might take the plan's place.
void expect_fastest(const std::string& what, const Trace& all, const std::vector<const Trace*>& steps, Bytes budget) {
  const double planned = time_of("planned", all, steps, budget);
  const double by_lru = planned / time_of("lru", all, steps, budget);
  const double by_furthest = planned / time_of("furthest", all, steps, budget);
  std::printf("%s: %.3f of LRU's time, %.3f of furthest next use's\n", what.c_str(), by_lru, by_furthest);
  EXPECT_LE(by_lru, 1) << what;
  EXPECT_LE(by_furthest, 1) << what;
}

std::string percent(double share) { return std::to_string(static_cast<int>(100 * share)) + " %"; }

// Whatever is drawn a step takes no more than 1.10 x LRU's; on average of the draws nobody is faster.
TEST(IrregularSteps, LayersDroppedAtRandom) {
  const std::uint32_t first = test_seed(3);
  constexpr std::uint32_t kDraws = 10;
  for (const double probability : {0.1, 0.3}) {
    for (const double room : kRooms) {
      Trace trace = gpt_trace({.recompute = Recompute::kNone, .update = UpdateAt::kBackward});
      const Bytes budget = budget_with_room(trace, room);
      scale_compute(&trace, step_bounds(trace, room_for_chunks(trace, budget), kBandwidth).transfers);
      double lru = 0, furthest = 0, most = 0;
      for (std::uint32_t seed = first; seed < first + kDraws; ++seed) {
        std::mt19937 random(seed);
        std::vector<Trace> steps;
        for (int i = 0; i < kSteps; ++i) steps.push_back(with_layers_dropped(trace, kLayers, probability, random));
        const double planned = time_of("planned", trace, pointers(steps), budget);
        const double by_lru = planned / time_of("lru", trace, pointers(steps), budget);
        EXPECT_LE(by_lru, 1.10) << "seed " << seed << ", p " << probability << ", room " << room;
        lru += by_lru / kDraws;
        furthest += planned / time_of("furthest", trace, pointers(steps), budget) / kDraws;
        most = std::max(most, by_lru);
      }
      std::printf("layers dropped with %s, room %s: %.3f of LRU's time (at most %.3f), %.3f of furthest next use's\n",
                  percent(probability).c_str(), percent(room).c_str(), lru, most, furthest);
      EXPECT_LE(lru, 1) << probability << " " << room;
      EXPECT_LE(furthest, 1) << probability << " " << room;
    }
  }
}

TEST(IrregularSteps, SequencesOfTwoLengthsInTurn) {
  for (const double room : kRooms) {
    Trace longer = gpt_trace({.recompute = Recompute::kNone, .update = UpdateAt::kSplit});
    Trace shorter = gpt_trace({.tokens = 512, .recompute = Recompute::kNone, .update = UpdateAt::kSplit});
    const Bytes budget = budget_with_room(longer, room);
    const Nanos compute = step_bounds(longer, room_for_chunks(longer, budget), kBandwidth).transfers;
    scale_compute(&longer, compute);
    scale_compute(&shorter, compute / 2);
    expect_fastest("two lengths, room " + percent(room), longer, {&longer, &shorter}, budget);
  }
}

TEST(IrregularSteps, OtherExpertsEachStep) {
  const std::uint32_t seed = test_seed(3);
  SCOPED_TRACE("seed " + std::to_string(seed));
  constexpr std::uint32_t kExperts = 8;
  constexpr std::size_t kMixtures = 12;
  std::mt19937 random(seed);
  const Trace all = experts_trace(random_experts(kMixtures, kExperts, kExperts, random), kExperts);
  for (const double room : kRooms) {
    const auto budget = static_cast<Bytes>(room * static_cast<double>(all.model_data_bytes()));
    std::vector<Trace> steps;
    for (int i = 0; i < kSteps; ++i) {
      steps.push_back(experts_trace(random_experts(kMixtures, kExperts, 4, random), kExperts));
      scale_compute(&steps.back(), 2'000'000'000);
    }
    expect_fastest("other 4 of 8 experts, room " + percent(room), all, pointers(steps), budget);
  }
}

// The last of kSteps steps that are like `before` until step `change`, then like `after`.
double last_step(const Trace& all, Bytes budget, const Trace& before, const Trace& after, int change) {
  PolicySet planned = find_policy("planned")->make({.orchestrator = {.budget = budget}, .trace = &all});
  ReplayOptions options{.host_budget = budget, .disk = {.bytes_per_second = kBandwidth}, .steps = kSteps};
  options.trace_of_step = [&](int i) { return i < change ? &before : &after; };
  decide_by(&planned, &options);
  return static_cast<double>(replay(all, options).value().steps.back().time);
}

// Half of the layers are trained: the plan is one of half a step until the search has found the whole one, or the other way
// round.
TEST(IrregularSteps, AStepThatHasBecomeAnotherIsAsFastAsIfItHadAlwaysBeen) {
  for (const double room : kRooms) {
    Trace trace = gpt_trace({.recompute = Recompute::kNone, .update = UpdateAt::kBackward});
    const Bytes budget = budget_with_room(trace, room);
    scale_compute(&trace, step_bounds(trace, room_for_chunks(trace, budget), kBandwidth).transfers);
    std::vector<bool> half(kLayers);
    for (std::size_t layer = 0; layer < kLayers / 2; ++layer) half[layer] = true;
    const Trace fewer = without(trace, half);
    EXPECT_LE(last_step(trace, budget, fewer, trace, 5), 1.01 * last_step(trace, budget, fewer, trace, 0)) << room;
    EXPECT_LE(last_step(trace, budget, trace, fewer, 5), 1.01 * last_step(trace, budget, trace, fewer, 0)) << room;
  }
}

// The moments are the same, so nothing deviates: only what they need beside chunks tells.
TEST(IrregularSteps, SequencesThatHaveBecomeShorterAreAsFastAsIfTheyHadAlwaysBeen) {
  for (const double room : kRooms) {
    Trace longer = gpt_trace({.recompute = Recompute::kNone, .update = UpdateAt::kSplit});
    Trace shorter = gpt_trace({.tokens = 256, .recompute = Recompute::kNone, .update = UpdateAt::kSplit});
    const Bytes budget = budget_with_room(longer, room);
    const Nanos compute = step_bounds(longer, room_for_chunks(longer, budget), kBandwidth).transfers;
    scale_compute(&longer, compute);
    scale_compute(&shorter, compute / 4);
    EXPECT_LE(last_step(longer, budget, longer, shorter, 5), 1.01 * last_step(longer, budget, longer, shorter, 0)) << room;
    EXPECT_LE(last_step(longer, budget, shorter, longer, 5), 1.01 * last_step(longer, budget, shorter, longer, 0)) << room;
  }
}

}  // namespace
}  // namespace patrickstar
