// Parameter's gradient: how it arrives, where it lies, when it goes (parameter.h; ADR 0004).
#include <ATen/ATen.h>
#include <c10/core/StorageImpl.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <mutex>

#include "patrickstar/bridge/device/cpu_allocator.h"
#include "patrickstar/bridge/device/parallel.h"
#include "patrickstar/bridge/device/storage_gate.h"
#include "patrickstar/bridge/engine/engine_core.h"
#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/bridge/engine/parameter.h"
#include "patrickstar/core/optim/grad_norm.h"

namespace patrickstar::bridge {

// A gradient in chunk space, or in the memory in which autograd made it ("kept"; [Note: kept gradients]).
//
// [Note: kept gradients] A gradient that owns its storage need not be copied while everything fits: its block becomes model
// data on the ledger where it stands. It is armed all the same, so that errors do not depend on the budget.
class GradientBacking final : public StorageBacking {
 public:
  GradientBacking(c10::StorageImpl* storage, Parameter* parameter, std::shared_ptr<EngineCore> core)
      : StorageBacking(storage), parameter_(parameter), core_(std::move(core)) {}
  Result<Placement> locate() override {
    if (!gone_.empty()) return Status(StatusCode::kInvalidArgument, gone_);
    // An update that is due reads this gradient: it comes before whatever is done to it now.
    if (core_->updates().due(parameter_->id())) PS_RETURN_IF_ERROR(core_->updates().complete(parameter_->id()));
    return kept_ ? Placement{} : core_->data().gradient_place(parameter_->id());
  }
  Result<std::unique_ptr<DisplacedBytes>> rebuild() override {
    return std::unique_ptr<DisplacedBytes>(new KeptBytes(kept_.get()));
  }
  void written() override { parameter_->sum_of_squares_.reset(); }
  std::string armed_text() const override { return parameter_->armed_text_of("gradient"); }
  void storage_died() override {
    if (gone_.empty()) parameter_->gradient_died(this);
    delete this;
  }
  void keep(c10::DataPtr memory) { kept_ = std::move(memory); }
  const void* kept() const { return kept_.get(); }
  c10::DataPtr take_kept() { return std::move(kept_); }
  void consume() {
    consumed_ = true;
    kept_.clear();
    go("was consumed by step(): its memory is the parameter's (14 B/param). Use zero_grad(set_to_none=true), or attach with "
       "gradient chunks to keep it");
  }
  bool consumed_by(const Parameter& parameter) const { return consumed_ && parameter_ == &parameter; }
  // The step() that consumed it has ended: another one cannot apply it again.
  void step_ended() { spent_ = consumed_; }
  bool spent() const { return spent_; }
  // The next one has taken its place while somebody still holds it.
  void supersede() {
    if (kept_.get() == nullptr)
      go("that is held here is of an earlier backward, and the next one has taken its place: clone() it");
  }

 private:
  class KeptBytes final : public DisplacedBytes {
   public:
    explicit KeptBytes(void* address) : address_(address) {}
    void* address() override { return address_; }
    Status keep() override { return {}; }

   private:
    void* const address_;
  };
  void go(const char* how) {
    gone_ = "[optimizer] the gradient of " + parameter_->name() + " " + how;
    set_text(storage(), gone_);
  }

  Parameter* const parameter_;
  const std::shared_ptr<EngineCore> core_;
  c10::DataPtr kept_;
  bool consumed_ = false;
  bool spent_ = false;
  std::string gone_;  // where its bytes are lost: what an access is told
};

// After autograd's own accumulation, and after the user's hooks on the accumulator.
class GradientArrival final : public torch::autograd::FunctionPostHook {
 public:
  GradientArrival(Parameter* parameter, std::weak_ptr<EngineCore> core) : parameter_(parameter), core_(std::move(core)) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                            const torch::autograd::variable_list&) override {
    const auto core = core_.lock();
    if (core == nullptr || !watching) return outputs;
    try {
      parameter_->gradient_arrived();
    } catch (const Error& error) {
      // Whoever catches it in his backward must not step() without this gradient unaware.
      core->runtime().gate().fail({}, Status(error.code(), error.what()));
      throw;
    }
    return outputs;
  }
  bool watching = true;

