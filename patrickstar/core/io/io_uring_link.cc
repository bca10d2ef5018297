#include "patrickstar/core/io/io_uring_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/io/io_uring_ring.h"
#include "patrickstar/core/io/transfer_io.h"
#include "patrickstar/core/io/urgency_queue.h"

namespace patrickstar {
namespace {

// A transfer on the ring's thread.
struct Active {
  Transfer transfer;
  int region = IoUringRing::kNoRegion;
  Bytes handed_out = 0;  // [0, handed_out) has been cut into pieces; after an error all of it: there are to be no more
  int pieces = 0;        // in the kernel's hands
  int error = 0;         // the first errno
};

// A contiguous part of a transfer: one read or write in the kernel's hands.
struct Piece {
  std::shared_ptr<Active> active;
  Bytes offset = 0;  // in the transfer
  IoProgress progress{0};
};

}  // namespace

// start() leaves transfers in `incoming_` and wakes the ring's thread, which waits for completions and new work in one place.
class IoUringLink::Loop {
 public:
  Loop(ScratchFile& file, const IoUringOptions& options) : file_(file), options_(options) {}
  ~Loop();

  Status open();
  void set_sink(TransferSink* sink);
  void start(const Transfer& transfer);
  const IoUringRing& ring() const { return ring_; }

  std::atomic<Bytes> bytes_up{0};
  std::atomic<Bytes> bytes_down{0};

 private:
  void run();
  bool take_incoming();
  void fill();
  void submit_piece(std::size_t slot);
  void piece_completed(std::size_t slot, std::int64_t result);
  void finish(const Active& active);

  ScratchFile& file_;
  const IoUringOptions options_;
  TransferSink* sink_ = nullptr;
  IoUringRing ring_;
  std::thread thread_;

  std::mutex mutex_;
  std::vector<Transfer> incoming_;
  bool wake_sent_ = false;  // since incoming_ was last taken
  bool stopping_ = false;

  // The ring's thread only.
  UrgencyQueue<std::shared_ptr<Active>> queue_;  // not yet wholly cut into pieces
  std::vector<Piece> slots_;                     // options_.depth of them; their index is the ring's tag
  std::vector<std::size_t> free_slots_;
};

Status IoUringLink::Loop::open() {
  PS_RETURN_IF_ERROR(ring_.open(options_.depth, options_.regions));
  slots_.resize(static_cast<std::size_t>(options_.depth));
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) free_slots_.push_back(slot);
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& e) {
    return Status(StatusCode::kUnavailable, fmt::format("[disk] the system gives no I/O thread: {}; raise the limit of processes "
                                                        "(ulimit -u)",
                                                        e.what()));
  }
  return {};
}

IoUringLink::Loop::~Loop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ring_.wake();
  thread_.join();
}

void IoUringLink::Loop::set_sink(TransferSink* sink) {
  PS_CHECK(sink_ == nullptr && sink != nullptr);
  sink_ = sink;
}

void IoUringLink::Loop::start(const Transfer& transfer) {
  PS_CHECK(sink_ != nullptr);
  check_transfer(transfer, file_);
  {
    const std::lock_guard lock(mutex_);
    incoming_.push_back(transfer);
    if (std::exchange(wake_sent_, true)) return;
  }
  ring_.wake();
}

void IoUringLink::Loop::run() {
  for (;;) {
    const bool stopping = take_incoming();
    // While stopping the wake is not armed again, and waited for if it still is: the kernel writes into the ring object.
    if (!stopping) ring_.arm_wake();
    fill();
    const bool idle = queue_.empty() && free_slots_.size() == slots_.size();
    if (stopping && idle && !ring_.wake_armed()) return;
    ring_.wait();
    IoUringRing::Completion completion;
    while (ring_.next(&completion)) piece_completed(static_cast<std::size_t>(completion.tag), completion.result);
  }
}

