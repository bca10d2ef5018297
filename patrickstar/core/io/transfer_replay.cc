#include "patrickstar/core/io/transfer_replay.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>
#include <utility>

namespace patrickstar {
namespace {

// More than a back end has under way at once (16 pieces of 4 MiB), so that transfers seldom share memory.
constexpr Bytes kSmallestBuffer = 128 * kMiB;
constexpr Bytes kFillBytes = 8 * kMiB;  // of the transfers that write the file first

}  // namespace

class TransferReplay::Sink final : public TransferSink {
 public:
  void transfer_done(const Transfer& /*transfer*/, Status status) override {
    const std::lock_guard lock(mutex_);
    if (!status.ok() && failure_.ok()) failure_ = std::move(status);
    ++done_;
    changed_.notify_one();
  }
  // Until so many more are done; the first failure among them.
  Status wait(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ == count; });
    done_ = 0;
    return std::exchange(failure_, Status());
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t done_ = 0;
  Status failure_;
};

TransferReplay::TransferReplay(Disk disk, const Clock* clock)
    : clock_(clock), sink_(std::make_unique<Sink>()), disk_(std::move(disk)) {
  disk_.link->set_sink(sink_.get());
}

TransferReplay::~TransferReplay() {
  disk_.link.reset();
  if (buffer_ != nullptr) pages_.unreserve(buffer_, buffer_bytes_);
}

Result<std::unique_ptr<TransferReplay>> TransferReplay::create(const DiskOptions& options, const Clock* clock, FileOps& ops) {
  auto disk = open_disk(options, ops);
  if (!disk.ok()) return disk.status();
  return std::unique_ptr<TransferReplay>(new TransferReplay(std::move(disk).value(), clock));
}

Status TransferReplay::fit_buffer(Bytes bytes) {
  bytes = round_up(std::max(bytes, kSmallestBuffer), kPageBytes);
  if (bytes <= buffer_bytes_) return {};
  auto reserved = pages_.reserve(bytes);
  if (!reserved.ok()) return reserved.status();
  if (const Status committed = pages_.commit(reserved.value(), bytes); !committed.ok()) {
    pages_.unreserve(reserved.value(), bytes);
    return committed;
  }
  if (buffer_ != nullptr) pages_.unreserve(buffer_, buffer_bytes_);
  buffer_ = reserved.value();
  buffer_bytes_ = bytes;
  // Noise, because some disks make little of zeros.
  std::mt19937_64 random(1);
  for (Bytes at = 0; at < buffer_bytes_; at += static_cast<Bytes>(sizeof(std::uint64_t))) {
    const std::uint64_t noise = random();
    std::memcpy(buffer_ + at, &noise, sizeof(noise));
  }
  return {};
}

Status TransferReplay::prepare(const StepTransfers& transfers) {
  Bytes end = 0;
  Bytes largest = 0;
  for (const LoggedTransfer& transfer : transfers) {
    end = std::max(end, transfer.offset + transfer.bytes);
    largest = std::max(largest, transfer.bytes);
  }
  PS_RETURN_IF_ERROR(fit_buffer(largest));
  if (end <= written_) return {};
  PS_RETURN_IF_ERROR(disk_.tier->reserve(end));
  StepTransfers fill;
  for (Bytes at = written_; at < end; at += kFillBytes) fill.push_back({Direction::kDown, at, std::min(kFillBytes, end - at)});
  PS_RETURN_IF_ERROR(move(fill));
  written_ = end;
  return {};
}

Result<Nanos> TransferReplay::run(const StepTransfers& transfers) {
  PS_RETURN_IF_ERROR(prepare(transfers));
  const Nanos begin = clock_->now();
  PS_RETURN_IF_ERROR(move(transfers));
  return clock_->now() - begin;
}

Status TransferReplay::move(const StepTransfers& transfers) {
  Bytes at = 0;
  for (std::size_t i = 0; i < transfers.size(); ++i) {
    const LoggedTransfer& transfer = transfers[i];
    if (at + transfer.bytes > buffer_bytes_) at = 0;
    // One urgency for all: the link then serves them in the order of start.
    disk_.link->start({.id = i,
                       .payload = PayloadId(i),
                       .direction = transfer.direction,
                       .urgency = Urgency::kDemand,
                       .upper = Place::of(buffer_ + at),
                       .lower = Place{static_cast<std::uint64_t>(transfer.offset)},
                       .bytes = transfer.bytes});
    at += transfer.bytes;
  }
  return sink_->wait(transfers.size());
}

}  // namespace patrickstar
