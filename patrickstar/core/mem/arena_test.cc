#include "patrickstar/core/mem/arena.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "patrickstar/core/testing/counting_pages.h"
#include "patrickstar/core/testing/seed.h"

namespace patrickstar {
namespace {

constexpr Bytes kEverything = INT64_MAX;
constexpr Account kAccountsOfBlocks[] = {Account::kChunks, Account::kStaging, Account::kNonModel};

struct TestArena {
  explicit TestArena(Bytes budget, Bytes space = 512 * kMiB, std::int64_t most_moved_pages = 8192) : ledger(budget) {
    auto made = Arena::create(&pages, &ledger, space, most_moved_pages);
    EXPECT_TRUE(made.ok());
    arena = std::move(made).value();
  }
  std::byte* allocate(Bytes bytes, Account account = Account::kNonModel) { return arena->try_allocate(bytes, account).address; }

  CountingPages pages;
  Ledger ledger;
  std::unique_ptr<Arena> arena;
};

// Blocks that are there, with a tag in every granule: two that overlap would show.
class ArenaModel {
 public:
  ArenaModel(Bytes budget, std::uint32_t seed) : random_(seed), pool_(budget, 512 * kMiB, 1 + budget / kPageBytes / 2) {}
  ~ArenaModel() {
    while (!blocks_.empty()) free_any();
  }

  void operate() {
    switch (random_() % 16) {
      case 0: pool_.arena->trim(kEverything); break;
      case 1:
      case 2: reclassify(); break;
      case 3:
        (random_() % 2 == 0 ? pool_.pages.commits() : pool_.pages.refused_moves())
            .arm(1 + static_cast<std::int64_t>(random_() % 3));
        break;
      case 4:
      case 5:
      case 6:
      case 7:
      case 8: free_any(); break;
      default: allocate();
    }
    check();
  }

  std::int64_t refused_commits() { return pool_.pages.commits().injected(); }
  int refused_by_budget() const { return refused_by_budget_; }
  std::int64_t decommits() const { return pool_.pages.decommits(); }
  std::int64_t moves() const { return pool_.pages.moves(); }
  std::int64_t refused_moves() { return pool_.pages.refused_moves().injected(); }

 private:
  struct Block {
    Bytes bytes;
    Account account;
    std::uint64_t tag;
  };

  Bytes any_size() {
    switch (random_() % 6) {
      case 0: return 1 + static_cast<Bytes>(random_() % (5 * kMiB));
      case 1: return kMiB;  // one size again and again, as chunks have
      case 2: return kPageBytes * (1 + static_cast<Bytes>(random_() % 2));
      default: return 1 + static_cast<Bytes>(random_() % (200 * kKiB));
    }
  }

  void allocate() {
    const Bytes bytes = any_size();
    const Account account = kAccountsOfBlocks[random_() % 3];
    const std::int64_t refused = pool_.pages.commits().injected();
    const Bytes total = pool_.ledger.total();
    for (;;) {
      const Arena::Allocation allocation = pool_.arena->try_allocate(bytes, account);
      if (allocation.address != nullptr) return remember(allocation.address, bytes, account);
      if (!allocation.status.ok()) {
        ASSERT_EQ(pool_.pages.commits().injected(), refused + 1);
        // Free pages may have been given back for it; nothing else changed.
        ASSERT_LE(pool_.ledger.total(), std::max(total, pool_.ledger.budget()));
        return check();
      }
      ++refused_by_budget_;
      ASSERT_GT(allocation.shortfall, 0);
      ASSERT_EQ(allocation.shortfall, pool_.arena->shortfall(bytes, account));
      if (blocks_.empty()) {  // then only a size beyond the budget may be refused
        ASSERT_GT(round_up(bytes, kPageBytes), pool_.ledger.budget());
        return;
      }
      if (random_() % 2 == 0) return;
      for (Bytes freed = 0; freed < allocation.shortfall && !blocks_.empty();) freed += free_any();
    }
  }

