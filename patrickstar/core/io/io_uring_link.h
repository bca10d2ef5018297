// IoUringLink: the link between host memory and the disk over io_uring: one thread keeps up to `depth` reads and writes in
// the kernel's hands and sleeps while there is nothing to do.
//
// Thread safety: start() from any thread, also from the sink. The sink is called on the ring's thread, which holds no lock;
// what it does there delays the next submission.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/io/scratch_file.h"
#include "patrickstar/core/mem/link.h"

namespace patrickstar {

// Memory to register with the kernel: a transfer wholly inside spares it pinning the pages each time.
// [Note: registered pages] They must never be given back to the system (munmap, MADV_DONTNEED) while the link lives: the
// kernel keeps the old pages, a later read into them reports success and the bytes are lost.
struct MemoryRegion {
  std::byte* address = nullptr;
  Bytes bytes = 0;  // at most 1 GiB, the kernel's limit
};

struct IoUringOptions {
  int depth = 16;                     // reads and writes in the kernel's hands at once
  Bytes piece_bytes = 4 * kMiB;       // a longer transfer goes in pieces, between which a more urgent one may overtake
  std::vector<MemoryRegion> regions;  // refused as a whole (memlock limit, too large): one warning, and none is used
};

class IoUringLink final : public Link {
 public:
  // kUnavailable, naming the reason, when this kernel or container gives no io_uring with plain reads and writes (5.6).
  // REQUIRES: depth >= 1, piece_bytes > 0 and a multiple of kPayloadAlignment, at most 1 GiB; `file` outlives the link.
  static Result<std::unique_ptr<IoUringLink>> create(ScratchFile& file, const IoUringOptions& options = {});
  ~IoUringLink() override;  // serves everything that was started first

  void set_sink(TransferSink* sink) override;
  // REQUIRES: a sink; address, offset and bytes multiples of kPayloadAlignment; the file is long enough.
  void start(const Transfer& transfer) override;
  Bytes bytes_up() const override;
  Bytes bytes_down() const override;

  // Reads and writes handed to the kernel (pieces, and each resumption of a short one); any thread.
  std::int64_t submitted() const;
  // Those of them that used a registered region.
  std::int64_t submitted_fixed() const;

 private:
  class Loop;
  explicit IoUringLink(std::unique_ptr<Loop> loop);

  std::unique_ptr<Loop> loop_;
};

}  // namespace patrickstar
