#include "patrickstar/core/io/testing/faulty_file_ops.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <thread>

#include "patrickstar/core/io/testing/link_fixture.h"

namespace patrickstar {
namespace {

class FaultyFileOpsTest : public testing::Test {
 protected:
  void SetUp() override {
    fd_ = ops_.open_scratch(dir_.path());
    ASSERT_GE(fd_, 0);
    data_.fill_random(1);
  }
  void TearDown() override {
    ops_.close(fd_);
    EXPECT_EQ(ops_.open_files(), 0);
  }
  TempDir dir_;
  FaultyFileOps ops_;
  int fd_ = -1;
  Buffer data_{16384};
};

TEST_F(FaultyFileOpsTest, EveryThirdWriteFailsAndReadsAreLeftAlone) {
  ops_.fail_every(FileCall::kWrite, 3, EIO);
  std::vector<std::int64_t> results;
  for (int i = 0; i < 7; ++i) results.push_back(ops_.pwrite(fd_, data_.data(), 4096, i * 4096));
  EXPECT_EQ(results, (std::vector<std::int64_t>{4096, 4096, -EIO, 4096, 4096, -EIO, 4096}));
  EXPECT_EQ(ops_.pread(fd_, data_.data(), 4096, 0), 4096);
  EXPECT_EQ(ops_.calls(FileCall::kWrite), 7);
  EXPECT_EQ(ops_.injected(FileCall::kWrite), 2);
  EXPECT_EQ(ops_.injected(FileCall::kRead), 0);
  ops_.fail_every(FileCall::kWrite, 0, 0);
  EXPECT_EQ(ops_.pwrite(fd_, data_.data(), 4096, 0), 4096);
}

TEST_F(FaultyFileOpsTest, AFailedWriteWritesNothing) {
  ops_.fail_every(FileCall::kWrite, 1, ENOSPC);
  EXPECT_EQ(ops_.pwrite(fd_, data_.data(), 4096, 0), -ENOSPC);
  EXPECT_EQ(ops_.pread(fd_, data_.data(), 4096, 0), 0);  // still empty
}

TEST_F(FaultyFileOpsTest, ShortTransfers) {
  ops_.shorten_every(FileCall::kWrite, 2, 5000);
  EXPECT_EQ(ops_.pwrite(fd_, data_.data(), 16384, 0), 16384);
  EXPECT_EQ(ops_.pwrite(fd_, data_.data(), 16384, 0), 5000);
  ops_.shorten_every(FileCall::kRead, 1, 4096);
  EXPECT_EQ(ops_.pread(fd_, data_.data(), 16384, 0), 4096);
}

TEST_F(FaultyFileOpsTest, OtherCallsFailToo) {
  ops_.fail_every(FileCall::kOpen, 1, EACCES);
  EXPECT_EQ(ops_.open_scratch(dir_.path()), -EACCES);
  ops_.fail_every(FileCall::kSetCaching, 1, EINVAL);
  EXPECT_EQ(ops_.set_caching(fd_, Caching::kDirect), -EINVAL);
  ops_.fail_every(FileCall::kPreallocate, 1, ENOSPC);
  EXPECT_EQ(ops_.preallocate(fd_, 0, 4096), -ENOSPC);
  EXPECT_GT(ops_.free_bytes(dir_.path()), 0);
  ops_.set_free_bytes(12345);
  EXPECT_EQ(ops_.free_bytes(dir_.path()), 12345);
}

TEST_F(FaultyFileOpsTest, ReadsAndWritesOfARing) {
  ops_.fail_every(FileCall::kRead, 2, EIO);
  ops_.shorten_every(FileCall::kWrite, 2, 5000);
  EXPECT_EQ(ops_.submitting(IoKind::kWrite, 65536), 65536);
  EXPECT_EQ(ops_.submitting(IoKind::kWrite, 65536), 8192);  // whole blocks
  EXPECT_EQ(ops_.submitting(IoKind::kRead, 65536), 65536);
  EXPECT_EQ(ops_.completed(IoKind::kRead, 8192), 8192);
  EXPECT_EQ(ops_.completed(IoKind::kRead, 8192), -EIO);
  EXPECT_EQ(ops_.completed(IoKind::kWrite, -EINVAL), -EINVAL);  // a real error stays
}

TEST_F(FaultyFileOpsTest, AGateHoldsCallsUntilReleased) {
  ops_.hold(FileCall::kWrite);
  std::thread writer([&] { EXPECT_EQ(ops_.pwrite(fd_, data_.data(), 4096, 0), 4096); });
  ops_.wait_until_held(FileCall::kWrite, 1);
  EXPECT_EQ(ops_.pread(fd_, data_.data(), 4096, 0), 0);  // not written yet
  ops_.release(FileCall::kWrite);
  writer.join();
  EXPECT_EQ(ops_.pread(fd_, data_.data(), 4096, 0), 4096);
}

}  // namespace
}  // namespace patrickstar
