#include "patrickstar/bridge/engine/parameter.h"

#include <ATen/ATen.h>
#include <c10/core/StorageImpl.h>
#include <torch/csrc/autograd/graph_task.h>

#include "patrickstar/bridge/device/storage_gate.h"
#include "patrickstar/bridge/engine/engine_core.h"

namespace patrickstar::bridge {
namespace {

Status from_current_exception(const std::string& what) {
  try {
    throw;
  } catch (const std::exception& error) {
    return Status(StatusCode::kOutOfRoom, what + ": " + error.what());
  }
}

// The value of a parameter whose place holds its gradient, for the time of one operator.
class RebuiltValue final : public DisplacedBytes {
 public:
  static Result<std::unique_ptr<DisplacedBytes>> make(ModelData* data, TensorId id) {
    std::unique_ptr<RebuiltValue> value(new RebuiltValue(data, id));
    try {
      value->bytes_ = at::empty({data->layout().place(id).elems}, at::kBFloat16);
    } catch (const std::exception&) {
      return from_current_exception("[memory] no room to rebuild " + data->layout().tensor(id).name);
    }
    PS_RETURN_IF_ERROR(data->rebuild_value(id, value->bytes_.data_ptr()));
    return std::unique_ptr<DisplacedBytes>(std::move(value));
  }
  void* address() override { return bytes_.data_ptr(); }
  Status keep() override { return data_->reseed(id_, bytes_.data_ptr()); }

 private:
  RebuiltValue(ModelData* data, TensorId id) : data_(data), id_(id) {}
  ModelData* const data_;
  const TensorId id_;
  at::Tensor bytes_;
};

}  // namespace

class ValueBacking final : public StorageBacking {
 public:
  ValueBacking(c10::StorageImpl* storage, Parameter* parameter, std::shared_ptr<EngineCore> core)
      : StorageBacking(storage), parameter_(parameter), core_(std::move(core)) {}
  Result<Placement> locate() override { return parameter_->locate_value(); }
  Result<std::unique_ptr<DisplacedBytes>> rebuild() override { return RebuiltValue::make(&core_->data(), parameter_->id()); }
  void written() override { parameter_->written_.store(true); }
  std::string armed_text() const override { return parameter_->armed_text_of("parameter"); }
  void storage_died() override {
    parameter_->value_ = nullptr;
    delete this;
  }

 private:
  Parameter* const parameter_;
  const std::shared_ptr<EngineCore> core_;
};

// --- life -------------------------------------------------------------------------------------------------------------------

Parameter::Parameter(EngineCore* core, TensorId id, const at::Tensor& tensor, Training training)
    : core_(core), id_(id), training_(training), key_(tensor.unsafeGetTensorImpl()), tensor_(tensor.getIntrusivePtr()) {}

Parameter::~Parameter() = default;

const std::string& Parameter::name() const { return core_->data().layout().tensor(id_).name; }

at::Tensor Parameter::tensor() const {
  auto locked = tensor_.lock();
  return locked ? at::Tensor(std::move(locked)) : at::Tensor();
}

void Parameter::adopt_storage(const at::Tensor& tensor, std::shared_ptr<EngineCore> core) {
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  value_ = new ValueBacking(storage, this, std::move(core));
  take_over(storage, value_, &managed_deleter, value_->armed_text());
}

void Parameter::release() {
  released_ = true;
  unwatch();
}

Status Parameter::check_storage() const {
  const at::Tensor now = tensor();
  if (!now.defined() || released_) return {};
  if (value_ != nullptr && context_of(now.storage().unsafeGetStorageImpl(), &managed_deleter) == value_) return {};
  return Status(StatusCode::kInvalidArgument,
                "[engine] " + name() +
                    " has another storage than the one that was attached, which nothing trains: whatever replaced it (set_data, "
                    "to()) belongs before attach(), or must write into the parameter (copy_)");
}

std::string Parameter::armed_text_of(const char* what) const {
  return "[memory] the " + std::string(what) + " of " + name() +
         " lies in a chunk that may be anywhere: reach it through an operator (clone, copy_, item ...), or take the module back "
         "with Engine::release()";
}

// --- value ------------------------------------------------------------------------------------------------------------------

Result<Placement> Parameter::locate_value() {
  if (updated_in_backward && torch::autograd::get_current_graph_task_id() != -1) {
    return Status(StatusCode::kInvalidArgument,
                  "[optimizer] " + name() + " is needed again in backward after its overlapped update: use deferred updates");
  }
  if (core_->updates().due(id_)) PS_RETURN_IF_ERROR(core_->updates().complete(id_));
  const Placement place = core_->data().value_place(id_);
  PlaceHolds held = place_holds_.load();
  if (held == PlaceHolds::kNothing && place_holds_.compare_exchange_strong(held, PlaceHolds::kRestoring)) {
    const Status restored = restore_value(place);
    place_holds_.store(restored.ok() ? PlaceHolds::kValue : PlaceHolds::kNothing);
    if (!restored.ok()) return restored;
    return place;
  }
  return held == PlaceHolds::kValue ? place : Placement{};
}

Status Parameter::restore_value(const Placement& place) {
  const Access access{place.payload, AccessMode::kWrite};
  auto leases = core_->runtime().manager().acquire({&access, 1});
  if (!leases.ok()) return leases.status();
  return core_->data().rebuild_value(id_, leases.value().address(0) + place.offset);
}

Status Parameter::take_over_writes() {
  if (core_->data().dtype() == DType::kFloat32 || training_ == Training::kFrozen) return {};
  if (place_holds_.load() != PlaceHolds::kValue || !written_.load()) return {};
  const Placement place = core_->data().value_place(id_);
  const Access access{place.payload, AccessMode::kRead};
  auto leases = core_->runtime().manager().acquire({&access, 1});
  if (!leases.ok()) return leases.status();
  PS_RETURN_IF_ERROR(core_->data().reseed(id_, leases.value().address(0) + place.offset));
  written_.store(false);
  return {};
}

}  // namespace patrickstar::bridge
