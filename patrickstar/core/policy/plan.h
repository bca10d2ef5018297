// Plan: what stays on the compute tier between two uses and what streams, made once from the trace of a step.
//
// [Note: gaps] A payload that is used at moments i and j (and not between) either stays over the gap (i, j) or leaves after i and
// is brought back for j. Staying saves a read and, if it was written, a write. The retained gaps must pack: at every moment the
// payloads in use, the retained ones and the ring together stay within the room. Parameters and gradients come first: a byte of
// theirs is moved up to four times a step, a byte of optimizer state twice. State has one long gap a step; which tiles stay is
// spread evenly, so that misses alternate with hits and the link never idles (limits.md, schedule, rule 1): evenly in time, and
// no more in a row than the ring and what non-model data leaves can hold, so of tiles that are used in a burst (an embedding's,
// all at once) more stay.
//
// Pure arithmetic; not thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

struct PlanOptions {
  Bytes budget = 0;   // of the compute tier, model and non-model data together
  Bytes reserve = 0;  // left free at every moment: partly used pages and what the trace did not see
  // For payloads on their way in or out, at most; a quarter of the room at the tightest moment at most, and no
  // more than a 40th of what streams or four tiles, whichever is more (limits.md: 60 MB suffice in calm, 120 MB with a bursty
  // disk). A byte of it is read and written once more a step.
  Bytes ring = 120 * kMiB;
  // 0: streamed tiles evenly by bytes, 1: by the time between their uses (which says nothing where it is 0).
  double spread_by_time = 0.9;
};

struct PlannedFetch {
  std::uint32_t moment = 0;    // of the use
  std::uint32_t previous = 0;  // moments between the use before and this one; up to the whole step
  PayloadId payload;
};

struct Plan {
  Trace trace;
  std::vector<Bytes> room;            // for chunks, by moment
  std::vector<Bytes> left;            // of it beside what is kept and in use, by moment: for what streams
  std::vector<std::uint8_t> keep;     // by access: stays until the next use
  std::vector<PlannedFetch> fetches;  // by moment
  Bytes ring = 0;
  Bytes kept_bytes = 0;   // of payloads that never leave
  Bytes read_bytes = 0;   // that one step will read ...
  Bytes write_bytes = 0;  // ... and write, if all goes to plan

  // What of the ring is for payloads on their way out: they leave in time, but not at once. The rest is for those ahead.
  static Bytes write_back_room(Bytes ring) { return ring / 8 * 3; }
};

Plan make_plan(Trace trace, const PlanOptions& options);

}  // namespace patrickstar
