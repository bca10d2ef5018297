// What no schedule can beat: the least traffic and the shortest time of a step, from its trace alone. Shares no code with any
// policy, so that a policy's figures can be judged by it. Pure functions.
//
// The step is taken to repeat for ever. One disk whose reads and writes share a bandwidth lies beneath; computing and moving
// may overlap without limit, and any byte may be moved at any time. What a moment accesses is there as a whole during it, and its
// non-model bytes are the same throughout: of a real step they are the most, so a real step may stay a little below these bounds.
//
// [Note: the bounds]
// Traffic. A byte's read is avoided only if the byte stays over the whole gap since its last access, its write-back only if it
// stays over the whole gap between two writes. What stays must fit, at every moment, in the room that the moment's accesses
// leave. Dropping the byte whose gap ends last keeps the most, so such a run, with payloads that may stay in part, gives MIN_R
// over the gaps between accesses and MIN_W over those between writes; both hold for every schedule, so their sum does.
// A payload that is next created anew (kCreate) is dead: it needs no room, no read and no write-back.
// When parameters and gradients fit, and the tightest moment (room c) updates nothing, that is 2 (M - c).
//
// Time. Let U be the bytes that are touched in a window [a, b) of the cyclic trace and were not created there first, D those
// dirtied in it and still alive at b. Where two moments meet, no more is there than fits in the room of the first when it ends,
// nor than fits in that of the second when it is granted: let r(t) = min(room(t - 1), room(t)). At most r(a) of U can be there
// when the window begins, at most r(b) of D unwritten when it ends, and no compute outside overlaps it: T >= compute outside +
// [(U - r(a))+ + (D - r(b))+] / bandwidth. (The window may begin when a - 1 ends or when a is granted, whichever says more: the
// compute outside is the same.) So while the tightest moment computes, a schedule of the least traffic moves nothing.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "patrickstar/core/base/units.h"
#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

struct StepBounds {
  // MIN_R and MIN_W: read from disk and written back per step, on average over many. Where the run's steps do not come to repeat
  // themselves within its time, these are too low, by at most a 50th of the room (a 500th for 4,000 accesses).
  Bytes min_read = 0;
  Bytes min_write = 0;
  Nanos compute = 0;    // the step's
  Nanos transfers = 0;  // (min_read + min_write) / bandwidth
  Nanos window = 0;     // the best window's bound; that of the empty window is `compute`
  Nanos limit = 0;      // the largest of the three: no step is shorter

  std::size_t window_begin = 0;    // the best window is [window_begin, window_begin + window_moments), cyclic
  std::size_t window_moments = 0;  //
  // Windows begin at every `window_stride`-th moment. More than 1 for traces beyond some 15,000 moments: the window bound then
  // lacks at most the compute of that many moments, and by as much as room changes among them.
  std::size_t window_stride = 1;
  // By how much a moment's accesses exceed its room, at most. Above 0 no schedule works at all, and the rest says little.
  Bytes lacking = 0;
};

// Room for chunks at each moment: budget less non-model bytes, at least 0.
std::vector<Bytes> room_for_chunks(const Trace& trace, Bytes budget);

// REQUIRES: room.size() == trace.moments.size(), bytes_per_second > 0. A second for 5,000 moments.
StepBounds step_bounds(const Trace& trace, std::span<const Bytes> room, double bytes_per_second);

}  // namespace patrickstar
