// Training within the budget: through Runtime and Engine.
#include <torch/nn/module.h>

#include <algorithm>
#include <optional>

#include "apps/cli/trainer.h"
#include "patrickstar/bridge/engine/chunked_adamw.h"
#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/core/base/log.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/mem/layout_io.h"
#include "patrickstar/core/obs/perfetto_sink.h"
#include "patrickstar/core/obs/sinks.h"
#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/trace/trace_io.h"

namespace patrickstar::cli {
namespace {

using bridge::GradientPlacement;
using bridge::Runtime;
using bridge::value_or_throw;

GradientPlacement placement(const TrainOptions& options, const TrainPlan& plan) {
  const bool own = options.accumulate > 1 || plan.dtype == DType::kFloat32;
  return own ? GradientPlacement::kOwnChunks : GradientPlacement::kInParameter;
}

// What the model will take there at the least: alignment, and what is frozen of the first part, left aside.
Bytes least_disk_bytes(const TrainOptions& options, const TrainPlan& plan) {
  const std::int64_t all = plan.model.parameter_count();
  std::int64_t trained = options.forward_only ? 0 : all;
  if (!options.forward_only && options.freeze_layers > 0) {
    models::TransformerConfig none = plan.model;
    none.layers = 0;
    const std::int64_t layer = (all - none.parameter_count()) / plan.model.layers;
    trained = std::max<std::int64_t>(0, plan.model.layers - options.freeze_layers) * layer;
  }
  const auto bytes = [&](Training training) {
    return bridge::ModelData::bytes_per_element(plan.dtype, placement(options, plan), training);
  };
  return trained * bytes(Training::kTrained) + (all - trained) * bytes(Training::kFrozen);
}

class EngineTrainer final : public Trainer {
 public:
  EngineTrainer(const TrainOptions& options, const TrainPlan& plan) {
    if (!options.events.empty()) events_.add(value_or_throw(JsonLinesSink::open(options.events)));
    if (!options.timeline.empty()) events_.add(value_or_throw(PerfettoSink::open(options.timeline)));
    bridge::RuntimeOptions runtime{
        .memory_budget = plan.budget,
        .spill_dir = options.spill_dir,
        .io = plan.io,
        .direct = plan.direct,
        .prefetch = plan.prefetch == Prefetching::kPlanned ? bridge::Prefetch::kPlanned : bridge::Prefetch::kOnDemand,
        .events = events_.empty() ? nullptr : &events_,
        .transfers = options.transfers.empty() ? nullptr : &transfers_};
    report_ = options.report ? Report::kWanted : Report::kNone;
    trace_path_ = options.trace;
    transfers_path_ = options.transfers;
    timing_ = plan.updates == Updates::kAtStep     ? bridge::UpdateTiming::kAtStep
              : plan.updates == Updates::kDeferred ? bridge::UpdateTiming::kDeferred
                                                   : bridge::UpdateTiming::kOverlapped;
    if (options.chunk_elems > 0) runtime.layout.chunk_elems = options.chunk_elems;
    if (options.tile_elems > 0) runtime.layout.tile_elems = options.tile_elems;
    std::vector<TensorSpec> order;
    if (!options.layout.empty()) {
      ChosenLayout layout = value_or_throw(load_layout(options.layout));
      runtime.layout = layout.options;
      log_info("layout: " + layout.reason + ". Tensors are placed part by part as the model is built, in " + layout.order +
               " order within each part");
      order = std::move(layout.tensors);
    }
    runtime_ = Runtime::create(runtime);
    // What the shape alone proves: the first words about an impossible job come before minutes of work.
    const Bytes table = plan.model.vocab_size * plan.model.hidden_size * dtype_bytes(plan.dtype);
    const Bytes budget = runtime_->options().memory_budget;
    if (plan.budget == 0) {
      log_info("memory budget " + format_bytes(budget) + ": " + std::to_string(bridge::kAutomaticBudgetPercent) +
               " % of what is available; --memory-budget sets another");
    }
    if (2 * table > budget) {
      throw bridge::Error(
          Status(StatusCode::kInvalidArgument, "a memory budget of " + format_bytes(budget) +
                                                   " is impossible: the token embedding's value and gradient alone take " +
                                                   format_bytes(2 * table) + " (a lower bound); give a larger --memory-budget"));
    }
    runtime_->reserve_disk(least_disk_bytes(options, plan));
    engine_.emplace(runtime_,
                    bridge::EngineOptions{.dtype = plan.dtype, .gradients = placement(options, plan), .order = std::move(order)});
  }

  void take_over(torch::nn::Module& part, const std::string& name) override { engine_->attach(part, name); }

  torch::optim::Optimizer& make_optimizer(std::vector<torch::optim::OptimizerParamGroup> groups) override {
    optimizer_.emplace(*engine_, std::move(groups), torch::optim::AdamWOptions{}, timing_);
    return *optimizer_;
  }

