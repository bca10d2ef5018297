#include "patrickstar/bridge/engine/engine.h"

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <set>

#include "patrickstar/bridge/device/storage_gate.h"
#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/core/base/text.h"

namespace patrickstar::bridge {
namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw Error(Status(StatusCode::kInvalidArgument, "[engine] parameter " + name + " cannot be managed: " + why));
}

at::ScalarType scalar_type(DType dtype) { return dtype == DType::kBFloat16 ? at::kBFloat16 : at::kFloat; }

DType dtype_of(const std::string& name, const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kFloat) return DType::kFloat32;
  if (tensor.scalar_type() == at::kBFloat16) return DType::kBFloat16;
  refuse(name, std::string("its dtype is ") + c10::toString(tensor.scalar_type()) + "; float32 and bfloat16 are");
}

void check_manageable(const std::string& name, const at::Tensor& tensor) {
  if (!tensor.device().is_cpu()) refuse(name, "it is on " + tensor.device().str() + ", not on the CPU");
  if (tensor.layout() != at::kStrided || !tensor.has_storage()) refuse(name, "it is sparse or has no storage");
  if (!tensor.is_leaf()) refuse(name, "it is the result of an operator, not a leaf");
  if (!tensor.unsafeGetTensorImpl()->is_non_overlapping_and_dense())
    refuse(name, "its elements overlap or have gaps (expand, slices)");
  if (tensor.storage_offset() != 0 || tensor.storage().nbytes() != tensor.nbytes()) {
    refuse(name, "it is a part of a larger storage; give it a storage of its own (clone)");
  }
  if (tensor.grad().defined()) refuse(name, "it has a gradient already; attach before the first backward, or zero_grad() first");
}

// A storage of `bytes` without memory: what a managed tensor of another dtype gets.
at::Tensor tensor_without_bytes(const at::Tensor& like, at::ScalarType type) {
  const auto meta = c10::scalarTypeToTypeMeta(type);
  auto storage = c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(),
                                                       static_cast<std::size_t>(like.numel()) * meta.itemsize(),
                                                       c10::DataPtr(nullptr, c10::Device(c10::kCPU)), /*allocator=*/nullptr,
                                                       /*resizable=*/false);
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(std::move(storage)),
                                                               c10::DispatchKeySet(c10::DispatchKey::CPU), meta);
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides());
  return tensor;
}

Status status_of_current_exception() {
  try {
    throw;
  } catch (const Error& error) {
    return Status(error.code(), error.what());
  } catch (const c10::OutOfMemoryError& error) {
    return Status(StatusCode::kOutOfRoom, error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return Status(StatusCode::kUnavailable, error.what_without_backtrace());
  } catch (const std::exception& error) {
    return Status(StatusCode::kUnavailable, error.what());
  }
}

void check_budget(const torch::nn::Module& module, const std::string& prefix, DType dtype, Bytes budget) {
  const SmallestOperator largest = largest_parameter(module, dtype);
  if (largest.bytes <= budget) return;
  throw Error(Status(StatusCode::kInvalidArgument, "[engine] a memory budget of " + format_bytes(budget) +
                                                       " is impossible: " + prefix + largest.name +
                                                       "'s value and gradient alone take " + format_bytes(largest.bytes) +
                                                       " (a lower bound); give a larger memory budget"));
}

}  // namespace

Engine::Engine(std::shared_ptr<Runtime> runtime, EngineOptions options) {
  if (options.dtype == DType::kFloat32) options.gradients = GradientPlacement::kOwnChunks;
  core_ = std::make_shared<EngineCore>(std::move(runtime), ModelScheme{options.dtype, options.gradients},
                                       TensorOrder(std::move(options.order)));
}

Engine::~Engine() {
  for (const auto& parameter : core_->parameters()) parameter->unwatch();
}

