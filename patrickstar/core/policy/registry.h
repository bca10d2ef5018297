// The policies by name, for whoever lets somebody choose one. A new policy is a header, a source, a test and a line in
// registry.cc; the tests over all policies, replay and bench/replay take it from here.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "patrickstar/core/policy/eviction_policy.h"
#include "patrickstar/core/policy/orchestrator.h"

namespace patrickstar {

// What a policy may know beforehand.
struct PolicyInputs {
  OrchestratorOptions orchestrator;  // `budget` is that of the compute tier
  const Trace* trace = nullptr;      // of the step; only read by the call. REQUIRES: it has moments.
};

// What decides on a tier. Without a schedule chunks come when they are asked for.
struct PolicySet {
  std::unique_ptr<Orchestrator> schedule;  // may be null
  std::unique_ptr<EvictionPolicy> policy;  // may refer to the schedule
};

struct PolicyEntry {
  std::string_view name;
  std::string_view what;  // in half a line, for a help text
  PolicySet (*make)(const PolicyInputs& inputs);
};

std::span<const PolicyEntry> registered_policies();
const PolicyEntry* find_policy(std::string_view name);  // null: there is none
// "planned: ...; furthest: ...", for a help text.
std::string describe_policies();

}  // namespace patrickstar
