#include "apps/cli/bench/setting.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>

#include "patrickstar/core/base/text.h"
#include "patrickstar/core/trace/trace_io.h"

namespace patrickstar::cli {
namespace {

constexpr std::int64_t kPlainSteps = 3;     // the second and third losses have updates behind them
constexpr std::int64_t kFittingWarmUp = 1;  // steps that are not counted
constexpr std::int64_t kFittingSteps = 2;   // before, beside the disk's transfers, and after
constexpr std::int64_t kLeanWarmUp = 4;     // two are watched, in the third the plan settles; the fourth's transfers are replayed
constexpr int kMostTries = 4;               // by the samples that are wanted, discarded ones included
constexpr std::int64_t kCalibrationTokens[] = {32, 128, 512};
constexpr std::int64_t kCalibrationSteps = 3;
constexpr Bytes kCalibrationTile = 12 * kMiB;  // of optimizer state
constexpr std::int64_t kCalibrationTiles = 96;

// Tiles read and written in turn, half of the file apart.
StepTransfers calibration_transfers() {
  StepTransfers transfers;
  for (std::int64_t i = 0; i < kCalibrationTiles; ++i) {
    transfers.push_back({Direction::kUp, i * kCalibrationTile, kCalibrationTile});
    transfers.push_back({Direction::kDown, (i + kCalibrationTiles / 2) % kCalibrationTiles * kCalibrationTile, kCalibrationTile});
  }
  return transfers;
}

double seconds(Nanos nanos) { return static_cast<double>(nanos) * 1e-9; }

std::vector<double> tail(const std::vector<double>& values, std::int64_t count) { return {values.end() - count, values.end()}; }

// Where the bits of two runs' losses part; empty: nowhere.
std::string losses_part(const RunRecord& a, const RunRecord& b, const char* name) {
  for (std::size_t i = 0; i < std::min(a.losses.size(), b.losses.size()); ++i) {
    if (a.losses[i] != b.losses[i]) return fmt::format("step {}: {}, {} {}", i + 1, a.losses[i], name, b.losses[i]);
  }
  return "";
}

// The pauses of a run that warms up and then goes on in parts.
std::vector<std::int64_t> pauses(std::int64_t warm_up, std::int64_t part, int parts) {
  std::vector<std::int64_t> all;
  for (int i = 0; i <= parts; ++i) all.push_back(warm_up + i * part);
  return all;
}

}  // namespace

Result<std::unique_ptr<SettingBench>> SettingBench::create(const BenchOptions& options, Bytes memory, Say say) {
  std::unique_ptr<SettingBench> bench(new SettingBench(options, memory, std::move(say)));
  auto jobs = Jobs::create(options);
  if (!jobs.ok()) return jobs.status();
  bench->jobs_ = std::move(jobs).value();
  const IoBackend io = options.io == "pread"      ? IoBackend::kPread
                       : options.io == "io_uring" ? IoBackend::kIoUring
                                                  : IoBackend::kAuto;
  auto disk = TransferReplay::create({.directory = options.spill_dir, .io = io}, &bench->clock_);
  if (!disk.ok()) return disk.status();
  bench->disk_ = std::move(disk).value();
  bench->facts_.disk_backend = bench->disk_->backend();
  return bench;
}

Status SettingBench::calibrate() {
  const StepTransfers transfers = calibration_transfers();
  PS_RETURN_IF_ERROR(disk_->prepare(transfers));
  auto time = disk_->run(transfers);
  if (!time.ok()) return time.status();
  calibrated_ = bytes_per_second_ = static_cast<double>(total_bytes(transfers)) / seconds(time.value());
  say_(fmt::format("disk: {:.2f} GB/s, reads and writes together ({})", calibrated_ * 1e-9, facts_.disk_backend));
  for (const std::int64_t tokens : kCalibrationTokens) {
    const TokenShape shape = shape_of(static_cast<double>(tokens), jobs_->longest());
    auto child = jobs_->start({.shape = shape, .pauses = {kCalibrationSteps}}, 0);
    if (!child.ok()) return child.status();
    const auto run = child.value()->run();
    if (!run.ok()) return run.status();
    if (run.value().evictions > 0) {
      return Status(
          StatusCode::kUnavailable,
          fmt::format("[bench] compute cannot be measured alone: a run of {} x {} tokens with all of its {} of model data "
                      "does not fit into {}; take a smaller --model",
                      shape.batch, shape.sequence, format_bytes(run.value().model_data), format_bytes(run.value().budget)));
    }
    model_data_ = run.value().model_data;
    const double step = median(tail(run.value().step_seconds, kCalibrationSteps - 1));
    curve_.add(shape.tokens(), {.seconds = step, .non_model = static_cast<double>(run.value().peak_non_model)});
    say_(fmt::format("compute: {:.3f} s a step of {} x {} tokens", step, shape.batch, shape.sequence));
  }
  return {};
}

Result<TokenShape> SettingBench::tokens_for(const WantedSetting& wanted) const {
  if (options_.batch_size > 0) return TokenShape{options_.batch_size, options_.sequence_length};
  return choose_tokens(wanted,
                       {.model_data = model_data_,
                        .bytes_per_second = bytes_per_second_,
                        .spare = spare_,
                        .memory = memory_,
                        .longest = std::min(jobs_->longest(), kLongestSequence)},
                       curve_);
}

Result<RunRecord> SettingBench::plain_run(const TokenShape& shape) {
  if (const auto known = plain_.find(shape); known != plain_.end()) return known->second;
  auto child = jobs_->start_plain({.shape = shape, .pauses = {kPlainSteps}});
  if (!child.ok()) return child.status();
  auto run = child.value()->run();
  if (run.ok()) plain_[shape] = run.value();
  return run;
}

Result<BenchRow> SettingBench::measure(const WantedSetting& wanted) {
  return reach(
      wanted, [&] { return tokens_for(wanted); }, [&](const TokenShape& shape) { return measure_with(shape, wanted); });
}

Result<BenchRow> SettingBench::measure_with(const TokenShape& shape, const WantedSetting& wanted) {
  BenchRow row{.wanted = wanted, .shape = shape};
  say_(fmt::format("budget {:g} %{}: {} x {} tokens; the plain run", 100 * wanted.share,
                   wanted.ratio > 0 ? fmt::format(", compute {:g} x transfers", wanted.ratio) : "", shape.batch, shape.sequence));
  const auto plain = plain_run(row.shape);
  if (!plain.ok()) return plain.status();
  row.plain_non_model = plain.value().steps_peak_non_model;
  // Plain LibTorch keeps gradients beside the parameters; in 16-bit training ours take their place.
  row.model_data = model_data_ > 0 ? model_data_ : plain.value().model_data;
  const Bytes fitting = fitting_budget(row.model_data, row.plain_non_model);
  if (const Bytes lean = row.plain_non_model + static_cast<Bytes>(wanted.share * static_cast<double>(row.model_data));
      fitting + lean > memory_) {
    row.unreachable = fmt::format(
        "a run that holds everything ({}) and one within the budget ({}) do not go into the {} of memory "
        "that are free",
        format_bytes(fitting), format_bytes(lean), format_bytes(memory_));
    return row;
  }
  PS_RETURN_IF_ERROR(measure_samples(&row));
  return row;
}

Status SettingBench::measure_samples(BenchRow* row) {
  const int most = kMostTries * static_cast<int>(options_.samples);
  auto fitting = jobs_->start({.shape = row->shape, .pauses = pauses(kFittingWarmUp, kFittingSteps, 3 * most)},
                              fitting_budget(row->model_data, row->plain_non_model));
  if (!fitting.ok()) return fitting.status();
  auto fitting_run = fitting.value()->run();
  if (!fitting_run.ok()) return fitting_run.status();
  if (fitting_run.value().evictions > 0) {
    return Status(StatusCode::kUnavailable, fmt::format("[bench] a run that was to hold everything had to evict within {}",
                                                        format_bytes(fitting_run.value().budget)));
  }
  row->model_data = model_data_ = fitting_run.value().model_data;
  row->budget = row->plain_non_model + static_cast<Bytes>(row->wanted.share * static_cast<double>(row->model_data));
  auto lean = jobs_->start({.shape = row->shape, .pauses = pauses(kLeanWarmUp, options_.steps, most)}, row->budget);
  if (!lean.ok()) return lean.status();
  say_(fmt::format("  a run within {} warms up", format_bytes(row->budget)));
  auto lean_run = lean.value()->run();
  if (!lean_run.ok()) return lean_run.status();
  for (int i = 0; i < most && row->undecided(options_.samples); ++i) {
    auto sample = take(fitting.value().get(), lean.value().get(), &fitting_run.value(), &lean_run.value());
    if (!sample.ok()) return sample.status();
    // Both runs stand still, so the simulation has the machine.
    const auto trace = load_trace(lean.value()->trace_path());
    if (!trace.ok()) return trace.status();
    PS_RETURN_IF_ERROR(judge(trace.value(), row->budget, lean_run.value().reserve, &sample.value()));
    row->samples.push_back(std::move(sample).value());
    const Sample& taken = row->samples.back();
    say_(taken.fault().empty() ? fmt::format("  step {:.3f} s, {:.3f} x limit", taken.figures.step, taken.time_by_limit())
                               : "  discarded: " + taken.fault());
  }
  const RunRecord& run = lean_run.value();
  facts_ = {facts_.disk_backend, run.io_backend, run.simd, run.torch, run.threads};
  row->peak_total = run.peak_total;
  row->plans = run.plans;
  row->exact_fault = losses_part(run, plain_[row->shape], "plain");
  if (row->exact_fault.empty()) row->exact_fault = losses_part(run, fitting_run.value(), "with everything");
  const auto non_model = static_cast<double>(fitting_run.value().peak_non_model);
  row->choose();
  curve_.add(row->shape.tokens(), {.seconds = row->sample().compute(), .non_model = non_model});
  bytes_per_second_ = row->sample().bytes_per_second();
  const Bytes away = (row->limit().bounds.min_read + row->limit().bounds.min_write) / 2;
  spare_ = row->model_data - static_cast<Bytes>(row->wanted.share * static_cast<double>(row->model_data)) - away;
  return {};
}

Result<Sample> SettingBench::take(Child* fitting, Child* lean, RunRecord* fitting_run, RunRecord* lean_run) {
  auto logged = load_transfers(lean->transfers_path());
  if (!logged.ok()) return logged.status();
  if (!lean_run->following || logged.value().empty() || logged.value().back().empty()) {
    return Status(StatusCode::kUnavailable, fmt::format("[bench] a budget of {} had no step to plan: everything fits, or nearly",
                                                        format_bytes(lean_run->budget)));
  }
  const StepTransfers transfers = logged.value().back();
  PS_RETURN_IF_ERROR(disk_->prepare(transfers));
  const LoadMeter meter({fitting->pid(), lean->pid()});
  Sample sample{.replayed = total_bytes(transfers)};
  auto fitting_now = fitting->run();
  if (!fitting_now.ok()) return fitting_now.status();
  sample.compute_before = tail(fitting_now.value().step_seconds, kFittingSteps);
  const auto before = disk_->run(transfers);
  if (!before.ok()) return before.status();
  const std::size_t from = lean_run->steps();
  auto lean_now = lean->run();
  if (!lean_now.ok()) return lean_now.status();
  *lean_run = std::move(lean_now).value();
  const auto after = disk_->run(transfers);
  if (!after.ok()) return after.status();
  // The same compute while the disk moves as many bytes a step for nobody: what its work alone costs on this machine.
  auto moving = std::async(std::launch::async, [&] {
    for (std::int64_t i = 0; i < kFittingSteps; ++i) PS_RETURN_IF_ERROR(disk_->run(transfers).status());
    return Status();
  });
  fitting_now = fitting->run();
  PS_RETURN_IF_ERROR(moving.get());
  if (!fitting_now.ok()) return fitting_now.status();
  sample.beside_disk_steps = tail(fitting_now.value().step_seconds, kFittingSteps);
  fitting_now = fitting->run();
  if (!fitting_now.ok()) return fitting_now.status();
  *fitting_run = std::move(fitting_now).value();
  sample.foreign = meter.foreign();
  sample.compute_after = tail(fitting_run->step_seconds, kFittingSteps);
  sample.disk_before = seconds(before.value());
  sample.disk_after = seconds(after.value());
  sample.figures = figures_of(*lean_run, from, lean_run->steps());
  sample.steps = tail(lean_run->step_seconds, static_cast<std::int64_t>(lean_run->steps() - from));
  return sample;
}

}  // namespace patrickstar::cli
