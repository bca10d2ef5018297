#include "patrickstar/core/testing/all_orders.h"

#include <gtest/gtest.h>

#include <set>

namespace patrickstar {
namespace {

TEST(AllOrders, EveryPermutationComesOnce) {
  AllOrders orders;
  std::set<std::vector<int>> seen;
  do {
    std::vector<int> left = {1, 2, 3, 4};
    std::vector<int> order;
    while (!left.empty()) {
      const auto chosen = left.begin() + static_cast<std::ptrdiff_t>(orders.pick(left.size()));
      order.push_back(*chosen);
      left.erase(chosen);
    }
    EXPECT_TRUE(seen.insert(order).second);
  } while (orders.next());
  EXPECT_EQ(seen.size(), 24u);
  EXPECT_EQ(orders.runs(), 24u);
}

TEST(AllOrders, ALaterChoiceMayDependOnAnEarlierOne) {
  AllOrders orders;
  std::set<std::size_t> seen;
  do {
    const std::size_t first = orders.pick(2);
    seen.insert(first == 0 ? 10 : 20 + orders.pick(3));
  } while (orders.next());
  EXPECT_EQ(seen, (std::set<std::size_t>{10, 20, 21, 22}));
}

}  // namespace
}  // namespace patrickstar
