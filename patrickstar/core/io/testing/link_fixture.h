// What the tests of the disk tier share: a directory of their own, aligned buffers with random bytes, a sink that records.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/mem/link.h"

namespace patrickstar {

// An empty directory on a disk (not tmpfs), removed at the end. In $PATRICKSTAR_TEST_DIR, else in the working directory. While
// it lives that variable names it, so that the directories of a death test's children, which nobody removes, lie in it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string path() const { return path_.string(); }
  int entries() const;

 private:
  std::filesystem::path base_;
  std::filesystem::path path_;
};

// Zeroed memory, page-aligned.
class Buffer {
 public:
  explicit Buffer(Bytes bytes);
  std::byte* data() const { return data_.get(); }
  Bytes size() const { return size_; }
  Place place(Bytes offset = 0) const { return Place::of(data_.get() + offset); }
  void fill_random(std::uint64_t seed);
  friend bool operator==(const Buffer& a, const Buffer& b);

 private:
  Bytes size_;
  std::unique_ptr<std::byte, decltype(&std::free)> data_;
};

// Why the kernel refuses a bare io_uring_setup, or "" when it does not: the only good reason to skip a test of io_uring.
std::string io_uring_refusal();

class RecordingSink final : public TransferSink {
 public:
  void transfer_done(const Transfer& transfer, Status status) override;

  // Returns when `n` transfers are done since construction.
  void wait_for(std::size_t n);
  std::vector<std::uint64_t> order() const;  // ids as they came in
  // The status of this one. REQUIRES: it is done, once.
  Status status_of(std::uint64_t id) const;
  std::size_t failures() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable done_;
  std::vector<std::uint64_t> order_;
  std::multimap<std::uint64_t, Status> statuses_;
};

}  // namespace patrickstar
