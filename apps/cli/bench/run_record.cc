#include "apps/cli/bench/run_record.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "patrickstar/core/base/check.h"

namespace patrickstar::cli {
namespace {

using Json = nlohmann::json;

Bytes bytes_or_none(const Json& value) { return value.is_null() ? -1 : value.get<Bytes>(); }

RunRecord read(const Json& json) {
  RunRecord run;
  json.at("step_seconds").get_to(run.step_seconds);
  json.at("stalled_seconds_per_step").get_to(run.stalled);
  json.at("disk_read_bytes_per_step").get_to(run.moved);
  const auto written = json.at("disk_written_bytes_per_step").get<std::vector<Bytes>>();
  for (std::size_t i = 0; i < written.size(); ++i) run.moved.at(i) += written[i];
  json.at("accesses_per_step").get_to(run.accesses);
  json.at("misses_per_step").get_to(run.misses);
  json.at("late_prefetches_per_step").get_to(run.late);
  json.at("losses_hex").get_to(run.losses);
  run.model_data = json.at("model_data_bytes").get<Bytes>();
  run.budget = bytes_or_none(json.at("budget_bytes"));
  run.peak_non_model = bytes_or_none(json.at("peak_non_model_bytes"));
  run.steps_peak_non_model = bytes_or_none(json.at("steps_peak_non_model_bytes"));
  run.peak_total = bytes_or_none(json.at("peak_total_bytes"));
  run.evictions = json.at("evictions").get<std::int64_t>();
  if (const auto plan = json.find("orchestration"); plan != json.end()) {
    run.following = plan->at("following").get<bool>();
    run.plans = plan->at("plans").get<std::int64_t>();
    run.reserve = plan->at("reserve_bytes").get<Bytes>();
  }
  run.io_backend = json.at("io_backend").get<std::string>();
  run.simd = json.at("simd").get<std::string>();
  run.torch = json.at("versions").at("torch").get<std::string>();
  run.threads = json.at("threads").get<int>();
  return run;
}

bool whole(const RunRecord& run) {
  const std::size_t n = run.steps();
  return run.stalled.size() == n && run.moved.size() == n && run.accesses.size() == n && run.misses.size() == n &&
         run.late.size() == n && run.losses.size() == n;
}

template <class T>
std::vector<double> part(const std::vector<T>& values, std::size_t from, std::size_t to) {
  return {values.begin() + static_cast<std::ptrdiff_t>(from), values.begin() + static_cast<std::ptrdiff_t>(to)};
}

double sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

Result<RunRecord> parse_run(const std::string& text) {
  try {
    RunRecord run = read(Json::parse(text));
    if (whole(run)) return run;
    return Status(StatusCode::kInvalidArgument, "[bench] a summary whose steps lack figures");
  } catch (const std::exception& error) {  // the JSON library's
    return Status(StatusCode::kInvalidArgument, std::string("[bench] a summary that cannot be read: ") + error.what());
  }
}

WindowFigures figures_of(const RunRecord& run, std::size_t from, std::size_t to) {
  PS_CHECK(from < to && to <= run.steps());
  const double accesses = sum(part(run.accesses, from, to));
  return {.step = median(part(run.step_seconds, from, to)),
          .stalled = median(part(run.stalled, from, to)),
          .moved = static_cast<Bytes>(median(part(run.moved, from, to))),
          .hit_rate = accesses == 0 ? 1 : 1 - sum(part(run.misses, from, to)) / accesses,
          .late = sum(part(run.late, from, to)) / static_cast<double>(to - from)};
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

}  // namespace patrickstar::cli
