// MemoryPool: host memory for LibTorch's tensors, inside the budget.
//
// Large blocks come from the arena that chunk payloads share, small ones from malloc; both are on the ledger. Before an
// allocation would cross the budget, chunks give way through the RoomMaker; when nothing more can, it throws.
// [Note: who keeps a pool] Tensors outlive the Runtime that made their pool. A pool counts its live blocks and destroys itself
// when it is retired and the last one is gone.
// Any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/mem/arena.h"
#include "patrickstar/core/mem/ledger.h"
#include "patrickstar/core/mem/page_source.h"

namespace patrickstar::bridge {

// Who can free room for activations.
class RoomMaker {
 public:
  virtual ~RoomMaker() = default;
  // Frees at least `bytes` of host memory, or as many as it can if that is more than none.
  virtual Status make_room(Bytes bytes) = 0;
};

class MemoryPool {
 public:
  // Errors: no address space.
  static Result<MemoryPool*> create(Bytes budget);

  Ledger& ledger() { return ledger_; }
  Arena& arena() { return *arena_; }

  // Null until a manager exists and after it is gone. The maker outlives its registration.
  void set_room_maker(RoomMaker* maker) { room_maker_.store(maker); }
  // `bytes` of non-model memory, aligned to 64 bytes at least. Errors: kOutOfRoom with the ledger's table.
  Result<void*> allocate(Bytes bytes);
  void free(void* address);
  // Puts a live block on another account. REQUIRES: it is this pool's.
  void reclassify(void* address, Account account);
  // No new blocks are wanted; the pool goes when the last block does.
  void retire();

  // The pool of a live block: a bare pointer finds its way back (LibTorch's deleters get nothing more).
  static MemoryPool* owner_of(void* address);

 private:
  explicit MemoryPool(Bytes budget) : ledger_(budget) {}
  ~MemoryPool();
  friend std::default_delete<MemoryPool>;
  Result<void*> allocate_small(Bytes bytes);
  Status make_room(Bytes wanted, Bytes lacking);
  void drop_reference();

  Ledger ledger_;
  MmapPages pages_;
  std::unique_ptr<Arena> arena_;
  std::atomic<RoomMaker*> room_maker_ = nullptr;
  std::atomic<std::int64_t> references_ = 1;  // live blocks and the Runtime
};

}  // namespace patrickstar::bridge
