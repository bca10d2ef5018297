// Contract 2 on tiny models: for every setting the losses and all weights, masters and moments are bit for bit those of the
// plain loop, and below 100 % chunks really went to disk and came back.
//
// A pairwise covering set by default: every pair of values of any two factors occurs in some case. PATRICKSTAR_FULL_PRODUCT=1
// runs them all.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <bit>
#include <cstdlib>
#include <map>
#include <set>

#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/core/io/testing/link_fixture.h"
#include "tests/e2e/small_model.h"

namespace patrickstar {
namespace {

using bridge::GradientPlacement;
using models::TransformerConfig;

// The factors, and how many values each has.
enum Factor {
  kShape,
  kDType,
  kCheckpoint,
  kAccumulate,
  kClip,
  kHead,
  kBudget,
  kChunk,
  kIo,
  kTiming,
  kPrefetch,
  kOrder,
  kFactors
};
constexpr int kValues[kFactors] = {2, 2, 2, 2, 2, 3, 4, 3, 2, 3, 2, 2};
using Case = std::array<int, kFactors>;

std::string name_of(const Case& c) {
  const char* const names[kFactors][4] = {{"gpt2", "llama"},
                                          {"bf16", "fp32"},
                                          {"keep", "checkpoint"},
                                          {"once", "accumulate4"},
                                          {"noclip", "clip"},
                                          {"tied", "untied", "frozen"},
                                          {"b100", "b60", "b30", "smallest"},
                                          {"c64Ki", "c1Mi", "c4Mi"},
                                          {"pread", "io_uring"},
                                          {"atstep", "deferred", "overlapped"},
                                          {"planned", "ondemand"},
                                          {"registered", "reversed"}};
  std::string text;
  for (int f = 0; f < kFactors; ++f) text += (f > 0 ? "_" : "") + std::string(names[f][c[static_cast<std::size_t>(f)]]);
  return text;
}

std::vector<Case> full_product() {
  std::vector<Case> cases{Case{}};
  for (int f = 0; f < kFactors; ++f) {
    std::vector<Case> next;
    for (const Case& c : cases) {
      for (int v = 0; v < kValues[f]; ++v) {
        next.push_back(c);
        next.back()[static_cast<std::size_t>(f)] = v;
      }
    }
    cases = std::move(next);
  }
  return cases;
}

using Pair = std::array<int, 4>;  // factor, value, factor, value

std::set<Pair> pairs_of(const Case& c) {
  std::set<Pair> pairs;
  for (int f = 0; f < kFactors; ++f) {
    for (int g = f + 1; g < kFactors; ++g) pairs.insert({f, c[static_cast<std::size_t>(f)], g, c[static_cast<std::size_t>(g)]});
  }
  return pairs;
}

// Greedy: always the case that covers the most pairs not covered yet, the first of equals.
std::vector<Case> pairwise() {
  const std::vector<Case> all = full_product();
  std::set<Pair> open;
  for (const Case& c : all) open.merge(pairs_of(c));
  std::vector<Case> chosen;
  while (!open.empty()) {
    const Case* best = nullptr;
    std::size_t most = 0;
    for (const Case& c : all) {
      std::size_t count = 0;
      for (const Pair& pair : pairs_of(c)) count += open.count(pair);
      if (count > most) {
        most = count;
        best = &c;
      }
    }
    for (const Pair& pair : pairs_of(*best)) open.erase(pair);
    chosen.push_back(*best);
  }
  return chosen;
}

TransformerConfig config_of(const Case& c) {
  TransformerConfig config = small_config(c[kShape] == 0 ? Shape::kGpt2 : Shape::kLlama);
  config.head = c[kHead] == 1 ? models::Head::kUntied : models::Head::kTied;
  config.activations = c[kCheckpoint] == 1 ? models::Activations::kCheckpoint : models::Activations::kKeep;
  return config;
}

// Overlapped updates exclude clipping and accumulation: deferred there.
bridge::UpdateTiming timing_of(const Case& c) {
  if (c[kTiming] == 0) return bridge::UpdateTiming::kAtStep;
  const bool overlaps = c[kTiming] == 2 && c[kClip] == 0 && c[kAccumulate] == 0;
  return overlaps ? bridge::UpdateTiming::kOverlapped : bridge::UpdateTiming::kDeferred;
}

DType dtype_of(const Case& c) { return c[kDType] == 0 ? DType::kBFloat16 : DType::kFloat32; }

// Gradients that must wait for step(), or for their parameter's next use, in chunks of their own.
bool gradients_wait_in_chunks(const Case& c) {
  return (c[kAccumulate] == 1 || dtype_of(c) == DType::kFloat32) && timing_of(c) != bridge::UpdateTiming::kOverlapped;
}

struct Outcome {
  std::vector<std::uint32_t> losses;
  std::uint64_t weights = 0;
  Bytes model_bytes = 0;
  Bytes peak_non_model = 0;
  Bytes smallest = 0;
  ManagerStats stats;
  LedgerPeaks peaks;
  std::int64_t plans = 0;
  std::vector<TensorSpec> tensors;  // in the order of registration
};

// Two to watch, then steps by the plan.
constexpr int kSteps = 6;

template <class Optimizer>
void loop(const Case& c, models::Transformer& model, Optimizer& optimizer, Outcome* outcome) {
  const int accumulate = c[kAccumulate] == 1 ? 4 : 1;
  for (int step = 0; step < kSteps; ++step) {
    // Another rate each step: an update that is put off must use its own step's.
    for (auto& group : optimizer.param_groups()) group.options().set_lr(group.options().get_lr() * (step == 0 ? 1.0 : 0.9));
    for (int micro = 0; micro < accumulate; ++micro) {
      const at::Tensor tokens = at::randint(0, model.config().vocab_size, {2, 33}, at::kLong);
      at::Tensor loss = model.loss(tokens.slice(1, 0, 32), tokens.slice(1, 1, 33));
      outcome->losses.push_back(std::bit_cast<std::uint32_t>(loss.template item<float>()));
      if (accumulate > 1) loss = loss / accumulate;
      loss.backward();
    }
    if (c[kClip] == 1) optimizer.clip_grad_norm_(0.5);
    optimizer.step();
    optimizer.zero_grad();
    if (step % 3 != 2) continue;
    const at::NoGradGuard no_grad;  // an evaluation pass, which no plan knows of
    const at::Tensor tokens = at::randint(0, model.config().vocab_size, {1, 33}, at::kLong);
    const at::Tensor loss = model.loss(tokens.slice(1, 0, 32), tokens.slice(1, 1, 33));
    outcome->losses.push_back(std::bit_cast<std::uint32_t>(loss.template item<float>()));
  }
}

// Freezes the embedding and the first two blocks while the model is built.
class Freezer {
 public:
  explicit Freezer(const Case& c) : frozen_parts_(c[kHead] == 2 ? 3 : 0) {}
  void operator()(torch::nn::Module& part) {
    if (part_++ >= frozen_parts_) return;
    for (auto& parameter : part.parameters()) parameter.requires_grad_(false);
  }