// Returns whether the link is being destroyed.
bool IoUringLink::Loop::take_incoming() {
  std::vector<Transfer> taken;
  bool stopping = false;
  {
    const std::lock_guard lock(mutex_);
    taken.swap(incoming_);
    wake_sent_ = false;
    stopping = stopping_;
  }
  for (const Transfer& transfer : taken) {
    const int region = ring_.region_of(transfer.upper.address(), transfer.bytes);
    queue_.push(transfer.urgency, std::make_shared<Active>(Active{.transfer = transfer, .region = region}));
  }
  return stopping;
}

// Cuts pieces off the most urgent transfers while slots are free. A transfer cut in part stays at the front of its lane, so
// that a more urgent one overtakes the rest of it.
void IoUringLink::Loop::fill() {
  while (!free_slots_.empty() && !queue_.empty()) {
    const std::shared_ptr<Active> active = queue_.front();
    const Bytes length = std::min(options_.piece_bytes, active->transfer.bytes - active->handed_out);
    if (length > 0) {
      const std::size_t slot = free_slots_.back();
      free_slots_.pop_back();
      slots_[slot] = Piece{.active = active, .offset = active->handed_out, .progress = IoProgress(length)};
      active->handed_out += length;
      ++active->pieces;
      submit_piece(slot);
    }
    if (active->handed_out == active->transfer.bytes) queue_.pop();
  }
}

void IoUringLink::Loop::submit_piece(std::size_t slot) {
  const Piece& piece = slots_[slot];
  const Transfer& transfer = piece.active->transfer;
  const Bytes at = piece.offset + piece.progress.done();
  const FileRange range{.fd = file_.fd(),
                        .address = transfer.upper.address() + at,
                        .bytes = file_.ops().submitting(io_kind(transfer.direction), piece.progress.left()),
                        .offset = static_cast<Bytes>(transfer.lower.value) + at};
  ring_.prepare(io_kind(transfer.direction), range, piece.active->region, slot);
}

void IoUringLink::Loop::piece_completed(std::size_t slot, std::int64_t result) {
  Piece& piece = slots_[slot];
  const std::shared_ptr<Active> active = piece.active;
  const int error = piece.progress.advance(file_.ops().completed(io_kind(active->transfer.direction), result));
  if (error == 0 && active->error == 0 && piece.progress.left() > 0) {
    submit_piece(slot);
    return;
  }
  if (error != 0 && active->error == 0) {
    active->error = error;
    active->handed_out = active->transfer.bytes;
  }
  piece.active.reset();
  free_slots_.push_back(slot);
  if (--active->pieces == 0 && active->handed_out == active->transfer.bytes) finish(*active);
}

void IoUringLink::Loop::finish(const Active& active) {
  if (active.error != 0) {
    sink_->transfer_done(active.transfer, transfer_failed(active.transfer, file_, active.error));
    return;
  }
  (active.transfer.direction == Direction::kUp ? bytes_up : bytes_down)
      .fetch_add(active.transfer.bytes, std::memory_order_relaxed);
  sink_->transfer_done(active.transfer, Status());
}

Result<std::unique_ptr<IoUringLink>> IoUringLink::create(ScratchFile& file, const IoUringOptions& options) {
  PS_CHECK(options.depth >= 1);
  PS_CHECK(options.piece_bytes > 0 && options.piece_bytes <= kGiB && options.piece_bytes % kPayloadAlignment == 0);
  auto loop = std::make_unique<Loop>(file, options);
  PS_RETURN_IF_ERROR(loop->open());
  return std::unique_ptr<IoUringLink>(new IoUringLink(std::move(loop)));
}

IoUringLink::IoUringLink(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}
IoUringLink::~IoUringLink() = default;

void IoUringLink::set_sink(TransferSink* sink) { loop_->set_sink(sink); }
void IoUringLink::start(const Transfer& transfer) { loop_->start(transfer); }
Bytes IoUringLink::bytes_up() const { return loop_->bytes_up.load(std::memory_order_relaxed); }
Bytes IoUringLink::bytes_down() const { return loop_->bytes_down.load(std::memory_order_relaxed); }
std::int64_t IoUringLink::submitted() const { return loop_->ring().submitted.load(std::memory_order_relaxed); }
std::int64_t IoUringLink::submitted_fixed() const { return loop_->ring().submitted_fixed.load(std::memory_order_relaxed); }

}  // namespace patrickstar
