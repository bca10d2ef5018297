// Timeline: the only thing that moves a simulation's clock, from one completion of a transfer to the next.
#pragma once

#include <utility>
#include <vector>

#include "patrickstar/core/mem/waiter.h"
#include "patrickstar/core/sim/sim_clock.h"
#include "patrickstar/core/sim/sim_link.h"

namespace patrickstar {

// One thread. No method may be called with a manager's lock held: completions take it.
class Timeline {
 public:
  const SimClock& clock() const { return clock_; }
  // Links that end their transfers on this timeline, and outlive its use. Of completions at the same time those of the link
  // that was added first come first.
  void add(SimLink* link) { links_.push_back(link); }

  // Moves the clock to the next completion and delivers it. False: nothing is under way, so the clock stands.
  bool deliver_next();
  // Delivers everything that is due until `time`, each at its own time, then moves the clock there.
  // REQUIRES: `time` is not in the past.
  void run_until(Nanos time);

 private:
  SimLink* next() const;

  SimClock clock_;
  std::vector<SimLink*> links_;
};

// Who waits sleeps until the next completion. With nothing under way no wait could end: it times out.
class SimWaiter final : public Waiter {
 public:
  explicit SimWaiter(Timeline* timeline) : timeline_(timeline) {}

  WaitResult wait(std::unique_lock<std::mutex>& lock, std::condition_variable& /*changed*/) override {
    lock.unlock();
    const bool delivered = timeline_->deliver_next();
    lock.lock();
    return delivered ? WaitResult::kWoken : WaitResult::kTimedOut;
  }

 private:
  Timeline* const timeline_;
};

}  // namespace patrickstar
