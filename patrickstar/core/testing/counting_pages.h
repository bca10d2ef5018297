// CountingPages: a PageSource over the heap that counts, checks that pages are committed and given back in turn, refuses the
// n-th commit or decommit and poisons what was given back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "patrickstar/core/mem/page_source.h"
#include "patrickstar/core/testing/nth_failure.h"

namespace patrickstar {

// One reservation at a time. Not thread-safe: the arena locks.
class CountingPages final : public PageSource {
 public:
  static constexpr std::byte kPoison{0xDB};

  ~CountingPages() override;  // PS_CHECKs that everything came back

  Result<std::byte*> reserve(Bytes bytes) override;
  void unreserve(std::byte* address, Bytes bytes) override;
  Status commit(std::byte* address, Bytes bytes) override;
  Status decommit(std::byte* address, Bytes bytes) override;
  Status move(std::byte* from, std::byte* to) override;

  NthFailure& commits() { return commits_; }
  NthFailure& refused_decommits() { return refused_decommits_; }
  NthFailure& refused_moves() { return refused_moves_; }
  std::int64_t decommits() const { return decommits_; }
  std::int64_t moves() const { return moves_; }
  Bytes committed_bytes() const { return committed_bytes_; }
  Bytes peak_bytes() const { return peak_bytes_; }

 private:
  void mark(std::byte* address, Bytes bytes, bool committed);

  std::byte* base_ = nullptr;
  std::vector<bool> committed_;
  NthFailure commits_;
  NthFailure refused_decommits_;
  NthFailure refused_moves_;
  std::int64_t decommits_ = 0;
  std::int64_t moves_ = 0;
  Bytes committed_bytes_ = 0;
  Bytes peak_bytes_ = 0;
};

}  // namespace patrickstar
