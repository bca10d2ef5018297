// Sums of squares for the global gradient norm, and the clipping coefficient of torch.nn.utils.clip_grad_norm_.
//
// The order of additions is part of the contract (design.md, decision 10), so that the norm has the same bits in scalar, AVX2
// and AVX-512, for every number of threads, chunk size and back end:
//   - a tensor is cut into blocks of 4,096 elements from its first element;
//   - within a block 16 lanes in double: lane j adds x*x of elements j, j+16, j+32, ...  (x*x is exact in double);
//   - lanes are folded by halves: lane j += lane j+8, then +4, +2, +1;
//   - block sums are added to the tensor's sum in order, tensors to the total in registration order.
// A NaN among the elements, or infinities, give NaN or +infinity, never a finite number.
//
// Thread safety: free functions without state. Errors: none.
#pragma once

#include <span>

#include "patrickstar/core/base/dtype.h"
#include "patrickstar/core/base/parallel.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

inline constexpr Elems kNormBlockElems = 4096;
inline constexpr int kNormLanes = 16;

// Sum of the squares of one whole tensor: `dtype`[count] at `data`; 0 where count is 0. A tensor is never summed in pieces.
double sum_of_squares(const void* data, DType dtype, Elems count, const ParallelFor& parallel_for);

// The reference that defines the bits. On the calling thread.
double sum_of_squares_scalar(const void* data, DType dtype, Elems count);

// sqrt of the per-tensor sums added in the order given. REQUIRES: registration order.
double global_norm(std::span<const double> tensor_sums);

// min(1, max_norm / (total_norm + 1e-6)); NaN for a NaN norm, as torch does with error_if_nonfinite=False.
double clip_coefficient(double total_norm, double max_norm);

}  // namespace patrickstar
