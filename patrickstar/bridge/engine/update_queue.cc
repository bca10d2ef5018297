#include "patrickstar/bridge/engine/update_queue.h"

#include <algorithm>
#include <array>

#include "patrickstar/bridge/engine/engine_core.h"
#include "patrickstar/core/base/check.h"

namespace patrickstar::bridge {

Layout::TileSpan UpdateQueue::tiles_of(TensorId tensor) const { return core_->data().layout().tiles_of(tensor); }

void UpdateQueue::put(TensorId tensor, const AdamWFactors& factors) {
  const std::lock_guard lock(mutex_);
  if (updates_.size() <= tensor.index()) updates_.resize(tensor.index() + 1);
  Update& update = updates_[tensor.index()];
  PS_CHECK(!update.due);
  update.due = true;
  update.factors = factors;
  update.left = tiles_of(tensor).count;
  update.done.assign(update.left, false);
}

bool UpdateQueue::due(TensorId tensor) const {
  const std::lock_guard lock(mutex_);
  return tensor.index() < updates_.size() && updates_[tensor.index()].due;
}

bool UpdateQueue::part_due(TensorId tensor, std::size_t tile) const {
  return due(tensor) && !updates_[tensor.index()].done[tile - tiles_of(tensor).first];
}

Status UpdateQueue::run_tile(ChunkId chunk, std::size_t tile) {
  const std::lock_guard lock(mutex_);
  return run_tile_locked(chunk, tile);
}

Status UpdateQueue::run_tile_locked(ChunkId chunk, std::size_t index) {
  ModelData& data = core_->data();
  const ChunkPayloads& payloads = data.chunk(chunk);
  const TilePayload& tile = payloads.tiles[index];
  std::vector<Segment> segments = data.layout().segments(tile.range);
  std::erase_if(segments, [&](const Segment& segment) { return !part_due(segment.tensor, index); });
  if (segments.empty()) return {};
  const auto in_own_chunk = [&](const Segment& segment) { return core_->parameter(segment.tensor).gradient_beside() == nullptr; };
  const bool own_gradients =
      data.gradients() == GradientPlacement::kOwnChunks && std::any_of(segments.begin(), segments.end(), in_own_chunk);
  const std::array<Access, 3> accesses{Access{payloads.param, AccessMode::kWrite}, Access{tile.payload, AccessMode::kWrite},
                                       Access{payloads.grad, AccessMode::kRead}};
  auto leases = data.manager().acquire(std::span(accesses).first(own_gradients ? 3 : 2));
  if (!leases.ok()) return leases.status();
  std::byte* const param = leases.value().address(0);
  std::byte* const state = leases.value().address(1);
  const std::byte* const grad = own_gradients ? leases.value().address(2) : param;
  const bool has_master = data.dtype() != DType::kFloat32;
  const Bytes width = dtype_bytes(data.dtype());
  for (const Segment& segment : segments) {
    const Bytes offset = segment.in_chunk * width;
    AdamWRange range;
    const auto* const beside = static_cast<const std::byte*>(core_->parameter(segment.tensor).gradient_beside());
    range.grad = beside != nullptr ? beside + segment.in_tensor * width : grad + offset;
    range.grad_dtype = data.dtype();
    range.master = has_master ? data.state_array(tile.range, state, StateKind::kMaster) + segment.in_tile
                              : reinterpret_cast<float*>(param + offset);
    range.exp_avg = data.state_array(tile.range, state, StateKind::kExpAvg) + segment.in_tile;
    range.exp_avg_sq = data.state_array(tile.range, state, StateKind::kExpAvgSq) + segment.in_tile;
    range.param16 = has_master ? param + offset : nullptr;
    range.count = segment.elems;
    adamw_update(range, updates_[segment.tensor.index()].factors, core_->parallel_for());
  }
  // Before the leases end: with them the plan lets go of what it is done with, and gradients that nobody reads any more are not
  // to be written then.
  for (const Segment& segment : segments) {
    Update& update = updates_[segment.tensor.index()];
    update.done[index - tiles_of(segment.tensor).first] = true;
    if (--update.left > 0) continue;
    update.due = false;
    core_->parameter(segment.tensor).updated();
  }
  return {};
}

Status UpdateQueue::complete(TensorId tensor) {
  const std::lock_guard lock(mutex_);
  const Layout::TileSpan tiles = tiles_of(tensor);
  const ChunkId chunk = core_->data().layout().place(tensor).chunk;
  for (std::size_t i = 0; i < tiles.count && due(tensor); ++i) PS_RETURN_IF_ERROR(run_tile_locked(chunk, tiles.first + i));
  return {};
}

bool UpdateQueue::settle(TensorId tensor, const std::vector<bool>& passing) {
  const std::lock_guard lock(mutex_);
  Parameter& parameter = core_->parameter(tensor);
  if (!parameter.has_passing()) return true;  // complete
  if (!due(tensor)) return false;
  std::vector<bool> copied = updates_[tensor.index()].done;  // or not to be read again
  for (std::size_t i = 0; i < copied.size(); ++i) copied[i] = copied[i] || !passing[i];
  (void)parameter.settle_passing(copied);  // where it fails the memory stays, until the update is complete
  return true;
}

bool UpdateQueue::reads_kept(TensorId tensor) const {
  const std::lock_guard lock(mutex_);
  const Parameter& parameter = core_->parameter(tensor);
  return parameter.gradient_beside() != nullptr && !parameter.has_passing();
}

Status UpdateQueue::complete_chunk(ChunkId chunk) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < core_->data().chunk(chunk).tiles.size(); ++i) PS_RETURN_IF_ERROR(run_tile_locked(chunk, i));
  return {};
}

Status UpdateQueue::complete_all() {
  for (std::size_t chunk = 0; chunk < core_->data().layout().chunks(); ++chunk) {
    PS_RETURN_IF_ERROR(complete_chunk(ChunkId(chunk)));
  }
  return {};
}

}  // namespace patrickstar::bridge
