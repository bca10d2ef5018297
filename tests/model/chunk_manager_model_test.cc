// Random operations into the ChunkManager and into a map of byte vectors. Every lease must show the bytes that the map has, for
// every policy, budget and tier set, with transfers that complete in any order and faults at every port. While the manager
// waits, other things happen as they would on other threads: prefetches, new payloads, reads, releases.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "patrickstar/core/testing/manager_rig.h"
#include "patrickstar/core/testing/seed.h"
#include "patrickstar/core/testing/worker_thread.h"

namespace patrickstar {
namespace {

// TSan makes it ten times as slow and has little to find in it: its two threads act in turn. chunk_manager_stress_test.cc is for
// that.
#if defined(__SANITIZE_THREAD__)
constexpr int kOneIn = 10;
#else
constexpr int kOneIn = 1;
#endif
constexpr int kOperations = 10'000 / kOneIn;
constexpr Bytes kUnit = kPayloadAlignment;

struct Config {
  std::string name;
  std::vector<Bytes> units;  // capacity of each tier
};

void PrintTo(const Config& config, std::ostream* out) { *out << config.name; }

class Model {
 public:
  Model(const Config& config, const PolicyEntry& policy, std::uint32_t seed) : random_(seed), rig_(capacities(config), policy) {
    rig_.waiter().set_step([this] { return something_happens(); });
    for (int i = 0; i < 10; ++i) add();
  }

  ~Model() {
    for (std::size_t level = 0; level < rig_.links() + 1; ++level) rig_.tier(level).refuse(0, StatusCode::kIoError);
    held_.clear();
    rig_.complete_all();
  }

  void operate() {
    switch (random_() % 21) {
      case 20: return steps();
      case 0: return discard();
      case 1: return remove();
      case 2: return add();
      case 3: return make_room();
      case 4: return inject();
      case 5: rig_.manager().prefetch(any()); break;
      case 6: give_up(); break;
      case 7:
      case 8: rig_.complete_random(random_); break;
      case 9:
      case 10:
      case 11:
      case 12: release_any(Whose::kAny); break;
      default: return acquire();
    }
    check();
  }

  // After the faults: everything is still there and can be had, one by one.
  void check_all_contents() {
    held_.clear();
    for (std::size_t link = 0; link < rig_.links(); ++link) {
      rig_.link(link).failures(Direction::kUp).disarm();
      rig_.link(link).failures(Direction::kDown).disarm();
    }
    for (std::size_t level = 0; level < rig_.links() + 1; ++level) rig_.tier(level).refuse(0, StatusCode::kIoError);
    for (const auto& [id, content] : contents_) {
      ASSERT_EQ(rig_.manager().has_contents(id), !content.empty());
      if (content.empty()) continue;
      auto lease = rig_.acquire(id, AccessMode::kRead);
      ASSERT_TRUE(lease.ok()) << lease.status().message();
      ASSERT_TRUE(same(id, lease.value().address(0)));
      rig_.manager().check_invariants();
    }
    rig_.complete_all();
    check();
  }

  std::int64_t injected() {
    std::int64_t sum = 0;
    for (std::size_t level = 0; level < rig_.links() + 1; ++level) sum += rig_.tier(level).injected();
    for (std::size_t link = 0; link < rig_.links(); ++link) {
      for (const auto direction : {Direction::kUp, Direction::kDown}) sum += rig_.link(link).failures(direction).injected();
    }
    return sum;
  }

  ManagerStats stats() { return rig_.manager().stats(); }
  Orchestrator* orchestrator() { return rig_.orchestrator(); }
  int granted() const { return granted_; }
  int refused() const { return refused_; }

 private:
  enum class Whose { kOwn, kForeign, kAny };
  struct Held {
    LeaseSet leases;
    std::vector<Access> accesses;
    Whose whose;
  };

  static std::vector<Bytes> capacities(const Config& config) {
    std::vector<Bytes> result;
    for (const Bytes units : config.units) result.push_back(units * kUnit);
    return result;
  }

