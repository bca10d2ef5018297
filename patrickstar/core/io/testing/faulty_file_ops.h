// FaultyFileOps: real files on which chosen calls fail, come back short or stand still until they are released.
//
// Thread safety: any thread, also while calls stand at a gate. Reads and writes of io_uring (FileOps::submitting, completed)
// are cut short when submitted, and counted, failed and held when completed: the bytes of a failed one have moved.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "patrickstar/core/io/file_ops.h"

namespace patrickstar {

enum class FileCall : std::uint8_t { kOpen, kSetCaching, kPreallocate, kRead, kWrite };

class FaultyFileOps final : public FileOps {
 public:
  explicit FaultyFileOps(FileOps& real = posix_file_ops()) : real_(real) {}

  // Every n-th call of this kind from now on fails with `error` and does nothing. n = 0: none does.
  void fail_every(FileCall call, std::int64_t n, int error);
  // Every n-th read or write from now on moves at most `at_most` bytes. n = 0: none. REQUIRES: kRead or kWrite.
  void shorten_every(FileCall call, std::int64_t n, Bytes at_most);
  // What free_bytes() answers instead of the truth.
  void set_free_bytes(Bytes bytes);

  // Calls of this kind stand still from now on until release().
  void hold(FileCall call);
  void release(FileCall call);
  // Returns when `n` calls of this kind stand still.
  void wait_until_held(FileCall call, int n);

  std::int64_t calls(FileCall call) const;     // since construction
  std::int64_t injected(FileCall call) const;  // of these failed or cut short by us
  std::int64_t open_files() const;

  int open_scratch(const std::string& directory) override;
  int set_caching(int fd, Caching caching) override;
  int preallocate(int fd, Bytes from, Bytes to) override;
  Bytes free_bytes(const std::string& directory) override;
  std::int64_t pread(int fd, std::byte* data, Bytes bytes, Bytes offset) override;
  std::int64_t pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) override;
  void close(int fd) override;
  Bytes submitting(IoKind kind, Bytes bytes) override;
  std::int64_t completed(IoKind kind, std::int64_t result) override;

 private:
  struct Rule {
    std::int64_t every = 0;
    std::int64_t seen = 0;
    bool hits();
  };
  struct State {
    Rule fail;
    int error = 0;
    Rule shorten;
    Bytes at_most = 0;
    bool holding = false;
    int held = 0;
    std::int64_t calls = 0;
    std::int64_t injected = 0;
  };
  int pass(FileCall call);
  Bytes shortened(FileCall call, Bytes bytes);
  State& state(FileCall call) { return states_[static_cast<std::size_t>(call)]; }
  const State& state(FileCall call) const { return states_[static_cast<std::size_t>(call)]; }

  FileOps& real_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::array<State, 5> states_;
  std::optional<Bytes> free_bytes_;
  std::int64_t open_files_ = 0;
};

}  // namespace patrickstar
