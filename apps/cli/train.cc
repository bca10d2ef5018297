#include "apps/cli/train.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/headeronly/version.h>
#include <torch/optim/adamw.h>
#include <torch/utils.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>

#include "apps/cli/output.h"
#include "apps/cli/progress.h"
#include "apps/cli/summary.h"
#include "apps/cli/token_data.h"
#include "apps/cli/trainer.h"
#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/bridge/engine/runtime.h"
#include "patrickstar/core/base/available_memory.h"
#include "patrickstar/core/base/log.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/base/text_file.h"
#include "patrickstar/core/optim/adamw.h"
#include "patrickstar/models/transformer.h"

namespace patrickstar::cli {
namespace {

std::atomic<bool> stop_asked{false};  // by a signal, whose handler can reach nothing else

void ask_to_stop(int signal) {
  stop_asked.store(true);
  std::signal(signal, SIG_DFL);  // a second one ends at once; the scratch file is unlinked already
  constexpr char kText[] = "patrickstar: stopping after this step; once more ends at once\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kText, sizeof(kText) - 1);
}

at::Tensor to_tensor(const std::vector<std::int64_t>& values, std::int64_t rows) {
  return at::tensor(values, at::kLong).view({rows, -1});
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class TrainingLoop {
 public:
  TrainingLoop(const TrainOptions& options, const TrainPlan& plan, const TokenData& data)
      : options_(options),
        plan_(plan),
        trainer_(plan.baseline == Baseline::kPlain ? make_plain_trainer(options, plan) : make_engine_trainer(options, plan)),
        training_(data, BatchSampler::Part::kTraining, options.batch_size, options.sequence_length, options.seed),
        data_(data) {}

  Trainer& trainer() { return *trainer_; }

  void build() {
    torch::manual_seed(options_.seed);
    std::int64_t part = 0;
    const auto on_built = [&](torch::nn::Module& module) {
      const std::int64_t layers = plan_.model.layers;
      const std::string name = part == 0 ? "embedding" : part <= layers ? "blocks." + std::to_string(part - 1) : "final";
      if (options_.forward_only || (options_.freeze_layers > 0 && part <= options_.freeze_layers)) {
        for (auto& parameter : module.parameters()) parameter.requires_grad_(false);
      }
      trainer_->take_over(module, name);
      ++part;
    };
    model_ = std::make_shared<models::Transformer>(plan_.model, models::TransformerOptions{.on_built = on_built});
    if (options_.forward_only) return;
    std::vector<torch::Tensor> matrices;
    std::vector<torch::Tensor> vectors;
    for (const auto& parameter : model_->parameters()) {
      if (parameter.requires_grad()) (parameter.dim() > 1 ? matrices : vectors).push_back(parameter);
    }
    std::vector<torch::optim::OptimizerParamGroup> groups;
    const auto add_group = [&](std::vector<torch::Tensor> tensors, double weight_decay) {
      if (tensors.empty()) return;
      auto options = std::make_unique<torch::optim::AdamWOptions>(options_.lr);
      options->betas({0.9, 0.95}).weight_decay(weight_decay);
      groups.emplace_back(std::move(tensors), std::move(options));
    };
    add_group(std::move(matrices), options_.weight_decay);
    add_group(std::move(vectors), 0.0);
    optimizer_ = &trainer_->make_optimizer(std::move(groups));
  }

  // The loss of the step's batches without gradients: what step() would start from.
  StepRecord forward(std::int64_t number) {
    const auto start = std::chrono::steady_clock::now();
    const at::NoGradGuard no_grad;
    const RunTotals before = trainer_->totals();
    double sum = 0;
    for (std::int64_t micro = 0; micro < options_.accumulate; ++micro) sum += finite_loss(next_loss(number), number);
    return record(sum, start, before);
  }

  StepRecord step(std::int64_t number) {
    const auto start = std::chrono::steady_clock::now();
    const RunTotals before = trainer_->totals();
    trainer_->begin_step();
    for (auto& group : optimizer_->param_groups())
      group.options().set_lr(options_.lr * lr_factor(options_, plan_.schedule, number));
    double sum = 0;
    for (std::int64_t micro = 0; micro < options_.accumulate; ++micro) {
      at::Tensor loss = next_loss(number);
      sum += finite_loss(loss, number);
      if (options_.accumulate > 1) loss = loss / static_cast<double>(options_.accumulate);
      loss.backward();
    }
    if (options_.grad_clip > 0) trainer_->clip_grad_norm(options_.grad_clip);
    optimizer_->step();
    optimizer_->zero_grad();
    return record(sum, start, before);
  }

  float validate() {
    const at::NoGradGuard no_grad;
    BatchSampler sampler(data_, BatchSampler::Part::kValidation, options_.batch_size, options_.sequence_length, options_.seed);
    double sum = 0;
    for (std::int64_t i = 0; i < options_.validate_batches; ++i) {
      const Batch batch = bridge::value_or_throw(sampler.next());
      sum +=
          model_->loss(to_tensor(batch.tokens, options_.batch_size), to_tensor(batch.targets, options_.batch_size)).item<float>();
    }
    return static_cast<float>(sum / static_cast<double>(options_.validate_batches));
  }

  std::string weights_hash() {
    XXH3_state_t* state = XXH3_createState();
    XXH3_64bits_reset(state);
    trainer_->visit_weights(
        [&](const void* data, Bytes bytes) { XXH3_64bits_update(state, data, static_cast<std::size_t>(bytes)); });
    char text[17];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(XXH3_64bits_digest(state)));
    XXH3_freeState(state);
    return text;
  }

 private:
  at::Tensor next_loss(std::int64_t number) {
    if (number == 0 || !options_.repeat_batch) batch_ = bridge::value_or_throw(training_.next());
    return model_->loss(to_tensor(batch_.tokens, options_.batch_size), to_tensor(batch_.targets, options_.batch_size));
  }
  static float finite_loss(const at::Tensor& loss, std::int64_t number) {
    const float value = loss.item<float>();
    if (std::isfinite(value)) return value;
    throw bridge::Error(Status(StatusCode::kInvalidArgument, "the loss of step " + std::to_string(number + 1) + " is " +
                                                                 (std::isnan(value) ? "NaN" : "infinite") +
                                                                 "; lower --lr, or clip with --grad-clip 1"));
  }
  StepRecord record(double sum_of_losses, std::chrono::steady_clock::time_point start, const RunTotals& before) const {
    const RunTotals after = trainer_->totals();
    return {.loss = static_cast<float>(sum_of_losses / static_cast<double>(options_.accumulate)),
            .seconds = seconds_since(start),
            .disk_read = after.read - before.read,
            .disk_written = after.written - before.written,
            .stalled = after.stalled - before.stalled,
            .accesses = after.accesses - before.accesses,
            .misses = after.misses - before.misses,
            .late = after.late - before.late,
            .planned_read = before.planned_read,
            .planned_written = before.planned_written};
  }

  const TrainOptions& options_;
  const TrainPlan& plan_;
  std::unique_ptr<Trainer> trainer_;
  std::shared_ptr<models::Transformer> model_;
  torch::optim::Optimizer* optimizer_ = nullptr;
  BatchSampler training_;
  const TokenData& data_;
  Batch batch_;
};

double seconds_of_matmul(at::ScalarType type) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = at::ones({256, 768}, type);
  const at::Tensor weight = at::ones({768, 768}, type);
  double best = 1e9;
  for (int i = 0; i < 4; ++i) {  // the first warms up
    const auto start = std::chrono::steady_clock::now();
    (void)at::linear(x, weight);
    if (i > 0) best = std::min(best, seconds_since(start));
  }
  return best;
}

// What to tell whoever trains in bf16 on a processor without instructions for it; empty: nothing. Takes milliseconds, and memory
// that no budget knows of: before there is one.
std::string advice_on(DType dtype) {
  if (dtype != DType::kBFloat16) return "";
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bf16")) return "";  // those with AMX have it too; a measurement could be disturbed
#endif
  const double times = seconds_of_matmul(at::kBFloat16) / seconds_of_matmul(at::kFloat);
  constexpr double kWorthSaying = 2.5;
  if (times < kWorthSaying) return "";
  char text[32];
  std::snprintf(text, sizeof(text), "%.0f", times);
  return "LibTorch multiplies bf16 matrices " + std::string(text) +
         " times slower than fp32 ones on this processor: --dtype fp32 takes 16 instead of 14 bytes a parameter and is faster";
}

void add_use(Trainer& trainer, TrainSummary* summary) {
  trainer.report_use(summary);
  summary->peak_rss_bytes = peak_rss();
  summary->simd = adamw_simd_target();
  summary->torch_version = TORCH_VERSION;
  summary->threads = at::get_num_threads();
}

Status write_summary(const TrainSummary& summary, const TrainOptions& options, const TrainPlan& plan) {
  return options.summary.empty() ? Status() : write_text_file("summary", options.summary, to_json(summary, options, plan));
}

// Before the work that they are to report on.
Status check_outputs(const TrainOptions& options) {
  const std::pair<const char*, const std::string*> outputs[] = {
      {"summary", &options.summary}, {"trace", &options.trace}, {"transfers", &options.transfers}};
  for (const auto& [part, path] : outputs) {
    if (!path->empty()) PS_RETURN_IF_ERROR(check_text_file(part, *path));
  }
  return {};
}

// A large batch that cannot fit whatever else there is: refused before its tokens are read, which no budget knows of. A small
// one is left to the Runtime, which knows more.
Status check_batch(const TrainOptions& options, const TrainPlan& plan) {
  const double sequences = static_cast<double>(options.batch_size) * static_cast<double>(options.sequence_length);
  constexpr double kIds = 2 * sizeof(std::int64_t);  // of a token and its target
  const double least = sequences * (kIds + static_cast<double>(plan.model.hidden_size * dtype_bytes(plan.dtype)));
  constexpr auto kLarge = static_cast<double>(64 * kMiB);
  const Bytes room = plan.budget > 0 ? plan.budget : available_memory();
  if (least <= std::max(kLarge, static_cast<double>(room))) return {};
  return Status(StatusCode::kOutOfRoom, "a batch of " + std::to_string(options.batch_size) + " x " +
                                            std::to_string(options.sequence_length) + " tokens takes at least " +
                                            format_bytes(static_cast<Bytes>(std::min(least, 1e18))) +
                                            " for their ids and one hidden state, more than " +
                                            (plan.budget > 0 ? "the budget of " : "the available memory of ") +
                                            format_bytes(room) + ": lower --batch-size or --sequence-length");
}

// So that who started this process can use the machine alone between two steps (patrickstar bench).
void pause(TrainSummary so_far, const TrainOptions& options, const TrainPlan& plan, Trainer& trainer) {
  trainer.report_steps(&so_far);
  add_use(trainer, &so_far);
  bridge::throw_if_error(write_summary(so_far, options, plan));
  trainer.write_files();
  std::raise(SIGSTOP);
}

TrainSummary train(const TrainOptions& options, const TrainPlan& plan, TrainingLoop& loop, const std::string& advice) {
  TrainSummary summary;
  summary.parameters = plan.model.parameter_count();
  summary.tokens_per_step = options.batch_size * options.accumulate * options.sequence_length;
  Progress progress;
  loop.build();
  const auto validate = [&](std::int64_t step) {
    summary.validation.emplace_back(step, loop.validate());
    progress.say("validation loss after " + std::to_string(step) + " steps: " + std::to_string(summary.validation.back().second));
  };
  double spent = 0;
  for (std::int64_t step = 0; step < options.steps && !stop_asked.load(); ++step) {
    summary.steps.push_back(options.forward_only ? loop.forward(step) : loop.step(step));
    spent += summary.steps.back().seconds;
    const auto done = static_cast<double>(step + 1);
    progress.show({.step = step + 1,
                   .steps = options.steps,
                   .loss = summary.steps.back().loss,
                   .tokens_per_second = static_cast<double>(summary.tokens_per_step) / summary.steps.back().seconds,
                   .seconds_left = spent / done * (static_cast<double>(options.steps) - done),
                   .used = loop.trainer().memory_used(),
                   .budget = loop.trainer().memory_budget()});
    if (step == 0 && !advice.empty()) progress.say(advice);  // what goes wrong before is said alone
    if (options.validate_every > 0 && (step + 1) % options.validate_every == 0) validate(step + 1);
    if (std::find(options.pause_after.begin(), options.pause_after.end(), step + 1) != options.pause_after.end())
      pause(summary, options, plan, loop.trainer());
  }
  progress.finish();
  loop.trainer().end_last_step();
  summary.interrupted = stop_asked.load();
  loop.trainer().report_steps(&summary);
  summary.weights_hash = loop.weights_hash();  // moves chunks, which is no step's doing
  add_use(loop.trainer(), &summary);
  return summary;
}

}  // namespace

