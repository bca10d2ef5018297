#include "patrickstar/core/policy/lfu.h"

namespace patrickstar {

Lfu::Use& Lfu::use_of(PayloadId payload) {
  if (uses_.size() <= payload.index()) uses_.resize(payload.index() + 1);
  return uses_[payload.index()];
}

void Lfu::track(PayloadId payload) {
  Use& use = use_of(payload);
  use.since = ++tracked_;
  candidates_.insert(payload, {-use.count, -use.since});
}

void Lfu::untrack(PayloadId payload) { candidates_.erase(payload); }

void Lfu::used(std::span<const Access> moment) {
  for (const Access& access : moment) {
    Use& use = use_of(access.payload);
    ++use.count;
    if (candidates_.contains(access.payload)) candidates_.change(access.payload, {-use.count, -use.since});
  }
}

std::optional<PayloadId> Lfu::victim() {
  if (candidates_.empty()) return std::nullopt;
  return candidates_.top();
}

}  // namespace patrickstar
