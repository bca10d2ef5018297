#include "patrickstar/core/io/disk_tier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "patrickstar/core/io/testing/faulty_file_ops.h"
#include "patrickstar/core/io/testing/link_fixture.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class DiskTierTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = ScratchFile::create(dir_.path(), DirectIo::kAuto, ops_);
    ASSERT_TRUE(made.ok()) << made.status().message();
    file_ = std::move(made).value();
  }
  TempDir dir_;
  FaultyFileOps ops_;
  std::unique_ptr<ScratchFile> file_;
};

TEST_F(DiskTierTest, FreedRoomIsJoinedAndUsedAgain) {
  DiskTier tier(*file_, 0);
  EXPECT_EQ(tier.name(), "disk " + dir_.path());
  const Place a = tier.allocate(8192).value();
  const Place b = tier.allocate(4096).value();
  const Place c = tier.allocate(8192).value();
  const Place d = tier.allocate(4096).value();
  EXPECT_EQ(tier.in_use(), 24576);
  tier.free(a, 8192);
  tier.free(c, 8192);
  EXPECT_EQ(tier.allocate(8192).value(), a);  // best fit, the first of two alike
  tier.free(a, 8192);
  tier.free(b, 4096);  // joins a, b and c
  EXPECT_EQ(tier.allocate(20480).value(), a);
  tier.free(a, 20480);
  tier.free(d, 4096);
  EXPECT_EQ(tier.in_use(), 0);
  EXPECT_EQ(tier.allocate(kMiB).value(), a);  // the end came back, too
}

TEST_F(DiskTierTest, GrowsByExtentsAndReservesExactly) {
  DiskTier tier(*file_, 0);
  ASSERT_TRUE(tier.reserve(3 * kMiB).ok());
  EXPECT_EQ(file_->size(), 3 * kMiB);
  ASSERT_TRUE(tier.allocate(3 * kMiB).ok());
  EXPECT_EQ(file_->size(), 3 * kMiB);
  ASSERT_TRUE(tier.allocate(4096).ok());
  EXPECT_EQ(file_->size(), 3 * kMiB + DiskTier::kExtent);
}

TEST_F(DiskTierTest, TheBudgetIsNeverPassed) {
  DiskTier tier(*file_, 12 * kMiB);
  const Place a = tier.allocate(8 * kMiB).value();
  EXPECT_EQ(file_->size(), 12 * kMiB);
  ASSERT_TRUE(tier.allocate(2 * kMiB).ok());
  const auto refused = tier.allocate(8 * kMiB);
  EXPECT_EQ(refused.status().code(), StatusCode::kOutOfRoom);
  EXPECT_THAT(refused.status().message(),
              AllOf(HasSubstr("8.0 MiB"), HasSubstr("10.0 MiB of the disk budget of 12.0 MiB"),
                    HasSubstr("free piece has 2.0 MiB"), HasSubstr(dir_.path()), HasSubstr("raise the disk budget")));
  EXPECT_EQ(tier.in_use(), 10 * kMiB);
  tier.free(a, 8 * kMiB);
  EXPECT_EQ(tier.allocate(8 * kMiB).value(), a);
  EXPECT_TRUE(tier.allocate(2 * kMiB).ok());
  EXPECT_EQ(tier.reserve(13 * kMiB).code(), StatusCode::kOutOfRoom);
  EXPECT_EQ(file_->size(), 12 * kMiB);
}

TEST_F(DiskTierTest, OnANearlyFullDiskItTakesOnlyWhatItNeeds) {
  DiskTier tier(*file_, 0);
  ops_.set_free_bytes(20 * kMiB);
  ASSERT_TRUE(tier.allocate(8 * kMiB).ok());
  EXPECT_EQ(file_->size(), 8 * kMiB);
  ops_.set_free_bytes(12 * kMiB);
  const auto refused = tier.allocate(16 * kMiB);
  EXPECT_EQ(refused.status().code(), StatusCode::kOutOfRoom);
  EXPECT_THAT(refused.status().message(),
              AllOf(HasSubstr("16.0 MiB more"), HasSubstr("12.0 MiB free"), HasSubstr("--spill-dir")));
  EXPECT_EQ(tier.in_use(), 8 * kMiB);
  EXPECT_TRUE(tier.allocate(12 * kMiB).ok());
}