 private:
  Parameter* const parameter_;
  const std::weak_ptr<EngineCore> core_;
};

void Parameter::watch(const std::shared_ptr<EngineCore>& core) {
  if (training_ == Training::kFrozen) return;
  accumulator_ = torch::autograd::impl::grad_accumulator(tensor());
  accumulator_->add_post_hook(std::make_unique<GradientArrival>(this, core));
}

void Parameter::unwatch() {
  if (accumulator_ == nullptr) return;
  for (const auto& hook : accumulator_->post_hooks()) {
    if (auto* arrival = dynamic_cast<GradientArrival*>(hook.get())) arrival->watching = false;
  }
  accumulator_.reset();
}

at::Tensor Parameter::dense_like_parameter(const at::Tensor& gradient) const {
  const at::Tensor parameter = tensor();
  if (gradient.layout() != at::kStrided) {
    throw Error(Status(StatusCode::kInvalidArgument, "[gradient] " + name() +
                                                         " got a sparse gradient: sparse gradients are not supported; "
                                                         "build the embedding with sparse=false"));
  }
  if (gradient.strides() == parameter.strides() && gradient.scalar_type() == parameter.scalar_type()) return gradient;
  at::Tensor dense = at::empty_strided(parameter.sizes(), parameter.strides(), parameter.options());
  dense.copy_(gradient);
  return dense;
}

// Behind tensor().grad(); null: there is none, or it is not ours.
StorageBacking* Parameter::backing_of_grad() const {
  const at::Tensor parameter = tensor();
  if (!parameter.defined() || !parameter.grad().defined() || !parameter.grad().has_storage()) return nullptr;
  return static_cast<StorageBacking*>(context_of(parameter.grad().storage().unsafeGetStorageImpl(), &managed_deleter));
}

bool Parameter::has_gradient() const {
  return gradient_ != nullptr && backing_of_grad() == static_cast<StorageBacking*>(gradient_);  // not a consumed one
}

void Parameter::step_ended() {
  updated_in_backward = false;
  grad_scale = 1.0;  // also of a gradient that was not applied
  auto* const gradient = dynamic_cast<GradientBacking*>(backing_of_grad());
  if (gradient != nullptr && gradient->consumed_by(*this)) gradient->step_ended();
}

void Parameter::take_assigned_gradient() {
  throw_if_error(check_storage());
  const at::Tensor parameter = tensor();
  if (!parameter.defined() || released_ || !parameter.grad().defined()) return;
  at::Tensor& slot = parameter.mutable_grad();
  const auto refuse = [&](const std::string& why) {
    throw Error(Status(StatusCode::kInvalidArgument, "[optimizer] " + name() + " has a gradient but " + why));
  };
  if (auto* const backing = backing_of_grad(); backing != nullptr) {
    auto* const managed = dynamic_cast<GradientBacking*>(backing);
    if (managed != nullptr && managed == gradient_) return;
    if (managed != nullptr && managed->consumed_by(*this)) {
      if (!managed->spent()) return;
      refuse("one that an earlier step() consumed (14 B/param), which cannot be applied again: zero_grad() after step()");
    }
    slot = slot.clone();  // another parameter's, or an earlier one, which says so where its bytes are gone
  }
  if (slot.sizes() != parameter.sizes()) refuse("of shape " + c10::str(slot.sizes()) + ", not " + c10::str(parameter.sizes()));
  if (training_ == Training::kFrozen)
    refuse("was frozen when it was attached, so it has no optimizer state: set requires_grad before attach()");
  const at::Tensor assigned = slot;
  try {
    gradient_arrived();
  } catch (...) {
    slot = assigned;  // step() again takes it
    throw;
  }
}

