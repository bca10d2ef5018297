#include "patrickstar/core/io/scratch_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "patrickstar/core/io/testing/faulty_file_ops.h"
#include "patrickstar/core/io/testing/link_fixture.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

class ScratchFileTest : public testing::Test {
 protected:
  TempDir dir_;
  FaultyFileOps ops_;
};

TEST_F(ScratchFileTest, LeavesNothingInTheDirectory) {
  auto file = ScratchFile::create(dir_.path(), DirectIo::kAuto);
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_TRUE(file.value()->grow_to(kMiB).ok());
  EXPECT_EQ(dir_.entries(), 0);
  struct stat info {};
  ASSERT_EQ(::fstat(file.value()->fd(), &info), 0);
  EXPECT_EQ(info.st_nlink, 0u);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_GE(info.st_blocks * 512, kMiB);
}

TEST_F(ScratchFileTest, GrowsToWhatIsAskedAndNeverShrinks) {
  auto made = ScratchFile::create(dir_.path(), DirectIo::kAuto, ops_);
  ASSERT_TRUE(made.ok());
  ScratchFile& file = *made.value();
  EXPECT_EQ(file.size(), 0);
  ASSERT_TRUE(file.grow_to(10000).ok());
  EXPECT_EQ(file.size(), 12288);
  ASSERT_TRUE(file.grow_to(4096).ok());
  EXPECT_EQ(file.size(), 12288);
  EXPECT_EQ(ops_.calls(FileCall::kPreallocate), 1);
  made.value().reset();
  EXPECT_EQ(ops_.open_files(), 0);
}

TEST_F(ScratchFileTest, AFullDiskSaysHowMuchIsWantedAndFreeAndWhatToDo) {
  auto made = ScratchFile::create(dir_.path(), DirectIo::kAuto, ops_);
  ASSERT_TRUE(made.ok());
  ScratchFile& file = *made.value();
  ASSERT_TRUE(file.grow_to(kMiB).ok());
  ops_.set_free_bytes(300 * kMiB);
  ops_.fail_every(FileCall::kPreallocate, 1, ENOSPC);
  for (const Bytes size : {65 * kMiB, 1025 * kMiB}) {  // found out by the kernel; known before
    const Status status = file.grow_to(size);
    EXPECT_EQ(status.code(), StatusCode::kOutOfRoom);
    EXPECT_THAT(status.message(), AllOf(HasSubstr(dir_.path()), HasSubstr(size < kGiB ? "64.0 MiB more" : "1.00 GiB more"),
                                        HasSubstr("300.0 MiB free"), HasSubstr("No space left on device"),
                                        HasSubstr("--spill-dir a directory with more room"), Not(HasSubstr("\n"))));
  }
  EXPECT_EQ(ops_.injected(FileCall::kPreallocate), 1);  // the hopeless wish did not reach the file system
  EXPECT_EQ(file.size(), kMiB);
  ops_.fail_every(FileCall::kPreallocate, 0, 0);
  EXPECT_TRUE(file.grow_to(2 * kMiB).ok());
}

TEST_F(ScratchFileTest, PreallocationThatFailsOtherwiseIsAnIoError) {
  auto made = ScratchFile::create(dir_.path(), DirectIo::kAuto, ops_);
  ASSERT_TRUE(made.ok());
  ops_.fail_every(FileCall::kPreallocate, 1, EIO);
  const Status status = made.value()->grow_to(kMiB);
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(dir_.path()), HasSubstr("Input/output error"), HasSubstr("1.0 MiB")));
}

TEST_F(ScratchFileTest, MoreThanTheRealFileSystemHas) {
  auto made = ScratchFile::create(dir_.path(), DirectIo::kAuto);
  ASSERT_TRUE(made.ok());
  const Status status = made.value()->grow_to(Bytes{1} << 60);
  EXPECT_EQ(status.code(), StatusCode::kOutOfRoom);
  EXPECT_EQ(made.value()->size(), 0);
}

