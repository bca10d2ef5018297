// Events: what happened to a payload, as plain structs. Observers never synchronise and never change behaviour.
#pragma once

#include <cstdint>
#include <string_view>

#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

enum class EventKind : std::uint8_t {
  kAccess,      // a lease was granted; level 0
  kMiss,        // an access found no copy on the compute tier; level 0
  kLate,        // an access found its copy still on the way up; level 0
  kFetchStart,  // level: where the copy is made; why: the urgency
  kFetchDone,   //
  kWriteStart,  // a write-back; level: where the copy is made
  kWriteDone,   //
  kDrop,        // a copy was freed whose bytes stand elsewhere, or whose contents are dead; level: where it was
  kForced,      // it had to leave the compute tier for room; while a plan is followed, against it
  kFailed,      // a transfer failed; level: where the copy was to be made
  kStallStart,  // a thread waits; why: for what; payload, if for one; bytes: of the payload, or the room wanted on `level`
  kStallEnd,    // it goes on, or waits for something else
  kStep,        // a training step ended; bytes: its number; 0: what comes before the first one
  // Readings, told when they changed; bytes: the value. Level 0.
  kChunkBytes,     // that copies take on the compute tier
  kNonModelBytes,  // activations and the like
  kUnderWayBytes,  // of transfers, both ways
  kAheadBytes,     // of payloads that were brought ahead, or are on their way so, and are not used yet
  kBudgetBytes,    // of the compute tier
};

// The views are valid during the call; `kind` and `why` are literals and so for ever.
struct Event {
  EventKind kind = EventKind::kAccess;
  std::uint8_t level = 0;  // 0 is the compute tier
  PayloadId payload;
  Bytes bytes = 0;
  Nanos time = 0;
  std::string_view name;          // of the payload; empty: of none
  std::string_view payload_kind;  // "param", "grad", "state"
  std::string_view why;           // of a fetch: "demand", "prefetch"; of a stall: "transfer", "turn", "lease", "room", "rest"
  std::uint32_t thread = 0;       // of a stall: who waits
};

const char* event_kind_name(EventKind kind);
// Whether it is a reading: a value at a time.
bool is_reading(EventKind kind);

class EventSink {
 public:
  virtual ~EventSink() = default;
  // Any thread, with the manager's lock held: must return at once and call nothing back.
  virtual void on_event(const Event& event) = 0;
};

}  // namespace patrickstar
