#include "patrickstar/models/loss.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "patrickstar/models/test_tensors.h"

namespace patrickstar::models {
namespace {

constexpr std::int64_t kVocabulary = 97;

at::Tensor leaf(const at::Tensor& t) { return t.detach().clone().set_requires_grad(true); }

at::Tensor plain_loss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets) {
  return at::cross_entropy_loss(at::linear(hidden, weight).to(at::toOpMathType(hidden.scalar_type())), targets);
}

struct Case {
  at::Tensor hidden, weight, targets;
  Case(std::int64_t tokens, std::int64_t size, at::ScalarType dtype) {
    at::manual_seed(3);
    hidden = leaf(at::randn({tokens, size}).to(dtype));
    weight = leaf(at::randn({kVocabulary, size}).to(dtype));
    targets = at::randint(kVocabulary, {tokens}, at::kLong);
  }
};

struct Outcome {
  at::Tensor loss, hidden, weight;
};

Outcome outcome(const Case& c, const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& loss_of) {
  const at::Tensor hidden = leaf(c.hidden);
  const at::Tensor weight = leaf(c.weight);
  const at::Tensor loss = loss_of(hidden, weight);
  loss.backward();
  return {loss.detach(), hidden.grad(), weight.grad()};
}

// Chunks and blocks that divide the 40 tokens and that do not, more than there are, and single rows.
TEST(LinearCrossEntropy, EqualsTheLossOverFullLogits) {
  const Case c(40, 16, at::kFloat);
  const Outcome full = outcome(c, [&](const auto& h, const auto& w) { return plain_loss(h, w, c.targets); });
  for (const LossOptions options : {LossOptions{64, 256}, {8, 20}, {7, 16}, {1, 1}, {16, 3}}) {
    SCOPED_TRACE(std::to_string(options.chunk_rows) + " " + std::to_string(options.block_rows));
    const Outcome got =
        outcome(c, [&](const auto& h, const auto& w) { return linear_cross_entropy(h, w, c.targets, {}, options); });
    EXPECT_TRUE(close(got.loss, full.loss, 1e-6));
    EXPECT_TRUE(close(got.hidden, full.hidden, 2e-6));
    EXPECT_TRUE(close(got.weight, full.weight, 2e-6));
  }
}

TEST(LinearCrossEntropy, In16BitIsAsNearToFp32AsTheDtypeAllows) {
  const Case c(40, 16, at::kBFloat16);
  const Outcome exact =
      outcome(c, [&](const auto& h, const auto& w) { return plain_loss(h.to(at::kFloat), w.to(at::kFloat), c.targets); });
  const Outcome got = outcome(c, [&](const auto& h, const auto& w) { return linear_cross_entropy(h, w, c.targets, {}, {}); });
  EXPECT_EQ(got.loss.scalar_type(), at::kFloat);
  EXPECT_TRUE(close(got.loss, exact.loss, 4e-3));
  EXPECT_TRUE(close(got.hidden.to(at::kFloat), exact.hidden.to(at::kFloat), 2e-2));
  EXPECT_TRUE(close(got.weight.to(at::kFloat), exact.weight.to(at::kFloat), 2e-2));
}

TEST(LinearCrossEntropy, StaysFiniteForHugeLogits) {
  Case c(4, 8, at::kFloat);
  const at::Tensor loss = linear_cross_entropy(c.hidden.detach() * 1000, c.weight, c.targets, {}, {});
  EXPECT_TRUE(close(loss, plain_loss(c.hidden.detach() * 1000, c.weight, c.targets), 1e-5));
}

TEST(LinearCrossEntropy, AScaledLossScalesItsGradients) {
  const Case c(40, 16, at::kFloat);
  const Outcome full = outcome(c, [&](const auto& h, const auto& w) { return plain_loss(h, w, c.targets) * 0.3; });
  const Outcome got =
      outcome(c, [&](const auto& h, const auto& w) { return linear_cross_entropy(h, w, c.targets, {}, {}) * 0.3; });
  EXPECT_TRUE(close(got.hidden, full.hidden, 2e-6));
  EXPECT_TRUE(close(got.weight, full.weight, 2e-6));
}

TEST(LinearCrossEntropy, FrozenSidesGetNoGradient) {
  const Case c(40, 16, at::kFloat);
  const at::Tensor weight = leaf(c.weight);
  linear_cross_entropy(c.hidden.detach(), weight, c.targets, {}, {}).backward();
  const at::Tensor hidden = leaf(c.hidden);
  linear_cross_entropy(hidden, c.weight.detach(), c.targets, {}, {}).backward();
  const Outcome both = outcome(c, [&](const auto& h, const auto& w) { return linear_cross_entropy(h, w, c.targets, {}, {}); });
  EXPECT_TRUE(same_bits(weight.grad(), both.weight));
  EXPECT_TRUE(same_bits(hidden.grad(), both.hidden));
  EXPECT_FALSE(linear_cross_entropy(c.hidden.detach(), c.weight.detach(), c.targets, {}, {}).requires_grad());
}

TEST(LinearCrossEntropy, ATargetOutsideTheVocabularyRaises) {
  const Case c(4, 8, at::kFloat);
  EXPECT_THROW(linear_cross_entropy(c.hidden, c.weight, at::full({4}, kVocabulary, at::kLong), {}, {}), c10::Error);
  EXPECT_THROW(linear_cross_entropy(c.hidden, c.weight, at::full({4}, -1, at::kLong), {}, {}), c10::Error);
  EXPECT_THROW(linear_cross_entropy(c.hidden, c.weight, at::zeros({3}, at::kLong), {}, {}), c10::Error);
}

// A model of two ends and tanh between them: the tied table's gradient against plain autograd's. 12 tokens are fewer than the
// hidden size (d(logits) is kept), 60 more (the head's part is kept).
class TiedEnds : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override {
    at::manual_seed(5);
    table = at::randn({kVocabulary, 24});
    tokens = at::randint(kVocabulary, {GetParam()}, at::kLong);
    tokens[0] = tokens[1];  // a repeated token
    targets = at::randint(kVocabulary, {GetParam()}, at::kLong);
  }
  at::Tensor ours(const at::Tensor& t) const {
    TiedEmbedding ends = tied_embedding(t, tokens);
    return linear_cross_entropy(ends.rows.tanh(), ends.table, targets, ends.gradient, {8, 16});
  }
  at::Tensor plain(const at::Tensor& t) const { return plain_loss(at::embedding(t, tokens).tanh(), t, targets); }

