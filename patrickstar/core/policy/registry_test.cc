#include "patrickstar/core/policy/registry.h"

#include <gtest/gtest.h>

#include <set>

#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

TEST(PolicyRegistry, MakesEachPolicyByItsName) {
  const Trace trace = trace_of({4096, 4096, 4096}, {{{reads(0)}}, {{reads(1)}}, {{reads(2)}}});
  std::set<std::string_view> names;
  for (const PolicyEntry& entry : registered_policies()) {
    SCOPED_TRACE(entry.name);
    EXPECT_TRUE(names.insert(entry.name).second);
    EXPECT_EQ(find_policy(entry.name), &entry);
    EXPECT_NE(describe_policies().find(entry.what), std::string::npos);
    const PolicySet made = entry.make({.orchestrator = {.budget = 8192}, .trace = &trace});
    ASSERT_NE(made.policy, nullptr);
    EXPECT_EQ(made.schedule != nullptr, entry.name == "planned");
    EXPECT_EQ(made.policy->name(), entry.name);
    EXPECT_FALSE(made.policy->victim().has_value());
    for (std::uint32_t i = 0; i < 3; ++i) made.policy->track(PayloadId(i));
    EXPECT_TRUE(made.policy->victim().has_value());
    for (std::uint32_t i = 0; i < 3; ++i) made.policy->untrack(PayloadId(i));
    EXPECT_FALSE(made.policy->victim().has_value());
  }
  EXPECT_EQ(names, (std::set<std::string_view>{"planned", "furthest", "lru", "lfu"}));
}

TEST(PolicyRegistry, KnowsNoOther) { EXPECT_EQ(find_policy("fifo"), nullptr); }

}  // namespace
}  // namespace patrickstar
