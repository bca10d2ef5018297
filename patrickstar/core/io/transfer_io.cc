#include "patrickstar/core/io/transfer_io.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/io/scratch_file.h"

namespace patrickstar {
namespace {

// Far more than an interrupted or momentarily overloaded kernel needs, and over in milliseconds.
constexpr int kMaxStalls = 1000;

bool aligned(std::uint64_t value) { return value % static_cast<std::uint64_t>(kPayloadAlignment) == 0; }

const char* way_out(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return "free room there or give --spill-dir a directory with more room";
    case EIO: return "see the kernel log for the device's own error, or give --spill-dir a directory on another disk";
    case EINVAL: return "the file system may want another alignment: turn direct I/O off or give --spill-dir another directory";
    default: return "give --spill-dir a directory on another disk";
  }
}

}  // namespace

int IoProgress::stall(int error) { return ++stalls_ > kMaxStalls ? error : 0; }

int IoProgress::advance(std::int64_t result) {
  if (result == -EINTR || result == -EAGAIN) return stall(static_cast<int>(-result));
  if (result < 0) return static_cast<int>(-result);
  if (result == 0) return EIO;  // the file ends before what was preallocated
  PS_CHECK(result <= left());
  const Bytes step = result == left() ? result : round_down(result, kPayloadAlignment);
  if (step == 0) return stall(EIO);
  stalls_ = 0;
  done_ += step;
  return 0;
}

int transfer_all(FileOps& ops, int fd, IoKind kind, std::byte* data, Bytes bytes, Bytes offset) {
  IoProgress progress(bytes);
  while (progress.left() > 0) {
    std::byte* const at = data + progress.done();
    const Bytes from = offset + progress.done();
    const int error = progress.advance(kind == IoKind::kRead ? ops.pread(fd, at, progress.left(), from)
                                                             : ops.pwrite(fd, at, progress.left(), from));
    if (error != 0) return error;
  }
  return 0;
}

void check_transfer(const Transfer& transfer, const ScratchFile& file) {
  PS_CHECK(transfer.bytes > 0 && aligned(static_cast<std::uint64_t>(transfer.bytes)));
  PS_CHECK(transfer.upper.value != 0 && aligned(transfer.upper.value));
  PS_CHECK(aligned(transfer.lower.value));
  PS_CHECK(static_cast<Bytes>(transfer.lower.value) <= file.size() - transfer.bytes);
}

Status transfer_failed(const Transfer& transfer, const ScratchFile& file, int error) {
  const std::string payload = transfer.payload.valid() ? fmt::format(" (payload {})", transfer.payload.value) : "";
  return Status(StatusCode::kIoError,
                fmt::format("[disk] {} of {}{} at offset {} in {} failed: {}; {}",
                            transfer.direction == Direction::kUp ? "read" : "write", format_bytes(transfer.bytes), payload,
                            transfer.lower.value, file.directory(), error_text(error), way_out(error)));
}

std::string error_text(int error) { return std::generic_category().message(error); }

}  // namespace patrickstar
