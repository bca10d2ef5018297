#include "patrickstar/core/testing/threaded_link.h"

#include <cstring>
#include <utility>

#include "patrickstar/core/base/check.h"

namespace patrickstar {

ThreadedLink::ThreadedLink(int threads, std::uint32_t seed) : random_(seed) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

ThreadedLink::~ThreadedLink() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadedLink::start(const Transfer& transfer) {
  PS_CHECK(sink_ != nullptr);
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(transfer);
  }
  work_.notify_one();
}

void ThreadedLink::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    std::swap(queue_[random_() % queue_.size()], queue_.back());
    const Transfer transfer = queue_.back();
    queue_.pop_back();
    lock.unlock();
    const bool up = transfer.direction == Direction::kUp;
    std::memcpy((up ? transfer.upper : transfer.lower).address(), (up ? transfer.lower : transfer.upper).address(),
                static_cast<std::size_t>(transfer.bytes));
    (up ? bytes_up_ : bytes_down_) += transfer.bytes;
    sink_->transfer_done(transfer, {});
    lock.lock();
  }
}

}  // namespace patrickstar
