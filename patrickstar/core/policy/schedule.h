// Schedule: what the manager asks about the future. It tells what happened and asks what to bring, what to keep, and when a
// plan exists whom to let go; a Schedule moves nothing itself.
//
// Every call comes with the manager's lock held: no locking, no calling back, no scan over all payloads per call (but for
// step_done). Without a Schedule chunks come when they are asked for and go by the level's EvictionPolicy.
#pragma once

#include <optional>
#include <span>

#include "patrickstar/core/base/units.h"
#include "patrickstar/core/trace/access.h"

namespace patrickstar {

// What the manager saw between the moment before and this one.
struct MomentFacts {
  Bytes non_model = 0;  // most bytes on the compute tier that were not chunks
  Nanos compute = 0;    // time that nobody waited for the manager
};

class Schedule {
 public:
  struct Want {
    PayloadId payload;
    Bytes room = 0;  // what all chunks on the compute tier may take together now, it included
    Bytes left = 0;  // at every moment until its use: for it and for what is on its way out now
  };
  virtual ~Schedule() = default;

  virtual void added(PayloadId payload, PayloadKind kind, Bytes bytes) = 0;
  virtual void removed(PayloadId payload) = 0;
  // These were granted together: a moment.
  virtual void granted(std::span<const Access> accesses, const MomentFacts& facts) = 0;
  // No lease holds it: whether its copy on the compute tier should stay.
  virtual bool keep(PayloadId payload) const = 0;
  // The policy would let it go first: whether it may go already for what is wanted.
  virtual bool surplus(PayloadId payload) const = 0;
  // What to bring next, if anything; the same answer until brought() or another call changes it.
  virtual std::optional<Want> want() = 0;
  // The wanted payload is on its way, there already, or cannot be brought.
  virtual void brought(PayloadId payload) = 0;
  // It had to leave for room although keep() said otherwise, or before it was used.
  virtual void evicted(PayloadId payload) = 0;
  // A training step ended; the facts are of the time since the last moment.
  virtual void step_done(const MomentFacts& facts) = 0;
};

}  // namespace patrickstar
