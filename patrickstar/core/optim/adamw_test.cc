// AdamW's arithmetic against the formula in double precision.
#include "patrickstar/core/optim/adamw.h"

#include <cmath>

#include "patrickstar/core/optim/bf16.h"
#include "patrickstar/core/optim/optim_test_util.h"

namespace patrickstar {
namespace {

// torch.optim.AdamW written as in its documentation, in double, and independent of the code under test.
struct Reference {
  double p, m = 0, v = 0;
  void step(double g, int t, const AdamWOptions& o) {
    p -= o.lr * o.weight_decay * p;
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(o.beta1, t));
    const double v_hat = v / (1 - std::pow(o.beta2, t));
    p -= o.lr * m_hat / (std::sqrt(v_hat) + o.eps);
  }
};

TEST(AdamW, FactorsAreRoundedOnceFromDouble) {
  const AdamWFactors f = adamw_factors({.lr = 0.01, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-7, .weight_decay = 0.1}, 3, 0.125);
  EXPECT_EQ(f.grad_scale, 0.125f);
  EXPECT_EQ(f.decay, static_cast<float>(0.999));
  EXPECT_EQ(f.one_minus_beta1, static_cast<float>(1 - 0.9));
  EXPECT_EQ(f.beta2, 0.99f);
  EXPECT_EQ(f.one_minus_beta2, static_cast<float>(1 - 0.99));
  EXPECT_FLOAT_EQ(f.inv_sqrt_bias2, static_cast<float>(1 / std::sqrt(1 - 0.99 * 0.99 * 0.99)));
  EXPECT_EQ(f.eps, 1e-7f);
  EXPECT_FLOAT_EQ(f.neg_step_size, static_cast<float>(-0.01 / (1 - 0.9 * 0.9 * 0.9)));
}

TEST(AdamW, FirstStepMovesByTheLearningRateAgainstTheGradient) {
  float grad = 0.5f, master = 1, m = 0, v = 0;
  adamw_update({&grad, DType::kFloat32, &master, &m, &v, nullptr, 1}, adamw_factors({.lr = 0.1, .weight_decay = 0}, 1, 1),
               serial_for);
  EXPECT_NEAR(master, 0.9f, 1e-6f);
  EXPECT_NEAR(m, 0.05f, 1e-8f);
  EXPECT_NEAR(v, 0.00025f, 1e-9f);
}

// Tolerance: an fp32 step has about 8 roundings of 2^-24 on numbers of the size of lr (update) and |p| (decay, sum): ten steps
// stay within 10 * (2^-23 * |p| + 2^-20 * lr) of the exact result.
TEST(AdamW, TenStepsStayNearTheDoubleReference) {
  const AdamWOptions options{.lr = 2e-2, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.05};
  constexpr Elems kCount = 5003;
  const double scale = 0.25;
  for_each_target([&](std::int64_t) {
    std::mt19937_64 random(5);
    std::normal_distribution<float> normal(0, 1);
    std::vector<float> master(kCount), m(kCount), v(kCount), grad(kCount);
    std::vector<std::uint16_t> param16(kCount);
    std::vector<Reference> reference;
    for (float& p : master) reference.push_back({p = normal(random)});
    for (int t = 1; t <= 10; ++t) {
      for (float& g : grad) g = normal(random);
      adamw_update({grad.data(), DType::kFloat32, master.data(), m.data(), v.data(), param16.data(), kCount},
                   adamw_factors(options, t, scale), serial_for);
      for (std::size_t i = 0; i < grad.size(); ++i) reference[i].step(scale * grad[i], t, options);
    }
    for (std::size_t i = 0; i < grad.size(); ++i) {
      const Reference& r = reference[i];
      ASSERT_NEAR(master[i], r.p, 10 * (0x1p-23 * std::abs(r.p) + 0x1p-20 * options.lr)) << i;
      ASSERT_NEAR(m[i], r.m, 1e-6) << i;
      ASSERT_NEAR(v[i], r.v, 1e-6 * r.v) << i;
      ASSERT_EQ(param16[i], float_to_bf16_rne(master[i])) << i;
    }
  });
}

TEST(AdamW, ABf16GradientCountsAsItsExactValue) {
  std::vector<std::uint16_t> grad16;
  std::vector<float> grad32;
  for (int i = 0; i < 100; ++i) {
    grad16.push_back(float_to_bf16_rne(0.01f * static_cast<float>(i - 50)));
    grad32.push_back(bf16_to_float(grad16.back()));
  }
  std::vector<float> master16(100, 1.0f), m16(100), v16(100), master32(100, 1.0f), m32(100), v32(100);
  const AdamWFactors factors = adamw_factors({}, 1, 1);
  adamw_update({grad16.data(), DType::kBFloat16, master16.data(), m16.data(), v16.data(), grad16.data(), 100}, factors,
               serial_for);
  adamw_update({grad32.data(), DType::kFloat32, master32.data(), m32.data(), v32.data(), nullptr, 100}, factors, serial_for);
  EXPECT_EQ(master16, master32);
  EXPECT_EQ(v16, v32);
  EXPECT_EQ(grad16[0], float_to_bf16_rne(master16[0])) << "the parameter took the gradient's place";
}

}  // namespace
}  // namespace patrickstar
