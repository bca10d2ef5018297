#include "patrickstar/core/mem/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/text.h"

namespace patrickstar {
namespace {
std::size_t slot(Account account) { return static_cast<std::size_t>(account); }

void raise(std::atomic<Bytes>* peak, Bytes value) {
  Bytes seen = peak->load(std::memory_order_relaxed);
  while (value > seen && !peak->compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}
}  // namespace

void Ledger::note_peaks(Bytes block) {
  const Bytes model = accounts_[slot(Account::kChunks)];
  const Bytes non_model = accounts_[slot(Account::kNonModel)];
  peaks_.model = std::max(peaks_.model, model);
  peaks_.non_model = std::max(peaks_.non_model, non_model);
  recent_non_model_ = std::max(recent_non_model_, non_model);
  peaks_.total = std::max(peaks_.total, total_);
  peaks_.used = std::max(peaks_.used, total_ - accounts_[slot(Account::kFree)]);
  unevictable_.store(non_model + accounts_[slot(Account::kStaging)], std::memory_order_relaxed);
  note_needed(0, block);
}

void Ledger::note_needed(Bytes more, Bytes block) {
  const Bytes needed = unevictable_.load(std::memory_order_relaxed) + pinned_.load(std::memory_order_relaxed) + more;
  raise(&peak_needed_, needed);
  raise(&peak_needed_with_block_, needed + block);
}

bool Ledger::try_charge(Account account, Bytes bytes) {
  PS_CHECK(bytes >= 0);
  const std::lock_guard lock(mutex_);
  if (total_ + bytes > budget_) return false;
  accounts_[slot(account)] += bytes;
  total_ += bytes;
  note_peaks(0);
  return true;
}

void Ledger::release(Account account, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  PS_CHECK(bytes >= 0 && accounts_[slot(account)] >= bytes);
  accounts_[slot(account)] -= bytes;
  total_ -= bytes;
  note_peaks(0);
}

void Ledger::move(Account from, Account to, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  PS_CHECK(bytes >= 0 && accounts_[slot(from)] >= bytes);
  accounts_[slot(from)] -= bytes;
  accounts_[slot(to)] += bytes;
  note_peaks(from == Account::kFree ? bytes : 0);
}

void Ledger::pin(Bytes bytes) {
  const Bytes before = pinned_.load(std::memory_order_relaxed);
  largest_pinned_ = before == 0 ? bytes : std::max(largest_pinned_, bytes);
  pinned_.store(before + bytes, std::memory_order_relaxed);
  note_needed(0, largest_pinned_);
}

void Ledger::note_refused(Bytes bytes) { note_needed(bytes, bytes); }

void Ledger::unpin(Bytes bytes) {
  const Bytes before = pinned_.load(std::memory_order_relaxed);
  PS_CHECK(before >= bytes);
  pinned_.store(before - bytes, std::memory_order_relaxed);
}

Bytes Ledger::in(Account account) const {
  const std::lock_guard lock(mutex_);
  return accounts_[slot(account)];
}

Bytes Ledger::total() const {
  const std::lock_guard lock(mutex_);
  return total_;
}

Bytes Ledger::room() const {
  const std::lock_guard lock(mutex_);
  return budget_ - total_;
}

Bytes Ledger::pinned() const { return pinned_.load(std::memory_order_relaxed); }

LedgerPeaks Ledger::peaks() const {
  const std::lock_guard lock(mutex_);
  LedgerPeaks peaks = peaks_;
  peaks.needed = peak_needed_.load(std::memory_order_relaxed);
  peaks.needed_with_block = peak_needed_with_block_.load(std::memory_order_relaxed);
  return peaks;
}

Bytes Ledger::take_non_model_peak() {
  const std::lock_guard lock(mutex_);
  return std::exchange(recent_non_model_, accounts_[slot(Account::kNonModel)]);
}

std::string Ledger::table() const {
  const std::lock_guard lock(mutex_);
  return fmt::format("budget {}: chunks {} ({} leased), non-model {}, staging {}, free pages {}", format_bytes(budget_),
                     format_bytes(accounts_[slot(Account::kChunks)]), format_bytes(pinned_.load()),
                     format_bytes(accounts_[slot(Account::kNonModel)]), format_bytes(accounts_[slot(Account::kStaging)]),
                     format_bytes(accounts_[slot(Account::kFree)]));
}

}  // namespace patrickstar
