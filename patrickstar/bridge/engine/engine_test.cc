// What a user meets at the border: armed tensors, writes and reads at odd moments, failures, refusals.
#include "patrickstar/bridge/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/utils.h>

#include <cerrno>
#include <optional>

#include "patrickstar/bridge/device/cpu_allocator.h"
#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/bridge/engine/plain_adamw.h"
#include "patrickstar/core/io/testing/faulty_file_ops.h"

namespace patrickstar::bridge {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr Bytes kRoomy = 256 * kMiB;
constexpr std::int64_t kWidth = 512;

template <class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

// Layers of 512 x 512: 7 MiB of model data each with bf16 and masters.
torch::nn::Sequential make_model(int layers) {
  torch::manual_seed(11);
  torch::nn::Sequential model;
  for (int i = 0; i < layers; ++i) model->push_back(torch::nn::Linear(kWidth, kWidth));
  return model;
}

at::Tensor input() { return at::full({4, kWidth}, 0.5, at::kBFloat16); }

struct Rig {
  explicit Rig(Bytes budget, EngineOptions options = {}, int layers = 4, FileOps* ops = &posix_file_ops())
      : runtime(Runtime::create({.memory_budget = budget,
                                 .spill_dir = testing::TempDir(),
                                 .layout = {.chunk_elems = kWidth * kWidth + 1024, .tile_elems = 64 * 1024},
                                 .file_ops = ops})),
        engine(runtime, options),
        model(make_model(layers)) {
    engine.attach(*model);
  }
  at::Tensor weight(int layer) { return model->parameters()[static_cast<std::size_t>(2 * layer)]; }

