// What every back end of the disk link promises, for each of them alike.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <functional>
#include <numeric>
#include <ostream>
#include <random>
#include <thread>

#include "patrickstar/core/io/io_uring_link.h"
#include "patrickstar/core/io/scratch_file.h"
#include "patrickstar/core/io/testing/faulty_file_ops.h"
#include "patrickstar/core/io/testing/link_fixture.h"
#include "patrickstar/core/io/thread_pool_link.h"

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Param {
  std::string name;
  DirectIo direct;
  bool ring;
  Bytes piece = 2 * kMiB;

  friend void PrintTo(const Param& param, std::ostream* out) { *out << param.name; }
};

template <class T>
std::unique_ptr<Link> as_link(Result<std::unique_ptr<T>> made) {
  EXPECT_TRUE(made.ok()) << made.status().message();
  return std::move(made).value();
}

class LinkContract : public testing::TestWithParam<Param> {
 protected:
  static constexpr Bytes kFileBytes = 32 * kMiB;

  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    if (const std::string why = io_uring_refusal(); GetParam().ring && !why.empty()) GTEST_SKIP() << why;
    auto file = ScratchFile::create(dir_.path(), GetParam().direct, ops_);
    ASSERT_TRUE(file.ok()) << file.status().message();
    file_ = std::move(file).value();
    ASSERT_TRUE(file_->grow_to(kFileBytes).ok());
    open_link(4);
  }

  // At most `parallel` reads and writes at once.
  void open_link(int parallel) {
    link_.reset();
    if (GetParam().ring) {
      link_ = as_link(IoUringLink::create(*file_, {.depth = parallel, .piece_bytes = GetParam().piece}));
    } else {
      link_ = as_link(ThreadPoolLink::create(*file_, parallel));
    }
    link_->set_sink(&sink_);
  }

  // Starts a transfer with the next id and returns that.
  std::uint64_t start(Direction direction, Place upper, Bytes offset, Bytes bytes, Urgency urgency = Urgency::kDemand) {
    const std::uint64_t id = next_id_++;
    link_->start({.id = id,
                  .payload = PayloadId(static_cast<std::size_t>(id)),
                  .direction = direction,
                  .urgency = urgency,
                  .upper = upper,
                  .lower = Place{static_cast<std::uint64_t>(offset)},
                  .bytes = bytes});
    return id;
  }
  // Moves all of `buffer` in `bytes`-long transfers, waits, and returns how many failed of these.
  std::size_t move_all(Direction direction, const Buffer& buffer, Bytes bytes) {
    const std::size_t failed_before = sink_.failures();
    for (Bytes at = 0; at < buffer.size(); at += bytes)
      start(direction, buffer.place(at), at, std::min(bytes, buffer.size() - at));
    sink_.wait_for(next_id_);
    return sink_.failures() - failed_before;
  }

  TempDir dir_;
  FaultyFileOps ops_;
  std::unique_ptr<ScratchFile> file_;
  RecordingSink sink_;
  std::uint64_t next_id_ = 0;
  std::unique_ptr<Link> link_;  // goes first
};

INSTANTIATE_TEST_SUITE_P(Backends, LinkContract,
                         testing::Values(Param{"PreadDirect", DirectIo::kAuto, false},
                                         Param{"PreadBuffered", DirectIo::kOff, false},
                                         Param{"IoUringDirect", DirectIo::kAuto, true},
                                         Param{"IoUringBuffered", DirectIo::kOff, true},
                                         Param{"IoUringSmallPieces", DirectIo::kAuto, true, 64 * kKiB}),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(LinkContract, RandomBytesAtRandomPlacesComeBack) {
  constexpr std::uint64_t kSeed = 4711;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937_64 random(kSeed);
  Buffer written(16 * kMiB);
  Buffer read(16 * kMiB);
  written.fill_random(kSeed);
  struct Piece {
    Bytes upper, lower, bytes;
  };
  std::vector<Piece> pieces;
  for (Bytes at = 0; at < written.size();) {
    const Bytes bytes = std::min<Bytes>(written.size() - at, static_cast<Bytes>(1 + random() % 150) * kPayloadAlignment);
    pieces.push_back({at, 0, bytes});
    at += bytes;
  }
  std::shuffle(pieces.begin(), pieces.end(), random);
  Bytes lower = 0;
  for (Piece& piece : pieces) {
    piece.lower = lower;
    lower += piece.bytes + kPayloadAlignment;  // a gap
  }
  ASSERT_LE(lower, kFileBytes);
  for (const Direction direction : {Direction::kDown, Direction::kUp}) {
    std::shuffle(pieces.begin(), pieces.end(), random);
    const Buffer& memory = direction == Direction::kDown ? written : read;
    for (const Piece& piece : pieces) {
      start(direction, memory.place(piece.upper), piece.lower, piece.bytes, static_cast<Urgency>(random() % 3));
    }
    sink_.wait_for(next_id_);
  }
  EXPECT_EQ(sink_.failures(), 0u);
  EXPECT_TRUE(written == read);
  EXPECT_EQ(link_->bytes_down(), 16 * kMiB);
  EXPECT_EQ(link_->bytes_up(), 16 * kMiB);
}

TEST_P(LinkContract, ManyTransfersFromManyThreads) {
  open_link(2);
  constexpr int kThreads = 6;
  constexpr Bytes kBytes = 16 * kKiB;
  constexpr int kEach = 150;
  Buffer written(kThreads * kEach * kBytes);
  Buffer read(written.size());
  written.fill_random(3);
  std::atomic<std::uint64_t> next{0};
  for (const Direction direction : {Direction::kDown, Direction::kUp}) {
    const Buffer& memory = direction == Direction::kDown ? written : read;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kEach; ++i) {
          const Bytes at = (t * kEach + i) * kBytes;
          link_->start({.id = next.fetch_add(1),
                        .direction = direction,
                        .urgency = static_cast<Urgency>(i % 3),
                        .upper = memory.place(at),
                        .lower = Place{static_cast<std::uint64_t>(at)},
                        .bytes = kBytes});
        }
      });
    }
    for (auto& thread : threads) thread.join();
    sink_.wait_for(next.load());
  }
  std::vector<std::uint64_t> ids = sink_.order();  // each once
  std::sort(ids.begin(), ids.end());
  std::vector<std::uint64_t> expected(2 * kThreads * kEach);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(ids, expected);
  EXPECT_EQ(sink_.failures(), 0u);
  EXPECT_TRUE(written == read);
}

