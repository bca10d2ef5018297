#include "patrickstar/core/policy/occupancy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "patrickstar/core/testing/seed.h"

namespace patrickstar {
namespace {

TEST(Occupancy, BothEndsOfAGapAreLeftOut) {
  Occupancy room({5, 1, 7, 2, 9});
  EXPECT_EQ(room.room_between(1, 3), 7);
  EXPECT_EQ(room.room_between(3, 1), 5);  // 4, 0
  EXPECT_EQ(room.room_between(1, 1), 2);  // all but 1
  EXPECT_EQ(room.room_between(2, 3), INT64_MAX);
  EXPECT_EQ(room.room_between(4, 0), INT64_MAX);
  room.take_between(3, 1, 4);
  EXPECT_EQ(room.room_in(4, 1), 5);
  EXPECT_EQ(room.room_in(0, 1), 1);
  EXPECT_EQ(room.room_in(1, 3), 1);
  EXPECT_EQ(room.least(), 1);
}

TEST(Occupancy, RunsByCountGoRoundTheEnd) {
  Occupancy room({5, 1, 7, 2, 9});
  EXPECT_EQ(room.room_in(4, 2), 5);
  EXPECT_EQ(room.room_in(2, 5), 1);  // the whole step
  room.take_in(4, 2, 10);
  EXPECT_EQ(room.room_in(4, 1), -1);
  EXPECT_EQ(room.room_in(0, 1), -5);
  EXPECT_EQ(room.room_in(1, 1), 1);
  room.take_in(4, 2, -10);
  EXPECT_EQ(room.least(), 1);
  EXPECT_EQ(Occupancy({3}).room_between(0, 0), INT64_MAX);
  EXPECT_EQ(Occupancy({3}).room_in(0, 1), 3);
}

// Random takes and questions against a plain vector.
TEST(Occupancy, AgreesWithAPlainVector) {
  const std::uint32_t seed = test_seed(21);
  std::mt19937 random(seed);
  for (int round = 0; round < 40; ++round) {
    const std::size_t n = 1 + random() % 40;
    std::vector<Bytes> model(n);
    for (Bytes& bytes : model) bytes = static_cast<Bytes>(random() % 1000);
    Occupancy room(model);
    for (int i = 0; i < 200; ++i) {
      const auto from = static_cast<std::uint32_t>(random() % n);
      const auto to = static_cast<std::uint32_t>(random() % n);
      const std::size_t count = 1 + random() % n;
      const Bytes bytes = static_cast<Bytes>(random() % 200) - 100;
      std::vector<std::size_t> between;
      for (std::size_t m = (from + 1) % n; m != to && n > 1; m = (m + 1) % n) between.push_back(m);
      if (i % 4 == 0) {
        room.take_between(from, to, bytes);
        for (const std::size_t m : between) model[m] -= bytes;
      } else if (i % 4 == 1) {
        room.take_in(from, count, bytes);
        for (std::size_t k = 0; k < count; ++k) model[(from + k) % n] -= bytes;
      }
      Bytes least_between = INT64_MAX, least_in = INT64_MAX;
      for (const std::size_t m : between) least_between = std::min(least_between, model[m]);
      for (std::size_t k = 0; k < count; ++k) least_in = std::min(least_in, model[(from + k) % n]);
      ASSERT_EQ(room.room_between(from, to), least_between) << "seed " << seed << " round " << round << " operation " << i;
      ASSERT_EQ(room.room_in(from, count), least_in) << "seed " << seed << " round " << round << " operation " << i;
      ASSERT_EQ(room.least(), *std::min_element(model.begin(), model.end())) << "seed " << seed << " round " << round;
    }
  }
}

}  // namespace
}  // namespace patrickstar
