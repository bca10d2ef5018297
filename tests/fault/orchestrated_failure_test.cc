// Failures while an Orchestrator brings chunks ahead and lets others go: nothing is lost, nobody is told twice, nothing is tried
// for ever, and a transfer that stands still holds up only who needs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "patrickstar/core/testing/bytes.h"
#include "patrickstar/core/testing/manager_rig.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Bytes kUnit = kPayloadAlignment;
constexpr std::size_t kLayers = 8;
constexpr int kSteps = 6;  // two to watch

// A training run of 8 layers with updates in backward, most of which stream: forward reads the parameters, backward writes each
// with its tile. After each moment the disk gets on with `moves` transfers, the oldest first.
class Training {
 public:
  explicit Training(const std::vector<Bytes>& capacities) : rig(capacities, *find_policy("planned")) {
    rig.waiter().set_step([this] { return complete_one(); });
    for (std::size_t i = 0; i < 2 * kLayers; ++i) {
      ids.push_back(rig.add(kUnit, i < kLayers ? PayloadKind::kParam : PayloadKind::kState));
      use({{ids[i], AccessMode::kCreate}});
    }
    rig.manager().step_done();
  }
  // Every pending transfer must be able to complete then.
  ~Training() {
    stuck.reset();
    broken = false;
    rig.complete_all();
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
  }
  void forward() {
    for (std::size_t i = 0; i < kLayers; ++i) use({{ids[i], AccessMode::kRead}});
  }
  void backward(std::size_t layers) {
    for (std::size_t i = kLayers; i-- > kLayers - layers;) {
      use({{ids[i], AccessMode::kWrite}, {ids[kLayers + i], AccessMode::kWrite}});
    }
  }
  void step() {
    forward();
    backward(kLayers);
    rig.manager().step_done();
    rig.manager().check_invariants();
  }
  void read_all() {
    for (const PayloadId id : ids) use({{id, AccessMode::kRead}});
  }
  // Completes or, while the disk is broken, fails the oldest transfer but the stuck one; that one only if somebody needs it.
  bool complete_one() {
    if (get_on()) return true;
    if (!stuck.has_value()) return false;
    ++waits_for_stuck;
    stuck.reset();
    return get_on();
  }
  bool get_on() {
    for (std::size_t l = rig.links(); l-- > 0;) {
      for (std::size_t i = 0; i < rig.link(l).pending(); ++i) {
        if (rig.link(l).transfer(i).id == stuck) continue;
        ++(broken ? failed : completed);
        broken ? rig.link(l).fail(i) : rig.link(l).complete(i);
        return true;
      }
    }
    return false;
  }

  ManagerRig rig;
  std::vector<PayloadId> ids;
  std::vector<Status> errors;
  bool broken = false;  // every transfer fails
  bool retries = true;  // an access that fails is tried again, and must work
  std::optional<std::uint64_t> stuck;
  int moves = 2;
  int waits_for_stuck = 0;
  int completed = 0;
  int failed = 0;

 private:
  void use(const std::vector<Access>& accesses) {
    auto lease = rig.acquire(accesses);
    if (!lease.ok()) {
      errors.push_back(lease.status());
      rig.manager().check_invariants();
      EXPECT_EQ(rig.tier(0).ledger().pinned(), 0);
      if (!retries) return;
      lease = rig.acquire(accesses);
      ASSERT_TRUE(lease.ok()) << lease.status().message();
    }
    for (std::size_t i = 0; i < accesses.size(); ++i) {
      int& value = values_[accesses[i].payload];
      if (accesses[i].mode != AccessMode::kCreate) {
        EXPECT_TRUE(all_bytes(lease.value().address(i), kUnit, static_cast<std::byte>(value)))
            << rig.manager().name_of(accesses[i].payload);
      }
      if (accesses[i].mode != AccessMode::kRead) std::memset(lease.value().address(i), ++value, kUnit);
    }
    lease.value().release();
    for (int i = 0; i < moves; ++i) (void)get_on();
  }

  std::map<PayloadId, int> values_;
};

struct TierSet {
  std::string name;
  std::vector<Bytes> capacities;
};
void PrintTo(const TierSet& set, std::ostream* out) { *out << set.name; }

class OrchestratedFailure : public testing::TestWithParam<TierSet> {};

