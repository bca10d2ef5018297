// The disk tier as a whole: the scratch file, the places in it and the link to it, with the back ends chosen at run time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/io/disk_tier.h"
#include "patrickstar/core/io/file_ops.h"
#include "patrickstar/core/io/io_uring_link.h"
#include "patrickstar/core/io/scratch_file.h"
#include "patrickstar/core/mem/link.h"

namespace patrickstar {

enum class IoBackend : std::uint8_t {
  kAuto,     // io_uring where the kernel gives it, else pread
  kPread,    // pread and pwrite on a few threads
  kIoUring,  // io_uring, or kUnavailable
};

struct DiskOptions {
  std::string directory;  // --spill-dir
  Bytes capacity = 0;     // the disk budget; 0 = what the file system has
  IoBackend io = IoBackend::kAuto;
  DirectIo direct = DirectIo::kAuto;
  int threads = 2;                    // of the pread back end
  int depth = 16;                     // of io_uring: reads and writes in the kernel's hands
  std::vector<MemoryRegion> regions;  // for io_uring to register; see [Note: registered pages] in io_uring_link.h
};

// Owns the three. The link goes first, because it waits for transfers that use the file.
struct Disk {
  Disk() = default;
  Disk(Disk&&) = default;
  Disk& operator=(Disk&&) = delete;  // memberwise, it would close the old file before the old link is done

  std::unique_ptr<ScratchFile> file;
  std::unique_ptr<DiskTier> tier;
  std::unique_ptr<Link> link;
  std::string backend;  // "io_uring+O_DIRECT", "pread+buffered": for reports
};

// Opens the scratch file and starts the link. Nothing is preallocated yet: see DiskTier::reserve. `ops` outlives the disk.
// Errors: those of ScratchFile::create; kUnavailable when a back end asked for by name is not to be had; kInvalidArgument
// for a capacity < 0, threads < 1 or depth < 1.
Result<Disk> open_disk(const DiskOptions& options, FileOps& ops = posix_file_ops());

}  // namespace patrickstar