Bytes free_memory() { return available_memory(); }

int run_train(const TrainOptions& options) {
  const auto checked = check(options);
  if (!checked.ok()) return fail(2, checked.status().message());
  const TrainPlan& plan = checked.value();
  const auto data = TokenData::open(options.data);
  if (!data.ok()) return fail(1, data.status().message());
  if (Status status = data.value().check(options.sequence_length, plan.model.vocab_size); !status.ok())
    return fail(1, status.message());
  if (Status status = check_batch(options, plan); !status.ok()) return fail(1, status.message());
  if (Status status = check_outputs(options); !status.ok()) return fail(1, status.message());
  if (plan.budget > available_memory()) {
    log_warning("the budget of " + format_bytes(plan.budget) + " is more than the available memory of " +
                format_bytes(available_memory()) + ": what does not fit there ends the process, not the budget");
  }
  if (options.threads > 0) at::set_num_threads(options.threads);
  const std::string advice = advice_on(plan.dtype);
  std::signal(SIGINT, &ask_to_stop);
  std::signal(SIGTERM, &ask_to_stop);
  try {
    TrainingLoop loop(options, plan, data.value());
    try {
      const TrainSummary summary = train(options, plan, loop, advice);
      std::fputs(to_text(summary).c_str(), stdout);
      const Status written = write_summary(summary, options, plan);
      const int code = written.ok() ? 0 : fail(1, written.message());
      loop.trainer().write_files();  // all the same
      return code;
    } catch (const c10::OutOfMemoryError& error) {
      return fail(1, std::string(error.what_without_backtrace()) + loop.trainer().advice());
    } catch (const c10::Error& error) {
      return fail(1,
                  error.what_without_backtrace() + (loop.trainer().ran_out_of_room() ? loop.trainer().advice() : std::string()));
    } catch (const bridge::Error& error) {
      return fail(1, error.what() + (error.code() == StatusCode::kOutOfRoom ? loop.trainer().advice() : ""));
    }
  } catch (const std::exception& error) {
    return fail(1, error.what());
  }
}

}  // namespace patrickstar::cli
