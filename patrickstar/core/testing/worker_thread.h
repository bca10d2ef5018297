// WorkerThread: another thread that a test directs step by step, so that it can hold leases of its own.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace patrickstar {

class WorkerThread {
 public:
  WorkerThread() : thread_([this] { serve(); }) {}
  ~WorkerThread() {
    start(nullptr);
    thread_.join();
  }

  std::thread::id id() const { return thread_.get_id(); }
  // Runs `work` there and returns when it is done.
  void run(std::function<void()> work) {
    start(std::move(work));
    finish();
  }
  // The same in two parts. REQUIRES: each start() of work has its finish() before the next.
  void start(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    work_ = std::move(work);
    busy_ = true;
    changed_.notify_all();
  }
  void finish() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !busy_; });
  }

 private:
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return busy_; });
      if (!work_) return;
      lock.unlock();
      work_();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> work_;
  bool busy_ = false;
  std::thread thread_;
};

}  // namespace patrickstar
