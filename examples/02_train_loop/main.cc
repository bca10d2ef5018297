// Example 2: the ordinary LibTorch loop on a module of your own, inside a memory budget smaller than its model data.
//
//   example_train_loop [DIRECTORY]     where the scratch file goes (default /var/tmp); it has no name and is gone afterwards
//
// What differs from a plain loop: a Runtime, an Engine, attach(), and ChunkedAdamW in the place of torch::optim::AdamW.
#include <torch/nn/modules/linear.h>
#include <torch/optim/schedulers/step_lr.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdio>
#include <exception>
#include <memory>

#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/core/base/text.h"

namespace {

using patrickstar::Bytes;
using patrickstar::format_bytes;
using patrickstar::kMiB;
namespace bridge = patrickstar::bridge;

constexpr Bytes kBudget = 24 * kMiB;
constexpr int kSteps = 20;
constexpr int kInputs = 256;
constexpr int kHidden = 1024;
constexpr int kSamples = 64;

// Nothing of PatrickStar in the module.
class Mlp final : public torch::nn::Module {
 public:
  Mlp() {
    first_ = register_module("first", torch::nn::Linear(kInputs, kHidden));
    second_ = register_module("second", torch::nn::Linear(kHidden, kHidden));
    third_ = register_module("third", torch::nn::Linear(kHidden, kHidden));
    head_ = register_module("head", torch::nn::Linear(kHidden, 1));
  }

  torch::Tensor forward(torch::Tensor x) {
    x = torch::gelu(first_(x));
    x = torch::gelu(second_(x));
    x = torch::gelu(third_(x));
    return head_(x);
  }

 private:
  torch::nn::Linear first_ = nullptr;
  torch::nn::Linear second_ = nullptr;
  torch::nn::Linear third_ = nullptr;
  torch::nn::Linear head_ = nullptr;
};

bool train(const char* spill_dir) {
  torch::manual_seed(1);
  // From here on LibTorch's CPU tensors count against the budget: parameters, gradients, optimizer state and activations.
  bridge::RuntimeOptions options{.memory_budget = kBudget, .spill_dir = spill_dir};
  options.layout = {.chunk_elems = 512 * 1024, .tile_elems = 128 * 1024};  // a small model: smaller chunks than the default
  const auto runtime = bridge::Runtime::create(options);

  const auto model = std::make_shared<Mlp>();
  // Parameters become bf16 and move into chunk space; fp32 masters start from the values as they are now.
  bridge::Engine engine(runtime, {.dtype = patrickstar::DType::kBFloat16});
  engine.attach(*model);
  std::printf("%lld parameters, %s of model data, a budget of %s, spilling through %s\n",
              static_cast<long long>(engine.parameter_count()), format_bytes(engine.model_data_bytes()).c_str(),
              format_bytes(kBudget).c_str(), runtime->io_backend().c_str());

  bridge::ChunkedAdamW optimizer(engine, model->parameters(), torch::optim::AdamWOptions(1e-3));
  torch::optim::StepLR scheduler(optimizer, /*step_size=*/10, /*gamma=*/0.5);  // LibTorch's own: it is an Optimizer

  const torch::Tensor inputs = torch::randn({kSamples, kInputs}).to(torch::kBFloat16);
  const torch::Tensor targets = torch::randn({kSamples, 1});
  float first_loss = 0;
  float loss_value = 0;
  for (int step = 0; step < kSteps; ++step) {
    const torch::Tensor loss = torch::mse_loss(model->forward(inputs).to(torch::kFloat), targets);
    loss.backward();
    optimizer.step();
    optimizer.zero_grad();
    scheduler.step();

    loss_value = loss.item<float>();
    if (step == 0) first_loss = loss_value;
    if (step % 5 == 0 || step == kSteps - 1) {
      const double rate = optimizer.param_groups().front().options().get_lr();
      std::printf("step %2d  loss %.4f  learning rate %.2g  memory %s\n", step, static_cast<double>(loss_value), rate,
                  format_bytes(runtime->ledger().total()).c_str());
    }
  }

  const patrickstar::LedgerPeaks peaks = runtime->ledger().peaks();
  const patrickstar::ManagerStats stats = runtime->manager().stats();
  std::printf("peaks: %s of model data in memory, %s of everything else, %s in all\n", format_bytes(peaks.model).c_str(),
              format_bytes(peaks.non_model).c_str(), format_bytes(peaks.total).c_str());
  std::printf("%lld evictions, %s written to disk, %s read back\n", static_cast<long long>(stats.evictions),
              format_bytes(stats.written()).c_str(), format_bytes(stats.read()).c_str());
  return loss_value < first_loss / 2 && peaks.total <= kBudget && stats.evictions > 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (train(argc > 1 ? argv[1] : "/var/tmp")) return 0;
    std::fprintf(stderr, "example_train_loop: the loss did not fall, the budget did not hold, or nothing was spilled\n");
  } catch (const std::exception& error) {  // bridge::Error, or what LibTorch throws
    std::fprintf(stderr, "example_train_loop: %s\n", error.what());
  }
  return 1;
}
