// FileOps: the seam between the disk tier and the operating system. Faults are injected here (testing/faulty_file_ops.h)
// without touching the engines above.
//
// Calls answer as system calls of the kernel do: a count or 0, or a negative errno. Nothing is retried in here: short
// transfers and EINTR are the caller's (transfer_io.h). Any thread, also several on one descriptor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "patrickstar/core/base/units.h"

namespace patrickstar {

enum class Caching : std::uint8_t {
  kBuffered,  // through the page cache: takes host memory beside the budget
  kDirect,    // O_DIRECT: no copy in host memory; addresses, offsets and lengths must be aligned
};

enum class IoKind : std::uint8_t { kRead, kWrite };

class FileOps {
 public:
  virtual ~FileOps() = default;

  // A new, empty, nameless file in `directory` for reading and writing, mode 0600, gone with its last descriptor. Buffered.
  virtual int open_scratch(const std::string& directory) = 0;
  virtual int set_caching(int fd, Caching caching) = 0;
  // Gives [from, to) real blocks and makes the file `to` long. On failure the file is `from` long, as before.
  // REQUIRES: the file is at most `from` long, or what lies behind is to be lost; both multiples of kPayloadAlignment.
  virtual int preallocate(int fd, Bytes from, Bytes to) = 0;
  // What an unprivileged user may still write on the file system of `directory`; -ENOSYS where it does not say.
  virtual Bytes free_bytes(const std::string& directory) = 0;
  virtual std::int64_t pread(int fd, std::byte* data, Bytes bytes, Bytes offset) = 0;
  virtual std::int64_t pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) = 0;
  virtual void close(int fd) = 0;

  // For a back end that does not go through pread and pwrite (io_uring), so that doubles reach it too: how many of `bytes`
  // it may hand to the kernel in one read or write, and what it is to take for that one's result. May block.
  virtual Bytes submitting(IoKind kind, Bytes bytes);
  virtual std::int64_t completed(IoKind kind, std::int64_t result);
};

class PosixFileOps final : public FileOps {
 public:
  enum class Features : std::uint8_t {
    kBest,      // O_TMPFILE and fallocate, each replaced where the file system lacks it
    kPortable,  // as if it lacked both: a unique name that is unlinked at once, and written zeros
  };
  explicit PosixFileOps(Features features = Features::kBest) : features_(features) {}

  int open_scratch(const std::string& directory) override;
  int set_caching(int fd, Caching caching) override;
  int preallocate(int fd, Bytes from, Bytes to) override;
  Bytes free_bytes(const std::string& directory) override;
  std::int64_t pread(int fd, std::byte* data, Bytes bytes, Bytes offset) override;
  std::int64_t pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) override;
  void close(int fd) override;

 private:
  Features features_;
};

// The real thing; without state.
FileOps& posix_file_ops();

}  // namespace patrickstar
