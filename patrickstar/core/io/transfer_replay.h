// TransferReplay: how long a step's transfers take the disk when nothing else is to be done: the same lengths, directions and
// order, at the same offsets of a scratch file of its own, through the same back end. The disk's limit of that step.
//
// All are started at once and served in the order of start, as many at a time as the back end serves: reads and writes side by
// side, as in training, but nothing waits for a payload's use or for room. What is moved is noise that nobody looks at.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "patrickstar/core/base/clock.h"
#include "patrickstar/core/base/log.h"
#include "patrickstar/core/base/status.h"
#include "patrickstar/core/io/disk.h"
#include "patrickstar/core/io/transfer_log.h"
#include "patrickstar/core/mem/page_source.h"

namespace patrickstar {

// With somebody for whom nothing happens, in ticks: it is said after three and then after every six (30 s, 90 s, ...).
struct Patience {
  static bool speaks(int ticks) { return ticks % 6 == 3; }
  double seconds(int ticks) const { return std::chrono::duration<double>(ticks * tick).count(); }

  std::chrono::milliseconds tick{10'000};
  int most_ticks = 12;  // then whoever gives up does
  std::function<void(const std::string&)> say = [](const std::string& line) { log_warning(line); };
};

// One thread at a time.
class TransferReplay {
 public:
  // The options are those of the run that is replayed; `clock` and `ops` outlive this. Errors: those of open_disk.
  static Result<std::unique_ptr<TransferReplay>> create(const DiskOptions& options, const Clock* clock,
                                                        FileOps& ops = posix_file_ops(), Patience patience = {});
  // Waits for no transfer that was given up: what it needs stays until the process ends.
  ~TransferReplay();

  // Writes all of the file that they touch and that was not written before: a disk is not asked for what was never written.
  // Errors: no room on disk; no memory; kTimedOut: no transfer was done for long, or some that were given up still are not.
  Status prepare(const StepTransfers& transfers);
  // Nanoseconds from the first start until the last end. prepare() first, lest its time is in it. Errors: a transfer failed;
  // kTimedOut, likewise.
  Result<Nanos> run(const StepTransfers& transfers);
  const std::string& backend() const { return disk_.backend; }

 private:
  class Sink;
  TransferReplay(Disk disk, const Clock* clock, Patience patience);
  Status fit_buffer(Bytes bytes);
  Status move(const StepTransfers& transfers);

  const Clock* const clock_;
  const Patience patience_;
  std::unique_ptr<Sink> sink_;
  MmapPages pages_;
  std::byte* buffer_ = nullptr;
  Bytes buffer_bytes_ = 0;
  Bytes written_ = 0;  // of the file, from its begin
  Disk disk_;          // goes first: the link knows sink and buffer
};

}  // namespace patrickstar
