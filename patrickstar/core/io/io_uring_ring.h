// IoUringRing: one io_uring with its registered regions and the eventfd that wakes its thread. Knows nothing of transfers:
// scheduling is io_uring_link.cc's. Included by that file only.
//
// Thread safety: wake() from any thread; the rest from one thread at a time.
#pragma once

#include <liburing.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/io/file_ops.h"
#include "patrickstar/core/io/io_uring_link.h"

namespace patrickstar {

struct FileRange {
  int fd = -1;
  std::byte* address = nullptr;
  Bytes bytes = 0;  // at most 1 GiB
  Bytes offset = 0;
};

class IoUringRing {
 public:
  static constexpr int kNoRegion = -1;

  IoUringRing() = default;
  ~IoUringRing();
  IoUringRing(const IoUringRing&) = delete;
  IoUringRing& operator=(const IoUringRing&) = delete;

  // Room for `entries` reads and writes at once. kUnavailable, naming the reason. Once, before anything else.
  Status open(int entries, const std::vector<MemoryRegion>& regions);

  // The registered region that holds all of [address, address + bytes), or kNoRegion.
  int region_of(const std::byte* address, Bytes bytes) const;
  // Queues a read or write for the next wait(). REQUIRES: fewer than `entries` are under way.
  void prepare(IoKind kind, const FileRange& range, int region, std::uint64_t tag);

  // wait() returns soon after a wake(), once, if wakes are armed. Arming twice is arming once.
  void wake();
  void arm_wake();
  bool wake_armed() const { return wake_armed_; }

  // Submits what is prepared and sleeps until a completion or a wake.
  void wait();
  struct Completion {
    std::uint64_t tag = 0;
    std::int64_t result = 0;  // a count or -errno
  };
  // The next completion of a read or write, without waiting. False: none.
  bool next(Completion* completion);

  std::atomic<std::int64_t> submitted{0};
  std::atomic<std::int64_t> submitted_fixed{0};

 private:
  void register_regions(const std::vector<MemoryRegion>& regions);
  io_uring_sqe* next_sqe();

  io_uring ring_{};
  bool open_ = false;
  int wake_fd_ = -1;
  bool wake_armed_ = false;
  std::uint64_t wake_value_ = 0;       // the kernel writes it while armed
  std::vector<MemoryRegion> regions_;  // the registered ones
};

}  // namespace patrickstar
