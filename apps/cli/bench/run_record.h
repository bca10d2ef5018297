// What `patrickstar bench` reads of a run's --summary, and figures of some of its steps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar::cli {

struct RunRecord {
  std::vector<double> step_seconds;
  std::vector<double> stalled;  // seconds
  std::vector<Bytes> moved;     // to and from the disk
  std::vector<std::int64_t> accesses;
  std::vector<std::int64_t> misses;
  std::vector<std::int64_t> late;
  std::vector<std::string> losses;  // their bits
  Bytes model_data = 0;
  Bytes budget = 0;
  Bytes peak_non_model = 0;
  Bytes steps_peak_non_model = 0;  // of plain runs
  Bytes peak_total = 0;
  std::int64_t evictions = 0;
  Bytes reserve = 0;  // of the plan that is followed
  bool following = false;
  std::int64_t plans = 0;
  std::string io_backend;
  std::string simd;
  std::string torch;
  int threads = 0;

  std::size_t steps() const { return step_seconds.size(); }
};

// Errors: kInvalidArgument: it is none.
Result<RunRecord> parse_run(const std::string& json);

// Of steps [from, to), counted from 0. REQUIRES: from < to <= run.steps().
struct WindowFigures {
  double step = 0;     // seconds; medians, all three
  double stalled = 0;  // seconds
  Bytes moved = 0;
  double hit_rate = 1;
  double late = 0;  // prefetches that came late, a step
};
WindowFigures figures_of(const RunRecord& run, std::size_t from, std::size_t to);

double median(std::vector<double> values);  // 0 of none

}  // namespace patrickstar::cli
