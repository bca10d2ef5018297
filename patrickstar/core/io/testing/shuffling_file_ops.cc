#include "patrickstar/core/io/testing/shuffling_file_ops.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <thread>
#include <utility>

#include "patrickstar/core/mem/tier.h"

namespace patrickstar {

std::int64_t ShufflingFileOps::held() const {
  const std::lock_guard lock(mutex_);
  return held_;
}

std::int64_t ShufflingFileOps::overtaken() const {
  const std::lock_guard lock(mutex_);
  return overtaken_;
}

Nanos ShufflingFileOps::delayed() const {
  const std::lock_guard lock(mutex_);
  return delayed_;
}

void ShufflingFileOps::let_one_go_if_all_stand() {
  if (static_cast<int>(standing_.size()) < options_.threads) return;
  for (const auto& [call, until] : standing_) {
    if (until <= come_) return;  // one goes as soon as its thread runs
  }
  const auto chosen = static_cast<std::ptrdiff_t>(random_() % standing_.size());
  std::next(standing_.begin(), chosen)->second = 0;
}

void ShufflingFileOps::stand() {
  std::unique_lock lock(mutex_);
  const std::int64_t call = ++come_;
  const auto others = static_cast<std::int64_t>(random_() % static_cast<std::uint32_t>(options_.most_overtakes + 1));
  if (others > 0) {
    ++held_;
    standing_.emplace(call, call + others);
    for (int round = 0; round < options_.rounds && come_ < standing_.at(call); ++round) {
      let_one_go_if_all_stand();
      if (come_ >= standing_.at(call)) break;
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    }
    standing_.erase(call);
  }
  if (call < last_gone_) ++overtaken_;
  last_gone_ = std::max(last_gone_, call);
  be_late(std::move(lock));
}

void ShufflingFileOps::be_late(std::unique_lock<std::mutex> lock) {
  if (options_.most_delay == 0) return;
  const Nanos delay = std::uniform_int_distribution<Nanos>(0, options_.most_delay)(random_);
  delayed_ += delay;
  lock.unlock();
  std::this_thread::sleep_for(std::chrono::nanoseconds(delay));
}

std::int64_t ShufflingFileOps::cut() const {
  const std::lock_guard lock(mutex_);
  return cut_;
}

Bytes ShufflingFileOps::submitting(IoKind, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  const auto units = static_cast<std::uint64_t>(bytes / kPayloadAlignment);
  if (units < 2 || random_() % 2 == 0) return bytes;
  ++cut_;
  return static_cast<Bytes>(1 + random_() % (units - 1)) * kPayloadAlignment;
}

std::int64_t ShufflingFileOps::completed(IoKind, std::int64_t result) {
  std::unique_lock lock(mutex_);
  if (random_() % 16 == 0) be_late(std::move(lock));
  return result;
}

std::int64_t ShufflingFileOps::pread(int fd, std::byte* data, Bytes bytes, Bytes offset) {
  stand();
  return real_.pread(fd, data, bytes, offset);
}

std::int64_t ShufflingFileOps::pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) {
  stand();
  return real_.pwrite(fd, data, bytes, offset);
}

}  // namespace patrickstar
