// Tier: the port behind which a place with capacity lies (GPU memory, host memory, disk). One file per back end.
//
// A tier hands out places and takes them back; it never moves bytes (that is a Link's work, link.h) and never evicts
// (that is the ChunkManager's). So allocate() may be called with the manager's lock held: it must not call back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

// Where a copy lies on its tier: an address in memory, an offset in the scratch file. Opaque to policies.
struct Place {
  std::uint64_t value = 0;

  static Place of(void* address) { return Place{reinterpret_cast<std::uintptr_t>(address)}; }
  std::byte* address() const { return reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(value)); }
  friend bool operator==(Place, Place) = default;
};

// Every copy's address, offset and length is a multiple of this: what O_DIRECT asks for.
inline constexpr Bytes kPayloadAlignment = 4096;

class Tier {
 public:
  virtual ~Tier() = default;

  // For messages: "host", "disk /spill".
  virtual std::string name() const = 0;
  // Room for `bytes` more. kOutOfRoom when the tier's budget (or the file system) has none; kIoError when refused.
  // REQUIRES: bytes > 0 and a multiple of kPayloadAlignment. Any thread.
  virtual Result<Place> allocate(Bytes bytes) = 0;
  // After allocate(bytes) was refused with kOutOfRoom: how many bytes must be freed at the least before it can work.
  virtual Bytes shortfall(Bytes bytes) { return bytes; }
  // Gives a place back. REQUIRES: it came from allocate(bytes) and no transfer uses it. Any thread.
  virtual void free(Place place, Bytes bytes) = 0;
};

}  // namespace patrickstar
