// StepSearch: looks for another step to plan from, while a plan is followed from which steps deviate.
//
// [Note: another step] A stale plan is better than none: its victims are still used far ahead, and what it brings is mostly used
// (docs/orchestration.md has figures). So it is followed on while one step is watched, and the next step says whether the watched
// one would have been the better guide: at less than half of the distance. Steps that differ each time never are; after each
// such search, and after a plan that served for a few steps only, twice as many deviating steps must come in a row before the
// next, 64 at most, until as many in a row do not deviate as a plan serves that is no passing one. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "patrickstar/core/policy/follower.h"
#include "patrickstar/core/policy/tracer.h"

namespace patrickstar {

class StepSearch {
 public:
  // Traces by `tracer`, which outlives it and knows the payloads; nobody else uses it between granted() and step_done().
  explicit StepSearch(Tracer* tracer) : tracer_(tracer) {}

  void granted(std::span<const Access> accesses, const MomentFacts& facts);
  // A step ended that was so far from the plan's (Follower::distance), which has so many moments. The step to plan from instead,
  // if there is one.
  std::optional<Trace> step_done(std::int64_t distance, std::size_t moments, const MomentFacts& facts);
  // Whether that is too far to be the same step.
  static bool deviates(std::int64_t distance, std::size_t moments);
  // The plan is given up.
  void stop();

 private:
  enum class State : std::uint8_t { kIdle, kWatching, kComparing };
  static constexpr int kLongServed = 16;  // steps after which a plan is no passing one

  Tracer* const tracer_;
  State state_ = State::kIdle;
  Trace watched_;
  Follower follower_;        // of `watched_`, in the step after it
  int deviating_steps_ = 0;  // in a row
  int calm_steps_ = 0;       // likewise
  int patience_ = 1;         // how many begin a search
  int steps_ = kLongServed;  // since the last step was found
};

}  // namespace patrickstar
