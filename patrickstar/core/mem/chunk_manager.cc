// ChunkManager: payloads and what is known of them. chunk_manager_lease.cc: acquire and release. chunk_manager_room.cc: room.
// chunk_manager_transfer.cc: the schedule's part, copies and transfers. chunk_manager_wait.cc: who waits for whom, and the
// invariants. chunk_manager_report.cc: what is told: events, reports, texts.
#include "patrickstar/core/mem/chunk_manager.h"

#include <algorithm>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/mem/chunk_manager_scope.h"

namespace patrickstar {

ChunkManager::ChunkManager(ChunkManagerOptions options)
    : levels_(std::move(options.levels)),
      waiter_(options.waiter),
      clock_(options.clock),
      compute_ledger_(options.compute_ledger),
      events_(options.events),
      schedule_(options.schedule),
      prefetch_depth_(options.prefetch_depth),
      warn_after_(options.warn_after),
      warn_(std::move(options.warn)),
      time_out_(options.time_out) {
  PS_CHECK(!levels_.empty() && levels_.size() <= static_cast<std::size_t>(kMaxLevels) && waiter_ != nullptr && clock_ != nullptr);
  for (int level = 0; level < bottom(); ++level) {
    PS_CHECK(levels_[static_cast<std::size_t>(level)].policy != nullptr);
    levels_[static_cast<std::size_t>(level)].link_below->set_sink(this);
  }
}

ChunkManager::~ChunkManager() {
  {
    Lock lock(mutex_);
    const WaitScope scope(this);
    while (transfers_under_way_ > 0) (void)wait(lock, {.cause = WaitCause::kRest});  // however long: there is nobody to tell
  }
  PS_CHECK(leases_ == 0);
  for (std::size_t i = 0; i < payloads_.size(); ++i) {
    if (payloads_[i].alive) remove(PayloadId(i));
  }
}

int ChunkManager::nearest_valid(const Payload& payload) {
  for (int level = 0; level < kMaxLevels; ++level) {
    if (payload.copies[static_cast<std::size_t>(level)].state == CopyState::kValid) return level;
  }
  return -1;
}

// --- payloads ---------------------------------------------------------------------------------------------------------------

Result<PayloadId> ChunkManager::add(PayloadSpec spec) {
  PS_CHECK(spec.bytes > 0 && spec.bytes % kPayloadAlignment == 0);
  const Lock lock(mutex_);
  Payload payload;
  payload.spec = std::move(spec);
  payload.alive = true;
  if (bottom() > 0) {
    auto slot = levels_.back().tier->allocate(payload.spec.bytes);
    if (!slot.ok()) return slot.status().with_context("no slot for " + payload.spec.name);
    payload.copies[static_cast<std::size_t>(bottom())].place = slot.value();
  }
  payloads_.push_back(std::move(payload));
  const PayloadId id(payloads_.size() - 1);
  if (schedule_ != nullptr) schedule_->added(id, at(id).spec.kind, at(id).spec.bytes);
  return id;
}

void ChunkManager::discard(PayloadId id) {
  const Lock lock(mutex_);
  Payload& payload = at(id);
  PS_CHECK(payload.alive);
  if (!has_contents(payload) && !payload.moving()) return;
  payload.discarded = true;
  payload.prefetching = false;
  if (!payload.moving()) free_dead_copies(id);
}

void ChunkManager::remove(PayloadId id) {
  Lock lock(mutex_);
  const WaitScope scope(this);
  PS_CHECK(at(id).alive && at(id).pins == 0);
  // However long: a transfer depends on nobody, and ends.
  while (at(id).moving()) (void)wait(lock, {.cause = WaitCause::kTransfer, .payload = id});
  free_copies(id);
  Payload& payload = at(id);
  if (bottom() > 0) levels_.back().tier->free(payload.copies[static_cast<std::size_t>(bottom())].place, payload.spec.bytes);
  payload = Payload{};
  if (schedule_ != nullptr) schedule_->removed(id);
}

void ChunkManager::step_done() {
  const Lock lock(mutex_);
  if (schedule_ == nullptr) return;
  schedule_->step_done(facts());
  pump();
}

MomentFacts ChunkManager::facts() {
  const Nanos now = clock_->now();
  const Nanos waited = stats_.stalled - std::exchange(stalled_at_last_moment_, stats_.stalled);
  const Nanos elapsed = now - std::exchange(last_moment_, now);
  return {.non_model = compute_ledger_ != nullptr ? compute_ledger_->take_non_model_peak() : 0,
          .compute = std::max<Nanos>(0, elapsed - waited)};
}

bool ChunkManager::resident(PayloadId id) const {
  const Lock lock(mutex_);
  return at(id).copies[0].state == CopyState::kValid && !at(id).discarded;
}

void ChunkManager::read_schedule(const std::function<void()>& read) const {
  const Lock lock(mutex_);
  read();
}

bool ChunkManager::has_contents(PayloadId id) const {
  const Lock lock(mutex_);
  return has_contents(at(id));
}

std::string ChunkManager::name_of(PayloadId id) const {
  const Lock lock(mutex_);
  return at(id).spec.name;
}

bool ChunkManager::has_evicted() const {
  const Lock lock(mutex_);
  return stats_.evictions > 0;
}

Bytes ChunkManager::bytes_of(PayloadId id) const {
  const Lock lock(mutex_);
  return at(id).spec.bytes;
}

ManagerStats ChunkManager::stats() const {
  const Lock lock(mutex_);
  return stats_;
}

}  // namespace patrickstar
