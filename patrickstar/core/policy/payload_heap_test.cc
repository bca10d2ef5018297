#include "patrickstar/core/policy/payload_heap.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <utility>

#include "patrickstar/core/testing/seed.h"

namespace patrickstar {
namespace {

TEST(PayloadHeap, TheGreatestKeyIsOnTopAndOfEqualOnesTheGreaterId) {
  PayloadHeap<int> heap;
  EXPECT_TRUE(heap.empty());
  for (const std::uint32_t payload : {3u, 9u, 4u}) heap.insert(PayloadId(payload), 5);
  EXPECT_EQ(heap.top(), PayloadId(9u));
  heap.change(PayloadId(9u), 4);
  EXPECT_EQ(heap.top(), PayloadId(4u));
  heap.change(PayloadId(3u), 6);
  EXPECT_EQ(heap.top(), PayloadId(3u));
  heap.erase(PayloadId(3u));
  EXPECT_EQ(heap.top(), PayloadId(4u));
  EXPECT_FALSE(heap.contains(PayloadId(3u)));
  heap.clear();
  EXPECT_TRUE(heap.empty());
  EXPECT_FALSE(heap.contains(PayloadId(4u)));
  heap.insert(PayloadId(4u), 1);
  EXPECT_EQ(heap.size(), 1u);
}

TEST(PayloadHeap, AgreesWithASortedSet) {
  const std::uint32_t seed = test_seed(11);
  std::mt19937 random(seed);
  PayloadHeap<int> heap;
  std::set<std::pair<int, PayloadId>> model;
  std::vector<int> keys(64);
  for (int i = 0; i < 20'000; ++i) {
    const PayloadId payload(random() % 64);
    int& key = keys[payload.index()];
    ASSERT_EQ(heap.contains(payload), model.count({key, payload}) == 1);
    const int next = static_cast<int>(random() % 20);
    if (!heap.contains(payload)) {
      key = next;
      heap.insert(payload, key);
      model.emplace(key, payload);
    } else if (random() % 2 == 0) {
      heap.erase(payload);
      model.erase({key, payload});
    } else {
      model.erase({key, payload});
      key = next;
      heap.change(payload, key);
      model.emplace(key, payload);
    }
    ASSERT_EQ(heap.size(), model.size());
    if (!model.empty()) {
      ASSERT_EQ(heap.top(), model.rbegin()->second) << "seed " << seed << " operation " << i;
    }
  }
}

TEST(PayloadHeap, AnOperationAmongTenThousandLooksAtFewOfThem) {
  constexpr std::size_t kPayloads = 10'000;
  std::mt19937 random(5);
  PayloadHeap<std::uint32_t> heap;
  for (std::size_t i = 0; i < kPayloads; ++i) heap.insert(PayloadId(i), random());
  std::int64_t most = 0;
  for (int i = 0; i < 50'000; ++i) {
    const PayloadId payload(random() % kPayloads);
    const std::int64_t before = heap.steps();
    switch (random() % 3) {
      case 0: heap.change(payload, random()); break;
      case 1: heap.change(payload, random() % 2 == 0 ? 0 : UINT32_MAX); break;
      default:
        heap.erase(payload);
        most = std::max(most, heap.steps() - before);
        heap.insert(payload, random());
        continue;
    }
    most = std::max(most, heap.steps() - before);
  }
  EXPECT_LE(most, 7 * 5 + 2);  // seven levels with four children and a move each; erase() moves the last entry first
  EXPECT_GT(most, 10);         // it does count
}

}  // namespace
}  // namespace patrickstar
