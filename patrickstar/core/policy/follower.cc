#include "patrickstar/core/policy/follower.h"

#include <algorithm>
#include <utility>

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

std::uint64_t mixed(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

std::uint64_t pair_of(std::uint64_t first, std::uint64_t second) { return mixed(first) ^ second; }

}  // namespace

// Independent of order and of how often a payload is named; whether it is written does not matter: the bytes needed are the same.
std::uint64_t Follower::hash(std::span<const Access> accesses) {
  ++hash_calls_;
  std::uint64_t sum = 0;
  for (const Access& access : accesses) {
    if (named_.size() <= access.payload.index()) named_.resize(access.payload.index() + 1, 0);
    if (std::exchange(named_[access.payload.index()], hash_calls_) == hash_calls_) continue;
    sum += mixed(access.payload.value);
  }
  return sum;
}

Follower::Follower(const Trace& trace) : uses_(trace.payloads.size()), named_(trace.payloads.size(), 0) {
  for (std::uint32_t m = 0; m < trace.moments.size(); ++m) {
    hashes_.push_back(hash(trace.at(m)));
    for (const Access& access : trace.at(m)) uses_[access.payload.index()].push_back(m);
  }
  for (std::uint32_t m = 0; m < hashes_.size(); ++m) pairs_[pair_of(hashes_[m], expected(m + 1))].push_back(m);
}

Position Follower::next_use(PayloadId payload, Position from) const {
  return payload.index() < uses_.size() ? next_in(uses_[payload.index()], hashes_.size(), from) : -1;
}

// Of all moments like `before`, not only the next one: a step goes through its layers forward and back, so each is met twice.
Position Follower::next_pair(std::uint64_t before, std::uint64_t seen) const {
  const auto found = pairs_.find(pair_of(before, seen));
  return found == pairs_.end() ? -1 : next_in(found->second, hashes_.size(), position_) + 1;
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
    skipped_ += jumped - position_ - 2;  // the one before it was seen, too
    position_ = jumped;
    unexpected_.reset();
    return Match::kJumped;
  }
  unexpected_ = seen;
  return Match::kUnknown;
}

}  // namespace patrickstar