  at::Tensor table, tokens, targets;
};

TEST_P(TiedEnds, GradientEqualsPlainAutograd) {
  const at::Tensor a = leaf(table), b = leaf(table);
  ours(a).backward();
  plain(b).backward();
  EXPECT_TRUE(close(a.grad(), b.grad(), 2e-6));
}

TEST_P(TiedEnds, GradientsAccumulateOverBackwardsAndUses) {
  const at::Tensor a = leaf(table), b = leaf(table);
  for (int i = 0; i < 2; ++i) {
    (ours(a) * 0.5 + ours(a)).backward();  // two forward passes in one graph
    (plain(b) * 0.5 + plain(b)).backward();
  }
  EXPECT_TRUE(close(a.grad(), b.grad(), 2e-6));
}

TEST_P(TiedEnds, SeveralHeadsShareOneEmbedding) {
  const at::Tensor a = leaf(table), b = leaf(table);
  const TiedEmbedding ends = tied_embedding(a, tokens);
  const at::Tensor hidden = ends.rows.tanh();
  (linear_cross_entropy(hidden, ends.table, targets, ends.gradient, {}) +
   linear_cross_entropy(hidden * 2, ends.table, targets, ends.gradient, {}) + at::linear(hidden, ends.table).square().mean() +
   a.square().sum())  // and the table is used elsewhere
      .backward();
  const at::Tensor plain_hidden = at::embedding(b, tokens).tanh();
  (plain_loss(plain_hidden, b, targets) + plain_loss(plain_hidden * 2, b, targets) + at::linear(plain_hidden, b).square().mean() +
   b.square().sum())
      .backward();
  EXPECT_TRUE(close(a.grad(), b.grad(), 2e-6));
}

TEST_P(TiedEnds, ARetainedGraphGivesTheSameAgain) {
  const at::Tensor a = leaf(table);
  const at::Tensor loss = ours(a) * 0.3;
  loss.backward({}, /*retain_graph=*/true);
  const at::Tensor first = a.grad().clone();
  a.mutable_grad().reset();
  loss.backward();
  EXPECT_TRUE(same_bits(a.grad(), first));
  EXPECT_THROW(loss.backward(), c10::Error);  // freed now
}

TEST_P(TiedEnds, AutogradGradSeesTheWholeGradientAndLeavesNothingBehind) {
  const at::Tensor a = leaf(table), b = leaf(table);
  TiedEmbedding ends = tied_embedding(a, tokens);
  const at::Tensor hidden = ends.rows.tanh();
  const at::Tensor loss = linear_cross_entropy(hidden, ends.table, targets, ends.gradient, {});
  torch::autograd::grad({loss}, {hidden}, {}, /*retain_graph=*/true);  // stops before the table
  const at::Tensor got = torch::autograd::grad({loss}, {a})[0];
  EXPECT_FALSE(a.grad().defined());
  plain(b).backward();
  EXPECT_TRUE(close(got, b.grad(), 2e-6));
}

TEST_P(TiedEnds, ABackwardThatFailedHalfWayLeavesNothingBehind) {
  const at::Tensor a = leaf(table), b = leaf(table);
  const TiedEmbedding ends = tied_embedding(a, tokens);
  const at::Tensor hidden = ends.rows.tanh();
  bool fail = true;
  hidden.register_hook([&fail](const at::Tensor& g) {
    TORCH_CHECK(!fail, "out of room");
    return g;
  });
  const at::Tensor loss = linear_cross_entropy(hidden, ends.table, targets, ends.gradient, {});
  EXPECT_THROW(loss.backward({}, true), c10::Error);
  fail = false;
  loss.backward();
  plain(b).backward();
  EXPECT_TRUE(close(a.grad(), b.grad(), 2e-6));
}

TEST_P(TiedEnds, AFrozenTableStillPassesTheGradientToTheMiddle) {
  const at::Tensor middle = leaf(at::ones({24}));
  const TiedEmbedding ends = tied_embedding(table, tokens);
  EXPECT_FALSE(ends.gradient);
  linear_cross_entropy(ends.rows * middle, ends.table, targets, ends.gradient, {}).backward();
  const at::Tensor same = leaf(at::ones({24}));
  plain_loss(at::embedding(table, tokens) * same, table, targets).backward();
  EXPECT_TRUE(close(middle.grad(), same.grad(), 2e-6));
  EXPECT_FALSE(table.grad().defined());
}

INSTANTIATE_TEST_SUITE_P(Tokens, TiedEnds, testing::Values(12, 60));

}  // namespace
}  // namespace patrickstar::models
