#include "patrickstar/core/io/thread_pool_link.h"

#include <fmt/format.h>

#include <system_error>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/io/transfer_io.h"

namespace patrickstar {

Result<std::unique_ptr<ThreadPoolLink>> ThreadPoolLink::create(ScratchFile& file, int threads) {
  PS_CHECK(threads >= 1);
  std::unique_ptr<ThreadPoolLink> link(new ThreadPoolLink(file));
  try {
    for (int i = 0; i < threads; ++i) link->threads_.emplace_back([self = link.get()] { self->run(); });
  } catch (const std::system_error& e) {
    return Status(StatusCode::kUnavailable, fmt::format("[disk] the system gives no I/O thread: {}; raise the limit of processes "
                                                        "(ulimit -u)",
                                                        e.what()));
  }
  return link;
}

ThreadPoolLink::~ThreadPoolLink() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadPoolLink::set_sink(TransferSink* sink) {
  PS_CHECK(sink_ == nullptr && sink != nullptr);
  sink_ = sink;
}

void ThreadPoolLink::start(const Transfer& transfer) {
  PS_CHECK(sink_ != nullptr);
  check_transfer(transfer, file_);
  {
    const std::lock_guard lock(mutex_);
    queue_.push(transfer.urgency, transfer);
  }
  work_.notify_one();
}

void ThreadPoolLink::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;  // a sink that starts more while we stop does so on a thread that looks here again
    const Transfer transfer = queue_.pop();
    lock.unlock();
    serve(transfer);
    lock.lock();
  }
}

void ThreadPoolLink::serve(const Transfer& transfer) {
  const int error = transfer_all(file_.ops(), file_.fd(), io_kind(transfer.direction), transfer.upper.address(), transfer.bytes,
                                 static_cast<Bytes>(transfer.lower.value));
  if (error != 0) {
    sink_->transfer_done(transfer, transfer_failed(transfer, file_, error));
    return;
  }
  (transfer.direction == Direction::kUp ? bytes_up_ : bytes_down_).fetch_add(transfer.bytes, std::memory_order_relaxed);
  sink_->transfer_done(transfer, Status());
}

}  // namespace patrickstar
