// LeaseSet: counted pins on all chunks of one operator, RAII. While it lives the copies cannot move.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/trace/access.h"

namespace patrickstar {

class ChunkManager;

// When something asynchronous is done: the `sequence`-th piece of work on a queue. The CPU's is always done.
struct Fence {
  QueueId queue = kCpuQueue;
  std::uint64_t sequence = 0;

  bool done_on_cpu() const { return queue == kCpuQueue; }
};

// Move-only. May be released on another thread than the one that acquired it; a single LeaseSet is not shared by threads.
class LeaseSet {
 public:
  LeaseSet() = default;
  LeaseSet(LeaseSet&& other) noexcept { take(other); }
  LeaseSet& operator=(LeaseSet&& other) noexcept;
  LeaseSet(const LeaseSet&) = delete;
  LeaseSet& operator=(const LeaseSet&) = delete;
  ~LeaseSet() { release(); }

  std::size_t size() const { return count_; }
  // Where the i-th access's bytes lie on the compute tier. REQUIRES: i < size().
  std::byte* address(std::size_t i) const { return entry(i).address; }
  // Work on the copies may start once this is done.
  Fence ready() const { return ready_; }
  // Gives the pins back; `completion` is done when the last work on the copies is. Idempotent.
  void release(Fence completion = {});

 private:
  friend class ChunkManager;
  struct Entry {
    PayloadId payload;
    std::byte* address = nullptr;
  };
  static constexpr std::size_t kInline = 6;  // an operator rarely has more managed inputs

  void take(LeaseSet& other) {
    manager_ = std::exchange(other.manager_, nullptr);
    count_ = std::exchange(other.count_, 0);
    std::copy_n(other.inline_.begin(), count_ < kInline ? count_ : kInline, inline_.begin());
    more_ = std::move(other.more_);
    ready_ = other.ready_;
    holder_ = other.holder_;
  }
  const Entry& entry(std::size_t i) const { return i < kInline ? inline_[i] : more_[i - kInline]; }
  void push(Entry entry) {
    if (count_ < kInline) {
      inline_[count_] = entry;
    } else {
      more_.push_back(entry);
    }
    ++count_;
  }

  ChunkManager* manager_ = nullptr;
  std::size_t count_ = 0;
  std::array<Entry, kInline> inline_;
  std::vector<Entry> more_;
  Fence ready_;
  std::uint32_t holder_ = 0;  // the acquiring thread, for deadlock detection
};

}  // namespace patrickstar
