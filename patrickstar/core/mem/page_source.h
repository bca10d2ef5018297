// PageSource: the seam to the operating system's memory. Tests count and refuse; the real one is mmap.
#pragma once

#include <cstddef>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

// Pages are committed and given back in units of this: one transparent huge page.
inline constexpr Bytes kPageBytes = 2 * kMiB;

class PageSource {
 public:
  virtual ~PageSource() = default;
  // Address space without memory, aligned to kPageBytes. REQUIRES: bytes is a multiple of kPageBytes.
  virtual Result<std::byte*> reserve(Bytes bytes) = 0;
  virtual void unreserve(std::byte* address, Bytes bytes) = 0;
  // Makes pages readable and writable (zero-filled at first touch), or gives their memory back. Not ok: nothing changed.
  virtual Status commit(std::byte* address, Bytes bytes) = 0;
  virtual Status decommit(std::byte* address, Bytes bytes) = 0;
  // Takes the memory of one committed page to an uncommitted one: as decommit(from) and commit(to), but nobody zeroes it. What
  // `to` holds then is undefined. Not ok: nothing changed. REQUIRES: both aligned to kPageBytes.
  virtual Status move(std::byte* from, std::byte* to) = 0;
};

// Private anonymous memory, on transparent huge pages where the system has them. Reserved space is PROT_NONE: it counts
// neither as resident nor against RLIMIT_DATA.
class MmapPages final : public PageSource {
 public:
  MmapPages();
  Result<std::byte*> reserve(Bytes bytes) override;
  void unreserve(std::byte* address, Bytes bytes) override;
  Status commit(std::byte* address, Bytes bytes) override;
  Status decommit(std::byte* address, Bytes bytes) override;
  // By mremap, which moves an entry of the page table (Linux 5.7). Each page that came so is a mapping of its own to the kernel,
  // of which a process may have some 65,000 (vm.max_map_count), until its memory is moved on: callers keep count. Not where
  // memory is promised strictly (vm.overcommit_memory 2): Linux 6.15 to 6.17 lose count of it then.
  Status move(std::byte* from, std::byte* to) override;

 private:
  bool can_move_ = true;
};

}  // namespace patrickstar
