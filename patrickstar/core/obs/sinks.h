// Sinks for events: the last N in memory, one JSON object a line in a file, several sinks as one. For a timeline to look at:
// perfetto_sink.h.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/obs/event.h"
#include "patrickstar/core/obs/event_file.h"

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

// {"t_ns":12,"event":"fetch_start","payload":"chunk 3 param","level":0,"bytes":8388608,"kind":"param","why":"demand"} a line
// (docs/formats.md). Any thread. Written in whole lines, some at a time and at the end of each step; the destructor writes the
// rest.
class JsonLinesSink final : public EventSink {
 public:
  static Result<std::unique_ptr<JsonLinesSink>> open(const std::string& path);
  void on_event(const Event& event) override;

 private:
  explicit JsonLinesSink(std::unique_ptr<EventFile> file) : file_(std::move(file)) {}

  std::mutex mutex_;
  std::unique_ptr<EventFile> file_;
};

// Hands each event to every sink, in the order of their adding. add() before the first event; on_event from any thread.
class FanOutSink final : public EventSink {
 public:
  void add(std::unique_ptr<EventSink> sink) { sinks_.push_back(std::move(sink)); }
  bool empty() const { return sinks_.empty(); }
  void on_event(const Event& event) override {
    for (const auto& sink : sinks_) sink->on_event(event);
  }

 private:
  std::vector<std::unique_ptr<EventSink>> sinks_;
};

}  // namespace patrickstar
