// A disk that is ten times as slow for a while, under the plan: everything completes, no step takes longer than LRU's, and after
// it steps take what they took before. In simulation, so the figures are exact on any machine.
#include <gtest/gtest.h>

#include <cstdio>
#include <ostream>
#include <string>
#include <vector>

#include "patrickstar/core/policy/orchestrator.h"
#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/replay.h"
#include "patrickstar/core/sim/synthetic.h"

namespace patrickstar {
namespace {

constexpr double kBandwidth = 1.6e9;
constexpr double kSlower = 10;
constexpr int kSteps = 16;
constexpr int kSlowStep = 8;

enum class Policy { kPlanned, kLru };

std::vector<StepReport> run(const Trace& trace, Bytes budget, Policy policy, const std::vector<SlowSpell>& spells) {
  Orchestrator orchestrator({.budget = budget});
  ReplayOptions options{.host_budget = budget, .disk = {.bytes_per_second = kBandwidth}, .slow_spells = spells, .steps = kSteps};
  if (policy == Policy::kPlanned) {
    options.configure = [&](ChunkManagerOptions* manager) {
      manager->schedule = &orchestrator;
      manager->levels[0].policy = orchestrator.make_policy();
    };
    options.step_done = [](ChunkManager* manager) { manager->step_done(); };
  }
  auto report = replay(trace, options);
  EXPECT_TRUE(report.ok()) << report.status().message();
  return report.ok() ? report.value().steps : std::vector<StepReport>(kSteps);
}

struct Spell {
  std::string name;
  double from = 0;   // from the begin of the slow step, in its calm time
  double lasts = 0;  // likewise
};
void PrintTo(const Spell& spell, std::ostream* out) { *out << spell.name; }

struct BothRuns {
  std::vector<StepReport> calm;
  std::vector<StepReport> slow;
  SlowSpell spell;
};

// The spell comes at the same place in the same step, whatever the steps before took.
BothRuns with_spell(const Trace& trace, Bytes budget, Policy policy, const Spell& spell) {
  BothRuns both;
  both.calm = run(trace, budget, policy, {});
  Nanos begin = 0;
  for (int i = 0; i < kSlowStep; ++i) begin += both.calm[static_cast<std::size_t>(i)].time;
  const auto part = [&](double share) { return static_cast<Nanos>(share * static_cast<double>(both.calm[kSlowStep].time)); };
  const Nanos from = begin + part(spell.from);
  both.spell = {.from = from, .to = from + part(spell.lasts), .factor = kSlower};
  both.slow = run(trace, budget, policy, {both.spell});
  return both;
}

class BadDays : public testing::TestWithParam<Spell> {};

TEST_P(BadDays, ASlowDiskCostsNoMoreThanUnderLruAndIsForgotten) {
  const Spell& spell = GetParam();
  for (const double room : {0.25, 0.5, 0.75}) {
    SCOPED_TRACE("room " + std::to_string(room));
    Trace trace = gpt_trace({.recompute = Recompute::kNone, .update = UpdateAt::kSplit});
    const Bytes budget = budget_with_room(trace, room);
    scale_compute(&trace, step_bounds(trace, room_for_chunks(trace, budget), kBandwidth).transfers);
    const BothRuns planned = with_spell(trace, budget, Policy::kPlanned, spell);
    const BothRuns lru = with_spell(trace, budget, Policy::kLru, spell);
    Nanos planned_total = 0;
    Nanos lru_total = 0;
    for (std::size_t i = 0; i < kSteps; ++i) {
      SCOPED_TRACE("step " + std::to_string(i));
      EXPECT_LE(planned.slow[i].time, lru.slow[i].time);
      planned_total += planned.slow[i].time;
      lru_total += lru.slow[i].time;
    }
    const auto seconds = [](Nanos time) { return static_cast<double>(time) / 1e9; };
    std::printf("room %.2f: slow step %.3f s (calm %.3f), LRU's %.3f (calm %.3f); all %.1f, LRU's %.1f\n", room,
                seconds(planned.slow[kSlowStep].time), seconds(planned.calm[kSlowStep].time), seconds(lru.slow[kSlowStep].time),
                seconds(lru.calm[kSlowStep].time), seconds(planned_total), seconds(lru_total));
    EXPECT_LT(planned_total, lru_total);
    EXPECT_GT(planned.slow[kSlowStep].time, planned.calm[kSlowStep].time) << "else it was no bad day";
    // The step in which it ends and the one after, to which it leaves a late disk; then not a nanosecond is different.
    Nanos now = 0;
    std::size_t recovered = 0;
    for (; recovered < kSteps && now <= planned.spell.to; ++recovered) now += planned.slow[recovered].time;
    ASSERT_LT(recovered + 1, static_cast<std::size_t>(kSteps));
    for (std::size_t i = recovered + 1; i < kSteps; ++i) EXPECT_EQ(planned.slow[i], planned.calm[i]) << "step " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Spells, BadDays,
                         testing::Values(Spell{"part_of_a_step", 0.3, 0.4}, Spell{"its_end", 0.6, 0.4},
                                         Spell{"two_whole_steps", 0, 20}, Spell{"forty_steps_of_time", 0.5, 40}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace patrickstar
