#include "patrickstar/core/mem/page_source.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>

#include "patrickstar/core/base/text.h"

#ifndef MREMAP_DONTUNMAP  // glibc before 2.32
#define MREMAP_DONTUNMAP 4
#endif

namespace patrickstar {
namespace {

constexpr auto kPageLength = static_cast<std::size_t>(kPageBytes);

Status does_not_move(int error) {
  return Status(StatusCode::kUnavailable, fmt::format("[arena] the system does not move pages: {}", std::strerror(error)));
}

// Address space again, without memory, whether something of ours is there or nothing.
void* reserve_again(std::byte* page, int how) {
  void* const at = mmap(page, kPageLength, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | how, -1, 0);
  if (at != MAP_FAILED) madvise(page, kPageLength, MADV_HUGEPAGE);
  return at;
}

}  // namespace

MmapPages::MmapPages() {
  int overcommit = 0;
  std::ifstream("/proc/sys/vm/overcommit_memory") >> overcommit;
  can_move_ = overcommit != 2;
}

Result<std::byte*> MmapPages::reserve(Bytes bytes) {
  // mmap aligns to 4 KiB: ask for one page more and cut.
  const auto length = static_cast<std::size_t>(bytes + kPageBytes);
  void* raw = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) {
    return Status(StatusCode::kOutOfRoom, fmt::format("[arena] reserving {} of address space failed: {}; raise ulimit -v",
                                                      format_bytes(bytes), std::strerror(errno)));
  }
  auto* begin = static_cast<std::byte*>(raw);
  auto* end = begin + length;
  auto* aligned = begin + (kPageBytes - static_cast<Bytes>(reinterpret_cast<std::uintptr_t>(begin) % kPageBytes)) % kPageBytes;
  if (aligned > begin) munmap(begin, static_cast<std::size_t>(aligned - begin));
  if (end > aligned + bytes) munmap(aligned + bytes, static_cast<std::size_t>(end - (aligned + bytes)));
  madvise(aligned, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);  // without huge pages it is only slower
  return aligned;
}

void MmapPages::unreserve(std::byte* address, Bytes bytes) { munmap(address, static_cast<std::size_t>(bytes)); }

Status MmapPages::commit(std::byte* address, Bytes bytes) {
  if (mprotect(address, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE) == 0) return {};
  const int error = errno;
  (void)mprotect(address, static_cast<std::size_t>(bytes),
                 PROT_NONE);  // of several mappings the first ones may have been changed
  return Status(StatusCode::kOutOfRoom,
                fmt::format("[arena] the system refused {} of memory: {}; a limit (ulimit -d, cgroup) is below the budget",
                            format_bytes(bytes), std::strerror(error)));
}

Status MmapPages::decommit(std::byte* address, Bytes bytes) {
  if (madvise(address, static_cast<std::size_t>(bytes), MADV_DONTNEED) != 0) {
    return Status(StatusCode::kOutOfRoom,
                  fmt::format("[arena] the system did not take {} of memory back: {}; is it locked (mlockall)?",
                              format_bytes(bytes), std::strerror(errno)));
  }
  // Without its memory the page takes none, whatever its protection: a refusal only leaves it counted by RLIMIT_DATA.
  (void)mprotect(address, static_cast<std::size_t>(bytes), PROT_NONE);
  return {};
}

Status MmapPages::move(std::byte* from, std::byte* to) {
  if (!can_move_) return does_not_move(EINVAL);
  // mremap takes `to` away before it asks for the memory of one page more. So ask first, where a limit (ulimit -d) refuses
  // without harm: taking `to` away then makes the room.
  if (mprotect(to, kPageLength, PROT_READ | PROT_WRITE) != 0) return does_not_move(errno);
  // With MREMAP_DONTUNMAP nobody else's mmap can get between: `from` stays ours.
  if (mremap(from, kPageLength, kPageLength, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == MAP_FAILED) {
    const int error = errno;
    can_move_ = error != EINVAL;  // Linux before 5.7
    if (reserve_again(to, MAP_FIXED_NOREPLACE) == MAP_FAILED) (void)mprotect(to, kPageLength, PROT_NONE);
    return does_not_move(error);
  }
  // A new mapping is like its neighbours, so the kernel makes one of them. If it is refused `from` only stays readable.
  (void)reserve_again(from, MAP_FIXED);
  return {};
}

}  // namespace patrickstar
