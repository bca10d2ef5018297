#include "patrickstar/core/sim/sim_tier.h"

#include <algorithm>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/text.h"

namespace patrickstar {

SimTier::~SimTier() { PS_CHECK(taken_.empty()); }

Result<Place> SimTier::allocate(Bytes bytes) {
  PS_CHECK(bytes > 0 && bytes % kPayloadAlignment == 0);
  if (!ledger_.try_charge(Account::kChunks, bytes))
    return Status(StatusCode::kOutOfRoom, "[" + name_ + "] no room for " + format_bytes(bytes) + ": " + ledger_.table());
  taken_.emplace(++last_place_, bytes);
  return Place{last_place_};
}

Bytes SimTier::shortfall(Bytes bytes) { return std::max<Bytes>(0, bytes - ledger_.room()); }

void SimTier::free(Place place, Bytes bytes) {
  const auto found = taken_.find(place.value);
  PS_CHECK(found != taken_.end() && found->second == bytes);
  taken_.erase(found);
  ledger_.release(Account::kChunks, bytes);
}

}  // namespace patrickstar
