// HostTier: host memory as a tier. Chunk payloads come from the same arena as tensors.
#pragma once

#include "patrickstar/core/mem/arena.h"
#include "patrickstar/core/mem/tier.h"

namespace patrickstar {

class HostTier final : public Tier {
 public:
  explicit HostTier(Arena* arena) : arena_(arena) {}  // the arena outlives the tier

  std::string name() const override { return "host"; }
  Result<Place> allocate(Bytes bytes) override;
  void free(Place place, Bytes bytes) override;
  Bytes shortfall(Bytes bytes) override { return arena_->shortfall(bytes, Account::kChunks); }

 private:
  Arena* const arena_;
};

}  // namespace patrickstar
