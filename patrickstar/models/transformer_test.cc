#include "patrickstar/models/transformer.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <string>

#include "patrickstar/models/layers.h"
#include "patrickstar/models/test_tensors.h"

namespace patrickstar::models {
namespace {

TransformerConfig tiny(const char* name) { return *preset(name).config; }

at::Tensor random_tokens(const TransformerConfig& c, std::int64_t batch, std::int64_t sequence) {
  return at::randint(c.vocab_size, {batch, sequence}, at::kLong);
}

std::int64_t elements(const torch::nn::Module& model) {
  std::int64_t sum = 0;
  for (const auto& p : model.parameters()) sum += p.numel();
  return sum;
}

TEST(Transformer, TheFormulaCountsTheRealParameters) {
  for (const char* name : {"tiny-gpt2", "tiny-llama"}) {
    for (const Head head : {Head::kTied, Head::kUntied}) {
      for (const Biases biases : {Biases::kAll, Biases::kNone}) {
        TransformerConfig c = tiny(name);
        c.head = head;
        c.biases = biases;
        EXPECT_EQ(elements(Transformer(c)), c.parameter_count()) << name;
      }
    }
  }
}

TEST(Transformer, ParametersHaveTheDocumentedNamesInOrder) {
  TransformerConfig c = tiny("tiny-llama");
  c.layers = 1;
  c.head = Head::kUntied;
  std::string names;
  for (const auto& item : Transformer(c).named_parameters()) names += item.key() + ' ';
  EXPECT_EQ(names,
            "embedding.tokens blocks.0.attention_norm.weight blocks.0.attention.qkv.weight blocks.0.attention.out.weight "
            "blocks.0.mlp_norm.weight blocks.0.mlp.gate.weight blocks.0.mlp.up.weight blocks.0.mlp.down.weight "
            "final.norm.weight final.head.weight ");
}

TEST(Transformer, AnImpossibleConfigThrowsItsMessage) {
  TransformerConfig c = tiny("tiny-gpt2");
  c.heads = 5;
  c.kv_heads = 5;
  try {
    Transformer model(c);
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("[transformer] hidden_size 48 is not divisible by heads 5"), std::string::npos);
  }
}

TEST(Transformer, BadTokensAreNamed) {
  Transformer model(tiny("tiny-gpt2"));
  EXPECT_THROW(model.forward(at::zeros({2, 65}, at::kLong)), c10::Error);  // max_positions is 64
  EXPECT_THROW(model.forward(at::zeros({2, 8})), c10::Error);
  EXPECT_THROW(model.forward(at::zeros({8}, at::kLong)), c10::Error);
  EXPECT_THROW(model.loss(at::zeros({2, 8}, at::kLong), at::zeros({2, 7}, at::kLong)), c10::Error);
  EXPECT_THROW(model.freeze_first_layers(4), c10::Error);
}

TEST(Transformer, InitialisationIsGpt2s) {
  TransformerConfig c = tiny("tiny-gpt2");
  c.hidden_size = 192;
  c.intermediate_size = 768;
  at::manual_seed(1);
  for (const auto& item : Transformer(c).named_parameters()) {
    const bool residual = item.key().ends_with(".out.weight") || item.key().ends_with(".down.weight");
    if (item.key().ends_with("bias")) {
      EXPECT_EQ(item.value().abs().max().item<float>(), 0.0F) << item.key();
    } else if (item.key().find("norm") != std::string::npos) {
      EXPECT_TRUE(same_bits(item.value(), at::ones_like(item.value()))) << item.key();
    } else {
      const double std = residual ? 0.02 / std::sqrt(6.0) : 0.02;
      EXPECT_NEAR(item.value().std().item<double>(), std, 0.03 * std) << item.key();
    }
  }
}

TEST(Transformer, LossEqualsCrossEntropyOverItsLogits) {
  for (const char* name : {"tiny-gpt2", "tiny-llama"}) {
    for (const Head head : {Head::kTied, Head::kUntied}) {
      for (const std::int64_t sequence : {12, 60}) {  // 2 x 12 tokens are fewer than the hidden size, 2 x 60 more
        SCOPED_TRACE(std::string(name) + (head == Head::kTied ? " tied " : " untied ") + std::to_string(sequence));
        TransformerConfig c = tiny(name);
        c.head = head;
        c.logits_chunk_rows = 7;
        at::manual_seed(2);
        Transformer model(c);
        const at::Tensor tokens = random_tokens(c, 2, sequence), targets = random_tokens(c, 2, sequence);
        const at::Tensor full = at::cross_entropy_loss(model.forward(tokens).flatten(0, 1), targets.flatten());
        full.backward();
        const Named expected = take_gradients(model);
        const at::Tensor loss = model.loss(tokens, targets);
        loss.backward();
        const Named got = take_gradients(model);
        EXPECT_TRUE(close(loss.detach(), full.detach(), 1e-6));
        for (std::size_t i = 0; i < got.size(); ++i) {
          // (The keys' bias has no effect: its gradient is rounding noise, measured against the queries' and values'.)
          EXPECT_TRUE(close(got[i].second, expected[i].second, 1e-5)) << got[i].first;
        }
      }
    }
  }
}

TEST(Transformer, LossWithoutGradientsIsTheSame) {
  const TransformerConfig c = tiny("tiny-llama");
  at::manual_seed(3);
  Transformer model(c);
  const at::Tensor tokens = random_tokens(c, 2, 20), targets = random_tokens(c, 2, 20);
  const at::Tensor trained = model.loss(tokens, targets).detach();
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(close(model.loss(tokens, targets), trained, 1e-7));
}

TEST(Transformer, ALaterTokenDoesNotChangeEarlierLogits) {
  for (const char* name : {"tiny-gpt2", "tiny-llama"}) {
    const TransformerConfig c = tiny(name);
    at::manual_seed(4);
    Transformer model(c);
    const at::NoGradGuard no_grad;
    const at::Tensor tokens = random_tokens(c, 1, 32);
    at::Tensor changed = tokens.clone();
    changed[0][20] = (changed[0][20] + 1).remainder(c.vocab_size);
    const at::Tensor a = model.forward(tokens), b = model.forward(changed);
    EXPECT_TRUE(close(b.narrow(1, 0, 20), a.narrow(1, 0, 20), 1e-6)) << name;
    for (std::int64_t position = 20; position < 32; ++position) {
      EXPECT_FALSE(close(b.select(1, position), a.select(1, position), 1e-6)) << name << " position " << position;
    }
  }
}

TEST(Transformer, LayersThatAreLeftOutAreTheIdentity) {
  for (const Activations activations : {Activations::kKeep, Activations::kCheckpoint}) {
    TransformerConfig c = tiny("tiny-gpt2");
    c.layers = 2;
    c.activations = activations;
    torch::manual_seed(1);
    Transformer two(c);
    c.layers = 1;
    torch::manual_seed(1);
    Transformer one(c);
    {
      const at::NoGradGuard no_grad;  // only the standard deviations differ with the number of layers
      auto values = two.named_parameters();
      for (auto& item : one.named_parameters()) item.value().copy_(values[item.key()]);
    }
    const at::Tensor tokens = random_tokens(c, 2, 8);
    const at::Tensor whole = two.forward(tokens);
    two.leave_out({false, true});
    const at::Tensor logits = two.forward(tokens);
    EXPECT_TRUE(at::equal(logits, one.forward(tokens)));
    EXPECT_FALSE(at::equal(logits, whole));
    logits.sum().backward();
    EXPECT_TRUE(two.named_parameters()["blocks.0.mlp.up.weight"].grad().defined());
    EXPECT_FALSE(two.named_parameters()["blocks.1.mlp.up.weight"].grad().defined());
    two.leave_out({});
    EXPECT_TRUE(at::equal(two.forward(tokens), whole));
    EXPECT_THROW(two.leave_out({true}), c10::Error);
  }
}

TEST(Rotary, ScoresDependOnTheDistanceOnly) {
  at::manual_seed(5);
  const std::int64_t sequence = 48;
  const RotaryTables tables = rotary_tables(sequence, 16, 10000.0, at::kCPU);
  const at::Tensor q = rotate(at::randn({16}).expand({1, 1, sequence, 16}), tables)[0][0];
  const at::Tensor k = rotate(at::randn({16}).expand({1, 1, sequence, 16}), tables)[0][0];
  const at::Tensor scores = at::matmul(q, k.t());
  for (std::int64_t distance = 0; distance < sequence; ++distance) {
    const at::Tensor diagonal = scores.diagonal(distance);
    EXPECT_LT((diagonal - diagonal[0]).abs().max().item<double>(), 1e-5) << distance;
  }
  EXPECT_GT((scores[0] - scores[0][0]).abs().max().item<double>(), 0.1);    // but do depend on it
  EXPECT_TRUE(close(q.norm(2, -1), q[0].norm().expand({sequence}), 1e-6));  // a rotation
}

// Long positions keep their angle: against cos and sin in double of the 70,000th position.
TEST(Rotary, FarPositionsAreAccurate) {
  const RotaryTables tables = rotary_tables(70001, 8, 500000.0, at::kCPU);
  for (std::int64_t i = 0; i < 4; ++i) {
    const double angle = 70000.0 * std::pow(500000.0, -static_cast<double>(i) / 4.0);
    EXPECT_NEAR(tables.cos[70000][i].item<double>(), std::cos(angle), 1e-6) << i;
    EXPECT_NEAR(tables.sin[70000][i].item<double>(), std::sin(angle), 1e-6) << i;
  }
}

TEST(RmsNorm, EqualsItsDefinitionAndItsDerivative) {
  at::manual_seed(6);
  const at::Tensor start = at::randn({5, 12}), scale = at::randn({12}), upstream = at::randn({5, 12});
  at::Tensor x[2], w[2], outputs[2];
  for (int i = 0; i < 2; ++i) {
    x[i] = start.clone().set_requires_grad(true);
    w[i] = scale.clone().set_requires_grad(true);
    const at::Tensor y = i == 0 ? rms_norm(x[i], w[i], 1e-5) : x[i] * at::rsqrt(x[i].square().mean(-1, true) + 1e-5) * w[i];
    (y * upstream).sum().backward();
    outputs[i] = y.detach();
  }
  EXPECT_TRUE(close(outputs[0], outputs[1], 1e-6));
  EXPECT_TRUE(close(x[0].grad(), x[1].grad(), 1e-5));
  EXPECT_TRUE(close(w[0].grad(), w[1].grad(), 1e-5));
}

// Grouped queries equal multi-head attention whose key and value heads are the group's, repeated.
TEST(Attention, GroupedQueriesEqualRepeatedHeads) {
  const TransformerConfig grouped = tiny("tiny-llama");
  TransformerConfig repeated = grouped;
  repeated.kv_heads = repeated.heads;
  at::manual_seed(7);
  AttentionLayer a(grouped), b(repeated);
  const std::int64_t group = grouped.heads / grouped.kv_heads, d = grouped.head_dim();
  {
    const at::NoGradGuard no_grad;
    const auto parts = a.qkv->weight.split_with_sizes({grouped.hidden_size, grouped.kv_size(), grouped.kv_size()}, 0);
    const auto repeat = [&](const at::Tensor& w) {
      return w.unflatten(0, {grouped.kv_heads, d}).repeat_interleave(group, 0).flatten(0, 1);
    };
    b.qkv->weight.copy_(at::cat({parts[0], repeat(parts[1]), repeat(parts[2])}));
    b.out->weight.copy_(a.out->weight);
  }
  const RotaryTables tables = rotary_tables(16, d, grouped.rope_theta, at::kCPU);
  const at::Tensor x = at::randn({2, 16, grouped.hidden_size});
  at::Tensor xa = x.clone().set_requires_grad(true), xb = x.clone().set_requires_grad(true);
  const at::Tensor ya = a.forward(xa, tables), yb = b.forward(xb, tables);
  EXPECT_TRUE(close(ya, yb, 1e-5));
  const at::Tensor upstream = at::randn_like(ya);
  (ya * upstream).sum().backward();
  (yb * upstream).sum().backward();
  EXPECT_TRUE(close(xa.grad(), xb.grad(), 1e-5));
  const auto ga = a.qkv->weight.grad().split_with_sizes({grouped.hidden_size, grouped.kv_size(), grouped.kv_size()}, 0);
  const auto gb = b.qkv->weight.grad().chunk(3, 0);
  const auto folded = gb[1].unflatten(0, {grouped.kv_heads, group, d}).sum(1).flatten(0, 1);
  EXPECT_TRUE(close(ga[1], folded, 1e-5));
}

TEST(Transformer, PartsAreHandedOverInOrderAndMayBecome16Bit) {
  for (const char* name : {"tiny-gpt2", "tiny-llama"}) {
    SCOPED_TRACE(name);
    const TransformerConfig c = tiny(name);
    const at::Tensor tokens = random_tokens(c, 2, 16), targets = random_tokens(c, 2, 16);

    at::manual_seed(8);
    Transformer converted(c, {.dtype = at::kBFloat16});
    std::string order;
    std::vector<at::Tensor> masters;
    at::manual_seed(8);
    Transformer taken(c, {.on_built = [&](torch::nn::Module& part) {
                        order += part.named_parameters()[0].key() + ' ';
                        for (at::Tensor& p : part.parameters()) {
                          EXPECT_EQ(p.scalar_type(), at::kFloat);
                          masters.push_back(p.detach().clone());
                          p.set_data(p.detach().to(at::kBFloat16));
                        }
                      }});
    EXPECT_EQ(order, "tokens attention_norm.weight attention_norm.weight attention_norm.weight norm.weight ");
    at::manual_seed(8);
    Transformer plain(c);
    const auto parameters = plain.parameters();
    ASSERT_EQ(parameters.size(), masters.size());
    for (std::size_t i = 0; i < masters.size(); ++i) EXPECT_TRUE(same_bits(parameters[i], masters[i]));

    const at::Tensor a = converted.loss(tokens, targets), b = taken.loss(tokens, targets);
    EXPECT_TRUE(same_bits(a.detach(), b.detach()));
    a.backward();
    b.backward();
    const Named gradients = take_gradients(taken);
    expect_same_bits(take_gradients(converted), gradients);
    for (const auto& [key, gradient] : gradients) EXPECT_EQ(gradient.scalar_type(), at::kBFloat16) << key;
    EXPECT_EQ(taken.forward(tokens).scalar_type(), at::kBFloat16);
    EXPECT_TRUE(close(b.detach(), plain.loss(tokens, targets).detach(), 1e-2));
  }
}

TEST(Transformer, ACallbackAndADtypeAreRefusedTogether) {
  EXPECT_THROW(Transformer(tiny("tiny-gpt2"), {.dtype = at::kBFloat16, .on_built = [](torch::nn::Module&) {}}), c10::Error);
}

}  // namespace
}  // namespace patrickstar::models
