// Bad days with a real Engine, planned prefetch and every update schedule: a disk at a fraction of its speed, transfers that
// stand still for a second and more, and for too long, writes that fail. Each costs time or ends in an error that says what
// stands still, and then the run goes on: losses of every step, and weights, masters and moments at the end, are bit for bit
// those of the plain loop.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/utils.h>
#include <unistd.h>  // dup, dup2

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <thread>

#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/bridge/engine/update_test_util.h"
#include "patrickstar/core/io/testing/faulty_file_ops.h"
#include "patrickstar/core/io/testing/link_fixture.h"
#include "patrickstar/core/io/testing/slow_file_ops.h"
#include "tests/e2e/small_model.h"

namespace patrickstar {
namespace {

using bridge::error_of;
using bridge::UpdateTiming;
using testing::AllOf;
using testing::HasSubstr;

constexpr int kSteps = 9;
constexpr int kBad = 5;  // the first step of a bad day: the plan is followed by then
constexpr int kRoomPercent = 40;
constexpr Bytes kSlow = 100'000'000;  // bytes a second

struct Day {
  std::string name;
  UpdateTiming timing = UpdateTiming::kAtStep;
  IoBackend io = IoBackend::kPread;
};

void PrintTo(const Day& day, std::ostream* out) { *out << day.name; }

at::Tensor loss_of(models::Transformer& model, int step) {
  torch::manual_seed(static_cast<std::uint64_t>(1000 + step));
  const at::Tensor tokens = at::randint(0, model.config().vocab_size, {1, 33}, at::kLong);
  return model.loss(tokens.slice(1, 0, 32), tokens.slice(1, 1, 33));
}

// What goes to stderr while it lives, for one who waits for a line of it.
class StderrFile {
 public:
  StderrFile() : path_(dir_.path() + "/stderr"), kept_(::dup(STDERR_FILENO)) {
    std::FILE* file = std::fopen(path_.c_str(), "w");
    ::dup2(::fileno(file), STDERR_FILENO);
    std::fclose(file);
  }
  ~StderrFile() {
    std::fflush(stderr);
    ::dup2(kept_, STDERR_FILENO);
    ::close(kept_);
  }
  StderrFile(const StderrFile&) = delete;
  StderrFile& operator=(const StderrFile&) = delete;
  std::string text() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // The first line with `part`; empty after a minute without.
  std::string wait_for(const std::string& part) const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (std::chrono::steady_clock::now() < end) {
      const std::string all = text();
      const std::size_t at = all.find(part);
      if (at != std::string::npos && all.find('\n', at) != std::string::npos) {
        const std::size_t begin = all.rfind('\n', at) + 1;  // npos + 1 is 0
        return all.substr(begin, all.find('\n', at) - begin);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return "";
  }

 private:
  TempDir dir_;
  std::string path_;
  int kept_;
};

class BadDays : public testing::TestWithParam<Day> {
 protected:
  void SetUp() override {
    if (const std::string why = io_uring_refusal(); GetParam().io == IoBackend::kIoUring && !why.empty()) GTEST_SKIP() << why;
    at::set_num_threads(2);
    PlainModel plain(config_, DType::kBFloat16);
    bridge::PlainAdamW optimizer(plain.data, groups_of(*plain.model));
    for (int i = 0; i < kSteps; ++i) {
      const at::Tensor loss = loss_of(*plain.model, i);
      expected_.push_back(std::bit_cast<std::uint32_t>(loss.item<float>()));
      loss.backward();
      optimizer.step();
      optimizer.zero_grad();
    }
    expected_weights_ = hash_of(plain.data);
    non_model_ = plain.counter.peaks().non_model;
  }

  void open(FileOps* files, bridge::RuntimeOptions options = {}) {
    const Bytes per_element =
        bridge::ModelData::bytes_per_element(DType::kBFloat16, bridge::GradientPlacement::kInParameter, Training::kTrained);
    options.memory_budget = round_up(non_model_ + config_.parameter_count() * per_element / 100 * kRoomPercent, kMiB);
    options.spill_dir = dir_.path();
    options.io = GetParam().io;
    options.layout = {.chunk_elems = Elems{256} << 10, .tile_elems = Elems{64} << 10};
    options.file_ops = files;
    runtime_ = bridge::Runtime::create(options);
    engine_.emplace(runtime_, bridge::EngineOptions{.dtype = DType::kBFloat16});
    model_ = attached_model(config_, *engine_);
    optimizer_.emplace(*engine_, groups_of(*model_), torch::optim::AdamWOptions{}, GetParam().timing);
  }

  at::Tensor forward(int i) {
    const at::Tensor loss = loss_of(*model_, i);
    losses_.push_back(std::bit_cast<std::uint32_t>(loss.item<float>()));
    return loss;
  }
  void step(int i) {
    forward(i).backward();
    optimizer_->step();
    optimizer_->zero_grad();
  }
  // Each part of it again until it is done; what it says must name the write. False: a backward threw that had begun to update,
  // whose step cannot be done again, and step() says so.
  bool step_in_spite_of_errors(int i) {
    const auto failed = [&](const auto& action) {
      const std::string text = error_of(action);
      if (text.empty()) return false;
      EXPECT_THAT(text, AllOf(HasSubstr("write-back of chunk "), HasSubstr(std::strerror(EIO))));
      return true;
    };
    for (bool done = false; !done;) {
      at::Tensor loss;
      if (failed([&] { loss = forward(i); })) continue;
      done = !failed([&] { loss.backward(); });
      if (done) break;
      losses_.pop_back();
      optimizer_->zero_grad();
      const std::string told = error_of([&] { optimizer_->step(); });
      EXPECT_THAT(told, HasSubstr("step() did nothing"));
      if (told.find("have got their update") != std::string::npos) return false;
    }
    while (failed([&] { optimizer_->step(); })) {
    }
    optimizer_->zero_grad();
    return true;
  }
  void steps(int from, int to) {
    for (int i = from; i < to; ++i) step(i);
  }
  void expect_as_plain() {
    EXPECT_EQ(losses_, expected_);
    EXPECT_EQ(hash_of(*engine_), expected_weights_);
    EXPECT_LE(runtime_->ledger().peaks().total, runtime_->options().memory_budget);
    runtime_->manager().check_invariants();
    runtime_->pool().arena().check_invariants();
    EXPECT_GE(runtime_->orchestrator()->stats().plans, 1) << "else nothing came ahead";
    EXPECT_GT(runtime_->manager().stats().evictions, 0);
  }

