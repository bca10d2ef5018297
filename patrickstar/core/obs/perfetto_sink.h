// PerfettoSink: a timeline to look at, in ui.perfetto.dev or chrome://tracing (trace-event JSON, array form).
//
// Tracks: steps; what each thread waited for; reads and writes of each level, as many lanes as overlap; marks (misses, late
// prefetches, forced evictions, failures); and curves of the readings (event.h). The array's closing bracket is optional in that
// format, and pieces are written whole: the file of a process that was killed can be opened too.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/obs/event.h"
#include "patrickstar/core/obs/event_file.h"

namespace patrickstar {

// Any thread. The destructor writes what is still under way, marked as unfinished, and closes the array.
class PerfettoSink final : public EventSink {
 public:
  // Error: kIoError that names the path.
  static Result<std::unique_ptr<PerfettoSink>> open(const std::string& path);
  ~PerfettoSink() override;
  void on_event(const Event& event) override;

 private:
  // What has begun and not ended. The views of an Event do not last.
  struct Open {
    Nanos start = 0;
    int track = 0;
    std::string name;
    std::string arguments;  // JSON members
  };
  enum class Group { kReads, kWrites };

  explicit PerfettoSink(std::unique_ptr<EventFile> file);
  void begin_transfer(const Event& event, Group group);
  void end_transfer(const Event& event, std::string_view outcome);
  void begin_stall(const Event& event);
  void end_step(const Event& event);
  int lane(Group group, int level);
  void name_track(int track, const std::string& name);
  void write_slice(const Open& open, Nanos end, std::string_view outcome);
  void write(const std::string& object);
  std::string at(Nanos time) const;  // microseconds since the first event

  std::mutex mutex_;
  std::unique_ptr<EventFile> file_;
  bool first_ = true;  // object of the array
  Nanos origin_ = -1;  // time of the first event
  Nanos last_ = 0;     // of the last one
  Nanos step_start_ = -1;
  std::unordered_map<PayloadId, Open> transfers_;
  std::unordered_map<std::uint32_t, Open> stalls_;            // by thread
  std::map<std::pair<Group, int>, std::vector<bool>> lanes_;  // of a level: which are busy
  std::map<int, std::string> tracks_;                         // those that have a name
};

}  // namespace patrickstar
