// Trainer: what differs between training through an Engine and on plain LibTorch. One class each; the loop is the same.
#pragma once

#include <torch/optim/optimizer.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/cli/summary.h"
#include "apps/cli/train_options.h"

namespace patrickstar::cli {

// Since the run began, but for the plan's figures.
struct RunTotals {
  Bytes read = 0;
  Bytes written = 0;
  double stalled = 0;  // seconds that threads waited for chunks
  std::int64_t accesses = 0;
  std::int64_t misses = 0;
  std::int64_t late = 0;
  Bytes planned_read = 0;  // of a step by the present plan; 0: none is followed
  Bytes planned_written = 0;
};

class Trainer {
 public:
  virtual ~Trainer() = default;
  // A part of the model is built (fp32): its parameters are taken over and converted.
  virtual void take_over(torch::nn::Module& part, const std::string& name) = 0;
  // After the last part.
  virtual torch::optim::Optimizer& make_optimizer(std::vector<torch::optim::OptimizerParamGroup> groups) = 0;
  virtual double clip_grad_norm(double max_norm) = 0;
  virtual Bytes memory_used() const = 0;    // 0: unknown
  virtual Bytes memory_budget() const = 0;  // 0: none
  virtual RunTotals totals() const = 0;     // between steps
  virtual void begin_step() {}
  virtual void end_last_step() {}
  using Visitor = std::function<void(const void* data, Bytes bytes)>;
  virtual void visit_weights(const Visitor& visitor) = 0;
  // Between steps: what they did so far.
  virtual void report_steps(TrainSummary* summary) = 0;
  // What the process took so far, whatever for: peaks, bytes moved. Once a summary.
  virtual void report_use(TrainSummary* summary) = 0;
  // The files of --trace, as it was at the last report_steps(), and --transfers. Throws Error.
  virtual void write_files() {}
  // Whether an operator failed for want of room: its own exception does not say so, because it is the armed storage's.
  virtual bool ran_out_of_room() const = 0;
  // What to add to the text of an error for want of room.
  virtual std::string advice() const = 0;
};

std::unique_ptr<Trainer> make_engine_trainer(const TrainOptions& options, const TrainPlan& plan);
std::unique_ptr<Trainer> make_plain_trainer(const TrainOptions& options, const TrainPlan& plan);

}  // namespace patrickstar::cli
