// LoadMeter: how many cores others used while something was measured: all that the system was busy with, less this process and
// its children. Interrupts count for nobody: they are mostly our own transfers'. Time that a hypervisor took counts as others'.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace patrickstar::cli {

// Measurements during which others used more cores than this are discarded.
inline constexpr double kMostForeignCores = 0.25;

// Seconds of CPU that a /proc/stat ("cpu  1 2 3 ...") or a /proc/<pid>/stat says were used. Nothing: it is not one.
std::optional<double> busy_seconds(const std::string& stat, double ticks_per_second);
std::optional<double> process_seconds(const std::string& stat, double ticks_per_second);

struct ForeignLoad {
  double cores = 0;    // on average
  double seconds = 0;  // of CPU
  // Whether what was measured meanwhile is to be discarded. What a tick or two could be mistaken for is no load.
  bool disturbs() const;
};

class LoadMeter {
 public:
  // Children that live now; those that ended before are known to the system.
  explicit LoadMeter(std::vector<pid_t> children);
  // What others used since construction. REQUIRES: the children have not been waited for since.
  ForeignLoad foreign() const;

 private:
  struct Reading {
    double busy = 0;
    double own = 0;
    double wall = 0;
  };
  Reading read() const;

  const std::vector<pid_t> children_;
  const Reading begin_;
};

}  // namespace patrickstar::cli
