// The trace of a step under another layout (core/sim/relayout.h) against reality: derived from a run with chunks of one element
// it has the payloads and the accesses, moment by moment, of a run that was recorded with that layout.
#include "patrickstar/core/sim/relayout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <algorithm>

#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/models/transformer.h"

namespace patrickstar {
namespace {

using bridge::GradientPlacement;
using bridge::UpdateTiming;

struct Job {
  const char* name = "";
  const char* shape = "tiny-gpt2";
  DType dtype = DType::kBFloat16;
  UpdateTiming timing = UpdateTiming::kOverlapped;
  models::Activations activations = models::Activations::kKeep;
  int accumulate = 1;
  double clip = 0;
  int frozen_parts = 0;
};

struct Recorded {
  Trace trace;
  std::uint64_t weights = 1469598103934665603u;
};

Recorded record(const Job& job, const LayoutOptions& layout, std::vector<TensorSpec> order) {
  auto runtime = bridge::Runtime::create(
      {.memory_budget = 12 * kMiB, .spill_dir = testing::TempDir(), .io = IoBackend::kPread, .layout = layout});
  bridge::Engine engine(runtime,
                        {.dtype = job.dtype,
                         .gradients = job.accumulate > 1 ? GradientPlacement::kOwnChunks : GradientPlacement::kInParameter,
                         .order = std::move(order)});
  torch::manual_seed(3);
  models::TransformerConfig config = *models::preset(job.shape).config;
  config.vocab_size = 512;
  config.hidden_size = 128;
  config.intermediate_size = 512;
  config.heads = 4;
  config.kv_heads = 4;
  config.layers = 5;
  config.activations = job.activations;
  int part = 0;
  models::Transformer model(config, {.on_built = [&](torch::nn::Module& built) {
                              if (part++ < job.frozen_parts) {
                                for (auto& parameter : built.parameters()) parameter.requires_grad_(false);
                              }
                              engine.attach(built, "part" + std::to_string(part));
                            }});
  bridge::ChunkedAdamW optimizer(engine, model.parameters(), {}, job.timing);
  for (int step = 0; step < 5; ++step) {
    for (int micro = 0; micro < job.accumulate; ++micro) {
      const at::Tensor tokens = at::randint(0, config.vocab_size, {2, 17}, at::kLong);
      model.loss(tokens.slice(1, 0, 16), tokens.slice(1, 1, 17)).backward();
    }
    if (job.clip > 0) optimizer.clip_grad_norm_(job.clip);
    optimizer.step();
    optimizer.zero_grad();
  }
  Recorded recorded;
  EXPECT_NE(runtime->orchestrator()->trace(), nullptr) << "nothing had to leave memory";
  if (runtime->orchestrator()->trace() != nullptr) recorded.trace = *runtime->orchestrator()->trace();
  recorded.trace.model = engine.traced_model();
  engine.visit([&](const std::string&, const char*, const void* data, Bytes bytes) {
    for (Bytes i = 0; i < bytes; ++i)
      recorded.weights = (recorded.weights ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
  });
  return recorded;
}

std::vector<TensorSpec> specs_of(const StepByTensor& step, const std::vector<TensorId>& order) {
  std::vector<TensorSpec> specs;
  for (const TensorId id : order) specs.push_back(step.model.tensors[id.index()].spec);
  return specs;
}

// GPT-2's blocks are registered in the order of use, so an order that differs must be made up: each group's from its end.
std::vector<TensorId> from_the_end(const StepByTensor& step) {
  std::vector<TensorId> order = placement(step, PlacementOrder::kRegistration);
  std::reverse(order.begin(), order.end());
  std::stable_sort(order.begin(), order.end(), [&](TensorId a, TensorId b) {
    return step.model.tensors[a.index()].group < step.model.tensors[b.index()].group;
  });
  return order;
}

std::string text_of(const Trace& trace, std::size_t moment) {
  std::string text;
  for (const Access& access : trace.at(moment)) {
    text += std::string("rwc").substr(static_cast<std::size_t>(access.mode), 1) +
            payload_kind_name(trace.payloads[access.payload.index()].kind) + std::to_string(access.payload.value) + " ";
  }
  return text;
}

void expect_same(const Trace& derived, const Trace& direct) {
  ASSERT_EQ(derived.payloads.size(), direct.payloads.size());
  for (std::size_t p = 0; p < direct.payloads.size(); ++p) {
    ASSERT_EQ(derived.payloads[p].kind, direct.payloads[p].kind) << "payload " << p;
    ASSERT_EQ(derived.payloads[p].bytes, direct.payloads[p].bytes) << "payload " << p;
  }
  ASSERT_EQ(derived.model.tensors.size(), direct.model.tensors.size());
  for (std::size_t t = 0; t < direct.model.tensors.size(); ++t) {
    ASSERT_EQ(derived.model.tensors[t].spec, direct.model.tensors[t].spec);
    ASSERT_EQ(derived.model.tensors[t].group, direct.model.tensors[t].group);
    ASSERT_EQ(derived.model.tensors[t].param, direct.model.tensors[t].param) << direct.model.tensors[t].spec.name;
  }
  for (std::size_t m = 0; m < std::min(derived.moments.size(), direct.moments.size()); ++m)
    ASSERT_EQ(text_of(derived, m), text_of(direct, m)) << "moment " << m << " of " << direct.moments.size();
  ASSERT_EQ(derived.moments.size(), direct.moments.size());
}

class RelayoutOfARun : public testing::TestWithParam<Job> {};

TEST_P(RelayoutOfARun, HasThePayloadsAndAccessesOfARecordedOne) {
  at::set_num_threads(1);
  const Job& job = GetParam();
  const Recorded by_tensor = record(job, {.chunk_elems = 1, .tile_elems = 16384}, {});
  const auto step = step_by_tensor(by_tensor.trace);
  ASSERT_TRUE(step.ok()) << step.status().message();
  const std::vector<TensorId> registered = placement(step.value(), PlacementOrder::kRegistration);
  const std::vector<TensorId> first_use = placement(step.value(), PlacementOrder::kFirstUse);
  if (std::string(job.name) == "llama") {
    EXPECT_TRUE(first_use != registered);
  }
  struct Case {
    std::vector<TensorId> order;
    LayoutOptions options;
  };
  for (const Case& c :
       {Case{registered, {.chunk_elems = 1, .tile_elems = 16384}}, Case{registered, {.chunk_elems = 65536, .tile_elems = 16384}},
        Case{from_the_end(step.value()), {.chunk_elems = 65536, .tile_elems = 8192}},
        Case{first_use, {.chunk_elems = 100000, .tile_elems = 32768}}}) {
    SCOPED_TRACE("chunks of " + std::to_string(c.options.chunk_elems));
    const auto derived = relay(step.value(), make_layout(step.value().model, c.order, c.options));
    ASSERT_TRUE(derived.ok()) << derived.status().message();
    const Recorded direct = record(job, c.options, specs_of(step.value(), c.order));
    expect_same(derived.value().trace, direct.trace);
    EXPECT_EQ(direct.weights, by_tensor.weights) << "a layout changes no bits";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Jobs, RelayoutOfARun,
    testing::Values(Job{.name = "overlapped"}, Job{.name = "deferred", .timing = UpdateTiming::kDeferred, .clip = 0.5},
                    Job{.name = "at_step", .timing = UpdateTiming::kAtStep},
                    Job{.name = "checkpointed", .activations = models::Activations::kCheckpoint},
                    Job{.name = "llama", .shape = "tiny-llama"}, Job{.name = "frozen", .frozen_parts = 2},
                    Job{.name = "fp32", .dtype = DType::kFloat32},
                    Job{.name = "fp32_at_step", .dtype = DType::kFloat32, .timing = UpdateTiming::kAtStep},
                    Job{.name = "accumulated", .timing = UpdateTiming::kDeferred, .accumulate = 3, .clip = 0.5}),
    [](const auto& job) { return std::string(job.param.name); });

}  // namespace
}  // namespace patrickstar
