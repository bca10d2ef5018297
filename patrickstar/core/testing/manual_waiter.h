// ManualWaiter: a Waiter without threads. When the manager waits, the test does something in its place: completes a transfer,
// releases a lease. When it has nothing left to do the wait times out, and whoever goes on waiting for ever ends the test; what
// it did counts as a wake-up, or only as a tick.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/mem/waiter.h"

namespace patrickstar {

class ManualWaiter final : public Waiter {
 public:
  // Called with the manager's lock released. False: nothing was left to do.
  using Step = std::function<bool()>;

  explicit ManualWaiter(Step step) : step_(std::move(step)) {}

  void set_step(Step step) { step_ = std::move(step); }
  void set_ticking() { after_step_ = WaitResult::kTick; }
  std::int64_t waits() const { return waits_; }

  WaitResult wait(std::unique_lock<std::mutex>& lock, std::condition_variable& /*changed*/) override {
    ++waits_;
    lock.unlock();
    const bool did = step_();
    lock.lock();
    idle_ = did ? 0 : idle_ + 1;
    PS_CHECK(idle_ < kMostIdle);
    return did ? after_step_ : WaitResult::kTimedOut;
  }

 private:
  static constexpr int kMostIdle = 1000;  // in a row

  Step step_;
  WaitResult after_step_ = WaitResult::kWoken;
  std::int64_t waits_ = 0;
  int idle_ = 0;
};

}  // namespace patrickstar
