// Plain loops over integers: the compiler vectorises them, and there is no rounding mode or contraction to get wrong.
#include "patrickstar/core/optim/convert.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "patrickstar/core/optim/bf16.h"

namespace patrickstar {
namespace {

constexpr Elems kBlockElems = 1024;  // threads never share a cache line
constexpr std::int64_t kGrainBlocks = 64;

template <class Body>
void for_ranges(Elems count, const ParallelFor& parallel_for, const Body& body) {
  const std::int64_t blocks = ceil_div(count, kBlockElems);
  if (blocks <= kGrainBlocks) return body(Elems{0}, count);
  parallel_for(blocks, kGrainBlocks,
               [&](std::int64_t begin, std::int64_t end) { body(begin * kBlockElems, std::min(end * kBlockElems, count)); });
}

Elems count_differing(const std::uint16_t* param, const float* master, Elems count) {
  std::int32_t differing = 0;
  for (Elems i = 0; i < count; ++i) differing += param[i] != float_to_bf16_rne(master[i]);
  return differing;
}

}  // namespace

void round_to_bf16(const float* from, void* to, Elems count, const ParallelFor& parallel_for) {
  for_ranges(count, parallel_for, [&](Elems begin, Elems end) {
    auto* out = static_cast<std::uint16_t*>(to);
    for (Elems i = begin; i < end; ++i) out[i] = float_to_bf16_rne(from[i]);
  });
}

void widen_bf16(const void* from, float* to, Elems count, const ParallelFor& parallel_for) {
  for_ranges(count, parallel_for, [&](Elems begin, Elems end) {
    const auto* in = static_cast<const std::uint16_t*>(from);
    for (Elems i = begin; i < end; ++i) to[i] = bf16_to_float(in[i]);
  });
}

Elems reseed_master(const void* bf16_param, float* master, Elems count, const ParallelFor& parallel_for) {
  const auto* param = static_cast<const std::uint16_t*>(bf16_param);
  std::atomic<Elems> total{0};
  for_ranges(count, parallel_for, [&](Elems begin, Elems end) {
    Elems replaced = 0;
    for (Elems at = begin; at < end; at += kBlockElems) {
      const Elems stop = std::min(at + kBlockElems, end);
      // Most blocks are untouched: only look, so that their cache lines stay clean.
      const Elems differing = count_differing(param + at, master + at, stop - at);
      if (differing == 0) continue;
      for (Elems i = at; i < stop; ++i) {
        master[i] = param[i] != float_to_bf16_rne(master[i]) ? bf16_to_float(param[i]) : master[i];
      }
      replaced += differing;
    }
    total.fetch_add(replaced, std::memory_order_relaxed);
  });
  return total.load(std::memory_order_relaxed);
}

}  // namespace patrickstar
