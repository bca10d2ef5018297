#include "patrickstar/core/obs/perfetto_sink.h"

#include <fmt/format.h>

#include <algorithm>

namespace patrickstar {
namespace {

// Tracks are "threads" of one "process", and their order is that of their numbers.
constexpr int kStepTrack = 1;
constexpr int kMarkTrack = 2;
constexpr int kStallTracks = 1'000;  // + thread
constexpr int kReadTracks = 100'000;
constexpr int kWriteTracks = 200'000;
constexpr int kLanesOfLevel = 10'000;

std::string curve_name(EventKind kind) {
  switch (kind) {
    case EventKind::kChunkBytes: return "1 chunks on the compute tier";
    case EventKind::kNonModelBytes: return "2 non-model data";
    case EventKind::kUnderWayBytes: return "3 under way";
    case EventKind::kAheadBytes: return "4 brought ahead, not used yet";
    default: return "5 budget";
  }
}

std::string mark_name(EventKind kind) {
  switch (kind) {
    case EventKind::kMiss: return "miss";
    case EventKind::kLate: return "late prefetch";
    case EventKind::kForced: return "forced out";
    default: return "failed";
  }
}

std::string stall_name(const Event& event) {
  const std::string of = event.name.empty() ? std::string() : fmt::format(" {}", event.name);
  if (event.why == "room") return "room" + (of.empty() ? of : " for" + of);
  if (event.why == "turn") return "its turn";
  return std::string(event.why) + of;
}

}  // namespace

Result<std::unique_ptr<PerfettoSink>> PerfettoSink::open(const std::string& path) {
  auto file = EventFile::open(path);
  if (!file.ok()) return file.status();
  return std::unique_ptr<PerfettoSink>(new PerfettoSink(std::move(file.value())));
}

PerfettoSink::PerfettoSink(std::unique_ptr<EventFile> file) : file_(std::move(file)) {
  file_->append("[");
  write(R"({"name":"process_name","ph":"M","pid":1,"args":{"name":"patrickstar"}})");
  name_track(kStepTrack, "steps");
  name_track(kMarkTrack, "marks");
}

PerfettoSink::~PerfettoSink() {
  for (const auto& [payload, open] : transfers_) write_slice(open, last_, "unfinished");
  for (const auto& [thread, open] : stalls_) write_slice(open, last_, "unfinished");
  file_->append("\n]\n");
}

void PerfettoSink::on_event(const Event& event) {
  const std::lock_guard lock(mutex_);
  if (origin_ < 0) origin_ = step_start_ = last_ = event.time;
  last_ = std::max(last_, event.time);
  switch (event.kind) {
    case EventKind::kAccess:
    case EventKind::kDrop: return;  // many, and seen in the curves
    case EventKind::kFetchStart: return begin_transfer(event, Group::kReads);
    case EventKind::kWriteStart: return begin_transfer(event, Group::kWrites);
    case EventKind::kFetchDone:
    case EventKind::kWriteDone: return end_transfer(event, "done");
    case EventKind::kStallStart: return begin_stall(event);
    case EventKind::kStallEnd:
      if (const auto open = stalls_.extract(event.thread)) write_slice(open.mapped(), event.time, "done");
      return;
    case EventKind::kStep: return end_step(event);
    case EventKind::kFailed: end_transfer(event, "failed"); [[fallthrough]];
    case EventKind::kMiss:
    case EventKind::kLate:
    case EventKind::kForced:
      return write(fmt::format(R"({{"name":{},"ph":"i","s":"t","pid":1,"tid":{},"ts":{},"args":{{"payload":{},"bytes":{}}}}})",
                               json_quoted(mark_name(event.kind)), kMarkTrack, at(event.time), json_quoted(event.name),
                               event.bytes));
    case EventKind::kChunkBytes:
    case EventKind::kNonModelBytes:
    case EventKind::kUnderWayBytes:
    case EventKind::kAheadBytes:
    case EventKind::kBudgetBytes:
      return write(fmt::format(R"({{"name":{},"ph":"C","pid":1,"ts":{},"args":{{"bytes":{}}}}})",
                               json_quoted(curve_name(event.kind)), at(event.time), event.bytes));
  }
}

// Slices of one track must not overlap, and several transfers are under way at once: each takes the first lane that is free.
int PerfettoSink::lane(Group group, int level) {
  std::vector<bool>& busy = lanes_[{group, level}];
  const auto free = static_cast<std::size_t>(std::find(busy.begin(), busy.end(), false) - busy.begin());
  const int track = (group == Group::kReads ? kReadTracks : kWriteTracks) + kLanesOfLevel * level + static_cast<int>(free);
  if (free == busy.size()) {
    busy.push_back(true);
    // A level beneath the first is named: with two tiers there is one kind of read and one of write.
    const int depth = group == Group::kReads ? level : level - 1;
    name_track(track, fmt::format("{}{} {}", group == Group::kReads ? "reads" : "writes",
                                  depth > 0 ? fmt::format(" {} levels down", depth) : "", free + 1));
  }
  busy[free] = true;
  return track;
}

void PerfettoSink::begin_transfer(const Event& event, Group group) {
  transfers_[event.payload] = {.start = event.time,
                               .track = lane(group, event.level),
                               .name = std::string(event.name),
                               .arguments = fmt::format(R"("bytes":{},"kind":{},"urgency":{})", event.bytes,
                                                        json_quoted(event.payload_kind), json_quoted(event.why))};
}

void PerfettoSink::end_transfer(const Event& event, std::string_view outcome) {
  const auto open = transfers_.extract(event.payload);
  if (!open) return;
  const int track = open.mapped().track;
  const Group group = track >= kWriteTracks ? Group::kWrites : Group::kReads;
  const int lane = track - (group == Group::kWrites ? kWriteTracks : kReadTracks);
  lanes_[{group, lane / kLanesOfLevel}][static_cast<std::size_t>(lane % kLanesOfLevel)] = false;
  write_slice(open.mapped(), event.time, outcome);
}

void PerfettoSink::begin_stall(const Event& event) {
  const int track = kStallTracks + static_cast<int>(event.thread);
  name_track(track, fmt::format("stalls of thread {}", event.thread));
  stalls_[event.thread] = {.start = event.time,
                           .track = track,
                           .name = stall_name(event),
                           .arguments = fmt::format(R"("payload":{},"bytes":{},"why":{})", json_quoted(event.name), event.bytes,
                                                    json_quoted(event.why))};
}

void PerfettoSink::end_step(const Event& event) {
  const std::string name = event.bytes > 0 ? fmt::format("step {}", event.bytes) : "before the first step";
  write_slice({.start = step_start_, .track = kStepTrack, .name = name, .arguments = ""}, event.time, "done");
  step_start_ = event.time;
  file_->flush();
}

void PerfettoSink::name_track(int track, const std::string& name) {
  if (!tracks_.emplace(track, name).second) return;
  write(fmt::format(R"({{"name":"thread_name","ph":"M","pid":1,"tid":{},"args":{{"name":{}}}}})", track, json_quoted(name)));
  write(fmt::format(R"({{"name":"thread_sort_index","ph":"M","pid":1,"tid":{},"args":{{"sort_index":{}}}}})", track, track));
}

void PerfettoSink::write_slice(const Open& open, Nanos end, std::string_view outcome) {
  const std::string ended = outcome == "done" ? "" : fmt::format(R"({}"ended":"{}")", open.arguments.empty() ? "" : ",", outcome);
  const Nanos length = end - open.start;
  write(fmt::format(R"({{"name":{},"ph":"X","pid":1,"tid":{},"ts":{},"dur":{}.{:03},"args":{{{}{}}}}})", json_quoted(open.name),
                    open.track, at(open.start), length / 1000, length % 1000, open.arguments, ended));
}

void PerfettoSink::write(const std::string& object) {
  file_->append((first_ ? "\n" : ",\n") + object);
  first_ = false;
}

std::string PerfettoSink::at(Nanos time) const {
  const Nanos since = std::max<Nanos>(0, time - origin_);
  return fmt::format("{}.{:03}", since / 1000, since % 1000);
}

}  // namespace patrickstar
