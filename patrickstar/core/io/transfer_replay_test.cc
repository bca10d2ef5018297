#include "patrickstar/core/io/transfer_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <mutex>
#include <utility>

#include "patrickstar/core/io/testing/faulty_file_ops.h"
#include "patrickstar/core/io/testing/link_fixture.h"
#include "patrickstar/core/testing/virtual_clock.h"

namespace patrickstar {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Every read and write as the kernel would see it; time passes with their bytes, and only so.
class SlowFile final : public FileOps {
 public:
  explicit SlowFile(VirtualClock* clock) : clock_(clock) {}
  std::int64_t pread(int fd, std::byte* data, Bytes bytes, Bytes offset) override {
    return saw({Direction::kUp, offset, real_.pread(fd, data, bytes, offset)});
  }
  std::int64_t pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) override {
    return saw({Direction::kDown, offset, real_.pwrite(fd, data, bytes, offset)});
  }
  int open_scratch(const std::string& directory) override { return real_.open_scratch(directory); }
  int set_caching(int fd, Caching caching) override { return real_.set_caching(fd, caching); }
  int preallocate(int fd, Bytes from, Bytes to) override { return real_.preallocate(fd, from, to); }
  Bytes free_bytes(const std::string& directory) override { return real_.free_bytes(directory); }
  void close(int fd) override { real_.close(fd); }

  StepTransfers take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(seen_, {});
  }

 private:
  std::int64_t saw(const LoggedTransfer& call) {
    const std::lock_guard lock(mutex_);
    seen_.push_back(call);
    clock_->advance(call.bytes);
    return call.bytes;
  }
  PosixFileOps real_;
  VirtualClock* const clock_;
  std::mutex mutex_;
  StepTransfers seen_;
};

const StepTransfers kStep{{Direction::kUp, 8 * kMiB, kMiB},
                          {Direction::kDown, 4096, 2 * kMiB},
                          {Direction::kUp, 8 * kMiB, kMiB},
                          {Direction::kDown, 0, 4096},
                          {Direction::kUp, 0, 3 * kMiB}};

class TransferReplayTest : public testing::Test {
 protected:
  std::unique_ptr<TransferReplay> open(FileOps& ops, int threads = 1) {
    auto made = TransferReplay::create(
        {.directory = dir_.path(), .io = IoBackend::kPread, .direct = DirectIo::kOff, .threads = threads}, &clock_, ops);
    EXPECT_TRUE(made.ok()) << made.status().message();
    return std::move(made).value();
  }
  TempDir dir_;
  VirtualClock clock_;
};

TEST_F(TransferReplayTest, TheSameTransfersInTheSameOrder) {
  SlowFile file(&clock_);
  const auto replay = open(file);
  ASSERT_TRUE(replay->prepare(kStep).ok());
  file.take();
  const auto time = replay->run(kStep);
  ASSERT_TRUE(time.ok()) << time.status().message();
  EXPECT_EQ(file.take(), kStep);
  EXPECT_EQ(time.value(), total_bytes(kStep));
}

TEST_F(TransferReplayTest, EveryByteIsWrittenOnceBeforeItIsTimed) {
  SlowFile file(&clock_);
  const auto replay = open(file);
  ASSERT_TRUE(replay->prepare(kStep).ok());
  EXPECT_THAT(file.take(),
              ElementsAre(LoggedTransfer{Direction::kDown, 0, 8 * kMiB}, LoggedTransfer{Direction::kDown, 8 * kMiB, kMiB}));
  const StepTransfers longer{{Direction::kUp, 16 * kMiB, kMiB}};
  ASSERT_TRUE(replay->prepare(longer).ok());
  EXPECT_THAT(file.take(), ElementsAre(LoggedTransfer{Direction::kDown, 9 * kMiB, 8 * kMiB}));
  ASSERT_TRUE(replay->prepare(kStep).ok());
  EXPECT_TRUE(file.take().empty());
  // Unprepared, what is timed is still only the step.
  const auto time = replay->run({{Direction::kDown, 20 * kMiB, kMiB}});
  ASSERT_TRUE(time.ok()) << time.status().message();
  EXPECT_EQ(time.value(), kMiB);
}

TEST_F(TransferReplayTest, TransfersLongerThanTheBuffer) {
  SlowFile file(&clock_);
  const auto replay = open(file);
  const StepTransfers step{{Direction::kUp, 0, 130 * kMiB}, {Direction::kDown, 0, 130 * kMiB}};
  ASSERT_TRUE(replay->prepare(step).ok());
  file.take();
  ASSERT_TRUE(replay->run(step).ok());
  EXPECT_EQ(file.take(), step);
}

TEST_F(TransferReplayTest, TheDefaultBackEndToo) {
  auto made = TransferReplay::create({.directory = dir_.path()}, &clock_);
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ(made.value()->backend(), open_disk({.directory = dir_.path()}).value().backend);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(made.value()->run(kStep).ok());
  EXPECT_TRUE(made.value()->run({}).ok());
  EXPECT_EQ(dir_.entries(), 0);
}

TEST_F(TransferReplayTest, AFailureIsOneErrorAndTheNextRunIsClean) {
  FaultyFileOps file;
  const auto replay = open(file, 2);
  ASSERT_TRUE(replay->prepare(kStep).ok());
  file.fail_every(FileCall::kRead, 1, EIO);
  const auto failed = replay->run(kStep);
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(failed.status().message(), HasSubstr("Input/output error"));
  file.fail_every(FileCall::kRead, 0, 0);
  EXPECT_TRUE(replay->run(kStep).ok());
}

TEST_F(TransferReplayTest, NoRoomOnDisk) {
  FaultyFileOps file;
  const auto replay = open(file);
  file.set_free_bytes(kMiB);
  EXPECT_EQ(replay->prepare(kStep).code(), StatusCode::kOutOfRoom);
}

}  // namespace
}  // namespace patrickstar