  void remember(std::byte* at, Bytes bytes, Account account) {
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(at) % Arena::kGranularity, 0u);
    ASSERT_TRUE(pool_.arena->owns(at));
    const Bytes whole = pool_.arena->block_bytes(at);
    ASSERT_EQ(whole, round_up(bytes, Arena::kGranularity));
    const Block block{whole, account, ++last_tag_};
    for (Bytes i = 0; i < whole; i += Arena::kGranularity) std::memcpy(at + i, &block.tag, sizeof block.tag);
    ASSERT_TRUE(blocks_.emplace(at, block).second);
  }

  void expect_intact(const std::byte* at, const Block& block) {
    for (Bytes i = 0; i < block.bytes; i += Arena::kGranularity) {
      ASSERT_EQ(std::memcmp(at + i, &block.tag, sizeof block.tag), 0) << "granule " << i / Arena::kGranularity;
    }
  }

  auto any_block() { return std::next(blocks_.begin(), static_cast<std::ptrdiff_t>(random_() % blocks_.size())); }

  Bytes free_any() {
    if (blocks_.empty()) return 0;
    const auto chosen = any_block();
    const Bytes bytes = chosen->second.bytes;
    expect_intact(chosen->first, chosen->second);
    pool_.arena->free(chosen->first);
    blocks_.erase(chosen);
    return bytes;
  }

  void reclassify() {
    if (blocks_.empty()) return;
    const auto chosen = any_block();
    chosen->second.account = kAccountsOfBlocks[random_() % 3];
    pool_.arena->reclassify(chosen->first, chosen->second.account);
  }

  void check() {
    pool_.arena->check_invariants();
    ASSERT_EQ(pool_.ledger.total(), pool_.pages.committed_bytes());
    ASSERT_LE(pool_.pages.peak_bytes(), pool_.ledger.budget());
    std::map<Account, Bytes> sums;
    for (const auto& [at, block] : blocks_) sums[block.account] += block.bytes;
    for (const Account account : kAccountsOfBlocks) ASSERT_EQ(pool_.ledger.in(account), sums[account]);
  }

