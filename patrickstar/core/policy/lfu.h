// Lfu: the candidate that was used least often gives way; of those used equally often, the one whose last lease ended longest
// ago. It counts for ever: what was used much in the past stays for long, also if nobody needs it any more.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "patrickstar/core/policy/eviction_policy.h"
#include "patrickstar/core/policy/payload_heap.h"

namespace patrickstar {

class Lfu final : public EvictionPolicy {
 public:
  std::string_view name() const override { return "lfu"; }
  void track(PayloadId payload) override;              // O(log candidates)
  void untrack(PayloadId payload) override;            // O(log candidates)
  void used(std::span<const Access> moment) override;  // O(1) an access; O(log candidates) if it is a candidate
  std::optional<PayloadId> victim() override;          // O(1)
  std::int64_t order_steps() const { return candidates_.steps(); }

 private:
  // Both negative, as the greatest goes first: how often it was used, when it became a candidate.
  using Key = std::pair<std::int64_t, std::int64_t>;
  struct Use {
    std::int64_t count = 0;
    std::int64_t since = 0;
  };
  Use& use_of(PayloadId payload);

  std::vector<Use> uses_;  // by payload
  PayloadHeap<Key> candidates_;
  std::int64_t tracked_ = 0;  // ever: the clock
};

}  // namespace patrickstar
