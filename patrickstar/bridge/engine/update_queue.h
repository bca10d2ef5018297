// UpdateQueue: updates that are due, run tile by tile: all at step(), or each at the latest when its parameter is next accessed.
//
// A parameter whose update is due keeps its gradient where it lies until its last tile is done; whoever accesses the parameter
// (or a gradient in a chunk of its own) has it completed first, so nobody ever sees an old value. The arithmetic of an element
// depends on its own gradient, state and factors only: the order of tiles does not change a bit.
//
// [Note: threads] Any thread may complete an update; one runs updates at a time. A thread that waits here while it holds leases
// of an enclosing operator cannot be seen by the manager's search for deadlocks: the wait for room then ends with its time-out.
#pragma once

#include <mutex>
#include <vector>

#include "patrickstar/bridge/engine/model_data.h"
#include "patrickstar/core/optim/adamw.h"

namespace patrickstar::bridge {

class EngineCore;

class UpdateQueue {
 public:
  explicit UpdateQueue(EngineCore* core) : core_(core) {}

  // The update of `tensor` from the gradient it has is due. REQUIRES: it has one and none is due.
  void put(TensorId tensor, const AdamWFactors& factors);
  bool due(TensorId tensor) const;
  // Runs one tile of a chunk: all that is due in it. Does nothing if nothing is.
  Status run_tile(ChunkId chunk, std::size_t tile);
  // Runs every tile that `tensor` has a part in.
  Status complete(TensorId tensor);
  Status complete_chunk(ChunkId chunk);
  Status complete_all();
  // Lets the parameter's passing gradient go; what tiles that are left were to read from it (`passing`, by tile of the tensor) is
  // copied into the parameter's place. False: it has one, but no update is due.
  bool settle(TensorId tensor, const std::vector<bool>& passing);
  // No update is put, run or ended meanwhile by another thread. Comes before EngineCore::gradient_places.
  std::unique_lock<std::recursive_mutex> lock() const { return std::unique_lock(mutex_); }
  // Whether the tensor's gradient lies in autograd's memory until step() or later, not only while its tiles pass.
  bool reads_kept(TensorId tensor) const;

 private:
  struct Update {
    bool due = false;
    AdamWFactors factors{};
    std::vector<bool> done;  // by tile, from the first that holds a part of the tensor
    std::size_t left = 0;    // tiles
  };
  Layout::TileSpan tiles_of(TensorId tensor) const;
  bool part_due(TensorId tensor, std::size_t tile) const;
  Status run_tile_locked(ChunkId chunk, std::size_t tile);

  EngineCore* const core_;
  mutable std::recursive_mutex mutex_;  // updated() of a parameter may ask due()
  std::vector<Update> updates_;         // by TensorId
};

}  // namespace patrickstar::bridge
