#include "patrickstar/core/testing/manager_rig.h"

#include <fmt/format.h>

#include <cstring>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/testing/bytes.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {

PolicySet make_policy(const PolicyEntry& policy, std::size_t level, Bytes capacity) {
  std::vector<MomentSpec> moments(32);
  for (std::uint32_t i = 0; i < moments.size(); ++i) moments[i].accesses = {reads(i)};
  const Trace trace = trace_of(std::vector<Bytes>(moments.size(), kPayloadAlignment), moments);
  const PolicyInputs inputs{.orchestrator = {.budget = capacity, .ring = 2 * kPayloadAlignment}, .trace = &trace};
  PolicySet made = policy.make(inputs);
  return level > 0 && made.schedule != nullptr ? make_policy(*find_policy("lru"), level, capacity) : std::move(made);
}

ManagerRig::ManagerRig(const std::vector<Bytes>& capacities, const PolicyEntry& policy)
    : waiter_([this] { return complete_oldest(); }) {
  const char* names[] = {"compute", "middle", "bottom"};
  std::vector<Level> levels;
  for (std::size_t level = 0; level < capacities.size(); ++level) {
    tiers_.push_back(std::make_unique<MemoryTier>(names[level], capacities[level]));
    levels.push_back({.tier = tiers_.back().get()});
    if (level + 1 == capacities.size()) break;
    links_.push_back(std::make_unique<ManualLink>(fmt::format("/scratch/{}", level)));
    levels.back().link_below = links_.back().get();
    PolicySet made = make_policy(policy, level, capacities[level]);
    levels.back().policy = std::move(made.policy);
    if (level == 0) orchestrator_ = std::move(made.schedule);
  }
  manager_ = std::make_unique<ChunkManager>(ChunkManagerOptions{.levels = std::move(levels),
                                                                .waiter = &waiter_,
                                                                .clock = &clock_,
                                                                .compute_ledger = &tiers_[0]->ledger(),
                                                                .schedule = orchestrator_.get(),
                                                                .events = &events_,
                                                                .warn = [this](std::string_view text) {
                                                                  warnings_.emplace_back(text);
                                                                  (void)manager_->stats();  // it may be asked: no lock is held
                                                                }});
}

std::size_t ManagerRig::pending() const {
  std::size_t sum = 0;
  for (const auto& link : links_) sum += link->pending();
  return sum;
}

bool ManagerRig::complete_oldest() {
  ManualLink* oldest = nullptr;
  for (const auto& link : links_) {
    if (link->pending() > 0 && (oldest == nullptr || link->transfer(0).id < oldest->transfer(0).id)) oldest = link.get();
  }
  if (oldest == nullptr) return false;
  oldest->complete(0);
  return true;
}

bool ManagerRig::complete_random(std::mt19937& random) {
  std::size_t chosen = pending();
  if (chosen == 0) return false;
  chosen = random() % chosen;
  for (const auto& link : links_) {
    if (chosen < link->pending()) {
      link->complete(chosen);
      return true;
    }
    chosen -= link->pending();
  }
  return false;
}

void ManagerRig::complete_all() {
  while (complete_oldest()) {
  }
}

PayloadId ManagerRig::add(Bytes bytes, PayloadKind kind) {
  auto id =
      manager_->add({.kind = kind, .name = fmt::format("chunk {} {}", sizes_.size(), payload_kind_name(kind)), .bytes = bytes});
  PS_CHECK(id.ok() && id.value().index() == sizes_.size());
  sizes_.push_back(bytes);
  return id.value();
}

Status ManagerRig::fill(PayloadId payload, int value) {
  auto lease = acquire(payload, AccessMode::kCreate);
  if (!lease.ok()) return lease.status();
  std::memset(lease.value().address(0), value, static_cast<std::size_t>(sizes_[payload.index()]));
  return {};
}

int ManagerRig::value(PayloadId payload) {
  auto lease = acquire(payload, AccessMode::kRead);
  if (!lease.ok()) return -1;
  const std::byte* bytes = lease.value().address(0);
  return all_bytes(bytes, sizes_[payload.index()], *bytes) ? static_cast<int>(*bytes) : -2;
}

}  // namespace patrickstar
