// Waiter: how a thread waits for a completion. The real one sleeps on the condition variable; a test's runs queued jobs by
// hand; the simulator's moves its clock to the next completion.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace patrickstar {

enum class WaitResult {
  kWoken,
  kTick,      // nobody woke it for a while: the manager looks at the time and waits on
  kTimedOut,  // there is nothing left that could end the wait
};

class Waiter {
 public:
  virtual ~Waiter() = default;
  // Waits with `lock` released until something may have changed. Spurious returns are fine.
  virtual WaitResult wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed) = 0;
};

// How long is too long is the manager's (ChunkManagerOptions::warn_after and time_out): it is seen to at each tick.
class ThreadWaiter final : public Waiter {
 public:
  explicit ThreadWaiter(std::chrono::nanoseconds tick = std::chrono::seconds(1)) : tick_(tick) {}
  WaitResult wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed) override {
    return changed.wait_for(lock, tick_) == std::cv_status::timeout ? WaitResult::kTick : WaitResult::kWoken;
  }

 private:
  const std::chrono::nanoseconds tick_;
};

}  // namespace patrickstar
