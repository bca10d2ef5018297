#include "patrickstar/bridge/module/operator_gate.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "patrickstar/bridge/device/storage_gate.h"
#include "patrickstar/core/testing/manager_rig.h"

namespace patrickstar::bridge {
namespace {

// A storage in a payload, or in bytes of its own once it is displaced.
class FakeBacking final : public StorageBacking {
 public:
  FakeBacking(c10::StorageImpl* storage, PayloadId payload) : StorageBacking(storage), payload_(payload) {}
  Result<Placement> locate() override {
    ++located;
    const Placement place = displaced ? Placement{} : Placement{payload_, 0};
    if (after_locating) std::exchange(after_locating, nullptr)();
    return place;
  }
  Result<std::unique_ptr<DisplacedBytes>> rebuild() override {
    return std::unique_ptr<DisplacedBytes>(new OwnBytes(own_bytes.data()));
  }
  void written() override {}
  std::string armed_text() const override { return "armed"; }
  void storage_died() override {}

  std::array<float, 4> own_bytes{5, 6, 7, 8};
  std::function<void()> after_locating;  // once
  bool displaced = false;
  int located = 0;

 private:
  class OwnBytes final : public DisplacedBytes {
   public:
    explicit OwnBytes(void* address) : address_(address) {}
    void* address() override { return address_; }
    Status keep() override { return {}; }

   private:
    void* const address_;
  };
  const PayloadId payload_;
};

struct GateTest : testing::Test {
  GateTest() : tensor(at::zeros({4})), backing(tensor.storage().unsafeGetStorageImpl(), payload) {
    EXPECT_TRUE(rig.fill(payload, 0).ok());
    take_over(tensor.storage().unsafeGetStorageImpl(), static_cast<StorageBacking*>(&backing), &managed_deleter, "armed");
  }
  ~GateTest() override { tensor.reset(); }  // before what stands behind it
  Result<OpenStorages> open() {
    const OpenRequest request{&backing, AccessMode::kRead};
    return gate.open({&request, 1});
  }
  bool displace() {
    return gate.displace(&backing, [this] { return backing.displaced = true; });
  }
  float sum() const { return tensor.sum().item<float>(); }

  ManagerRig rig{{4 * kPayloadAlignment, 4 * kPayloadAlignment}};
  const PayloadId payload = rig.add();
  OperatorGate gate{&rig.manager()};
  at::Tensor tensor;
  FakeBacking backing;
};

TEST_F(GateTest, NothingOpenIsDisplaced) {
  {
    auto opened = open();
    ASSERT_TRUE(opened.ok());
    EXPECT_FALSE(displace());
    EXPECT_FALSE(backing.displaced);
    EXPECT_EQ(sum(), 0);
  }
  EXPECT_TRUE(displace());
  auto opened = open();
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(sum(), 26);
}

TEST_F(GateTest, WhatIsDisplacedBetweenLocatingAndShowingIsLocatedAgain) {
  backing.after_locating = [this] { EXPECT_TRUE(displace()); };
  auto opened = open();
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(backing.located, 2);
  EXPECT_EQ(sum(), 26);
  opened = Status(StatusCode::kIoError, "closed");
  EXPECT_TRUE(armed(tensor.storage().unsafeGetStorageImpl()));
  rig.manager().check_invariants();
}

}  // namespace
}  // namespace patrickstar::bridge
