// Follower: where in the planned step the run is. Each moment is matched against the trace; a deviation re-synchronises.
//
// [Note: deviations] The expected moment matches: the position moves by one. Else the moment may be one too many (an evaluation,
// a branch): the position stays. Or the run has jumped (a dropped layer, an evaluation that begins anew): if the next moment fits
// the place after a moment like this one, the position moves to the nearest such place ahead, going round the end of the step if
// need be. Positions are counted from the first step on and never go back. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

// Moments since the plan was made: cycle x moments of the step + moment.
using Position = std::int64_t;

class Follower {
 public:
  Follower() = default;
  explicit Follower(const Trace& trace);

  enum class Match { kExpected, kJumped, kUnknown };
  Match granted(std::span<const Access> accesses);

  // The last matched moment; -1 before the first.
  Position position() const { return position_; }
  std::size_t moment() const { return static_cast<std::size_t>(position_ % static_cast<Position>(hashes_.size())); }
  std::int64_t deviations() const { return deviations_; }  // ever
  // How far the run has been from the trace, ever: its deviations, and the moments that it passed by.
  std::int64_t distance() const { return deviations_ + skipped_; }
  // Calls f(moment) for each moment in (before, position()], each once: those that the last granted() passed by, its own
  // included.
  template <class F>
  void each_passed(Position before, F&& f) const {
    const auto n = static_cast<Position>(hashes_.size());
    for (Position p = std::max(before, position_ - n) + 1; p <= position_; ++p) f(static_cast<std::size_t>(p % n));
  }
  // The position of the payload's first use after `from`; -1 if the trace has none.
  Position next_use(PayloadId payload, Position from) const;

 private:
  std::uint64_t hash(std::span<const Access> accesses);
  std::uint64_t expected(Position position) const { return hashes_[static_cast<std::size_t>(position) % hashes_.size()]; }
  // The nearest position ahead whose moment is like `seen`, and the one before it like `before`; -1 if there is none.
  Position next_pair(std::uint64_t before, std::uint64_t seen) const;

  std::vector<std::uint64_t> hashes_;                                    // by moment
  std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> pairs_;  // by a moment's hash and the next one's, ascending
  std::vector<std::vector<std::uint32_t>> uses_;                         // by payload: moments, ascending
  std::vector<std::uint64_t> named_;                                     // by payload: the last call of hash() that named it
  std::uint64_t hash_calls_ = 0;
  Position position_ = -1;
  std::optional<std::uint64_t> unexpected_;  // the last moment, if it was: somewhere like it the run may have jumped to
  std::int64_t deviations_ = 0;
  std::int64_t skipped_ = 0;
};

}  // namespace patrickstar
