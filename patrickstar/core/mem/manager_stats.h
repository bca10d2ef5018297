// What a ChunkManager has moved since it was made.
#pragma once

#include <array>
#include <cstdint>

#include "patrickstar/core/base/units.h"
#include "patrickstar/core/mem/payload.h"

namespace patrickstar {

struct KindTraffic {
  Bytes read = 0;  // up into the compute tier's neighbours and itself, all links
  Bytes written = 0;
  std::int64_t fetches = 0;
  std::int64_t write_backs = 0;
};

struct ManagerStats {
  std::array<KindTraffic, kPayloadKinds> kinds;
  std::int64_t accesses = 0;
  std::int64_t misses = 0;
  std::int64_t evictions = 0;  // copies that left the compute tier for room, with or without a write
  std::int64_t late = 0;       // accesses that found their payload on its way
  Nanos stalled = 0;           // time that threads waited for transfers and leases, together

  Bytes read() const {
    Bytes sum = 0;
    for (const KindTraffic& kind : kinds) sum += kind.read;
    return sum;
  }
  Bytes written() const {
    Bytes sum = 0;
    for (const KindTraffic& kind : kinds) sum += kind.written;
    return sum;
  }
};

}  // namespace patrickstar
