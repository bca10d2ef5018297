// ChunkManager: acquire, gather, pins and LeaseSet. chunk_manager.cc lists the other files.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/mem/chunk_manager_scope.h"

namespace patrickstar {

Result<LeaseSet> ChunkManager::acquire(std::span<const Access> accesses, QueueId queue) {
  Lock lock(mutex_);
  bool ready = true;
  for (const Access& access : accesses) {
    const Payload& payload = at(access.payload);
    PS_CHECK(payload.alive);
    if (!ready_now(payload, access.mode)) ready = false;
  }
  if (ready) {
    for (const Access& access : accesses) pin(access.payload);
  } else {
    PS_RETURN_IF_ERROR(gather(lock, accesses));
  }
  Result<LeaseSet> leases = LeaseSet();  // filled where it stands: a LeaseSet is some 150 bytes
  grant(accesses, queue, &leases.value());
  return leases;
}

Result<LeaseSet> ChunkManager::acquire_or_create(PayloadId id, QueueId queue) {
  Lock lock(mutex_);
  PS_CHECK(at(id).alive);
  Access access{id, AccessMode::kWrite};
  if (ready_now(at(id), access.mode)) {
    pin(id);
  } else {
    const WaitScope scope(this);
    PS_RETURN_IF_ERROR(begin_gathering(lock, {&access, 1}));
    // From here on nobody else can create it.
    if (!has_contents(at(id))) access.mode = AccessMode::kCreate;
    PS_RETURN_IF_ERROR(bring_all(lock, {&access, 1}));
  }
  Result<LeaseSet> leases = LeaseSet();
  grant({&access, 1}, queue, &leases.value());
  return leases;
}

// A copy that a transfer reads may be read along with it, but not be written.
bool ChunkManager::ready_now(const Payload& payload, AccessMode mode) const {
  return payload.copies[0].state == CopyState::kValid && (mode == AccessMode::kRead || !payload.moving()) &&
         (mode == AccessMode::kCreate || !payload.discarded);
}

void ChunkManager::grant(std::span<const Access> accesses, QueueId queue, LeaseSet* leases) {
  for (const Access& access : accesses) {
    Payload& payload = at(access.payload);
    if (payload.copies[0].state == CopyState::kReserved) {
      payload.copies[0].state = CopyState::kValid;
      note_resident(&payload);
    }
    if (access.mode != AccessMode::kRead) {
      payload.discarded = false;  // by whom holds it too: it has contents again
      for (int level = 1; level <= bottom(); ++level) {
        if (payload.copies[static_cast<std::size_t>(level)].state == CopyState::kValid) free_copy(access.payload, level);
      }
    }
    leases->push({access.payload, payload.copies[0].place.address()});
    ++stats_.accesses;
    ++payload.counts.uses;
    if (payload.ahead) clear_ahead(&payload);
    emit(EventKind::kAccess, access.payload, 0);
  }
  for (int level = 0; level < bottom(); ++level) levels_[static_cast<std::size_t>(level)].policy->used(accesses);
  leases->manager_ = this;
  leases->ready_ = Fence{queue, 0};
  leases->holder_ = holder_of_this_thread();
  ++held_[leases->holder_];
  ++leases_;
  if (events_ != nullptr) emit_readings();
  write_back_failed_ = false;
  if (schedule_ == nullptr) return;
  schedule_->granted(accesses, facts());
  pump();
}

// The last of them: ready, or there is room that it or one before it creates it in.
bool ChunkManager::gathered(std::span<const Access> accesses) const {
  const Access& access = accesses.back();
  const Payload& payload = at(access.payload);
  if (ready_now(payload, access.mode)) return true;
  const bool has_room = payload.copies[0].state == CopyState::kReserved || payload.copies[0].state == CopyState::kValid;
  return has_room && !payload.moving() && std::any_of(accesses.begin(), accesses.end(), [&](const Access& other) {
           return other.payload == access.payload && other.mode == AccessMode::kCreate;
         });
}

// The slow way: pins everything first, so that nothing that is there goes while the rest is brought.
Status ChunkManager::gather(Lock& lock, std::span<const Access> accesses) {
  const WaitScope scope(this);
  PS_RETURN_IF_ERROR(begin_gathering(lock, accesses));
  return bring_all(lock, accesses);
}

// REQUIRES: it is the caller's turn to gather.
Status ChunkManager::bring_all(Lock& lock, std::span<const Access> accesses) {
  for (const Access& access : accesses) {
    pin(access.payload);
    Payload& payload = at(access.payload);
    if (payload.copies[0].state == CopyState::kFilling) {
      ++stats_.late;
      ++payload.counts.late;
      emit(EventKind::kLate, access.payload, 0);
    }
    if (payload.copies[0].state != CopyState::kNone || payload.pins > 1) continue;
    ++stats_.misses;
    ++payload.counts.misses;
    emit(EventKind::kMiss, access.payload, 0);
  }
  Status status;
  for (std::size_t i = 0; status.ok() && i < accesses.size();) {
    if (gathered(accesses.first(i + 1))) {
      ++i;
    } else {  // any wait may have cost an earlier one: all must be there at one moment
      status = bring_up(lock, accesses.first(i + 1));
      i = 0;
    }
  }
  if (!status.ok()) let_go_of_gathered();
  set_bringing(PayloadId());
  gathering_.reset();
  progress();
  return status;
}

Status ChunkManager::begin_gathering(Lock& lock, std::span<const Access> accesses) {
  const std::uint32_t me = holder_of_this_thread();
  std::optional<std::uint64_t> seen;
  Status status;
  while (status.ok() && gathering_.has_value()) {
    if (seen != epoch_) {
      seen = epoch_;
      blocked_leases_ += held_[me];
      if (held_[me] > 0) changed_.notify_all();  // who gathers may wait for one of our leases and must look again
    }
    status = wait(lock, {.cause = WaitCause::kTurn});
  }
  if (seen == epoch_) blocked_leases_ -= held_[me];
  if (status.ok()) gathering_ = Gathering{.accesses = accesses, .thread = me};
  return status;
}

void ChunkManager::set_bringing(PayloadId id) {
  const PayloadId before = std::exchange(gathering_->bringing, id);
  for (const PayloadId changed : {before, id}) {
    for (int level = 1; changed.valid() && level < bottom(); ++level) update_candidate(changed, level);
  }
}

void ChunkManager::let_go_of_gathered() {
  set_bringing(PayloadId());
  for (const Access& access : gathering_->accesses) {
    if (at(access.payload).copies[0].state == CopyState::kReserved) free_copy(access.payload, 0);
    unpin(access.payload);
  }
}

// The last of them. REQUIRES: the caller gathers and has pinned it.
Status ChunkManager::bring_up(Lock& lock, std::span<const Access> accesses) {
  const auto [id, mode] = accesses.back();
  set_bringing(id);
  failures_.erase(id);
  while (!gathered(accesses)) {
    if (at(id).moving()) {
      PS_RETURN_IF_ERROR(wait(lock, {.cause = WaitCause::kTransfer, .payload = id}));
      const auto failed = failures_.find(id);
      if (failed != failures_.end() && !at(id).moving()) return failed->second;
      continue;
    }
    if (mode == AccessMode::kCreate) {
      auto place = allocate(lock, 0, at(id).spec.bytes);
      if (!place.ok()) return place.status().with_context("no room for " + at(id).spec.name);
      Payload& payload = at(id);
      if (payload.copies[0].state != CopyState::kNone || payload.moving()) {  // a prefetch came first
        give_back(0, place.value(), payload.spec.bytes);
        continue;
      }
      payload.copies[0].place = place.value();
      payload.copies[0].state = CopyState::kReserved;
      continue;
    }
    if (!has_contents(at(id))) {
      return Status(StatusCode::kInvalidArgument, fmt::format("[memory] {} has no contents to read", at(id).spec.name));
    }
    PS_RETURN_IF_ERROR(start_hop_up(lock, id, Urgency::kDemand));
  }
  return {};
}

Status ChunkManager::start_hop_up(Lock& lock, PayloadId id, Urgency urgency) {
  const int from = nearest_valid(at(id));
  const int to = from - 1;
  auto place = allocate(lock, to, at(id).spec.bytes);
  if (!place.ok()) return place.status().with_context("no room for " + at(id).spec.name);
  Payload& payload = at(id);
  Copy& target = payload.copies[static_cast<std::size_t>(to)];
  if (payload.moving() || nearest_valid(payload) != from || target.state != CopyState::kNone) {  // changed while we made room
    give_back(to, place.value(), payload.spec.bytes);
    return {};
  }
  target.place = place.value();
  start_transfer(id, from, to, urgency);
  return {};
}

// A copy is a candidate when nothing holds it and nothing moves it. Beneath the compute tier pins do not matter, only whether
// the payload is on its way up: else an acquire of many could fill a middle tier with copies that cannot leave it.
bool ChunkManager::is_candidate(PayloadId id, int level) const {
  const Payload& payload = at(id);
  if (level >= bottom() || payload.copies[static_cast<std::size_t>(level)].state != CopyState::kValid || payload.moving())
    return false;
  return level == 0 ? payload.pins == 0 : !(gathering_ && gathering_->bringing == id);
}

void ChunkManager::update_candidate(PayloadId id, int level) {
  Copy& copy = at(id).copies[static_cast<std::size_t>(level)];
  const bool candidate = is_candidate(id, level);
  if (candidate == copy.tracked) return;
  copy.tracked = candidate;
  if (candidate) {
    levels_[static_cast<std::size_t>(level)].policy->track(id);
  } else {
    levels_[static_cast<std::size_t>(level)].policy->untrack(id);
  }
}

void ChunkManager::pin(PayloadId id) {
  Payload& payload = at(id);
  if (payload.pins++ > 0) return;
  if (compute_ledger_ != nullptr) compute_ledger_->pin(payload.spec.bytes);
  if (payload.copies[0].leaving) {  // its write-back goes on, but it stays
    payload.copies[0].leaving = false;
    leaving_bytes_[0] -= payload.spec.bytes;
  }
  update_candidate(id, 0);
}

void ChunkManager::unpin(PayloadId id) {
  Payload& payload = at(id);
  PS_CHECK(payload.pins > 0);
  if (--payload.pins > 0) return;
  if (compute_ledger_ != nullptr) compute_ledger_->unpin(payload.spec.bytes);
  update_candidate(id, 0);
  if (payload.discarded && !payload.moving()) free_copies(id);
}

void ChunkManager::release(LeaseSet* leases) {
  const Lock lock(mutex_);
  for (std::size_t i = 0; i < leases->count_; ++i) {
    unpin(leases->entry(i).payload);
    let_go_if_done(leases->entry(i).payload);
  }
  --held_[leases->holder_];
  --leases_;
  ++releases_;
  progress();
  pump();
}

LeaseSet& LeaseSet::operator=(LeaseSet&& other) noexcept {
  release();
  take(other);
  return *this;
}

void LeaseSet::release(Fence completion) {
  // Only the CPU's queue exists on the host compute tier; a CUDA tier keeps the slot until `completion` is done.
  PS_CHECK(completion.done_on_cpu());
  if (manager_ == nullptr) return;
  std::exchange(manager_, nullptr)->release(this);
  count_ = 0;
  more_.clear();
}

}  // namespace patrickstar
