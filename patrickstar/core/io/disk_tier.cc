#include "patrickstar/core/io/disk_tier.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/text.h"

namespace patrickstar {
namespace {

constexpr Bytes kNoPiece = -1;

}  // namespace

DiskTier::DiskTier(ScratchFile& file, Bytes capacity) : file_(file), capacity_(capacity) { PS_CHECK(capacity >= 0); }

std::string DiskTier::name() const { return "disk " + file_.directory(); }

Result<Place> DiskTier::allocate(Bytes bytes) {
  PS_CHECK(bytes > 0 && bytes % kPayloadAlignment == 0);
  const std::lock_guard lock(mutex_);
  Bytes offset = take_free(bytes);
  if (offset == kNoPiece) {
    if (capacity_ > 0 && bytes > capacity_ - end_) {
      const Bytes largest = free_by_size_.empty() ? 0 : free_by_size_.rbegin()->first;
      return Status(StatusCode::kOutOfRoom,
                    fmt::format("[disk] no room for {} in {}: {} of the disk budget of {} are in use, the largest free piece has "
                                "{}; raise the disk budget",
                                format_bytes(bytes), file_.directory(), format_bytes(in_use_), format_bytes(capacity_),
                                format_bytes(std::max(largest, round_down(capacity_ - end_, kPayloadAlignment)))));
    }
    PS_RETURN_IF_ERROR(make_room(end_ + bytes));
    offset = end_;
    end_ += bytes;
  }
  in_use_ += bytes;
  return Place{static_cast<std::uint64_t>(offset)};
}

void DiskTier::free(Place place, Bytes bytes) {
  Bytes offset = static_cast<Bytes>(place.value);
  const std::lock_guard lock(mutex_);
  PS_CHECK(bytes > 0 && offset >= 0 && offset + bytes <= end_);
  in_use_ -= bytes;
  const auto next = free_by_offset_.lower_bound(offset);
  const bool has_next = next != free_by_offset_.end();
  PS_CHECK(!has_next || offset + bytes <= next->first);  // else it was free already
  if (next != free_by_offset_.begin()) {
    const auto previous = std::prev(next);
    const Bytes previous_end = previous->first + previous->second;
    PS_CHECK(previous_end <= offset);
    if (previous_end == offset) {
      offset = previous->first;
      bytes += previous->second;
      erase_free(previous);
    }
  }
  if (has_next && offset + bytes == next->first) {
    bytes += next->second;
    erase_free(next);
  }
  if (offset + bytes == end_) {
    end_ = offset;
  } else {
    insert_free(offset, bytes);
  }
}

Status DiskTier::reserve(Bytes bytes) {
  PS_CHECK(bytes >= 0);
  if (capacity_ > 0 && bytes > capacity_) {
    return Status(StatusCode::kOutOfRoom,
                  fmt::format("[disk] {} to reserve in {} are more than the disk budget of {}; raise the disk budget",
                              format_bytes(bytes), file_.directory(), format_bytes(capacity_)));
  }
  const std::lock_guard lock(mutex_);
  return file_.grow_to(bytes);
}

Bytes DiskTier::in_use() const {
  const std::lock_guard lock(mutex_);
  return in_use_;
}

Status DiskTier::make_room(Bytes end) {
  if (end <= file_.size()) return {};
  Bytes wanted = std::max(end, file_.size() + kExtent);
  if (capacity_ > 0) wanted = std::max(end, std::min(wanted, round_down(capacity_, kPayloadAlignment)));
  const Status grown = file_.grow_to(wanted);
  if (grown.code() != StatusCode::kOutOfRoom || wanted == end) return grown;
  return file_.grow_to(end);  // a nearly full disk: only what is needed
}

void DiskTier::insert_free(Bytes offset, Bytes bytes) {
  free_by_offset_.emplace(offset, bytes);
  free_by_size_.emplace(bytes, offset);
}

void DiskTier::erase_free(std::map<Bytes, Bytes>::iterator piece) {
  free_by_size_.erase({piece->second, piece->first});
  free_by_offset_.erase(piece);
}

// The smallest free piece that holds `bytes`; its rest stays free. kNoPiece if there is none.
Bytes DiskTier::take_free(Bytes bytes) {
  const auto found = free_by_size_.lower_bound({bytes, 0});
  if (found == free_by_size_.end()) return kNoPiece;
  const auto [piece, offset] = *found;
  erase_free(free_by_offset_.find(offset));
  if (piece > bytes) insert_free(offset + bytes, piece - bytes);
  return offset;
}

}  // namespace patrickstar
