// One setting of `patrickstar bench`: what was measured, what was discarded, and how both are shown.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
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
// A limit that is beaten by more is none: compute was slower when it was measured.
inline constexpr double kLeastTimeByLimit = 0.98;
// A setting is reached whose ratio came out within this of the one that was asked for.
inline constexpr double kLeastRatio = 0.85;
inline constexpr double kMostRatio = 1.15;
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
  double replay_bytes_per_second() const { return disk() > 0 ? static_cast<double>(replayed) / disk() : 0; }
  // That training moved at least: no more than the disk can do.
  double training_bytes_per_second() const;
  // The disk's, by which its limit is: the faster of both. A replay may be slower than training, and then bounds nothing.
  double bytes_per_second() const { return std::max(replay_bytes_per_second(), training_bytes_per_second()); }
  // Why it is discarded; empty: it is not.
  std::string fault() const;
};

// Its limits and what the simulator predicts for it: that with compute as it is beside the disk, for that is how it will be.
// Errors: those of limit_of.
Status judge(const Trace& trace, Bytes budget, Bytes reserve, Sample* sample);

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
  // With other tokens, whose ratio was not that which was asked for: reach(). One at most.
  std::vector<BenchRow> earlier;
  std::string not_again;  // why it was not measured once more, although its ratio was not reached

  // Of those that were not discarded the one whose step by its limit is the median (of an even number the greater of the two in
  // the middle); the last one where all were discarded. REQUIRES: there are samples, and they have their limits.
  void choose();
  // Whether another sample is to be taken: fewer than `samples` are steady, or they lie on both sides of kMostTimeByLimit, which
  // a few cannot decide: then until it is known where the median of two and a half times as many lies. REQUIRES: their limits.
  bool undecided(std::int64_t samples) const;
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
  bool beats_limit() const { return time_by_limit() < kLeastTimeByLimit; }
  double ratio() const;        // compute by the least transfers, as it came out
  bool ratio_reached() const;  // also where none was asked for
  bool reached() const { return measured() && ratio_reached(); }
};

// Chooses tokens and measures. Where the ratio came out elsewhere, tokens are chosen and measured once more: the first time
// taught how long steps compute here. Losses that differ are not measured away. A setting out of reach is a row that says so, a
// second time that failed likewise. Errors: those of the first `measure`.
Result<BenchRow> reach(const WantedSetting& wanted, const std::function<Result<TokenShape>()>& choose,
                       const std::function<Result<BenchRow>(const TokenShape&)>& measure);

enum class Figures : std::uint8_t { kCount, kMeanNothing };  // kMeanNothing: --quick
struct Closing {
  std::string text;  // lines
  int code = 0;      // 1: a setting failed, losses differ, or none was reached and steady (where figures count)
};
Closing closing(const std::vector<BenchRow>& rows, Figures figures);

std::string table_head();
std::string table_line(const BenchRow& row);
nlohmann::ordered_json row_json(const BenchRow& row);

}  // namespace patrickstar::cli
