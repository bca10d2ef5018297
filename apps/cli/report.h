// What a run did, step by step and chunk by chunk: the tables of --report. Needs the core only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "patrickstar/core/base/units.h"
#include "patrickstar/core/mem/payload_report.h"

namespace patrickstar::cli {

struct StepRecord {
  float loss = 0;
  double seconds = 0;
  Bytes disk_read = 0;
  Bytes disk_written = 0;
  double stalled = 0;  // seconds that threads waited for chunks
  std::int64_t accesses = 0;
  std::int64_t misses = 0;    // found no copy in memory
  std::int64_t late = 0;      // found it on its way
  Bytes planned_read = 0;     // by the plan that the step began with; 0: there was none
  Bytes planned_written = 0;  //

  Bytes traffic() const { return disk_read + disk_written; }
  Bytes planned() const { return planned_read + planned_written; }
};

// What no schedule can do with less of (core/sim/bounds.h): bytes of one step.
struct TrafficBound {
  Bytes read = 0;
  Bytes written = 0;
};

// A line a step: time, stall, traffic, hits, late prefetches, and traffic by the plan and by the bound.
std::string step_table(std::span<const StepRecord> steps, const std::optional<TrafficBound>& bound);

// A line for all chunks and tiles of a kind, then those that moved most, `most` of them: uses, state now, time in memory,
// traffic.
std::string chunk_table(std::vector<PayloadReport> chunks, std::size_t most);

// Where its bytes stand: "mem", "mem+disk", "disk", "-" (nowhere); "disk -> mem" while they move.
std::string state_text(const PayloadReport& chunk);

}  // namespace patrickstar::cli