TEST_P(LinkContract, DemandBeforePrefetchBeforeWriteBack) {
  open_link(1);
  Buffer memory(32 * kKiB);
  ops_.hold(FileCall::kWrite);
  start(Direction::kDown, memory.place(), 0, 4096, Urgency::kWriteBack);  // 0: with the kernel when the others come
  ops_.wait_until_held(FileCall::kWrite, 1);
  start(Direction::kDown, memory.place(4096), 4096, 4096, Urgency::kWriteBack);  // 1
  start(Direction::kUp, memory.place(8192), 8192, 4096, Urgency::kPrefetch);     // 2
  start(Direction::kUp, memory.place(12288), 12288, 4096, Urgency::kDemand);     // 3
  start(Direction::kDown, memory.place(16384), 16384, 4096, Urgency::kWriteBack);
  start(Direction::kUp, memory.place(20480), 20480, 4096, Urgency::kPrefetch);
  start(Direction::kUp, memory.place(24576), 24576, 4096, Urgency::kDemand);
  ops_.release(FileCall::kWrite);
  sink_.wait_for(next_id_);
  EXPECT_THAT(sink_.order(), ElementsAre(0, 3, 6, 2, 5, 1, 4));
}

TEST_P(LinkContract, ATransferThatFailsFailsAlone) {
  constexpr Bytes kBytes = 64 * kKiB;  // one call each
  Buffer written(100 * kBytes);
  Buffer read(written.size());
  written.fill_random(9);
  ops_.fail_every(FileCall::kWrite, 7, EIO);
  EXPECT_EQ(move_all(Direction::kDown, written, kBytes), 14u);
  EXPECT_EQ(ops_.injected(FileCall::kWrite), 14);
  EXPECT_EQ(link_->bytes_down(), 86 * kBytes);
  ops_.fail_every(FileCall::kWrite, 0, 0);
  ops_.fail_every(FileCall::kRead, 9, EIO);
  EXPECT_EQ(move_all(Direction::kUp, read, kBytes), 11u);
  EXPECT_EQ(ops_.injected(FileCall::kRead), 11);
  int whole = 0;
  for (std::uint64_t id = 0; id < 100; ++id) {
    const Status down = sink_.status_of(id);
    const Status up = sink_.status_of(id + 100);
    const Bytes at = static_cast<Bytes>(id) * kBytes;
    for (const Status& status : {down, up}) {
      if (status.ok()) continue;
      EXPECT_EQ(status.code(), StatusCode::kIoError);
      EXPECT_THAT(status.message(),
                  AllOf(HasSubstr(&status == &down ? "[disk] write of 64.0 KiB" : "[disk] "), HasSubstr(" of 64.0 KiB (payload "),
                        HasSubstr("at offset " + std::to_string(at) + " in " + dir_.path() + " failed: Input/output error; "),
                        HasSubstr("--spill-dir"), Not(HasSubstr("\n"))));
    }
    if (!down.ok() || !up.ok()) continue;
    ++whole;
    EXPECT_TRUE(std::equal(written.data() + at, written.data() + at + kBytes, read.data() + at)) << "transfer " << id;
  }
  EXPECT_GE(whole, 75);
  ops_.fail_every(FileCall::kRead, 0, 0);  // still usable
  EXPECT_EQ(move_all(Direction::kDown, written, kBytes), 0u);
  EXPECT_EQ(move_all(Direction::kUp, read, kBytes), 0u);
  EXPECT_TRUE(written == read);
}

