// ChunkManager: what is told of it: events, reports, and who waits for what. chunk_manager.cc lists the other files.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "patrickstar/core/base/text.h"
#include "patrickstar/core/mem/chunk_manager.h"

namespace patrickstar {

const char* copy_state_name(CopyState state) {
  switch (state) {
    case CopyState::kNone: return "none";
    case CopyState::kReserved: return "reserved";
    case CopyState::kFilling: return "filling";
    case CopyState::kValid: return "valid";
  }
  return "unknown";
}

const char* urgency_name(Urgency urgency) {
  switch (urgency) {
    case Urgency::kDemand: return "demand";
    case Urgency::kPrefetch: return "prefetch";
    case Urgency::kWriteBack: return "write-back";
  }
  return "unknown";
}

// --- counts -----------------------------------------------------------------------------------------------------------------

void ChunkManager::note_resident(Payload* payload) { payload->resident_since = clock_->now(); }

void ChunkManager::note_gone(Payload* payload) {
  clear_ahead(payload);
  if (payload->resident_since < 0) return;
  payload->counts.resident += clock_->now() - std::exchange(payload->resident_since, -1);
}

void ChunkManager::set_ahead(PayloadId id) {
  if (!std::exchange(at(id).ahead, true)) ahead_bytes_ += at(id).spec.bytes;
}

void ChunkManager::clear_ahead(Payload* payload) {
  if (std::exchange(payload->ahead, false)) ahead_bytes_ -= payload->spec.bytes;
}

std::vector<PayloadReport> ChunkManager::report() const {
  const Lock lock(mutex_);
  const Nanos now = clock_->now();
  std::vector<PayloadReport> reports;
  for (std::size_t i = 0; i < payloads_.size(); ++i) {
    const Payload& payload = payloads_[i];
    if (!payload.alive) continue;
    PayloadReport report{.id = PayloadId(i), .spec = payload.spec, .pins = payload.pins, .counts = payload.counts};
    for (std::size_t level = 0; level < report.states.size(); ++level) report.states[level] = payload.copies[level].state;
    if (payload.resident_since >= 0) report.counts.resident += now - payload.resident_since;
    reports.push_back(std::move(report));
  }
  return reports;
}

// --- events -----------------------------------------------------------------------------------------------------------------

void ChunkManager::emit(EventKind kind, PayloadId id, int level, std::string_view why) {
  if (events_ == nullptr) return;
  const PayloadSpec& spec = at(id).spec;
  events_->on_event({.kind = kind,
                     .level = static_cast<std::uint8_t>(level),
                     .payload = id,
                     .bytes = spec.bytes,
                     .time = clock_->now(),
                     .name = spec.name,
                     .payload_kind = payload_kind_name(spec.kind),
                     .why = why});
}

void ChunkManager::emit_wait(EventKind kind, std::uint32_t thread) {
  if (events_ == nullptr) return;
  const WaitFor& what = waits_.of(thread).what;
  Event event{.kind = kind,
              .level = static_cast<std::uint8_t>(what.level),
              .payload = what.payload,
              .bytes = what.bytes,
              .time = clock_->now(),
              .why = wait_cause_name(what.cause),
              .thread = thread};
  if (what.payload.valid()) {
    const PayloadSpec& spec = at(what.payload).spec;
    event.name = spec.name;
    event.payload_kind = payload_kind_name(spec.kind);
    if (what.bytes == 0) event.bytes = spec.bytes;
  }
  events_->on_event(event);
}

void ChunkManager::emit_readings() {
  if (events_ == nullptr) return;
  const bool ledger = compute_ledger_ != nullptr;
  const std::array<std::pair<EventKind, Bytes>, 5> now = {{
      {EventKind::kChunkBytes, compute_bytes_},
      {EventKind::kNonModelBytes, ledger ? compute_ledger_->in(Account::kNonModel) : 0},
      {EventKind::kUnderWayBytes, moving_bytes_},
      {EventKind::kAheadBytes, ahead_bytes_},
      {EventKind::kBudgetBytes, ledger ? compute_ledger_->budget() : 0},
  }};
  const Nanos time = clock_->now();
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (std::exchange(readings_[i], now[i].second) == now[i].second) continue;
    events_->on_event({.kind = now[i].first, .bytes = now[i].second, .time = time});
  }
}

// --- who waits for what -----------------------------------------------------------------------------------------------------