  const models::TransformerConfig config_ = small_config(Shape::kGpt2);
  std::vector<std::uint32_t> expected_;
  std::uint64_t expected_weights_ = 0;
  Bytes non_model_ = 0;
  TempDir dir_;
  SlowFileOps slow_;
  FaultyFileOps faulty_;
  std::shared_ptr<bridge::Runtime> runtime_;
  std::optional<bridge::Engine> engine_;
  std::unique_ptr<models::Transformer> model_;
  std::optional<bridge::ChunkedAdamW> optimizer_;
  std::vector<std::uint32_t> losses_;
};

TEST_P(BadDays, ADiskThatIsSlowForAWhileOnlyCostsTime) {
  SlowFileOps& files = slow_;
  open(&files);
  steps(0, kBad);
  EXPECT_EQ(files.slowed(), 0);
  files.set_bytes_per_second(kSlow);
  steps(kBad, kBad + 2);
  EXPECT_GT(files.slowed(), 2 * 20 * kMiB);
  files.set_bytes_per_second(0);
  steps(kBad + 2, kSteps);
  expect_as_plain();
}

TEST_P(BadDays, TransfersThatStandStillAreToldByNameAndOnlyCostTime) {
  FaultyFileOps& files = faulty_;
  open(&files, {.warn_after = std::chrono::milliseconds(100)});
  steps(0, kBad);
  int i = kBad;
  for (const FileCall call : {FileCall::kRead, FileCall::kWrite}) {
    const StderrFile said;
    std::string line;
    files.hold(call);
    std::thread other([&] {
      files.wait_until_held(call, 1);
      line = said.wait_for("a long wait");
      files.release(call);
    });
    step(i++);
    other.join();
    EXPECT_THAT(line, AllOf(HasSubstr("thread "), HasSubstr(" has waited "),
                            HasSubstr(call == FileCall::kRead ? "read of chunk " : "write of chunk ")));
  }
  steps(i, kSteps);
  expect_as_plain();
}

TEST_P(BadDays, ATransferThatStandsStillTooLongEndsInAnErrorAndTheStepCanBeDoneAgain) {
  FaultyFileOps& files = faulty_;
  open(&files, {.time_out = std::chrono::milliseconds(500)});
  steps(0, kBad);
  files.hold(FileCall::kRead);
  std::string text = error_of([&] { forward(kBad); });
  const bool in_forward = !text.empty();
  EXPECT_NE(in_forward, GetParam().timing == UpdateTiming::kAtStep) << "parameters stay, and tiles are used at step() only";
  if (!in_forward) {
    losses_.pop_back();
    forward(kBad).backward();
    text = error_of([&] { optimizer_->step(); });
  }
  EXPECT_THAT(text, AllOf(HasSubstr("nothing happened for"), HasSubstr("read to host")));
  files.release(FileCall::kRead);
  ASSERT_TRUE(runtime_->manager().drain().ok());
  if (in_forward) forward(kBad).backward();
  // What an update said in forward it says once more, as nobody can tell who has heard it.
  if (const std::string told = error_of([&] { optimizer_->step(); }); !told.empty()) {
    EXPECT_TRUE(in_forward);
    EXPECT_THAT(told, AllOf(HasSubstr("step() did nothing"), HasSubstr("nothing happened for")));
    optimizer_->step();
  }
  optimizer_->zero_grad();
  steps(kBad + 1, kSteps);
  expect_as_plain();
}

// Nobody hears of it unless somebody waits for the room: that depends on how busy the machine is.
TEST_P(BadDays, WritesThatFailWhileOthersGoThroughLoseNothing) {
  FaultyFileOps& files = faulty_;
  open(&files);
  steps(0, kBad);
  files.fail_every(FileCall::kWrite, 3, EIO);
  for (int i = kBad; i < kBad + 2; ++i) {
    if (!step_in_spite_of_errors(i)) {
      EXPECT_EQ(GetParam().timing, UpdateTiming::kOverlapped);
      std::printf("a backward failed that had begun to update\n");
      return;
    }
  }
  EXPECT_GT(files.injected(FileCall::kWrite), 5);
  files.fail_every(FileCall::kWrite, 0, 0);
  steps(kBad + 2, kSteps);
  expect_as_plain();
}

INSTANTIATE_TEST_SUITE_P(Cases, BadDays,
                         testing::Values(Day{"atstep_pread", UpdateTiming::kAtStep, IoBackend::kPread},
                                         Day{"deferred_ring", UpdateTiming::kDeferred, IoBackend::kIoUring},
                                         Day{"overlapped_pread", UpdateTiming::kOverlapped, IoBackend::kPread},
                                         Day{"overlapped_ring", UpdateTiming::kOverlapped, IoBackend::kIoUring}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace patrickstar
