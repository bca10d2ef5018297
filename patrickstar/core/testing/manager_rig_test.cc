#include "patrickstar/core/testing/manager_rig.h"

#include <gtest/gtest.h>

namespace patrickstar {
namespace {

TEST(ManagerRig, CompletesTheOldestWhenTheManagerWaits) {
  ManagerRig rig({2 * kPayloadAlignment, 8 * kPayloadAlignment});
  const PayloadId a = rig.add();
  const PayloadId b = rig.add();
  const PayloadId c = rig.add();
  for (const PayloadId id : {a, b, c}) ASSERT_TRUE(rig.fill(id, 10 + static_cast<int>(id.value)).ok());
  EXPECT_EQ(rig.link(0).bytes_down(), kPayloadAlignment);  // a had to leave for c
  EXPECT_EQ(rig.value(a), 10);
  EXPECT_GT(rig.waiter().waits(), 0);
  EXPECT_EQ(rig.value(b), 11);
  EXPECT_EQ(rig.value(c), 12);
  EXPECT_EQ(rig.pending(), 0u);
}

}  // namespace
}  // namespace patrickstar