void ChunkManager::begin_waiting(std::uint32_t thread, const WaitFor& what) {
  const bool waited = waits_.of(thread).active;
  const WaitFor before = waits_.of(thread).what;
  if (waited && !before.same_goal(what)) emit_wait(EventKind::kStallEnd, thread);
  if (waits_.begin(thread, what, clock_->now(), epoch_) == WaitBoard::Begun::kAnew) emit_wait(EventKind::kStallStart, thread);
}

void ChunkManager::end_waiting() {
  const std::uint32_t me = holder_of_this_thread();
  if (!waits_.of(me).active) return;
  emit_wait(EventKind::kStallEnd, me);
  waits_.end(me);
}

// True: told, so the lock was given up for a while and something may have changed.
bool ChunkManager::tell_if_long(Lock& lock, std::uint32_t thread) {
  const WaitBoard::Wait& wait = waits_.of(thread);
  const Nanos now = clock_->now();
  if (!wait.active || wait.told || now - wait.since < warn_after_) return false;
  waits_.mark_told(now, warn_after_);
  const std::string text = fmt::format("[memory] a long wait: {}; {}", waits_text(now), transfers_text(now));
  lock.unlock();  // whoever reads the log may be slow
  warn_(text);
  lock.lock();
  return true;
}

std::string ChunkManager::goal_text(std::uint32_t thread, const WaitFor& what, Nanos now) const {
  const auto named = [&](PayloadId id) { return fmt::format("{} ({})", at(id).spec.name, format_bytes(at(id).spec.bytes)); };
  const auto tier = [&](int level) { return levels_[static_cast<std::size_t>(level)].tier->name(); };
  switch (what.cause) {
    case WaitCause::kTransfer: {
      const Payload& payload = at(what.payload);
      if (!payload.moving()) return named(what.payload) + ", which is not on its way";
      const bool up = payload.to < payload.from;
      return fmt::format("{}, {} to {} for {} ({})", named(what.payload), up ? "read" : "written", tier(payload.to),
                         seconds_text(now - payload.moving_since), urgency_name(payload.urgency));
    }
    case WaitCause::kTurn:
      return "its turn to bring chunks" + (gathering_ ? ", which " + waits_.who(gathering_->thread) + " has" : std::string());
    case WaitCause::kRoom:
    case WaitCause::kLease: {
      std::string text = fmt::format("room of {} on {}", format_bytes(what.bytes), tier(what.level));
      if (what.payload.valid()) text += " for " + named(what.payload);
      if (what.cause == WaitCause::kRoom) return text;
      text += ", for a lease to end:";
      for (std::uint32_t other = 0; other < held_.size(); ++other) {
        if (other != thread && held_[other] > 0) text += fmt::format(" {} holds {},", waits_.who(other), held_[other]);
      }
      text.pop_back();
      return text;
    }
    case WaitCause::kRest: return "all transfers to end";
  }
  return "something unknown";
}

std::string ChunkManager::waits_text(Nanos now) const {
  std::string text;
  for (const std::uint32_t thread : waits_.waiting()) {
    const WaitBoard::Wait& wait = waits_.of(thread);
    text += fmt::format("{}{} has waited {} for {}", text.empty() ? "" : "; ", waits_.who(thread), seconds_text(now - wait.since),
                        goal_text(thread, wait.what, now));
  }
  return text.empty() ? "nobody waits" : text;
}

std::string ChunkManager::transfers_text(Nanos now) const {
  constexpr std::size_t kListed = 8;
  std::vector<const Payload*> moving;
  for (const Payload& payload : payloads_) {
    if (payload.moving()) moving.push_back(&payload);
  }
  std::stable_sort(moving.begin(), moving.end(),
                   [](const Payload* a, const Payload* b) { return a->moving_since < b->moving_since; });
  if (moving.empty()) return "no transfer is under way";
  std::string text = "under way:";
  for (std::size_t i = 0; i < std::min(kListed, moving.size()); ++i) {
    const Payload& payload = *moving[i];
    text += fmt::format("{} {} of {} ({}, {}) for {}", i > 0 ? "," : "", payload.to < payload.from ? "read" : "write",
                        payload.spec.name, format_bytes(payload.spec.bytes), urgency_name(payload.urgency),
                        seconds_text(now - payload.moving_since));
  }
  if (moving.size() > kListed) text += fmt::format(" and {} more", moving.size() - kListed);
  return text;
}

}  // namespace patrickstar
