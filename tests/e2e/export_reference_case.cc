// Trains a tiny model for three steps through Runtime and Engine, in a budget below its model data, and writes case and outcome
// for tests/e2e/reference.py:
//
//   export_reference_case gpt2|llama DIRECTORY
//
// fp32, so that the comparison is with PyTorch's arithmetic and not with a rounding. The constants are such that each of them
// shows against the tolerances there: a step moves a weight by a tenth of its size, decay is a fifth of that, epsilon is about as
// large as the root of a typical second moment, and three steps are too few for the bias corrections to be near one.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/utils.h>

#include <cstdio>
#include <string_view>

#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/bridge/engine/engine.h"
#include "patrickstar/models/export_case.h"

namespace patrickstar {
namespace {

constexpr std::int64_t kSteps = 3;
constexpr Bytes kBudget = 12 * kMiB;

models::TransformerConfig config_of(std::string_view shape) {
  const bool gpt2 = shape == "gpt2";
  models::TransformerConfig config = *models::preset(gpt2 ? "tiny-gpt2" : "tiny-llama").config;
  config.vocab_size = 509;  // a prime
  config.hidden_size = 128;
  config.heads = 8;
  config.kv_heads = gpt2 ? 8 : 2;
  config.intermediate_size = gpt2 ? 512 : 352;
  config.layers = 6;
  config.head = gpt2 ? models::Head::kTied : models::Head::kUntied;
  return config;
}

int run(std::string_view shape, const char* directory) {
  at::set_num_threads(1);
  torch::manual_seed(17);
  auto runtime = bridge::Runtime::create({.memory_budget = kBudget,
                                          .spill_dir = directory,
                                          .layout = {.chunk_elems = Elems{128} << 10, .tile_elems = Elems{32} << 10}});
  bridge::Engine engine(runtime, {.dtype = DType::kFloat32});
  models::Transformer model(config_of(shape), {.on_built = [&](torch::nn::Module& part) { engine.attach(part); }});
  const models::CaseTraining training{.learning_rate = 2e-3, .beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-4, .weight_decay = 10.0};
  const at::Tensor text = at::randint(0, model.config().vocab_size, {kSteps, 2, 33}, at::kLong);
  const at::Tensor tokens = text.slice(2, 0, 32);
  const at::Tensor targets = text.slice(2, 1, 33);
  models::export_case(directory, model, training, tokens, targets);

  at::Tensor logits;
  {
    const at::NoGradGuard no_grad;
    logits = model.forward(tokens[0]);
  }
  bridge::ChunkedAdamW optimizer(engine, model.parameters(),
                                 torch::optim::AdamWOptions(training.learning_rate)
                                     .betas({training.beta1, training.beta2})
                                     .eps(training.epsilon)
                                     .weight_decay(training.weight_decay));
  at::Tensor losses = at::empty({kSteps});
  for (std::int64_t step = 0; step < kSteps; ++step) {
    at::Tensor loss = model.loss(tokens[step], targets[step]);
    losses[step] = loss.detach();
    loss.backward();
    optimizer.step();
    optimizer.zero_grad();
  }
  models::export_results(directory, model, logits, losses);
  const ManagerStats stats = runtime->manager().stats();
  std::printf("export_reference_case: %.*s: %lld parameters, %lld evictions\n", static_cast<int>(shape.size()), shape.data(),
              static_cast<long long>(engine.parameter_count()), static_cast<long long>(stats.evictions));
  if (stats.evictions > 0) return 0;
  std::fputs("export_reference_case: nothing was evicted: the budget is too large to show anything\n", stderr);
  return 1;
}

}  // namespace
}  // namespace patrickstar

int main(int argc, char** argv) {
  const std::string_view shape = argc == 3 ? argv[1] : "";
  if (shape != "gpt2" && shape != "llama") {
    std::fputs("usage: export_reference_case gpt2|llama DIRECTORY\n", stderr);
    return 2;
  }
  try {
    return patrickstar::run(shape, argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "export_reference_case: %s\n", error.what());
    return 1;
  }
}
