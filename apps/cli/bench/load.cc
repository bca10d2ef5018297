#include "apps/cli/bench/load.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>

namespace patrickstar::cli {
namespace {

// Ticks of 10 ms are counted for whom they find: less than this is no proof of anybody.
constexpr double kLeastForeignSeconds = 0.1;

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

double used_by(int who) {
  rusage usage{};
  getrusage(who, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double ticks_per_second() { return static_cast<double>(sysconf(_SC_CLK_TCK)); }

}  // namespace

std::optional<double> busy_seconds(const std::string& stat, double ticks) {
  std::istringstream in(stat);
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  if (!(in >> name >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal) || name != "cpu") return std::nullopt;
  return (user + nice + system + steal) / ticks;
}

std::optional<double> process_seconds(const std::string& stat, double ticks) {
  // "pid (name) state ...": the name may hold anything, so from the last parenthesis on; utime and stime are fields 14 and 15.
  const std::size_t end = stat.rfind(')');
  if (end == std::string::npos) return std::nullopt;
  std::istringstream in(stat.substr(end + 1));
  std::string skipped;
  for (int field = 3; field < 14; ++field) in >> skipped;
  double user = 0, system = 0;
  if (!(in >> user >> system)) return std::nullopt;
  return (user + system) / ticks;
}

LoadMeter::LoadMeter(std::vector<pid_t> children) : children_(std::move(children)), begin_(read()) {}

LoadMeter::Reading LoadMeter::read() const {
  Reading reading;
  reading.wall = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  reading.busy = busy_seconds(text_of("/proc/stat"), ticks_per_second()).value_or(0);
  reading.own = used_by(RUSAGE_SELF) + used_by(RUSAGE_CHILDREN);
  for (const pid_t child : children_)
    reading.own += process_seconds(text_of("/proc/" + std::to_string(child) + "/stat"), ticks_per_second()).value_or(0);
  return reading;
}

ForeignLoad LoadMeter::foreign() const {
  const Reading now = read();
  const double seconds = std::max(0.0, now.busy - begin_.busy - (now.own - begin_.own));
  return {.cores = seconds / std::max(1e-9, now.wall - begin_.wall), .seconds = seconds};
}

bool ForeignLoad::disturbs() const { return cores > kMostForeignCores && seconds > kLeastForeignSeconds; }

}  // namespace patrickstar::cli
