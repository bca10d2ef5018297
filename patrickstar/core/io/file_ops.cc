#include "patrickstar/core/io/file_ops.h"

#include <fcntl.h>         // open, fallocate
#include <sys/resource.h>  // getrlimit
#include <sys/statvfs.h>   // statvfs
#include <unistd.h>        // pread, pwrite, ftruncate

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "patrickstar/core/io/transfer_io.h"
#include "patrickstar/core/mem/tier.h"

namespace patrickstar {
namespace {

int open_named(const std::string& directory) {
  std::string path = directory + "/.patrickstar-scratch-XXXXXX";
  const int fd = ::mkostemp(path.data(), O_CLOEXEC);  // mode 0600, O_EXCL
  if (fd < 0) return -errno;
  if (::unlink(path.c_str()) != 0) {
    const int error = errno;
    ::close(fd);
    return -error;
  }
  return fd;
}

// For file systems without fallocate. Not posix_fallocate: it writes single bytes, which O_DIRECT refuses.
int write_zeros(FileOps& ops, int fd, Bytes from, Bytes to) {
  const Bytes step = std::min(to - from, kMiB);
  const std::unique_ptr<std::byte, decltype(&std::free)> zeros(
      static_cast<std::byte*>(std::aligned_alloc(kPayloadAlignment, static_cast<std::size_t>(step))), &std::free);
  if (zeros == nullptr) return -ENOMEM;
  std::fill_n(zeros.get(), step, std::byte{0});
  for (Bytes at = from; at < to; at += step) {
    const int error = transfer_all(ops, fd, IoKind::kWrite, zeros.get(), std::min(step, to - at), at);
    if (error != 0) return -error;
  }
  return 0;
}

// Growing past the limit raises SIGXFSZ, which would end the process.
bool beyond_file_size_limit(Bytes to) {
  rlimit limit{};
  return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && static_cast<rlim_t>(to) > limit.rlim_cur;
}

}  // namespace

Bytes FileOps::submitting(IoKind /*kind*/, Bytes bytes) { return bytes; }
std::int64_t FileOps::completed(IoKind /*kind*/, std::int64_t result) { return result; }

int PosixFileOps::open_scratch(const std::string& directory) {
  if (features_ == Features::kBest) {
    // O_EXCL: nobody may give the file a name later.
    const int fd = ::open(directory.c_str(), O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) return -errno;
  }
  return open_named(directory);
}

int PosixFileOps::set_caching(int fd, Caching caching) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  const int wanted = caching == Caching::kDirect ? flags | O_DIRECT : flags & ~O_DIRECT;
  return ::fcntl(fd, F_SETFL, wanted) == 0 ? 0 : -errno;
}

int PosixFileOps::preallocate(int fd, Bytes from, Bytes to) {
  if (beyond_file_size_limit(to)) return -EFBIG;
  int result = -EOPNOTSUPP;
  if (features_ == Features::kBest) {
    do {
      result = ::fallocate(fd, 0, from, to - from) == 0 ? 0 : -errno;
    } while (result == -EINTR);
  }
  if (result == -EOPNOTSUPP || result == -ENOSYS) result = write_zeros(*this, fd, from, to);
  // A full disk leaves blocks behind that nobody would ever use. If they cannot be given back, the first error still counts.
  if (result != 0 && ::ftruncate(fd, from) != 0) return result;
  return result;
}

Bytes PosixFileOps::free_bytes(const std::string& directory) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0) return -errno;
  if (info.f_blocks == 0) return -ENOSYS;  // some network and FUSE file systems leave everything 0
  return static_cast<Bytes>(info.f_bavail) * static_cast<Bytes>(info.f_frsize);
}

std::int64_t PosixFileOps::pread(int fd, std::byte* data, Bytes bytes, Bytes offset) {
  const ssize_t result = ::pread(fd, data, static_cast<std::size_t>(bytes), offset);
  return result >= 0 ? result : -errno;
}

std::int64_t PosixFileOps::pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) {
  const ssize_t result = ::pwrite(fd, data, static_cast<std::size_t>(bytes), offset);
  return result >= 0 ? result : -errno;
}

void PosixFileOps::close(int fd) { ::close(fd); }

FileOps& posix_file_ops() {
  static PosixFileOps instance;
  return instance;
}

}  // namespace patrickstar
