// ThreadPoolLink: the link between host memory and the disk as blocking reads and writes on a few threads. Works on every
// kernel and file system; IoUringLink costs less CPU where it is to be had.
//
// Thread safety: start() from any thread, also from the sink. The sink is called on a pool thread that holds no lock.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/io/scratch_file.h"
#include "patrickstar/core/io/urgency_queue.h"
#include "patrickstar/core/mem/link.h"

namespace patrickstar {

class ThreadPoolLink final : public Link {
 public:
  // kUnavailable when the system gives no thread. REQUIRES: threads >= 1; `file` outlives the link.
  static Result<std::unique_ptr<ThreadPoolLink>> create(ScratchFile& file, int threads = 2);
  ~ThreadPoolLink() override;  // serves everything that was started first

  void set_sink(TransferSink* sink) override;
  // REQUIRES: a sink; address, offset and bytes multiples of kPayloadAlignment; the file is long enough.
  void start(const Transfer& transfer) override;
  Bytes bytes_up() const override { return bytes_up_.load(std::memory_order_relaxed); }
  Bytes bytes_down() const override { return bytes_down_.load(std::memory_order_relaxed); }

 private:
  explicit ThreadPoolLink(ScratchFile& file) : file_(file) {}
  void run();
  void serve(const Transfer& transfer);

  ScratchFile& file_;
  TransferSink* sink_ = nullptr;
  std::atomic<Bytes> bytes_up_{0};
  std::atomic<Bytes> bytes_down_{0};

  std::mutex mutex_;
  std::condition_variable work_;
  UrgencyQueue<Transfer> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace patrickstar
