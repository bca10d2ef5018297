// For the manager's own files: the end of an operation that may have waited.
#pragma once

#include "patrickstar/core/mem/chunk_manager.h"

namespace patrickstar {

// What the thread waited for is over when this goes. REQUIRES: the manager's lock is held then.
class ChunkManager::WaitScope {
 public:
  explicit WaitScope(ChunkManager* manager) : manager_(manager) {}
  ~WaitScope() { manager_->end_waiting(); }
  WaitScope(const WaitScope&) = delete;
  WaitScope& operator=(const WaitScope&) = delete;

 private:
  ChunkManager* const manager_;
};

}  // namespace patrickstar
