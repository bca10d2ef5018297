#include "patrickstar/core/policy/orchestrator.h"

#include <algorithm>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/policy/lru.h"
#include "patrickstar/core/policy/payload_heap.h"

namespace patrickstar {
namespace {

constexpr int kMostReserveRises = 9;  // half as much again each time

}  // namespace

// By the plan: first what is done with, then what was brought ahead, then what is kept; in each the furthest next use first.
class Orchestrator::Policy final : public EvictionPolicy {
 public:
  explicit Policy(Orchestrator* orchestrator) : orchestrator_(orchestrator) { orchestrator_->policy_ = this; }
  ~Policy() override { orchestrator_->policy_ = nullptr; }
  std::string_view name() const override { return "planned"; }
  void track(PayloadId payload) override {
    lru_.track(payload);
    if (tracked_.size() <= payload.index()) tracked_.resize(payload.index() + 1, false);
    tracked_[payload.index()] = true;
    if (orchestrator_->following_) order_.insert(payload, orchestrator_->eviction_key(payload));
  }
  void untrack(PayloadId payload) override {
    lru_.untrack(payload);
    tracked_[payload.index()] = false;
    if (orchestrator_->following_) order_.erase(payload);
  }
  void used(std::span<const Access>) override {}
  std::optional<PayloadId> victim() override {
    if (!orchestrator_->following_) return lru_.victim();
    if (order_.empty()) return std::nullopt;
    return order_.top();
  }
  // The plan is another: so is every key.
  void rebuild() {
    order_.clear();
    if (!orchestrator_->following_) return;
    for (std::size_t i = 0; i < tracked_.size(); ++i) {
      if (tracked_[i]) order_.insert(PayloadId(i), orchestrator_->eviction_key(PayloadId(i)));
    }
  }
  std::int64_t steps() const { return order_.steps(); }
  void changed(PayloadId payload) {
    if (order_.contains(payload)) order_.change(payload, orchestrator_->eviction_key(payload));
  }

