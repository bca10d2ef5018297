#include "patrickstar/core/io/file_ops.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>

#include "patrickstar/core/io/testing/link_fixture.h"

namespace patrickstar {
namespace {

class PosixFileOpsTest : public testing::TestWithParam<PosixFileOps::Features> {
 protected:
  struct stat stat_of(int fd) {
    struct stat info {};
    EXPECT_EQ(::fstat(fd, &info), 0);
    return info;
  }
  TempDir dir_;
  PosixFileOps ops_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Features, PosixFileOpsTest,
                         testing::Values(PosixFileOps::Features::kBest, PosixFileOps::Features::kPortable),
                         [](const auto& instance) {
                           return instance.param == PosixFileOps::Features::kBest ? "Best" : "Portable";
                         });

TEST_P(PosixFileOpsTest, TheScratchFileHasNoNameAndBelongsToItsUserAlone) {
  const int fd = ops_.open_scratch(dir_.path());
  ASSERT_GE(fd, 0);
  const struct stat info = stat_of(fd);
  EXPECT_EQ(info.st_nlink, 0u);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(dir_.entries(), 0);
  ops_.close(fd);
}

TEST_P(PosixFileOpsTest, PreallocatedBlocksAreReal) {
  const int fd = ops_.open_scratch(dir_.path());
  ASSERT_GE(fd, 0);
  ASSERT_EQ(ops_.preallocate(fd, 0, 3 * kMiB + 4096), 0);
  ASSERT_EQ(ops_.preallocate(fd, 3 * kMiB + 4096, 5 * kMiB), 0);
  EXPECT_EQ(stat_of(fd).st_size, 5 * kMiB);
  EXPECT_GE(stat_of(fd).st_blocks * 512, 5 * kMiB);
  ops_.close(fd);
}

TEST_P(PosixFileOpsTest, PreallocationWorksUnderDirectIo) {
  const int fd = ops_.open_scratch(dir_.path());
  ASSERT_GE(fd, 0);
  if (ops_.set_caching(fd, Caching::kDirect) != 0) GTEST_SKIP() << dir_.path() << " does not take O_DIRECT";
  EXPECT_EQ(ops_.preallocate(fd, 0, kMiB + 4096), 0);
  ops_.close(fd);
}

TEST_P(PosixFileOpsTest, BeyondTheFileSizeLimitIsAnErrorAndNotASignal) {
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small{kMiB, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const int fd = ops_.open_scratch(dir_.path());
  EXPECT_EQ(ops_.preallocate(fd, 0, kMiB), 0);
  EXPECT_EQ(ops_.preallocate(fd, kMiB, 2 * kMiB), -EFBIG);
  EXPECT_EQ(stat_of(fd).st_size, kMiB);
  ops_.close(fd);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
}

// A really full disk: a tmpfs of 1 MiB that only a child process sees.
TEST_P(PosixFileOpsTest, AFailedPreallocationKeepsTheLengthAndGivesBlocksBack) {
  constexpr int kNoMount = 77;
  int code = -1;
  const auto attempt = [this] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("io_test", dir_.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
      std::_Exit(kNoMount);
    }
    const int fd = ops_.open_scratch(dir_.path());
    if (fd < 0 || ops_.preallocate(fd, 0, 256 * kKiB) != 0) std::_Exit(1);
    if (ops_.preallocate(fd, 256 * kKiB, 2 * kMiB) != -ENOSPC) std::_Exit(2);
    if (stat_of(fd).st_size != 256 * kKiB || stat_of(fd).st_blocks * 512 != 256 * kKiB) std::_Exit(3);
    std::_Exit(ops_.preallocate(fd, 256 * kKiB, 512 * kKiB) == 0 ? 0 : 4);
  };
  const auto remember = [&code](int status) {
    code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return code == 0 || code == kNoMount;
  };
  EXPECT_EXIT(attempt(), remember, "");
  if (code == kNoMount) GTEST_SKIP() << "this user or container may not mount a tmpfs";
}

TEST_P(PosixFileOpsTest, ErrorsOfOpening) {
  EXPECT_EQ(ops_.open_scratch(dir_.path() + "/none"), -ENOENT);
  EXPECT_EQ(ops_.open_scratch("/dev/null"), -ENOTDIR);
  EXPECT_EQ(dir_.entries(), 0);
}

TEST_P(PosixFileOpsTest, FreeBytes) {
  EXPECT_GT(ops_.free_bytes(dir_.path()), 0);
  EXPECT_EQ(ops_.free_bytes(dir_.path() + "/none"), -ENOENT);
  EXPECT_EQ(ops_.free_bytes("/proc"), -ENOSYS);
}

}  // namespace
}  // namespace patrickstar
