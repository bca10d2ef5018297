#include "patrickstar/bridge/engine/chunked_adamw.h"

#include "patrickstar/bridge/engine/adamw_groups.h"
#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/core/optim/grad_norm.h"

namespace patrickstar::bridge {

AdamWOptions adamw_options(const torch::optim::OptimizerParamGroup& group) {
  const auto& options = static_cast<const torch::optim::AdamWOptions&>(group.options());
  if (options.amsgrad())
    throw Error(Status(StatusCode::kInvalidArgument, "[optimizer] amsgrad is not supported: build AdamW without it"));
  const auto [beta1, beta2] = options.betas();
  return {.lr = options.lr(), .beta1 = beta1, .beta2 = beta2, .eps = options.eps(), .weight_decay = options.weight_decay()};
}

ChunkedAdamW::ChunkedAdamW(Engine& engine, std::vector<torch::Tensor> parameters, torch::optim::AdamWOptions defaults)
    : ChunkedAdamW(engine,
                   std::vector<torch::optim::OptimizerParamGroup>{torch::optim::OptimizerParamGroup(std::move(parameters))},
                   std::move(defaults)) {}

ChunkedAdamW::ChunkedAdamW(Engine& engine, std::vector<torch::optim::OptimizerParamGroup> groups,
                           torch::optim::AdamWOptions defaults)
    : Optimizer(std::move(groups), std::make_unique<torch::optim::AdamWOptions>(defaults)), core_(engine.core()) {
  throw_if_error(core_->failure());
  for (const auto& group : param_groups()) {
    (void)adamw_options(group);
    for (const auto& tensor : group.params()) {
      if (tensor.numel() == 0 || core_->find(tensor.unsafeGetTensorImpl()) != nullptr) continue;
      throw Error(Status(StatusCode::kInvalidArgument, "[optimizer] a parameter of shape " + c10::str(tensor.sizes()) +
                                                           " is not attached to the engine: call Engine::attach first"));
    }
  }
}

double ChunkedAdamW::clip_grad_norm_(double max_norm) {
  core_->gradient_norm = GradientNorm::kOnArrival;
  std::vector<double> sums;
  for (const auto& parameter : core_->parameters()) {
    if (parameter->has_gradient()) sums.push_back(parameter->gradient_sum_of_squares());
  }
  const double norm = global_norm(sums);
  grad_scale_ = clip_coefficient(norm, max_norm);
  return norm;
}

torch::Tensor ChunkedAdamW::step(LossClosure closure) {
  torch::Tensor loss;
  if (closure != nullptr) {
    const at::AutoGradMode with_grad(true);
    loss = closure();
  }
  const at::NoGradGuard no_grad;
  throw_if_error(core_->failure());
  throw_if_error(core_->runtime().gate().take_latched().with_context(
      "[optimizer] step() did nothing, because an operator failed since the last one"));
  factors_.assign(core_->parameters().size(), {});
  updating_.assign(core_->parameters().size(), false);
  for (const auto& group : param_groups()) {
    const AdamWOptions options = adamw_options(group);
    for (const auto& tensor : group.params()) {
      Parameter* parameter = core_->find(tensor.unsafeGetTensorImpl());
      if (parameter == nullptr || !parameter->has_gradient()) continue;
      throw_if_error(parameter->take_over_writes());
      factors_[parameter->id().index()] = adamw_factors(options, ++parameter->step, grad_scale_);
      updating_[parameter->id().index()] = true;
    }
  }
  for (std::size_t chunk = 0; chunk < core_->data().layout().chunks(); ++chunk) update_chunk(ChunkId(chunk));
  grad_scale_ = 1.0;
  ++steps_;
  if (EventSink* events = core_->runtime().options().events; events != nullptr) {
    events->on_event({.kind = EventKind::kStep, .bytes = steps_, .time = core_->runtime().clock().now()});
  }
  return loss;
}

void ChunkedAdamW::update_chunk(ChunkId chunk) {
  ModelData& data = core_->data();
  const auto& tensors = data.layout().chunk(chunk).tensors;
  const auto is_updating = [&](TensorId tensor) { return updating_[tensor.index()]; };
  if (std::none_of(tensors.begin(), tensors.end(), is_updating)) return;
  for (const TilePayload& tile : data.chunk(chunk).tiles) update_tile(chunk, tile);
  for (const TensorId tensor : tensors) {
    if (is_updating(tensor)) core_->parameter(tensor).updated();
  }
}

void ChunkedAdamW::update_tile(ChunkId chunk, const TilePayload& tile) {
  ModelData& data = core_->data();
  const ChunkPayloads& payloads = data.chunk(chunk);
  const std::vector<Segment> segments = data.segments(tile.range);
  const auto in_own_chunk = [&](const Segment& segment) {
    return updating_[segment.tensor.index()] && core_->parameter(segment.tensor).gradient_beside() == nullptr;
  };
  const bool own_gradients =
      data.gradients() == GradientPlacement::kOwnChunks && std::any_of(segments.begin(), segments.end(), in_own_chunk);
  const std::array<Access, 3> accesses{Access{payloads.param, AccessMode::kWrite}, Access{tile.payload, AccessMode::kWrite},
                                       Access{payloads.grad, AccessMode::kRead}};
  const LeaseSet leases = value_or_throw(data.manager().acquire(std::span(accesses).first(own_gradients ? 3 : 2)));
  std::byte* const param = leases.address(0);
  std::byte* const state = leases.address(1);
  const std::byte* const grad = own_gradients ? leases.address(2) : param;
  const bool has_master = data.dtype() != DType::kFloat32;
  for (const Segment& segment : segments) {
    if (!updating_[segment.tensor.index()]) continue;
    const Bytes offset = segment.in_chunk * dtype_bytes(data.dtype());
    AdamWRange range;
    const auto* const beside = static_cast<const std::byte*>(core_->parameter(segment.tensor).gradient_beside());
    range.grad = beside != nullptr ? beside + segment.in_tensor * dtype_bytes(data.dtype()) : grad + offset;
    range.grad_dtype = data.dtype();
    range.master = has_master ? data.state_array(tile.range, state, StateKind::kMaster) + segment.in_tile
                              : reinterpret_cast<float*>(param + offset);
    range.exp_avg = data.state_array(tile.range, state, StateKind::kExpAvg) + segment.in_tile;
    range.exp_avg_sq = data.state_array(tile.range, state, StateKind::kExpAvgSq) + segment.in_tile;
    range.param16 = has_master ? param + offset : nullptr;
    range.count = segment.elems;
    adamw_update(range, factors_[segment.tensor.index()], core_->parallel_for());
  }
}

}  // namespace patrickstar::bridge
