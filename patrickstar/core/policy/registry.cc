#include "patrickstar/core/policy/registry.h"

#include <algorithm>

#include "patrickstar/core/policy/furthest_next_use.h"
#include "patrickstar/core/policy/lfu.h"
#include "patrickstar/core/policy/lru.h"

namespace patrickstar {
namespace {

PolicySet planned(const PolicyInputs& inputs) {
  PolicySet made{.schedule = std::make_unique<Orchestrator>(inputs.orchestrator)};
  made.policy = made.schedule->make_policy();
  return made;
}

constexpr PolicyEntry kPolicies[] = {
    {"planned", "two steps are watched, then chunks come ahead of their use", planned},
    {"furthest", "on demand, out goes what the trace uses last",
     [](const PolicyInputs& inputs) { return PolicySet{.policy = std::make_unique<FurthestNextUse>(*inputs.trace)}; }},
    {"lru", "on demand, out goes what was used longest ago",
     [](const PolicyInputs&) { return PolicySet{.policy = std::make_unique<Lru>()}; }},
    {"lfu", "on demand, out goes what was used least often",
     [](const PolicyInputs&) { return PolicySet{.policy = std::make_unique<Lfu>()}; }},
};

}  // namespace

std::span<const PolicyEntry> registered_policies() { return kPolicies; }

const PolicyEntry* find_policy(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kPolicies), std::end(kPolicies), [&](const PolicyEntry& e) { return e.name == name; });
  return found == std::end(kPolicies) ? nullptr : found;
}

std::string describe_policies() {
  std::string text;
  for (const PolicyEntry& entry : kPolicies) {
    text += text.empty() ? "" : "; ";
    text.append(entry.name).append(": ").append(entry.what);
  }
  return text;
}

}  // namespace patrickstar
