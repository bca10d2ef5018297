#include "patrickstar/core/io/transfer_io.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "patrickstar/core/io/scratch_file.h"
#include "patrickstar/core/io/testing/faulty_file_ops.h"
#include "patrickstar/core/io/testing/link_fixture.h"
#include "patrickstar/core/io/urgency_queue.h"

namespace patrickstar {
namespace {

TEST(IoProgress, AShortCountIsRoundedDownToWhereDirectIoCanGoOn) {
  IoProgress progress(16384);
  EXPECT_EQ(progress.advance(5000), 0);
  EXPECT_EQ(progress.done(), 4096);
  EXPECT_EQ(progress.advance(8192), 0);
  EXPECT_EQ(progress.left(), 4096);
  EXPECT_EQ(progress.advance(4096), 0);
  EXPECT_EQ(progress.left(), 0);
}

TEST(IoProgress, ErrorsEndIt) {
  EXPECT_EQ(IoProgress(4096).advance(-EIO), EIO);
  EXPECT_EQ(IoProgress(4096).advance(0), EIO);  // the end of the file
}

TEST(IoProgress, InterruptionsAreTriedAgainButNotForEver) {
  for (const std::int64_t nothing : {-EINTR, -EAGAIN, 100}) {
    IoProgress progress(8192);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(progress.advance(nothing), 0);
    ASSERT_EQ(progress.advance(4096), 0);  // progress: the count starts again
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(progress.advance(nothing), 0);
    EXPECT_EQ(progress.advance(nothing), nothing > 0 ? EIO : -nothing);
  }
}

TEST(TransferAll, GoesOnAfterShortAndInterruptedCalls) {
  TempDir dir;
  FaultyFileOps ops;
  const int fd = ops.open_scratch(dir.path());
  Buffer written(kMiB);
  Buffer read(kMiB);
  written.fill_random(7);
  ops.shorten_every(FileCall::kWrite, 1, 10000);
  ops.fail_every(FileCall::kWrite, 5, EINTR);
  ops.shorten_every(FileCall::kRead, 1, 70000);
  EXPECT_EQ(transfer_all(ops, fd, IoKind::kWrite, written.data(), kMiB, 8192), 0);
  EXPECT_EQ(transfer_all(ops, fd, IoKind::kRead, read.data(), kMiB, 8192), 0);
  EXPECT_TRUE(written == read);
  EXPECT_GT(ops.injected(FileCall::kWrite), 0);
  EXPECT_GT(ops.injected(FileCall::kRead), 10);
  EXPECT_EQ(transfer_all(ops, fd, IoKind::kRead, read.data(), kMiB, 2 * kMiB), EIO);
  ops.close(fd);
}

TEST(CheckTransferDeathTest, AddressOffsetAndLengthAreAlignedAndInTheFile) {
  TempDir dir;
  const auto file = ScratchFile::create(dir.path(), DirectIo::kAuto);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file.value()->grow_to(16384).ok());
  Buffer memory(8192);
  const auto check = [&](Place upper, std::uint64_t offset, Bytes bytes) {
    check_transfer({.upper = upper, .lower = Place{offset}, .bytes = bytes}, *file.value());
  };
  check(memory.place(4096), 12288, 4096);
  EXPECT_DEATH(check(memory.place(512), 0, 4096), "broken invariant");
  EXPECT_DEATH(check(Place{}, 0, 4096), "broken invariant");
  EXPECT_DEATH(check(memory.place(), 512, 4096), "broken invariant");
  EXPECT_DEATH(check(memory.place(), 0, 512), "broken invariant");
  EXPECT_DEATH(check(memory.place(), 0, 0), "broken invariant");
  EXPECT_DEATH(check(memory.place(), 12288, 8192), "broken invariant");
}

TEST(UrgencyQueue, DemandThenPrefetchThenWriteBackEachInOrder) {
  UrgencyQueue<int> queue;
  EXPECT_TRUE(queue.empty());
  queue.push(Urgency::kWriteBack, 5);
  queue.push(Urgency::kPrefetch, 3);
  queue.push(Urgency::kDemand, 1);
  queue.push(Urgency::kWriteBack, 6);
  queue.push(Urgency::kDemand, 2);
  queue.push(Urgency::kPrefetch, 4);
  for (int i = 1; i <= 6; ++i) {
    ASSERT_FALSE(queue.empty());
    EXPECT_EQ(queue.front(), i);
    EXPECT_EQ(queue.pop(), i);
  }
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace patrickstar
