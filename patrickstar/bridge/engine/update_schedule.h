// UpdateSchedule: when the optimizer's updates run. Same bits whichever is chosen (UpdateQueue).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/optim/adamw.h"

namespace patrickstar::bridge {

class EngineCore;
class Parameter;

enum class UpdateTiming : std::uint8_t {
  // All updates run in step(), as in plain LibTorch. State streams while nothing is computed: the slowest where it lies on disk.
  kAtStep,
  // step() takes hyperparameters and gradients as they are; each tile is updated at the latest when its parameter is next
  // accessed, by whomever. What exact clipping needs. Between step() and that access a gradient in its parameter's place is
  // consumed. Everything that reads the parameter sees the new value.
  kDeferred,
  // Three quarters of the tiles are updated in backward, as soon as their gradients are complete; the rest as kDeferred.
  // CONDITIONS, which the caller answers for: one backward() a step; the learning rate and all other hyperparameters are set
  // before
  // backward(); gradients are neither read nor changed nor clipped between backward() and step(); every backward() is followed by
  // step(). A parameter that gets a second gradient, or is needed again in the backward after it was updated, raises an Error.
  kOverlapped,
};

class UpdateSchedule {
 public:
  // The factors of a parameter's next update, with its step counted; nothing when it is in no group.
  using TakeFactors = std::function<std::optional<AdamWFactors>(Parameter&)>;
  virtual ~UpdateSchedule() = default;
  // The parameter's gradient lies where it will stay. Throws Error.
  virtual void gradient_arrived(Parameter&) {}
  // step() of the optimizer. Throws Error: then step() again goes on where it stopped.
  virtual void step() = 0;
  // What a backward that failed half-way has left behind, to be said after the failure; empty: nothing to be said.
  virtual std::string after_a_failure() const { return ""; }
  // Whether gradients can be clipped between backward() and step().
  virtual bool can_clip() const { return true; }
};

// `core` outlives it.
std::unique_ptr<UpdateSchedule> make_update_schedule(UpdateTiming timing, EngineCore* core,
                                                     UpdateSchedule::TakeFactors take_factors);

}  // namespace patrickstar::bridge
