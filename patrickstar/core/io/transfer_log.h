// TransferLog: which transfers a training step started, in order: direction, place in the scratch file, length. What the disk
// alone needs for a step's transfers is then a matter of running them again (transfer_replay.h).
//
// docs/formats.md says what a file of them looks like.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/mem/link.h"

namespace patrickstar {

struct LoggedTransfer {
  Direction direction = Direction::kUp;  // up: a read of the file
  Bytes offset = 0;                      // multiples of kPayloadAlignment, both
  Bytes bytes = 0;
  friend bool operator==(const LoggedTransfer&, const LoggedTransfer&) = default;
};
using StepTransfers = std::vector<LoggedTransfer>;  // in the order of start

Bytes total_bytes(const StepTransfers& transfers);

// Any thread.
class TransferLog {
 public:
  // What starts from now on belongs to the next step. What starts before the first one, or after the last, is not kept.
  void begin_step();
  void end_last_step();
  void started(const Transfer& transfer);
  // The last one may still be under way.
  std::vector<StepTransfers> steps() const;

 private:
  mutable std::mutex mutex_;
  std::vector<StepTransfers> steps_;
  bool in_step_ = false;
};

// A link that tells the log of every start and leaves the rest to another link. As thread-safe as that.
class LoggingLink final : public Link {
 public:
  // REQUIRES: `log` outlives the link.
  LoggingLink(std::unique_ptr<Link> link, TransferLog* log) : link_(std::move(link)), log_(log) {}

  void set_sink(TransferSink* sink) override { link_->set_sink(sink); }
  void start(const Transfer& transfer) override {
    log_->started(transfer);
    link_->start(transfer);
  }
  Bytes bytes_up() const override { return link_->bytes_up(); }
  Bytes bytes_down() const override { return link_->bytes_down(); }

 private:
  const std::unique_ptr<Link> link_;
  TransferLog* const log_;
};

// Errors: kIoError names the file and the cause.
Status save_transfers(const std::vector<StepTransfers>& steps, const std::string& path);
// Errors: kIoError; kInvalidArgument "[transfers] <path>:<line>: ..." for the first line that is wrong.
Result<std::vector<StepTransfers>> load_transfers(const std::string& path);

}  // namespace patrickstar
