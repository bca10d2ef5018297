// The n-th call at each port fails, for every n that the fault-free run reaches. The operation that meets it reports payload and
// file and changes nothing; tried again it succeeds, and no byte is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "patrickstar/core/mem/host_tier.h"
#include "patrickstar/core/policy/lru.h"
#include "patrickstar/core/testing/bytes.h"
#include "patrickstar/core/testing/counting_pages.h"
#include "patrickstar/core/testing/manager_rig.h"

namespace patrickstar {
namespace {

using testing::HasSubstr;

constexpr Bytes kUnit = kPayloadAlignment;

// What a few steps of training do: create, read several, write, make room, give up, prefetch. Every operation that fails is
// tried once more.
class Workload {
 public:
  Workload(const std::vector<Bytes>& capacities, const PolicyEntry& policy) : rig(capacities, policy) {}

  void run() {
    for (int i = 0; i < 6; ++i) {
      const PayloadSpec spec{.name = "chunk " + std::to_string(i) + " param", .bytes = kUnit};
      auto id = rig.manager().add(spec);
      if (!id.ok()) {
        note(id.status());
        id = rig.manager().add(spec);
      }
      ASSERT_TRUE(id.ok());
      ids.push_back(id.value());
      use({{ids.back(), AccessMode::kCreate}});
    }
    for (int step = 0; step < 3; ++step) {
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        use({{ids[i], AccessMode::kRead}, {ids[i + 1], step % 2 == 0 ? AccessMode::kWrite : AccessMode::kRead}});
        if (i == 2) again([&] { return rig.manager().make_room(kUnit); });
        if (i == 3) rig.manager().give_up(ids[4]);
        if (i == 4) rig.manager().prefetch(ids[0]);
      }
    }
    rig.complete_all();
    for (const PayloadId id : ids) use({{id, AccessMode::kRead}});
    rig.manager().check_invariants();
  }

  ManagerRig rig;
  std::vector<PayloadId> ids;
  std::vector<Status> errors;

 private:
  void note(const Status& status) {
    errors.push_back(status);
    rig.manager().check_invariants();
    EXPECT_EQ(rig.tier(0).ledger().pinned(), 0);
  }
  template <class Operation>
  void again(Operation operation) {
    const Status status = operation();
    if (status.ok()) return;
    note(status);
    const Status second = operation();
    ASSERT_TRUE(second.ok()) << second.message();
  }
  void use(const std::vector<Access>& accesses) {
    again([&] {
      auto lease = rig.acquire(accesses);
      if (!lease.ok()) return lease.status();
      for (std::size_t i = 0; i < accesses.size(); ++i) {
        int& value = values[accesses[i].payload];
        if (accesses[i].mode != AccessMode::kCreate) {
          EXPECT_TRUE(all_bytes(lease.value().address(i), kUnit, static_cast<std::byte>(value)))
              << rig.manager().name_of(accesses[i].payload);
        }
        if (accesses[i].mode != AccessMode::kRead) std::memset(lease.value().address(i), ++value, kUnit);
      }
      return Status();
    });
  }

  std::map<PayloadId, int> values;
};

struct Site {
  std::string name;
  enum { kLink, kTier } port;
  std::size_t index;  // of the link, of the tier
  Direction direction = Direction::kUp;
  StatusCode code = StatusCode::kIoError;
};

struct Case {
  std::string name;
  std::vector<Bytes> capacities;
  std::vector<Site> sites;
};

void PrintTo(const Case& set, std::ostream* out) { *out << set.name; }

std::int64_t calls(Workload& workload, const Site& site) {
  return site.port == Site::kLink ? workload.rig.link(site.index).failures(site.direction).calls()
                                  : workload.rig.tier(site.index).allocations();
}

class NthFailureTest : public testing::TestWithParam<std::tuple<Case, PolicyEntry>> {};

TEST_P(NthFailureTest, IsReportedOnceAndLosesNothing) {
  const auto& [set, policy] = GetParam();
  Workload fault_free(set.capacities, policy);
  fault_free.run();
  ASSERT_TRUE(fault_free.errors.empty());
  for (const Site& site : set.sites) {
    SCOPED_TRACE(site.name);
    const std::int64_t reached = calls(fault_free, site);
    ASSERT_GT(reached, 3);
    int reported = 0;
    for (std::int64_t n = 1; n <= reached; ++n) {
      SCOPED_TRACE("call " + std::to_string(n));
      Workload workload(set.capacities, policy);
      if (site.port == Site::kLink) {
        workload.rig.link(site.index).failures(site.direction).arm(n);
      } else {
        workload.rig.tier(site.index).refuse(n, site.code);
      }
      workload.run();
      ASSERT_EQ(site.port == Site::kLink ? workload.rig.link(site.index).failures(site.direction).injected()
                                         : workload.rig.tier(site.index).injected(),
                1);
      ASSERT_LE(workload.errors.size(), 1u);
      for (const Status& error : workload.errors) {
        ++reported;
        EXPECT_THAT(error.message(), HasSubstr("chunk "));
        EXPECT_THAT(error.message(), HasSubstr(site.port == Site::kLink ? "/scratch/" + std::to_string(site.index)
                                                                        : workload.rig.tier(site.index).name()));
        EXPECT_EQ(error.code(), site.code);
      }
      if (HasFailure()) return;
    }
    // A single refusal for lack of room is no error: something gives way, or the room is there when asked again.
    EXPECT_EQ(reported > 0, site.code == StatusCode::kIoError);
  }
}

INSTANTIATE_TEST_SUITE_P(
    TierSets, NthFailureTest,
    testing::Combine(testing::Values(Case{"two_tiers",
                                          {3 * kUnit, 20 * kUnit},
                                          {{"read", Site::kLink, 0, Direction::kUp},
                                           {"write", Site::kLink, 0, Direction::kDown},
                                           {"compute allocation refused", Site::kTier, 0},
                                           {"compute tier full", Site::kTier, 0, Direction::kUp, StatusCode::kOutOfRoom},
                                           {"slot", Site::kTier, 1}}},
                                     Case{"three_tiers",
                                          {3 * kUnit, 3 * kUnit, 20 * kUnit},
                                          {{"upper read", Site::kLink, 0, Direction::kUp},
                                           {"upper write", Site::kLink, 0, Direction::kDown},
                                           {"lower read", Site::kLink, 1, Direction::kUp},
                                           {"lower write", Site::kLink, 1, Direction::kDown},
                                           {"compute allocation refused", Site::kTier, 0},
                                           {"middle allocation refused", Site::kTier, 1},
                                           {"middle full", Site::kTier, 1, Direction::kUp, StatusCode::kOutOfRoom}}}),
                     testing::ValuesIn(registered_policies())),
    [](const auto& test) { return std::get<0>(test.param).name + "_" + std::string(std::get<1>(test.param).name); });

// The same with the arena beneath: the system refuses a commit.
struct OverArena {
  static constexpr Bytes kBytes = 3 * kMiB;

