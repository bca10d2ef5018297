#include "patrickstar/core/policy/follower.h"

#include <algorithm>

namespace patrickstar {
namespace {

Position next_in(const std::vector<std::uint32_t>& moments, std::size_t step, Position after) {
  if (moments.empty()) return -1;
  const auto n = static_cast<Position>(step);
  const Position from = after + 1;
  const auto found = std::lower_bound(moments.begin(), moments.end(), static_cast<std::uint32_t>(from % n));
  if (found != moments.end()) return from / n * n + *found;
  return (from / n + 1) * n + moments.front();
}

}  // namespace

// Independent of order and of how often a payload is named; whether it is written does not matter: the bytes needed are the same.
std::uint64_t Follower::hash(std::span<const Access> accesses) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < accesses.size(); ++i) {
    bool seen = false;
    for (std::size_t j = 0; j < i; ++j) seen = seen || accesses[j].payload == accesses[i].payload;
    if (seen) continue;
    std::uint64_t x = accesses[i].payload.value + 0x9E3779B97F4A7C15ULL;  // splitmix64's mixing
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    sum += x ^ (x >> 31);
  }
  return sum;
}

Follower::Follower(const Trace& trace) : uses_(trace.payloads.size()) {
  for (std::uint32_t m = 0; m < trace.moments.size(); ++m) {
    hashes_.push_back(hash(trace.at(m)));
    moments_of_[hashes_.back()].push_back(m);
    for (const Access& access : trace.at(m)) uses_[access.payload.index()].push_back(m);
  }
}

Position Follower::next_use(PayloadId payload, Position from) const {
  return payload.index() < uses_.size() ? next_in(uses_[payload.index()], hashes_.size(), from) : -1;
}

// Of all moments like `before`, not only the next one: a step goes through its layers forward and back, so each is met twice.
Position Follower::next_pair(std::uint64_t before, std::uint64_t seen) const {
  const auto found = moments_of_.find(before);
  if (found == moments_of_.end()) return -1;
  const auto n = static_cast<Position>(hashes_.size());
  const Position from = position_ + 1;
  Position nearest = -1;
  for (const std::uint32_t moment : found->second) {
    if (expected(moment + 1) != seen) continue;
    const Position position = from + (moment - from % n + n) % n;
    if (nearest < 0 || position < nearest) nearest = position;
  }
  return nearest < 0 ? -1 : nearest + 1;
}

Follower::Match Follower::granted(std::span<const Access> accesses) {
  const std::uint64_t seen = hash(accesses);
  if (expected(position_ + 1) == seen) {
    ++position_;
    unexpected_.reset();
    return Match::kExpected;
  }
  ++deviations_;
  const Position jumped = unexpected_.has_value() ? next_pair(*unexpected_, seen) : -1;
  if (jumped >= 0) {
    position_ = jumped;
    unexpected_.reset();
    return Match::kJumped;
  }
  unexpected_ = seen;
  return Match::kUnknown;
}

}  // namespace patrickstar
