// EvictionPolicy: which candidate gives way. Values in, victims out; it owns no memory and moves nothing.
//
// A candidate is a copy that is on the tier, held by no lease and part of no transfer. The manager tracks a payload when it
// becomes one and untracks it when it stops. Called with the manager's lock held: no locking, no calling back, no scan over
// all candidates per call.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "patrickstar/core/trace/access.h"

namespace patrickstar {

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  virtual std::string_view name() const = 0;
  // `payload` is a candidate from now on: a lease on it ended or it just arrived. REQUIRES: not tracked.
  virtual void track(PayloadId payload) = 0;
  // It is none any more. REQUIRES: tracked.
  virtual void untrack(PayloadId payload) = 0;
  // These were leased together: a moment of the step, for policies that learn from it. On the compute tier they are no candidates
  // then, on a tier beneath they may be.
  virtual void used(std::span<const Access> moment) = 0;
  // The candidate that should go first; it stays tracked. Nothing when there is none.
  virtual std::optional<PayloadId> victim() = 0;
};

}  // namespace patrickstar
