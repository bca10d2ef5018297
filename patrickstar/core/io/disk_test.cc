#include "patrickstar/core/io/disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "patrickstar/core/io/testing/faulty_file_ops.h"
#include "patrickstar/core/io/testing/link_fixture.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string default_backend() { return io_uring_refusal().empty() ? "io_uring" : "pread"; }

// What container runtimes do: io_uring_setup answers EPERM from now on in this process.
void forbid_io_uring() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) std::_Exit(2);
}

class DiskTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  // Writes and reads through tier and link.
  static void round_trip(Disk& disk) {
    RecordingSink sink;
    disk.link->set_sink(&sink);
    Buffer written(kMiB);
    Buffer read(kMiB);
    written.fill_random(5);
    ASSERT_TRUE(disk.tier->allocate(4096).ok());
    const auto place = disk.tier->allocate(kMiB);
    ASSERT_TRUE(place.ok()) << place.status().message();
    disk.link->start({.id = 0, .direction = Direction::kDown, .upper = written.place(), .lower = place.value(), .bytes = kMiB});
    sink.wait_for(1);
    disk.link->start({.id = 1, .direction = Direction::kUp, .upper = read.place(), .lower = place.value(), .bytes = kMiB});
    sink.wait_for(2);
    EXPECT_EQ(sink.failures(), 0u);
    EXPECT_TRUE(written == read);
    disk.link.reset();  // the sink goes away
  }

  TempDir dir_;
};

TEST_F(DiskTest, TheBestBackEndIsChosenAndNamed) {
  auto disk = open_disk({.directory = dir_.path(), .capacity = 64 * kMiB});
  ASSERT_TRUE(disk.ok()) << disk.status().message();
  EXPECT_EQ(disk.value().backend, default_backend() + (disk.value().file->is_direct() ? "+O_DIRECT" : "+buffered"));
  EXPECT_EQ(disk.value().tier->capacity(), 64 * kMiB);
  round_trip(disk.value());
  EXPECT_EQ(dir_.entries(), 0);
}

TEST_F(DiskTest, EachBackEndCanBeAskedForByName) {
  auto pread = open_disk({.directory = dir_.path(), .io = IoBackend::kPread, .direct = DirectIo::kOff});
  ASSERT_TRUE(pread.ok()) << pread.status().message();
  EXPECT_EQ(pread.value().backend, "pread+buffered");
  round_trip(pread.value());
  if (const std::string why = io_uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  auto ring = open_disk({.directory = dir_.path(), .io = IoBackend::kIoUring, .direct = DirectIo::kOff});
  ASSERT_TRUE(ring.ok()) << ring.status().message();
  EXPECT_EQ(ring.value().backend, "io_uring+buffered");
  round_trip(ring.value());
}

TEST_F(DiskTest, RegionsReachTheRing) {
  if (const std::string why = io_uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  Buffer memory(kMiB);
  auto disk = open_disk({.directory = dir_.path(), .io = IoBackend::kIoUring, .regions = {{memory.data(), memory.size()}}});
  ASSERT_TRUE(disk.ok()) << disk.status().message();
  ASSERT_TRUE(disk.value().tier->reserve(kMiB).ok());
  RecordingSink sink;
  disk.value().link->set_sink(&sink);
  disk.value().link->start({.direction = Direction::kDown, .upper = memory.place(), .lower = Place{0}, .bytes = kMiB});
  sink.wait_for(1);
  EXPECT_EQ(static_cast<IoUringLink&>(*disk.value().link).submitted_fixed(), 1);
  disk.value().link.reset();
}

TEST_F(DiskTest, WithoutIoUringAutoTakesPread) {
  const auto attempt = [this] {
    forbid_io_uring();
    auto disk = open_disk({.directory = dir_.path()});
    if (!disk.ok()) std::_Exit(1);
    round_trip(disk.value());
    std::fprintf(stderr, "got %s\n", disk.value().backend.c_str());
    std::_Exit(HasFailure() ? 1 : 0);
  };
  EXPECT_EXIT(attempt(), testing::ExitedWithCode(0),
              "io_uring is not available .io_uring_setup failed: Operation not permitted.*\n*got pread\\+");
}

TEST_F(DiskTest, WithoutIoUringAskingForItIsAClearError) {
  const auto attempt = [this] {
    forbid_io_uring();
    const auto disk = open_disk({.directory = dir_.path(), .io = IoBackend::kIoUring});
    std::fprintf(stderr, "%s\n", disk.status().message().c_str());
    std::_Exit(disk.status().code() == StatusCode::kUnavailable ? 0 : 1);
  };
  EXPECT_EXIT(attempt(), testing::ExitedWithCode(0), "io_uring is not available .io_uring_setup failed: Operation not permitted");
}

TEST_F(DiskTest, DirectIoThatIsNotToBeHadIsAClearError) {
  FaultyFileOps ops;
  ops.fail_every(FileCall::kSetCaching, 1, EINVAL);
  const auto disk = open_disk({.directory = dir_.path(), .direct = DirectIo::kRequire}, ops);
  EXPECT_EQ(disk.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(disk.status().message(), AllOf(HasSubstr("O_DIRECT"), HasSubstr(dir_.path())));
}

TEST_F(DiskTest, ErrorsOfTheDirectoryComeThrough) {
  const auto disk = open_disk({.directory = dir_.path() + "/none"});
  EXPECT_EQ(disk.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(disk.status().message(), HasSubstr("does not exist"));
}

TEST_F(DiskTest, OptionsThatCannotWorkAreNamed) {
  EXPECT_EQ(open_disk({.directory = dir_.path(), .capacity = -1}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(open_disk({.directory = dir_.path(), .depth = 0}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(open_disk({.directory = dir_.path(), .threads = 0}).status().message(), HasSubstr("0 I/O threads"));
}

TEST_F(DiskTest, TheBudgetIsTheTiers) {
  auto disk = open_disk({.directory = dir_.path(), .capacity = kMiB});
  ASSERT_TRUE(disk.ok());
  EXPECT_EQ(disk.value().tier->allocate(2 * kMiB).status().code(), StatusCode::kOutOfRoom);
}

}  // namespace
}  // namespace patrickstar
