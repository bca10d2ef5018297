#include "apps/cli/bench/limit.h"

#include <fmt/format.h>

#include <algorithm>

#include "patrickstar/core/base/text.h"
#include "patrickstar/core/policy/orchestrator.h"
#include "patrickstar/core/policy/plan.h"
#include "patrickstar/core/sim/replay.h"
#include "patrickstar/core/sim/synthetic.h"

namespace patrickstar::cli {
namespace {

constexpr int kReplayedSteps = 6;  // two are watched, and the plan has settled by the last

Result<Nanos> predict(const Trace& trace, const StepFacts& facts) {
  Orchestrator orchestrator({.budget = facts.budget, .reserve = facts.reserve});
  ReplayOptions options{
      .host_budget = facts.budget, .disk = {.bytes_per_second = facts.bytes_per_second}, .steps = kReplayedSteps};
  options.configure = [&](ChunkManagerOptions* manager) {
    manager->schedule = &orchestrator;
    manager->levels[0].policy = orchestrator.make_policy();
  };
  options.step_done = [](ChunkManager* manager) { manager->step_done(); };
  const auto report = replay(trace, options);
  if (!report.ok()) return report.status();
  return report.value().steps.back().time;
}

}  // namespace

double StepLimit::allowed_traffic() const {
  return 1.05 + static_cast<double>(ring) / static_cast<double>(std::max<Bytes>(1, model_data - tightest_room));
}

const char* StepLimit::name() const {
  if (bounds.limit == bounds.compute) return "compute";
  return bounds.limit == bounds.transfers ? "transfers" : "window";
}

Result<StepLimit> limit_of(Trace trace, const StepFacts& facts) {
  if (trace.compute() <= 0) return Status(StatusCode::kInvalidArgument, "[bench] the recorded step does not compute");
  scale_compute(&trace, facts.compute);
  const std::vector<Bytes> room = room_for_chunks(trace, facts.budget);
  StepLimit limit;
  limit.bounds = step_bounds(trace, room, facts.bytes_per_second);
  if (limit.bounds.lacking > 0) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("[bench] the recorded step lacks {} at its tightest moment", format_bytes(limit.bounds.lacking)));
  }
  auto predicted = predict(trace, facts);
  if (!predicted.ok()) return predicted.status();
  limit.predicted = predicted.value();
  limit.tightest_room = *std::min_element(room.begin(), room.end());
  limit.model_data = trace.model_data_bytes();
  limit.ring = make_plan(std::move(trace), {.budget = facts.budget, .reserve = facts.reserve}).ring;
  return limit;
}

}  // namespace patrickstar::cli
