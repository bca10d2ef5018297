#include "patrickstar/core/optim/adamw.h"

#include <bit>
#include <cmath>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/optim/adamw_simd.h"
#include "patrickstar/core/optim/bf16.h"

namespace patrickstar {
namespace {

// Threads cut a range at multiples of this, so that no cache line of any array is shared between two of them.
constexpr Elems kBlockElems = 1024;
// A thread gets at least this many blocks: 64 Ki elements, about 100 us of work.
constexpr std::int64_t kGrainBlocks = 64;

struct Bytewise {
  std::uintptr_t begin;
  std::uintptr_t end;
};

Bytewise bytes_of(const void* data, Bytes size) {
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  return {begin, begin + static_cast<std::uintptr_t>(size)};
}

bool disjoint(Bytewise a, Bytewise b) { return a.end <= b.begin || b.end <= a.begin; }

void check_range(const AdamWRange& r) {
  PS_CHECK(r.count > 0);
  PS_CHECK(r.grad != nullptr && r.master != nullptr && r.exp_avg != nullptr && r.exp_avg_sq != nullptr);
  const Bytewise arrays[] = {bytes_of(r.master, 4 * r.count), bytes_of(r.exp_avg, 4 * r.count),
                             bytes_of(r.exp_avg_sq, 4 * r.count), bytes_of(r.grad, dtype_bytes(r.grad_dtype) * r.count),
                             bytes_of(r.param16, r.param16 == nullptr ? 0 : 2 * r.count)};
  const bool in_place = r.param16 == r.grad && r.grad_dtype == DType::kBFloat16;
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < i; ++j) {
      if (!(in_place && i == 4 && j == 3)) PS_CHECK(disjoint(arrays[i], arrays[j]));
    }
  }
}

AdamWRange sub_range(const AdamWRange& r, Elems begin, Elems end) {
  return {.grad = static_cast<const char*>(r.grad) + begin * dtype_bytes(r.grad_dtype),
          .grad_dtype = r.grad_dtype,
          .master = r.master + begin,
          .exp_avg = r.exp_avg + begin,
          .exp_avg_sq = r.exp_avg_sq + begin,
          .param16 = r.param16 == nullptr ? nullptr : static_cast<char*>(r.param16) + 2 * begin,
          .count = end - begin};
}

float canonical(float x) { return std::isnan(x) ? std::bit_cast<float>(kCanonicalNaN32) : x; }

}  // namespace

AdamWFactors adamw_factors(const AdamWOptions& o, std::int64_t step, double grad_scale) {
  PS_CHECK(step >= 1);
  PS_CHECK(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1);
  const double bias1 = 1 - std::pow(o.beta1, static_cast<double>(step));
  const double bias2 = 1 - std::pow(o.beta2, static_cast<double>(step));
  return {.grad_scale = static_cast<float>(grad_scale),
          .decay = static_cast<float>(1 - o.lr * o.weight_decay),
          .one_minus_beta1 = static_cast<float>(1 - o.beta1),
          .beta2 = static_cast<float>(o.beta2),
          .one_minus_beta2 = static_cast<float>(1 - o.beta2),
          .inv_sqrt_bias2 = static_cast<float>(1 / std::sqrt(bias2)),
          .eps = static_cast<float>(o.eps),
          .neg_step_size = static_cast<float>(-o.lr / bias1)};
}

void adamw_update(const AdamWRange& range, const AdamWFactors& factors, const ParallelFor& parallel_for) {
  if (range.count == 0) return;
  check_range(range);
  const std::int64_t blocks = ceil_div(range.count, kBlockElems);
  if (blocks <= kGrainBlocks) return adamw_update_simd(range, factors);
  parallel_for(blocks, kGrainBlocks, [&](std::int64_t begin, std::int64_t end) {
    const Elems last = end == blocks ? range.count : end * kBlockElems;
    adamw_update_simd(sub_range(range, begin * kBlockElems, last), factors);
  });
}

void adamw_update_scalar(const AdamWRange& r, const AdamWFactors& f) {
  const auto* grad16 = static_cast<const std::uint16_t*>(r.grad);
  const auto* grad32 = static_cast<const float*>(r.grad);
  auto* param16 = static_cast<std::uint16_t*>(r.param16);
  for (Elems i = 0; i < r.count; ++i) {
    const float g = (r.grad_dtype == DType::kBFloat16 ? bf16_to_float(grad16[i]) : grad32[i]) * f.grad_scale;
    const float m = std::fma(f.one_minus_beta1, g - r.exp_avg[i], r.exp_avg[i]);
    const float v = std::fma(f.one_minus_beta2 * g, g, f.beta2 * r.exp_avg_sq[i]);
    const float d = std::fma(std::sqrt(v), f.inv_sqrt_bias2, f.eps);
    const float p = canonical(std::fma(f.neg_step_size, m / d, r.master[i] * f.decay));
    r.exp_avg[i] = canonical(m);
    r.exp_avg_sq[i] = canonical(v);
    r.master[i] = p;
    if (param16 != nullptr) param16[i] = float_to_bf16_rne(p);
  }
}

}  // namespace patrickstar