void Parameter::gradient_arrived() {
  const at::NoGradGuard no_grad;
  const at::Tensor parameter = tensor();
  if (!parameter.defined() || !parameter.grad().defined()) return;
  throw_if_error(check_storage());
  at::Tensor& slot = parameter.mutable_grad();
  if (has_gradient()) {  // accumulated where it lies, which made the sum of squares stale
    if (grad_scale == 1.0) return core_->gradient_arrived(*this);
    throw Error(Status(StatusCode::kInvalidArgument, "[optimizer] " + name() +
                                                         " got a gradient on top of one that clip_grad_norm_() scales: clip "
                                                         "after the last backward() of a step, or call zero_grad(true) first"));
  }
  grad_scale = 1.0;  // what was clipped is gone
  const at::Tensor gradient = dense_like_parameter(slot);
  throw_if_error(core_->updates().complete(id_));  // one that is due reads the gradient before
  refuse_update_of_value_in_use();
  if (core_->gradients_may_stay() && keep_gradient(gradient)) return core_->gradient_arrived(*this);
  if (core_->data().gradients() == GradientPlacement::kInParameter) {
    throw_if_error(take_over_writes());
    if (!displace_value()) {
      keep_beside_value_in_use(gradient);
      return core_->gradient_arrived(*this);
    }
    slot = at::Tensor();
    if (const auto passing = tiles_to_pass(); !passing.empty()) return pass_gradient(gradient, passing);
    put_gradient(gradient, PlaceHolds::kGradient);
  } else {
    slot = at::Tensor();
    put_gradient(gradient, PlaceHolds::kValue);
  }
  core_->gradient_arrived(*this);
}

// False: somebody has the value open in its place, or restores it there. Else the place holds the gradient, which is to be put.
bool Parameter::displace_value() {
  return core_->runtime().gate().displace(value_, [this] {
    PlaceHolds held = place_holds_.load();
    while (held != PlaceHolds::kRestoring && !place_holds_.compare_exchange_weak(held, PlaceHolds::kGradient)) {
    }
    return held != PlaceHolds::kRestoring;
  });
}

void Parameter::refuse_update_of_value_in_use() {
  const UpdateSchedule* const schedule = core_->update_schedule();
  if (schedule == nullptr || !schedule->updates_in_backward() || !core_->runtime().gate().is_open(value_)) return;
  throw Error(
      Status(StatusCode::kInvalidArgument,
             "[optimizer] " + name() +
                 " is in use by another operator while its gradient arrives: updates overlapped with backward leave the model "
                 "to one thread; use deferred updates"));
}

void Parameter::keep_beside_value_in_use(const at::Tensor& gradient) {
  if (keep_gradient(gradient)) return;
  at::Tensor& slot = tensor().mutable_grad();  // a view, or other memory than ours
  slot = gradient.clone();
  if (keep_gradient(slot)) return;
  throw Error(Status(StatusCode::kInvalidArgument,
                     "[gradient] " + name() +
                         " is in use by another operator while a gradient of it arrives that cannot be kept "
                         "beside it: attach with gradient chunks"));
}

const void* Parameter::gradient_beside() const {
  if (passing_.defined()) return passing_.const_data_ptr();
  return gradient_ == nullptr ? dead_gradient_.get() : gradient_->kept();
}

bool Parameter::gradient_kept() const { return gradient_ != nullptr && gradient_->kept() != nullptr; }

// False: its memory cannot be kept. REQUIRES: `gradient` is tensor().grad() if it needed no conversion.
bool Parameter::keep_gradient(const at::Tensor& gradient) {
  const at::Tensor parameter = tensor();
  if (!gradient.is_same(parameter.grad()) || gradient.storage_offset() != 0) return false;
  c10::StorageImpl* storage = gradient.storage().unsafeGetStorageImpl();
  if (storage->nbytes() != gradient.nbytes() || !is_ours(storage->data_ptr())) return false;
  throw_if_error(take_over_writes());
  if (core_->gradient_norm == GradientNorm::kOnArrival) {
    sum_of_squares_ = sum_of_squares(storage->data(), core_->data().dtype(), gradient.numel(), core_->parallel_for());
  } else {
    sum_of_squares_.reset();
  }
  core_->runtime().pool().reclassify(storage->mutable_data(), Account::kChunks);
  auto* backing = new GradientBacking(storage, this, core_->shared_from_this());
  backing->keep(take_over_keeping(storage, static_cast<StorageBacking*>(backing), &managed_deleter, backing->armed_text()));
  if (gradient_ != nullptr) gradient_->supersede();
  gradient_ = backing;
  return true;
}