 private:
  Orchestrator* const orchestrator_;
  Lru lru_;
  std::vector<bool> tracked_;
  PayloadHeap<Position> order_;
};

Orchestrator::Orchestrator(const OrchestratorOptions& options) : options_(options), first_reserve_(options.reserve) {}

Orchestrator::~Orchestrator() { PS_CHECK(policy_ == nullptr); }

std::unique_ptr<EvictionPolicy> Orchestrator::make_policy() {
  PS_CHECK(policy_ == nullptr);
  return std::make_unique<Policy>(this);
}

OrchestratorStats Orchestrator::stats() const {
  OrchestratorStats stats = stats_;
  stats.following = following_;
  stats.deviations = earlier_deviations_ + follower_.deviations();
  stats.reserve = options_.reserve;
  stats.planned_read = plan_.read_bytes;
  stats.planned_written = plan_.write_bytes;
  stats.order_steps = policy_ != nullptr ? policy_->steps() : 0;
  return stats;
}

Position Orchestrator::eviction_key(PayloadId payload) const {
  const Position next = follower_.next_use(payload, follower_.position());
  if (next < 0) return INT64_MAX;  // the plan does not know it
  const Role role = payload.index() < roles_.size() ? roles_[payload.index()] : Role::kKept;
  return next + steps(role == Role::kKept ? 0 : role == Role::kAhead ? 1 : 2);
}

// --- what happened ----------------------------------------------------------------------------------------------------------

void Orchestrator::added(PayloadId payload, PayloadKind kind, Bytes bytes) {
  tracer_.added(payload, kind, bytes);
  if (roles_.size() <= payload.index()) roles_.resize(payload.index() + 1, Role::kKept);
  if (ahead_.size() <= payload.index()) ahead_.resize(payload.index() + 1);
}

void Orchestrator::removed(PayloadId payload) {
  tracer_.removed(payload);
  if (following_) {
    watch();
  } else if (tracer_.moments() > 0) {
    watch_from_next_step();  // this step may have used it, so no plan is made from it
  }
}

void Orchestrator::granted(std::span<const Access> accesses, const MomentFacts& facts) {
  if (!following_) {
    // A model that fits is not worth watching for ever.
    if (saw_eviction_ || watched_steps_ < options_.warm_up_steps) tracer_.granted(accesses, facts);
    return;
  }
  search_.granted(accesses, facts);
  hold_ = false;
  if (on_track_) peaks_.saw(follower_.moment(), facts.non_model);
  const Position before = follower_.position();
  const auto match = follower_.granted(accesses);
  const Position now = follower_.position();
  const bool begins = now >= 0 && (before < 0 || now / steps(1) > before / steps(1));
  if (begins && !std::exchange(step_ended_, false)) {
    peaks_.forget_pass();
    kept_gave_way_ = false;
  }
  on_track_ = match != Follower::Match::kUnknown;
  if (!on_track_) return;
  const Moment& moment = plan_.trace.moments[follower_.moment()];
  for (std::uint32_t i = 0; i < moment.count; ++i) {
    const PayloadId payload = plan_.trace.accesses[moment.first + i].payload;
    give_room_back(payload);
    roles_[payload.index()] = plan_.keep[moment.first + i] != 0 ? Role::kKept : Role::kDone;
  }
  // (The next fetch needs no care: the position never goes back, and want() leaves out what was passed by.)
  if (match == Follower::Match::kExpected || policy_ == nullptr) return;
  follower_.each_passed(before, [&](std::size_t passed) {  // only what is used there has another next use now
    for (const Access& access : plan_.trace.at(passed)) policy_->changed(access.payload);
  });
}

bool Orchestrator::keep(PayloadId payload) const { return !following_ || !on_track_ || roles_[payload.index()] != Role::kDone; }

// What the plan does not know might stay for ever: nobody waits for its room, so nothing forces it out.
bool Orchestrator::surplus(PayloadId payload) const {
  if (!following_ || !on_track_) return false;
  return roles_[payload.index()] == Role::kDone || follower_.next_use(payload, follower_.position()) < 0;
}

void Orchestrator::evicted(PayloadId payload) {
  if (!saw_eviction_ && watched_steps_ >= options_.warm_up_steps) watch_from_next_step();  // it had stopped
  saw_eviction_ = true;
  if (!following_) return;
  ++stats_.forced;
  hold_ = true;
  give_room_back(payload);
  const Position next = follower_.next_use(payload, follower_.position());
  if (next >= 0) again_.emplace(next, payload);
  if (roles_[payload.index()] == Role::kKept && next >= 0 && on_track_) kept_gave_way_ = true;
}

// --- what to bring ----------------------------------------------------------------------------------------------------------

Position Orchestrator::fetch_position() const {
  return fetch_cycle_ * static_cast<Position>(plan_.trace.moments.size()) + plan_.fetches[next_fetch_].moment;
}

std::optional<Schedule::Want> Orchestrator::want() {
  if (!following_ || hold_) return std::nullopt;
  const Position now = follower_.position();
  while (!again_.empty() && again_.begin()->first <= now) again_.erase(again_.begin());
  const auto skip = [&] {
    if (++next_fetch_ < plan_.fetches.size()) return;
    next_fetch_ = 0;
    ++fetch_cycle_;
  };
  Position position = -1;
  if (!plan_.fetches.empty()) {
    while (fetch_position() <= now) skip();
    position = fetch_position();
    // Its use before that is still to come: bringing it now would be for that one.
    if (position - static_cast<Position>(plan_.fetches[next_fetch_].previous) > now) position = -1;
  }
  want_again_ = !again_.empty() && (position < 0 || again_.begin()->first <= position);
  if (want_again_) position = again_.begin()->first;
  if (position < 0 || position - now >= steps(1)) return std::nullopt;
  const Position from = std::max<Position>(now, 0);
  const auto n = static_cast<Position>(plan_.trace.moments.size());
  const auto moment = static_cast<std::size_t>(from % n);
  const PayloadId payload = want_again_ ? again_.begin()->second : plan_.fetches[next_fetch_].payload;
  want_position_ = position;
  const Bytes left = position > from ? left_.room_in(moment, static_cast<std::size_t>(position - from)) : plan_.left[moment];
  return Want{payload, plan_.room[moment], left - Plan::write_back_room(plan_.ring)};
}

void Orchestrator::give_room_back(PayloadId payload) {
  Ahead& ahead = ahead_[payload.index()];
  if (ahead.until < 0) return;
  const auto n = static_cast<Position>(plan_.trace.moments.size());
  left_.take_in(static_cast<std::size_t>(ahead.from % n), static_cast<std::size_t>(ahead.until - ahead.from),
                -plan_.trace.bytes_of(payload));
  ahead.until = -1;
}

void Orchestrator::brought(PayloadId payload) {
  if (roles_[payload.index()] == Role::kDone) {
    roles_[payload.index()] = Role::kAhead;
    if (policy_ != nullptr) policy_->changed(payload);
  }
  const Position from = std::max<Position>(follower_.position(), 0);
  if (want_position_ > from) {
    give_room_back(payload);
    const auto n = static_cast<Position>(plan_.trace.moments.size());
    left_.take_in(static_cast<std::size_t>(from % n), static_cast<std::size_t>(want_position_ - from),
                  plan_.trace.bytes_of(payload));
    ahead_[payload.index()] = {from, want_position_};
  }
  if (want_again_) {
    again_.erase(again_.begin());
  } else if (++next_fetch_ == plan_.fetches.size()) {
    next_fetch_ = 0;
    ++fetch_cycle_;
  }
}

// --- plans ------------------------------------------------------------------------------------------------------------------

void Orchestrator::follow(Trace trace) {
  plan_ = make_plan(
      std::move(trace),
      {.budget = options_.budget, .reserve = options_.reserve, .ring = options_.ring, .spread_by_time = options_.spread_by_time});
  ++stats_.plans;
  left_ = Occupancy(plan_.left);
  earlier_deviations_ += follower_.deviations();
  follower_ = Follower(plan_.trace);
  roles_.assign(std::max(roles_.size(), plan_.trace.payloads.size()), Role::kKept);
  // As if a step had just ended: what a payload is there for is what its last use in the step says.
  for (std::size_t a = 0; a < plan_.trace.accesses.size(); ++a) {
    roles_[plan_.trace.accesses[a].payload.index()] = plan_.keep[a] != 0 ? Role::kKept : Role::kAhead;
  }
  ahead_.assign(roles_.size(), {});
  peaks_.planned(plan_.trace);
  following_ = step_ended_ = true;
  on_track_ = hold_ = want_again_ = kept_gave_way_ = false;
  next_fetch_ = 0;
  fetch_cycle_ = 0;
  again_.clear();
  deviations_before_ = 0;
  if (policy_ != nullptr) policy_->rebuild();
}

void Orchestrator::watch() {
  following_ = false;
  watch_from_next_step();
  search_.stop();
  tracer_.restart();
  ++stats_.retraces;
  earlier_deviations_ += follower_.deviations();
  follower_ = Follower();
  if (policy_ != nullptr) policy_->rebuild();
}

void Orchestrator::begin_reserve_anew() {
  options_.reserve = first_reserve_;
  reserve_rises_ = 0;
}

void Orchestrator::step_done(const MomentFacts& facts) {
  if (!following_) {
    Trace trace = tracer_.finish(facts);
    ++watched_steps_;
    if (saw_eviction_ && watched_steps_ >= options_.warm_up_steps && !trace.moments.empty()) follow(std::move(trace));
    return;
  }
  if (on_track_) peaks_.saw(follower_.moment(), facts.non_model);
  const std::int64_t deviations = follower_.distance() - deviations_before_;
  deviations_before_ = follower_.distance();
  const bool calm = !StepSearch::deviates(deviations, plan_.trace.moments.size());
  const bool gave_way = std::exchange(kept_gave_way_, false);
  const Bytes quantum = options_.budget / 200;
  const auto needs = peaks_.step_done(calm, quantum, plan_.ring, &plan_.trace);
  step_ended_ = true;
  if (auto other = search_.step_done(deviations, plan_.trace.moments.size(), facts)) {
    ++stats_.retraces;
    begin_reserve_anew();
    follow(std::move(*other));
  } else if (needs == NonModelPeaks::Verdict::kLessForGood) {
    ++stats_.retraces;
    begin_reserve_anew();
    follow(std::move(plan_.trace));
  } else if (gave_way && needs == NonModelPeaks::Verdict::kMore) {
    follow(std::move(plan_.trace));
  } else if (gave_way && reserve_rises_ < kMostReserveRises) {
    ++reserve_rises_;
    options_.reserve += std::max<Bytes>(options_.reserve / 2, quantum);
    follow(std::move(plan_.trace));
  }
}

}  // namespace patrickstar
