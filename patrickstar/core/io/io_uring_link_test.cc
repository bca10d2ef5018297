// What only the io_uring back end does; the rest is in link_contract_test.cc.
#include "patrickstar/core/io/io_uring_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "patrickstar/core/io/testing/faulty_file_ops.h"
#include "patrickstar/core/io/testing/link_fixture.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class IoUringLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = io_uring_refusal(); !why.empty()) GTEST_SKIP() << why;
    auto file = ScratchFile::create(dir_.path(), DirectIo::kAuto, ops_);
    ASSERT_TRUE(file.ok()) << file.status().message();
    file_ = std::move(file).value();
    ASSERT_TRUE(file_->grow_to(16 * kMiB).ok());
  }

  void open(const IoUringOptions& options) {
    auto made = IoUringLink::create(*file_, options);
    ASSERT_TRUE(made.ok()) << made.status().message();
    link_ = std::move(made).value();
    link_->set_sink(&sink_);
  }

  void start(Direction direction, Place upper, Bytes offset, Bytes bytes, Urgency urgency = Urgency::kDemand) {
    link_->start({.id = next_id_++,
                  .direction = direction,
                  .urgency = urgency,
                  .upper = upper,
                  .lower = Place{static_cast<std::uint64_t>(offset)},
                  .bytes = bytes});
  }
  void move(Direction direction, Place upper, Bytes bytes) {
    start(direction, upper, 0, bytes);
    sink_.wait_for(next_id_);
    EXPECT_EQ(sink_.failures(), 0u);
  }

  TempDir dir_;
  FaultyFileOps ops_;
  std::unique_ptr<ScratchFile> file_;
  RecordingSink sink_;
  std::uint64_t next_id_ = 0;
  std::unique_ptr<IoUringLink> link_;
};

TEST_F(IoUringLinkTest, TransfersGoThroughTheRing) {
  open({.piece_bytes = kMiB});
  Buffer memory(4 * kMiB + 8192);
  move(Direction::kDown, memory.place(), memory.size());
  EXPECT_EQ(link_->submitted(), 5);
  EXPECT_EQ(link_->submitted_fixed(), 0);
  EXPECT_EQ(link_->bytes_down(), memory.size());
}

TEST_F(IoUringLinkTest, RegisteredRegionsAreUsedWhereATransferLiesWhollyInside) {
  Buffer a(4 * kMiB);
  Buffer b(2 * kMiB);
  Buffer plain(kMiB);
  open({.regions = {{a.data(), 2 * kMiB}, {b.data(), b.size()}}});
  a.fill_random(1);
  move(Direction::kDown, a.place(kMiB), kMiB);  // up to the very end of the first
  EXPECT_EQ(link_->submitted_fixed(), 1);
  move(Direction::kUp, b.place(), kMiB);
  EXPECT_EQ(link_->submitted_fixed(), 2);
  move(Direction::kUp, plain.place(), kMiB);
  EXPECT_EQ(link_->submitted_fixed(), 2);
  EXPECT_EQ(link_->submitted(), 3);
  EXPECT_EQ(std::memcmp(a.data() + kMiB, b.data(), kMiB), 0);
  EXPECT_EQ(std::memcmp(a.data() + kMiB, plain.data(), kMiB), 0);
  move(Direction::kDown, a.place(kMiB + 4096), kMiB);  // leaves it at the end
  move(Direction::kDown, a.place(2 * kMiB), kMiB);     // just behind it
  EXPECT_EQ(link_->submitted_fixed(), 2);
  EXPECT_EQ(link_->submitted(), 5);
}

TEST_F(IoUringLinkTest, RefusedRegistrationIsOneWarning) {
  Buffer memory(kMiB);
  void* const forbidden = ::mmap(nullptr, kMiB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(forbidden, MAP_FAILED);
  testing::internal::CaptureStderr();
  open({.regions = {{memory.data(), kMiB}, {static_cast<std::byte*>(forbidden), kMiB}}});
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, AllOf(HasSubstr("refuses to register 2.0 MiB"), HasSubstr("Bad address"), HasSubstr("memlock")));
  EXPECT_EQ(log.find('\n'), log.size() - 1);
  move(Direction::kDown, memory.place(), kMiB);
  EXPECT_EQ(link_->submitted_fixed(), 0);
  ::munmap(forbidden, kMiB);
}

TEST_F(IoUringLinkTest, APieceThatFailsFailsItsTransferOnce) {
  open({.depth = 4, .piece_bytes = 64 * kKiB});
  Buffer memory(4 * kMiB);
  ops_.fail_every(FileCall::kWrite, 10, EIO);
  start(Direction::kDown, memory.place(), 0, kMiB);  // 16 pieces: the tenth fails, no more are cut
  sink_.wait_for(1);
  EXPECT_FALSE(sink_.status_of(0).ok());
  EXPECT_LT(link_->submitted(), 16);
  ops_.fail_every(FileCall::kWrite, 0, 0);
  start(Direction::kDown, memory.place(), 0, memory.size());
  sink_.wait_for(2);
  EXPECT_TRUE(sink_.status_of(1).ok());
  link_.reset();
  EXPECT_THAT(sink_.order(), ElementsAre(0, 1));
}

TEST_F(IoUringLinkTest, DemandOvertakesTheRestOfALongWriteBack) {
  open({.depth = 2, .piece_bytes = 4096});
  Buffer memory(kMiB);
  ops_.hold(FileCall::kWrite);
  start(Direction::kDown, memory.place(), 0, 512 * kKiB, Urgency::kWriteBack);
  ops_.wait_until_held(FileCall::kWrite, 1);
  start(Direction::kUp, memory.place(512 * kKiB), 512 * kKiB, 4096);
  ops_.release(FileCall::kWrite);
  sink_.wait_for(2);
  EXPECT_THAT(sink_.order(), ElementsAre(1, 0));
}

TEST_F(IoUringLinkTest, ARefusedSetupIsAClearError) {
  const auto made = IoUringLink::create(*file_, {.depth = 1 << 20});  // beyond the kernel's limit
  EXPECT_EQ(made.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(made.status().message(), AllOf(HasSubstr("[disk] io_uring is not available"), HasSubstr("Invalid argument")));
}

TEST_F(IoUringLinkTest, ALinkThatNeverMovedAnythingGoesAway) {
  open({});
  link_.reset();
  auto without_sink = IoUringLink::create(*file_);
  EXPECT_TRUE(without_sink.ok());
}

}  // namespace
}  // namespace patrickstar
