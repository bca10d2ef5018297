// Lru: the candidate whose last lease ended longest ago gives way. What is used before a trace exists.
#pragma once

#include <vector>

#include "patrickstar/core/policy/eviction_policy.h"

namespace patrickstar {

class Lru final : public EvictionPolicy {
 public:
  Lru();
  std::string_view name() const override { return "lru"; }
  void track(PayloadId payload) override;    // O(1)
  void untrack(PayloadId payload) override;  // O(1)
  void used(std::span<const Access>) override {}
  std::optional<PayloadId> victim() override;  // O(1)

 private:
  // A doubly linked list through a vector: node 0 is the ends, payload i is node i + 1; next == own index: not tracked.
  struct Node {
    std::uint32_t previous;
    std::uint32_t next;
  };
  std::vector<Node> nodes_;
};

}  // namespace patrickstar
