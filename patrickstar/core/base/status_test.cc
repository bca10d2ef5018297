#include "patrickstar/core/base/status.h"

#include <gtest/gtest.h>

namespace patrickstar {
namespace {

TEST(Status, ContextIsPutInFront) {
  const Status inner(StatusCode::kIoError, "No space left on device");
  const Status outer = inner.with_context("[disk] write of chunk 3");
  EXPECT_EQ(outer.code(), StatusCode::kIoError);
  EXPECT_EQ(outer.message(), "[disk] write of chunk 3: No space left on device");
  EXPECT_TRUE(Status().with_context("nothing").ok());
}

TEST(Status, ResultHoldsValueOrStatus) {
  Result<int> good = 7;
  EXPECT_TRUE(good.ok());
  EXPECT_EQ(good.value(), 7);
  const Result<int> bad = Status(StatusCode::kOutOfRoom, "full");
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.status().message(), "full");
}

TEST(StatusDeathTest, ValueOfAnErrorIsABrokenInvariant) {
  EXPECT_DEATH(
      {
        Result<int> bad = Status(StatusCode::kOutOfRoom, "full");
        (void)bad.value();
      },
      "broken invariant");
}

}  // namespace
}  // namespace patrickstar
