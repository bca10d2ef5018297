#include "apps/cli/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "patrickstar/core/base/text.h"

namespace patrickstar::cli {
namespace {

double giga(Bytes bytes) { return static_cast<double>(bytes) * 1e-9; }
double seconds(Nanos time) { return static_cast<double>(time) * 1e-9; }

std::string by(Bytes traffic, Bytes other) {
  return other > 0 ? fmt::format("{:8.3f}", static_cast<double>(traffic) / static_cast<double>(other))
                   : fmt::format("{:>8}", "-");
}

constexpr const char* kChunkHeader =
    "                            bytes    uses  misses   late  evicted   read MB  written MB  in memory s  now\n";

std::string chunk_line(const std::string& name, Bytes bytes, const PayloadCounts& counts, const std::string& state) {
  return fmt::format("  {:22} {:>9} {:7} {:7} {:6} {:8} {:9.1f} {:11.1f} {:12.2f}  {}\n", name, format_bytes(bytes), counts.uses,
                     counts.misses, counts.late, counts.evictions, static_cast<double>(counts.read) * 1e-6,
                     static_cast<double>(counts.written) * 1e-6, seconds(counts.resident), state);
}

}  // namespace

std::string step_table(std::span<const StepRecord> steps, const std::optional<TrafficBound>& bound) {
  std::string text = " step    time s   stall s   read GB  written GB  accesses  misses   late  hits %  by plan by bound\n";
  const Bytes least = bound.has_value() ? bound->read + bound->written : 0;
  int number = 0;
  for (const StepRecord& step : steps) {
    const double hits =
        step.accesses > 0 ? 100.0 * static_cast<double>(step.accesses - step.misses) / static_cast<double>(step.accesses) : 100.0;
    text += fmt::format("{:5} {:9.3f} {:9.3f} {:9.3f} {:11.3f} {:9} {:7} {:6} {:7.1f} {} {}\n", ++number, step.seconds,
                        step.stalled, giga(step.disk_read), giga(step.disk_written), step.accesses, step.misses, step.late, hits,
                        by(step.traffic(), step.planned()), by(step.traffic(), least));
  }
  if (!steps.empty() && steps.back().planned() > 0) {
    text += fmt::format("{:>5} {:9} {:9} {:9.3f} {:11.3f}\n", "plan", "", "", giga(steps.back().planned_read),
                        giga(steps.back().planned_written));
  }
  if (bound.has_value()) {
    text += fmt::format("{:>5} {:9} {:9} {:9.3f} {:11.3f}  (no schedule of these accesses moves less)\n", "bound", "", "",
                        giga(bound->read), giga(bound->written));
  }
  return text;
}

std::string state_text(const PayloadReport& chunk) {
  std::string stands;
  std::string comes;
  for (std::size_t level = 0; level < chunk.states.size(); ++level) {
    const std::string name = level == 0 ? "mem" : level == 1 ? "disk" : fmt::format("level {}", level);
    if (chunk.states[level] == CopyState::kValid) stands += (stands.empty() ? "" : "+") + name;
    if (chunk.states[level] == CopyState::kFilling) comes = " -> " + name;
  }
  return stands.empty() ? "-" : stands + comes;
}

std::string chunk_table(std::vector<PayloadReport> chunks, std::size_t most) {
  struct Sum {
    std::int64_t number = 0;
    std::int64_t in_memory = 0;
    Bytes bytes = 0;
    PayloadCounts counts;
  };
  std::array<Sum, kPayloadKinds> sums;
  for (const PayloadReport& chunk : chunks) {
    Sum& sum = sums[static_cast<std::size_t>(chunk.spec.kind)];
    ++sum.number;
    sum.in_memory += chunk.states.front() == CopyState::kValid ? 1 : 0;
    sum.bytes += chunk.spec.bytes;
    sum.counts.uses += chunk.counts.uses;
    sum.counts.misses += chunk.counts.misses;
    sum.counts.late += chunk.counts.late;
    sum.counts.evictions += chunk.counts.evictions;
    sum.counts.read += chunk.counts.read;
    sum.counts.written += chunk.counts.written;
    sum.counts.resident += chunk.counts.resident;
  }
  std::string text = kChunkHeader;
  for (std::size_t kind = 0; kind < sums.size(); ++kind) {
    const Sum& sum = sums[kind];
    if (sum.number == 0) continue;
    text += chunk_line(fmt::format("all {} of {}", sum.number, payload_kind_name(static_cast<PayloadKind>(kind))), sum.bytes,
                       sum.counts, fmt::format("{} in memory", sum.in_memory));
  }
  std::stable_sort(chunks.begin(), chunks.end(), [](const PayloadReport& a, const PayloadReport& b) {
    return a.counts.read + a.counts.written > b.counts.read + b.counts.written;
  });
  for (std::size_t i = 0; i < std::min(most, chunks.size()); ++i)
    text += chunk_line(chunks[i].spec.name, chunks[i].spec.bytes, chunks[i].counts, state_text(chunks[i]));
  if (chunks.size() > most)
    text += fmt::format("  and {} more that moved less; --summary lists them all\n", chunks.size() - most);
  return text;
}

}  // namespace patrickstar::cli