  std::mt19937 random_;
  TestArena pool_;
  std::map<std::byte*, Block> blocks_;
  std::uint64_t last_tag_ = 0;
  int refused_by_budget_ = 0;
};

class ArenaAgainstModel : public testing::TestWithParam<Bytes> {};

TEST_P(ArenaAgainstModel, HoldsAfterEveryOperation) {
  const std::uint32_t seed = test_seed(11);
  SCOPED_TRACE("PATRICKSTAR_SEED=" + std::to_string(seed));
  ArenaModel model(GetParam() * kMiB, seed);
  for (int i = 0; i < 4000; ++i) {
    SCOPED_TRACE("operation " + std::to_string(i));
    model.operate();
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(model.refused_commits(), 10);
  EXPECT_GT(model.refused_by_budget(), GetParam() < 40 ? 50 : 0);
  EXPECT_GT(model.decommits(), 20);
  if (GetParam() > 2 && GetParam() < 40) {  // with one page, or too many, none is moved, or hardly
    EXPECT_GT(model.moves(), 20);
    EXPECT_GT(model.refused_moves(), 2);
  }
}

INSTANTIATE_TEST_SUITE_P(Budgets, ArenaAgainstModel, testing::Values(2, 4, 7, 12, 40),
                         [](const auto& test) { return std::to_string(test.param) + "MiB"; });

TEST(Arena, AFreeBlockThatKeepsItsPagesCounts) {
  TestArena pool(8 * kMiB);
  std::byte* block = pool.allocate(3 * kMiB);
  EXPECT_EQ(pool.ledger.in(Account::kNonModel), 3 * kMiB);
  EXPECT_EQ(pool.ledger.in(Account::kFree), kMiB);
  pool.arena->free(block);
  block = pool.allocate(4 * kMiB, Account::kChunks);
  EXPECT_EQ(pool.ledger.in(Account::kChunks), 4 * kMiB);
  pool.arena->free(block);
  EXPECT_EQ(pool.ledger.in(Account::kFree), 4 * kMiB);
  EXPECT_EQ(pool.pages.committed_bytes(), 4 * kMiB);
  const std::int64_t commits = pool.pages.commits().calls();
  block = pool.allocate(2 * kMiB);
  EXPECT_EQ(pool.pages.commits().calls(), commits);  // room that chunks left serves a tensor without a system call
  pool.arena->free(block);
  pool.arena->trim(kEverything);
  EXPECT_EQ(pool.ledger.total(), 0);
  EXPECT_EQ(pool.pages.committed_bytes(), 0);
}

// [Note: moved pages]
TEST(Arena, FreePagesAreMovedOrGoBackWhenABlockNeedsTheBudgetElsewhere) {
  for (const std::int64_t refused : {0, 1, 2}) {  // 0: none of them
    SCOPED_TRACE(refused);
    TestArena pool(8 * kMiB);
    std::byte* a = pool.allocate(2 * kMiB);
    std::byte* wall = pool.allocate(2 * kMiB);
    std::byte* b = pool.allocate(2 * kMiB);
    std::byte* wall2 = pool.allocate(2 * kMiB);
    pool.arena->free(a);
    pool.arena->free(b);  // 4 MiB are free, but not side by side
    EXPECT_EQ(pool.arena->shortfall(4 * kMiB, Account::kNonModel), 0);
    if (refused > 0) pool.pages.refused_moves().arm(refused);
    const std::int64_t commits = pool.pages.commits().calls();
    std::byte* large = pool.allocate(4 * kMiB);
    ASSERT_NE(large, nullptr);
    std::memset(large, 7, 4 * kMiB);
    EXPECT_EQ(pool.pages.moves(), refused == 0 ? 2 : refused - 1);
    EXPECT_EQ(pool.pages.decommits(), refused == 0 ? 0 : 3 - refused) << "what cannot be moved is given back and committed";
    EXPECT_EQ(pool.pages.commits().calls() - commits, refused == 0 ? 0 : 1);
    EXPECT_EQ(pool.ledger.total(), 8 * kMiB);
    EXPECT_EQ(pool.pages.committed_bytes(), 8 * kMiB);
    EXPECT_EQ(pool.pages.peak_bytes(), 8 * kMiB);
    pool.arena->check_invariants();
    for (std::byte* block : {wall, wall2, large}) pool.arena->free(block);
    pool.arena->check_invariants();
  }
}

// A page is taken, its memory moved on and the place given back, more often than there may be moved pages.
TEST(Arena, WhereThereMayBeNoMoreMovedPagesTheOldOnesStillMove) {
  TestArena pool(4 * kMiB, 512 * kMiB, 1);
  for (int round = 0; round < 5; ++round) {
    SCOPED_TRACE(round);
    std::byte* chunk = pool.allocate(2 * kMiB + 4096, Account::kChunks);  // in the second zone: three pages' worth of room in two
    ASSERT_NE(chunk, nullptr);
    pool.arena->free(chunk);
    std::byte* tensor = pool.allocate(4 * kMiB);  // in the first
    ASSERT_NE(tensor, nullptr);
    pool.arena->free(tensor);
    pool.arena->check_invariants();
  }
  EXPECT_GE(pool.pages.moves(), 9) << "one of the two pages each time, there and back";
  EXPECT_GE(pool.pages.decommits(), 9) << "the other one";
}

TEST(Arena, APageThatTheSystemDoesNotTakeBackStaysCharged) {
  TestArena pool(8 * kMiB);
  pool.arena->free(pool.allocate(4 * kMiB));
  pool.pages.refused_decommits().arm(1);
  EXPECT_TRUE(pool.arena->trim(2 * kMiB)) << "the other one goes";
  EXPECT_EQ(pool.pages.refused_decommits().injected(), 1);
  EXPECT_EQ(pool.ledger.total(), 2 * kMiB);
  EXPECT_EQ(pool.pages.committed_bytes(), 2 * kMiB);
  pool.pages.refused_decommits().arm(1);
  EXPECT_FALSE(pool.arena->trim(2 * kMiB));
  EXPECT_EQ(pool.ledger.total(), 2 * kMiB);
  pool.arena->trim(kEverything);
  EXPECT_EQ(pool.ledger.total(), 0);
}

TEST(Arena, NoMorePagesGoBackThanAreAskedFor) {
  TestArena pool(8 * kMiB);
  pool.arena->free(pool.allocate(8 * kMiB));
  EXPECT_TRUE(pool.arena->trim(64 * kKiB));
  EXPECT_EQ(pool.ledger.in(Account::kFree), 6 * kMiB);
  EXPECT_FALSE(pool.arena->trim(8 * kMiB));
  EXPECT_EQ(pool.ledger.in(Account::kFree), 0);
}

// arena.h, [Note: whole pages]
TEST(Arena, AChunkOfWholePagesBeginsAtAPage) {
  TestArena pool(16 * kMiB);
  std::byte* tensor = pool.allocate(192 * kKiB);
  std::byte* chunk = pool.allocate(2 * kPageBytes, Account::kChunks);
  EXPECT_EQ(pool.ledger.total(), 3 * kPageBytes);
  EXPECT_EQ((chunk - pool.arena->base()) % kPageBytes, 0);
  pool.arena->free(chunk);
  std::byte* in_the_hole = pool.allocate(64 * kKiB);  // and again where a committed hole begins within a page
  chunk = pool.allocate(2 * kPageBytes, Account::kChunks);
  EXPECT_EQ(pool.ledger.total(), 3 * kPageBytes);
  EXPECT_EQ((chunk - pool.arena->base()) % kPageBytes, 0);
  for (std::byte* block : {tensor, chunk, in_the_hole}) pool.arena->free(block);
}

TEST(Arena, ChunksThatEndWithinAPageShareItThoughTilesComeBetween) {
  TestArena pool(64 * kMiB);
  const Bytes bit = 64 * kKiB;
  std::vector<std::byte*> chunks, tiles;
  for (int i = 0; i < 8; ++i) {
    chunks.push_back(pool.allocate(kPageBytes + bit, Account::kChunks));
    tiles.push_back(pool.allocate(kPageBytes, Account::kChunks));
  }
  for (std::byte* tile : tiles) pool.arena->free(tile);
  pool.arena->trim(kEverything);
  EXPECT_EQ(pool.ledger.in(Account::kFree), kPageBytes - 8 * bit);
  for (std::byte* chunk : chunks) pool.arena->free(chunk);
}

TEST(Arena, WhereTheBudgetLeavesNothingElseAnyHoleWillDo) {
  TestArena pool(3 * kPageBytes);
  std::byte* chunk = pool.allocate(kPageBytes + 64 * kKiB, Account::kChunks);
  std::byte* tensor = pool.allocate(kPageBytes);
  std::byte* beside_the_chunk = pool.allocate(kMiB);
  ASSERT_NE(beside_the_chunk, nullptr);
  EXPECT_EQ(pool.ledger.total(), 3 * kPageBytes);
  for (std::byte* block : {chunk, tensor, beside_the_chunk}) pool.arena->free(block);
  pool.arena->trim(kEverything);

  std::byte* small = pool.allocate(64 * kKiB);  // its page and two more, where two whole zones would need four
  std::byte* long_chunk = pool.allocate(2 * kPageBytes + 64 * kKiB, Account::kChunks);
  ASSERT_NE(long_chunk, nullptr);
  for (std::byte* block : {small, long_chunk}) pool.arena->free(block);
  pool.arena->trim(kEverything);

  std::byte* wall = pool.allocate(64 * kKiB);
  std::byte* hole = pool.allocate(2 * kPageBytes);
  std::byte* wall2 = pool.allocate(kPageBytes - 128 * kKiB);
  pool.arena->free(hole);  // of two pages' length, but no two whole pages
  EXPECT_EQ(pool.arena->shortfall(2 * kPageBytes, Account::kChunks), 0);
  std::byte* within = pool.allocate(2 * kPageBytes, Account::kChunks);
  EXPECT_EQ(within, hole);
  for (std::byte* block : {wall, wall2, within}) pool.arena->free(block);
}

// A page that a tensor keeps is lost to whole chunks.
TEST(Arena, TensorsAmongSmallChunksKeepAsFewPagesAsTheyCan) {
  TestArena pool(4 * kPageBytes);
  std::vector<std::byte*> chunks;
  for (int i = 0; i < 32; ++i) chunks.push_back(pool.allocate(256 * kKiB, Account::kChunks));
  ASSERT_EQ(pool.ledger.room(), 0);
  std::vector<std::byte*> tensors;
  const auto free_chunk = [&](std::size_t i) { pool.arena->free(std::exchange(chunks[i], nullptr)); };
  for (const std::size_t i : {3u, 4u, 5u, 11u, 19u, 27u}) free_chunk(i);  // holes in all four pages, the smallest above
  for (int i = 0; i < 3; ++i) tensors.push_back(pool.allocate(256 * kKiB));
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    if (chunks[i] != nullptr) free_chunk(i);
  }
  EXPECT_EQ(pool.arena->shortfall(3 * kPageBytes, Account::kChunks), 0);
  pool.arena->check_invariants();
  for (std::byte* tensor : tensors) pool.arena->free(tensor);
}

TEST(Arena, ARefusedCommitTakesNothing) {
  TestArena pool(8 * kMiB);
  pool.pages.commits().arm(1);
  const auto refused = pool.arena->try_allocate(kMiB, Account::kChunks);
  EXPECT_EQ(refused.address, nullptr);
  EXPECT_EQ(refused.status.message(), "[pages] injected refusal of a commit");
  EXPECT_EQ(pool.ledger.total(), 0);
  EXPECT_EQ(pool.pages.committed_bytes(), 0);
  pool.arena->check_invariants();
  std::byte* block = pool.allocate(kMiB, Account::kChunks);
  ASSERT_NE(block, nullptr);
  pool.arena->free(block);
}

TEST(Arena, ABlockLargerThanTheBudgetIsRefusedWithWhatLacks) {
  TestArena pool(4 * kMiB);
  const auto refused = pool.arena->try_allocate(10 * kMiB, Account::kNonModel);
  EXPECT_EQ(refused.address, nullptr);
  EXPECT_TRUE(refused.status.ok());
  EXPECT_EQ(refused.shortfall, 6 * kMiB);
}

TEST(ArenaDeathTest, FreeingTwiceEndsTheProcess) {
  TestArena pool(4 * kMiB);
  std::byte* block = pool.allocate(kMiB);
  pool.arena->free(block);
  EXPECT_DEATH(pool.arena->free(block), "broken invariant");
}

TEST(Arena, ThreadsShareIt) {
  TestArena pool(16 * kMiB);
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 200; ++i) {
        std::byte* block = pool.allocate(1 + static_cast<Bytes>(random() % (3 * kMiB)));
        if (block == nullptr) continue;
        *block = static_cast<std::byte>(t);
        std::this_thread::yield();
        EXPECT_EQ(*block, static_cast<std::byte>(t));
        pool.arena->free(block);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  pool.arena->check_invariants();
  pool.arena->trim(kEverything);
  EXPECT_EQ(pool.ledger.total(), 0);
}

bool resident(const std::byte* page) {
  unsigned char vector[1] = {0};
  EXPECT_EQ(mincore(const_cast<std::byte*>(page), 1, vector), 0);
  return (vector[0] & 1) != 0;
}

TEST(MmapPages, DecommittedPagesAreNotResidentAndComeBackAsZeros) {
  MmapPages pages;
  auto base = pages.reserve(2 * kPageBytes);
  ASSERT_TRUE(base.ok());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(base.value()) % kPageBytes, 0u);
  ASSERT_TRUE(pages.commit(base.value(), kPageBytes).ok());
  std::memset(base.value(), 1, static_cast<std::size_t>(kPageBytes));
  EXPECT_TRUE(resident(base.value()));
  EXPECT_FALSE(resident(base.value() + kPageBytes));
  ASSERT_TRUE(pages.decommit(base.value(), kPageBytes).ok());
  EXPECT_FALSE(resident(base.value()));
  ASSERT_TRUE(pages.commit(base.value(), kPageBytes).ok());
  EXPECT_EQ(base.value()[123], std::byte{0});
  pages.unreserve(base.value(), 2 * kPageBytes);
}

