// What the manager knows of a payload: its copies on the tiers and which of them are valid.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/mem/link.h"
#include "patrickstar/core/mem/tier.h"
#include "patrickstar/core/trace/access.h"

namespace patrickstar {

struct PayloadSpec {
  PayloadKind kind = PayloadKind::kParam;
  std::string name;  // for messages: "chunk 7 param", "chunk 7 tile 2"
  Bytes bytes = 0;   // multiple of kPayloadAlignment
};

// Tiers are levels here: 0 is the compute tier, each further one lies beneath.
inline constexpr int kMaxLevels = 3;

enum class CopyState : std::uint8_t {
  kNone,      // no bytes; takes no room (but for the bottom tier, where every payload keeps its slot)
  kReserved,  // room taken for a kCreate whose acquire is not granted yet: nobody else may see it. Compute tier only
  kFilling,   // room taken, a transfer writes into it
  kValid,     // holds the payload's bytes
};

struct Copy {
  CopyState state = CopyState::kNone;
  bool leaving = false;  // valid, and freed when the transfer that copies it down is done
  bool tracked = false;  // the level's policy knows it as a candidate
  Place place;
};

// What happened to a payload since it was added.
struct PayloadCounts {
  std::int64_t uses = 0;  // granted accesses
  std::int64_t misses = 0;
  std::int64_t late = 0;       // accesses that found its copy still on the way up
  std::int64_t evictions = 0;  // left the compute tier for room, with or without a write
  Bytes read = 0;              // all links
  Bytes written = 0;
  Nanos resident = 0;  // time that it was valid on the compute tier, without the copy that is there now
};

struct Payload {
  PayloadSpec spec;
  std::array<Copy, kMaxLevels> copies;
  int pins = 0;           // leases, and acquires that wait for it
  std::int8_t from = -1;  // the transfer under way (at most one): from level, to level
  std::int8_t to = -1;
  bool alive = false;                  // added and not removed
  bool discarded = false;              // has no contents; its copies go when no transfer and no lease needs them
  bool prefetching = false;            // goes on up to level 0 when the hop under way is done
  bool ahead = false;                  // its copy on the compute tier was brought ahead, or is on its way so, and is not used yet
  Urgency urgency = Urgency::kDemand;  // of the transfer under way
  Nanos moving_since = 0;              // when it was started
  Nanos resident_since = -1;           // when the copy on the compute tier became valid; -1: there is none
  PayloadCounts counts;

  bool moving() const { return from >= 0; }
};

}  // namespace patrickstar
