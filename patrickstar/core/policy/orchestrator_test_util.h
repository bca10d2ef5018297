// TrainingRun: an Orchestrator at work without a manager, for its tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "patrickstar/core/policy/orchestrator.h"

namespace patrickstar {

// As much of a manager as an Orchestrator needs: transfers take no time, what is done with leaves at once.
class TrainingRun {
 public:
  TrainingRun(Trace step, const OrchestratorOptions& options)
      : trace(std::move(step)), orchestrator(options), policy(orchestrator.make_policy()), where_(trace) {
    for (std::size_t i = 0; i < trace.payloads.size(); ++i) add(PayloadId(i), trace.payloads[i]);
  }

  void add(PayloadId payload, TracedPayload spec) {
    orchestrator.added(payload, spec.kind, spec.bytes);
    if (sizes_.size() <= payload.index()) sizes_.resize(payload.index() + 1);
    sizes_[payload.index()] = spec.bytes;
  }
  void grant(const std::vector<Access>& accesses) {
    (void)where_.granted(accesses);
    for (const Access& access : accesses) {
      if (resident.insert(access.payload).second) {
        ++misses;
      } else {
        policy->untrack(access.payload);
      }
    }
    orchestrator.granted(accesses, {.non_model = std::exchange(non_model_, 0), .compute = 1});
    for (const Access& access : accesses) {
      policy->track(access.payload);
      if (!orchestrator.keep(access.payload)) leave(access.payload);
    }
    pump();
  }
  void grant(std::size_t moment) {
    grant(std::vector<Access>{trace.at(moment).begin(), trace.at(moment).end()});
    non_model_ = trace.moments[moment].non_model;
  }
  void step() {
    misses = 0;
    for (std::size_t m = 0; m < trace.moments.size(); ++m) grant(m);
    orchestrator.step_done({.non_model = std::exchange(non_model_, 0), .compute = 1});
    pump();
  }
  // Makes room for somebody else; the payload that had to go.
  PayloadId force_out() {
    const auto victim = policy->victim();
    EXPECT_TRUE(victim.has_value());
    orchestrator.evicted(*victim);
    leave(*victim);
    return *victim;
  }
  // Steps until it follows; the first one evicts.
  int watch() {
    int steps = 0;
    for (; !orchestrator.stats().following && steps < 20; ++steps) {
      for (std::size_t m = 0; m < trace.moments.size(); ++m) {
        grant(m);
        if (steps == 0 && m == 3) force_out();
      }
      orchestrator.step_done({.non_model = std::exchange(non_model_, 0), .compute = 1});
      if (orchestrator.stats().following) {  // begin with nothing there
        while (!resident.empty()) leave(*policy->victim());
        where_ = Follower(trace);
        pump();
      }
    }
    return steps;
  }

  Trace trace;
  Orchestrator orchestrator;
  std::unique_ptr<EvictionPolicy> policy;
  std::set<PayloadId> resident;
  int misses = 0;  // of this step
  std::vector<PayloadId> wanted;
  bool calm = true;  // nothing deviates and nothing is forced out: every want is judged

 private:
  void leave(PayloadId payload) {
    policy->untrack(payload);
    resident.erase(payload);
  }
  void pump() {
    while (const auto want = orchestrator.want()) {
      const auto again = orchestrator.want();
      ASSERT_TRUE(again.has_value() && again->payload == want->payload);  // the same answer until it is brought
      Bytes held = 0;
      for (const PayloadId payload : resident) held += sizes_[payload.index()];
      const Bytes bytes = sizes_[want->payload.index()];
      if (resident.count(want->payload) == 0) {
        if (bytes > want->left || held + bytes > want->room) return;
        wanted.push_back(want->payload);
        resident.insert(want->payload);
        policy->track(want->payload);
      } else {
        // Whoever is wanted for a later use than its next one is there still for that one.
        ASSERT_FALSE(calm) << want->payload.value;
      }
      const Position use = where_.next_use(want->payload, where_.position());
      if (calm) {
        ASSERT_GE(use, last_wanted_use_);
      }
      last_wanted_use_ = use;
      orchestrator.brought(want->payload);
    }
  }
  Follower where_;
  std::vector<Bytes> sizes_;
  Position last_wanted_use_ = -1;
  Bytes non_model_ = 0;  // since the last moment; told once, as the ledger does
};

}  // namespace patrickstar
