// ScratchFile: the one file on disk into which a process spills. It has no name (unlinked at creation, O_TMPFILE where there
// is), mode 0600, and is gone with the process, SIGKILL included. Blocks are preallocated: a full disk shows when the file
// grows, not in the middle of a step.
//
// Thread safety: any thread. Who uses it: DiskTier grows it, the links read and write it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/io/file_ops.h"

namespace patrickstar {

enum class DirectIo : std::uint8_t {
  kAuto,     // O_DIRECT where the file system really takes it, else buffered with one warning
  kRequire,  // O_DIRECT or kUnavailable
  kOff,      // buffered: pages of the spilled bytes also stand in the page cache
};

class ScratchFile {
 public:
  // Opens the file and, unless `direct` is kOff, proves O_DIRECT by writing and reading a block: some file systems take the
  // flag and fail at the first transfer. `ops` must outlive the file.
  // Errors: kInvalidArgument (directory missing, not a directory, not writable), kUnavailable (kRequire), kIoError.
  static Result<std::unique_ptr<ScratchFile>> create(const std::string& directory, DirectIo direct,
                                                     FileOps& ops = posix_file_ops());
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  // Makes the file at least `size` long (rounded up to kPayloadAlignment), with real blocks. kOutOfRoom when the file system
  // has no room for it (asked first, so that a hopeless wish does not fill the disk on the way); then the size is unchanged.
  Status grow_to(Bytes size);

  Bytes size() const { return size_.load(std::memory_order_acquire); }
  bool is_direct() const { return caching_ == Caching::kDirect; }
  const std::string& directory() const { return directory_; }
  int fd() const { return fd_; }
  FileOps& ops() const { return *ops_; }

 private:
  ScratchFile(std::string directory, FileOps& ops, int fd) : directory_(std::move(directory)), ops_(&ops), fd_(fd) {}
  Status choose_caching(DirectIo direct);
  int probe_direct();
  Status no_room(Bytes more, Bytes free, int error) const;

  std::string directory_;
  FileOps* ops_;
  int fd_;
  Caching caching_ = Caching::kBuffered;  // fixed once created
  std::mutex growing_;
  std::atomic<Bytes> size_{0};
};

}  // namespace patrickstar