  std::shared_ptr<Runtime> runtime;
  Engine engine;
  torch::nn::Sequential model;
};

// Too tight for gradients to stay beside their parameters, so they take the parameters' places.
constexpr Bytes kTight = 20 * kMiB;

TEST(Engine, AnArmedParameterRaisesAndOperatorsWork) {
  Rig rig(kRoomy);
  const at::Tensor weight = rig.weight(0);
  EXPECT_THAT(error_of([&] { (void)weight.data_ptr(); }), HasSubstr("0.weight"));
  EXPECT_THAT(error_of([&] { (void)weight.t().const_data_ptr(); }), HasSubstr("through an operator"));
  EXPECT_GT(weight.abs().sum().item<float>(), 0);
  EXPECT_THAT(error_of([&] { (void)weight.data_ptr(); }), HasSubstr("0.weight")) << "armed again, though resident";
}

TEST(Engine, AReadBetweenBackwardAndStepGivesTheValueAndLeavesTheGradient) {
  Rig rig(kTight);
  const at::Tensor weight = rig.weight(1);
  const at::Tensor before = weight.clone();
  rig.model->forward(input()).sum().backward();
  const at::Tensor gradient = weight.grad().clone();
  ASSERT_EQ(rig.engine.core()->find(weight.unsafeGetTensorImpl())->gradient_beside(), nullptr);
  EXPECT_TRUE(at::equal(weight, before));
  EXPECT_TRUE(at::equal(weight.grad(), gradient));
  EXPECT_FALSE(at::equal(weight, gradient));
}

TEST(Engine, AGradientThrownAwayBeforeStepLeavesTheValue) {
  Rig rig(kTight);
  const at::Tensor before = rig.weight(1).clone();
  rig.model->forward(input()).sum().backward();
  rig.model->zero_grad();
  EXPECT_TRUE(at::equal(rig.weight(1), before));
}

TEST(Engine, AConsumedGradientSaysSo) {
  for (const Bytes budget : {kTight, kRoomy}) {
    Rig rig(budget);
    ChunkedAdamW optimizer(rig.engine, rig.model->parameters());
    rig.model->forward(input()).sum().backward();
    EXPECT_GT(rig.weight(0).grad().abs().sum().item<float>(), 0);
    optimizer.step();
    EXPECT_THAT(error_of([&] { (void)rig.weight(0).grad().sum(); }), HasSubstr("consumed by step()"));
    EXPECT_THAT(error_of([&] { optimizer.step(); }), HasSubstr("consumed by step()")) << "an operator failed: told once";
    optimizer.zero_grad();
    EXPECT_EQ(error_of([&] { optimizer.step(); }), "");
  }
}

template <class Optimizer>
std::vector<at::Tensor> values_after_a_step(torch::nn::Sequential& model, Optimizer& optimizer) {
  model->forward(input()).square().sum().backward();
  optimizer.step();
  optimizer.zero_grad();
  std::vector<at::Tensor> values;
  for (const auto& parameter : model->parameters()) values.push_back(parameter.detach().clone());
  return values;
}

// Steps with user writes at every odd moment, against the plain loop.
template <class Optimizer>
std::vector<at::Tensor> odd_loop(torch::nn::Sequential& model, Optimizer& optimizer) {
  const at::Tensor x = input();
  for (int step = 0; step < 3; ++step) {
    {
      const at::NoGradGuard no_grad;
      model->parameters()[2].copy_(model->parameters()[2] * 1.5);  // before forward: an EMA, load_state_dict
    }
    model->forward(x).square().sum().backward();
    {
      const at::NoGradGuard no_grad;
      model->parameters()[4].add_(0.25);  // between backward and step
      model->parameters()[0].mutable_grad().mul_(0.5);
    }
    optimizer.clip_grad_norm_(1.0);
    optimizer.step();
    optimizer.zero_grad();
  }
  std::vector<at::Tensor> values;
  for (const auto& parameter : model->parameters()) values.push_back(parameter.detach().clone());
  return values;
}

TEST(Engine, WritesByTheUserReachTheMasterAsInThePlainLoop) {
  torch::nn::Sequential plain_model = make_model(4);
  PlainModelData data(DType::kBFloat16);
  data.attach(*plain_model);
  PlainAdamW plain(data, {torch::optim::OptimizerParamGroup(plain_model->parameters())});
  const auto expected = odd_loop(plain_model, plain);
  for (const Bytes budget : {kTight, kRoomy}) {
    Rig rig(budget);
    ChunkedAdamW optimizer(rig.engine, rig.model->parameters());
    const auto values = odd_loop(rig.model, optimizer);
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(at::equal(values[i], expected[i])) << "parameter " << i;
  }
}

TEST(Engine, GradientChunksKeepTheGradientReadableAfterStep) {
  for (const Bytes budget : {kTight, kRoomy}) {
    Rig rig(budget, {.gradients = GradientPlacement::kOwnChunks});
    ChunkedAdamW optimizer(rig.engine, rig.model->parameters());
    rig.model->forward(input()).sum().backward();
    const at::Tensor once = rig.weight(0).grad().clone();
    rig.model->forward(input()).sum().backward();
    EXPECT_TRUE(at::equal(rig.weight(0).grad(), once + once));
    optimizer.step();
    EXPECT_TRUE(at::equal(rig.weight(0).grad(), once + once));
    optimizer.zero_grad();
    rig.runtime->manager().check_invariants();
  }
}

TEST(Engine, ReleaseGivesOrdinaryTensorsBack) {
  Rig rig(kTight);
  const at::Tensor before = rig.weight(3).clone();
  rig.engine.release(*rig.model);
  EXPECT_TRUE(at::equal(rig.weight(3), before));
  EXPECT_NE(rig.weight(3).data_ptr(), nullptr);
}

TEST(Engine, ParametersStayReadableWithoutTheEngine) {
  torch::nn::Sequential model = make_model(4);
  const at::Tensor before = model->parameters()[6].to(at::kBFloat16);
  {
    auto runtime = Runtime::create({.memory_budget = kTight, .spill_dir = testing::TempDir()});
    Engine engine(runtime, {});
    engine.attach(*model);
  }
  EXPECT_TRUE(at::equal(model->parameters()[6], before));
}

TEST(Engine, TensorsOutliveTheRuntime) {
  at::Tensor large;
  at::Tensor small;
  {
    Rig rig(kRoomy);
    large = at::ones({1024, 1024});
    small = at::ones({4});
  }
  EXPECT_EQ(large.sum().item<float>() + small.sum().item<float>(), 1024 * 1024 + 4);
}

TEST(Engine, RefusesByName) {
  Rig rig(kRoomy);
  torch::nn::Sequential doubles(torch::nn::Linear(8, 8));
  doubles->to(torch::kDouble);
  EXPECT_THAT(error_of([&] { rig.engine.attach(*doubles, "odd"); }), HasSubstr("odd.0.weight"));
  torch::nn::Sequential part(torch::nn::Linear(8, 8));
  part->parameters()[0].set_data(at::zeros({16, 8}).slice(0, 0, 8));
  EXPECT_THAT(error_of([&] { rig.engine.attach(*part); }), HasSubstr("larger storage"));
  EXPECT_THAT(error_of([&] { (void)Runtime::create({.memory_budget = kRoomy}); }), HasSubstr("one Runtime per process"));
  torch::nn::Sequential stranger(torch::nn::Linear(8, 8));
  EXPECT_THAT(error_of([&] { ChunkedAdamW(rig.engine, stranger->parameters()); }), HasSubstr("not attached"));
  torch::nn::Sequential sparse(torch::nn::Embedding(torch::nn::EmbeddingOptions(64, 8).sparse(true)));
  rig.engine.attach(*sparse);
  EXPECT_THAT(error_of([&] { sparse->forward(at::arange(4)).sum().backward(); }),
              HasSubstr("0.weight got a sparse gradient: sparse gradients are not supported"));
}

TEST(Engine, AnAllocationOverTheBudgetNamesTheHoldersAndTheEngineStaysUsable) {
  Rig rig(kTight);
  const std::string text = error_of([&] { (void)at::zeros({64 * kMiB}, at::kByte); });
  EXPECT_THAT(text, HasSubstr("does not fit the budget"));
  EXPECT_THAT(text, HasSubstr("non-model"));
  ChunkedAdamW optimizer(rig.engine, rig.model->parameters());
  rig.model->forward(input()).sum().backward();
  optimizer.step();
  optimizer.zero_grad();
  EXPECT_LE(rig.runtime->ledger().peaks().total, kTight);
}

TEST(Engine, ABudgetThatTheParametersProveImpossibleIsRefusedWithTheNumbers) {
  torch::nn::Sequential model(torch::nn::Linear(torch::nn::LinearOptions(2048, 2048).bias(false)));  // fp32, beside the budget
  auto runtime = Runtime::create({.memory_budget = 15 * kMiB, .spill_dir = testing::TempDir()});
  Engine engine(runtime, {});
  const std::string text = error_of([&] { engine.attach(*model, "wide"); });
  EXPECT_THAT(text, HasSubstr("budget of 15.0 MiB is impossible"));
  EXPECT_THAT(text, HasSubstr("wide.0.weight"));
  EXPECT_THAT(text, HasSubstr("16.0 MiB (a lower bound)"));
  EXPECT_NE(model->parameters()[0].data_ptr(), nullptr) << "nothing changed";
  EXPECT_EQ(engine.model_data_bytes(), 0);
  model->parameters()[0].requires_grad_(false);  // 8 MiB, without a gradient
  EXPECT_EQ(error_of([&] { engine.attach(*model, "wide"); }), "");
}

TEST(Engine, AttachReservesTheDiskAtOnceAndRefusesOneThatIsTooSmall) {
  FaultyFileOps files;
  auto runtime = Runtime::create({.memory_budget = kRoomy,
                                  .spill_dir = testing::TempDir(),
                                  .layout = {.chunk_elems = kWidth * kWidth + 1024, .tile_elems = 64 * 1024},
                                  .file_ops = &files});
  Engine engine(runtime, {});
  torch::nn::Sequential model = make_model(4);
  files.set_free_bytes(12 * kMiB);  // 14 bytes a parameter are 14.03 MiB
  const std::string text = error_of([&] { engine.attach(*model); });
  EXPECT_THAT(text, HasSubstr("too small"));
  EXPECT_THAT(text, HasSubstr("14.0 MiB more of scratch file"));
  EXPECT_NE(model->parameters()[0].data_ptr(), nullptr) << "nothing changed";
  files.set_free_bytes(kGiB);
  const std::int64_t before = files.calls(FileCall::kPreallocate);
  engine.attach(*model);
  EXPECT_EQ(files.calls(FileCall::kPreallocate), before + 1) << "to the byte, so that no chunk finds the disk full";
  EXPECT_GE(engine.model_data_bytes(), 14 * engine.parameter_count());
}

TEST(EngineFaults, AnAttachThatFailedHalfWaySaysSoForEver) {
  FaultyFileOps files;
  auto runtime = Runtime::create({.memory_budget = kTight,
                                  .spill_dir = testing::TempDir(),
                                  .layout = {.chunk_elems = kWidth * kWidth + 1024, .tile_elems = 64 * 1024},
                                  .file_ops = &files});
  std::optional<Engine> engine(std::in_place, runtime, EngineOptions{});
  torch::nn::Sequential first = make_model(1);
  engine->attach(*first, "first");
  ChunkedAdamW optimizer(*engine, first->parameters());
  torch::nn::Sequential second = make_model(8);
  const at::Tensor before = second->parameters()[0].to(at::kBFloat16);
  files.fail_every(FileCall::kWrite, 1, EIO);
  const std::string text = error_of([&] { engine->attach(*second, "second"); });
  EXPECT_GT(files.injected(FileCall::kWrite), 0);
  files.fail_every(FileCall::kWrite, 0, 0);
  EXPECT_THAT(text, HasSubstr("attaching second."));
  EXPECT_THAT(text, HasSubstr(std::strerror(EIO)));
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  torch::nn::Sequential third = make_model(1);
  EXPECT_EQ(error_of([&] { engine->attach(*third, "third"); }), text);
  EXPECT_EQ(error_of([&] { optimizer.step(); }), text);
  EXPECT_EQ(error_of([&] { ChunkedAdamW(*engine, first->parameters()); }), text);
  EXPECT_TRUE(at::equal(second->parameters()[0], before)) << "what was attached stays readable";
  first->forward(input()).sum().backward();
  EXPECT_NE(first->parameters()[0].grad().data_ptr(), nullptr) << "an ordinary gradient, which nobody takes";
  first->zero_grad();
  engine->release(*first);
  engine->release(*second);
  engine.emplace(runtime, EngineOptions{});
  engine->attach(*second, "second");
  EXPECT_TRUE(at::equal(second->parameters()[0], before)) << "a new Engine takes the module";
  runtime->manager().check_invariants();
}

TEST(EngineFaults, AFailedFetchEndsAsOneErrorAtTheOperator) {
  torch::nn::Sequential plain_model = make_model(8);
  PlainModelData data(DType::kBFloat16);
  data.attach(*plain_model);
  PlainAdamW plain(data, {torch::optim::OptimizerParamGroup(plain_model->parameters())});
  const auto expected = values_after_a_step(plain_model, plain);
  FaultyFileOps files;
  Rig rig(kTight, {}, 8, &files);
  for (int i = 7; i >= 1; --i) (void)rig.weight(i).sum();  // layer 0 goes to disk
  rig.runtime->manager().give_up(rig.engine.core()->data().chunk(ChunkId(0u)).param);
  ASSERT_TRUE(rig.runtime->manager().drain().ok());
  files.fail_every(FileCall::kRead, 1, EIO);
  const std::string text = error_of([&] { (void)rig.model->forward(input()); });
  EXPECT_THAT(text, HasSubstr("chunk 0 param"));
  EXPECT_THAT(text, HasSubstr(std::strerror(EIO)));
  EXPECT_GT(files.injected(FileCall::kRead), 0);
  files.fail_every(FileCall::kRead, 0, 0);
  ChunkedAdamW optimizer(rig.engine, rig.model->parameters());
  const std::string refused = error_of([&] { optimizer.step(); });
  EXPECT_THAT(refused, HasSubstr("step() did nothing"));
  EXPECT_THAT(refused, HasSubstr("chunk 0 param"));
  EXPECT_EQ(error_of([&] { optimizer.step(); }), "") << "told once: the engine stays usable";
  const auto values = values_after_a_step(rig.model, optimizer);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(at::equal(values[i], expected[i])) << "nothing was lost: " << i;
  EXPECT_THAT(error_of([&] { (void)rig.weight(0).data_ptr(); }), Not(HasSubstr(std::strerror(EIO)))) << "the failure is over";
}

TEST(EngineFaults, AFailureToRebuildAValueLeavesTheTextOfAnArmedOneBehindIt) {
  FaultyFileOps files;
  Rig rig(kTight, {}, 8, &files);
  rig.model->forward(input()).sum().backward();
  const at::Tensor weight = rig.weight(1);  // its place holds its gradient
  const TensorPlace& place =
      rig.engine.core()->data().layout().place(rig.engine.core()->find(weight.unsafeGetTensorImpl())->id());
  const auto& tiles = rig.engine.core()->data().chunk(place.chunk).tiles;
  for (const auto& tile : tiles) rig.runtime->manager().give_up(tile.payload);
  ASSERT_TRUE(rig.runtime->manager().drain().ok());
  files.fail_every(FileCall::kRead, 1, EIO);
  EXPECT_THAT(error_of([&] { (void)weight.sum(); }), HasSubstr(std::strerror(EIO)));
  files.fail_every(FileCall::kRead, 0, 0);
  EXPECT_TRUE(weight.isfinite().all().item<bool>());
  EXPECT_THAT(error_of([&] { (void)weight.data_ptr(); }), HasSubstr("through an operator"));
}

TEST(EngineFaults, AFailureInBackwardReachesTheCaller) {
  FaultyFileOps files;
  Rig rig(kTight, {}, 8, &files);
  const at::Tensor loss = rig.model->forward(input()).sum();
  for (std::uint32_t chunk = 0; chunk < 8; ++chunk)
    rig.runtime->manager().give_up(rig.engine.core()->data().chunk(ChunkId(chunk)).param);
  ASSERT_TRUE(rig.runtime->manager().drain().ok());
  files.fail_every(FileCall::kRead, 1, EIO);
  EXPECT_THAT(error_of([&] { loss.backward(); }), HasSubstr(std::strerror(EIO)));
}

TEST(EngineFaults, AFailedWriteBackLosesNothing) {
  FaultyFileOps files;
  Rig rig(kTight, {}, 8, &files);
  const at::Tensor before = rig.weight(0).clone();
  const at::NoGradGuard no_grad;
  rig.weight(0).add_(1);
  files.fail_every(FileCall::kWrite, 1, ENOSPC);
  EXPECT_THAT(error_of([&] {
                for (int i = 1; i < 8; ++i) rig.weight(i).add_(1);
                (void)at::zeros({16 * kMiB}, at::kByte);
              }),
              HasSubstr("write-back"));
  EXPECT_GT(files.injected(FileCall::kWrite), 0);
  files.fail_every(FileCall::kWrite, 0, 0);
  EXPECT_TRUE(at::equal(rig.weight(0), before + 1));
  rig.runtime->manager().check_invariants();
}

}  // namespace
}  // namespace patrickstar::bridge