TEST_F(ScratchFileTest, AMissingDirectory) {
  const auto made = ScratchFile::create(dir_.path() + "/none", DirectIo::kAuto);
  EXPECT_EQ(made.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(made.status().message(),
              AllOf(HasSubstr(dir_.path() + "/none does not exist"), HasSubstr("--spill-dir"), Not(HasSubstr("\n"))));
}

TEST_F(ScratchFileTest, NotADirectory) {
  const std::string path = dir_.path() + "/file";
  std::ofstream(path) << "x";
  const auto made = ScratchFile::create(path, DirectIo::kAuto);
  EXPECT_EQ(made.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(made.status().message(), AllOf(HasSubstr(path + " is not a directory"), HasSubstr("--spill-dir")));
}

TEST_F(ScratchFileTest, NotWritable) {
  std::filesystem::permissions(dir_.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec |
                                                std::filesystem::perms::others_read | std::filesystem::perms::others_exec);
  // In a child, because root may write anywhere and has to stop being root.
  const auto attempt = [this] {
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) std::_Exit(2);
    const auto made = ScratchFile::create(dir_.path(), DirectIo::kAuto);
    std::fprintf(stderr, "%s\n", made.status().message().c_str());
    std::_Exit(made.status().code() == StatusCode::kInvalidArgument ? 0 : 1);
  };
  EXPECT_EXIT(attempt(), testing::ExitedWithCode(0),
              "spill directory .*io_test_.* is not writable .Permission denied.; give --spill-dir");
}

TEST_F(ScratchFileTest, OtherErrorsOfOpening) {
  ops_.fail_every(FileCall::kOpen, 1, EMFILE);
  const auto made = ScratchFile::create(dir_.path(), DirectIo::kAuto, ops_);
  EXPECT_EQ(made.status().code(), StatusCode::kIoError);
  EXPECT_THAT(made.status().message(), AllOf(HasSubstr(dir_.path()), HasSubstr("Too many open files")));
}

// A file system may refuse the flag, or take it and fail at the first transfer.
class WithoutDirectIo : public ScratchFileTest, public testing::WithParamInterface<FileCall> {
 protected:
  void SetUp() override { ops_.fail_every(GetParam(), 1, EINVAL); }
};

INSTANTIATE_TEST_SUITE_P(Refusal, WithoutDirectIo, testing::Values(FileCall::kSetCaching, FileCall::kWrite, FileCall::kRead),
                         [](const auto& instance) {
                           return std::string(instance.param == FileCall::kSetCaching ? "Flag"
                                              : instance.param == FileCall::kWrite    ? "FirstWrite"
                                                                                      : "FirstRead");
                         });

TEST_P(WithoutDirectIo, RequiredIsAClearError) {
  const auto made = ScratchFile::create(dir_.path(), DirectIo::kRequire, ops_);
  EXPECT_EQ(made.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(made.status().message(), AllOf(HasSubstr("O_DIRECT is required"), HasSubstr(dir_.path()),
                                             HasSubstr("Invalid argument"), HasSubstr("--spill-dir"), Not(HasSubstr("\n"))));
  EXPECT_EQ(ops_.open_files(), 0);
}

TEST_P(WithoutDirectIo, AutoFallsBackWithOneWarning) {
  if (GetParam() == FileCall::kSetCaching) {
    // Only the flag is refused, not the way back to buffered.
    ops_.fail_every(FileCall::kSetCaching, 2, EINVAL);
    EXPECT_EQ(ops_.set_caching(-1, Caching::kDirect), -EBADF);
  }
  testing::internal::CaptureStderr();
  auto made = ScratchFile::create(dir_.path(), DirectIo::kAuto, ops_);
  const std::string log = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_FALSE(made.value()->is_direct());
  EXPECT_EQ(::fcntl(made.value()->fd(), F_GETFL) & O_DIRECT, 0);
  EXPECT_EQ(count(log, dir_.path()), 1);
  EXPECT_EQ(count(log, "\n"), 1);
  EXPECT_THAT(log, AllOf(HasSubstr("refuses O_DIRECT"), HasSubstr("page cache")));
}

TEST_P(WithoutDirectIo, OffDoesNotAsk) {
  const auto made = ScratchFile::create(dir_.path(), DirectIo::kOff, ops_);
  ASSERT_TRUE(made.ok());
  EXPECT_FALSE(made.value()->is_direct());
  EXPECT_EQ(ops_.calls(GetParam()), 0);
}

TEST_F(ScratchFileTest, DirectWhereTheFileSystemTakesIt) {
  const auto made = ScratchFile::create(dir_.path(), DirectIo::kRequire);
  if (made.status().code() == StatusCode::kUnavailable) GTEST_SKIP() << made.status().message();
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(made.value()->is_direct());
  EXPECT_NE(::fcntl(made.value()->fd(), F_GETFL) & O_DIRECT, 0);
}

TEST_F(ScratchFileTest, ABrokenDiskIsNotMistakenForMissingDirectIo) {
  ops_.fail_every(FileCall::kWrite, 1, EIO);
  const auto made = ScratchFile::create(dir_.path(), DirectIo::kAuto, ops_);
  EXPECT_EQ(made.status().code(), StatusCode::kIoError);
  EXPECT_THAT(made.status().message(), AllOf(HasSubstr(dir_.path()), HasSubstr("Input/output error")));
}

}  // namespace
}  // namespace patrickstar
