// The ParallelFor that the core gets: at::parallel_for, on LibTorch's own threads.
#pragma once

#include "patrickstar/core/base/parallel.h"

namespace patrickstar::bridge {

ParallelFor torch_parallel_for();
// memcpy on those threads.
void parallel_copy(void* to, const void* from, std::int64_t bytes);

}  // namespace patrickstar::bridge
