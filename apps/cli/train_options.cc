#include "apps/cli/train_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <utility>
#include <vector>

#include "patrickstar/core/base/text.h"

namespace patrickstar::cli {
namespace {

Status bad(const std::string& text) { return Status(StatusCode::kInvalidArgument, text); }

std::string model_names() {
  std::string names;
  for (const auto name : models::preset_names()) names += (names.empty() ? "" : ", ") + std::string(name);
  return names;
}

// However it is spelled.
std::filesystem::path same_for_same_file(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  auto canonical = std::filesystem::weakly_canonical(absolute, error);
  return error ? std::filesystem::path(path) : canonical;
}

// Two streams that write one file leave neither's text.
Status check_outputs_differ(const TrainOptions& o) {
  std::vector<std::pair<const char*, std::filesystem::path>> seen;
  for (const auto& [name, path] : {std::pair{"--summary", &o.summary},
                                   {"--trace", &o.trace},
                                   {"--transfers", &o.transfers},
                                   {"--events", &o.events},
                                   {"--timeline", &o.timeline}}) {
    std::error_code none;
    if (path->empty() || std::filesystem::is_character_file(*path, none)) continue;  // several may go to /dev/null
    const auto file = same_for_same_file(*path);
    for (const auto& [other, its_file] : seen) {
      if (file == its_file) return bad(fmt::format("{} and {} name the same file: {}", other, name, *path));
    }
    seen.emplace_back(name, file);
  }
  return {};
}

}  // namespace

void add_train_options(CLI::App& app, TrainOptions* o) {
  const auto positive = CLI::Range(std::int64_t{1}, std::int64_t{1} << 40);
  const auto natural = CLI::Range(std::int64_t{0}, std::int64_t{1} << 40);
  const auto real = CLI::Range(0.0, 1e12);
  app.option_defaults()->always_capture_default();
  app.add_option("--data", o->data, "text file (bytes as tokens) or .bin of uint16 tokens (nanoGPT's or llm.c's)")->required();
  app.add_option("--model", o->model, "shape: " + model_names());
  app.add_option("--steps", o->steps, "optimizer steps")->check(positive);
  app.add_option("--batch-size", o->batch_size, "sequences per micro-batch")->check(positive);
  app.add_option("--accumulate", o->accumulate, "micro-batches per step")->check(positive);
  app.add_option("--sequence-length", o->sequence_length, "tokens per sequence")->check(positive);
  app.add_option("--dtype", o->dtype, "bf16 (with fp32 masters, 14 bytes a parameter) or fp32 (16)")
      ->check(CLI::IsMember({"bf16", "fp32"}));
  app.add_flag("--checkpoint-activations", o->checkpoint_activations,
               "keep only a block's input, recompute the rest in backward");
  app.add_option("--memory-budget", o->memory_budget,
                 "host memory for model data and activations, like 1.5GiB (default: 80 % of what is available)");
  app.add_option("--spill-dir", o->spill_dir, "directory of the scratch file, on a fast disk");
  app.add_option("--chunk-elems", o->chunk_elems, "most elements of a chunk (0: 4 Mi)")->check(natural);
  app.add_option("--tile-elems", o->tile_elems, "most elements of a tile of optimizer state (0: 1 Mi)")->check(natural);
  app.add_option("--layout", o->layout, "order of tensors, chunk and tile size as patrickstar layout chose them; same bits");
  app.add_option("--prefetch", o->prefetch, "planned: one step is watched, then chunks come ahead of their use; on-demand: LRU")
      ->check(CLI::IsMember({"planned", "on-demand"}));
  app.add_option(
         "--update-schedule", o->update_schedule,
         "when tiles are updated, same bits: at step(), deferred to the parameter's next use, or overlapped with backward "
         "(auto: overlapped, but deferred with clipping or accumulation)")
      ->check(CLI::IsMember({"auto", "step", "deferred", "overlapped"}));
  app.add_option("--io", o->io, "disk back end")->check(CLI::IsMember({"auto", "pread", "io_uring"}));
  app.add_option("--direct", o->direct, "O_DIRECT: auto falls back with a warning, require does not")
      ->check(CLI::IsMember({"auto", "require", "off"}));
  app.add_option("--seed", o->seed, "of initial weights and of the batches");
  app.add_option("--threads", o->threads, "intra-op threads; results depend on it (0: LibTorch's default)")
      ->check(CLI::Range(0, 4096));
  app.add_option("--grad-clip", o->grad_clip, "largest global gradient norm (0: no clipping)")->check(real);
  app.add_option("--lr", o->lr, "learning rate")->check(real);
  app.add_option("--weight-decay", o->weight_decay, "of matrices; vectors have none")->check(real);
  app.add_option("--warmup", o->warmup, "steps of linear warm-up")->check(natural);
  app.add_option("--lr-schedule", o->lr_schedule, "after the warm-up")->check(CLI::IsMember({"constant", "linear", "cosine"}));
  app.add_option("--validate-every", o->validate_every, "steps between validation losses (0: never)")->check(natural);
  app.add_option("--validate-batches", o->validate_batches, "batches of a validation loss")->check(positive);
  app.add_flag("--plain", o->plain, "the same loop on plain LibTorch: the baseline");
  app.add_option("--plain-allocator", o->plain_allocator, "torch (as it comes), counting (measures peaks), arena (ours)")
      ->check(CLI::IsMember({"torch", "counting", "arena"}));
  app.add_option("--summary", o->summary, "write a JSON summary here");
  app.add_option(
      "--trace", o->trace,
      "write the step that the plan was made from here, for patrickstar replay; with --chunk-elems 1 for patrickstar layout");
  app.add_option("--transfers", o->transfers, "write each step's transfers to and from the disk here");
  app.add_option("--pause-after", o->pause_after,
                 "after these steps write what --summary, --trace and --transfers name, and stop (SIGSTOP) until SIGCONT comes")
      ->delimiter(',')
      ->check(positive);
  app.add_option("--events", o->events, "write every chunk's movements here, one JSON object a line");
  app.add_option("--timeline", o->timeline, "write a timeline of transfers, stalls and memory here, for ui.perfetto.dev");
  app.add_flag("--report", o->report, "at the end tables of steps and of chunks; with --summary in its JSON too");
  app.add_flag("--repeat-batch", o->repeat_batch, "train on the first batch again and again");
  app.add_flag("--forward-only", o->forward_only,
               "only the loss of each batch, nothing is trained: takes 2 (bf16) or 4 (fp32) bytes a parameter");
  app.add_option("--freeze-layers", o->freeze_layers, "no gradients for the embedding and the first N blocks (0: all train)")
      ->check(natural);
  app.add_option("--layers", o->layers, "over the model's (0: as it is)")->check(natural)->group("Shape");
  app.add_option("--hidden-size", o->hidden_size)->check(natural)->group("Shape");
  app.add_option("--heads", o->heads)->check(natural)->group("Shape");
  app.add_option("--kv-heads", o->kv_heads)->check(natural)->group("Shape");
  app.add_option("--intermediate-size", o->intermediate_size)->check(natural)->group("Shape");
  app.add_option("--vocab-size", o->vocab_size)->check(natural)->group("Shape");
  app.add_option("--max-positions", o->max_positions)->check(natural)->group("Shape");
  app.add_option("--head", o->head, "tied to the token embedding, or untied: a matrix of its own (default: as the model has it)")
      ->check(CLI::IsMember({"tied", "untied"}))
      ->group("Shape");
}

Result<TrainPlan> check(const TrainOptions& o) {
  TrainPlan plan;
  for (const auto& [name, value] : {std::pair{"--lr", o.lr}, {"--grad-clip", o.grad_clip}, {"--weight-decay", o.weight_decay}}) {
    if (!std::isfinite(value)) return bad(fmt::format("{} {} is not a number to train with", name, value));
  }
  const auto preset = models::preset(o.model);
  if (!preset.config.has_value()) return bad("--model: " + preset.error);
  plan.model = *preset.config;
  const auto override_with = [](std::int64_t value, std::int64_t* field) {
    if (value > 0) *field = value;
  };
  override_with(o.layers, &plan.model.layers);
  override_with(o.hidden_size, &plan.model.hidden_size);
  override_with(o.heads, &plan.model.heads);
  if (o.heads > 0 && o.kv_heads == 0 && preset.config->kv_heads == preset.config->heads) plan.model.kv_heads = o.heads;
  override_with(o.kv_heads, &plan.model.kv_heads);
  if (o.hidden_size > 0 && o.intermediate_size == 0) {
    plan.model.intermediate_size = preset.config->intermediate_size * o.hidden_size / preset.config->hidden_size;
  }
  override_with(o.intermediate_size, &plan.model.intermediate_size);
  override_with(o.vocab_size, &plan.model.vocab_size);
  override_with(o.max_positions, &plan.model.max_positions);
  if (!o.head.empty()) plan.model.head = o.head == "tied" ? models::Head::kTied : models::Head::kUntied;
  if (o.checkpoint_activations) plan.model.activations = models::Activations::kCheckpoint;
  if (const auto error = models::validate(plan.model)) return bad("impossible shape: " + *error);
  if (o.sequence_length > plan.model.max_positions) {
    return bad(
        fmt::format("--sequence-length {0} is longer than the model's {1} positions; give --sequence-length {1} or less, or "
                    "--max-positions {0}",
                    o.sequence_length, plan.model.max_positions));
  }
  constexpr double kMostTokens = 1e18;  // what is counted of them fits 64 bits
  if (static_cast<double>(o.batch_size) * static_cast<double>(o.sequence_length) * static_cast<double>(o.accumulate) >
      kMostTokens) {
    return bad("--batch-size x --sequence-length x --accumulate is more tokens a step than can be counted");
  }
  if (o.freeze_layers > plan.model.layers) {
    return bad(fmt::format("--freeze-layers {}: the model has {} layers", o.freeze_layers, plan.model.layers));
  }
  plan.dtype = o.dtype == "bf16" ? DType::kBFloat16 : DType::kFloat32;
  plan.baseline = o.plain ? Baseline::kPlain : Baseline::kNone;
  plan.plain_allocator = o.plain_allocator == "counting" ? PlainAllocator::kCounting
                         : o.plain_allocator == "arena"  ? PlainAllocator::kArena
                                                         : PlainAllocator::kTorch;
  if (!o.plain && o.plain_allocator != "torch") return bad("--plain-allocator belongs to --plain");
  if (o.plain && !o.memory_budget.empty()) return bad("--plain knows no --memory-budget: that is what it is compared for");
  if (o.plain && !o.layout.empty()) return bad("--plain has no chunks and so no --layout");
  if (!o.layout.empty() && (o.chunk_elems > 0 || o.tile_elems > 0))
    return bad("--layout says the size of chunks and tiles: leave --chunk-elems and --tile-elems out");
  if (o.plain && !o.trace.empty()) return bad("--plain has no chunks and so no --trace");
  if (o.plain && !o.events.empty()) return bad("--plain has no chunks and so no --events");
  if (o.forward_only && o.grad_clip > 0) return bad("--forward-only has no gradients for --grad-clip");
  for (const auto& [name, value] : {std::pair{"--layout", &o.layout}, {"--trace", &o.trace}, {"--transfers", &o.transfers}}) {
    if (o.forward_only && !value->empty()) return bad(fmt::format("--forward-only trains no step: {} has no use there", name));
  }
  if (o.plain && !o.timeline.empty()) return bad("--plain has no chunks and so no --timeline");
  if (o.plain && o.report) return bad("--plain has no chunks and so no --report");
  if (o.plain && !o.transfers.empty()) return bad("--plain has no chunks and so no --transfers");
  PS_RETURN_IF_ERROR(check_outputs_differ(o));
  plan.schedule = o.lr_schedule == "linear"   ? LrSchedule::kLinear
                  : o.lr_schedule == "cosine" ? LrSchedule::kCosine
                                              : LrSchedule::kConstant;
  if (!o.memory_budget.empty()) {
    auto budget = parse_bytes(o.memory_budget);
    if (!budget.ok()) return bad("--memory-budget: " + budget.status().message());
    if (budget.value() == 0) return bad("--memory-budget: 0 is no budget");
    plan.budget = budget.value();
  }
  if (o.tile_elems % 128 != 0) return bad("--tile-elems must be a multiple of 128");
  plan.prefetch = o.prefetch == "planned" ? Prefetching::kPlanned : Prefetching::kOnDemand;
  const bool can_overlap = o.grad_clip == 0 && o.accumulate == 1;
  if (o.update_schedule == "overlapped" && !can_overlap) {
    return bad("--update-schedule overlapped excludes --grad-clip and --accumulate; leave it out, or take deferred");
  }
  plan.updates = o.update_schedule == "step"       ? Updates::kAtStep
                 : o.update_schedule == "deferred" ? Updates::kDeferred
                 : can_overlap                     ? Updates::kOverlapped
                                                   : Updates::kDeferred;
  plan.io = o.io == "pread" ? IoBackend::kPread : o.io == "io_uring" ? IoBackend::kIoUring : IoBackend::kAuto;
  plan.direct = o.direct == "require" ? DirectIo::kRequire : o.direct == "off" ? DirectIo::kOff : DirectIo::kAuto;
  return plan;
}

double lr_factor(const TrainOptions& o, LrSchedule schedule, std::int64_t step) {
  constexpr double kFloor = 0.1;
  if (step < o.warmup) return static_cast<double>(step + 1) / static_cast<double>(o.warmup);
  const double length = static_cast<double>(std::max<std::int64_t>(1, o.steps - o.warmup));
  const double done = std::min(1.0, static_cast<double>(step - o.warmup) / length);
  switch (schedule) {
    case LrSchedule::kConstant: return 1.0;
    case LrSchedule::kLinear: return 1.0 - (1.0 - kFloor) * done;
    case LrSchedule::kCosine: return kFloor + (1.0 - kFloor) * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  }
  return 1.0;
}

}  // namespace patrickstar::cli
