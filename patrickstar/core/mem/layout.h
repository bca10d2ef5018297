// Layout: which tensor lies where. All kinds share it: tensor i has the same (chunk, element offset) in each.
//
// Tensors are placed in the order in which they come, or in one that the caller names; ids are given as they come either way,
// because sums over tensors are taken in the order of ids. A tensor never straddles two chunks; a chunk is closed when the next
// tensor does not fit and is as long as its used part, so closing early costs nothing. A tensor larger than a chunk gets one of
// its own size. Frozen tensors have parameters only, so they fill chunks of their own. Pure arithmetic; not thread-safe.
#pragma once

#include <span>
#include <vector>

#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/base/model_scheme.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/trace/access.h"

namespace patrickstar {

inline constexpr Elems kDefaultChunkElems = Elems{4} << 20;
inline constexpr Elems kDefaultTileElems = Elems{1} << 20;

struct LayoutOptions {
  Elems chunk_elems = kDefaultChunkElems;  // most elements of a chunk, but for a single larger tensor
  Elems tile_elems = kDefaultTileElems;    // most elements of a tile

  friend bool operator==(const LayoutOptions&, const LayoutOptions&) = default;
};

struct TensorPlace {
  ChunkId chunk;
  Elems offset = 0;  // in elements, the same in every kind; a multiple of kOffsetAlignment
  Elems elems = 0;
  std::uint32_t group = 0;  // how often close() had ended something before
};

struct ChunkLayout {
  Training training = Training::kTrained;
  Elems elems = 0;                // the used part
  std::vector<TensorId> tensors;  // by offset
};

// The elements [begin, begin + elems) of a chunk's states, side by side as `states` fp32 arrays.
struct TileRange {
  ChunkId chunk;
  Elems begin = 0;
  Elems elems = 0;
};

// A run of one tensor's elements within one tile.
struct Segment {
  TensorId tensor;
  Elems in_tensor = 0;  // first element, counted from the tensor's
  Elems in_chunk = 0;   // the same, counted from the chunk's
  Elems in_tile = 0;    // and from the tile's
  Elems elems = 0;
};

// One payload of a chunk.
struct ChunkPart {
  PayloadKind kind = PayloadKind::kParam;
  TileRange tile;  // of kState
  Bytes bytes = 0;
};

class Layout {
 public:
  // 256 bytes in the narrowest kind (2 bytes an element), so in every kind.
  static constexpr Elems kOffsetAlignment = 128;

  explicit Layout(LayoutOptions options);

  // Places a tensor behind those before it. REQUIRES: elems > 0.
  TensorId add(TensorSpec spec);
  // Ids in the order of `specs`, places in that of `order`. REQUIRES: `order` has each index of `specs` once.
  std::vector<TensorId> add(std::vector<TensorSpec> specs, std::span<const std::size_t> order);
  // The next tensor begins a new chunk. Chunks that are closed never change again.
  void close();

  const TensorSpec& tensor(TensorId id) const { return specs_[id.index()]; }
  const TensorPlace& place(TensorId id) const { return places_[id.index()]; }
  const ChunkLayout& chunk(ChunkId id) const { return chunks_[id.index()]; }
  std::size_t tensors() const { return specs_.size(); }
  std::size_t chunks() const { return chunks_.size(); }
  // The tiles of a trained chunk, in order; none for a frozen one.
  std::vector<TileRange> tiles(ChunkId id) const;
  // What lies in a tile, by offset.
  std::vector<Segment> segments(const TileRange& range) const;
  // The tiles of its chunk that a trained tensor has a part in, by their number in tiles().
  struct TileSpan {
    std::size_t first = 0;
    std::size_t count = 0;
  };
  TileSpan tiles_of(TensorId id) const;
  // A chunk's payloads, in the order in which they get their ids: values, gradients if they have chunks, tiles.
  std::vector<ChunkPart> parts(ChunkId id, const ModelScheme& scheme) const;
  const LayoutOptions& options() const { return options_; }

  // Length of a chunk's copy of one kind with elements of `dtype`: whole kPayloadAlignment units.
  static Bytes payload_bytes(Elems elems, DType dtype);
  // Length of a tile's copy: `states` fp32 arrays, each beginning on 256 bytes.
  static Bytes tile_bytes(const TileRange& tile, int states);
  // Where the i-th state array of a tile begins, in bytes.
  static Bytes tile_state_offset(const TileRange& tile, int i);

 private:
  TensorId enter(TensorSpec spec);
  void put(TensorId id);

  const LayoutOptions options_;
  std::vector<TensorSpec> specs_;
  std::vector<TensorPlace> places_;
  std::vector<ChunkLayout> chunks_;
  ChunkId open_[2];          // by Training; invalid: none
  std::uint32_t group_ = 0;  // of what comes next
};

}  // namespace patrickstar
