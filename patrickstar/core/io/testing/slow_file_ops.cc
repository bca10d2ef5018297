#include "patrickstar/core/io/testing/slow_file_ops.h"

#include <algorithm>
#include <thread>

namespace patrickstar {

void SlowFileOps::set_bytes_per_second(Bytes rate) {
  const std::lock_guard lock(mutex_);
  rate_ = rate;
}

Bytes SlowFileOps::slowed() const {
  const std::lock_guard lock(mutex_);
  return slowed_;
}

// Returns the result when the disk is done with it.
std::int64_t SlowFileOps::pass(std::int64_t result) {
  std::unique_lock lock(mutex_);
  if (rate_ == 0 || result <= 0) return result;
  slowed_ += result;
  const std::chrono::duration<double> busy(static_cast<double>(result) / static_cast<double>(rate_));
  busy_until_ = std::max(busy_until_, Clock::now()) + std::chrono::duration_cast<Clock::duration>(busy);
  const Clock::time_point mine = busy_until_;
  lock.unlock();
  std::this_thread::sleep_until(mine);
  return result;
}

std::int64_t SlowFileOps::pread(int fd, std::byte* data, Bytes bytes, Bytes offset) {
  return pass(real_.pread(fd, data, bytes, offset));
}

std::int64_t SlowFileOps::pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) {
  return pass(real_.pwrite(fd, data, bytes, offset));
}

std::int64_t SlowFileOps::completed(IoKind kind, std::int64_t result) { return pass(real_.completed(kind, result)); }

}  // namespace patrickstar
