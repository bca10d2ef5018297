// ModelData: a model's tensors in chunk space. Layout, payloads and the bytes of values, gradients and optimizer state.
//
// Two schemes (design.md, "Words"): 16-bit parameters with an fp32 master, where a tile holds master, exp_avg, exp_avg_sq
// (14 B/param); and fp32 parameters, where a tile holds exp_avg and exp_avg_sq. Gradients have payloads of their own only
// where GradientPlacement says so.
// Not thread-safe but for what only leases; callers serialise structure changes (attach) against everything else.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "patrickstar/bridge/module/storage_backing.h"
#include "patrickstar/core/base/model_scheme.h"
#include "patrickstar/core/base/parallel.h"
#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/mem/layout.h"

namespace patrickstar::bridge {

using patrickstar::GradientPlacement;

// The state arrays of a tile, in the order in which they lie.
enum class StateKind : std::uint8_t { kMaster, kExpAvg, kExpAvgSq };

struct TilePayload {
  TileRange range;
  PayloadId payload;
  bool waits_for_forward = false;  // SplitUpdates
};

struct ChunkPayloads {
  PayloadId param;
  PayloadId grad;  // invalid where gradients have no chunks, and for frozen chunks
  std::vector<TilePayload> tiles;
};

class ModelData {
 public:
  // `manager` outlives it.
  ModelData(ChunkManager* manager, ModelScheme scheme, LayoutOptions layout, ParallelFor parallel_for);
  ~ModelData();
  ModelData(const ModelData&) = delete;
  ModelData& operator=(const ModelData&) = delete;

  // Places tensors, closes their chunks and takes their disk slots. Ids are those of `specs`, places those of `order` (indices
  // into `specs`). Errors: disk full; then they are placed without payloads, and nothing can be done with it but to destroy it.
  Result<std::vector<TensorId>> add(std::vector<TensorSpec> specs, std::span<const std::size_t> order);
  // The bytes that add() would take, to the byte.
  Bytes bytes_to_add(const std::vector<TensorSpec>& specs, std::span<const std::size_t> order) const;
  // The bytes that `add` would take, by kind of training, without the alignment of chunks to pages.
  static Bytes bytes_per_element(DType dtype, GradientPlacement gradients, Training training);

  const ModelScheme& scheme() const { return scheme_; }
  DType dtype() const { return scheme_.dtype; }
  GradientPlacement gradients() const { return scheme_.gradients; }
  const Layout& layout() const { return layout_; }
  const ChunkPayloads& chunk(ChunkId id) const { return chunks_[id.index()]; }
  Bytes bytes() const { return bytes_; }  // all payloads, with padding
  ChunkManager& manager() { return *manager_; }

  Placement value_place(TensorId tensor) const;
  Placement gradient_place(TensorId tensor) const;
  // The pointer to one state array of a tile that is leased at `base`. REQUIRES: the scheme has that state.
  float* state_array(const TileRange& range, std::byte* base, StateKind kind) const;
  // Where a payload has no contents yet, everything of it becomes zero.
  Result<LeaseSet> lease_for_filling(PayloadId payload);

  // --- whole tensors; each leases what it needs, one payload at a time ---
  // First values of a trained or frozen tensor. `value` has elements of `from`; the master is the fp32 value if it is fp32.
  Status fill(TensorId tensor, const void* value, DType from);
  // to[i] = round16(master[i]): the 16-bit value, wherever its place holds a gradient. REQUIRES: 16-bit scheme, trained.
  Status rebuild_value(TensorId tensor, void* to);
  // The master takes over what was written to the parameter (design.md, decision 9). REQUIRES: as rebuild_value.
  Status reseed(TensorId tensor, const void* value);
  // Calls with consecutive runs of one state array.
  using StateVisitor = std::function<void(float* data, Elems begin, Elems elems)>;
  Status visit_state(TensorId tensor, StateKind kind, AccessMode mode, const StateVisitor& visit);

 private:
  ChunkManager* const manager_;
  const ModelScheme scheme_;
  ParallelFor parallel_for_;
  Layout layout_;
  std::vector<ChunkPayloads> chunks_;
  SplitUpdates split_;
  Bytes bytes_ = 0;
};

}  // namespace patrickstar::bridge
