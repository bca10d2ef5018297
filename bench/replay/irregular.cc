// Steps that are not as planned: every policy on the same 24 steps, by LRU's time. Steps count from the fourth on, as the first
// ones are the same for all. `furthest` knows the first step beforehand and takes every other for a deviation from it.
//
//   irregular [--seed N]
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/replay.h"
#include "patrickstar/core/sim/synthetic.h"
#include "patrickstar/core/sim/testing/irregular_steps.h"

namespace patrickstar {
namespace {

constexpr double kBandwidth = 1.6e9;
constexpr int kSteps = 24;
constexpr std::size_t kWarmUp = 3;
constexpr std::size_t kLayers = 24;

struct Scenario {
  std::string name;
  Trace all;  // uses every payload
  std::vector<Trace> steps;
};

double time_of(const Scenario& scenario, Bytes budget, const PolicyEntry& policy, OrchestratorStats* stats) {
  PolicySet deciding = policy.make({.orchestrator = {.budget = budget}, .trace = &scenario.steps[0]});
  ReplayOptions options{.host_budget = budget, .disk = {.bytes_per_second = kBandwidth}, .steps = kSteps};
  options.trace_of_step = [&](int i) { return &scenario.steps[static_cast<std::size_t>(i)]; };
  decide_by(&deciding, &options);
  options.step_done = [&](ChunkManager* manager) {
    manager->step_done();
    if (deciding.schedule != nullptr) *stats = deciding.schedule->stats();
  };
  const auto report = replay(scenario.all, options);
  if (!report.ok()) {
    std::printf("%s\n", report.status().message().c_str());
    std::exit(1);
  }
  double sum = 0;
  for (std::size_t i = kWarmUp; i < report.value().steps.size(); ++i) sum += static_cast<double>(report.value().steps[i].time);
  return sum;
}

std::vector<Scenario> scenarios(double room, std::uint32_t seed, std::vector<Bytes>* budgets) {
  std::mt19937 random(seed);
  std::vector<Scenario> all;
  const auto add = [&](std::string name, const Trace& whole, Bytes budget, const std::function<Trace(int)>& step) {
    all.push_back({.name = std::move(name), .all = whole});
    for (int i = 0; i < kSteps; ++i) all.back().steps.push_back(step(i));
    budgets->push_back(budget);
  };
  const auto scaled = [&](Trace trace, Bytes budget) {
    scale_compute(&trace, step_bounds(trace, room_for_chunks(trace, budget), kBandwidth).transfers);
    return trace;
  };
  Trace gpt = gpt_trace({.recompute = Recompute::kNone, .update = UpdateAt::kBackward});
  const Bytes gpt_budget = budget_with_room(gpt, room);
  gpt = scaled(gpt, gpt_budget);
  for (const double probability : {0.1, 0.3, 0.5}) {
    add("layers dropped, p " + std::to_string(probability).substr(0, 3), gpt, gpt_budget,
        [&](int) { return with_layers_dropped(gpt, kLayers, probability, random); });
  }
  std::vector<bool> half(kLayers);
  for (std::size_t layer = 0; layer < kLayers / 2; ++layer) half[layer] = true;
  add("12 layers more from step 9 on", gpt, gpt_budget, [&](int i) { return i < 8 ? without(gpt, half) : gpt; });
  add("12 layers less every 2nd step", gpt, gpt_budget, [&](int i) { return i % 2 == 1 ? without(gpt, half) : gpt; });
  constexpr std::uint32_t kExperts = 8;
  std::vector<std::vector<std::uint32_t>> every(12);
  for (auto& layer : every) {
    for (std::uint32_t expert = 0; expert < kExperts; ++expert) layer.push_back(expert);
  }
  const Trace whole = experts_trace(every, kExperts);
  for (const std::size_t each : {2, 6}) {
    const auto budget = static_cast<Bytes>(room * static_cast<double>(whole.model_data_bytes()));
    const Nanos compute = static_cast<Nanos>(static_cast<double>(whole.model_data_bytes()) * 2 * (1 - room) / kBandwidth * 1e9 *
                                             static_cast<double>(each) / kExperts);
    add("other " + std::to_string(each) + " of 8 experts each step", whole, budget, [&](int) {
      Trace trace = experts_trace(random_experts(12, kExperts, each, random), kExperts);
      scale_compute(&trace, compute);
      return trace;
    });
  }
  return all;
}

int run(int argc, char** argv) {
  const auto seed = static_cast<std::uint32_t>(argc > 2 && std::string(argv[1]) == "--seed" ? std::atol(argv[2]) : 3);
  std::printf("%-32s %5s", "", "room");
  for (const PolicyEntry& policy : registered_policies()) std::printf(" %9s", std::string(policy.name).c_str());
  std::printf("   plans retraces unexpected reserve\n");
  for (const double room : {0.25, 0.5, 0.75}) {
    std::vector<Bytes> budgets;
    const std::vector<Scenario> all = scenarios(room, seed, &budgets);
    for (std::size_t i = 0; i < all.size(); ++i) {
      OrchestratorStats stats;
      const double lru = time_of(all[i], budgets[i], *find_policy("lru"), &stats);
      std::printf("%-32s %3.0f %%", all[i].name.c_str(), room * 100);
      for (const PolicyEntry& policy : registered_policies())
        std::printf(" %9.3f", time_of(all[i], budgets[i], policy, &stats) / lru);
      std::printf("   %5ld %8ld %10ld %5.1f %%\n", stats.plans, stats.retraces, stats.deviations,
                  100 * static_cast<double>(stats.reserve) / static_cast<double>(budgets[i]));
    }
  }
  return 0;
}

}  // namespace
}  // namespace patrickstar

int main(int argc, char** argv) { return patrickstar::run(argc, argv); }
