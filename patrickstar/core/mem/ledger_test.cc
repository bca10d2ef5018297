#include "patrickstar/core/mem/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace patrickstar {
namespace {

TEST(Ledger, TheBudgetIsTheMostThereCanBe) {
  Ledger ledger(100);
  EXPECT_TRUE(ledger.try_charge(Account::kChunks, 60));
  EXPECT_FALSE(ledger.try_charge(Account::kNonModel, 41));
  EXPECT_EQ(ledger.total(), 60);
  EXPECT_EQ(ledger.in(Account::kNonModel), 0);
  EXPECT_TRUE(ledger.try_charge(Account::kNonModel, 40));  // to the last byte
  EXPECT_EQ(ledger.room(), 0);
  EXPECT_FALSE(ledger.try_charge(Account::kStaging, 1));
  ledger.release(Account::kChunks, 60);
  EXPECT_EQ(ledger.room(), 60);
  EXPECT_EQ(ledger.peaks().total, 100);
  EXPECT_EQ(ledger.peaks().model, 60);
  EXPECT_EQ(ledger.peaks().non_model, 40);
}

TEST(Ledger, AMoveKeepsTheSum) {
  Ledger ledger(100);
  ASSERT_TRUE(ledger.try_charge(Account::kFree, 80));
  ledger.move(Account::kFree, Account::kNonModel, 30);
  EXPECT_EQ(ledger.in(Account::kFree), 50);
  EXPECT_EQ(ledger.in(Account::kNonModel), 30);
  EXPECT_EQ(ledger.total(), 80);
  EXPECT_EQ(ledger.peaks().non_model, 30);
}

TEST(Ledger, NeededIsWhatNoEvictionCouldHaveGivenBack) {
  Ledger ledger(1000);
  ASSERT_TRUE(ledger.try_charge(Account::kChunks, 500));
  ASSERT_TRUE(ledger.try_charge(Account::kNonModel, 100));
  ASSERT_TRUE(ledger.try_charge(Account::kStaging, 10));
  EXPECT_EQ(ledger.peaks().needed, 110);
  ledger.pin(200);
  EXPECT_EQ(ledger.pinned(), 200);
  EXPECT_EQ(ledger.peaks().needed, 310);
  ledger.unpin(200);
  ledger.release(Account::kNonModel, 100);
  ledger.pin(250);
  EXPECT_EQ(ledger.peaks().needed, 310);  // 260 now
  ledger.unpin(250);
  EXPECT_EQ(ledger.pinned(), 0);
}

TEST(Ledger, ABlockIsNeededOnceMoreBecauseItIsContiguous) {
  Ledger ledger(1000);
  ASSERT_TRUE(ledger.try_charge(Account::kFree, 400));
  EXPECT_EQ(ledger.peaks().needed_with_block, 0);  // pages without a block
  ledger.move(Account::kFree, Account::kNonModel, 100);
  EXPECT_EQ(ledger.peaks().needed_with_block, 200);
  ledger.move(Account::kNonModel, Account::kFree, 100);
  EXPECT_EQ(ledger.peaks().needed_with_block, 200);
  ledger.move(Account::kFree, Account::kChunks, 80);
  EXPECT_EQ(ledger.peaks().needed_with_block, 200);  // 80: it could have been evicted
  ledger.pin(80);
  ledger.move(Account::kFree, Account::kChunks, 50);
  ledger.pin(50);
  EXPECT_EQ(ledger.peaks().needed_with_block, 210);  // of those that are leased together, the largest
  ledger.unpin(50);
  ledger.unpin(80);
  ledger.pin(50);
  EXPECT_EQ(ledger.peaks().needed_with_block, 210);  // 100 now
  ledger.note_refused(100);
  EXPECT_EQ(ledger.peaks().needed, 150);
  EXPECT_EQ(ledger.peaks().needed_with_block, 250);
  EXPECT_EQ(ledger.pinned(), 50);
}

TEST(Ledger, TheTableSaysWhoHoldsWhat) {
  Ledger ledger(Bytes{3} << 30);
  ASSERT_TRUE(ledger.try_charge(Account::kChunks, 2 * kMiB));
  ASSERT_TRUE(ledger.try_charge(Account::kNonModel, 5 * kMiB));
  ledger.pin(kMiB);
  EXPECT_THAT(ledger.table(),
              testing::AllOf(testing::HasSubstr("budget 3.00 GiB"), testing::HasSubstr("chunks 2.0 MiB (1.0 MiB leased)"),
                             testing::HasSubstr("non-model 5.0 MiB")));
}

TEST(LedgerDeathTest, BytesThatAreNotThereCannotBeGivenBack) {
  Ledger ledger(100);
  ASSERT_TRUE(ledger.try_charge(Account::kChunks, 10));
  EXPECT_DEATH(ledger.release(Account::kChunks, 11), "broken invariant");
  EXPECT_DEATH(ledger.move(Account::kNonModel, Account::kChunks, 1), "broken invariant");
  EXPECT_DEATH(ledger.unpin(1), "broken invariant");
}

TEST(Ledger, ThreadsNeverCrossTheBudgetTogether) {
  Ledger ledger(64);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&ledger, t] {
      for (int i = 0; i < 2000; ++i) {
        if (!ledger.try_charge(Account::kNonModel, 20)) continue;
        if (t == 0) ledger.pin(3);
        if (t == 0) ledger.unpin(3);
        ledger.release(Account::kNonModel, 20);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ledger.total(), 0);
  EXPECT_LE(ledger.peaks().total, 64);
}

}  // namespace
}  // namespace patrickstar
