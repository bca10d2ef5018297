#include "patrickstar/core/policy/lru.h"

#include "patrickstar/core/base/check.h"

namespace patrickstar {

Lru::Lru() : nodes_{{0, 0}} {}

void Lru::track(PayloadId payload) {
  const std::uint32_t node = payload.value + 1;
  while (nodes_.size() <= node)
    nodes_.push_back({static_cast<std::uint32_t>(nodes_.size()), static_cast<std::uint32_t>(nodes_.size())});
  PS_CHECK(nodes_[node].next == node);
  const std::uint32_t last = nodes_[0].previous;
  nodes_[node] = {last, 0};
  nodes_[last].next = node;
  nodes_[0].previous = node;
}

void Lru::untrack(PayloadId payload) {
  const std::uint32_t node = payload.value + 1;
  PS_CHECK(node < nodes_.size() && nodes_[node].next != node);
  nodes_[nodes_[node].previous].next = nodes_[node].next;
  nodes_[nodes_[node].next].previous = nodes_[node].previous;
  nodes_[node] = {node, node};
}

std::optional<PayloadId> Lru::victim() {
  if (nodes_[0].next == 0) return std::nullopt;
  return PayloadId(nodes_[0].next - 1);
}

}  // namespace patrickstar
