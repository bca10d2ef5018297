#include "patrickstar/core/io/transfer_replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <random>
#include <utility>

namespace patrickstar {
namespace {

// More than a back end has under way at once (16 pieces of 4 MiB), so that transfers seldom share memory.
constexpr Bytes kSmallestBuffer = 128 * kMiB;
constexpr Bytes kFillBytes = 8 * kMiB;  // of the transfers that write the file first

std::string not_done(std::size_t count, const std::string& directory) {
  return fmt::format("[disk] {} transfers to and from the scratch file in {} are not done", count, directory);
}

}  // namespace

class TransferReplay::Sink final : public TransferSink {
 public:
  void transfer_done(const Transfer& /*transfer*/, Status status) override {
    const std::lock_guard lock(mutex_);
    if (!status.ok() && failure_.ok()) failure_ = std::move(status);
    --pending_;
    changed_.notify_one();
  }
  // So many will be started. REQUIRES: none is pending.
  void expect(std::size_t count) {
    const std::lock_guard lock(mutex_);
    pending_ = count;
    failure_ = Status();
  }
  std::size_t pending() const {
    const std::lock_guard lock(mutex_);
    return pending_;
  }
  // Until all are done; the first failure among them. kTimedOut: those that are left were given up.
  Status wait(const Patience& patience, const std::string& directory) {
    std::unique_lock lock(mutex_);
    std::size_t seen = pending_;
    for (int ticks = 0; pending_ > 0;) {
      const bool progress = changed_.wait_for(lock, patience.tick, [&] { return pending_ != seen; });
      seen = pending_;
      ticks = progress ? 0 : ticks + 1;
      if (ticks == patience.most_ticks) {
        return Status(StatusCode::kTimedOut,
                      fmt::format("{}, none for {:g} s: given up; if that disk is dead, take another --spill-dir",
                                  not_done(seen, directory), patience.seconds(ticks)));
      }
      if (!Patience::speaks(ticks)) continue;
      lock.unlock();
      patience.say(fmt::format("{}, none for {:g} s; waiting", not_done(seen, directory), patience.seconds(ticks)));
      lock.lock();
    }
    return failure_;
  }
  void keep(Disk disk) { kept_.emplace(std::move(disk)); }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t pending_ = 0;
  Status failure_;
  std::optional<Disk> kept_;  // by a sink that nobody owns any more
};

TransferReplay::TransferReplay(Disk disk, const Clock* clock, Patience patience)
    : clock_(clock), patience_(std::move(patience)), sink_(std::make_unique<Sink>()), disk_(std::move(disk)) {
  disk_.link->set_sink(sink_.get());
}

TransferReplay::~TransferReplay() {
  if (sink_->pending() > 0) {
    // The link would wait for a disk that does not answer, and the kernel may yet write into the buffer.
    sink_->keep(std::move(disk_));
    static_cast<void>(sink_.release());
    return;
  }
  disk_.link.reset();
  if (buffer_ != nullptr) pages_.unreserve(buffer_, buffer_bytes_);
}

Result<std::unique_ptr<TransferReplay>> TransferReplay::create(const DiskOptions& options, const Clock* clock, FileOps& ops,
                                                               Patience patience) {
  auto disk = open_disk(options, ops);
  if (!disk.ok()) return disk.status();
  return std::unique_ptr<TransferReplay>(new TransferReplay(std::move(disk).value(), clock, std::move(patience)));
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
  if (const std::size_t late = sink_->pending(); late > 0)
    return Status(StatusCode::kTimedOut, not_done(late, disk_.file->directory()) + " since they were given up");
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
  sink_->expect(transfers.size());
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
  return sink_->wait(patience_, disk_.file->directory());
}

}  // namespace patrickstar
