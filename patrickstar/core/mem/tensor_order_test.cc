#include "patrickstar/core/mem/tensor_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace patrickstar {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(TensorOrder, APartComesInTheOrderOfTheListAndWhatItLacksAfterThat) {
  const TensorOrder order({{"d", 4}, {"b", 2}, {"a", 1}});
  EXPECT_THAT(order.order_of({{"x", 9}, {"a", 1}, {"y", 9}, {"d", 4}}), ElementsAre(3, 1, 0, 2));
  EXPECT_THAT(TensorOrder({}).order_of({{"b", 1}, {"a", 1}}), ElementsAre(0, 1));
}

TEST(TensorOrder, AListOfThisModelIsFine) {
  TensorOrder order({{"a", 1}, {"b", 2, Training::kFrozen}});
  EXPECT_FALSE(order.check().ok()) << "nothing was placed yet";
  order.placed({{"b", 2, Training::kFrozen}});
  order.placed({{"a", 1}});
  EXPECT_TRUE(order.check().ok()) << order.check().message();
}

TEST(TensorOrder, WithoutAListAnythingIsFine) {
  TensorOrder order({});
  EXPECT_TRUE(order.check().ok());
  order.placed({{"a", 1}});
  EXPECT_TRUE(order.check().ok());
}

TEST(TensorOrder, AllThatDoesNotFitIsSaidTogether) {
  TensorOrder order({{"gone", 1}, {"longer", 5}, {"thawed", 6, Training::kFrozen}, {"same", 7}});
  order.placed({{"longer", 8}, {"same", 7}});
  order.placed({{"new", 3}, {"thawed", 6}});
  const Status status = order.check();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("1 of the model's tensors are missing in it: new"));
  EXPECT_THAT(status.message(), HasSubstr("1 of its tensors are not in the model: gone"));
  EXPECT_THAT(status.message(),
              HasSubstr("2 differ: longer (8 elements; there 5 elements), thawed (6 elements; there 6 elements, frozen)"));
  EXPECT_THAT(status.message(), Not(HasSubstr("same")));
}

TEST(TensorOrder, ManyNamesAreCutShort) {
  std::vector<TensorSpec> list;
  for (int i = 0; i < 8; ++i) list.push_back({std::string(1, static_cast<char>('a' + i)), 1});
  EXPECT_THAT(TensorOrder(list).check().message(), HasSubstr("8 of its tensors are not in the model: a, b, c, d, e and 3 more"));
}

}  // namespace
}  // namespace patrickstar
