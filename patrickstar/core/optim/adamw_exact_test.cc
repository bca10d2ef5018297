// adamw_update gives the bits of adamw_update_scalar for every instruction set, dtype, length, offset, split and thread.
#include "patrickstar/core/optim/adamw.h"
#include "patrickstar/core/optim/bf16.h"
#include "patrickstar/core/optim/optim_test_util.h"

namespace patrickstar {
namespace {

enum class Param16 { kNone, kOwn, kInPlace };  // kInPlace: the gradient's own array

struct Form {
  DType grad_dtype;
  Param16 param16;
};
constexpr Form kForms[] = {{DType::kFloat32, Param16::kNone},
                           {DType::kFloat32, Param16::kOwn},
                           {DType::kBFloat16, Param16::kNone},
                           {DType::kBFloat16, Param16::kOwn},
                           {DType::kBFloat16, Param16::kInPlace}};

// A problem of `count` elements at `offset` elements into arrays that are longer on both sides.
struct Problem {
  Problem(Form f, Elems offset_elems, Elems n, std::uint64_t seed) : form(f), offset(offset_elems), count(n) {
    const Elems all = offset + count + 40;
    master = awkward_floats(all, seed, 1.0f);
    exp_avg = awkward_floats(all, seed + 1, 0.1f);
    exp_avg_sq = awkward_floats(all, seed + 2, 0.01f);
    grad32 = awkward_floats(all, seed + 3, 0.1f);
    for (float& v : exp_avg_sq) {
      if (seed % 2 == 0) v = std::abs(v);
    }
    for (const float g : grad32) grad16.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(g) >> 16));
    param16.assign(grad16.size(), 0x1234);
  }
  AdamWRange range(Elems begin, Elems end) {
    const Elems at = offset + begin;
    const bool half = form.grad_dtype == DType::kBFloat16;
    std::uint16_t* out = form.param16 == Param16::kOwn ? param16.data() + at : nullptr;
    if (form.param16 == Param16::kInPlace) out = grad16.data() + at;
    return {half ? static_cast<const void*>(grad16.data() + at) : grad32.data() + at,
            form.grad_dtype,
            master.data() + at,
            exp_avg.data() + at,
            exp_avg_sq.data() + at,
            out,
            end - begin};
  }
  // Also what lies outside the range, which must stay untouched.
  void expect_same_bits(const Problem& expected) const {
    EXPECT_EQ(first_difference(expected.master, master), "") << "master";
    EXPECT_EQ(first_difference(expected.exp_avg, exp_avg), "") << "exp_avg";
    EXPECT_EQ(first_difference(expected.exp_avg_sq, exp_avg_sq), "") << "exp_avg_sq";
    EXPECT_EQ(first_difference(expected.param16, param16), "") << "param16";
    EXPECT_EQ(first_difference(expected.grad16, grad16), "") << "grad16";
    EXPECT_EQ(first_difference(expected.grad32, grad32), "") << "grad32";
  }

  Form form;
  Elems offset, count;
  std::vector<float> master, exp_avg, exp_avg_sq, grad32;
  std::vector<std::uint16_t> grad16, param16;
};

const AdamWFactors kFactors = adamw_factors({.lr = 3e-3, .weight_decay = 0.1}, 7, 0.37);

void expect_equals_scalar(Form form, Elems offset, Elems count, const ParallelFor& parallel_for) {
  const auto seed = static_cast<std::uint64_t>(offset * 131 + count);
  SCOPED_TRACE("grad " + std::string(dtype_name(form.grad_dtype)) + ", param16 " +
               std::to_string(static_cast<int>(form.param16)) + ", offset " + std::to_string(offset) + ", count " +
               std::to_string(count));
  Problem expected(form, offset, count, seed);
  adamw_update_scalar(expected.range(0, count), kFactors);
  Problem got(form, offset, count, seed);
  adamw_update(got.range(0, count), kFactors, parallel_for);
  got.expect_same_bits(expected);
}

TEST(AdamWExact, TheChosenInstructionSetRuns) {
  for_each_target([](std::int64_t target) { EXPECT_STREQ(adamw_simd_target(), hwy::TargetName(target)); });
}

TEST(AdamWExact, EveryTargetFormLengthAndOffset) {
  for_each_target([](std::int64_t) {
    for (const Form form : kForms) {
      for (const Elems offset : {0, 1, 7, 16}) {
        for (Elems count = 0; count <= 70; ++count) expect_equals_scalar(form, offset, count, serial_for);
        for (const Elems count : {4095, 4096, 4097}) expect_equals_scalar(form, offset, count, serial_for);
        if (testing::Test::HasFailure()) return;
      }
    }
  });
}

TEST(AdamWExact, LargeRangesOnSeveralThreads) {
  for_each_target([](std::int64_t) {
    for (const Form form : kForms) {
      for (std::uint64_t seed = 1; seed <= 2; ++seed) expect_equals_scalar(form, 3, 150'017, random_threads(seed));
    }
  });
}

TEST(AdamWExact, RandomSplitsIntoRanges) {
  std::mt19937_64 random(20240607);
  for_each_target([&](std::int64_t) {
    for (const Form form : kForms) {
      const Elems count = 100'001;
      Problem expected(form, 5, count, 42);
      adamw_update_scalar(expected.range(0, count), kFactors);
      Problem got(form, 5, count, 42);
      for (Elems begin = 0; begin < count;) {
        const Elems end = std::min<Elems>(count, begin + static_cast<Elems>(random() % (random() % 2 == 0 ? 100 : 80'000)));
        adamw_update(got.range(begin, end), kFactors, random_threads(random()));
        begin = end;
      }
      got.expect_same_bits(expected);
    }
  });
}

TEST(AdamWExact, OnlyCanonicalNaNsAreWritten) {
  for_each_target([](std::int64_t) {
    Problem p(kForms[3], 0, 4099, 9);
    adamw_update(p.range(0, p.count), kFactors, serial_for);
    int nans = 0;
    for (Elems i = 0; i < p.count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      for (const float x : {p.master[at], p.exp_avg[at], p.exp_avg_sq[at]}) {
        if (x != x) {
          EXPECT_EQ(std::bit_cast<std::uint32_t>(x), kCanonicalNaN32);
        }
      }
      EXPECT_EQ(p.param16[at], float_to_bf16_rne(p.master[at]));
      nans += p.master[at] != p.master[at];
    }
    EXPECT_GT(nans, 100);
  });
}

TEST(AdamWExactDeathTest, RefusesArraysThatOverlap) {
  std::vector<float> a(100), b(100), c(100);
  std::vector<std::uint16_t> h(101);
  const auto update = [&](const void* grad, DType dtype, float* master, void* param16) {
    adamw_update({grad, dtype, master, b.data(), c.data(), param16, 100}, kFactors, serial_for);
  };
  EXPECT_DEATH(update(h.data(), DType::kBFloat16, a.data(), h.data() + 1), "disjoint");
  EXPECT_DEATH(update(a.data(), DType::kFloat32, a.data(), nullptr), "disjoint");
  EXPECT_DEATH(update(a.data(), DType::kFloat32, b.data() + 1, nullptr), "disjoint");
  EXPECT_DEATH(adamw_factors({}, 0, 1.0), "step >= 1");
}

}  // namespace
}  // namespace patrickstar
