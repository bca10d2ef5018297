// ChunkedAdamW: AdamW over chunk space, as a torch::optim::Optimizer: groups, LibTorch's schedulers and the usual loop work.
//
// Arithmetic: core/optim/adamw.h. step() streams the optimizer's state tile by tile through the compute tier. A parameter
// without a gradient this step is left alone, as torch does; one that was assigned to tensor.grad() by hand counts.
#pragma once

#include <torch/optim/adamw.h>

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "patrickstar/bridge/engine/engine.h"
#include "patrickstar/bridge/engine/update_schedule.h"
#include "patrickstar/core/optim/adamw.h"

namespace patrickstar::bridge {

class ChunkedAdamW final : public torch::optim::Optimizer {
 public:
  // Every parameter of the groups must be attached to `engine`. Throws Error: one is not; amsgrad; EngineOptions::order is
  // another model's; the Engine has an optimizer already (one at a time).
  ChunkedAdamW(Engine& engine, std::vector<torch::optim::OptimizerParamGroup> groups, torch::optim::AdamWOptions defaults = {},
               UpdateTiming timing = UpdateTiming::kDeferred);
  ChunkedAdamW(Engine& engine, std::vector<torch::Tensor> parameters, torch::optim::AdamWOptions defaults = {},
               UpdateTiming timing = UpdateTiming::kDeferred);
  ~ChunkedAdamW() override;  // updates that are due stay due: whoever accesses a parameter completes them

  // Hyperparameters are taken as they are now (kOverlapped: as they were when each gradient arrived). Throws Error: an operator
  // that failed since the last step (told once, and nothing was done: zero_grad() and go on), with kOverlapped also a backward
  // that threw after updates began (told once; step() again before the next backward(), as long as that is not done it is
  // refused), an attach that failed, a transfer
  // that failed here. After the last call it again before zero_grad(): it goes on with the tiles that are left, and nothing is
  // lost.
  torch::Tensor step(LossClosure closure = nullptr) override;
  // The global norm of all gradients, and the factor by which the next update scales them so that it is at most `max_norm`.
  // Exact: the same bits for every budget. A gradient that arrives afterwards is not scaled; one that is added to a scaled
  // gradient is refused in its backward. Throws Error; with kOverlapped always.
  double clip_grad_norm_(double max_norm);
  // torch::save and torch::load of an optimizer. Throw Error: the state lies in chunks. Engine::visit() streams it.
  void save(torch::serialize::OutputArchive& archive) const override;
  void load(torch::serialize::InputArchive& archive) override;

 private:
  std::optional<AdamWFactors> take_factors(Parameter& parameter);
  void take_assigned_gradients();
  void end_step();

  std::shared_ptr<EngineCore> core_;
  std::int64_t steps_ = 0;
  std::unordered_map<const c10::TensorImpl*, std::size_t> group_of_;
  std::unique_ptr<UpdateSchedule> schedule_;
};

}  // namespace patrickstar::bridge
