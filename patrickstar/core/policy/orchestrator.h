// Orchestrator: watches one step, plans, and has every chunk in place before it is touched.
//
// It watches while chunks come and go by LRU. Once something had to be evicted and a whole step has been seen it makes a Plan and
// follows it: payloads that the plan does not keep leave after their last use, and come back in the order of use as far ahead as
// the room until their use allows. A deviation re-synchronises (Follower); when steps keep deviating another one is looked for to
// plan from (StepSearch). It plans again when kept payloads had to give way (to more non-model bytes than planned, else with more
// reserve) and when steps need less of them for good (NonModelPeaks). Never wrong, only a slower step.
#pragma once

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "patrickstar/core/policy/eviction_policy.h"
#include "patrickstar/core/policy/follower.h"
#include "patrickstar/core/policy/non_model_peaks.h"
#include "patrickstar/core/policy/occupancy.h"
#include "patrickstar/core/policy/plan.h"
#include "patrickstar/core/policy/schedule.h"
#include "patrickstar/core/policy/step_search.h"
#include "patrickstar/core/policy/tracer.h"

namespace patrickstar {

struct OrchestratorOptions {
  Bytes budget = 0;  // of the compute tier
  // Left free from the start: partly used pages. It grows when kept payloads had to give way for no other reason.
  Bytes reserve = 0;
  Bytes ring = PlanOptions{}.ring;
  double spread_by_time = PlanOptions{}.spread_by_time;
  int warm_up_steps = 2;  // the last of them is planned from: earlier ones lack updates that are put off
};

struct OrchestratorStats {
  bool following = false;
  std::int64_t plans = 0;
  std::int64_t deviations = 0;  // unexpected moments, ever
  std::int64_t retraces = 0;    // plans given up: another step fits better, steps became smaller, or a payload was removed
  std::int64_t forced = 0;      // payloads that had to give way against the plan
  Bytes reserve = 0;
  Bytes planned_read = 0;  // a step, by the present plan
  Bytes planned_written = 0;
  std::int64_t order_steps = 0;  // entries of the order of eviction that were looked at or moved: what it costs
};

class Orchestrator final : public Schedule {
 public:
  explicit Orchestrator(const OrchestratorOptions& options);
  ~Orchestrator() override;

  // The eviction policy of the compute tier that follows this Orchestrator's plan; LRU without one. Must not outlive it.
  std::unique_ptr<EvictionPolicy> make_policy();
  OrchestratorStats stats() const;
  // The step that the present plan was made from; null without a plan.
  const Trace* trace() const { return following_ ? &plan_.trace : nullptr; }
  const Plan& plan() const { return plan_; }

  void added(PayloadId payload, PayloadKind kind, Bytes bytes) override;
  void removed(PayloadId payload) override;
  void granted(std::span<const Access> accesses, const MomentFacts& facts) override;
  bool keep(PayloadId payload) const override;
  bool surplus(PayloadId payload) const override;
  std::optional<Want> want() override;
  void brought(PayloadId payload) override;
  void evicted(PayloadId payload) override;
  void step_done(const MomentFacts& facts) override;

 private:
  class Policy;
  // What a copy on the compute tier is there for.
  enum class Role : std::uint8_t {
    kKept,   // stays until its next use by the plan, or is unknown to it
    kAhead,  // brought before its use
    kDone,   // used, and not to be kept
  };

  Position eviction_key(PayloadId payload) const;  // the greatest goes first
  Position steps(std::int64_t count) const { return count * static_cast<Position>(plan_.trace.moments.size()); }
  void follow(Trace trace);
  void watch();
  // What is left of the step under way is no step: one whole step after it is planned from.
  void watch_from_next_step() { watched_steps_ = options_.warm_up_steps - 2; }
  Position fetch_position() const;
  void give_room_back(PayloadId payload);
  void begin_reserve_anew();

  OrchestratorOptions options_;
  const Bytes first_reserve_;
  int reserve_rises_ = 0;  // since the reserve was the first one
  Tracer tracer_;
  StepSearch search_{&tracer_};
  Policy* policy_ = nullptr;
  bool following_ = false;
  bool saw_eviction_ = false;
  int watched_steps_ = 0;
  // while following
  Plan plan_;
  Occupancy left_;  // plan_.left less what was brought and is not used yet
  Follower follower_;
  std::vector<Role> roles_;  // by payload
  // What was brought ahead takes room from when it was until its use; by payload, `until` < 0: nothing.
  struct Ahead {
    Position from = 0;
    Position until = -1;
  };
  std::vector<Ahead> ahead_;
  bool on_track_ = false;  // the last moment was in the plan
  bool hold_ = false;      // something had to give way since the last moment: bring nothing before the next
  std::size_t next_fetch_ = 0;
  std::int64_t fetch_cycle_ = 0;
  std::set<std::pair<Position, PayloadId>> again_;  // forced out, by next use
  bool want_again_ = false;                         // what want() gave was of again_
  Position want_position_ = 0;                      // of its use
  std::int64_t deviations_before_ = 0;              // this step
  std::int64_t earlier_deviations_ = 0;             // of earlier plans
  // [Note: passes that are no steps] An evaluation goes through the planned moments as a step does and begins anew without a
  // step's end. What it needed, and whether kept payloads had to give way to it, says nothing of steps: forgotten as it is left.
  // Only a step that ended is learned from.
  NonModelPeaks peaks_;
  bool step_ended_ = false;  // since the last time round
  bool kept_gave_way_ = false;
  OrchestratorStats stats_;
};

}  // namespace patrickstar
