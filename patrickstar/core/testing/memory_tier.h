// MemoryTier: a Tier of a given capacity over real bytes, with a ledger that holds its budget.
//
// A freed place is poisoned, and checked to be still so when it is handed out again or the tier goes: a write through a
// dangling address ends the test. A new place is poisoned too: nobody may rely on its contents.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "patrickstar/core/mem/ledger.h"
#include "patrickstar/core/mem/tier.h"
#include "patrickstar/core/testing/nth_failure.h"

namespace patrickstar {

class MemoryTier final : public Tier {
 public:
  static constexpr std::byte kPoison{0xDB};

  MemoryTier(std::string name, Bytes capacity) : name_(std::move(name)), ledger_(capacity) {}
  ~MemoryTier() override;  // PS_CHECKs that every place came back

  std::string name() const override { return name_; }
  Result<Place> allocate(Bytes bytes) override;
  Bytes shortfall(Bytes bytes) override;
  void free(Place place, Bytes bytes) override;

  // The n-th allocate() from now on is refused with `code`; 1 is the next.
  void refuse(std::int64_t nth, StatusCode code);
  std::int64_t allocations() const;  // calls of allocate()
  std::int64_t injected() const;
  std::size_t places() const;  // that are out
  Ledger& ledger() { return ledger_; }

 private:
  std::byte* take_block(Bytes bytes);

  const std::string name_;
  Ledger ledger_;
  mutable std::mutex mutex_;
  NthFailure failure_;
  StatusCode failure_code_ = StatusCode::kOutOfRoom;
  std::map<std::byte*, Bytes> out_;
  std::map<Bytes, std::vector<std::byte*>> freed_;  // by size; kept poisoned until the tier goes
};

}  // namespace patrickstar
