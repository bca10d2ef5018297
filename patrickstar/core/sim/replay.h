// replay(): runs the real ChunkManager over the trace of a step, on a virtual clock: host memory and a disk that only count.
// What it says of a policy depends on nothing but its arguments: the same run gives the same figures, on any machine.
//
// Before the first step every payload is created (kCreate) in the order of first use, and everything comes to rest; that is not
// counted. Then, at each moment: the non-model bytes become the moment's, with room made for them; its accesses are acquired;
// the clock moves by its compute, while transfers end; they are released.
#pragma once

#include <functional>
#include <vector>

#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/policy/registry.h"
#include "patrickstar/core/sim/sim_link.h"
#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

struct ReplayOptions {
  Bytes host_budget = 0;               // chunks and non-model bytes together
  SimLinkOptions disk;                 // which never fills up
  std::vector<SlowSpell> slow_spells;  // of the disk; times count from the begin of the first step
  int steps = 3;

  // Called with the manager's options before it is made: here a run gets its policy and its schedule. Whatever they point to
  // outlives the run. Without it: LRU and no schedule.
  std::function<void(ChunkManagerOptions*)> configure;
  // Called after each grant with the moment's index, for drivers that fetch ahead by hand; may be empty.
  std::function<void(ChunkManager*, std::size_t)> granted;
  // For steps that differ: the trace of step 0, 1, ... instead of `trace`, whose payloads it shares; may be empty. REQUIRES: the
  // payloads are those of `trace`, and each is accessed in `trace`.
  std::function<const Trace*(int)> trace_of_step;
  // Called after the last release of each step; may be empty.
  std::function<void(ChunkManager*)> step_done;
};

struct StepReport {
  Nanos time = 0;
  Nanos stall = 0;    // waiting for payloads and for room: time - stall is the trace's compute
  Bytes read = 0;     // from disk
  Bytes written = 0;  // to disk
  std::int64_t accesses = 0;
  std::int64_t misses = 0;

  double hit_rate() const { return accesses == 0 ? 1 : 1 - static_cast<double>(misses) / static_cast<double>(accesses); }
  friend bool operator==(const StepReport&, const StepReport&) = default;
};

struct ReplayReport {
  std::vector<StepReport> steps;
  Bytes peak = 0;  // of all host memory, ever
};

// The run's compute tier is the policy's, which `deciding` gives away; its schedule, if it has one, stays there and outlives the
// run.
void decide_by(PolicySet* deciding, ReplayOptions* options);

// Errors: kInvalidArgument (a payload's length is no multiple of kPayloadAlignment, an access names none); those of
// ChunkManager::acquire and make_room, with step and moment.
Result<ReplayReport> replay(const Trace& trace, const ReplayOptions& options);

}  // namespace patrickstar