TEST_P(LinkContract, AFullDiskSaysWhichAndWhatToDo) {
  Buffer memory(4096);
  ops_.fail_every(FileCall::kWrite, 1, ENOSPC);
  EXPECT_EQ(move_all(Direction::kDown, memory, 4096), 1u);
  EXPECT_THAT(sink_.status_of(0).message(), AllOf(HasSubstr(dir_.path()), HasSubstr("No space left on device"),
                                                  HasSubstr("give --spill-dir a directory with more room")));
}

TEST_P(LinkContract, ShortTransfersAreTakenFurther) {
  Buffer written(12 * kMiB);
  Buffer read(written.size());
  written.fill_random(11);
  ops_.shorten_every(FileCall::kWrite, 2, 21000);
  ops_.shorten_every(FileCall::kRead, 3, 4096);
  EXPECT_EQ(move_all(Direction::kDown, written, 3 * kMiB), 0u);
  EXPECT_EQ(move_all(Direction::kUp, read, kMiB), 0u);
  EXPECT_GT(ops_.injected(FileCall::kWrite), 2);
  EXPECT_GT(ops_.injected(FileCall::kRead), 2);
  EXPECT_TRUE(written == read);
  EXPECT_EQ(link_->bytes_down(), written.size());
}

TEST_P(LinkContract, InterruptionsAreTriedAgainButNotForEver) {
  Buffer written(2 * kMiB);
  Buffer read(written.size());
  written.fill_random(12);
  for (const int error : {EINTR, EAGAIN}) {
    ops_.fail_every(FileCall::kWrite, 2, error);
    ops_.fail_every(FileCall::kRead, 2, error);
    EXPECT_EQ(move_all(Direction::kDown, written, 64 * kKiB), 0u);
    EXPECT_EQ(move_all(Direction::kUp, read, 64 * kKiB), 0u);
    EXPECT_TRUE(written == read);
  }
  ops_.fail_every(FileCall::kWrite, 1, EAGAIN);
  Buffer one(4096);
  EXPECT_EQ(move_all(Direction::kDown, one, 4096), 1u);
}

// The processor time of the process: a thread that spins while there is nothing to do, or while a transfer is under way, takes
// all of one processor.
TEST_P(LinkContract, NoThreadBurnsAProcessorWhileItWaits) {
  constexpr auto kWait = std::chrono::milliseconds(200);
  const auto used = [] {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  };
  auto before = used();
  std::this_thread::sleep_for(kWait);
  EXPECT_LT(used() - before, kWait / 4) << "idle";
  Buffer memory(kMiB);
  ops_.hold(FileCall::kWrite);
  start(Direction::kDown, memory.place(), 0, memory.size());
  ops_.wait_until_held(FileCall::kWrite, 1);
  before = used();
  std::this_thread::sleep_for(kWait);
  EXPECT_LT(used() - before, kWait / 4) << "a write stands still";
  ops_.release(FileCall::kWrite);
  sink_.wait_for(next_id_);
  EXPECT_EQ(sink_.failures(), 0u);
}

TEST_P(LinkContract, TheDestructorWaitsForWhatWasStarted) {
  open_link(2);
  Buffer memory(4 * kMiB);
  ops_.hold(FileCall::kWrite);
  for (Bytes at = 0; at < memory.size(); at += 64 * kKiB) start(Direction::kDown, memory.place(at), at, 64 * kKiB);
  ops_.wait_until_held(FileCall::kWrite, 1);
  std::thread releaser([this] { ops_.release(FileCall::kWrite); });
  link_.reset();
  EXPECT_EQ(sink_.order().size(), 64u);
  EXPECT_EQ(sink_.failures(), 0u);
  releaser.join();
}

// Starts the next link of a chain from inside the sink.
class ChainSink final : public TransferSink {
 public:
  explicit ChainSink(std::function<bool(std::uint64_t)> next) : next_(std::move(next)) {}
  void transfer_done(const Transfer& transfer, Status status) override {
    EXPECT_TRUE(status.ok()) << status.message();
    if (next_(transfer.id)) return;
    const std::lock_guard lock(mutex_);
    finished_ = true;
    done_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return finished_; });
  }

 private:
  std::function<bool(std::uint64_t)> next_;
  std::mutex mutex_;
  std::condition_variable done_;
  bool finished_ = false;
};

TEST_P(LinkContract, TheSinkMayStartMore) {
  Buffer memory(4096);
  std::unique_ptr<Link> link;
  const auto begin = [&](std::uint64_t id) {
    if (id > 50) return false;
    link->start({.id = id, .direction = Direction::kDown, .upper = memory.place(), .lower = Place{0}, .bytes = 4096});
    return true;
  };
  ChainSink sink([&](std::uint64_t id) { return begin(id + 1); });
  link = GetParam().ring ? as_link(IoUringLink::create(*file_)) : as_link(ThreadPoolLink::create(*file_));
  link->set_sink(&sink);
  begin(0);
  sink.wait();
  EXPECT_EQ(link->bytes_down(), 51 * 4096);
}

TEST_P(LinkContract, AnUnalignedBufferEndsTheProcess) {
  Buffer memory(8192);
  EXPECT_DEATH(start(Direction::kDown, memory.place(512), 0, 4096), "broken invariant");
}

}  // namespace
}  // namespace patrickstar
