// ChunkManager: the schedule's part, copies and transfers. chunk_manager.cc lists the other files.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/mem/chunk_manager_scope.h"

namespace patrickstar {

// --- the schedule's part ----------------------------------------------------------------------------------------------------

// A copy on the compute tier that the schedule is done with leaves at once, if that needs no waiting.
void ChunkManager::let_go_if_done(PayloadId id) {
  if (schedule_ == nullptr || !at(id).copies[0].tracked || schedule_->keep(id)) return;
  (void)let_go_unwaited(id);
}

// False: it would have to wait for room beneath. REQUIRES: a candidate of the compute tier.
bool ChunkManager::let_go_unwaited(PayloadId id) {
  Place below;
  if (is_only_copy(id, 0) && bottom() > 1) {
    auto place = take_place(1, at(id).spec.bytes);
    if (!place.ok()) return false;
    below = place.value();
  }
  let_go(0, id, below);
  return true;
}

// For what the schedule wants and cannot have yet. True: there is more room now. What must be written goes only if nothing else
// is leaving, and after a write-back that failed nothing does before the next grant: on a broken disk that would go on for ever.
bool ChunkManager::let_surplus_go() {
  if (write_back_failed_) return false;
  const auto victim = levels_[0].policy->victim();
  if (!victim.has_value() || !schedule_->surplus(*victim)) return false;
  if (is_only_copy(*victim, 0) && leaving_bytes_[0] > 0) return false;
  return let_go_unwaited(*victim) && at(*victim).copies[0].state == CopyState::kNone;
}

// Starts what the schedule wants brought, as far as there is room.
void ChunkManager::pump() {
  if (schedule_ == nullptr || room_seekers_ > 0) return;
  while (const auto want = schedule_->want()) {
    Payload& payload = at(want->payload);
    Copy& copy = payload.copies[0];
    if (copy.leaving) {  // its write-back goes on, but it stays
      copy.leaving = false;
      leaving_bytes_[0] -= payload.spec.bytes;
    } else if (payload.alive && copy.state == CopyState::kNone && !payload.moving() && nearest_valid(payload) > 0) {
      if (prefetching_bytes_ > 0 && prefetching_bytes_ + payload.spec.bytes > prefetch_depth_) return;
      const Bytes bytes = payload.spec.bytes;
      if (bytes + leaving_bytes_[0] > want->left || compute_bytes_ + bytes > want->room || !start_prefetch(want->payload)) {
        if (!let_surplus_go()) return;
        continue;
      }
    } else if (payload.moving() && payload.to < payload.from && payload.to > 0) {
      payload.prefetching = true;
    }
    schedule_->brought(want->payload);
  }
}

bool ChunkManager::give_up(PayloadId id) {
  Lock lock(mutex_);
  const WaitScope scope(this);
  const auto gone = [&] { return at(id).copies[0].state == CopyState::kNone || at(id).copies[0].leaving; };
  at(id).prefetching = false;
  if (gone()) return true;
  if (!at(id).copies[0].tracked) return false;
  return evict(lock, 0, id).ok() && gone();
}

bool ChunkManager::prefetch(PayloadId id) {
  const Lock lock(mutex_);
  Payload& payload = at(id);
  const int from = nearest_valid(payload);
  if (from == 0) return true;
  if (payload.copies[0].state == CopyState::kReserved) return true;
  if (payload.moving()) {
    payload.prefetching = payload.to < payload.from && payload.to > 0;
    return payload.to < payload.from;
  }
  return from > 0 && room_seekers_ == 0 && start_prefetch(id);
}

// REQUIRES: not moving, valid beneath the compute tier only.
bool ChunkManager::start_prefetch(PayloadId id) {
  Payload& payload = at(id);
  const int from = nearest_valid(payload);
  const int to = from - 1;
  auto place = take_place(to, payload.spec.bytes);
  if (!place.ok()) return false;
  payload.copies[static_cast<std::size_t>(to)].place = place.value();
  payload.prefetching = to > 0;
  start_transfer(id, from, to, Urgency::kPrefetch);
  return true;
}

Status ChunkManager::drain() {
  Lock lock(mutex_);
  const WaitScope scope(this);
  while (transfers_under_way_ > 0) PS_RETURN_IF_ERROR(wait(lock, {.cause = WaitCause::kRest}));
  return {};
}

// --- copies and transfers ---------------------------------------------------------------------------------------------------

void ChunkManager::free_copy(PayloadId id, int level) {
  Payload& payload = at(id);
  Copy& copy = payload.copies[static_cast<std::size_t>(level)];
  copy.state = CopyState::kNone;
  if (level == 0) note_gone(&payload);
  update_candidate(id, level);
  if (level < bottom() || bottom() == 0) {
    give_back(level, std::exchange(copy.place, Place{}), payload.spec.bytes);
    emit(EventKind::kDrop, id, level);
  }
}

// All of them: the contents are dead.
void ChunkManager::free_copies(PayloadId id) {
  for (int level = 0; level <= bottom(); ++level) {
    if (at(id).copies[static_cast<std::size_t>(level)].state != CopyState::kNone) free_copy(id, level);
  }
  failures_.erase(id);
  at(id).discarded = false;
}

// Of a payload whose contents are dead, at rest: a leased copy stays until its last lease ends.
void ChunkManager::free_dead_copies(PayloadId id) {
  if (at(id).pins == 0) return free_copies(id);
  for (int level = 1; level <= bottom(); ++level) {
    if (at(id).copies[static_cast<std::size_t>(level)].state != CopyState::kNone) free_copy(id, level);
  }
}

void ChunkManager::give_back(int level, Place place, Bytes bytes) {
  levels_[static_cast<std::size_t>(level)].tier->free(place, bytes);
  freed_bytes_[static_cast<std::size_t>(level)] += bytes;
  if (level == 0) compute_bytes_ -= bytes;
  progress();
}

// REQUIRES: the target copy has its place.
void ChunkManager::start_transfer(PayloadId id, int from, int to, Urgency urgency) {
  Payload& payload = at(id);
  PS_CHECK(!payload.moving() && payload.copies[static_cast<std::size_t>(from)].state == CopyState::kValid);
  PS_CHECK(payload.copies[static_cast<std::size_t>(to)].state == CopyState::kNone);
  payload.copies[static_cast<std::size_t>(to)].state = CopyState::kFilling;
  payload.from = static_cast<std::int8_t>(from);
  payload.to = static_cast<std::int8_t>(to);
  payload.urgency = urgency;
  payload.moving_since = clock_->now();
  for (int level = 0; level < bottom(); ++level) update_candidate(id, level);
  ++transfers_under_way_;
  moving_bytes_ += payload.spec.bytes;
  if (urgency == Urgency::kPrefetch) prefetching_bytes_ += payload.spec.bytes;
  if (urgency == Urgency::kPrefetch && to == 0) set_ahead(id);
  emit(to < from ? EventKind::kFetchStart : EventKind::kWriteStart, id, to, urgency_name(urgency));
  emit_readings();
  const auto upper = static_cast<std::size_t>(std::min(from, to));
  const auto lower = static_cast<std::size_t>(std::max(from, to));
  levels_[upper].link_below->start({.id = next_transfer_++,
                                    .payload = id,
                                    .direction = to < from ? Direction::kUp : Direction::kDown,
                                    .urgency = urgency,
                                    .upper = payload.copies[upper].place,
                                    .lower = payload.copies[lower].place,
                                    .bytes = payload.spec.bytes});
}

void ChunkManager::transfer_done(const Transfer& transfer, Status status) {
  const Lock lock(mutex_);
  const PayloadId id = transfer.payload;
  Payload& payload = at(id);
  PS_CHECK(payload.moving());
  const int from = payload.from;
  const int to = payload.to;
  payload.from = payload.to = -1;
  --transfers_under_way_;
  moving_bytes_ -= transfer.bytes;
  if (transfer.urgency == Urgency::kPrefetch) prefetching_bytes_ -= transfer.bytes;
  const bool up = to < from;
  if (status.ok()) {
    failures_.erase(id);
    KindTraffic& traffic = stats_.kinds[static_cast<std::size_t>(payload.spec.kind)];
    (up ? traffic.read : traffic.written) += payload.spec.bytes;
    (up ? payload.counts.read : payload.counts.written) += payload.spec.bytes;
    ++(up ? traffic.fetches : traffic.write_backs);
    emit(up ? EventKind::kFetchDone : EventKind::kWriteDone, id, to);
  } else {
    const Status named = status.with_context(
        fmt::format("{} of {} ({}) failed", up ? "fetch" : "write-back", payload.spec.name, format_bytes(payload.spec.bytes)));
    if (up) {
      failures_.insert_or_assign(id, named);
    } else {
      write_back_failed_ = true;
      if (!payload.discarded) {  // else its bytes are nobody's
        ++failed_write_backs_;
        last_write_back_failure_ = named;
      }
    }
    emit(EventKind::kFailed, id, to);
  }
  if (payload.discarded) payload.prefetching = false;
  if (up) {
    finish_up(id, from, to, status.ok());
  } else {
    finish_down(id, from, to, status.ok());
  }
  if (payload.discarded) free_dead_copies(id);
  for (int level = 0; level < bottom(); ++level) update_candidate(id, level);
  // It was used again while its write-back went on. One that failed is not tried again of itself: that could go on for ever.
  if (!up && status.ok()) let_go_if_done(id);
  progress();
  pump();
  emit_readings();
}

void ChunkManager::finish_up(PayloadId id, int /*from*/, int to, bool ok) {
  Payload& payload = at(id);
  Copy& target = payload.copies[static_cast<std::size_t>(to)];
  const bool goes_on = std::exchange(payload.prefetching, false) && ok && to > 0;
  if (ok) {
    target.state = CopyState::kValid;
    if (to == 0) note_resident(&payload);
  } else {
    free_copy(id, to);
  }
  if (!goes_on) return;
  auto place = take_place(to - 1, payload.spec.bytes);
  if (!place.ok()) return;  // no room above: it stays half way, a demand fetch goes on from there
  payload.copies[static_cast<std::size_t>(to - 1)].place = place.value();
  payload.prefetching = to - 1 > 0;
  start_transfer(id, to, to - 1, Urgency::kPrefetch);
}

void ChunkManager::finish_down(PayloadId id, int from, int to, bool ok) {
  Payload& payload = at(id);
  Copy& source = payload.copies[static_cast<std::size_t>(from)];
  Copy& target = payload.copies[static_cast<std::size_t>(to)];
  if (ok) {
    target.state = CopyState::kValid;
  } else if (to == bottom()) {
    target.state = CopyState::kNone;  // keeps its slot
  } else {
    free_copy(id, to);
  }
  if (!source.leaving) return;
  source.leaving = false;
  leaving_bytes_[static_cast<std::size_t>(from)] -= payload.spec.bytes;
  if (ok) free_copy(id, from);
}

}  // namespace patrickstar