 private:
  const int frozen_parts_;
  int part_ = 0;
};

Outcome run_plain(const Case& c) {
  Outcome outcome;
  PlainModel plain(config_of(c), dtype_of(c), Freezer(c));
  bridge::PlainAdamW optimizer(plain.data, groups_of(*plain.model));
  torch::manual_seed(5);
  (void)plain.counter.take_non_model_peak();  // of building, while masters and moments are not marked
  loop(c, *plain.model, optimizer, &outcome);
  outcome.peak_non_model = plain.counter.take_non_model_peak();
  outcome.weights = hash_of(plain.data);
  return outcome;
}

Outcome run_engine(const Case& c, Bytes budget, IoBackend io, std::vector<TensorSpec> order = {}) {
  const Elems chunk_elems[] = {Elems{64} << 10, Elems{1} << 20, Elems{4} << 20};
  Outcome outcome;
  const Elems chunk = chunk_elems[c[kChunk]];
  auto runtime =
      bridge::Runtime::create({.memory_budget = budget,
                               .spill_dir = testing::TempDir(),
                               .io = io,
                               .layout = {.chunk_elems = chunk, .tile_elems = std::min<Elems>(chunk / 2, Elems{128} << 10)},
                               .prefetch = c[kPrefetch] == 0 ? bridge::Prefetch::kPlanned : bridge::Prefetch::kOnDemand});
  bridge::Engine engine(runtime,
                        {.dtype = dtype_of(c),
                         .gradients = c[kAccumulate] == 1 ? GradientPlacement::kOwnChunks : GradientPlacement::kInParameter,
                         .order = std::move(order)});
  const auto model = attached_model(config_of(c), engine, Freezer(c));
  bridge::ChunkedAdamW optimizer(engine, groups_of(*model), {}, timing_of(c));
  torch::manual_seed(5);
  loop(c, *model, optimizer, &outcome);
  if (runtime->orchestrator() != nullptr) outcome.plans = runtime->orchestrator()->stats().plans;
  outcome.stats = runtime->manager().stats();
  outcome.peaks = runtime->ledger().peaks();
  outcome.smallest = runtime->smallest_budget();
  outcome.model_bytes = engine.model_data_bytes();
  for (const TracedTensor& tensor : engine.traced_model().tensors) outcome.tensors.push_back(tensor.spec);
  outcome.weights = hash_of(engine);
  runtime->manager().check_invariants();
  runtime->pool().arena().check_invariants();
  return outcome;
}

// `run` for the first case of those that differ in `irrelevant` factors only, its outcome for the others: in the product 24 and
// more cases have one plain run, and four or more one run that holds everything.
template <class Run>
const Outcome& outcome_of(std::map<Case, Outcome>* known, Case c, std::initializer_list<Factor> irrelevant, const Run& run) {
  for (const Factor factor : irrelevant) c[factor] = 0;
  if (const auto found = known->find(c); found != known->end()) return found->second;
  return (*known)[c] = run();
}

class Exactness : public testing::TestWithParam<Case> {
 protected:
  static const Outcome& plain_of(const Case& c) {
    static std::map<Case, Outcome> known;
    return outcome_of(&known, c, {kBudget, kChunk, kIo, kTiming, kPrefetch, kOrder}, [&] { return run_plain(c); });
  }
  static const Outcome& roomy_of(const Case& c, IoBackend io) {
    static std::map<Case, Outcome> known;
    return outcome_of(&known, c, {kBudget, kOrder}, [&] { return run_engine(c, 1 * kGiB, io); });
  }
};

TEST_P(Exactness, EqualsThePlainLoopBitForBit) {
  const Case& c = GetParam();
  at::set_num_threads(2);
  const Outcome& plain = plain_of(c);
  const IoBackend io = c[kIo] == 0 ? IoBackend::kPread : IoBackend::kIoUring;
  if (const std::string why = io_uring_refusal(); io == IoBackend::kIoUring && !why.empty()) GTEST_SKIP() << why;
  const Outcome& roomy = roomy_of(c, io);
  EXPECT_EQ(roomy.losses, plain.losses);
  EXPECT_EQ(roomy.weights, plain.weights);
  EXPECT_EQ(roomy.stats.evictions, 0);
  const int percent[] = {100, 60, 30};
  Bytes budget = roomy.smallest;
  if (c[kBudget] < 3) {
    const Bytes share = plain.peak_non_model + roomy.model_bytes / 100 * percent[c[kBudget]];
    RecordProperty("runs_in_the_smallest_budget", share < roomy.smallest ? "yes" : "no");  // of a model as small as this
    budget = std::max(budget, share);
  }
  std::vector<TensorSpec> order;
  if (c[kOrder] == 1) order.assign(roomy.tensors.rbegin(), roomy.tensors.rend());
  const Outcome tight = run_engine(c, budget, io, std::move(order));
  EXPECT_EQ(tight.losses, plain.losses);
  EXPECT_EQ(tight.weights, plain.weights);
  EXPECT_LE(tight.peaks.total, budget);
  if (c[kBudget] == 0) return;
  EXPECT_GT(tight.stats.evictions, 0);
  const auto& state = tight.stats.kinds[static_cast<std::size_t>(PayloadKind::kState)];
  EXPECT_GT(state.read, 0) << "states are most of the model data: below 100 % they must spill";
  EXPECT_GT(state.written, 0);
  if (c[kBudget] == 3) {
    const auto& param = tight.stats.kinds[static_cast<std::size_t>(PayloadKind::kParam)];
    EXPECT_GT(param.read, 0) << "in the smallest budget parameters must spill too";
    const auto& grad = tight.stats.kinds[static_cast<std::size_t>(PayloadKind::kGrad)];
    if (gradients_wait_in_chunks(c)) {
      EXPECT_GT(grad.read, 0) << "and gradients, where they have chunks of their own";
    }
  }
  if (c[kPrefetch] == 0) {
    EXPECT_GT(tight.plans, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Covering, Exactness,
                         testing::ValuesIn(std::getenv("PATRICKSTAR_FULL_PRODUCT") != nullptr ? full_product() : pairwise()),
                         [](const auto& test) { return name_of(test.param); });

TEST(ExactnessCovering, CoversEveryPair) {
  std::set<Pair> open;
  for (const Case& c : full_product()) open.merge(pairs_of(c));
  for (const Case& c : pairwise()) {
    for (const Pair& pair : pairs_of(c)) open.erase(pair);
  }
  EXPECT_TRUE(open.empty());
}

}  // namespace
}  // namespace patrickstar