TEST_P(OrchestratedFailure, OfOneTransferIsToldAtMostOnceAndLosesNothing) {
  Training calm(GetParam().capacities);
  calm.run(kSteps);
  ASSERT_TRUE(calm.errors.empty());
  ASSERT_TRUE(calm.rig.orchestrator()->stats().following);
  for (std::size_t link = 0; link < calm.rig.links(); ++link) {
    for (const Direction direction : {Direction::kUp, Direction::kDown}) {
      SCOPED_TRACE("link " + std::to_string(link) + (direction == Direction::kUp ? " up" : " down"));
      const std::int64_t reached = calm.rig.link(link).failures(direction).calls();
      ASSERT_GT(reached, 10);
      int untold = 0;
      for (std::int64_t n = 1; n <= reached; ++n) {
        SCOPED_TRACE("call " + std::to_string(n));
        Training training(GetParam().capacities);
        // Those of the constructor are done: a few create what there is.
        const std::int64_t before = training.rig.link(link).failures(direction).calls();
        if (n <= before) continue;
        training.rig.link(link).failures(direction).arm(n - before);
        training.run(kSteps);
        training.read_all();
        ASSERT_EQ(training.rig.link(link).failures(direction).injected(), 1);
        ASSERT_LE(training.errors.size(), 1u);
        if (training.errors.empty()) {
          ++untold;
        } else {
          EXPECT_THAT(training.errors[0].message(), AllOf(HasSubstr("chunk "), HasSubstr("/scratch/" + std::to_string(link))));
          EXPECT_EQ(training.errors[0].code(), StatusCode::kIoError);
        }
        if (HasFailure()) return;
      }
      // What is brought ahead or let go in vain is brought or let go again: nobody need hear of it.
      if (link == 0) {
        EXPECT_GT(untold, 0);
      }
    }
  }
}

TEST_P(OrchestratedFailure, ABrokenDiskIsTriedAFewTimesAndNotForEver) {
  int failed = 0;
  for (std::size_t layers = 0; layers <= kLayers; ++layers) {
    SCOPED_TRACE("after backward of layers " + std::to_string(layers));
    Training training(GetParam().capacities);
    training.run(4);
    ASSERT_TRUE(training.rig.orchestrator()->stats().following);
    training.forward();
    training.moves = 0;
    training.backward(layers);
    training.broken = true;
    training.retries = false;
    while (training.failed < 1000 && training.get_on()) {
    }
    failed += training.failed;
    EXPECT_LT(training.failed, 40) << "nobody asks for anything";
    EXPECT_EQ(training.rig.pending(), 0u);
    training.broken = false;
    training.retries = true;
    training.moves = 2;
    training.rig.manager().step_done();
    training.run(2);
    training.read_all();
    EXPECT_TRUE(training.errors.empty()) << training.errors[0].message();
    if (HasFailure()) return;
  }
  EXPECT_GT(failed, 0);
}

TEST_P(OrchestratedFailure, AStepOnABrokenDiskEndsInErrorsAndTheNextOneIsWhole) {
  Training training(GetParam().capacities);
  training.run(4);
  training.broken = true;
  training.retries = false;
  training.step();
  EXPECT_GT(training.errors.size(), 0u);
  EXPECT_LT(training.failed, 100);
  for (const Status& error : training.errors) {
    EXPECT_THAT(error.message(), AllOf(HasSubstr("chunk "), HasSubstr("/scratch/")));
  }
  training.broken = false;
  training.retries = true;
  const std::size_t told = training.errors.size();
  training.run(2);
  training.read_all();
  // A failure from before may be met by whoever waits for room; tried again it must work.
  EXPECT_LE(training.errors.size(), told + 1);
}

TEST_P(OrchestratedFailure, ATransferThatStandsStillHoldsUpOnlyWhoNeedsIt) {
  Training calm(GetParam().capacities);
  calm.run(kSteps);
  const int in_all = calm.completed;
  int needed = 0;
  int done_meanwhile = 0;
  for (int n = 1; n <= in_all; ++n) {
    SCOPED_TRACE("transfer " + std::to_string(n));
    Training training(GetParam().capacities);
    if (n <= training.completed) continue;
    training.stuck = static_cast<std::uint64_t>(n);
    training.run(kSteps);
    needed += training.waits_for_stuck;
    done_meanwhile += training.completed - n;
    training.stuck.reset();
    training.read_all();
    EXPECT_TRUE(training.errors.empty()) << training.errors[0].message();
    if (HasFailure()) return;
  }
  EXPECT_GT(needed, 0);
  EXPECT_GT(done_meanwhile, in_all);
}

INSTANTIATE_TEST_SUITE_P(TierSets, OrchestratedFailure,
                         testing::Values(TierSet{"two_tiers", {12 * kUnit, 64 * kUnit}},
                                         TierSet{"three_tiers", {12 * kUnit, 4 * kUnit, 64 * kUnit}}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace patrickstar
