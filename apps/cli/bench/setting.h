// SettingBench: measures one setting after the other. A setting has two runs of the same job side by side, one that holds
// everything and one within the budget, of which one at most moves at a time:
//
//   some steps that hold everything; the transfers of a step, replayed; some steps within the budget; the transfers again; some
//   steps that hold everything while the transfers are replayed beside them; some alone
//
// That is a sample. `BenchOptions::samples` are taken and more where they do not decide (BenchRow::undecided), those not counted
// that are discarded because the disk or compute changed meanwhile or others used the machine.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "apps/cli/bench.h"
#include "apps/cli/bench/jobs.h"
#include "apps/cli/bench/row.h"
#include "patrickstar/core/base/clock.h"
#include "patrickstar/core/io/transfer_replay.h"

namespace patrickstar::cli {

// What is said about a run as a whole.
struct BenchFacts {
  std::string disk_backend;
  std::string io_backend;  // of the runs
  std::string simd;
  std::string torch;
  int threads = 0;
};

class SettingBench {
 public:
  using Say = std::function<void(const std::string&)>;  // progress, a line at a time
  // Errors: those of Jobs::create and of the disk.
  static Result<std::unique_ptr<SettingBench>> create(const BenchOptions& options, Bytes memory, Say say);

  // Measures how long steps compute by their tokens, and the disk: for the choice of tokens. Not needed where they are given.
  Status calibrate();
  // As reach() has it. Errors: a run that failed.
  Result<BenchRow> measure(const WantedSetting& wanted);

  const BenchFacts& facts() const { return facts_; }
  const StepCurve& curve() const { return curve_; }
  double calibrated_bytes_per_second() const { return calibrated_; }

 private:
  SettingBench(const BenchOptions& options, Bytes memory, Say say) : options_(options), memory_(memory), say_(std::move(say)) {}
  Result<TokenShape> tokens_for(const WantedSetting& wanted) const;
  Result<BenchRow> measure_with(const TokenShape& shape, const WantedSetting& wanted);
  Result<RunRecord> plain_run(const TokenShape& shape);
  // One more sample of both runs. Errors: a run or a transfer failed.
  Result<Sample> take(Child* fitting, Child* lean, RunRecord* fitting_run, RunRecord* lean_run);
  Status measure_samples(BenchRow* row);

  const BenchOptions options_;
  const Bytes memory_;
  const Say say_;
  SteadyClock clock_;
  std::unique_ptr<Jobs> jobs_;
  std::unique_ptr<TransferReplay> disk_;
  StepCurve curve_;
  double calibrated_ = 0;
  double bytes_per_second_ = 0;  // as it was last seen
  Bytes model_data_ = 0;
  Bytes spare_ = 0;  // as it was last seen
  std::map<TokenShape, RunRecord> plain_;
  BenchFacts facts_;
};

}  // namespace patrickstar::cli
