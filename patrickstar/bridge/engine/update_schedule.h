// UpdateSchedule: when the optimizer's updates run. Same bits whichever is chosen (UpdateQueue).
#pragma once

#include <functional>
#include <memory>
#include <optional>
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
  // step() of the optimizer. Throws Error.
  virtual void step() = 0;
  // Whether gradients can be clipped between backward() and step().
  virtual bool can_clip() const { return true; }
};

// `core` outlives it.
std::unique_ptr<UpdateSchedule> make_update_schedule(UpdateTiming timing, EngineCore* core,
                                                     UpdateSchedule::TakeFactors take_factors);

}  // namespace patrickstar::bridge