TEST(MmapPages, AMovedPageTakesItsMemoryAlong) {
  MmapPages pages;
  auto reserved = pages.reserve(8 * kPageBytes);
  ASSERT_TRUE(reserved.ok());
  std::byte* const from = reserved.value() + kPageBytes;
  std::byte* const to = reserved.value() + 4 * kPageBytes;
  ASSERT_TRUE(pages.commit(from, kPageBytes).ok());
  for (Bytes i = 0; i < kPageBytes; ++i) from[i] = static_cast<std::byte>(i * 7);
  if (const Status moved = pages.move(from, to); !moved.ok()) GTEST_SKIP() << moved.message();
  for (Bytes i = 0; i < kPageBytes; ++i) ASSERT_EQ(to[i], static_cast<std::byte>(i * 7)) << "not a byte was copied or zeroed";
  EXPECT_FALSE(resident(from));
  EXPECT_TRUE(resident(to));
  EXPECT_DEATH(std::memset(from, 1, 1), "");
  ASSERT_TRUE(pages.commit(from, kPageBytes).ok()) << "and can be used again";
  std::memset(from, 3, static_cast<std::size_t>(kPageBytes));
  ASSERT_TRUE(pages.move(to, to + kPageBytes).ok());
  EXPECT_EQ(to[kPageBytes + 1], static_cast<std::byte>(7));
  ASSERT_TRUE(pages.decommit(from, kPageBytes).ok());
  ASSERT_TRUE(pages.decommit(to + kPageBytes, kPageBytes).ok());
  EXPECT_FALSE(resident(to + kPageBytes));
  pages.unreserve(reserved.value(), 8 * kPageBytes);
}

