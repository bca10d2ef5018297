#include "patrickstar/core/io/disk.h"

#include <fmt/format.h>

#include <utility>

#include "patrickstar/core/base/log.h"
#include "patrickstar/core/io/thread_pool_link.h"

namespace patrickstar {
namespace {

Status start_io_uring(const DiskOptions& options, Disk& disk) {
  auto link = IoUringLink::create(*disk.file, {.depth = options.depth, .regions = options.regions});
  if (!link.ok()) return link.status();
  disk.link = std::move(link).value();
  disk.backend = "io_uring";
  return {};
}

Status start_pread(const DiskOptions& options, Disk& disk) {
  auto link = ThreadPoolLink::create(*disk.file, options.threads);
  if (!link.ok()) return link.status();
  disk.link = std::move(link).value();
  disk.backend = "pread";
  return {};
}

Status start_link(const DiskOptions& options, Disk& disk) {
  if (options.io == IoBackend::kPread) return start_pread(options, disk);
  const Status ring = start_io_uring(options, disk);
  if (ring.ok() || options.io == IoBackend::kIoUring || ring.code() != StatusCode::kUnavailable) return ring;
  log_info(ring.message() + "; auto takes it");
  return start_pread(options, disk);
}

}  // namespace

Result<Disk> open_disk(const DiskOptions& options, FileOps& ops) {
  if (options.capacity < 0 || options.threads < 1 || options.depth < 1) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("[disk] a budget of {} B, {} I/O threads and an I/O depth of {} cannot work: the budget is 0 (no limit) "
                    "or more, the others 1 or more",
                    options.capacity, options.threads, options.depth));
  }
  auto file = ScratchFile::create(options.directory, options.direct, ops);
  if (!file.ok()) return file.status();
  Disk disk;
  disk.file = std::move(file).value();
  disk.tier = std::make_unique<DiskTier>(*disk.file, options.capacity);
  PS_RETURN_IF_ERROR(start_link(options, disk));
  disk.backend += disk.file->is_direct() ? "+O_DIRECT" : "+buffered";
  return disk;
}

}  // namespace patrickstar
