// UpdateSchedule: when the optimizer's updates run. Same bits whichever is chosen (UpdateQueue).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "patrickstar/core/base/model_scheme.h"
#include "patrickstar/core/optim/adamw.h"

namespace patrickstar::bridge {

class EngineCore;
class Parameter;

using patrickstar::UpdateTiming;

class UpdateSchedule {
 public:
  // The factors of a parameter's next update, with its step counted; nothing when it is in no group.
  using TakeFactors = std::function<std::optional<AdamWFactors>(Parameter&)>;
  virtual ~UpdateSchedule() = default;
  // The parameter's gradient lies where it will stay. Throws Error.
  virtual void gradient_arrived(Parameter&) {}
  // What gradient_arrived() would run at once if it were called now: by tile of the parameter, from its first. Empty: nothing.
  virtual std::vector<bool> runs_on_arrival(const Parameter&) const { return {}; }
  // Whether gradient_arrived() may run updates.
  virtual bool updates_in_backward() const { return false; }
  // step() of the optimizer. Throws Error: then step() again goes on where it stopped.
  virtual void step() = 0;
  // What a backward that failed half-way has left behind, to be said after the failure; empty: nothing to be said.
  virtual std::string after_a_failure() const { return ""; }
  // True once, after a backward that began updates and did not come to its end, whatever threw in it. Not
  // noticed where a backward nested in it (re-entrant checkpointing) or concurrent with it ended and no gradient arrived since.
  virtual bool take_broken_off() { return false; }
  // Whether gradients can be clipped between backward() and step().
  virtual bool can_clip() const { return true; }
};

// `core` outlives it.
std::unique_ptr<UpdateSchedule> make_update_schedule(UpdateTiming timing, EngineCore* core,
                                                     UpdateSchedule::TakeFactors take_factors);

}  // namespace patrickstar::bridge
