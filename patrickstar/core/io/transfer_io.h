// What both back ends of the disk link share: how a read or write that came back short is taken further, when it is given
// up, what is checked of a transfer and how its failure reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/io/file_ops.h"
#include "patrickstar/core/mem/link.h"

namespace patrickstar {

class ScratchFile;

// How far one contiguous read or write has come. One thread at a time.
class IoProgress {
 public:
  explicit IoProgress(Bytes bytes) : bytes_(bytes) {}

  Bytes done() const { return done_; }
  Bytes left() const { return bytes_ - done_; }

  // Takes the result (a count or -errno) of one attempt at everything left. Returns 0 (finished if left() is 0, else: try
  // what is left), or the errno with which to give up. An unaligned short count is rounded down, because O_DIRECT could not
  // go on from there; moving the same bytes twice is harmless. EINTR and EAGAIN are tried again, but not for ever.
  [[nodiscard]] int advance(std::int64_t result);

 private:
  int stall(int error);

  Bytes bytes_;
  Bytes done_ = 0;
  int stalls_ = 0;  // attempts in a row that moved nothing
};

// Reads or writes all of it, blocking. 0 or an errno. `data` is only read where `kind` is kWrite.
[[nodiscard]] int transfer_all(FileOps& ops, int fd, IoKind kind, std::byte* data, Bytes bytes, Bytes offset);

// Up is a read of the file, down a write.
constexpr IoKind io_kind(Direction direction) { return direction == Direction::kUp ? IoKind::kRead : IoKind::kWrite; }

// PS_CHECKs that address, offset and length are aligned and that the file is that long.
void check_transfer(const Transfer& transfer, const ScratchFile& file);

// "[disk] write of 8.0 MiB (payload 3) at offset 4096 in /spill failed: No space left on device; free room there or ..."
Status transfer_failed(const Transfer& transfer, const ScratchFile& file, int error);

// "No space left on device".
std::string error_text(int error);

}  // namespace patrickstar
