// Contract 2 on bad days: 50 steps with layer drop, evaluation passes at odd moments, and reads and writes of the disk that
// complete late and in another order than they came, under planned prefetch and every update schedule. Losses of every step, and
// weights, masters and moments at the end, are bit for bit those of the plain loop over the same batches, drops and evaluations.
//
// Seeds: docs/testing.md.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <random>
#include <string>

#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/core/io/testing/link_fixture.h"
#include "patrickstar/core/io/testing/shuffling_file_ops.h"
#include "patrickstar/core/testing/seed.h"
#include "tests/e2e/small_model.h"

namespace patrickstar {
namespace {

using bridge::UpdateTiming;
using models::Activations;

constexpr int kSteps = 50;
constexpr int kThreads = 4;  // of the disk
constexpr Nanos kMostDelay = 400'000;

enum class Clip : std::uint8_t { kNone, kHalf };

struct Case {
  std::string name;
  Shape shape = Shape::kGpt2;
  DType dtype = DType::kBFloat16;
  UpdateTiming timing = UpdateTiming::kAtStep;
  Clip clip = Clip::kNone;
  int accumulate = 1;
  Activations activations = Activations::kKeep;
  int room_percent = 40;  // of the model data
  IoBackend io = IoBackend::kPread;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

struct Outcome {
  std::vector<std::uint32_t> losses;
  std::uint64_t weights = 0;
};

// What happens in a run beside the steps: the same for the plain loop and the Engine.
class Fate {
 public:
  explicit Fate(std::uint32_t seed) : random_(seed) {}
  // The first steps are whole: something regular to plan from.
  std::vector<bool> dropped_layers(int step, std::int64_t layers) {
    std::vector<bool> dropped(static_cast<std::size_t>(layers));
    for (std::size_t i = 0; i < dropped.size(); ++i) dropped[i] = once_in(10) && step >= 5;
    return dropped;
  }
  bool once_in(std::uint32_t n) { return random_() % n == 0; }

