// What a training run reports: the closing lines and --summary's JSON. No LibTorch here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli/report.h"
#include "apps/cli/train_options.h"
#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/policy/orchestrator.h"

namespace patrickstar::cli {

struct KindRecord {
  std::string kind;
  Bytes read = 0;
  Bytes written = 0;
};

struct TrainSummary {
  std::int64_t parameters = 0;
  Bytes model_data_bytes = 0;  // 14 or 16 B/param; see docs/design.md
  Bytes budget_bytes = 0;
  Bytes peak_model_bytes = -1;  // -1: not measured (plain LibTorch as it comes)
  Bytes peak_non_model_bytes = -1;
  Bytes peak_total_bytes = -1;
  Bytes steps_peak_non_model_bytes = -1;  // without building the model; of plain runs
  Bytes peak_rss_bytes = 0;
  Bytes smallest_budget_bytes = -1;
  std::vector<StepRecord> steps;
  std::vector<std::pair<std::int64_t, float>> validation;  // step, loss
  std::string weights_hash;
  std::vector<KindRecord> kinds;
  std::int64_t evictions = 0;
  std::int64_t accesses = 0;
  std::int64_t misses = 0;
  std::int64_t late = 0;  // accesses that found their payload on its way
  double stalled_seconds = 0;
  std::optional<OrchestratorStats> orchestration;  // nothing when chunks come on demand
  // With --report only, and not of --plain.
  std::vector<PayloadReport> chunks;
  std::optional<TrafficBound> bound;  // nothing without a plan
  std::string io_backend;
  std::string simd;
  std::string torch_version;
  std::string runner;  // "engine", "plain"
  int threads = 0;
  std::int64_t tokens_per_step = 0;
  bool interrupted = false;
};

std::string to_json(const TrainSummary& summary, const TrainOptions& options, const TrainPlan& plan);
// A few lines for a person; with --report its tables after them.
std::string to_text(const TrainSummary& summary);
double median_step_seconds(const TrainSummary& summary);  // without the first, which warms up
Bytes peak_rss();                                         // of this process so far

}  // namespace patrickstar::cli
