#include "patrickstar/core/obs/sinks.h"

#include <fmt/format.h>

namespace patrickstar {

const char* event_kind_name(EventKind kind) {
  switch (kind) {
    case EventKind::kAccess: return "access";
    case EventKind::kMiss: return "miss";
    case EventKind::kLate: return "late";
    case EventKind::kFetchStart: return "fetch_start";
    case EventKind::kFetchDone: return "fetch_done";
    case EventKind::kWriteStart: return "write_start";
    case EventKind::kWriteDone: return "write_done";
    case EventKind::kDrop: return "drop";
    case EventKind::kForced: return "forced";
    case EventKind::kFailed: return "failed";
    case EventKind::kStallStart: return "stall_start";
    case EventKind::kStallEnd: return "stall_end";
    case EventKind::kStep: return "step";
    case EventKind::kChunkBytes: return "chunk_bytes";
    case EventKind::kNonModelBytes: return "non_model_bytes";
    case EventKind::kUnderWayBytes: return "under_way_bytes";
    case EventKind::kAheadBytes: return "ahead_bytes";
    case EventKind::kBudgetBytes: return "budget_bytes";
  }
  return "unknown";
}

bool is_reading(EventKind kind) { return kind >= EventKind::kChunkBytes; }

void RingSink::on_event(const Event& event) {
  const std::lock_guard lock(mutex_);
  Event& kept = events_[seen_++ % events_.size()];
  kept = event;
  kept.name = {};
}

std::vector<Event> RingSink::snapshot() const {
  const std::lock_guard lock(mutex_);
  std::vector<Event> result;
  const std::size_t count = std::min(seen_, events_.size());
  for (std::size_t i = seen_ - count; i < seen_; ++i) result.push_back(events_[i % events_.size()]);
  return result;
}

Result<std::unique_ptr<JsonLinesSink>> JsonLinesSink::open(const std::string& path) {
  auto file = EventFile::open(path);
  if (!file.ok()) return file.status();
  return std::unique_ptr<JsonLinesSink>(new JsonLinesSink(std::move(file.value())));
}

void JsonLinesSink::on_event(const Event& event) {
  std::string line = fmt::format(R"({{"t_ns":{},"event":"{}","payload":{},"level":{},"bytes":{})", event.time,
                                 event_kind_name(event.kind), json_quoted(event.name), event.level, event.bytes);
  if (!event.payload_kind.empty()) line += fmt::format(R"(,"kind":{})", json_quoted(event.payload_kind));
  if (!event.why.empty()) line += fmt::format(R"(,"why":{})", json_quoted(event.why));
  if (event.kind == EventKind::kStallStart || event.kind == EventKind::kStallEnd)
    line += fmt::format(R"(,"thread":{})", event.thread);
  line += "}\n";
  const std::lock_guard lock(mutex_);
  file_->append(line);
  if (event.kind == EventKind::kStep) file_->flush();
}

}  // namespace patrickstar
