// ManualLink: a Link whose transfers wait until a test completes them, in any order, well or with an error.
//
// Bytes move at completion. Until then the target holds garbage, and the source is checked not to change; a transfer that
// fails leaves garbage in its target, as the port allows. Both sides must be memory (MemoryTier). Not thread-safe.
#pragma once

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "patrickstar/core/mem/link.h"
#include "patrickstar/core/testing/nth_failure.h"

namespace patrickstar {

class ManualLink final : public Link {
 public:
  static constexpr std::byte kGarbage{0xE7};

  // `file` stands in the messages of injected errors.
  explicit ManualLink(std::string file) : file_(std::move(file)) {}
  ~ManualLink() override;  // PS_CHECKs that nothing is pending

  void set_sink(TransferSink* sink) override { sink_ = sink; }
  void start(const Transfer& transfer) override;
  Bytes bytes_up() const override { return bytes_up_; }
  Bytes bytes_down() const override { return bytes_down_; }

  std::size_t pending() const { return pending_.size(); }
  const Transfer& transfer(std::size_t i) const { return pending_[i].transfer; }  // in order of arrival
  // Completes the i-th pending transfer; injected errors fail it. REQUIRES: i < pending(); no manager lock held.
  void complete(std::size_t i);
  // Completes it with an error that names the file.
  void fail(std::size_t i);
  // Completes any one. False: nothing was pending.
  bool complete_random(std::mt19937& random);

  // The n-th completion in a direction from now on fails; 1 is the next.
  NthFailure& failures(Direction direction) { return direction == Direction::kUp ? up_ : down_; }

 private:
  struct Pending {
    Transfer transfer;
    std::vector<std::byte> source;  // as it was at the start
  };
  Pending take(std::size_t i);

  const std::string file_;
  TransferSink* sink_ = nullptr;
  std::vector<Pending> pending_;
  NthFailure up_;
  NthFailure down_;
  Bytes bytes_up_ = 0;
  Bytes bytes_down_ = 0;
};

}  // namespace patrickstar
