#include "patrickstar/bridge/device/memory_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/text.h"

namespace patrickstar::bridge {
namespace {

// Below this malloc wastes less than the arena's pages would.
constexpr Bytes kSmallBlock = 64 * kKiB;

struct alignas(64) SmallHeader {
  MemoryPool* pool;
  Bytes bytes;  // with the header
  Account account;
};

// Address ranges of the arenas there are, so that a block's pool is found without touching another pool's memory. Few pools ever
// exist at a time. A range whose version is odd, or changes while it is read, is another block's: that of a block that is there
// stays as it is.
struct Range {
  std::atomic<std::uint32_t> version{0};
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};
  std::atomic<MemoryPool*> pool{nullptr};
};
constexpr std::size_t kMaxPools = 16;
std::array<Range, kMaxPools> ranges;
std::mutex ranges_mutex;  // writers

// REQUIRES: ranges_mutex held.
void set_range(Range* range, MemoryPool* pool, std::uintptr_t begin, std::uintptr_t end) {
  range->version.fetch_add(1);
  range->begin.store(begin);
  range->end.store(end);
  range->pool.store(pool);
  range->version.fetch_add(1);
}

void enter_range(MemoryPool* pool, std::uintptr_t begin, std::uintptr_t end) {
  const std::lock_guard lock(ranges_mutex);
  for (Range& range : ranges) {
    if (range.pool.load() != nullptr) continue;
    return set_range(&range, pool, begin, end);
  }
  PS_CHECK(!"more pools with live tensors than kMaxPools");
}

void leave_range(MemoryPool* pool) {
  const std::lock_guard lock(ranges_mutex);
  for (Range& range : ranges) {
    if (range.pool.load() == pool) set_range(&range, nullptr, 0, 0);
  }
}

}  // namespace

MemoryPool::~MemoryPool() { leave_range(this); }

Result<MemoryPool*> MemoryPool::create(Bytes budget) {
  std::unique_ptr<MemoryPool> pool(new MemoryPool(budget));
  // Several times the budget: a large block always finds a contiguous range (arena.h, [Note: one pool]).
  auto arena = Arena::create(&pool->pages_, &pool->ledger_, std::clamp<Bytes>(4 * budget, 64 * kGiB, 4096 * kGiB));
  if (!arena.ok()) return arena.status();
  pool->arena_ = std::move(arena).value();
  const auto begin = reinterpret_cast<std::uintptr_t>(pool->arena_->base());
  enter_range(pool.get(), begin, begin + static_cast<std::uintptr_t>(pool->arena_->address_space()));
  return pool.release();
}

Status MemoryPool::make_room(Bytes wanted, Bytes lacking) {
  RoomMaker* maker = room_maker_.load();
  Status status = maker != nullptr ? maker->make_room(lacking) : Status(StatusCode::kOutOfRoom, ledger_.table());
  if (status.ok()) return status;
  ledger_.note_refused(wanted);
  return status.with_context(
      fmt::format("[memory] an allocation of {} does not fit the budget ({} lacking); use a smaller batch or "
                  "sequence, activation checkpointing, or a larger memory budget",
                  format_bytes(wanted), format_bytes(lacking)));
}

Result<void*> MemoryPool::allocate_small(Bytes bytes) {
  const Bytes total = bytes + static_cast<Bytes>(sizeof(SmallHeader));
  while (!ledger_.try_charge(Account::kNonModel, total)) {
    if (arena_->trim(total)) continue;
    PS_RETURN_IF_ERROR(make_room(bytes, total));
  }
  void* raw = std::aligned_alloc(alignof(SmallHeader), static_cast<std::size_t>(round_up(total, alignof(SmallHeader))));
  if (raw == nullptr) {
    ledger_.release(Account::kNonModel, total);
    return Status(StatusCode::kIoError, fmt::format("[memory] the system refused {}", format_bytes(bytes)));
  }
  auto* header = new (raw) SmallHeader{this, total, Account::kNonModel};
  return header + 1;
}

Result<void*> MemoryPool::allocate(Bytes bytes) {
  references_.fetch_add(1, std::memory_order_relaxed);
  Result<void*> block = [&]() -> Result<void*> {
    if (bytes < kSmallBlock) return allocate_small(bytes);
    for (;;) {
      const auto allocation = arena_->try_allocate(bytes, Account::kNonModel);
      if (allocation.address != nullptr) return static_cast<void*>(allocation.address);
      if (!allocation.status.ok()) return allocation.status;
      PS_RETURN_IF_ERROR(make_room(bytes, std::max<Bytes>(allocation.shortfall, Arena::kGranularity)));
    }
  }();
  if (!block.ok()) drop_reference();
  return block;
}

MemoryPool* MemoryPool::owner_of(void* address) {
  const auto value = reinterpret_cast<std::uintptr_t>(address);
  for (Range& range : ranges) {
    const std::uint32_t version = range.version.load();
    const bool inside = value >= range.begin.load() && value < range.end.load();
    MemoryPool* const pool = range.pool.load();
    if (inside && version % 2 == 0 && range.version.load() == version) return pool;
  }
  return (static_cast<SmallHeader*>(address) - 1)->pool;
}

void MemoryPool::free(void* address) {
  if (arena_->owns(address)) {
    arena_->free(address);
  } else {
    SmallHeader* header = static_cast<SmallHeader*>(address) - 1;
    ledger_.release(header->account, header->bytes);
    std::free(header);
  }
  drop_reference();
}

void MemoryPool::reclassify(void* address, Account account) {
  if (arena_->owns(address)) return arena_->reclassify(address, account);
  SmallHeader* header = static_cast<SmallHeader*>(address) - 1;
  ledger_.move(header->account, account, header->bytes);
  header->account = account;
}

void MemoryPool::retire() {
  set_room_maker(nullptr);
  drop_reference();
}

void MemoryPool::drop_reference() {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

}  // namespace patrickstar::bridge
