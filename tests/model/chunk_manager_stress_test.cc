// Real threads acquire overlapping sets in little room over a link of real threads, others allocate. For ThreadSanitizer; the
// bytes are checked as well.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <shared_mutex>
#include <thread>

#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/testing/bytes.h"
#include "patrickstar/core/testing/manager_rig.h"
#include "patrickstar/core/testing/seed.h"
#include "patrickstar/core/testing/threaded_link.h"

namespace patrickstar {
namespace {

constexpr Bytes kUnit = kPayloadAlignment;
constexpr std::size_t kPayloads = 24;
constexpr int kRounds = 600;

class Stress {
 public:
  Stress(const std::vector<Bytes>& capacities, const PolicyEntry& policy, std::uint32_t seed) {
    std::vector<Level> levels;
    for (std::size_t level = 0; level < capacities.size(); ++level) {
      tiers_.push_back(std::make_unique<MemoryTier>("tier " + std::to_string(level), capacities[level]));
      levels.push_back({.tier = tiers_.back().get()});
      if (level + 1 == capacities.size()) break;
      links_.push_back(std::make_unique<ThreadedLink>(2, seed + static_cast<std::uint32_t>(level)));
      levels.back().link_below = links_.back().get();
      PolicySet made = make_policy(policy, level, capacities[level]);
      levels.back().policy = std::move(made.policy);
      if (level == 0) orchestrator_ = std::move(made.schedule);
    }
    manager_ = std::make_unique<ChunkManager>(ChunkManagerOptions{.levels = std::move(levels),
                                                                  .waiter = &waiter_,
                                                                  .clock = &clock_,
                                                                  .compute_ledger = &tiers_[0]->ledger(),
                                                                  .schedule = orchestrator_.get()});
    for (std::size_t i = 0; i < kPayloads; ++i) {
      payloads_[i].id = manager_
                            ->add({.kind = static_cast<PayloadKind>(i % kPayloadKinds),
                                   .name = payload_kind_name(PayloadKind::kParam),
                                   .bytes = kUnit})
                            .value();
    }
  }

  // Operators: lease some, look, change some. Who reads and writes the same bytes at the same time is the caller's business, so
  // payloads have locks; no thread takes one while it holds a lease.
  void operators(std::uint32_t seed) {
    std::mt19937 random(seed);
    for (int round = 0; round < kRounds; ++round) {
      std::array<std::size_t, 3> chosen{};
      for (std::size_t& i : chosen) i = random() % kPayloads;
      std::sort(chosen.begin(), chosen.end());
      const auto end = std::unique(chosen.begin(), chosen.end());
      const bool write = random() % 2 == 0;
      std::vector<std::unique_lock<std::shared_mutex>> exclusive;
      std::vector<std::shared_lock<std::shared_mutex>> shared;
      std::vector<Access> accesses;
      for (auto i = chosen.begin(); i != end; ++i) {
        Payload& payload = payloads_[*i];
        if (write) {
          exclusive.emplace_back(payload.mutex);
        } else {
          shared.emplace_back(payload.mutex);
        }
        if (!write && payload.value < 0) continue;
        accesses.push_back({payload.id, !write              ? AccessMode::kRead
                                        : payload.value < 0 ? AccessMode::kCreate
                                                            : AccessMode::kWrite});
      }
      auto leases = manager_->acquire(accesses);
      if (!leases.ok()) {
        expect_refusal(leases.status());
        continue;
      }
      ++granted_;
      for (std::size_t i = 0; i < accesses.size(); ++i) use(accesses[i], leases.value().address(i), random);
      if (random() % 8 == 0) allocate(random);  // an operator's output
    }
  }

  void allocations(std::uint32_t seed) {
    std::mt19937 random(seed);
    for (int round = 0; round < kRounds; ++round) {
      allocate(random);
      const PayloadId id = payloads_[random() % kPayloads].id;
      if (random() % 2 == 0) {
        manager_->prefetch(id);
      } else {
        manager_->give_up(id);
      }
      if (round % 64 == 0) manager_->check_invariants();
      if (round % 32 == 0) manager_->step_done();
    }
  }

