// Sinks for events: the last N in memory, and one JSON object a line in a file.
#pragma once

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/obs/event.h"

namespace patrickstar {

// The last `capacity` events. Any thread.
class RingSink final : public EventSink {
 public:
  explicit RingSink(std::size_t capacity) : events_(capacity) {}
  void on_event(const Event& event) override;
  std::vector<Event> snapshot() const;  // oldest first, without names

 private:
  mutable std::mutex mutex_;
  std::vector<Event> events_;
  std::size_t seen_ = 0;
};

// {"t_ns":12,"event":"fetch_start","payload":"chunk 3 param","level":0,"bytes":8388608} a line. Any thread. Buffered; the
// destructor writes the rest.
class JsonLinesSink final : public EventSink {
 public:
  static Result<std::unique_ptr<JsonLinesSink>> open(const std::string& path);
  ~JsonLinesSink() override;
  void on_event(const Event& event) override;

 private:
  explicit JsonLinesSink(std::FILE* file) : file_(file) {}

  std::mutex mutex_;
  std::FILE* file_;
};

}  // namespace patrickstar
