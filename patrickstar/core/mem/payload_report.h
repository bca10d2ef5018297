// What ChunkManager::report() says of one payload.
#pragma once

#include <array>
#include <string>

#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/mem/payload.h"

namespace patrickstar {

struct PayloadReport {
  PayloadId id;
  PayloadSpec spec;
  std::array<CopyState, kMaxLevels> states{};  // by level, now
  int pins = 0;                                // leases and acquires that wait for it, now
  PayloadCounts counts;                        // `resident` includes the copy that is there now
};

const char* copy_state_name(CopyState state);  // "none", "reserved", "filling", "valid"

}  // namespace patrickstar