  Bytes bytes_of(PayloadId id) const { return sizes_.at(id); }
  bool same(PayloadId id, const std::byte* at) const {
    const auto& content = contents_.at(id);
    return content.empty() || std::memcmp(content.data(), at, content.size()) == 0;
  }
  PayloadId any() { return std::next(sizes_.begin(), static_cast<std::ptrdiff_t>(random_() % sizes_.size()))->first; }
  bool leased(PayloadId id) const {
    return busy_.contains(id) || std::any_of(held_.begin(), held_.end(), [&](const Held& held) {
             return std::any_of(held.accesses.begin(), held.accesses.end(), [&](const Access& a) { return a.payload == id; });
           });
  }

  void check() {
    rig_.manager().check_invariants();
    for (std::size_t level = 0; level < rig_.links() + 1; ++level) {
      const auto peaks = rig_.tier(level).ledger().peaks();
      ASSERT_LE(peaks.total, rig_.tier(level).ledger().budget());
    }
    for (const Held& held : held_) {
      for (std::size_t i = 0; i < held.accesses.size(); ++i) ASSERT_TRUE(same(held.accesses[i].payload, held.leases.address(i)));
    }
  }

  void add() {
    if (sizes_.size() >= 14) return;
    const Bytes bytes = (1 + static_cast<Bytes>(random_() % 3)) * kUnit;
    const std::int64_t before = injected();
    auto id = rig_.manager().add({.kind = static_cast<PayloadKind>(random_() % kPayloadKinds), .name = "p", .bytes = bytes});
    if (!id.ok()) {
      ASSERT_GT(injected(), before) << id.status().message();
      return;
    }
    sizes_[id.value()] = bytes;
    contents_[id.value()] = {};
  }

  void discard() {
    const PayloadId id = any();
    if (busy_.contains(id)) return;  // whoever asks for it would be refused
    rig_.manager().discard(id);
    contents_[id].clear();
    ASSERT_FALSE(rig_.manager().has_contents(id));
    check();
  }

  void remove() {
    const PayloadId id = any();
    if (leased(id) || sizes_.size() < 5) return;
    sizes_.erase(id);
    contents_.erase(id);
    rig_.manager().remove(id);
    check();
  }

  void give_up() {
    const PayloadId id = any();
    const bool gone = rig_.manager().give_up(id);
    ASSERT_FALSE(gone && leased(id) && !busy_.contains(id));
  }

  void make_room() {
    const std::int64_t before = injected();
    const Status status = rig_.manager().make_room((1 + static_cast<Bytes>(random_() % 6)) * kUnit);
    if (status.code() == StatusCode::kOutOfRoom || injected() > before) return;
    ASSERT_TRUE(status.ok()) << status.message();
    check();
  }

  void inject() {
    const std::int64_t nth = 1 + static_cast<std::int64_t>(random_() % 4);
    if (random_() % 2 == 0 && rig_.links() > 0) {
      rig_.link(random_() % rig_.links()).failures(random_() % 2 == 0 ? Direction::kUp : Direction::kDown).arm(nth);
    } else {
      rig_.tier(random_() % (rig_.links() + 1)).refuse(nth, random_() % 2 == 0 ? StatusCode::kIoError : StatusCode::kOutOfRoom);
    }
  }

  std::vector<Access> any_accesses() {
    std::vector<Access> accesses;
    const std::size_t count = 1 + random_() % 4;
    for (std::size_t i = 0; i < count; ++i) {
      const PayloadId id = any();
      const bool empty = contents_[id].empty() && random_() % 8 != 0;  // sometimes an error of the caller
      accesses.push_back({id, empty ? AccessMode::kCreate : static_cast<AccessMode>(random_() % 3)});
    }
    return accesses;
  }

