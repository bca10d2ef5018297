#include "patrickstar/core/io/io_uring_ring.h"

#include <fmt/format.h>
#include <sys/eventfd.h>  // eventfd
#include <sys/uio.h>      // iovec
#include <unistd.h>       // write, close

#include <cerrno>
#include <thread>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/log.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/io/transfer_io.h"

namespace patrickstar {
namespace {

constexpr std::uint64_t kWakeTag = UINT64_MAX;

Status unavailable(const std::string& why) {
  return Status(StatusCode::kUnavailable,
                fmt::format("[disk] io_uring is not available ({}): the pread back end works everywhere", why));
}

}  // namespace

Status IoUringRing::open(int entries, const std::vector<MemoryRegion>& regions) {
  // One entry more for the read that wakes us.
  if (const int result = io_uring_queue_init(static_cast<unsigned>(entries) + 1, &ring_, 0); result < 0) {
    return unavailable(fmt::format("io_uring_setup failed: {}", error_text(-result)));
  }
  open_ = true;
  io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
  const bool complete = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ) != 0 &&
                        io_uring_opcode_supported(probe, IORING_OP_WRITE) != 0;
  io_uring_free_probe(probe);
  if (!complete) return unavailable("the kernel is older than 5.6");
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC);
  if (wake_fd_ < 0) return unavailable(fmt::format("eventfd failed: {}", error_text(errno)));
  if (!regions.empty()) register_regions(regions);
  return {};
}

IoUringRing::~IoUringRing() {
  PS_CHECK(!wake_armed_);  // the kernel would still write into this object
  if (open_) io_uring_queue_exit(&ring_);
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

void IoUringRing::register_regions(const std::vector<MemoryRegion>& regions) {
  std::vector<iovec> vectors;
  Bytes total = 0;
  for (const MemoryRegion& region : regions) {
    vectors.push_back({region.address, static_cast<std::size_t>(region.bytes)});
    total += region.bytes;
  }
  const int result = io_uring_register_buffers(&ring_, vectors.data(), static_cast<unsigned>(vectors.size()));
  if (result == 0) {
    regions_ = regions;
    return;
  }
  log_warning(fmt::format(
      "[disk] io_uring refuses to register {} of buffers ({}): going on without, at more CPU time per byte; raise the "
      "memlock limit (ulimit -l)",
      format_bytes(total), error_text(-result)));
}

int IoUringRing::region_of(const std::byte* address, Bytes bytes) const {
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  const auto length = static_cast<std::uintptr_t>(bytes);
  for (std::size_t i = 0; i < regions_.size(); ++i) {
    const auto region_begin = reinterpret_cast<std::uintptr_t>(regions_[i].address);
    const auto region_length = static_cast<std::uintptr_t>(regions_[i].bytes);
    if (begin >= region_begin && begin + length <= region_begin + region_length) return static_cast<int>(i);
  }
  return kNoRegion;
}

void IoUringRing::prepare(IoKind kind, const FileRange& range, int region, std::uint64_t tag) {
  PS_CHECK(tag != kWakeTag);
  io_uring_sqe* const sqe = next_sqe();
  const auto length = static_cast<unsigned>(range.bytes);
  const auto offset = static_cast<std::uint64_t>(range.offset);
  if (kind == IoKind::kRead && region == kNoRegion) {
    io_uring_prep_read(sqe, range.fd, range.address, length, offset);
  } else if (kind == IoKind::kRead) {
    io_uring_prep_read_fixed(sqe, range.fd, range.address, length, offset, region);
  } else if (region == kNoRegion) {
    io_uring_prep_write(sqe, range.fd, range.address, length, offset);
  } else {
    io_uring_prep_write_fixed(sqe, range.fd, range.address, length, offset, region);
  }
  sqe->user_data = tag;
  submitted.fetch_add(1, std::memory_order_relaxed);
  if (region != kNoRegion) submitted_fixed.fetch_add(1, std::memory_order_relaxed);
}

void IoUringRing::wake() {
  const std::uint64_t one = 1;
  ssize_t result = 0;
  do {
    result = ::write(wake_fd_, &one, sizeof one);
  } while (result < 0 && errno == EINTR);
  PS_CHECK(result == sizeof one);
}

void IoUringRing::arm_wake() {
  if (std::exchange(wake_armed_, true)) return;
  io_uring_sqe* const sqe = next_sqe();
  io_uring_prep_read(sqe, wake_fd_, &wake_value_, sizeof wake_value_, 0);
  sqe->user_data = kWakeTag;
}

io_uring_sqe* IoUringRing::next_sqe() {
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  PS_CHECK(sqe != nullptr);
  return sqe;
}

void IoUringRing::wait() {
  const int result = io_uring_submit_and_wait(&ring_, 1);
  if (result >= 0 || result == -EINTR) return;
  // The kernel has no memory for requests just now; what it did not take stays queued for the next round. Every other error
  // would be a mistake of ours.
  PS_CHECK(result == -EAGAIN || result == -EBUSY);
  std::this_thread::yield();
}

bool IoUringRing::next(Completion* completion) {
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
    *completion = {cqe->user_data, cqe->res};
    io_uring_cqe_seen(&ring_, cqe);
    if (completion->tag != kWakeTag) return true;
    wake_armed_ = false;
  }
  return false;
}

}  // namespace patrickstar
