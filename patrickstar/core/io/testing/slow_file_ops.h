// SlowFileOps: files on a disk that from time to time is as slow as a test says: reads and writes share so many bytes a second,
// each counted from when the one before it was done.
//
// Thread safety: any thread.
#pragma once

#include <chrono>
#include <mutex>
#include <string>

#include "patrickstar/core/base/units.h"
#include "patrickstar/core/io/file_ops.h"

namespace patrickstar {

class SlowFileOps final : public FileOps {
 public:
  explicit SlowFileOps(FileOps& real = posix_file_ops()) : real_(real) {}

  // From now on. 0: as fast as the real one.
  void set_bytes_per_second(Bytes rate);
  Bytes slowed() const;  // bytes that were made to wait, since construction

  int open_scratch(const std::string& directory) override { return real_.open_scratch(directory); }
  int set_caching(int fd, Caching caching) override { return real_.set_caching(fd, caching); }
  int preallocate(int fd, Bytes from, Bytes to) override { return real_.preallocate(fd, from, to); }
  Bytes free_bytes(const std::string& directory) override { return real_.free_bytes(directory); }
  std::int64_t pread(int fd, std::byte* data, Bytes bytes, Bytes offset) override;
  std::int64_t pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) override;
  void close(int fd) override { real_.close(fd); }
  Bytes submitting(IoKind kind, Bytes bytes) override { return real_.submitting(kind, bytes); }
  std::int64_t completed(IoKind kind, std::int64_t result) override;

 private:
  using Clock = std::chrono::steady_clock;
  std::int64_t pass(std::int64_t result);

  FileOps& real_;
  mutable std::mutex mutex_;
  Bytes rate_ = 0;
  Bytes slowed_ = 0;
  Clock::time_point busy_until_;
};

}  // namespace patrickstar
