// Traces written out by hand: trace_of({4096, 8192}, {{.accesses = {reads(0)}, .compute = 5}, {.accesses = {writes(1)}}}).
#pragma once

#include <cstdint>
#include <vector>

#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

inline Access reads(std::uint32_t payload) { return {PayloadId(payload), AccessMode::kRead}; }
inline Access writes(std::uint32_t payload) { return {PayloadId(payload), AccessMode::kWrite}; }
inline Access creates(std::uint32_t payload) { return {PayloadId(payload), AccessMode::kCreate}; }

struct MomentSpec {
  std::vector<Access> accesses;
  Nanos compute = 0;
  Bytes non_model = 0;
};

// Payloads (all tiles) by their lengths; 0 makes a gap in the numbering.
inline Trace trace_of(const std::vector<Bytes>& payloads, const std::vector<MomentSpec>& moments) {
  Trace trace;
  for (const Bytes bytes : payloads) trace.payloads.push_back({PayloadKind::kState, bytes});
  for (const MomentSpec& moment : moments) {
    trace.moments.push_back({.first = static_cast<std::uint32_t>(trace.accesses.size()),
                             .count = static_cast<std::uint32_t>(moment.accesses.size()),
                             .non_model = moment.non_model,
                             .compute = moment.compute});
    trace.accesses.insert(trace.accesses.end(), moment.accesses.begin(), moment.accesses.end());
  }
  return trace;
}

}  // namespace patrickstar
