// All registered policies in simulation, at several budgets, beside the bounds: the last of 8 steps.
//
//   policies                               GPT-2-medium, updates deferred and split, compute as long as transfers at 50 %
//   policies --trace FILE [--disk GB/S]    a recorded step instead, its compute as recorded
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/base/text.h"
#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/replay.h"
#include "patrickstar/core/sim/synthetic.h"
#include "patrickstar/core/trace/trace_io.h"

namespace patrickstar {
namespace {

constexpr double kRooms[] = {0.125, 0.25, 0.5, 0.75, 0.9};

void compare(const std::string& name, const Trace& trace, double bandwidth) {
  std::printf(
      "\n%s: %s of model data, %zu moments, compute %.3f s, disk %.2f GB/s; time by the limit (traffic by the least, hits)\n",
      name.c_str(), format_bytes(trace.model_data_bytes()).c_str(), trace.moments.size(),
      static_cast<double>(trace.compute()) * 1e-9, bandwidth * 1e-9);
  std::printf("%7s %9s", "room", "limit s");
  for (const PolicyEntry& policy : registered_policies()) std::printf("  %23s", std::string(policy.name).c_str());
  std::printf("\n");
  for (const double room : kRooms) {
    const Bytes budget = budget_with_room(trace, room);
    const StepBounds bounds = step_bounds(trace, room_for_chunks(trace, budget), bandwidth);
    std::printf("%5.1f %% %9.3f", room * 100, static_cast<double>(bounds.limit) * 1e-9);
    for (const PolicyEntry& policy : registered_policies()) {
      PolicySet deciding = policy.make({.orchestrator = {.budget = budget}, .trace = &trace});
      ReplayOptions options{.host_budget = budget, .disk = {.bytes_per_second = bandwidth}, .steps = 8};
      decide_by(&deciding, &options);
      const auto report = replay(trace, options);
      if (!report.ok()) {
        std::printf("  %23s", "does not fit");
        continue;
      }
      const StepReport& last = report.value().steps.back();
      std::printf("  %6.3f (%6.3f, %5.1f %%)", static_cast<double>(last.time) / static_cast<double>(bounds.limit),
                  static_cast<double>(last.read + last.written) / static_cast<double>(bounds.min_read + bounds.min_write),
                  100 * last.hit_rate());
    }
    std::printf("\n");
  }
}

int run(int argc, char** argv) {
  std::vector<std::string> files;
  double bandwidth = 1.6e9;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--trace") files.emplace_back(argv[i + 1]);
    if (option == "--disk") bandwidth = std::atof(argv[i + 1]) * 1e9;
  }
  for (const std::string& file : files) {
    const auto trace = load_trace(file);
    if (!trace.ok()) {
      std::printf("%s\n", trace.status().message().c_str());
      return 1;
    }
    compare(file, trace.value(), bandwidth);
  }
  if (!files.empty()) return 0;
  for (const auto& [name, update] :
       {std::pair("GPT-2-medium, deferred", UpdateAt::kNextForward), {"GPT-2-medium, split", UpdateAt::kSplit}}) {
    Trace trace = gpt_trace({.recompute = Recompute::kNone, .update = update});
    scale_compute(&trace, step_bounds(trace, room_for_chunks(trace, budget_with_room(trace, 0.5)), bandwidth).transfers);
    compare(name, trace, bandwidth);
  }
  return 0;
}

}  // namespace
}  // namespace patrickstar

int main(int argc, char** argv) { return patrickstar::run(argc, argv); }
