#include "patrickstar/core/mem/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/text.h"

namespace patrickstar {
namespace {
std::size_t slot(Account account) { return static_cast<std::size_t>(account); }
}  // namespace

void Ledger::note_peaks() {
  const Bytes model = accounts_[slot(Account::kChunks)];
  const Bytes non_model = accounts_[slot(Account::kNonModel)];
  peaks_.model = std::max(peaks_.model, model);
  peaks_.non_model = std::max(peaks_.non_model, non_model);
  recent_non_model_ = std::max(recent_non_model_, non_model);
  peaks_.total = std::max(peaks_.total, total_);
  peaks_.used = std::max(peaks_.used, total_ - accounts_[slot(Account::kFree)]);
  unevictable_.store(non_model + accounts_[slot(Account::kStaging)], std::memory_order_relaxed);
  note_needed();
}

void Ledger::note_needed() {
  const Bytes needed = unevictable_.load(std::memory_order_relaxed) + pinned_.load(std::memory_order_relaxed);
  Bytes peak = peak_needed_.load(std::memory_order_relaxed);
  while (needed > peak && !peak_needed_.compare_exchange_weak(peak, needed, std::memory_order_relaxed)) {
  }
}

bool Ledger::try_charge(Account account, Bytes bytes) {
  PS_CHECK(bytes >= 0);
  const std::lock_guard lock(mutex_);
  if (total_ + bytes > budget_) return false;
  accounts_[slot(account)] += bytes;
  total_ += bytes;
  note_peaks();
  return true;
}

void Ledger::release(Account account, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  PS_CHECK(bytes >= 0 && accounts_[slot(account)] >= bytes);
  accounts_[slot(account)] -= bytes;
  total_ -= bytes;
  note_peaks();
}

void Ledger::move(Account from, Account to, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  PS_CHECK(bytes >= 0 && accounts_[slot(from)] >= bytes);
  accounts_[slot(from)] -= bytes;
  accounts_[slot(to)] += bytes;
  note_peaks();
}

void Ledger::pin(Bytes bytes) {
  pinned_.store(pinned_.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  note_needed();
}

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
