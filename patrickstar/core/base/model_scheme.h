// How a model is kept and trained, in the words that layout, traces and the engine share. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "patrickstar/core/base/dtype.h"
#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

enum class Training : std::uint8_t { kTrained, kFrozen };

struct TensorSpec {
  std::string name;
  Elems elems = 0;
  Training training = Training::kTrained;

  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

enum class GradientPlacement : std::uint8_t {
  kInParameter,  // a 16-bit gradient takes the place of its parameter's bytes, which are dead by then
  kOwnChunks,    // accumulation over micro-batches, or fp32 training
};

// Two schemes: 16-bit parameters with an fp32 master beside exp_avg and exp_avg_sq, and fp32 parameters with the two moments.
struct ModelScheme {
  DType dtype = DType::kBFloat16;
  GradientPlacement gradients = GradientPlacement::kInParameter;

  constexpr int states() const { return dtype == DType::kFloat32 ? 2 : 3; }  // fp32 arrays of a tile
  constexpr bool gradient_chunks() const { return gradients == GradientPlacement::kOwnChunks; }
  friend bool operator==(const ModelScheme&, const ModelScheme&) = default;
};

enum class UpdateTiming : std::uint8_t {
  // All updates run in step(), as in plain LibTorch. State streams while nothing is computed: the slowest where it lies on disk.
  kAtStep,
  // step() takes hyperparameters and gradients as they are; each tile is updated at the latest when its parameter is next
  // accessed, by whomever. What exact clipping needs. Between step() and that access a gradient in its parameter's place is
  // consumed. Everything that reads the parameter sees the new value.
  kDeferred,
  // Some three quarters of the tiles (SplitUpdates) are updated in backward, as soon as their gradients are complete; the rest as
  // kDeferred.
  // CONDITIONS, which the caller answers for: one backward() a step; the learning rate and all other hyperparameters are set
  // before
  // backward(); gradients are neither read nor changed nor clipped between backward() and step(); every backward() is followed by
  // step(); no operator of another thread uses the model during backward(). A parameter that gets a second gradient, or is needed
  // again in the backward after it was updated, raises an Error.
  kOverlapped,
};

// With kOverlapped: which tiles are left to their parameters' next use. A quarter is, so that the disk has as much to do in
// forward as in backward (the split schedule): every fourth tile in the order of their chunks. Where gradients have chunks of
// their own, all tiles of a chunk or none: one tile that waits would keep the gradients of its whole chunk over the step's end.
// Fewer than a quarter where chunks are few.
class SplitUpdates {
 public:
  explicit SplitUpdates(const ModelScheme& scheme) : by_chunk_(scheme.gradient_chunks()) {}
  // The next chunk has so many tiles. By tile: whether it waits for forward.
  std::vector<bool> next_chunk(std::size_t tiles) {
    std::vector<bool> waits(tiles);
    if (by_chunk_) {
      const bool all = 4 * (waiting_ + tiles) <= seen_ + tiles;
      waits.assign(tiles, all);
      if (all) waiting_ += tiles;
    } else {
      for (std::size_t i = 0; i < tiles; ++i) waits[i] = (seen_ + i) % 4 == 3;
    }
    seen_ += tiles;
    return waits;
  }

 private:
  bool by_chunk_;
  std::size_t seen_ = 0;     // tiles
  std::size_t waiting_ = 0;  // of these, where whole chunks wait
};

}  // namespace patrickstar
