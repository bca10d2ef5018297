// The Orchestrator in simulation, against the bounds: GPT-2-medium, room for chunks of 25, 50, 75 % of the model data, compute of
// 2, 1, 0.5 x the least time of its transfers, for each time at which tiles may be updated; LRU beside it.
//
//   settings [--ring MIB] [--spread F] [--checkpoint]
#include <cstdio>
#include <cstdlib>
#include <string>

#include "patrickstar/core/policy/orchestrator.h"
#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/replay.h"
#include "patrickstar/core/sim/synthetic.h"

namespace patrickstar {
namespace {

constexpr double kBandwidth = 1.6e9;

StepReport last_step(const Trace& trace, Bytes budget, Orchestrator* orchestrator) {
  ReplayOptions options{.host_budget = budget, .disk = {.bytes_per_second = kBandwidth}, .steps = 8};
  if (orchestrator != nullptr) {
    options.configure = [&](ChunkManagerOptions* manager) {
      manager->schedule = orchestrator;
      manager->levels[0].policy = orchestrator->make_policy();
    };
    options.step_done = [](ChunkManager* manager) { manager->step_done(); };
  }
  const auto report = replay(trace, options);
  if (!report.ok()) {
    std::printf("%s\n", report.status().message().c_str());
    std::exit(1);
  }
  return report.value().steps.back();
}

int run(int argc, char** argv) {
  OrchestratorOptions base;
  Recompute recompute = Recompute::kNone;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--ring" && i + 1 < argc) base.ring = std::atol(argv[++i]) * kMiB;
    if (option == "--spread" && i + 1 < argc) base.spread_by_time = std::atof(argv[++i]);
    if (option == "--checkpoint") recompute = Recompute::kBlocks;
  }
  const struct {
    UpdateAt at;
    const char* name;
  } updates[] = {{UpdateAt::kPhase, "phase"},
                 {UpdateAt::kNextForward, "deferred"},
                 {UpdateAt::kBackward, "backward"},
                 {UpdateAt::kSplit, "split"}};
  std::printf(
      "update    room  compute/transfers   limit s  of max(c,t)  time/limit  traffic/LB   LRU time  misses late "
      "forced\n");
  for (const auto& update : updates) {
    for (const double room : {0.25, 0.5, 0.75}) {
      for (const double factor : {2.0, 1.0, 0.5}) {
        Trace trace = gpt_trace({.recompute = recompute, .update = update.at});
        const Bytes budget = budget_with_room(trace, room);
        const auto rooms = room_for_chunks(trace, budget);
        StepBounds bounds = step_bounds(trace, rooms, kBandwidth);
        scale_compute(&trace, static_cast<Nanos>(factor * static_cast<double>(bounds.transfers)));
        bounds = step_bounds(trace, rooms, kBandwidth);
        OrchestratorOptions options = base;
        options.budget = budget;
        Orchestrator orchestrator(options);
        const StepReport ours = last_step(trace, budget, &orchestrator);
        const StepReport lru = last_step(trace, budget, nullptr);
        const double lb = static_cast<double>(bounds.min_read + bounds.min_write);
        std::printf("%-9s %3.0f %%  %17.1f  %8.3f  %11.3f  %10.3f  %10.3f  %9.3f  %6ld  %6ld\n", update.name, room * 100, factor,
                    static_cast<double>(bounds.limit) * 1e-9,
                    static_cast<double>(bounds.limit) / static_cast<double>(std::max(bounds.compute, bounds.transfers)),
                    static_cast<double>(ours.time) / static_cast<double>(bounds.limit),
                    static_cast<double>(ours.read + ours.written) / lb,
                    static_cast<double>(lru.time) / static_cast<double>(bounds.limit), ours.misses, orchestrator.stats().forced);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace patrickstar

int main(int argc, char** argv) { return patrickstar::run(argc, argv); }
