// The Orchestrator over the real manager, in simulation: GPT-2-medium with room for a quarter, half and three quarters of its
// model data, and compute of 2, 1 and 0.5 times the least transfers. Exact: the same figures on any machine.
#include <gtest/gtest.h>

#include <cstdio>
#include <ostream>
#include <vector>

#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/replay.h"
#include "patrickstar/core/sim/synthetic.h"

namespace patrickstar {
namespace {

constexpr double kBandwidth = 1.6e9;

ReplayReport run(const Trace& trace, Bytes budget, int steps) {
  PolicySet planned = find_policy("planned")->make({.orchestrator = {.budget = budget}, .trace = &trace});
  ReplayOptions options{.host_budget = budget, .disk = {.bytes_per_second = kBandwidth}, .steps = steps};
  decide_by(&planned, &options);
  auto report = replay(trace, options);
  EXPECT_TRUE(report.ok()) << report.status().message();
  return report.ok() ? report.value() : ReplayReport{.steps = {StepReport{}}};
}

struct Setting {
  UpdateAt update = UpdateAt::kSplit;
  double room = 0.5;   // of the model data
  double compute = 1;  // of the least time of the transfers
};

void PrintTo(const Setting& s, std::ostream* out) {
  *out << (s.update == UpdateAt::kSplit ? "split" : "deferred") << " room " << s.room << " compute " << s.compute;
}

class NineSettings : public testing::TestWithParam<Setting> {};

TEST_P(NineSettings, TimeAndTrafficAreNearTheirLimits) {
  const Setting& setting = GetParam();
  Trace trace = gpt_trace({.recompute = Recompute::kNone, .update = setting.update});
  const Bytes budget = budget_with_room(trace, setting.room);
  const std::vector<Bytes> room = room_for_chunks(trace, budget);
  const Nanos transfers = step_bounds(trace, room, kBandwidth).transfers;
  scale_compute(&trace, static_cast<Nanos>(setting.compute * static_cast<double>(transfers)));
  const StepBounds bounds = step_bounds(trace, room, kBandwidth);
  const ReplayReport report = run(trace, budget, 8);
  const StepReport& last = report.steps.back();
  const double traffic = static_cast<double>(last.read + last.written) / static_cast<double>(bounds.min_read + bounds.min_write);
  const double time = static_cast<double>(last.time) / static_cast<double>(bounds.limit);
  std::printf("time %.3f of the limit, traffic %.3f of the least, %ld misses\n", time, traffic, static_cast<long>(last.misses));
  EXPECT_LE(traffic, 1.05);
  EXPECT_LE(time, 1.05);
  EXPECT_GE(time, 1);
  EXPECT_LE(report.peak, budget);
  EXPECT_EQ(run(trace, budget, 8).steps, report.steps);
}

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const UpdateAt update : {UpdateAt::kSplit, UpdateAt::kNextForward}) {
    for (const double room : {0.25, 0.5, 0.75}) {
      for (const double compute : {2.0, 1.0, 0.5}) {
        all.push_back({.update = update, .room = room, .compute = compute});
      }
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Gpt2Medium, NineSettings, testing::ValuesIn(settings()));

}  // namespace
}  // namespace patrickstar
