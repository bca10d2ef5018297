// ThreadedLink: a Link of real threads that take transfers in random order, for ThreadSanitizer. Both sides must be memory.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "patrickstar/core/mem/link.h"

namespace patrickstar {

class ThreadedLink final : public Link {
 public:
  ThreadedLink(int threads, std::uint32_t seed);
  ~ThreadedLink() override;  // serves everything that was started first

  void set_sink(TransferSink* sink) override { sink_ = sink; }
  void start(const Transfer& transfer) override;
  Bytes bytes_up() const override { return bytes_up_.load(); }
  Bytes bytes_down() const override { return bytes_down_.load(); }

 private:
  void run();

  TransferSink* sink_ = nullptr;
  std::atomic<Bytes> bytes_up_ = 0;
  std::atomic<Bytes> bytes_down_ = 0;
  std::mutex mutex_;
  std::condition_variable work_;
  std::mt19937 random_;
  std::vector<Transfer> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace patrickstar
