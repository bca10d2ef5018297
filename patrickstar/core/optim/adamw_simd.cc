// Compiled once for each instruction set by foreach_target.h.
#include "patrickstar/core/optim/adamw_simd.h"

// Highway does not fuse MulAdd on SSE targets: machines without AVX2 and FMA take the scalar reference.
#define HWY_DISABLED_TARGETS (HWY_SSE4 | HWY_SSSE3)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "patrickstar/core/optim/adamw_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "patrickstar/core/optim/bf16.h"

HWY_BEFORE_NAMESPACE();
namespace patrickstar {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL

namespace hn = hwy::HWY_NAMESPACE;
using F32 = hn::ScalableTag<float>;
using U32 = hn::RebindToUnsigned<F32>;
using U16 = hn::Rebind<std::uint16_t, F32>;
using Vec = hn::Vec<F32>;

// Hardware prefetchers stop at 4 KiB pages and share their streams among four to five arrays: fetch this far ahead by hand.
// On Zen 4: 64 to 128 elements gain 3 % of the in-place pass over none, 512 and more lose.
constexpr Elems kPrefetchElems = 128;

HWY_INLINE Vec load_grad(const std::uint16_t* grad) {
  return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(U32(), hn::LoadU(U16(), grad))));
}
HWY_INLINE Vec load_grad(const float* grad) { return hn::LoadU(F32(), grad); }

HWY_INLINE Vec canonical(Vec x) { return hn::IfThenElse(hn::IsNaN(x), hn::BitCast(F32(), hn::Set(U32(), kCanonicalNaN32)), x); }

// Round to nearest even by integers (Highway 1.0.3 truncates). REQUIRES: NaN lanes are canonical, so the sum cannot wrap.
HWY_INLINE void store_bf16(Vec x, std::uint16_t* to) {
  const auto bits = hn::BitCast(U32(), x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(U32(), 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(U32(), 0x7fffu)), odd));
  hn::StoreU(hn::TruncateTo(U16(), rounded), U16(), to);
}

// kParam16 0: no 16-bit parameter.
template <class Grad, int kParam16>
void run(const AdamWRange& r, const AdamWFactors& f) {
  const F32 d;
  constexpr Elems kLanes = static_cast<Elems>(hn::MaxLanes(F32()));
  const auto* grad = static_cast<const Grad*>(r.grad);
  auto* param16 = static_cast<std::uint16_t*>(r.param16);
  const Vec grad_scale = hn::Set(d, f.grad_scale), decay = hn::Set(d, f.decay), one_minus_beta1 = hn::Set(d, f.one_minus_beta1);
  const Vec beta2 = hn::Set(d, f.beta2), one_minus_beta2 = hn::Set(d, f.one_minus_beta2), eps = hn::Set(d, f.eps);
  const Vec inv_sqrt_bias2 = hn::Set(d, f.inv_sqrt_bias2), neg_step_size = hn::Set(d, f.neg_step_size);
  const Elems whole = round_down(r.count, kLanes);
  for (Elems i = 0; i < whole; i += kLanes) {
    hwy::Prefetch(r.master + i + kPrefetchElems);
    hwy::Prefetch(r.exp_avg + i + kPrefetchElems);
    hwy::Prefetch(r.exp_avg_sq + i + kPrefetchElems);
    hwy::Prefetch(grad + i + kPrefetchElems);
    // All four loads before the first store: the arrays often share their offset modulo 4 KiB.
    const Vec g = hn::Mul(load_grad(grad + i), grad_scale);
    const Vec m0 = hn::LoadU(d, r.exp_avg + i);
    const Vec v0 = hn::LoadU(d, r.exp_avg_sq + i);
    const Vec p0 = hn::LoadU(d, r.master + i);
    const Vec m = hn::MulAdd(one_minus_beta1, hn::Sub(g, m0), m0);
    const Vec v = hn::MulAdd(hn::Mul(one_minus_beta2, g), g, hn::Mul(beta2, v0));
    const Vec denom = hn::MulAdd(hn::Sqrt(v), inv_sqrt_bias2, eps);
    const Vec p = canonical(hn::MulAdd(neg_step_size, hn::Div(m, denom), hn::Mul(p0, decay)));
    hn::StoreU(canonical(m), d, r.exp_avg + i);
    hn::StoreU(canonical(v), d, r.exp_avg_sq + i);
    hn::StoreU(p, d, r.master + i);
    if constexpr (kParam16 != 0) store_bf16(p, param16 + i);
  }
  if (whole == r.count) return;
  adamw_update_scalar({.grad = grad + whole,
                       .grad_dtype = r.grad_dtype,
                       .master = r.master + whole,
                       .exp_avg = r.exp_avg + whole,
                       .exp_avg_sq = r.exp_avg_sq + whole,
                       .param16 = kParam16 != 0 ? param16 + whole : nullptr,
                       .count = r.count - whole},
                      f);
}

void update(const AdamWRange& r, const AdamWFactors& f) {
  if (r.grad_dtype == DType::kBFloat16) return r.param16 != nullptr ? run<std::uint16_t, 1>(r, f) : run<std::uint16_t, 0>(r, f);
  return r.param16 != nullptr ? run<float, 1>(r, f) : run<float, 0>(r, f);
}

#else

void update(const AdamWRange& r, const AdamWFactors& f) { adamw_update_scalar(r, f); }

#endif

const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace patrickstar
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace patrickstar {

HWY_EXPORT(update);
HWY_EXPORT(target_name);

void adamw_update_simd(const AdamWRange& range, const AdamWFactors& factors) { HWY_DYNAMIC_DISPATCH(update)(range, factors); }
const char* adamw_simd_target() { return HWY_DYNAMIC_DISPATCH(target_name)(); }

}  // namespace patrickstar
#endif