  // Whether all that this thread holds and asks for has room together: then the acquire must be granted.
  bool fits(const std::vector<Access>& accesses, Whose whose) {
    std::set<PayloadId> wanted;
    for (const Access& access : accesses) wanted.insert(access.payload);
    for (const Held& held : held_) {
      // Will be released when we wait; on the only tier nobody waits for what was discarded while it is leased.
      if (held.whose != Whose::kOwn && whose == Whose::kOwn && rig_.links() > 0) continue;
      for (const Access& access : held.accesses) wanted.insert(access.payload);
    }
    if (rig_.links() == 0) {  // nothing can leave the only tier
      for (const auto& [id, content] : contents_) {
        if (!content.empty()) wanted.insert(id);
      }
    }
    Bytes sum = 0;
    for (const PayloadId id : wanted) sum += bytes_of(id);
    return sum <= rig_.tier(0).ledger().budget();
  }

  bool lacks_contents(const std::vector<Access>& accesses) const {
    std::set<PayloadId> created;
    for (const Access& access : accesses) {
      if (access.mode == AccessMode::kCreate) created.insert(access.payload);
      if (contents_.at(access.payload).empty() && !created.contains(access.payload)) return true;
    }
    return false;
  }

  // Some training steps over all payloads, each a little other than the last.
  void steps() {
    held_.clear();
    for (int n = 1 + static_cast<int>(random_() % 8); n > 0; --n) {
      const auto payloads = sizes_;  // others may come while we wait
      for (const auto& [id, bytes] : payloads) {
        if (random_() % 32 == 0) continue;
        const AccessMode mode = contents_[id].empty() ? AccessMode::kCreate
                                : id.index() % 3 == 0 ? AccessMode::kRead
                                                      : AccessMode::kWrite;
        acquire({{id, mode}});
        if (testing::Test::HasFailure()) return;
        if (!held_.empty()) {
          scribble(held_.back());
          held_.pop_back();
        }
        if (random_() % 2 == 0) rig_.complete_random(random_);
      }
      rig_.manager().step_done();
      rig_.manager().check_invariants();
    }
  }

  void acquire() {
    if (held_.size() >= 6) release_any(Whose::kAny);
    acquire(any_accesses());
  }

  void acquire(const std::vector<Access>& accesses) {
    // Another thread's lease: its holder is not us, so that we may wait for it. Only where it is sure not to wait itself.
    bool resident = true;
    for (const Access& access : accesses) {
      resident = resident && access.mode == AccessMode::kRead && rig_.manager().resident(access.payload);
    }
    const Whose whose = resident && random_() % 2 == 0 ? Whose::kForeign : Whose::kOwn;
    const bool must = fits(accesses, whose) && !lacks_contents(accesses);
    const std::int64_t before = injected();
    for (const Access& access : accesses) busy_.insert(access.payload);
    Result<LeaseSet> leases = Status(StatusCode::kTimedOut, "not tried");
    if (whose == Whose::kForeign) {
      other_.run([&] { leases = rig_.manager().acquire(accesses); });
    } else {
      leases = rig_.manager().acquire(accesses);
    }
    busy_.clear();
    if (!leases.ok()) {
      ++refused_;
      ASSERT_FALSE(must && injected() == before) << leases.status().message();
      ASSERT_TRUE(lacks_contents(accesses) || leases.status().code() != StatusCode::kInvalidArgument)
          << leases.status().message();
      ASSERT_NE(leases.status().code(), StatusCode::kTimedOut) << leases.status().message();
      return check();
    }
    ++granted_;
    ASSERT_FALSE(lacks_contents(accesses));
    held_.push_back({std::move(leases).value(), accesses, whose});
    Held& held = held_.back();
    for (std::size_t i = 0; i < accesses.size(); ++i) {
      const PayloadId id = accesses[i].payload;
      if (accesses[i].mode == AccessMode::kCreate) {
        auto& content = contents_[id];
        content.assign(static_cast<std::size_t>(bytes_of(id)), static_cast<std::byte>(random_()));
        for (int n = 0; n < 16; ++n) content[random_() % content.size()] = static_cast<std::byte>(random_());
        std::memcpy(held.leases.address(i), content.data(), content.size());
      }
    }
    check();
  }

