// The process-wide CPU allocator of LibTorch while a Runtime exists: one of the two process-wide registrations.
//
// Installed when first needed and never taken out (LibTorch has no way back); with no pool active it hands every call to
// LibTorch's own allocator. A plain run never installs it.
#pragma once

#include <cstdint>

#include "patrickstar/core/base/units.h"

namespace c10 {
class DataPtr;
}

namespace patrickstar::bridge {

class MemoryPool;

// From now on tensors come from `pool`; null: from LibTorch's allocator again. One thread at a time. Blocks know their pool.
void use_pool(MemoryPool* pool);
// Whether our allocator was ever put in place in this process.
bool allocator_installed();
// Whether a block came from a pool of ours.
bool is_ours(const c10::DataPtr& pointer);
// How often an allocation was refused; for errors that LibTorch code swallows.
std::int64_t refused_allocations();

}  // namespace patrickstar::bridge
