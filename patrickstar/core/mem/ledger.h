// Ledger: the account book of one tier. The budget is enforced here and nowhere else.
//
// Every byte that the tier holds for us is on exactly one account: chunks (model data), staging, non-model (activations,
// workspaces, temporaries) or free (pages that a free list keeps resident: they count). The sum never exceeds the budget.
// Any thread; never calls out.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "patrickstar/core/base/units.h"

namespace patrickstar {

// Nothing is charged to kStaging yet: it is for the ring of registered buffers through which tiles will stream (issue B).
enum class Account : std::uint8_t { kChunks, kStaging, kNonModel, kFree };
inline constexpr std::size_t kAccounts = 4;

struct LedgerPeaks {
  Bytes model = 0;      // chunks
  Bytes non_model = 0;  // non-model
  Bytes total = 0;      // all accounts together: what must stay within the budget
  Bytes used = 0;       // all but free pages
  Bytes needed = 0;     // non-model + staging + leased chunks: what no eviction could have given back
  // The same with the block just taken or leased once more: a block is contiguous, and the free pages among those that stay
  // need not lie side by side.
  Bytes needed_with_block = 0;
};

class Ledger {
 public:
  explicit Ledger(Bytes budget) : budget_(budget) {}

  Bytes budget() const { return budget_; }
  // New bytes from the tier. False, and nothing changed, when they would cross the budget.
  [[nodiscard]] bool try_charge(Account account, Bytes bytes);
  // Bytes given back to the tier. REQUIRES: they are on that account.
  void release(Account account, Bytes bytes);
  // From one account to another; the sum stays. REQUIRES: they are on `from`.
  void move(Account from, Account to, Bytes bytes);
  // Chunk bytes that a lease holds in place (part of kChunks): no eviction can free them now. Once per lease, so without a lock
  // or an atomic addition. REQUIRES: one thread at a time (the manager's lock).
  void pin(Bytes bytes);
  void unpin(Bytes bytes);
  // The peaks of what is needed remember a block that was refused.
  void note_refused(Bytes bytes);

  Bytes in(Account account) const;
  Bytes total() const;
  Bytes room() const;  // budget - total
  Bytes pinned() const;
  LedgerPeaks peaks() const;
  // The most non-model bytes since this was last asked.
  Bytes take_non_model_peak();
  // Who holds what, for messages: "budget 1.50 GiB: chunks 900.0 MiB (12.0 MiB leased), ...".
  std::string table() const;

 private:
  // `block`: bytes that were just taken in one piece; 0: none.
  void note_peaks(Bytes block);  // REQUIRES: mutex_ held
  void note_needed(Bytes more, Bytes block);

  const Bytes budget_;
  mutable std::mutex mutex_;
  std::array<Bytes, kAccounts> accounts_{};
  Bytes total_ = 0;
  LedgerPeaks peaks_;  // but for what is needed
  Bytes recent_non_model_ = 0;
  Bytes largest_pinned_ = 0;  // since nothing was pinned
  std::atomic<Bytes> pinned_ = 0;
  std::atomic<Bytes> unevictable_ = 0;  // non-model + staging
  std::atomic<Bytes> peak_needed_ = 0;
  std::atomic<Bytes> peak_needed_with_block_ = 0;
};

}  // namespace patrickstar