  double clip_grad_norm(double max_norm) override { return optimizer_->clip_grad_norm_(max_norm); }
  Bytes memory_used() const override { return runtime_->ledger().total(); }
  Bytes memory_budget() const override { return runtime_->options().memory_budget; }

  RunTotals totals() const override {
    const ManagerStats stats = runtime_->manager().stats();
    RunTotals totals{.read = stats.read(),
                     .written = stats.written(),
                     .stalled = static_cast<double>(stats.stalled) * 1e-9,
                     .accesses = stats.accesses,
                     .misses = stats.misses,
                     .late = stats.late};
    if (const auto orchestration = runtime_->orchestrator_stats(); orchestration.has_value() && orchestration->following) {
      totals.planned_read = orchestration->planned_read;
      totals.planned_written = orchestration->planned_written;
    }
    return totals;
  }

  void begin_step() override { transfers_.begin_step(); }
  void end_last_step() override { transfers_.end_last_step(); }

  void visit_weights(const Visitor& visitor) override {
    engine_->visit([&](const std::string&, const char*, const void* data, Bytes bytes) { visitor(data, bytes); });
  }

  void report_steps(TrainSummary* summary) override {
    const ManagerStats stats = runtime_->manager().stats();
    summary->runner = "engine";
    summary->model_data_bytes = engine_->model_data_bytes();
    summary->budget_bytes = runtime_->options().memory_budget;
    summary->io_backend = runtime_->io_backend();
    summary->evictions = stats.evictions;
    summary->accesses = stats.accesses;
    summary->misses = stats.misses;
    summary->late = stats.late;
    summary->stalled_seconds = static_cast<double>(stats.stalled) * 1e-9;
    summary->orchestration = runtime_->orchestrator_stats();
    const Orchestrator* orchestrator = runtime_->orchestrator();
    const Trace* trace = orchestrator != nullptr ? orchestrator->trace() : nullptr;
    if (report_ == Report::kWanted) report_chunks(trace, summary);
    if (trace_path_.empty() || trace == nullptr) return;
    trace_ = *trace;
    trace_->model = engine_->traced_model();
  }

  void report_use(TrainSummary* summary) override {
    const LedgerPeaks peaks = runtime_->ledger().peaks();
    const ManagerStats stats = runtime_->manager().stats();
    summary->peak_model_bytes = peaks.model;
    summary->peak_non_model_bytes = peaks.non_model;
    summary->peak_total_bytes = peaks.total;
    // The estimate has some room for odd pages; a budget that worked is proof.
    summary->smallest_budget_bytes = std::min(runtime_->smallest_budget(), runtime_->options().memory_budget);
    for (std::size_t kind = 0; kind < kPayloadKinds; ++kind) {
      summary->kinds.push_back(
          {payload_kind_name(static_cast<PayloadKind>(kind)), stats.kinds[kind].read, stats.kinds[kind].written});
    }
  }

  void write_files() override {
    if (!transfers_path_.empty()) bridge::throw_if_error(save_transfers(transfers_.steps(), transfers_path_));
    if (trace_path_.empty()) return;
    if (trace_.has_value()) return bridge::throw_if_error(save_trace(*trace_, trace_path_));
    log_info("no --trace written: nothing had to leave memory, or there were fewer than 3 steps, so no step was planned from");
  }

  bool ran_out_of_room() const override { return runtime_->gate().latched().code() == StatusCode::kOutOfRoom; }

  std::string advice() const override {
    return " (the least budget seen to be needed so far: " +
           format_bytes(std::max(runtime_->smallest_budget(), runtime_->options().memory_budget + kPageBytes)) + ")";
  }

 private:
  enum class Report : std::uint8_t { kNone, kWanted };

  void report_chunks(const Trace* trace, TrainSummary* summary) const {
    summary->chunks = runtime_->manager().report();
    if (trace == nullptr) return;
    constexpr double kAnyBandwidth = 1e9;  // the least traffic does not depend on it
    const StepBounds bounds = step_bounds(*trace, room_for_chunks(*trace, summary->budget_bytes), kAnyBandwidth);
    if (bounds.lacking == 0) summary->bound = TrafficBound{.read = bounds.min_read, .written = bounds.min_write};
  }

  FanOutSink events_;  // goes last
  Report report_ = Report::kNone;
  TransferLog transfers_;
  std::optional<Trace> trace_;
  std::string trace_path_;
  std::string transfers_path_;
  bridge::UpdateTiming timing_ = bridge::UpdateTiming::kDeferred;
  std::shared_ptr<Runtime> runtime_;
  std::optional<bridge::Engine> engine_;
  std::optional<bridge::ChunkedAdamW> optimizer_;
};

}  // namespace

std::unique_ptr<Trainer> make_engine_trainer(const TrainOptions& options, const TrainPlan& plan) {
  return std::make_unique<EngineTrainer>(options, plan);
}

}  // namespace patrickstar::cli
