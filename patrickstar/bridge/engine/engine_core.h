// EngineCore: what an Engine's storages, hooks and optimizer share. Kept alive by every storage in its chunk space, so that
// parameters stay readable after the Engine and the optimizer are gone.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "patrickstar/bridge/engine/model_data.h"
#include "patrickstar/bridge/engine/parameter.h"
#include "patrickstar/bridge/engine/runtime.h"
#include "patrickstar/bridge/engine/update_queue.h"
#include "patrickstar/bridge/engine/update_schedule.h"
#include "patrickstar/core/mem/tensor_order.h"

namespace patrickstar::bridge {

enum class GradientNorm : std::uint8_t {
  kWhenAsked,  // a pass over all gradients
  kOnArrival,  // while each gradient is still in the cache
};

class EngineCore : public std::enable_shared_from_this<EngineCore> {
 public:
  EngineCore(std::shared_ptr<Runtime> runtime, ModelScheme scheme, TensorOrder order);
  ~EngineCore();

  Runtime& runtime() { return *runtime_; }
  ModelData& data() { return data_; }
  TensorOrder& order() { return order_; }
  UpdateQueue& updates() { return updates_; }
  // Of the optimizer that was made last; null when it is gone.
  UpdateSchedule* update_schedule() const { return schedule_; }
  UpdateTiming update_timing() const { return timing_; }  // of the optimizer there is, or was last
  void set_update_schedule(UpdateSchedule* schedule, UpdateTiming timing) {
    schedule_ = schedule;
    timing_ = timing;
  }
  void forget_update_schedule() { schedule_ = nullptr; }
  void gradient_arrived(Parameter& parameter) {
    if (schedule_ != nullptr) schedule_->gradient_arrived(parameter);
  }
  const ParallelFor& parallel_for() const { return parallel_for_; }
  const std::vector<std::unique_ptr<Parameter>>& parameters() const { return parameters_; }  // by TensorId
  void enter(std::unique_ptr<Parameter> parameter);
  Parameter& parameter(TensorId id) { return *parameters_[id.index()]; }
  Parameter* find(const c10::TensorImpl* tensor);

  // Whether everything fits with gradients beside their parameters, as plain LibTorch has them: then they may stay where
  // autograd made them, which saves a copy. Never where chunks have had to give way.
  bool gradients_may_stay() const;

  // Not ok for ever once an attach failed half-way: parameters are missing, so nothing here can be trained any more. Those that
  // were attached stay readable; no more gradients are taken.
  const Status& failure() const { return failure_; }
  void fail(Status why);

  GradientNorm gradient_norm = GradientNorm::kWhenAsked;
  // Which gradients lie in chunks of their own, or are about to: chunks that hold none are discarded under it.
  // Taken after the UpdateQueue's mutex, never before.
  std::mutex gradient_places;

 private:
  const std::shared_ptr<Runtime> runtime_;
  ParallelFor parallel_for_;
  ModelData data_;
  TensorOrder order_;
  UpdateQueue updates_;
  UpdateSchedule* schedule_ = nullptr;
  UpdateTiming timing_ = UpdateTiming::kDeferred;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::unordered_map<const c10::TensorImpl*, Parameter*> by_tensor_;
  Status failure_;
};

}  // namespace patrickstar::bridge
