#include "patrickstar/bridge/module/operator_hook.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/record_function.h>

#include <atomic>
#include <exception>

#include "patrickstar/bridge/device/storage_gate.h"
#include "patrickstar/bridge/module/operator_gate.h"
#include "patrickstar/bridge/module/operator_traits.h"
#include "patrickstar/core/base/log.h"

namespace patrickstar::bridge {
namespace {

std::atomic<OperatorGate*> current_gate{nullptr};
std::atomic<std::int64_t> managed_count{0};
at::CallbackHandle handle = 0;  // 0: not installed; guarded by the Runtime's life

struct HookContext final : at::ObserverContext {
  OpenStorages open;
};

class InputCollector {
 public:
  void add(const c10::TensorImpl* tensor, AccessMode mode) {
    if (tensor == nullptr || !tensor->has_storage()) return;
    c10::StorageImpl* storage = tensor->unsafe_storage().unsafeGetStorageImpl();
    auto* backing = static_cast<StorageBacking*>(context_of(storage, &managed_deleter));
    if (backing == nullptr) return;
    for (std::size_t i = 0; i < count(); ++i) {
      OpenRequest& seen = data()[i];
      if (seen.backing != backing) continue;
      if (mode == AccessMode::kWrite) seen.mode = mode;
      return;
    }
    if (more_.empty() && few_count_ < kInline) {
      few_[few_count_++] = {backing, mode};
      return;
    }
    if (more_.empty()) more_.assign(few_, few_ + few_count_);
    more_.push_back({backing, mode});
  }
  std::size_t count() const { return more_.empty() ? few_count_ : more_.size(); }
  std::span<const OpenRequest> requests() { return {data(), count()}; }

 private:
  static constexpr std::size_t kInline = 8;
  OpenRequest* data() { return more_.empty() ? few_ : more_.data(); }
  OpenRequest few_[kInline];
  std::size_t few_count_ = 0;
  std::vector<OpenRequest> more_;
};

void collect(const c10::IValue& value, AccessMode mode, InputCollector* inputs) {
  if (value.isTensor()) {
    inputs->add(value.unsafeToTensorImpl(), mode);
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) inputs->add(tensor.unsafeGetTensorImpl(), mode);
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) collect(element, mode, inputs);
  }
}

std::unique_ptr<at::ObserverContext> before_operator(const at::RecordFunction& function) {
  OperatorGate* gate = current_gate.load(std::memory_order_relaxed);
  if (gate == nullptr) return nullptr;
  InputCollector inputs;
  try {
    const OperatorTraits& traits = operator_traits(function);
    if (traits.kind == OperatorKind::kNoBytes) return nullptr;
    const auto values = function.inputs();
    for (std::size_t i = 0; i < values.size(); ++i) {
      collect(values[i], traits.writes(i) ? AccessMode::kWrite : AccessMode::kRead, &inputs);
    }
    if (inputs.count() == 0) return nullptr;
    managed_count.fetch_add(1, std::memory_order_relaxed);
    auto opened = gate->open(inputs.requests());
    if (!opened.ok()) {
      gate->fail(inputs.requests(), opened.status().with_context(std::string("before ") + function.name()));
      return nullptr;
    }
    auto context = std::make_unique<HookContext>();
    context->open = std::move(opened).value();
    return context;
  } catch (const std::exception& error) {
    // A throw from here would be swallowed and the operator run all the same: the armed storages carry the text instead.
    gate->fail(inputs.requests(), Status(StatusCode::kIoError, std::string("before ") + function.name() + ": " + error.what()));
    return nullptr;
  }
}

void after_operator(const at::RecordFunction&, at::ObserverContext* context) {
  if (context != nullptr) static_cast<HookContext*>(context)->open.close();
}

}  // namespace

void use_operator_gate(OperatorGate* gate) {
  current_gate.store(gate);
  if (gate != nullptr && handle == 0) {
    handle = at::addGlobalCallback(
        at::RecordFunctionCallback(&before_operator, &after_operator).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  } else if (gate == nullptr && handle != 0) {
    at::removeCallback(handle);
    handle = 0;
  }
}

bool operator_hook_installed() { return handle != 0; }

std::int64_t managed_operators() { return managed_count.load(); }

}  // namespace patrickstar::bridge
