// What the tests of the ChunkManager's behaviours share.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "patrickstar/core/testing/manager_rig.h"

namespace patrickstar {

// Compute tier of two payloads over a roomy bottom; payload i is filled with 10 + i.
class ChunkManagerTest : public testing::Test {
 protected:
  explicit ChunkManagerTest(const std::vector<Bytes>& capacities = {2 * kPayloadAlignment, 20 * kPayloadAlignment})
      : rig(capacities) {}
  ~ChunkManagerTest() override { rig.manager().check_invariants(); }

  void fill(int count) {
    for (int i = 0; i < count; ++i) {
      ids.push_back(rig.add());
      ASSERT_TRUE(rig.fill(ids.back(), 10 + i).ok());
    }
    rig.complete_all();
  }
  // Writes and lets the copy go down, so that the payload is at the bottom only (two tiers).
  void send_down(PayloadId id) {
    ASSERT_TRUE(manager.give_up(id));
    rig.complete_all();
    ASSERT_FALSE(manager.resident(id));
  }
  std::int64_t fetches() { return manager.stats().kinds[0].fetches; }
  std::int64_t write_backs() { return manager.stats().kinds[0].write_backs; }

  ManagerRig rig;
  ChunkManager& manager = rig.manager();
  std::vector<PayloadId> ids;
};

}  // namespace patrickstar
