#include "patrickstar/bridge/engine/model_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "patrickstar/bridge/device/parallel.h"
#include "patrickstar/core/base/check.h"
#include "patrickstar/core/optim/convert.h"

namespace patrickstar::bridge {

ModelData::ModelData(ChunkManager* manager, ModelScheme scheme, LayoutOptions layout, ParallelFor parallel_for)
    : manager_(manager), scheme_(scheme), parallel_for_(std::move(parallel_for)), layout_(layout), split_(scheme) {
  PS_CHECK(scheme.dtype != DType::kFloat32 || scheme.gradient_chunks());
}

ModelData::~ModelData() {
  const auto remove = [&](PayloadId payload) {
    if (payload.valid()) manager_->remove(payload);  // not one that add() could not get
  };
  for (const ChunkPayloads& chunk : chunks_) {
    remove(chunk.param);
    remove(chunk.grad);
    for (const TilePayload& tile : chunk.tiles) remove(tile.payload);
  }
}

Bytes ModelData::bytes_per_element(DType dtype, GradientPlacement gradients, Training training) {
  const Bytes value = dtype_bytes(dtype);
  if (training == Training::kFrozen) return value;
  const Bytes states = dtype == DType::kFloat32 ? 8 : 12;
  return value + states + (gradients == GradientPlacement::kOwnChunks ? value : 0);
}

Bytes ModelData::bytes_to_add(const std::vector<TensorSpec>& specs, std::span<const std::size_t> order) const {
  Layout trial = layout_;
  trial.add(specs, order);
  Bytes bytes = 0;
  for (std::size_t c = layout_.chunks(); c < trial.chunks(); ++c) {
    for (const ChunkPart& part : trial.parts(ChunkId(c), scheme_)) bytes += part.bytes;
  }
  return bytes;
}

Result<std::vector<TensorId>> ModelData::add(std::vector<TensorSpec> specs, std::span<const std::size_t> order) {
  const std::size_t first_chunk = layout_.chunks();
  std::vector<TensorId> ids = layout_.add(std::move(specs), order);
  layout_.close();
  Status status;
  const auto take = [&](PayloadKind kind, std::string name, Bytes bytes) {
    if (!status.ok()) return PayloadId();
    auto id = manager_->add({.kind = kind, .name = std::move(name), .bytes = bytes});
    if (!id.ok()) {
      status = id.status();
      return PayloadId();
    }
    bytes_ += bytes;
    return id.value();
  };
  for (std::size_t c = first_chunk; c < layout_.chunks(); ++c) {
    ChunkPayloads payloads;
    for (const ChunkPart& part : layout_.parts(ChunkId(c), scheme_)) {
      switch (part.kind) {
        case PayloadKind::kParam: payloads.param = take(part.kind, fmt::format("chunk {} param", c), part.bytes); break;
        case PayloadKind::kGrad: payloads.grad = take(part.kind, fmt::format("chunk {} grad", c), part.bytes); break;
        case PayloadKind::kState: {
          const std::string name = fmt::format("chunk {} tile {}", c, payloads.tiles.size());
          payloads.tiles.push_back({part.tile, take(part.kind, name, part.bytes)});
          break;
        }
      }
    }
    const std::vector<bool> waits = split_.next_chunk(payloads.tiles.size());
    for (std::size_t i = 0; i < waits.size(); ++i) payloads.tiles[i].waits_for_forward = waits[i];
    chunks_.push_back(std::move(payloads));
  }
  if (!status.ok()) return status;
  return ids;
}

Placement ModelData::value_place(TensorId tensor) const {
  const TensorPlace& place = layout_.place(tensor);
  return {chunks_[place.chunk.index()].param, place.offset * dtype_bytes(scheme_.dtype)};
}

Placement ModelData::gradient_place(TensorId tensor) const {
  if (scheme_.gradients == GradientPlacement::kInParameter) return value_place(tensor);
  const TensorPlace& place = layout_.place(tensor);
  return {chunks_[place.chunk.index()].grad, place.offset * dtype_bytes(scheme_.dtype)};
}

float* ModelData::state_array(const TileRange& range, std::byte* base, StateKind kind) const {
  const int slot = static_cast<int>(kind) - (scheme_.dtype == DType::kFloat32 ? 1 : 0);
  PS_CHECK(slot >= 0);
  return reinterpret_cast<float*>(base + Layout::tile_state_offset(range, slot));
}

Result<LeaseSet> ModelData::lease_for_filling(PayloadId payload) {
  const bool fresh = !manager_->has_contents(payload);
  const Access access{payload, fresh ? AccessMode::kCreate : AccessMode::kWrite};
  auto leases = manager_->acquire({&access, 1});
  if (leases.ok() && fresh) {
    const Bytes bytes = manager_->bytes_of(payload);
    parallel_for_(bytes, 256 * kKiB, [&](std::int64_t begin, std::int64_t end) {
      std::memset(leases.value().address(0) + begin, 0, static_cast<std::size_t>(end - begin));
    });
  }
  return leases;
}

Status ModelData::visit_state(TensorId tensor, StateKind kind, AccessMode mode, const StateVisitor& visit) {
  const TensorPlace& place = layout_.place(tensor);
  for (const TilePayload& tile : chunk(place.chunk).tiles) {
    const Elems begin = std::max(place.offset, tile.range.begin);
    const Elems end = std::min(place.offset + place.elems, tile.range.begin + tile.range.elems);
    if (begin >= end) continue;
    Result<LeaseSet> leases = [&]() -> Result<LeaseSet> {
      if (mode == AccessMode::kCreate) return lease_for_filling(tile.payload);
      const Access access{tile.payload, mode};
      return manager_->acquire({&access, 1});
    }();
    if (!leases.ok()) return leases.status();
    visit(state_array(tile.range, leases.value().address(0), kind) + (begin - tile.range.begin), begin - place.offset,
          end - begin);
  }
  return {};
}

Status ModelData::fill(TensorId tensor, const void* value, DType from) {
  const TensorPlace& place = layout_.place(tensor);
  {
    auto leases = lease_for_filling(chunk(place.chunk).param);
    if (!leases.ok()) return leases.status();
    void* to = leases.value().address(0) + place.offset * dtype_bytes(scheme_.dtype);
    if (from == scheme_.dtype) {
      parallel_copy(to, value, place.elems * dtype_bytes(scheme_.dtype));
    } else if (from == DType::kFloat32) {
      round_to_bf16(static_cast<const float*>(value), to, place.elems, parallel_for_);
    } else {
      widen_bf16(value, static_cast<float*>(to), place.elems, parallel_for_);
    }
  }
  if (layout_.tensor(tensor).training == Training::kFrozen) return {};
  const StateKind first = scheme_.dtype == DType::kFloat32 ? StateKind::kExpAvg : StateKind::kMaster;
  return visit_state(tensor, first, AccessMode::kCreate, [&](float* data, Elems begin, Elems elems) {
    if (first != StateKind::kMaster) return;  // leasing for filling made the moments zero
    if (from == DType::kFloat32) {
      parallel_copy(data, static_cast<const float*>(value) + begin, elems * 4);
    } else {
      widen_bf16(static_cast<const std::uint16_t*>(value) + begin, data, elems, parallel_for_);
    }
  });
}

Status ModelData::rebuild_value(TensorId tensor, void* to) {
  PS_CHECK(scheme_.dtype == DType::kBFloat16);
  return visit_state(tensor, StateKind::kMaster, AccessMode::kRead, [&](float* data, Elems begin, Elems elems) {
    round_to_bf16(data, static_cast<std::uint16_t*>(to) + begin, elems, parallel_for_);
  });
}

Status ModelData::reseed(TensorId tensor, const void* value) {
  PS_CHECK(scheme_.dtype == DType::kBFloat16);
  return visit_state(tensor, StateKind::kMaster, AccessMode::kWrite, [&](float* data, Elems begin, Elems elems) {
    reseed_master(static_cast<const std::uint16_t*>(value) + begin, data, elems, parallel_for_);
  });
}

}  // namespace patrickstar::bridge
