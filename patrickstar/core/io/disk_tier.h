// DiskTier: the places of the disk tier are offsets in a ScratchFile. Freed room is joined with its neighbours and reused,
// best fit first (payloads of one size find each other's places exactly); else the file's used end moves on and the file
// grows by an extent.
//
// Thread safety: any thread. Growing the file happens inside allocate() and may take milliseconds (much longer on a file
// system without fallocate): reserve() what is foreseeable before the first step.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/io/scratch_file.h"
#include "patrickstar/core/mem/tier.h"

namespace patrickstar {

class DiskTier final : public Tier {
 public:
  // The file grows by at least this much at a time where budget and file system allow it.
  static constexpr Bytes kExtent = 256 * kMiB;

  // `capacity` is the disk budget: the file never becomes longer. 0 = no limit but the file system's.
  // REQUIRES: `file` outlives the tier, and nobody else places anything in it.
  DiskTier(ScratchFile& file, Bytes capacity);

  std::string name() const override;
  Result<Place> allocate(Bytes bytes) override;
  void free(Place place, Bytes bytes) override;

  // Preallocates the file to exactly `bytes` in all (nothing if it is that long already). kOutOfRoom: beyond the budget, or
  // the file system has no room.
  Status reserve(Bytes bytes);

  Bytes in_use() const;                         // sum of what is allocated
  Bytes capacity() const { return capacity_; }  // 0 = no limit

 private:
  Status make_room(Bytes end);
  void insert_free(Bytes offset, Bytes bytes);
  void erase_free(std::map<Bytes, Bytes>::iterator piece);
  Bytes take_free(Bytes bytes);

  ScratchFile& file_;
  const Bytes capacity_;
  mutable std::mutex mutex_;
  Bytes in_use_ = 0;
  Bytes end_ = 0;                                   // everything at or behind it was never handed out
  std::map<Bytes, Bytes> free_by_offset_;           // offset -> bytes; no two pieces touch, none touches end_
  std::set<std::pair<Bytes, Bytes>> free_by_size_;  // (bytes, offset): the same pieces
};

}  // namespace patrickstar
