#include "patrickstar/core/mem/wait_board.h"

#include <fmt/format.h>
#include <pthread.h>

namespace patrickstar {

const char* wait_cause_name(WaitCause cause) {
  switch (cause) {
    case WaitCause::kTransfer: return "transfer";
    case WaitCause::kTurn: return "turn";
    case WaitCause::kRoom: return "room";
    case WaitCause::kLease: return "lease";
    case WaitCause::kRest: return "rest";
  }
  return "unknown";
}

bool WaitFor::same_goal(const WaitFor& other) const {
  const auto goal = [](WaitCause c) { return c == WaitCause::kLease ? WaitCause::kRoom : c; };
  return goal(cause) == goal(other.cause) && payload == other.payload && level == other.level;
}

WaitBoard::Begun WaitBoard::begin(std::uint32_t thread, const WaitFor& what, Nanos now, std::uint64_t epoch) {
  Wait& wait = waits_[thread];
  if (!wait.active || !wait.what.same_goal(what)) {
    wait = {.what = what, .active = true, .since = now, .quiet_since = now, .epoch = epoch};
    return Begun::kAnew;
  }
  wait.what = what;
  if (wait.epoch != epoch) {
    wait.epoch = epoch;
    wait.quiet_since = now;
  }
  return Begun::kStill;
}

void WaitBoard::enter(std::uint32_t thread) {
  if (names_.size() <= thread) {
    names_.resize(thread + 1, {});
    waits_.resize(thread + 1);
  }
  if (pthread_getname_np(pthread_self(), names_[thread].data(), names_[thread].size()) != 0 || names_[thread][0] == '\0')
    names_[thread] = {'?'};
}

void WaitBoard::mark_told(Nanos now, Nanos least) {
  for (Wait& wait : waits_) {
    if (wait.active && now - wait.since >= least) wait.told = true;
  }
}

std::vector<std::uint32_t> WaitBoard::waiting() const {
  std::vector<std::uint32_t> threads;
  for (std::uint32_t thread = 0; thread < waits_.size(); ++thread) {
    if (waits_[thread].active) threads.push_back(thread);
  }
  return threads;
}

std::string WaitBoard::who(std::uint32_t thread) const { return fmt::format("thread {} ({})", thread, names_[thread].data()); }

}  // namespace patrickstar
