// Between fp32 masters and bf16 parameters, elementwise, with the same bits on every machine (bf16.h defines them).
// Units: elements. Arrays must not overlap; no alignment is required. Errors: none.
// Thread safety: free functions without state; each runs on the threads of `parallel_for`.
#pragma once

#include "patrickstar/core/base/parallel.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

// to[i] = from[i] rounded to nearest even. `to`: bf16[count].
void round_to_bf16(const float* from, void* to, Elems count, const ParallelFor& parallel_for = serial_for);

// to[i] = from[i], exactly. `from`: bf16[count].
void widen_bf16(const void* from, float* to, Elems count, const ParallelFor& parallel_for = serial_for);

// After a write to a parameter behind the optimizer's back (design.md, decision 9): where param[i] has other bits than
// master[i] rounded, master[i] = param[i]; elsewhere the master keeps its extra bits. `bf16_param`: bf16[count].
// Returns how many masters were replaced. A parameter that is a NaN other than kCanonicalNaN16 counts each time.
Elems reseed_master(const void* bf16_param, float* master, Elems count, const ParallelFor& parallel_for = serial_for);

}  // namespace patrickstar
