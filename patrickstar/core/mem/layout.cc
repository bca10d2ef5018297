#include "patrickstar/core/mem/layout.h"

#include <algorithm>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/mem/tier.h"

namespace patrickstar {

Layout::Layout(LayoutOptions options) : options_(options) {
  PS_CHECK(options.chunk_elems > 0 && options.tile_elems > 0 && options.tile_elems % kOffsetAlignment == 0);
}

TensorId Layout::add(TensorSpec spec) {
  PS_CHECK(spec.elems > 0);
  const TensorId id(specs_.size());
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
  places_.push_back({open, offset, spec.elems});
  specs_.push_back(std::move(spec));
  return id;
}

void Layout::close() { open_[0] = open_[1] = ChunkId(); }

std::vector<TileRange> Layout::tiles(ChunkId id) const {
  std::vector<TileRange> tiles;
  const ChunkLayout& layout = chunk(id);
  if (layout.training == Training::kFrozen) return tiles;
  for (Elems begin = 0; begin < layout.elems; begin += options_.tile_elems) {
    tiles.push_back({id, begin, std::min(options_.tile_elems, layout.elems - begin)});
  }
  return tiles;
}

Bytes Layout::payload_bytes(Elems elems, DType dtype) { return round_up(elems * dtype_bytes(dtype), kPayloadAlignment); }

Bytes Layout::tile_state_offset(const TileRange& tile, int i) { return i * round_up(tile.elems * 4, 256); }

Bytes Layout::tile_bytes(const TileRange& tile, int states) {
  return round_up(tile_state_offset(tile, states), kPayloadAlignment);
}

}  // namespace patrickstar
