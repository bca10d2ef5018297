#include "patrickstar/core/policy/furthest_next_use.h"

#include "patrickstar/core/base/check.h"

namespace patrickstar {

FurthestNextUse::FurthestNextUse(Trace trace) : trace_(std::move(trace)), follower_(trace_) { PS_CHECK(!trace_.moments.empty()); }

FurthestNextUse::Key FurthestNextUse::key_of(PayloadId payload) const {
  const Position next = follower_.next_use(payload, follower_.position());
  return {next < 0 ? INT64_MAX : next, -since_[payload.index()]};
}

void FurthestNextUse::track(PayloadId payload) {
  if (since_.size() <= payload.index()) since_.resize(payload.index() + 1);
  since_[payload.index()] = ++tracked_;
  candidates_.insert(payload, key_of(payload));
}

void FurthestNextUse::untrack(PayloadId payload) { candidates_.erase(payload); }

void FurthestNextUse::refresh(PayloadId payload) {
  if (candidates_.contains(payload)) candidates_.change(payload, key_of(payload));
}

// Other payloads' next use is where it was: only what is used in the moments passed by has another one now.
void FurthestNextUse::used(std::span<const Access> moment) {
  const Position before = follower_.position();
  if (follower_.granted(moment) == Follower::Match::kUnknown) return;
  follower_.each_passed(before, [&](std::size_t passed) {
    for (const Access& access : trace_.at(passed)) refresh(access.payload);
  });
}

std::optional<PayloadId> FurthestNextUse::victim() {
  if (candidates_.empty()) return std::nullopt;
  return candidates_.top();
}

}  // namespace patrickstar