  OverArena() {
    arena = std::move(Arena::create(&pages, &ledger, 256 * kMiB)).value();
    host = std::make_unique<HostTier>(arena.get());
    std::vector<Level> levels;
    levels.push_back({.tier = host.get(), .link_below = &link, .policy = std::make_unique<Lru>()});
    levels.push_back({.tier = &bottom});
    manager = std::make_unique<ChunkManager>(
        ChunkManagerOptions{.levels = std::move(levels), .waiter = &waiter, .clock = &clock, .compute_ledger = &ledger});
  }

  // Two rounds over four payloads of which two fit; each second access all leave and their pages go back.
  std::vector<Status> run() {
    std::vector<Status> errors;
    std::vector<PayloadId> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(manager->add({.name = "chunk " + std::to_string(i), .bytes = kBytes}).value());
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 4; ++i) {
        const Access access{ids[static_cast<std::size_t>(i)], round == 0 ? AccessMode::kCreate : AccessMode::kWrite};
        for (int attempt = 0;; ++attempt) {
          auto lease = manager->acquire({&access, 1});
          if (!lease.ok()) {
            errors.push_back(lease.status());
            EXPECT_EQ(attempt, 0) << lease.status().message();
            if (attempt > 0) return errors;
            continue;
          }
          EXPECT_TRUE(round == 0 || lease.value().address(0)[kBytes - 1] == static_cast<std::byte>(i));
          std::memset(lease.value().address(0), i, kBytes);
          break;
        }
        arena->check_invariants();
        manager->check_invariants();
        EXPECT_EQ(ledger.total(), pages.committed_bytes());
        EXPECT_TRUE(i % 2 == 0 || manager->make_room(2 * kBytes).ok());
        arena->trim(INT64_MAX);
      }
    }
    return errors;
  }

  CountingPages pages;
  Ledger ledger{8 * kMiB};
  std::unique_ptr<Arena> arena;
  std::unique_ptr<HostTier> host;
  MemoryTier bottom{"bottom", 64 * kMiB};
  ManualLink link{"/scratch"};
  ManualWaiter waiter{[this] {
    if (link.pending() == 0) return false;
    link.complete(0);
    return true;
  }};
  VirtualClock clock;
  std::unique_ptr<ChunkManager> manager;
};

TEST(NthFailure, ARefusedCommitIsReportedAndLosesNothing) {
  std::int64_t reached = 0;
  {
    OverArena fault_free;
    ASSERT_TRUE(fault_free.run().empty());
    reached = fault_free.pages.commits().calls();
  }
  ASSERT_GT(reached, 2);
  for (std::int64_t n = 1; n <= reached; ++n) {
    SCOPED_TRACE("commit " + std::to_string(n));
    OverArena faulty;
    faulty.pages.commits().arm(n);
    const auto errors = faulty.run();
    ASSERT_EQ(faulty.pages.commits().injected(), 1);
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_EQ(errors[0].code(), StatusCode::kIoError);
    EXPECT_THAT(errors[0].message(), testing::AllOf(HasSubstr("chunk "), HasSubstr("injected refusal of a commit")));
  }
}

}  // namespace
}  // namespace patrickstar