  void finish() {
    ASSERT_TRUE(manager_->drain().ok());
    manager_->check_invariants();
    EXPECT_EQ(tiers_[0]->ledger().in(Account::kNonModel), 0);
    EXPECT_EQ(tiers_[0]->ledger().pinned(), 0);
    for (const Payload& payload : payloads_) {
      if (payload.value < 0) continue;
      const Access access{payload.id, AccessMode::kRead};
      auto lease = manager_->acquire({&access, 1});
      ASSERT_TRUE(lease.ok()) << lease.status().message();
      EXPECT_EQ(lease.value().address(0)[kUnit - 1], static_cast<std::byte>(payload.value));
    }
    EXPECT_GT(granted_, kRounds);
    EXPECT_GT(manager_->stats().written(), 100 * kUnit);
    EXPECT_LE(tiers_[0]->ledger().peaks().total, tiers_[0]->ledger().budget());
  }

 private:
  struct Payload {
    PayloadId id;
    std::shared_mutex mutex;
    int value = -1;  // all its bytes; -1: none yet
  };

  // Who waits for a lease while all who hold one wait themselves is refused, and so is who finds no room at all.
  static void expect_refusal(const Status& status) {
    EXPECT_TRUE(status.code() == StatusCode::kDeadlock || status.code() == StatusCode::kOutOfRoom) << status.message();
  }

  void use(const Access& access, std::byte* bytes, std::mt19937& random) {
    Payload& payload = payloads_[access.payload.index()];
    if (access.mode != AccessMode::kCreate) {
      EXPECT_TRUE(all_bytes(bytes, kUnit, static_cast<std::byte>(payload.value)));
    }
    if (access.mode == AccessMode::kRead) return;
    payload.value = static_cast<int>(random() % 256);
    std::memset(bytes, payload.value, kUnit);
  }

  void allocate(std::mt19937& random) {
    Ledger& ledger = tiers_[0]->ledger();
    const Bytes bytes = (1 + static_cast<Bytes>(random() % 2)) * kUnit;
    while (!ledger.try_charge(Account::kNonModel, bytes)) {
      const Status status = manager_->make_room(bytes - std::min(bytes - 1, ledger.room()));
      if (status.ok()) continue;
      return expect_refusal(status);
    }
    std::this_thread::yield();
    ledger.release(Account::kNonModel, bytes);
  }

  std::vector<std::unique_ptr<MemoryTier>> tiers_;
  std::vector<std::unique_ptr<ThreadedLink>> links_;
  ThreadWaiter waiter_;
  VirtualClock clock_;
  std::array<Payload, kPayloads> payloads_;
  std::atomic<int> granted_ = 0;
  std::unique_ptr<Orchestrator> orchestrator_;
  std::unique_ptr<ChunkManager> manager_;
};

class ChunkManagerStress : public testing::TestWithParam<std::tuple<std::vector<Bytes>, PolicyEntry>> {};

TEST_P(ChunkManagerStress, ThreadsShareLittleRoom) {
  const std::uint32_t seed = test_seed(3);
  SCOPED_TRACE("PATRICKSTAR_SEED=" + std::to_string(seed));
  auto [capacities, policy] = GetParam();
  for (Bytes& capacity : capacities) capacity *= kUnit;
  Stress stress(capacities, policy, seed);
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 4; ++t) threads.emplace_back([&stress, seed, t] { stress.operators(seed + 10 + t); });
  for (std::uint32_t t = 0; t < 2; ++t) threads.emplace_back([&stress, seed, t] { stress.allocations(seed + 20 + t); });
  for (auto& thread : threads) thread.join();
  stress.finish();
}

INSTANTIATE_TEST_SUITE_P(TierSets, ChunkManagerStress,
                         testing::Combine(testing::Values(std::vector<Bytes>{6, 40}, std::vector<Bytes>{12, 40},
                                                          std::vector<Bytes>{8, 6, 40}),
                                          testing::ValuesIn(registered_policies())));

}  // namespace
}  // namespace patrickstar
