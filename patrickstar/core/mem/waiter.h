// Waiter: how a thread waits for a completion. The real one sleeps on the condition variable; a test's runs queued jobs by
// hand; the simulator's moves its clock to the next completion.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace patrickstar {

enum class WaitResult { kWoken, kTimedOut };

class Waiter {
 public:
  virtual ~Waiter() = default;
  // Waits with `lock` released until something may have changed. Spurious returns are fine.
  virtual WaitResult wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed) = 0;
};

class ThreadWaiter final : public Waiter {
 public:
  // `time_out`: with no completion and no release for so long, something is stuck and the wait ends with an error.
  explicit ThreadWaiter(std::chrono::nanoseconds time_out) : time_out_(time_out) {}
  WaitResult wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed) override {
    return changed.wait_for(lock, time_out_) == std::cv_status::timeout ? WaitResult::kTimedOut : WaitResult::kWoken;
  }

 private:
  const std::chrono::nanoseconds time_out_;
};

}  // namespace patrickstar
