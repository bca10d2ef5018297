#include "patrickstar/models/checkpoint.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "patrickstar/models/test_tensors.h"
#include "patrickstar/models/transformer.h"

namespace patrickstar::models {
namespace {

at::Tensor leaf(at::Tensor t) { return t.detach().set_requires_grad(true); }

TEST(Checkpoint, DropoutDrawsTheSameAgainAndLeavesTheGeneratorAlone) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Named seen[2];
    for (const bool checkpointed : {false, true}) {
      at::manual_seed(7);
      const at::Tensor weight = leaf(at::randn({16, 16}).to(dtype));
      const at::Tensor start = leaf(at::randn({8, 16}).to(dtype));
      const auto body = [weight](const at::Tensor& x) { return at::dropout(at::matmul(x, weight), 0.4, /*train=*/true); };
      at::Tensor x = start;
      for (int i = 0; i < 3; ++i) x = checkpointed ? checkpoint(body, x) : body(x);
      const at::Tensor loss = at::dropout(x, 0.2, true).square().sum();
      at::randn({5});  // between forward and backward
      loss.backward();
      seen[checkpointed] = {
          {"loss", loss.detach()}, {"weight", weight.grad()}, {"input", start.grad()}, {"next", at::randn({4})}};
    }
    expect_same_bits(seen[0], seen[1]);
  }
}

TEST(Checkpoint, AFrozenInputStillGivesGradientsToTheBody) {
  const at::Tensor weight = leaf(at::ones({4, 4}));
  const at::Tensor input = at::ones({2, 4});
  const at::Tensor output = checkpoint([weight](const at::Tensor& x) { return at::matmul(x, weight); }, input);
  ASSERT_TRUE(output.requires_grad());
  output.sum().backward();
  EXPECT_TRUE(same_bits(weight.grad(), at::full({4, 4}, 2.0)));
  EXPECT_FALSE(input.grad().defined());
}

TEST(Checkpoint, NothingIsRecordedWhereNothingNeedsAGradient) {
  int calls = 0;
  const auto body = [&calls](const at::Tensor& x) { return ++calls, x * 2; };
  EXPECT_FALSE(checkpoint(body, at::ones({2}), Captured::kFrozen).requires_grad());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(checkpoint(body, leaf(at::ones({2}))).requires_grad());
  EXPECT_EQ(calls, 2);
}

TEST(Checkpoint, AFrozenBodyPassesTheGradientOn) {
  const at::Tensor input = leaf(at::ones({3}));
  checkpoint([](const at::Tensor& x) { return x * 3; }, input, Captured::kFrozen).sum().backward();
  EXPECT_TRUE(same_bits(input.grad(), at::full({3}, 3.0)));
}

TEST(Checkpoint, AThrowInTheRecomputationPutsTheGeneratorBack) {
  int calls = 0;
  const auto body = [&calls](const at::Tensor& x) {
    at::Tensor y = at::dropout(x, 0.5, true);
    TORCH_CHECK(++calls < 2, "out of room");
    return y;
  };
  const at::Tensor loss = checkpoint(body, leaf(at::ones({8}))).sum();
  const at::Tensor before = at::globalContext().defaultGenerator(c10::Device(c10::kCPU)).get_state();
  EXPECT_THROW(loss.backward(), c10::Error);
  EXPECT_TRUE(same_bits(at::globalContext().defaultGenerator(c10::Device(c10::kCPU)).get_state(), before));
}

TEST(Checkpoint, AutogradGradIsRefusedByName) {
  const at::Tensor input = leaf(at::ones({3}));
  const at::Tensor output = checkpoint([](const at::Tensor& x) { return x * 3; }, input).sum();
  try {
    torch::autograd::grad({output}, {input});
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("[checkpoint] works with loss.backward() only"), std::string::npos);
  }
}

// One loss and all gradients of a model, built and fed from fixed seeds.
Named run(TransformerConfig config, at::ScalarType dtype, std::int64_t frozen, Activations activations) {
  config.activations = activations;
  at::manual_seed(11);
  Transformer model(config, {.dtype = dtype});
  model.freeze_first_layers(frozen);
  const at::Tensor tokens = at::randint(config.vocab_size, {2, 24}, at::kLong);
  const at::Tensor targets = at::randint(config.vocab_size, {2, 24}, at::kLong);
  const at::Tensor loss = model.loss(tokens, targets);
  loss.backward();
  Named seen = take_gradients(model);
  seen.emplace_back("loss", loss.detach());
  return seen;
}

TEST(Checkpoint, ModelsHaveTheSameBitsWithAndWithout) {
  for (const char* name : {"tiny-gpt2", "tiny-llama"}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const std::int64_t frozen : {0, 1, 3}) {
        SCOPED_TRACE(std::string(name) + (dtype == at::kFloat ? " fp32 " : " bf16 ") + std::to_string(frozen) + " frozen");
        const TransformerConfig config = *preset(name).config;
        const Named kept = run(config, dtype, frozen, Activations::kKeep);
        const Named recomputed = run(config, dtype, frozen, Activations::kCheckpoint);
        expect_same_bits(kept, recomputed);
        expect_same_bits(kept, run(config, dtype, frozen, Activations::kKeep));  // and from run to run
        for (const auto& [key, gradient] : recomputed) {
          bool trained = frozen == 0 || key.rfind("embedding.", 0) != 0;
          for (std::int64_t i = 0; i < frozen; ++i) trained = trained && key.rfind("blocks." + std::to_string(i), 0) != 0;
          EXPECT_EQ(gradient.defined(), trained) << key;
        }
      }
    }
  }
}

}  // namespace
}  // namespace patrickstar::models