Bytes data_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "VmData:") continue;
    Bytes kib = 0;
    status >> kib;
    return kib * kKiB;
  }
  return 0;
}

// The system moves a page only with room for one more (ulimit -d), of which it takes the target's away before it looks.
TEST(MmapPages, AMoveLosesNothingUnderALimitThatLeavesNoRoom) {
  const auto child = [] {
    MmapPages pages;
    std::byte* const from = pages.reserve(8 * kPageBytes).value();
    std::byte* const to = from + 4 * kPageBytes;
    if (!pages.commit(from, kPageBytes).ok()) std::_Exit(2);
    std::memset(from, 7, static_cast<std::size_t>(kPageBytes));
    const auto most = static_cast<rlim_t>(data_bytes() + kPageBytes / 2);
    const rlimit limit{most, most};
    if (setrlimit(RLIMIT_DATA, &limit) != 0) std::_Exit(3);
    if (pages.move(from, to).ok()) std::_Exit(4);  // else the test is none
    if (from[kPageBytes - 1] != std::byte{7}) std::_Exit(5);
    if (pages.commit(to, kPageBytes).ok()) std::_Exit(6);  // no room, and it says so
    if (!pages.decommit(from, kPageBytes).ok()) std::_Exit(7);
    if (!pages.commit(to, kPageBytes).ok()) std::_Exit(8);  // the target is still there
    std::memset(to, 9, static_cast<std::size_t>(kPageBytes));
    std::_Exit(0);
  };
  EXPECT_EXIT(child(), testing::ExitedWithCode(0), "");
}

TEST(MmapPages, AnImpossibleReservationIsAnErrorWithAWayOut) {
  MmapPages pages;
  const auto refused = pages.reserve(Bytes{1} << 60);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("ulimit -v"), std::string::npos);
}

}  // namespace
}  // namespace patrickstar
