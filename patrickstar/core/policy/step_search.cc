#include "patrickstar/core/policy/step_search.h"

#include <algorithm>
#include <utility>

namespace patrickstar {

bool StepSearch::deviates(std::int64_t distance, std::size_t moments) {
  return distance > 2 + static_cast<std::int64_t>(moments) / 10;
}

void StepSearch::granted(std::span<const Access> accesses, const MomentFacts& facts) {
  if (state_ == State::kWatching) tracer_->granted(accesses, facts);
  if (state_ == State::kComparing) (void)follower_.granted(accesses);
}

std::optional<Trace> StepSearch::step_done(std::int64_t distance, std::size_t moments, const MomentFacts& facts) {
  ++steps_;
  const State before = std::exchange(state_, State::kIdle);
  if (before == State::kWatching) {
    watched_ = tracer_->finish(facts);
    if (watched_.moments.empty()) return std::nullopt;
    follower_ = Follower(watched_);
    state_ = State::kComparing;
    return std::nullopt;
  }
  if (before == State::kComparing) {
    const bool found = 2 * follower_.distance() < distance;
    patience_ = found && steps_ >= kLongServed ? 1 : std::min(2 * patience_, 64);
    if (found) {
      steps_ = 0;
      return std::move(watched_);
    }
  }
  const bool far = deviates(distance, moments);
  deviating_steps_ = far ? deviating_steps_ + 1 : 0;
  calm_steps_ = far ? 0 : calm_steps_ + 1;
  if (calm_steps_ >= kLongServed) patience_ = 1;
  if (deviating_steps_ < patience_) return std::nullopt;
  deviating_steps_ = 0;
  tracer_->restart();
  state_ = State::kWatching;
  return std::nullopt;
}

void StepSearch::stop() {
  state_ = State::kIdle;
  deviating_steps_ = 0;
}

}  // namespace patrickstar