void Engine::attach(torch::nn::Module& module, const std::string& prefix) {
  throw_if_error(core_->failure());
  const at::NoGradGuard no_grad;
  const std::string path = prefix.empty() ? "" : prefix + ".";
  std::vector<at::Tensor> tensors;
  std::vector<TensorSpec> specs;
  std::set<const c10::TensorImpl*> seen;
  std::set<const c10::StorageImpl*> storages;
  for (const auto& item : module.named_parameters(/*recurse=*/true)) {
    const std::string name = path + item.key();
    const at::Tensor& tensor = item.value();
    if (!tensor.defined() || tensor.numel() == 0) continue;
    if (!seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    if (const Parameter* known = core_->find(tensor.unsafeGetTensorImpl()); known != nullptr) {
      if (known->released()) refuse(name, "it was released from this Engine; attach it to a new one");
      throw_if_error(known->check_storage());
      continue;
    }
    c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
    if (context_of(storage, &managed_deleter) != nullptr || !storages.insert(storage).second) {
      refuse(name,
             "its storage is attached already: release() it from the other Engine first, or, if it shares it with another "
             "parameter, register the same tensor twice instead");
    }
    check_manageable(name, tensor);
    (void)dtype_of(name, tensor);
    specs.push_back({name, tensor.numel(), tensor.requires_grad() ? Training::kTrained : Training::kFrozen});
    tensors.push_back(tensor);
  }
  if (specs.empty()) return;
  check_budget(module, path, core_->data().dtype(), core_->runtime().options().memory_budget);
  // Places by the Engine's order, ids by that of registration: the norm and whoever visits all tensors go by ids.
  const std::vector<std::size_t> order = core_->order().order_of(specs);
  core_->runtime().reserve_disk(core_->data().bytes_to_add(specs, order));
  std::size_t i = 0;
  try {
    core_->order().placed(specs);
    const std::vector<TensorId> ids = value_or_throw(core_->data().add(specs, order));
    for (; i < ids.size(); ++i) take_over_parameter(ids[i], specs[i], tensors[i]);
  } catch (const std::exception&) {
    core_->fail(status_of_current_exception().with_context(
        "[engine] attaching " + specs[i].name +
        " failed half-way, so this Engine cannot be used any more (release() the module and attach it to a new one)"));
    throw Error(core_->failure());
  }
}

void Engine::take_over_parameter(TensorId id, const TensorSpec& spec, at::Tensor& tensor) {
  const DType from = dtype_of(spec.name, tensor);
  throw_if_error(core_->data().fill(id, tensor.const_data_ptr(), from));
  auto parameter = std::make_unique<Parameter>(core_.get(), id, tensor, spec.training);
  if (from != core_->data().dtype()) tensor.set_data(tensor_without_bytes(tensor, scalar_type(core_->data().dtype())));
  parameter->adopt_storage(tensor, core_);
  parameter->watch(core_);
  core_->enter(std::move(parameter));
}

void Engine::release(torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  for (at::Tensor& tensor : module.parameters()) {
    Parameter* parameter = core_->find(tensor.unsafeGetTensorImpl());
    if (parameter == nullptr) continue;
    parameter->release();
    tensor.mutable_grad() = at::Tensor();
    tensor.set_data(tensor.clone());
  }
}

Bytes Engine::model_data_bytes() const { return core_->data().bytes(); }

std::int64_t Engine::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& parameter : core_->parameters()) count += core_->data().layout().place(parameter->id()).elems;
  return count;
}

TracedModel Engine::traced_model() const {
  const ModelData& data = core_->data();
  const Layout& layout = data.layout();
  TracedModel model{
      .scheme = data.scheme(), .updates = core_->update_timing(), .tile_elems = layout.options().tile_elems, .tensors = {}};
  for (std::size_t t = 0; t < layout.tensors(); ++t) {
    const TensorPlace& place = layout.place(TensorId(t));
    model.tensors.push_back({layout.tensor(TensorId(t)), place.group, data.chunk(place.chunk).param});
  }
  return model;
}

void Engine::visit(const Visitor& visitor) {
  ModelData& data = core_->data();
  throw_if_error(core_->updates().complete_all());
  for (const auto& parameter : core_->parameters()) {
    throw_if_error(parameter->check_storage());
    throw_if_error(parameter->take_over_writes());
    OpenRequest request;
    const at::Tensor tensor = parameter->tensor();
    if (!tensor.defined() || parameter->released()) continue;
    request.backing = static_cast<StorageBacking*>(context_of(tensor.storage().unsafeGetStorageImpl(), &managed_deleter));
    {
      const OpenStorages open = value_or_throw(core_->runtime().gate().open({&request, 1}));
      visitor(parameter->name(), "param", tensor.const_data_ptr(), static_cast<Bytes>(tensor.nbytes()));
    }
    if (parameter->training() == Training::kFrozen) continue;
    for (const auto& [kind, name] :
         {std::pair{StateKind::kMaster, "master"}, {StateKind::kExpAvg, "exp_avg"}, {StateKind::kExpAvgSq, "exp_avg_sq"}}) {
      if (kind == StateKind::kMaster && data.dtype() == DType::kFloat32) continue;
      throw_if_error(data.visit_state(parameter->id(), kind, AccessMode::kRead, [&](float* state, Elems, Elems elems) {
        visitor(parameter->name(), name, state, elems * 4);
      }));
    }
  }
}

SmallestOperator largest_parameter(const torch::nn::Module& module, DType dtype) {
  SmallestOperator largest;
  for (const auto& item : module.named_parameters(/*recurse=*/true)) {
    const at::Tensor& tensor = item.value();
    if (!tensor.defined()) continue;
    const Bytes bytes = (tensor.requires_grad() ? 2 : 1) * tensor.numel() * dtype_bytes(dtype);
    if (bytes > largest.bytes) largest = {item.key(), bytes};
  }
  return largest;
}

}  // namespace patrickstar::bridge
