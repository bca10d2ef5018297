#include "patrickstar/core/mem/host_tier.h"

#include <fmt/format.h>

#include "patrickstar/core/base/text.h"

namespace patrickstar {

Result<Place> HostTier::allocate(Bytes bytes) {
  auto allocation = arena_->try_allocate(bytes, Account::kChunks);
  if (allocation.address != nullptr) return Place::of(allocation.address);
  if (!allocation.status.ok()) return Status(StatusCode::kIoError, allocation.status.message());
  return Status(StatusCode::kOutOfRoom,
                fmt::format("[host] no room for {}: {} lacking", format_bytes(bytes), format_bytes(allocation.shortfall)));
}

void HostTier::free(Place place, Bytes /*bytes*/) { arena_->free(place.address()); }

}  // namespace patrickstar
