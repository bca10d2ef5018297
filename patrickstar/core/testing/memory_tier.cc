#include "patrickstar/core/testing/memory_tier.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/testing/bytes.h"

namespace patrickstar {
MemoryTier::~MemoryTier() {
  PS_CHECK(out_.empty());
  for (const auto& [bytes, blocks] : freed_) {
    for (std::byte* block : blocks) {
      PS_CHECK(all_bytes(block, bytes, kPoison));
      std::free(block);
    }
  }
}

std::byte* MemoryTier::take_block(Bytes bytes) {
  auto& blocks = freed_[bytes];
  if (blocks.empty()) {
    auto* block =
        static_cast<std::byte*>(std::aligned_alloc(static_cast<std::size_t>(kPayloadAlignment), static_cast<std::size_t>(bytes)));
    std::memset(block, static_cast<int>(kPoison), static_cast<std::size_t>(bytes));
    return block;
  }
  std::byte* block = blocks.back();
  blocks.pop_back();
  PS_CHECK(all_bytes(block, bytes, kPoison));
  return block;
}

Result<Place> MemoryTier::allocate(Bytes bytes) {
  PS_CHECK(bytes > 0 && bytes % kPayloadAlignment == 0);
  const std::lock_guard lock(mutex_);
  if (failure_.hit()) return Status(failure_code_, fmt::format("[{}] injected refusal of {} bytes", name_, bytes));
  if (!ledger_.try_charge(Account::kChunks, bytes)) return Status(StatusCode::kOutOfRoom, fmt::format("[{}] full", name_));
  std::byte* block = take_block(bytes);
  out_.emplace(block, bytes);
  return Place::of(block);
}

Bytes MemoryTier::shortfall(Bytes bytes) { return std::max<Bytes>(0, bytes - ledger_.room()); }

void MemoryTier::free(Place place, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = out_.find(place.address());
  PS_CHECK(found != out_.end() && found->second == bytes);
  out_.erase(found);
  std::memset(place.address(), static_cast<int>(kPoison), static_cast<std::size_t>(bytes));
  freed_[bytes].push_back(place.address());
  ledger_.release(Account::kChunks, bytes);
}

void MemoryTier::refuse(std::int64_t nth, StatusCode code) {
  const std::lock_guard lock(mutex_);
  failure_.arm(nth);
  failure_code_ = code;
}

std::int64_t MemoryTier::allocations() const {
  const std::lock_guard lock(mutex_);
  return failure_.calls();
}

std::int64_t MemoryTier::injected() const {
  const std::lock_guard lock(mutex_);
  return failure_.injected();
}

std::size_t MemoryTier::places() const {
  const std::lock_guard lock(mutex_);
  return out_.size();
}

}  // namespace patrickstar
