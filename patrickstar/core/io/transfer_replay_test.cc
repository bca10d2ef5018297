#include "patrickstar/core/io/transfer_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <mutex>
#include <thread>
#include <utility>

#include "patrickstar/core/io/testing/faulty_file_ops.h"
#include "patrickstar/core/io/testing/link_fixture.h"
#include "patrickstar/core/testing/virtual_clock.h"

namespace patrickstar {
namespace {

using testing::AllOf;
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
  std::unique_ptr<TransferReplay> open(FileOps& ops, int threads = 1, Patience patience = {}) {
    auto made =
        TransferReplay::create({.directory = dir_.path(), .io = IoBackend::kPread, .direct = DirectIo::kOff, .threads = threads},
                               &clock_, ops, std::move(patience));
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

TEST_F(TransferReplayTest, WhatIsWaitedForIsSaid) {
  const Patience patience;
  std::vector<double> said;
  for (int ticks = 0; ticks <= patience.most_ticks; ++ticks) {
    if (Patience::speaks(ticks)) said.push_back(patience.seconds(ticks));
  }
  EXPECT_THAT(said, ElementsAre(30, 90));
  EXPECT_EQ(patience.seconds(patience.most_ticks), 120);

  FaultyFileOps file;
  std::vector<std::string> lines;
  const auto say = [&](const std::string& line) {
    lines.push_back(line);
    file.release(FileCall::kWrite);  // the disk comes back
  };
  const auto replay = open(file, 1, {.tick = std::chrono::milliseconds(1), .most_ticks = 1 << 30, .say = say});
  file.hold(FileCall::kWrite);
  EXPECT_TRUE(replay->prepare(kStep).ok());
  ASSERT_FALSE(lines.empty());
  EXPECT_THAT(lines[0], AllOf(HasSubstr("2 transfers"), HasSubstr(dir_.path()), HasSubstr("not done")));
}

TEST_F(TransferReplayTest, AStuckDiskIsGivenUpAndNotTouchedUntilItIsDone) {
  SlowFile nothing(&clock_);
  FaultyFileOps file(nothing);
  int said = 0;
  const auto replay = open(file, 1, {.tick = std::chrono::milliseconds(1), .say = [&](const std::string&) { ++said; }});
  file.hold(FileCall::kWrite);
  const Status stuck = replay->run(kStep).status();
  EXPECT_EQ(stuck.code(), StatusCode::kTimedOut);
  EXPECT_THAT(stuck.message(), AllOf(HasSubstr("2 transfers"), HasSubstr(dir_.path()), HasSubstr("given up")));
  EXPECT_EQ(said, 2);
  EXPECT_THAT(replay->run(kStep).status().message(), AllOf(HasSubstr("2 transfers"), HasSubstr("since they were given up")));
  EXPECT_EQ(said, 2);
  file.release(FileCall::kWrite);
  while (!replay->run(kStep).ok()) std::this_thread::yield();
}

TEST_F(TransferReplayTest, AStuckDiskHoldsNobodyAtTheEnd) {
  static FaultyFileOps& file = *new FaultyFileOps;  // as the transfers it goes with the process
  auto replay = open(file, 1, {.tick = std::chrono::milliseconds(1), .say = [](const std::string&) {}});
  file.hold(FileCall::kWrite);
  EXPECT_EQ(replay->prepare(kStep).code(), StatusCode::kTimedOut);
  replay.reset();
  EXPECT_EQ(file.open_files(), 1);
  file.release(FileCall::kWrite);
}

TEST_F(TransferReplayTest, NoRoomOnDisk) {
  FaultyFileOps file;
  const auto replay = open(file);
  file.set_free_bytes(kMiB);
  EXPECT_EQ(replay->prepare(kStep).code(), StatusCode::kOutOfRoom);
}

}  // namespace
}  // namespace patrickstar