TEST_F(DiskTierTest, PreallocationThatFailsLeavesTheTierAsItWas) {
  DiskTier tier(*file_, 0);
  ops_.fail_every(FileCall::kPreallocate, 1, ENOSPC);
  EXPECT_EQ(tier.allocate(kMiB).status().code(), StatusCode::kOutOfRoom);
  EXPECT_EQ(tier.reserve(kMiB).code(), StatusCode::kOutOfRoom);
  ops_.fail_every(FileCall::kPreallocate, 1, EIO);
  EXPECT_EQ(tier.allocate(kMiB).status().code(), StatusCode::kIoError);
  EXPECT_EQ(tier.in_use(), 0);
  ops_.fail_every(FileCall::kPreallocate, 0, 0);
  EXPECT_EQ(tier.allocate(kMiB).value().value, 0u);
}

TEST_F(DiskTierTest, RandomOperationsNeverOverlap) {
  constexpr std::uint64_t kSeed = 20240;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937_64 random(kSeed);
  constexpr Bytes kCapacity = 64 * kMiB;
  DiskTier tier(*file_, kCapacity);
  std::map<Bytes, Bytes> model;  // offset -> bytes
  Bytes in_use = 0;
  int refused = 0;
  for (int step = 0; step < 20000; ++step) {
    if (model.empty() || random() % 5 < 3) {
      const Bytes bytes = static_cast<Bytes>(1 + random() % 600) * kPayloadAlignment;
      const auto place = tier.allocate(bytes);
      if (!place.ok()) {
        ASSERT_EQ(place.status().code(), StatusCode::kOutOfRoom);
        ++refused;
        continue;
      }
      const Bytes offset = static_cast<Bytes>(place.value().value);
      ASSERT_EQ(offset % kPayloadAlignment, 0);
      ASSERT_LE(offset + bytes, file_->size());
      const auto next = model.lower_bound(offset);
      ASSERT_TRUE(next == model.end() || offset + bytes <= next->first);
      ASSERT_TRUE(next == model.begin() || std::prev(next)->first + std::prev(next)->second <= offset);
      model.emplace(offset, bytes);
      in_use += bytes;
    } else {
      const auto victim = std::next(model.begin(), static_cast<std::ptrdiff_t>(random() % model.size()));
      tier.free(Place{static_cast<std::uint64_t>(victim->first)}, victim->second);
      in_use -= victim->second;
      model.erase(victim);
    }
    ASSERT_EQ(tier.in_use(), in_use);
    ASSERT_LE(file_->size(), kCapacity);
  }
  EXPECT_GT(refused, 100);
  for (const auto& [offset, bytes] : model) tier.free(Place{static_cast<std::uint64_t>(offset)}, bytes);
  EXPECT_EQ(tier.allocate(kCapacity).value().value, 0u);  // everything joined again
}

TEST_F(DiskTierTest, SeveralThreads) {
  DiskTier tier(*file_, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&tier] {
      std::vector<Place> places;
      for (int i = 0; i < 200; ++i) {
        places.push_back(tier.allocate(8192).value());
        if (i % 3 == 0) {
          tier.free(places.front(), 8192);
          places.erase(places.begin());
        }
      }
      for (const Place place : places) tier.free(place, 8192);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(tier.in_use(), 0);
}

TEST_F(DiskTierTest, BrokenPreconditionsEndTheProcess) {
  DiskTier tier(*file_, 0);
  const Place place = tier.allocate(8192).value();
  ASSERT_TRUE(tier.allocate(4096).ok());
  EXPECT_DEATH((void)tier.allocate(100), "broken invariant");
  EXPECT_DEATH((void)tier.allocate(0), "broken invariant");
  tier.free(place, 8192);
  EXPECT_DEATH(tier.free(place, 8192), "broken invariant");
}

}  // namespace
}  // namespace patrickstar
