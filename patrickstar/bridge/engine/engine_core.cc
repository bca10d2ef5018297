#include "patrickstar/bridge/engine/engine_core.h"

#include "patrickstar/bridge/device/parallel.h"

namespace patrickstar::bridge {

EngineCore::EngineCore(std::shared_ptr<Runtime> runtime, ModelScheme scheme, TensorOrder order)
    : runtime_(std::move(runtime)),
      parallel_for_(torch_parallel_for()),
      data_(&runtime_->manager(), scheme, runtime_->options().layout, parallel_for_),
      order_(std::move(order)),
      updates_(this) {}

EngineCore::~EngineCore() = default;

bool EngineCore::gradients_may_stay() const {
  const LedgerPeaks peaks = runtime_->ledger().peaks();
  const Bytes gradients = data_.bytes() / 4;  // at most 4 of 16 bytes a parameter
  const Bytes non_model = peaks.non_model + peaks.non_model / 4;
  return !runtime_->manager().has_evicted() && data_.bytes() + gradients + non_model <= runtime_->ledger().budget();
}

Parameter* EngineCore::find(const c10::TensorImpl* tensor) {
  const auto found = by_tensor_.find(tensor);
  return found == by_tensor_.end() ? nullptr : found->second;
}

void EngineCore::fail(Status why) {
  failure_ = std::move(why);
  for (const auto& parameter : parameters_) parameter->unwatch();
}

void EngineCore::enter(std::unique_ptr<Parameter> parameter) {
  by_tensor_.emplace(parameter->key(), parameter.get());
  parameters_.push_back(std::move(parameter));
}

}  // namespace patrickstar::bridge