  // What a lease for writing is for.
  void scribble(Held& held) {
    for (std::size_t i = 0; i < held.accesses.size(); ++i) {
      if (held.accesses[i].mode == AccessMode::kRead) continue;
      auto& content = contents_[held.accesses[i].payload];
      if (content.empty()) continue;  // discarded since
      const std::size_t at = random_() % content.size();
      content[at] = static_cast<std::byte>(random_());
      held.leases.address(i)[at] = content[at];
    }
  }

  bool release_any(Whose whose) {
    std::vector<std::size_t> candidates;
    for (std::size_t i = 0; i < held_.size(); ++i) {
      if (whose == Whose::kAny || held_[i].whose == whose) candidates.push_back(i);
    }
    if (candidates.empty()) return false;
    const auto chosen = held_.begin() + static_cast<std::ptrdiff_t>(candidates[random_() % candidates.size()]);
    scribble(*chosen);
    held_.erase(chosen);
    return true;
  }

  // What other threads do while the manager's caller waits.
  bool something_happens() {
    rig_.manager().check_invariants();
    switch (random_() % 8) {
      case 0: rig_.manager().prefetch(any()); break;
      case 1: add(); break;
      case 2: {
        const PayloadId id = any();
        if (!rig_.manager().resident(id) || rig_.waiter().waits() % 2 == 0) break;
        auto lease = rig_.acquire(id, AccessMode::kRead);
        EXPECT_TRUE(lease.ok() && same(id, lease.value().address(0)));
        break;
      }
      default: break;
    }
    return rig_.complete_random(random_) || release_any(Whose::kForeign);
  }

  std::mt19937 random_;
  std::map<PayloadId, Bytes> sizes_;
  std::map<PayloadId, std::vector<std::byte>> contents_;  // empty: none
  std::set<PayloadId> busy_;                              // being acquired
  ManagerRig rig_;
  std::vector<Held> held_;
  WorkerThread other_;
  int granted_ = 0;
  int refused_ = 0;
};

std::vector<Config> configs() {
  return {
      {"one_tier_roomy", {60}},
      {"one_tier_tight", {12}},
      {"two_tiers_smallest", {4, 60}},
      {"two_tiers_tight", {8, 60}},
      {"two_tiers_half", {14, 60}},
      {"two_tiers_roomy", {60, 60}},
      {"three_tiers_smallest", {4, 6, 60}},
      {"three_tiers_tight", {8, 9, 60}},
      {"three_tiers_half", {12, 20, 60}},
  };
}

class ChunkManagerModel : public testing::TestWithParam<std::tuple<Config, PolicyEntry>> {};

TEST_P(ChunkManagerModel, LosesNoByte) {
  const auto& [config, policy] = GetParam();
  const std::uint32_t seed = test_seed(20'240'611);
  SCOPED_TRACE("PATRICKSTAR_SEED=" + std::to_string(seed));
  Model model(config, policy, seed);
  for (int i = 0; i < kOperations; ++i) {
    SCOPED_TRACE("operation " + std::to_string(i));
    model.operate();
    if (testing::Test::HasFailure()) return;
  }
  model.check_all_contents();
  EXPECT_GT(model.injected(), 20 / kOneIn);
  EXPECT_GT(model.granted(), (config.units.size() == 1 ? 500 : 1000) / kOneIn);
  EXPECT_GT(model.refused(), 0);
  if (model.orchestrator() != nullptr && config.units.size() > 1 && config.units[0] < 20) {
    EXPECT_GT(model.orchestrator()->stats().plans, 5 / kOneIn);
    EXPECT_GT(model.orchestrator()->stats().deviations, 20 / kOneIn);
  }
  if (config.units.size() > 1 && config.units[0] < 20) {
    for (const KindTraffic& traffic : model.stats().kinds) {
      EXPECT_GT(traffic.fetches, 20 / kOneIn);
      EXPECT_GT(traffic.write_backs, 20 / kOneIn);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ChunkManagerModel,
                         testing::Combine(testing::ValuesIn(configs()), testing::ValuesIn(registered_policies())),
                         [](const auto& test) {
                           return std::get<0>(test.param).name + "_" + std::string(std::get<1>(test.param).name);
                         });

}  // namespace
}  // namespace patrickstar
