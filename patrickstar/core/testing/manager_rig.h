// ManagerRig: a ChunkManager over doubles (MemoryTier, ManualLink, ManualWaiter, VirtualClock), on one thread.
//
// When the manager waits, the rig completes the oldest pending transfer; a test that wants another order sets another step.
#pragma once

#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/obs/sinks.h"
#include "patrickstar/core/policy/registry.h"
#include "patrickstar/core/testing/manual_link.h"
#include "patrickstar/core/testing/manual_waiter.h"
#include "patrickstar/core/testing/memory_tier.h"
#include "patrickstar/core/testing/virtual_clock.h"

namespace patrickstar {

inline void PrintTo(const PolicyEntry& policy, std::ostream* out) { *out << policy.name; }  // for GoogleTest
// What a registered policy decides with on a level of a test's manager: LRU beneath the compute tier if it has a schedule. Where
// it is to know the step beforehand, it is told one of 32 payloads that follow one another.
PolicySet make_policy(const PolicyEntry& policy, std::size_t level, Bytes capacity);

class ManagerRig {
 public:
  // Capacities from the compute tier down; 1 to kMaxLevels of them.
  explicit ManagerRig(const std::vector<Bytes>& capacities, const PolicyEntry& policy = *find_policy("lru"));

  ChunkManager& manager() { return *manager_; }
  MemoryTier& tier(std::size_t level) { return *tiers_[level]; }
  ManualLink& link(std::size_t below) { return *links_[below]; }  // between `below` and below + 1
  std::size_t links() const { return links_.size(); }
  ManualWaiter& waiter() { return waiter_; }
  VirtualClock& clock() { return clock_; }
  RingSink& events() { return events_; }
  const std::vector<std::string>& warnings() const { return warnings_; }  // of the manager
  Orchestrator* orchestrator() { return orchestrator_.get(); }            // null without one

  std::size_t pending() const;  // transfers, all links
  bool complete_oldest();       // lowest transfer id first
  bool complete_random(std::mt19937& random);
  void complete_all();  // also those that completions start

  // A payload "chunk <n> param"; PS_CHECKs that there is a slot.
  PayloadId add(Bytes bytes = kPayloadAlignment, PayloadKind kind = PayloadKind::kParam);
  Result<LeaseSet> acquire(std::vector<Access> accesses) { return manager_->acquire(accesses); }
  Result<LeaseSet> acquire(PayloadId payload, AccessMode mode) { return acquire({{payload, mode}}); }
  // Creates the payload's contents: all bytes `value`.
  Status fill(PayloadId payload, int value);
  // The byte that a payload is filled with, read through a lease; -1: not readable, -2: not all alike.
  int value(PayloadId payload);

 private:
  VirtualClock clock_;
  RingSink events_{256};
  std::vector<std::unique_ptr<MemoryTier>> tiers_;
  std::vector<std::unique_ptr<ManualLink>> links_;
  ManualWaiter waiter_;
  std::vector<Bytes> sizes_;  // by payload
  std::vector<std::string> warnings_;
  std::unique_ptr<Orchestrator> orchestrator_;
  std::unique_ptr<ChunkManager> manager_;
};

}  // namespace patrickstar
