// The limit of a measured step and what the simulator predicts for it, from its recorded trace, how long it computes and how
// fast the disk moved its transfers. Pure functions over core/sim.
#pragma once

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/trace/trace.h"

namespace patrickstar::cli {

struct StepFacts {
  Bytes budget = 0;
  Bytes reserve = 0;            // that the plan left free
  Nanos compute = 0;            // of a step that has everything at hand
  double bytes_per_second = 0;  // of the disk, with the step's own transfers
};

struct StepLimit {
  StepBounds bounds;               // limit, and its parts
  Nanos predicted = 0;             // step time of the planned policy in simulation
  Bytes ring = 0;                  // of the plan
  Bytes tightest_room = 0;         // c: for chunks, at the tightest moment
  Bytes model_data = 0;            // M
  double allowed_traffic() const;  // by the least: 1.05 + ring/(M - c)
  const char* name() const;        // "compute", "transfers", "window": which part is the limit
};

// The trace's compute is that of a step that was watched; each moment's is scaled so that their sum is `facts.compute`.
// Errors: kInvalidArgument: a trace that does not compute, or that no schedule fits into the budget; those of replay().
Result<StepLimit> limit_of(Trace trace, const StepFacts& facts);

}  // namespace patrickstar::cli
