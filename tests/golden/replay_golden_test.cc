// Recorded steps (tests/traces) replayed by every policy in three budgets: what comes out is compared figure by figure with
// tests/golden/replay.txt. The simulation is exact, so any difference is a change of behaviour: of a policy, of the manager or of
// the simulator. If it is meant, write the file anew and look at the difference:
//
//   PATRICKSTAR_UPDATE_GOLDEN=1 build/<preset>/bin/golden_test && git diff tests/golden
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "patrickstar/core/sim/replay.h"
#include "patrickstar/core/sim/synthetic.h"
#include "patrickstar/core/trace/trace_io.h"

namespace patrickstar {
namespace {

const std::string kTests = PATRICKSTAR_TESTS_DIR;
const std::string kGolden = kTests + "/golden/replay.txt";
constexpr const char* kTraces[] = {"gpt2_deferred", "gpt2_overlapped", "llama_overlapped", "gpt2_medium_overlapped"};
constexpr int kPercents[] = {30, 50, 75};  // of the model data that have room
constexpr SimLinkOptions kDisk{.bytes_per_second = 1e9, .latency = 20'000};
constexpr int kSteps = 8;

// By the name of the run, in the order of names. Values: "figure number" separated by spaces.
using Runs = std::map<std::string, std::string>;

std::string figures_of(const StepReport& step) {
  return fmt::format("time {} stall {} read {} written {} accesses {} misses {}", step.time, step.stall, step.read, step.written,
                     step.accesses, step.misses);
}

void replay_all(Runs* runs) {
  for (const char* name : kTraces) {
    const auto trace = load_trace(fmt::format("{}/traces/{}.trace", kTests, name));
    ASSERT_TRUE(trace.ok()) << trace.status().message();
    for (const int percent : kPercents) {
      const Bytes budget = budget_with_room(trace.value(), percent / 100.0);
      for (const PolicyEntry& policy : registered_policies()) {
        const std::string run = fmt::format("{} {}% {}", name, percent, policy.name);
        SCOPED_TRACE(run);
        PolicySet deciding = policy.make({.orchestrator = {.budget = budget}, .trace = &trace.value()});
        ReplayOptions options{.host_budget = budget, .disk = kDisk, .steps = kSteps};
        decide_by(&deciding, &options);
        const auto report = replay(trace.value(), options);
        ASSERT_TRUE(report.ok()) << report.status().message();
        EXPECT_LE(report.value().peak, budget);
        Nanos all = 0;
        for (const StepReport& step : report.value().steps) all += step.time;
        (*runs)[run] = fmt::format("{} all_steps {} peak {}", figures_of(report.value().steps.back()), all, report.value().peak);
      }
    }
  }
}

std::string text_of(const Runs& runs) {
  std::string text = fmt::format(
      "# The last of {} steps, and the time of all of them, in ns and bytes. Written by golden_test (replay_golden_test.cc says "
      "how).\n"
      "# Disk: {} GB/s, {} us a transfer. Room for chunks at the tightest moment: percent of the model data.\n",
      kSteps, kDisk.bytes_per_second * 1e-9, kDisk.latency / 1000);
  for (const auto& [run, figures] : runs) text += fmt::format("{}: {}\n", run, figures);
  return text;
}

Runs runs_of(const std::string& text) {
  Runs runs;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(": ");
    if (!line.starts_with('#') && colon != std::string::npos) runs[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return runs;
}

// Only what is another: "time 5 -> 7 (+40.0 %), read 3 -> 2 (-33.3 %)".
std::string changes(const std::string& before, const std::string& after) {
  std::istringstream old_words(before), new_words(after);
  std::string text, old_name, new_name;
  double old_value = 0, new_value = 0;
  while (old_words >> old_name >> old_value && new_words >> new_name >> new_value) {
    if (old_name != new_name) return fmt::format("\"{}\" -> \"{}\"", before, after);
    if (old_value == new_value) continue;
    text += fmt::format("{}{} {:.0f} -> {:.0f}", text.empty() ? "" : ", ", old_name, old_value, new_value);
    if (old_value != 0) text += fmt::format(" ({:+.1f} %)", (new_value / old_value - 1) * 100);
  }
  return text;
}

TEST(ReplayGolden, ADifferenceSaysWhatChanged) {
  EXPECT_EQ(changes("time 500 read 30 misses 0", "time 700 read 30 misses 2"), "time 500 -> 700 (+40.0 %), misses 0 -> 2");
  EXPECT_EQ(changes("time 5", "stall 5"), "\"time 5\" -> \"stall 5\"");
  EXPECT_EQ(runs_of("# a\nx 30% lru: time 5\n"), (Runs{{"x 30% lru", "time 5"}}));
}

TEST(ReplayGolden, RecordedStepsTakeTheTimeAndMoveTheBytesThatTheyDid) {
  Runs now;
  replay_all(&now);
  if (HasFailure()) return;
  if (std::getenv("PATRICKSTAR_UPDATE_GOLDEN") != nullptr) {
    std::ofstream out(kGolden, std::ios::binary | std::ios::trunc);
    out << text_of(now);
    ASSERT_TRUE(out.flush()) << kGolden;
    GTEST_SKIP() << "wrote " << kGolden;
  }
  std::ifstream in(kGolden, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const Runs golden = runs_of(text);
  for (const auto& [run, figures] : golden) {
    const auto found = now.find(run);
    if (found == now.end()) {
      ADD_FAILURE() << run << ": there is no such run any more";
    } else if (found->second != figures) {
      ADD_FAILURE() << run << ": " << changes(figures, found->second);
    }
  }
  for (const auto& [run, figures] : now) EXPECT_EQ(golden.count(run), 1u) << run << ": not in the file";
  if (HasFailure()) {
    GTEST_FAIL() << "If this is meant: PATRICKSTAR_UPDATE_GOLDEN=1 golden_test writes " << kGolden << " anew";
  }
  EXPECT_EQ(text, text_of(now));  // comments and order, too
}

}  // namespace
}  // namespace patrickstar