std::vector<bool> Parameter::tiles_to_pass() const {
  if (core_->update_schedule() == nullptr) return {};
  std::vector<bool> passing = core_->update_schedule()->runs_on_arrival(*this);
  const bool any = std::find(passing.begin(), passing.end(), true) != passing.end();
  return any ? passing : std::vector<bool>();
}

void Parameter::pass_gradient(const at::Tensor& gradient, const std::vector<bool>& passing) {
  put_gradient(gradient, PlaceHolds::kGradient, passing);
  passing_ = gradient;
  const auto settle = [&] {
    if (core_->updates().settle(id_, passing)) return;
    // Its update was not put (it is in no group, or something was thrown before): all of it belongs into the place.
    const Status settled = settle_passing({});
    if (settled.ok()) return;
    tensor().mutable_grad() = at::Tensor();  // the place holds nothing of use then
    passing_.reset();
    throw_if_error(settled);
  };
  try {
    core_->gradient_arrived(*this);
  } catch (...) {
    settle();
    throw;
  }
  settle();
}

Status Parameter::settle_passing(const std::vector<bool>& copied) {
  if (copied.empty() || std::find(copied.begin(), copied.end(), false) != copied.end()) {
    const Placement place = core_->data().gradient_place(id_);
    const Access access{place.payload, AccessMode::kWrite};
    auto leases = core_->data().manager().acquire({&access, 1});
    if (!leases.ok()) return leases.status();
    copy_gradient(leases.value().address(0) + place.offset, passing_, copied);
  }
  passing_.reset();
  return {};
}

void Parameter::copy_gradient(std::byte* to, const at::Tensor& gradient, const std::vector<bool>& left_out) const {
  const ModelData& data = core_->data();
  const Bytes width = dtype_bytes(data.dtype());
  const auto* const from = static_cast<const std::byte*>(gradient.const_data_ptr());
  if (left_out.empty()) return parallel_copy(to, from, gradient.numel() * width);
  const TensorPlace& place = data.layout().place(id_);
  const Layout::TileSpan tiles = data.layout().tiles_of(id_);
  for (std::size_t i = 0; i < tiles.count; ++i) {
    if (left_out[i]) continue;
    const TileRange& tile = data.chunk(place.chunk).tiles[tiles.first + i].range;
    const Elems begin = std::max(place.offset, tile.begin) - place.offset;
    const Elems end = std::min(place.offset + place.elems, tile.begin + tile.elems) - place.offset;
    parallel_copy(to + begin * width, from + begin * width, (end - begin) * width);
  }
}

// While a gradient is on its way into its chunk nobody who sees the others there die discards it.
class Parameter::Placing {
 public:
  explicit Placing(Parameter* parameter) : parameter_(parameter) {
    const std::lock_guard lock(parameter_->core_->gradient_places);
    if (parameter_->gradient_ != nullptr) std::exchange(parameter_->gradient_, nullptr)->supersede();
    parameter_->placing_ = true;
  }
  ~Placing() {
    const std::lock_guard lock(parameter_->core_->gradient_places);
    parameter_->placing_ = false;
  }
  Placing(const Placing&) = delete;
  Placing& operator=(const Placing&) = delete;

 private:
  Parameter* const parameter_;
};

