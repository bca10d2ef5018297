// Compiled once for each instruction set by foreach_target.h.
#include "patrickstar/core/optim/grad_norm.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#define HWY_DISABLED_TARGETS (HWY_SSE4 | HWY_SSSE3)  // as in adamw_simd.cc
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "patrickstar/core/optim/grad_norm.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "patrickstar/core/optim/bf16.h"
#include "patrickstar/core/optim/grad_norm_lanes.h"

HWY_BEFORE_NAMESPACE();
namespace patrickstar {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL

namespace hn = hwy::HWY_NAMESPACE;
using F64 = hn::ScalableTag<double>;
using F32 = hn::Rebind<float, F64>;
using U32 = hn::Rebind<std::uint32_t, F64>;
using U16 = hn::Rebind<std::uint16_t, F64>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(F64()));
constexpr int kParts = kNormLanes / kLanes;

HWY_INLINE hn::Vec<F64> load_double(const float* x) { return hn::PromoteTo(F64(), hn::LoadU(F32(), x)); }
HWY_INLINE hn::Vec<F64> load_double(const std::uint16_t* x) {
  return hn::PromoteTo(F64(), hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(U32(), hn::LoadU(U16(), x)))));
}

// kBlocks whole blocks side by side: their chains of additions are independent and hide each other's latency.
template <int kBlocks, class T>
HWY_INLINE void whole_blocks(const T* x, double* sums) {
  hn::Vec<F64> acc[kBlocks][kParts];
  for (auto& block : acc) {
    for (auto& part : block) part = hn::Zero(F64());
  }
  for (Elems i = 0; i < kNormBlockElems; i += kNormLanes) {
    for (int b = 0; b < kBlocks; ++b) {
      const T* at = x + b * kNormBlockElems + i;
      for (int k = 0; k < kParts; ++k) {
        const auto value = load_double(at + k * kLanes);
        // Fused or not is the same: the square is exact.
        acc[b][k] = hn::MulAdd(value, value, acc[b][k]);
      }
    }
  }
  for (int b = 0; b < kBlocks; ++b) {
    double lanes[kNormLanes];
    for (int k = 0; k < kParts; ++k) hn::StoreU(acc[b][k], F64(), lanes + k * kLanes);
    sums[b] = fold_lanes(lanes);
  }
}

template <class T>
void blocks_of(const T* x, std::int64_t blocks, double* sums) {
  std::int64_t b = 0;
  for (; b + 2 <= blocks; b += 2) whole_blocks<2>(x + b * kNormBlockElems, sums + b);
  if (b < blocks) whole_blocks<1>(x + b * kNormBlockElems, sums + b);
}

#else

template <class T>
void blocks_of(const T* x, std::int64_t blocks, double* sums) {
  for (std::int64_t b = 0; b < blocks; ++b) sums[b] = block_sum_scalar(x + b * kNormBlockElems, kNormBlockElems);
}

#endif

void block_sums(const void* data, DType dtype, std::int64_t blocks, double* sums) {
  if (dtype == DType::kBFloat16) return blocks_of(static_cast<const std::uint16_t*>(data), blocks, sums);
  return blocks_of(static_cast<const float*>(data), blocks, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace patrickstar
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace patrickstar {

HWY_EXPORT(block_sums);

namespace {
// Block sums of one chunk's worth of elements (4 Mi) are held on the stack, so nothing is allocated.
constexpr std::int64_t kSumsAtOnce = 1024;
constexpr std::int64_t kGrainBlocks = 16;  // 64 Ki elements a thread at least

double tail_sum(const void* data, DType dtype, Elems begin, Elems count) {
  if (dtype == DType::kBFloat16) return block_sum_scalar(static_cast<const std::uint16_t*>(data) + begin, count);
  return block_sum_scalar(static_cast<const float*>(data) + begin, count);
}

double canonical(double sum) { return std::isnan(sum) ? std::numeric_limits<double>::quiet_NaN() : sum; }
}  // namespace

double sum_of_squares(const void* data, DType dtype, Elems count, const ParallelFor& parallel_for) {
  const std::int64_t blocks = count / kNormBlockElems;
  double total = 0;
  double sums[kSumsAtOnce];
  for (std::int64_t first = 0; first < blocks; first += kSumsAtOnce) {
    const std::int64_t n = std::min(kSumsAtOnce, blocks - first);
    const auto body = [&](std::int64_t begin, std::int64_t end) {
      const Bytes offset = (first + begin) * kNormBlockElems * dtype_bytes(dtype);
      HWY_DYNAMIC_DISPATCH(block_sums)(static_cast<const char*>(data) + offset, dtype, end - begin, sums + begin);
    };
    if (n <= kGrainBlocks) {
      body(0, n);
    } else {
      parallel_for(n, kGrainBlocks, body);
    }
    for (std::int64_t b = 0; b < n; ++b) total += sums[b];
  }
  const Elems rest = count - blocks * kNormBlockElems;
  if (rest > 0) total += tail_sum(data, dtype, blocks * kNormBlockElems, rest);
  return canonical(total);
}

double sum_of_squares_scalar(const void* data, DType dtype, Elems count) {
  double total = 0;
  for (Elems begin = 0; begin < count; begin += kNormBlockElems) {
    total += tail_sum(data, dtype, begin, std::min(kNormBlockElems, count - begin));
  }
  return canonical(total);
}

double global_norm(std::span<const double> tensor_sums) {
  double total = 0;
  for (const double sum : tensor_sums) total += sum;
  return std::sqrt(total);
}

double clip_coefficient(double total_norm, double max_norm) {
  const double coefficient = max_norm / (total_norm + 1e-6);
  return coefficient > 1 ? 1 : coefficient;
}

}  // namespace patrickstar
#endif
