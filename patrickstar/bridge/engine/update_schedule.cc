#include "patrickstar/bridge/engine/update_schedule.h"

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "patrickstar/bridge/engine/engine_core.h"
#include "patrickstar/bridge/engine/error.h"

namespace patrickstar::bridge {
namespace {

// Puts every update that has a gradient into the queue.
class Deferred : public UpdateSchedule {
 public:
  Deferred(EngineCore* core, TakeFactors take_factors) : core_(core), take_factors_(std::move(take_factors)) {}

  void step() override {
    for (const auto& parameter : core_->parameters()) {
      if (!parameter->has_gradient() || parameter->updated_in_backward) continue;
      throw_if_error(core_->updates().complete(parameter->id()));  // from the step before: the same gradient once more, as torch
      put(*parameter);
    }
    // A gradient that autograd's own memory holds would go with zero_grad(); there everything is at hand anyway.
    for (const auto& parameter : core_->parameters()) {
      if (parameter->gradient_beside() != nullptr) throw_if_error(core_->updates().complete(parameter->id()));
    }
  }

 protected:
  // False: it is in no group of this optimizer.
  bool put(Parameter& parameter) {
    throw_if_error(parameter.take_over_writes());
    const auto factors = take_factors_(parameter);
    if (!factors.has_value()) return false;
    core_->updates().put(parameter.id(), *factors);
    parameter.update_put();
    return true;
  }
  EngineCore& core() { return *core_; }

 private:
  EngineCore* const core_;
  const TakeFactors take_factors_;
};

class AtStep final : public Deferred {
 public:
  using Deferred::Deferred;
  void step() override {
    Deferred::step();
    throw_if_error(core().updates().complete_all());
  }
};

class Overlapped final : public Deferred {
 public:
  using Deferred::Deferred;

  void gradient_arrived(Parameter& parameter) override {
    if (parameter.updated_in_backward) {
      throw Error(Status(
          StatusCode::kInvalidArgument,
          "[optimizer] " + parameter.name() +
              " got a second gradient before step(): updates overlapped with backward "
              "take one backward() a step and no re-entrant checkpointing across a shared parameter; use deferred updates"));
    }
    if (!put(parameter)) return;
    parameter.updated_in_backward = true;
    if (parameter.gradient_beside() != nullptr) return throw_if_error(core().updates().complete(parameter.id()));
    ModelData& data = core().data();
    const ChunkId chunk = data.layout().place(parameter.id()).chunk;
    const auto& tiles = data.chunk(chunk).tiles;
    for (std::size_t i = 0; i < tiles.size(); ++i) {
      if (waits_for_forward(tiles[i].payload)) continue;
      const std::vector<Segment> segments = data.layout().segments(tiles[i].range);
      // Once for all its tensors: a tile that is run for each of them in turn would be moved as often.
      const bool complete = std::all_of(segments.begin(), segments.end(),
                                        [&](const Segment& segment) { return core().updates().due(segment.tensor); });
      const bool mine =
          std::any_of(segments.begin(), segments.end(), [&](const Segment& segment) { return segment.tensor == parameter.id(); });
      if (complete && mine) throw_if_error(core().updates().run_tile(chunk, i));
    }
  }

  void step() override {
    Deferred::step();
    for (const auto& parameter : core().parameters()) parameter->updated_in_backward = false;
  }

  bool can_clip() const override { return false; }
};

}  // namespace

std::unique_ptr<UpdateSchedule> make_update_schedule(UpdateTiming timing, EngineCore* core,
                                                     UpdateSchedule::TakeFactors take_factors) {
  switch (timing) {
    case UpdateTiming::kAtStep: return std::make_unique<AtStep>(core, std::move(take_factors));
    case UpdateTiming::kDeferred: return std::make_unique<Deferred>(core, std::move(take_factors));
    case UpdateTiming::kOverlapped: break;
  }
  return std::make_unique<Overlapped>(core, std::move(take_factors));
}

}  // namespace patrickstar::bridge
