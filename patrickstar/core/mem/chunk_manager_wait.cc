// ChunkManager: waiting, who holds what, and the invariants. chunk_manager.cc lists the other files.
//
// [Note: who waits for whom] Each thread counts its leases. One that is about to wait for a lease (or for its turn to gather)
// is blocked until the next event that could help it: a release, a completion, freed room, the end of a gather. Such an event
// begins a new epoch, in which nobody is blocked until it has looked again. A wait for a lease fails when all leases of others
// belong to blocked threads. A thread that gathers lets go of all it has pinned while it waits for a lease, so that a holder
// who needs room itself can have it, and begins again only when a lease was released: two holders that each lack a little more
// than one evicted payload would otherwise take from it for ever what it fetches for ever.
#include <fmt/format.h>

#include <atomic>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/mem/chunk_manager.h"

namespace patrickstar {

// --- waiting ----------------------------------------------------------------------------------------------------------------

// Numbers threads for the table of holders. The only state outside an object: a thread has no place of its own to keep it.
std::uint32_t ChunkManager::holder_of_this_thread() {
  static std::atomic<std::uint32_t> next{0};
  static thread_local const std::uint32_t mine = next.fetch_add(1);
  if (held_.size() <= mine) held_.resize(mine + 1, 0);
  if (!waits_.knows(mine)) waits_.enter(mine);
  return mine;
}

// Something happened that may end a wait. Whoever waits looks again.
void ChunkManager::progress() {
  ++epoch_;
  blocked_leases_ = 0;
  if (gathering_) gathering_->blocked = false;
  if (waiting_ > 0) changed_.notify_all();
}

// May return although nothing happened.
Status ChunkManager::wait(Lock& lock, const WaitFor& what) {
  const std::uint32_t me = holder_of_this_thread();
  const std::uint64_t before = epoch_;
  const Nanos start = clock_->now();
  begin_waiting(me, what);
  ++waiting_;
  WaitResult result = WaitResult::kTick;
  Nanos now = start;
  const auto timed_out = [&] {
    return result == WaitResult::kTimedOut || (waits_.of(me).active && now - waits_.of(me).quiet_since >= time_out_);
  };
  if (!tell_if_long(lock, me)) {
    do {  // at least once: who waits on after a time-out would else keep the lock for ever
      result = waiter_->wait(lock, changed_);
      now = clock_->now();
    } while (result == WaitResult::kTick && epoch_ == before && !timed_out() && !tell_if_long(lock, me));
  }
  --waiting_;
  stats_.stalled += clock_->now() - start;
  if (epoch_ != before || !timed_out()) return {};
  return Status(StatusCode::kTimedOut,
                fmt::format("[memory] nothing happened for {}: {}; {}; {}", seconds_text(now - waits_.of(me).quiet_since),
                            waits_text(now), transfers_text(now), holders_text()));
}

// Returns once something happened that may help: for one who gathers only a release, as whoever holds leases takes what it let go
// of and would go on taking what it fetches again. [Note: who waits for whom]
Status ChunkManager::wait_for_lease(Lock& lock, const WaitFor& room) {
  const std::uint32_t me = holder_of_this_thread();
  WaitFor for_lease = room;
  for_lease.cause = WaitCause::kLease;
  const bool gathers = gathering_ && gathering_->thread == me;
  const PayloadId bringing = gathers ? gathering_->bringing : PayloadId();
  if (leases_ == held_[me]) PS_RETURN_IF_ERROR(can_wait_for_lease(me));  // while the text can still say what we hold
  if (gathers) {
    let_go_of_gathered();
    progress();
  }
  const std::uint64_t& helped = gathers ? releases_ : epoch_;
  const std::uint64_t before = helped;
  Status status;
  while (status.ok() && helped == before) {
    status = can_wait_for_lease(me);
    if (!status.ok()) break;
    const std::uint64_t seen = epoch_;
    blocked_leases_ += held_[me];
    if (gathers) gathering_->blocked = true;
    status = wait(lock, for_lease);
    if (epoch_ != seen) continue;
    blocked_leases_ -= held_[me];
    if (gathers) gathering_->blocked = false;
  }
  if (gathers) {
    for (const Access& access : gathering_->accesses) pin(access.payload);
    set_bringing(bringing);
  }
  return status;
}

Status ChunkManager::can_wait_for_lease(std::uint32_t thread) const {
  if (gathering_ && gathering_->thread != thread && !gathering_->blocked) return {};  // ends, or lets go of what it holds
  const std::int64_t of_others = leases_ - held_[thread];
  if (of_others > blocked_leases_) return {};
  if (of_others == 0) return Status(StatusCode::kOutOfRoom, "[memory] nothing more can give way: " + holders_text());
  return Status(StatusCode::kDeadlock, "[memory] every thread that holds chunks waits for another's: " + holders_text());
}

std::string ChunkManager::holders_text() const {
  std::string text;
  int listed = 0;
  Bytes leased = 0;
  for (const Payload& payload : payloads_) {
    if (!payload.alive || payload.pins == 0) continue;
    leased += payload.spec.bytes;
    if (++listed <= 8)
      text += fmt::format("{}{} ({})", listed > 1 ? ", " : "", payload.spec.name, format_bytes(payload.spec.bytes));
  }
  if (listed > 8) text += fmt::format(" and {} more", listed - 8);
  std::string result = listed == 0 ? std::string("no chunk is held")
                                   : fmt::format("held or wanted are {} ({} leases): {}", format_bytes(leased), leases_, text);
  if (compute_ledger_ != nullptr) result += "; " + compute_ledger_->table();
  return result;
}

// --- invariants -------------------------------------------------------------------------------------------------------------

void ChunkManager::check_invariants() const {
  const Lock lock(mutex_);
  std::array<Bytes, kMaxLevels> leaving{};
  std::int64_t moving = 0;
  Bytes pinned = 0;
  Bytes compute = 0;
  Bytes under_way = 0;
  Bytes ahead = 0;
  for (std::size_t i = 0; i < payloads_.size(); ++i) {
    const Payload& payload = payloads_[i];
    if (!payload.alive) continue;
    if (payload.moving()) {
      ++moving;
      under_way += payload.spec.bytes;
    }
    if (payload.ahead) ahead += payload.spec.bytes;
    PS_CHECK((payload.copies[0].state == CopyState::kValid) == (payload.resident_since >= 0));  // I12
    PS_CHECK(!payload.discarded || payload.moving() || payload.pins > 0);                       // I14
    if (payload.pins > 0) pinned += payload.spec.bytes;
    for (int level = 0; level < kMaxLevels; ++level) {
      const Copy& copy = payload.copies[static_cast<std::size_t>(level)];
      PS_CHECK(level <= bottom() || copy.state == CopyState::kNone);                                   // I1
      PS_CHECK((copy.state == CopyState::kFilling) == (payload.moving() && payload.to == level));      // I2
      PS_CHECK(copy.state != CopyState::kReserved || (level == 0 && payload.pins > 0 && gathering_));  // I3
      PS_CHECK(!copy.leaving || (copy.state == CopyState::kValid && payload.from == level));           // I4
      PS_CHECK(!(copy.leaving && level == 0) || payload.pins == 0);                                    // I5
      PS_CHECK(copy.tracked == is_candidate(PayloadId(i), level));                                     // I6
      if (level == 0 && copy.state != CopyState::kNone) compute += payload.spec.bytes;
      if (copy.leaving) leaving[static_cast<std::size_t>(level)] += payload.spec.bytes;
    }
    PS_CHECK(!payload.moving() || payload.copies[static_cast<std::size_t>(payload.from)].state == CopyState::kValid);  // I7
  }
  PS_CHECK(leaving == leaving_bytes_ && moving == transfers_under_way_);        // I8
  PS_CHECK(under_way == moving_bytes_ && ahead == ahead_bytes_);                // I13
  PS_CHECK(bottom() == 0 || compute <= compute_bytes_);                         // I11: more only while a place is being taken
  PS_CHECK(compute_ledger_ == nullptr || compute_ledger_->pinned() == pinned);  // I9
  std::int64_t leases = 0;
  for (const std::int32_t held : held_) leases += held;
  PS_CHECK(leases == leases_ && blocked_leases_ >= 0 && blocked_leases_ <= leases_);  // I10
}

}  // namespace patrickstar
