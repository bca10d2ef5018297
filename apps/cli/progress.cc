#include "apps/cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "patrickstar/core/base/text.h"

namespace patrickstar::cli {
namespace {

std::string gauge(double part, int width) {
  const int full = std::clamp(static_cast<int>(part * width + 0.5), 0, width);
  return std::string(static_cast<std::size_t>(full), '#') + std::string(static_cast<std::size_t>(width - full), '.');
}

std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  return whole >= 3600 ? fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
                       : fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1) {}

void Progress::show(const ProgressState& s) {
  std::string memory;
  if (s.budget > 0) {
    const double part = static_cast<double>(s.used) / static_cast<double>(s.budget);
    memory = terminal_ ? fmt::format("  mem [{}] {} of {}", gauge(part, 10), format_bytes(s.used), format_bytes(s.budget))
                       : fmt::format("  memory {} of {}", format_bytes(s.used), format_bytes(s.budget));
  }
  if (terminal_) {
    fmt::print(stderr, "\r\033[K[{}] {}/{}  loss {:.4f}  {:.0f} tok/s  {} left{}",
               gauge(static_cast<double>(s.step) / static_cast<double>(s.steps), 20), s.step, s.steps, s.loss,
               s.tokens_per_second, clock_text(s.seconds_left), memory);
    open_ = true;
  } else {
    fmt::print(stderr, "step {}/{}  loss {:.4f}  {:.0f} tokens/s  {} left{}\n", s.step, s.steps, s.loss, s.tokens_per_second,
               clock_text(s.seconds_left), memory);
  }
  std::fflush(stderr);
}

void Progress::say(const std::string& line) {
  finish();
  fmt::print(stderr, "{}\n", line);
}

void Progress::finish() {
  if (open_) fmt::print(stderr, "\n");
  open_ = false;
}

}  // namespace patrickstar::cli
