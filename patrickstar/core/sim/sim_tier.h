// SimTier: a Tier that only counts. Its places are numbers, behind which there is no memory: nobody may look at a lease's
// address in a simulation. The ledger is the tier's, so that non-model bytes can be charged to the same budget.
#pragma once

#include <string>
#include <unordered_map>
#include <utility>

#include "patrickstar/core/mem/ledger.h"
#include "patrickstar/core/mem/tier.h"

namespace patrickstar {

// One thread.
class SimTier final : public Tier {
 public:
  SimTier(std::string name, Bytes capacity) : name_(std::move(name)), ledger_(capacity) {}
  ~SimTier() override;  // PS_CHECKs that every place came back

  std::string name() const override { return name_; }
  Result<Place> allocate(Bytes bytes) override;
  Bytes shortfall(Bytes bytes) override;
  void free(Place place, Bytes bytes) override;
  Ledger& ledger() { return ledger_; }

 private:
  const std::string name_;
  Ledger ledger_;
  std::uint64_t last_place_ = 0;                    // never the same twice
  std::unordered_map<std::uint64_t, Bytes> taken_;  // by place
};

}  // namespace patrickstar
