// How the core uses several CPU threads: through a function that the caller injects. The bridge supplies at::parallel_for,
// so that no second thread pool of ours competes with LibTorch's.
#pragma once

#include <cstdint>
#include <functional>

namespace patrickstar {

// Runs body(begin, end) over disjoint sub-ranges that cover [0, count), possibly on several threads, and returns when all
// are done. A sub-range holds at least `grain` indices where count allows. `body` must not throw.
using ParallelFor = std::function<void(std::int64_t count, std::int64_t grain,
                                       const std::function<void(std::int64_t begin, std::int64_t end)>& body)>;

// Everything on the calling thread.
inline void serial_for(std::int64_t count, std::int64_t /*grain*/, const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (count > 0) body(0, count);
}

}  // namespace patrickstar
