// FurthestNextUse: the candidate whose next use lies furthest ahead in a known trace gives way (Belady's MIN, but for sizes and
// write-backs). With chunks brought on demand it is what a policy can do that knows the future and does not act on it.
//
// It follows the run by a Follower. A payload that the trace never uses goes first, of several the one whose last lease ended
// longest ago. At a moment that the trace does not know, the position stays, and so does what is thought of all payloads.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "patrickstar/core/policy/eviction_policy.h"
#include "patrickstar/core/policy/follower.h"
#include "patrickstar/core/policy/payload_heap.h"

namespace patrickstar {

class FurthestNextUse final : public EvictionPolicy {
 public:
  explicit FurthestNextUse(Trace trace);  // REQUIRES: it has moments.

  std::string_view name() const override { return "furthest"; }
  void track(PayloadId payload) override;    // O(log candidates)
  void untrack(PayloadId payload) override;  // O(log candidates)
  // O(log) an access; a jump costs as much as the moments that it left out.
  void used(std::span<const Access> moment) override;
  std::optional<PayloadId> victim() override;  // O(1)

  const Follower& follower() const { return follower_; }
  std::int64_t order_steps() const { return candidates_.steps(); }

 private:
  using Key = std::pair<Position, std::int64_t>;  // of the next use; when it became a candidate, negative
  Key key_of(PayloadId payload) const;
  void refresh(PayloadId payload);

  const Trace trace_;
  Follower follower_;
  std::vector<std::int64_t> since_;  // by payload
  PayloadHeap<Key> candidates_;
  std::int64_t tracked_ = 0;  // ever: the clock
};

}  // namespace patrickstar
