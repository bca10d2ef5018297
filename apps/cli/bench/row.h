// One setting of `patrickstar bench`: what was measured, what was discarded, and how both are shown.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/cli/bench/limit.h"
#include "apps/cli/bench/load.h"
#include "apps/cli/bench/run_record.h"
#include "apps/cli/bench/step_curve.h"

namespace patrickstar::cli {

// What the issue allows; printed beside every figure.
inline constexpr double kMostTimeByLimit = 1.10;
inline constexpr double kMostPredictionError = 0.10;
// Samples are discarded whose replays of the transfers before and after differ by more, or whose compute does (a busy neighbour
// on the same host shows nowhere else); so are those whose steps move other bytes than were replayed by more than a 20th.
inline constexpr double kMostChange = 1.10;
inline constexpr double kMostTrafficChange = 0.05;

// Some steps, with the disk's time for one step's transfers right before and right after.
struct Sample {
  std::vector<double> compute_before;  // seconds, of the run that holds everything
  std::vector<double> compute_after;
  // Likewise, while the disk moves a step's transfers each step for nobody: on a virtual machine its work takes from the
  // processors, which is in no part of the limit.
  std::vector<double> beside_disk_steps;
  std::vector<double> steps;  // seconds
  WindowFigures figures;
  Bytes replayed = 0;      // bytes of the transfers
  double disk_before = 0;  // seconds
  double disk_after = 0;
  ForeignLoad foreign;
  StepLimit limit;              // with this sample's compute and disk
  Nanos limit_beside_disk = 0;  // the same with the compute that was measured beside the disk

  double compute() const;
  // The mean: the transfers may be done before the steps are.
  double compute_beside_disk() const;
  double time_by_limit() const;
  double disk() const { return (disk_before + disk_after) / 2; }
  double bytes_per_second() const { return disk() > 0 ? static_cast<double>(replayed) / disk() : 0; }
  // Why it is discarded; empty: it is not.
  std::string fault() const;
};

struct BenchRow {
  WantedSetting wanted;
  std::string unreachable;  // the arithmetic; then there is nothing else
  std::string failed;       // what went wrong; likewise
  TokenShape shape;
  Bytes budget = 0;
  Bytes plain_non_model = 0;  // peak of the plain run
  Bytes model_data = 0;
  Bytes peak_total = 0;
  std::int64_t plans = 0;
  std::vector<Sample> samples;  // as they were taken
  std::size_t shown = 0;        // the one that counts: choose()
  std::string exact_fault;      // empty: losses have the bits of the plain run and of the one that holds everything

  // Of those that were not discarded the one whose step by its limit is the median (of an even number the greater of the two in
  // the middle); the last one where all were discarded. REQUIRES: there are samples, and they have their limits.
  void choose();
  const Sample& sample() const { return samples[shown]; }
  const StepLimit& limit() const { return sample().limit; }
  std::size_t discarded() const;
  bool measured() const { return unreachable.empty() && failed.empty() && !samples.empty(); }
  bool steady() const { return measured() && sample().fault().empty(); }
  double limit_seconds() const { return static_cast<double>(limit().bounds.limit) * 1e-9; }
  double time_by_limit() const { return sample().time_by_limit(); }
  double time_by_limit_beside_disk() const;
  double traffic_by_least() const;
  double predicted_by_measured() const;
  double ratio() const;  // compute by the least transfers, as it came out
};

std::string table_head();
std::string table_line(const BenchRow& row);
nlohmann::ordered_json row_json(const BenchRow& row);

}  // namespace patrickstar::cli
