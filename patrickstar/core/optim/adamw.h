// Fused AdamW over flat ranges: one pass over (gradient, master, momentum, variance) writes master, moments and the 16-bit
// parameter, with unscaling and clipping folded in.
//
// Formula: Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101, algorithm 2) with the semantics of
// torch.optim.AdamW (eps outside the bias correction, decay by lr * weight_decay). Per element, every operation rounded once:
//
//   g = grad * grad_scale
//   m = fma(1 - beta1, g - m, m)
//   v = fma((1 - beta2) * g, g, beta2 * v)
//   d = fma(sqrt(v), 1 / sqrt(1 - beta2^t), eps)
//   p = fma(-lr / (1 - beta1^t), m / d, p * (1 - lr * weight_decay))          param16 = round to nearest even(p)
//
// [Note: exactness] The sequence is fixed, so scalar, AVX2 and AVX-512 give the same bits for every element, whatever its
// position, the cut into ranges and the number of threads. NaN results are stored as one canonical NaN (bf16.h). Denormals
// follow the calling threads' MXCSR, which is left alone: threads that flush denormals differ from those that do not.
//
// Thread safety: free functions without state; calls on disjoint ranges may run at the same time.
// Errors: none to report; a broken precondition ends the process (PS_CHECK).
#pragma once

#include <cstdint>

#include "patrickstar/core/base/dtype.h"
#include "patrickstar/core/base/parallel.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

// The hyperparameters of one parameter group.
struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9;    // in [0, 1)
  double beta2 = 0.999;  // in [0, 1)
  double eps = 1e-8;
  double weight_decay = 0.01;
};

// What one step of one group needs, computed in double and rounded to fp32 once.
struct AdamWFactors {
  float grad_scale;       // multiplies every gradient
  float decay;            // 1 - lr * weight_decay
  float one_minus_beta1;  //
  float beta2;            //
  float one_minus_beta2;  //
  float inv_sqrt_bias2;   // 1 / sqrt(1 - beta2^step)
  float eps;              //
  float neg_step_size;    // -lr / (1 - beta1^step)
};

// `step` counts from 1. `grad_scale`: 1 / loss scale x clipping coefficient; 1 leaves gradients bitwise as they are.
// REQUIRES: step >= 1, betas in [0, 1).
AdamWFactors adamw_factors(const AdamWOptions& options, std::int64_t step, double grad_scale);

// `count` elements that lie side by side in each of the arrays. No alignment is required; 64 bytes are fastest.
struct AdamWRange {
  const void* grad;  // grad_dtype[count]
  DType grad_dtype;
  float* master;      // the fp32 parameter
  float* exp_avg;     // momentum
  float* exp_avg_sq;  // variance
  void* param16;      // bf16[count], or null in fp32 training, where the master is the parameter
  Elems count;
};

// Updates the range in place, on the threads of `parallel_for`.
// REQUIRES: the arrays are disjoint, but for one case: a bf16 `grad` may be the very array `param16` (16-bit training keeps the
// gradient where the parameter's bytes are). Null pointers only for param16, or where count is 0.
void adamw_update(const AdamWRange& range, const AdamWFactors& factors, const ParallelFor& parallel_for);

// The reference that defines the bits: one element after the other, std::fma and std::sqrt, on the calling thread.
// Same preconditions. Also what CPUs without AVX2 and FMA run.
void adamw_update_scalar(const AdamWRange& range, const AdamWFactors& factors);

// The instruction set that adamw_update uses on this machine: "AVX3" (AVX-512), "AVX2" or "SCALAR".
const char* adamw_simd_target();

}  // namespace patrickstar