void Parameter::put_gradient(const at::Tensor& gradient, PlaceHolds place_holds, const std::vector<bool>& passing) {
  ModelData& data = core_->data();
  const Placement place = data.gradient_place(id_);
  const Bytes bytes = gradient.numel() * dtype_bytes(data.dtype());
  const Placing placing(this);
  {
    // Alone in its chunk nothing else there is worth fetching; a gradient chunk without contents has nothing to fetch.
    const bool alone = data.layout().chunk(data.layout().place(id_).chunk).tensors.size() == 1;
    const Access create{place.payload, AccessMode::kCreate};
    auto leases = alone ? data.manager().acquire({&create, 1}) : data.manager().acquire_or_create(place.payload);
    // Nothing was put, and what lies there need not be the value by now: the master has it.
    if (!leases.ok() && place_holds == PlaceHolds::kGradient) place_holds_.store(PlaceHolds::kNothing);
    throw_if_error(leases.status());
    if (core_->gradient_norm == GradientNorm::kOnArrival) {
      sum_of_squares_ = sum_of_squares(gradient.const_data_ptr(), data.dtype(), gradient.numel(), core_->parallel_for());
    } else {
      sum_of_squares_.reset();
    }
    copy_gradient(leases.value().address(0) + place.offset, gradient, passing);
  }
  place_holds_.store(place_holds);
  auto storage = c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), static_cast<std::size_t>(bytes),
                                                       c10::DataPtr(nullptr, c10::Device(c10::kCPU)), /*allocator=*/nullptr,
                                                       /*resizable=*/false);
  auto* backing = new GradientBacking(storage.get(), this, core_->shared_from_this());
  take_over(storage.get(), static_cast<StorageBacking*>(backing), &managed_deleter, backing->armed_text());
  gradient_ = backing;
  const at::Tensor parameter = tensor();
  at::Tensor managed = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(std::move(storage)),
                                                                c10::DispatchKeySet(c10::DispatchKey::CPU), parameter.dtype());
  managed.unsafeGetTensorImpl()->set_sizes_and_strides(parameter.sizes(), parameter.strides());
  parameter.mutable_grad() = managed;
}

double Parameter::gradient_sum_of_squares() {
  if (sum_of_squares_.has_value()) return *sum_of_squares_;
  ModelData& data = core_->data();
  if (const void* beside = gradient_beside(); beside != nullptr) {
    sum_of_squares_ = sum_of_squares(beside, data.dtype(), data.layout().place(id_).elems, core_->parallel_for());
    return *sum_of_squares_;
  }
  const Placement place = data.gradient_place(id_);
  const Access access{place.payload, AccessMode::kRead};
  auto leases = data.manager().acquire({&access, 1});
  throw_if_error(leases.status());
  sum_of_squares_ = sum_of_squares(leases.value().address(0) + place.offset, data.dtype(), data.layout().place(id_).elems,
                                   core_->parallel_for());
  return *sum_of_squares_;
}

void Parameter::update_put() {
  tensor().unsafeGetTensorImpl()->bump_version();  // as every write through an operator does
  const bool in_place = core_->data().gradients() == GradientPlacement::kInParameter && !gradient_kept();
  if (in_place) std::exchange(gradient_, nullptr)->consume();
}

void Parameter::updated() {
  written_.store(false);
  passing_.reset();
  dead_gradient_.clear();
  if (core_->data().gradients() == GradientPlacement::kOwnChunks) {
    if (gradient_ == nullptr) discard_dead_gradients();
    return;
  }
  place_holds_.store(PlaceHolds::kValue);
  if (gradient_ != nullptr) std::exchange(gradient_, nullptr)->consume();
}

// zero_grad(), or the user dropped it. In the parameter's place nothing of use is left then; a gradient chunk whose last
// gradient went is dead and need not be written anywhere.
void Parameter::gradient_died(GradientBacking* backing) {
  if (gradient_ != backing) return;
  {
    const std::lock_guard lock(core_->gradient_places);
    gradient_ = nullptr;
  }
  sum_of_squares_.reset();
  if (backing->kept() != nullptr) {
    if (core_->updates().due(id_)) dead_gradient_ = backing->take_kept();
    return;
  }
  ModelData& data = core_->data();
  if (data.gradients() == GradientPlacement::kInParameter) {
    place_holds_.store(PlaceHolds::kNothing);
    return;
  }
  discard_dead_gradients();
}

void Parameter::discard_dead_gradients() {
  ModelData& data = core_->data();
  const ChunkId chunk = data.layout().place(id_).chunk;
  const auto updates = core_->updates().lock();
  const std::lock_guard lock(core_->gradient_places);
  for (const TensorId other : data.layout().chunk(chunk).tensors) {
    const Parameter& neighbour = core_->parameter(other);
    if (neighbour.placing_ || (neighbour.gradient_ != nullptr && neighbour.gradient_beside() == nullptr)) return;
    if (core_->updates().due(other)) return;  // reads it yet
  }
  data.manager().discard(data.chunk(chunk).grad);
}

}  // namespace patrickstar::bridge
