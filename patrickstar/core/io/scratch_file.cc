#include "patrickstar/core/io/scratch_file.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "patrickstar/core/base/log.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/io/transfer_io.h"
#include "patrickstar/core/mem/tier.h"

namespace patrickstar {
namespace {

Status cannot_open(const std::string& directory, int error) {
  switch (error) {
    case ENOENT:
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("[disk] spill directory {} does not exist; create it or give --spill-dir another", directory));
    case ENOTDIR:
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("[disk] {} is not a directory; give --spill-dir a directory", directory));
    case EACCES:
    case EPERM:
    case EROFS:
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("[disk] spill directory {} is not writable ({}); give --spill-dir one that is", directory,
                                error_text(error)));
    default:
      return Status(StatusCode::kIoError, fmt::format("[disk] no scratch file can be made in {}: {}; give --spill-dir another "
                                                      "directory",
                                                      directory, error_text(error)));
  }
}

// What a file system without O_DIRECT answers, at the flag or at the first transfer.
bool means_no_direct(int error) { return error == EINVAL || error == EOPNOTSUPP || error == ENOSYS; }

}  // namespace

Result<std::unique_ptr<ScratchFile>> ScratchFile::create(const std::string& directory, DirectIo direct, FileOps& ops) {
  const int fd = ops.open_scratch(directory);
  if (fd < 0) return cannot_open(directory, -fd);
  std::unique_ptr<ScratchFile> file(new ScratchFile(directory, ops, fd));
  PS_RETURN_IF_ERROR(file->choose_caching(direct));
  return file;
}

ScratchFile::~ScratchFile() { ops_->close(fd_); }

Status ScratchFile::choose_caching(DirectIo direct) {
  if (direct == DirectIo::kOff) return {};
  const int error = probe_direct();
  if (error == 0) {
    caching_ = Caching::kDirect;
    return {};
  }
  if (!means_no_direct(error)) {
    return Status(StatusCode::kIoError, fmt::format("[disk] a first block cannot be written to {} and read back: {}; give "
                                                    "--spill-dir another directory",
                                                    directory_, error_text(error)));
  }
  if (direct == DirectIo::kRequire) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("[disk] O_DIRECT is required, but the file system of {} refuses it ({}); give --spill-dir a "
                              "directory on a local disk or allow buffered I/O",
                              directory_, error_text(error)));
  }
  if (const int back = ops_->set_caching(fd_, Caching::kBuffered); back < 0) return cannot_open(directory_, -back);
  log_warning(
      fmt::format("[disk] the file system of {} refuses O_DIRECT ({}): spilling through the page cache, which takes "
                  "host memory beside the budget",
                  directory_, error_text(error)));
  return {};
}

int ScratchFile::probe_direct() {
  if (const int result = ops_->set_caching(fd_, Caching::kDirect); result < 0) return -result;
  struct alignas(kPayloadAlignment) Block {
    std::array<std::byte, kPayloadAlignment> bytes;
  };
  const auto written = std::make_unique<Block>();
  const auto read = std::make_unique<Block>();
  for (std::size_t i = 0; i < written->bytes.size(); ++i) written->bytes[i] = static_cast<std::byte>(i * 7 + 1);
  if (const int error = transfer_all(*ops_, fd_, IoKind::kWrite, written->bytes.data(), kPayloadAlignment, 0)) return error;
  if (const int error = transfer_all(*ops_, fd_, IoKind::kRead, read->bytes.data(), kPayloadAlignment, 0)) return error;
  return std::memcmp(written->bytes.data(), read->bytes.data(), written->bytes.size()) == 0 ? 0 : EIO;
}

Status ScratchFile::grow_to(Bytes size) {
  const std::lock_guard lock(growing_);
  const Bytes from = size_.load(std::memory_order_relaxed);
  const Bytes to = round_up(size, kPayloadAlignment);
  if (to <= from) return {};
  if (const Bytes free = ops_->free_bytes(directory_); free >= 0 && to - from > free) return no_room(to - from, free, ENOSPC);
  const int error = -ops_->preallocate(fd_, from, to);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) return no_room(to - from, ops_->free_bytes(directory_), error);
  if (error != 0) {
    return Status(StatusCode::kIoError,
                  fmt::format("[disk] preallocating {} in {} failed: {}; give --spill-dir another directory",
                              format_bytes(to - from), directory_, error_text(error)));
  }
  size_.store(to, std::memory_order_release);
  return {};
}

Status ScratchFile::no_room(Bytes more, Bytes free, int error) const {
  return Status(
      StatusCode::kOutOfRoom,
      fmt::format("[disk] {} is too small: {} more of scratch file wanted, {} free ({}); free room there or give "
                  "--spill-dir a directory with more room",
                  directory_, format_bytes(more), free >= 0 ? format_bytes(free) : "an unknown amount", error_text(error)));
}

}  // namespace patrickstar
