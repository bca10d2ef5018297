#include "patrickstar/core/mem/layout.h"

#include <algorithm>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/mem/tier.h"

namespace patrickstar {

Layout::Layout(LayoutOptions options) : options_(options) {
  PS_CHECK(options.chunk_elems > 0 && options.tile_elems > 0 && options.tile_elems % kOffsetAlignment == 0);
}

TensorId Layout::enter(TensorSpec spec) {
  PS_CHECK(spec.elems > 0);
  specs_.push_back(std::move(spec));
  places_.emplace_back();
  return TensorId(specs_.size() - 1);
}

void Layout::put(TensorId id) {
  const TensorSpec& spec = specs_[id.index()];
  PS_CHECK(places_[id.index()].elems == 0);
  ChunkId& open = open_[static_cast<std::size_t>(spec.training)];
  Elems offset = 0;
  if (open.valid()) offset = round_up(chunks_[open.index()].elems, kOffsetAlignment);
  if (!open.valid() || offset + spec.elems > options_.chunk_elems) {
    open = ChunkId(chunks_.size());
    chunks_.push_back({.training = spec.training});
    offset = 0;
  }
  ChunkLayout& chunk = chunks_[open.index()];
  chunk.tensors.push_back(id);
  chunk.elems = offset + spec.elems;
  places_[id.index()] = {open, offset, spec.elems, group_};
}

TensorId Layout::add(TensorSpec spec) {
  const TensorId id = enter(std::move(spec));
  put(id);
  return id;
}

std::vector<TensorId> Layout::add(std::vector<TensorSpec> specs, std::span<const std::size_t> order) {
  PS_CHECK(order.size() == specs.size());
  std::vector<TensorId> ids;
  for (TensorSpec& spec : specs) ids.push_back(enter(std::move(spec)));
  for (const std::size_t i : order) put(ids[i]);
  return ids;
}

void Layout::close() {
  if (open_[0].valid() || open_[1].valid()) ++group_;
  open_[0] = open_[1] = ChunkId();
}

std::vector<TileRange> Layout::tiles(ChunkId id) const {
  std::vector<TileRange> tiles;
  const ChunkLayout& layout = chunk(id);
  if (layout.training == Training::kFrozen) return tiles;
  for (Elems begin = 0; begin < layout.elems; begin += options_.tile_elems) {
    tiles.push_back({id, begin, std::min(options_.tile_elems, layout.elems - begin)});
  }
  return tiles;
}

std::vector<Segment> Layout::segments(const TileRange& range) const {
  std::vector<Segment> segments;
  for (const TensorId tensor : chunk(range.chunk).tensors) {
    const TensorPlace& at = place(tensor);
    const Elems begin = std::max(at.offset, range.begin);
    const Elems end = std::min(at.offset + at.elems, range.begin + range.elems);
    if (begin >= end) continue;
    segments.push_back({tensor, begin - at.offset, begin, begin - range.begin, end - begin});
  }
  return segments;
}

Layout::TileSpan Layout::tiles_of(TensorId id) const {
  const TensorPlace& at = place(id);
  const auto first = static_cast<std::size_t>(at.offset / options_.tile_elems);
  return {first, static_cast<std::size_t>((at.offset + at.elems - 1) / options_.tile_elems) - first + 1};
}

std::vector<ChunkPart> Layout::parts(ChunkId id, const ModelScheme& scheme) const {
  const ChunkLayout& layout = chunk(id);
  const Bytes bytes = payload_bytes(layout.elems, scheme.dtype);
  std::vector<ChunkPart> parts{{.kind = PayloadKind::kParam, .bytes = bytes}};
  if (layout.training == Training::kTrained && scheme.gradient_chunks())
    parts.push_back({.kind = PayloadKind::kGrad, .bytes = bytes});
  for (const TileRange& tile : tiles(id))
    parts.push_back({.kind = PayloadKind::kState, .tile = tile, .bytes = tile_bytes(tile, scheme.states())});
  return parts;
}

Bytes Layout::payload_bytes(Elems elems, DType dtype) { return round_up(elems * dtype_bytes(dtype), kPayloadAlignment); }

Bytes Layout::tile_state_offset(const TileRange& tile, int i) { return i * round_up(tile.elems * 4, 256); }

Bytes Layout::tile_bytes(const TileRange& tile, int states) {
  return round_up(tile_state_offset(tile, states), kPayloadAlignment);
}

}  // namespace patrickstar
