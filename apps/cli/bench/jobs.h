// The runs of `patrickstar train` that a benchmark is made of: their arguments, and a directory for what they need and leave.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/cli/bench.h"
#include "apps/cli/bench/child.h"
#include "apps/cli/bench/step_curve.h"
#include "patrickstar/core/base/status.h"

namespace patrickstar::cli {

struct Job {
  TokenShape shape;
  std::vector<std::int64_t> pauses;  // after these steps; the last one is the job's last
};

class Jobs {
 public:
  // Makes the directory, with random tokens to train on. Errors: the model's name; the directory.
  static Result<std::unique_ptr<Jobs>> create(const BenchOptions& options);
  ~Jobs();
  Jobs(const Jobs&) = delete;
  Jobs& operator=(const Jobs&) = delete;

  // Most positions of a sequence.
  std::int64_t longest() const { return longest_; }
  // Plain LibTorch with counted allocations: the peaks that budgets are made of.
  Result<std::unique_ptr<Child>> start_plain(const Job& job);
  // Through the runtime. `budget` 0: automatic.
  Result<std::unique_ptr<Child>> start(const Job& job, Bytes budget);

 private:
  Jobs(const BenchOptions& options, std::string directory) : options_(options), directory_(std::move(directory)) {}
  Status write_tokens(std::int64_t vocabulary);
  std::vector<std::string> common(const Job& job) const;
  Result<std::unique_ptr<Child>> launch(std::vector<std::string> arguments);

  const BenchOptions options_;
  const std::string directory_;
  std::int64_t longest_ = 0;
  int started_ = 0;
};

}  // namespace patrickstar::cli
