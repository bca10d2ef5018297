// The order of additions in sum_of_squares, and that every instruction set and thread keeps it.
#include "patrickstar/core/optim/grad_norm.h"

#include <cmath>

#include "patrickstar/core/optim/bf16.h"
#include "patrickstar/core/optim/optim_test_util.h"

namespace patrickstar {
namespace {

std::vector<float> gradients(Elems count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random) * std::exp2(static_cast<float>(random() % 40) - 30.0f);
  return values;
}

std::vector<std::uint16_t> halves(const std::vector<float>& values) {
  std::vector<std::uint16_t> result;
  for (const float value : values) result.push_back(float_to_bf16_rne(value));
  return result;
}

// The contract in the words of grad_norm.h, written a second time.
double by_the_book(const std::vector<float>& x) {
  double total = 0;
  for (std::size_t block = 0; block < x.size(); block += 4096) {
    double lane[16] = {};
    for (std::size_t i = block; i < std::min(block + 4096, x.size()); ++i) lane[(i - block) % 16] += double{x[i]} * double{x[i]};
    double s8[8], s4[4];
    for (int j = 0; j < 8; ++j) s8[j] = lane[j] + lane[j + 8];
    for (int j = 0; j < 4; ++j) s4[j] = s8[j] + s8[j + 4];
    total += (s4[0] + s4[2]) + (s4[1] + s4[3]);
  }
  return total;
}

constexpr Elems kLengths[] = {0, 1, 15, 16, 17, 70, 4095, 4096, 4097, 8191, 8192, 12'289, 70'001, 4'300'003};

TEST(SumOfSquares, SameBitsForEveryTargetLengthAndSplit) {
  for (const Elems count : kLengths) {
    SCOPED_TRACE(count);
    const std::vector<float> x = gradients(count, 3);
    const std::vector<std::uint16_t> h = halves(x);
    std::vector<float> widened;
    for (const std::uint16_t bits : h) widened.push_back(bf16_to_float(bits));
    const double expected32 = by_the_book(x), expected16 = by_the_book(widened);
    EXPECT_EQ(sum_of_squares_scalar(x.data(), DType::kFloat32, count), expected32);
    EXPECT_EQ(sum_of_squares_scalar(h.data(), DType::kBFloat16, count), expected16);
    for_each_target([&](std::int64_t) {
      for (const ParallelFor& threads : {ParallelFor(serial_for), random_threads(1), random_threads(2)}) {
        EXPECT_EQ(sum_of_squares(x.data(), DType::kFloat32, count, threads), expected32);
        EXPECT_EQ(sum_of_squares(h.data(), DType::kBFloat16, count, threads), expected16);
      }
    });
  }
}

TEST(SumOfSquares, AddressesNeedNoAlignment) {
  const std::vector<float> x = gradients(9000, 8);
  const std::vector<std::uint16_t> h = halves(x);
  for_each_target([&](std::int64_t) {
    for (Elems offset = 0; offset < 18; ++offset) {
      EXPECT_EQ(sum_of_squares(x.data() + offset, DType::kFloat32, 8900, serial_for),
                sum_of_squares_scalar(x.data() + offset, DType::kFloat32, 8900));
      EXPECT_EQ(sum_of_squares(h.data() + offset, DType::kBFloat16, 8900, serial_for),
                sum_of_squares_scalar(h.data() + offset, DType::kBFloat16, 8900));
    }
  });
}

// A sum of n positive doubles is within n * 2^-53 of the exact one, relatively; blocks and lanes leave far fewer roundings.
TEST(SumOfSquares, NearLongDouble) {
  const std::vector<float> x = gradients(2'000'003, 4);
  long double exact = 0;
  for (const float value : x) exact += static_cast<long double>(value) * value;
  const double sum = sum_of_squares(x.data(), DType::kFloat32, static_cast<Elems>(x.size()), serial_for);
  EXPECT_NEAR(sum / static_cast<double>(exact), 1.0, 1000 * 0x1p-53);
}

TEST(SumOfSquares, SquaresNeitherOverflowNorVanish) {
  const std::vector<float> huge(5000, 3e38f), tiny(5000, std::numeric_limits<float>::denorm_min());
  for_each_target([&](std::int64_t) {
    EXPECT_NEAR(sum_of_squares(huge.data(), DType::kFloat32, 5000, serial_for) / (5000 * double{3e38f} * double{3e38f}), 1,
                1e-12);
    EXPECT_EQ(sum_of_squares(tiny.data(), DType::kFloat32, 5000, serial_for), 5000 * 0x1p-298);
  });
}

TEST(SumOfSquares, NonFiniteElementsShow) {
  for_each_target([](std::int64_t) {
    for (const std::size_t at : {0, 4000, 4096, 9998}) {
      std::vector<float> x(9999, 1.0f);
      x[at] = -std::numeric_limits<float>::infinity();
      EXPECT_EQ(sum_of_squares(x.data(), DType::kFloat32, 9999, serial_for), std::numeric_limits<double>::infinity());
      x[at] = std::bit_cast<float>(0xffc12345u);
      const double sum = sum_of_squares(x.data(), DType::kFloat32, 9999, serial_for);
      EXPECT_EQ(std::bit_cast<std::uint64_t>(sum), std::bit_cast<std::uint64_t>(std::numeric_limits<double>::quiet_NaN()));
    }
  });
}

TEST(GlobalNorm, AddsInTheOrderGiven) {
  // Each small sum is lost against 1, but not their total. (Their total is 4 ulp, for the square root halves it.)
  const double large_first[] = {1.0, 0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53};
  EXPECT_EQ(global_norm(large_first), 1.0);
  const double large_last[] = {0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53, 0x1p-53, 1.0};
  EXPECT_EQ(global_norm(large_last), 1 + 0x1p-51);
  const double three_four[] = {9.0, 16.0};
  EXPECT_EQ(global_norm(three_four), 5.0);
  EXPECT_EQ(global_norm({}), 0.0);
}

TEST(ClipCoefficient, AsTorch) {
  EXPECT_EQ(clip_coefficient(0, 1), 1.0);
  EXPECT_EQ(clip_coefficient(0.5, 1), 1.0);
  EXPECT_EQ(clip_coefficient(1.0, 1), 1.0 / (1.0 + 1e-6));
  EXPECT_EQ(clip_coefficient(4, 1), 1.0 / (4 + 1e-6));
  EXPECT_EQ(clip_coefficient(std::numeric_limits<double>::infinity(), 1), 0.0);
  EXPECT_TRUE(std::isnan(clip_coefficient(std::numeric_limits<double>::quiet_NaN(), 1)));
}

}  // namespace
}  // namespace patrickstar
