#include "patrickstar/core/obs/sinks.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace patrickstar {

const char* event_kind_name(EventKind kind) {
  switch (kind) {
    case EventKind::kAccess: return "access";
    case EventKind::kMiss: return "miss";
    case EventKind::kFetchStart: return "fetch_start";
    case EventKind::kFetchDone: return "fetch_done";
    case EventKind::kWriteStart: return "write_start";
    case EventKind::kWriteDone: return "write_done";
    case EventKind::kDrop: return "drop";
    case EventKind::kFailed: return "failed";
    case EventKind::kStep: return "step";
  }
  return "unknown";
}

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
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) {
    return Status(StatusCode::kIoError, fmt::format("[events] cannot write {}: {}", path, std::strerror(errno)));
  }
  return std::unique_ptr<JsonLinesSink>(new JsonLinesSink(file));
}

JsonLinesSink::~JsonLinesSink() { std::fclose(file_); }

void JsonLinesSink::on_event(const Event& event) {
  const std::string line = fmt::format(R"({{"t_ns":{},"event":"{}","payload":"{}","level":{},"bytes":{}}})"
                                       "\n",
                                       event.time, event_kind_name(event.kind), event.name, event.level, event.bytes);
  const std::lock_guard lock(mutex_);
  std::fwrite(line.data(), 1, line.size(), file_);
}

}  // namespace patrickstar
