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
  kFetchStart,  // level: where the copy is made
  kFetchDone,   //
  kWriteStart,  // a write-back; level: where the copy is made
  kWriteDone,   //
  kDrop,        // a copy was freed whose bytes stand elsewhere, or whose contents are dead; level: where it was
  kFailed,      // a transfer failed; level: where the copy was to be made
  kStep,        // a training step ended; bytes: its number
};

struct Event {
  EventKind kind = EventKind::kAccess;
  std::uint8_t level = 0;  // 0 is the compute tier
  PayloadId payload;
  Bytes bytes = 0;
  Nanos time = 0;
  std::string_view name;  // of the payload; valid during the call
};

const char* event_kind_name(EventKind kind);

class EventSink {
 public:
  virtual ~EventSink() = default;
  // Any thread, with the manager's lock held: must return at once and call nothing back.
  virtual void on_event(const Event& event) = 0;
};

}  // namespace patrickstar
