#include "patrickstar/bridge/device/parallel.h"

#include <ATen/Parallel.h>

#include <cstring>

#ifndef INTRA_OP_PARALLEL
#error "at::parallel_for would run on one thread: compile this file with -fopenmp"
#endif

namespace patrickstar::bridge {

ParallelFor torch_parallel_for() {
  return [](std::int64_t count, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body) {
    at::parallel_for(0, count, grain, [&](std::int64_t begin, std::int64_t end) { body(begin, end); });
  };
}

void parallel_copy(void* to, const void* from, std::int64_t bytes) {
  constexpr std::int64_t kGrain = 256 * 1024;
  at::parallel_for(0, bytes, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin, static_cast<std::size_t>(end - begin));
  });
}

}  // namespace patrickstar::bridge
