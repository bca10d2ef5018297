// What adam_bench and torch_bench need around the kernels: memory as the chunk manager lays it out, a small
// thread pool and the yardstick.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "patrickstar/core/base/parallel.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar::bench {

enum class Pages { kSmall, kHuge };

// Zeroed, page-aligned memory; whoever times it touches it first.
class Buffer {
 public:
  Buffer(Bytes size, Pages pages) : size_(round_up(size, 2 * kMiB)) {
    data_ = mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) std::abort();
    madvise(data_, static_cast<std::size_t>(size_), pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  ~Buffer() { munmap(data_, static_cast<std::size_t>(size_)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  char* at(Bytes offset) const { return static_cast<char*>(data_) + offset; }

 private:
  Bytes size_;
  void* data_;
};

// A ParallelFor over one helper thread and the caller. Both spin a little before they sleep, as OpenMP's threads do: on a
// machine with other work, one that only spins would burn the time slice that the other needs.
class TwoThreads {
 public:
  TwoThreads() : helper_([this] { serve(); }) {}
  ~TwoThreads() {
    set(kQuit);
    helper_.join();
  }
  ParallelFor parallel_for() {
    return [this](std::int64_t count, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body) {
      if (count <= grain) return body(0, count);
      begin_ = count / 2;
      end_ = count;
      body_ = &body;
      set(kWork);
      body(0, count / 2);
      wait_while(kWork);
    };
  }

 private:
  enum State : int { kIdle, kWork, kQuit };

  void set(State state) {
    state_.store(state, std::memory_order_release);
    state_.notify_all();
  }
  void wait_while(State state) {
    for (int spin = 0; spin < 20'000 && state_.load(std::memory_order_acquire) == state; ++spin) {
    }
    state_.wait(state, std::memory_order_acquire);
  }
  void serve() {
    for (;;) {
      wait_while(kIdle);
      if (state_.load(std::memory_order_acquire) == kQuit) return;
      (*body_)(begin_, end_);
      set(kIdle);
    }
  }

  std::atomic<int> state_{kIdle};
  std::int64_t begin_ = 0;
  std::int64_t end_ = 0;
  const std::function<void(std::int64_t, std::int64_t)>* body_ = nullptr;
  std::thread helper_;
};

// The yardstick: x = a * x in place, the fastest that memory lets a read-modify-write pass be.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
inline void
scale_in_place(float* x, std::int64_t begin, std::int64_t end, float a) {
  for (std::int64_t i = begin; i < end; ++i) x[i] *= a;
}

inline double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace patrickstar::bench
