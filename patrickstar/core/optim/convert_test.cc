// Conversions over all of bf16 and against a rounding that is computed from distances.
#include "patrickstar/core/optim/convert.h"

#include <cmath>

#include "patrickstar/core/optim/bf16.h"
#include "patrickstar/core/optim/optim_test_util.h"

namespace patrickstar {
namespace {

// The nearest bf16 by comparing distances in double, ties to the even one: no bit arithmetic shared with the code under test.
std::uint16_t nearest_by_distance(float x) {
  if (std::isnan(x)) return kCanonicalNaN16;
  const auto below = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);  // towards zero
  if (std::isinf(x)) return below;
  const auto above = static_cast<std::uint16_t>(below + 1);
  // Past the largest finite bf16 the next one would be 2^128.
  const double high = std::isinf(bf16_to_float(above)) ? std::copysign(0x1p128, x) : bf16_to_float(above);
  const double to_low = std::abs(double{x} - bf16_to_float(below)), to_high = std::abs(high - double{x});
  if (to_low == to_high) return below % 2 == 0 ? below : above;
  return to_low < to_high ? below : above;
}

TEST(Convert, EveryBf16SurvivesWideningAndRounding) {
  std::vector<std::uint16_t> all(65536), back(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  std::vector<float> wide(65536);
  widen_bf16(all.data(), wide.data(), 65536);
  round_to_bf16(wide.data(), back.data(), 65536);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(wide[i]), i << 16);
    EXPECT_EQ(back[i], std::isnan(wide[i]) ? kCanonicalNaN16 : all[i]);
  }
}

TEST(Convert, RoundsToNearestEven) {
  std::vector<float> x = awkward_floats(100'000, 11, 10.0f);
  for (std::uint32_t upper = 0; upper < 65536; ++upper) {
    // At, just under and just over each tie, and next to each bf16.
    for (const std::uint32_t lower : {0x8000u, 0x7fffu, 0x8001u, 0x0001u, 0xffffu})
      x.push_back(std::bit_cast<float>(upper << 16 | lower));
  }
  std::vector<std::uint16_t> got(x.size());
  round_to_bf16(x.data(), got.data(), static_cast<Elems>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], nearest_by_distance(x[i])) << std::bit_cast<std::uint32_t>(x[i]);
}

TEST(Convert, SameOnSeveralThreadsAtAnyOffset) {
  const std::vector<float> x = awkward_floats(200'100, 12, 1.0f);
  for (const Elems offset : {0, 1, 13}) {
    for (const Elems count : {0, 1, 31, 1025, 200'003}) {
      std::vector<std::uint16_t> got(x.size(), 0x5555), expected(x.size(), 0x5555);
      for (Elems i = offset; i < offset + count; ++i) {
        expected[static_cast<std::size_t>(i)] = float_to_bf16_rne(x[static_cast<std::size_t>(i)]);
      }
      round_to_bf16(x.data() + offset, got.data() + offset, count, random_threads(7));
      EXPECT_EQ(first_difference(expected, got), "");
      std::vector<float> wide(x.size(), 3.0f), wide_expected(x.size(), 3.0f);
      for (Elems i = offset; i < offset + count; ++i) {
        wide_expected[static_cast<std::size_t>(i)] = bf16_to_float(got[static_cast<std::size_t>(i)]);
      }
      widen_bf16(got.data() + offset, wide.data() + offset, count, random_threads(8));
      EXPECT_EQ(first_difference(wide_expected, wide), "");
    }
  }
}

TEST(Convert, ReseedReplacesExactlyWhatWasWritten) {
  std::mt19937_64 random(6);
  for (const Elems count : {0, 1, 1000, 1024, 250'007}) {
    std::vector<float> master = awkward_floats(count, 13, 1.0f);
    std::vector<std::uint16_t> param;
    for (const float p : master) param.push_back(float_to_bf16_rne(p));
    EXPECT_EQ(reseed_master(param.data(), master.data(), count, random_threads(1)), 0);
    std::vector<float> expected = master;
    Elems written = 0;
    for (std::size_t i = 0; i < param.size(); ++i) {
      // Clusters and single elements; a sign of zero is a difference, too.
      if (i % 5000 < 3 || random() % 1000 == 0) {
        param[i] = static_cast<std::uint16_t>((param[i] ^ 0x8000u) == 0xffc0u ? 0x3f80u : param[i] ^ 0x8000u);
        expected[i] = bf16_to_float(param[i]);
        ++written;
      }
    }
    EXPECT_EQ(reseed_master(param.data(), master.data(), count, random_threads(2)), written);
    EXPECT_EQ(first_difference(expected, master), "");
    EXPECT_EQ(reseed_master(param.data(), master.data(), count), 0);
  }
}

}  // namespace
}  // namespace patrickstar