 private:
  std::mt19937 random_;
};

at::Tensor loss_of_a_batch(models::Transformer& model) {
  const at::Tensor tokens = at::randint(0, model.config().vocab_size, {1, 17}, at::kLong);
  return model.loss(tokens.slice(1, 0, 16), tokens.slice(1, 1, 17));
}

void note(const at::Tensor& loss, Outcome* outcome) {
  outcome->losses.push_back(std::bit_cast<std::uint32_t>(loss.item<float>()));
}

void evaluate(models::Transformer& model, Outcome* outcome) {
  const at::NoGradGuard no_grad;
  model.leave_out({});
  note(loss_of_a_batch(model), outcome);
}

template <class Optimizer>
void train(const Case& c, std::uint32_t seed, models::Transformer& model, Optimizer& optimizer, Outcome* outcome) {
  torch::manual_seed(seed);
  Fate fate(seed);
  for (int step = 0; step < kSteps; ++step) {
    // Another rate each step: an update that is put off must use its own step's.
    for (auto& group : optimizer.param_groups()) group.options().set_lr(group.options().get_lr() * 0.98);
    for (int micro = 0; micro < c.accumulate; ++micro) {
      model.leave_out(fate.dropped_layers(step, model.config().layers));
      at::Tensor loss = loss_of_a_batch(model);
      note(loss, outcome);
      if (c.accumulate > 1) loss = loss / c.accumulate;
      loss.backward();
    }
    // Overlapped updates have no old values any more between backward and step().
    if (fate.once_in(8) && c.timing != UpdateTiming::kOverlapped) evaluate(model, outcome);
    if (c.clip == Clip::kHalf) optimizer.clip_grad_norm_(0.5);
    optimizer.step();
    if (fate.once_in(8)) evaluate(model, outcome);
    optimizer.zero_grad();
    if (fate.once_in(8)) evaluate(model, outcome);
  }
}

models::TransformerConfig config_of(const Case& c) {
  models::TransformerConfig config = small_config(c.shape);
  config.activations = c.activations;
  return config;
}

class Chaos : public testing::TestWithParam<Case> {};

TEST_P(Chaos, FiftyStepsEqualThePlainLoopBitForBit) {
  const Case& c = GetParam();
  const bool ring = c.io == IoBackend::kIoUring;
  if (const std::string why = io_uring_refusal(); ring && !why.empty()) GTEST_SKIP() << why;
  const std::uint32_t seed = test_seed(17);
  std::printf("seed %u\n", seed);
  SCOPED_TRACE("seed " + std::to_string(seed));
  at::set_num_threads(2);

  Outcome expected;
  Bytes non_model = 0;
  {
    PlainModel plain(config_of(c), c.dtype);
    bridge::PlainAdamW optimizer(plain.data, groups_of(*plain.model));
    train(c, seed, *plain.model, optimizer, &expected);
    expected.weights = hash_of(plain.data);
    non_model = plain.counter.peaks().non_model;
  }

  ShufflingFileOps files({.seed = seed, .threads = kThreads, .most_delay = kMostDelay});
  const auto gradients = c.accumulate > 1 ? bridge::GradientPlacement::kOwnChunks : bridge::GradientPlacement::kInParameter;
  const Bytes per_element = bridge::ModelData::bytes_per_element(
      c.dtype, c.dtype == DType::kFloat32 ? bridge::GradientPlacement::kOwnChunks : gradients, Training::kTrained);
  const Bytes budget = round_up(non_model + config_of(c).parameter_count() * per_element / 100 * c.room_percent, kMiB);
  auto runtime = bridge::Runtime::create({.memory_budget = budget,
                                          .spill_dir = testing::TempDir(),
                                          .io = c.io,
                                          .io_threads = kThreads,
                                          .layout = {.chunk_elems = Elems{256} << 10, .tile_elems = Elems{64} << 10},
                                          .file_ops = &files});
  bridge::Engine engine(runtime, {.dtype = c.dtype, .gradients = gradients});
  const auto model = attached_model(config_of(c), engine);
  bridge::ChunkedAdamW optimizer(engine, groups_of(*model), {}, c.timing);
  Outcome outcome;
  train(c, seed, *model, optimizer, &outcome);
  const ManagerStats stats = runtime->manager().stats();
  const OrchestratorStats plans = runtime->orchestrator()->stats();
  outcome.weights = hash_of(engine);

  EXPECT_EQ(outcome.losses, expected.losses);
  EXPECT_EQ(outcome.weights, expected.weights);
  EXPECT_LE(runtime->ledger().peaks().total, budget);
  runtime->manager().check_invariants();
  runtime->pool().arena().check_invariants();
  // Else it was no chaos.
  std::int64_t fetches = 0;
  for (const KindTraffic& kind : stats.kinds) fetches += kind.fetches;
  std::printf(
      "budget %ld MiB of %ld: %ld fetches, %ld misses, %ld late, %ld plans, %ld retraces, %ld deviations, %ld overtaken, %ld "
      "cut, "
      "%.1f s of delays\n",
      static_cast<long>(budget / kMiB), static_cast<long>(engine.model_data_bytes() / kMiB), static_cast<long>(fetches),
      static_cast<long>(stats.misses), static_cast<long>(stats.late), static_cast<long>(plans.plans),
      static_cast<long>(plans.retraces), static_cast<long>(plans.deviations), static_cast<long>(files.overtaken()),
      static_cast<long>(files.cut()), static_cast<double>(files.delayed()) * 1e-9);
  EXPECT_GT(stats.evictions, 0);
  EXPECT_GT(stats.late, 0);
  EXPECT_GT(stats.read(), 0);
  EXPECT_GT(stats.written(), 0);
  EXPECT_GT(fetches, stats.misses) << "all came on demand";
  EXPECT_GE(plans.plans, 1);
  EXPECT_GT(plans.deviations, 0);
  EXPECT_GT(ring ? files.cut() : files.overtaken(), 100);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Chaos,
    testing::Values(Case{"gpt2_bf16_overlapped", Shape::kGpt2, DType::kBFloat16, UpdateTiming::kOverlapped},
                    Case{"gpt2_bf16_deferred_clip_accumulate2", Shape::kGpt2, DType::kBFloat16, UpdateTiming::kDeferred,
                         Clip::kHalf, 2},
                    Case{"gpt2_fp32_atstep_accumulate2", Shape::kGpt2, DType::kFloat32, UpdateTiming::kAtStep, Clip::kNone, 2},
                    Case{"llama_fp32_overlapped", Shape::kLlama, DType::kFloat32, UpdateTiming::kOverlapped},
                    Case{"llama_bf16_deferred_clip_checkpoint", Shape::kLlama, DType::kBFloat16, UpdateTiming::kDeferred,
                         Clip::kHalf, 1, Activations::kCheckpoint},
                    Case{"llama_bf16_atstep", Shape::kLlama, DType::kBFloat16, UpdateTiming::kAtStep},
                    Case{"gpt2_fp32_overlapped_ring", Shape::kGpt2, DType::kFloat32, UpdateTiming::kOverlapped, Clip::kNone, 1,
                         Activations::kKeep, 40, IoBackend::kIoUring},
                    Case{"llama_bf16_deferred_clip_accumulate2_ring", Shape::kLlama, DType::kBFloat16, UpdateTiming::kDeferred,
                         Clip::kHalf, 2, Activations::kKeep, 40, IoBackend::kIoUring}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace patrickstar
