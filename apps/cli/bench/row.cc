#include "apps/cli/bench/row.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace patrickstar::cli {
namespace {

using Json = nlohmann::ordered_json;

double seconds(Nanos nanos) { return static_cast<double>(nanos) * 1e-9; }
double quotient(double a, double b) { return b > 0 ? a / b : 0; }
double mean(const std::vector<double>& values) {
  return quotient(std::accumulate(values.begin(), values.end(), 0.0), static_cast<double>(values.size()));
}

// Why two measurements of the same do not belong to one state of the machine; empty: they do.
std::string changed(const char* what, double before, double after) {
  if (std::max(before, after) <= kMostChange * std::min(before, after)) return "";
  return fmt::format("{} took {:.3f} s before and {:.3f} s after", what, before, after);
}

Json sample_json(const Sample& s) {
  return {{"step_seconds", s.steps},
          {"compute_step_seconds_before", s.compute_before},
          {"compute_step_seconds_after", s.compute_after},
          {"compute_beside_disk_step_seconds", s.beside_disk_steps},
          {"replayed_bytes", s.replayed},
          {"disk_seconds_before", s.disk_before},
          {"disk_seconds_after", s.disk_after},
          {"moved_bytes", s.figures.moved},
          {"stalled_seconds", s.figures.stalled},
          {"hit_rate", s.figures.hit_rate},
          {"late_prefetches", s.figures.late},
          {"foreign_cores", s.foreign.cores},
          {"time_by_limit", s.time_by_limit()},
          {"discarded", s.fault().empty() ? Json(nullptr) : Json(s.fault())}};
}

// What is said beneath a row.
std::string earlier_line(const BenchRow& row) {
  std::string line;
  for (const BenchRow& first : row.earlier) {
    line += fmt::format("       measured before with {} x {} tokens: compute {:.2f} x transfers\n", first.shape.batch,
                        first.shape.sequence, first.ratio());
  }
  return line;
}

std::string mark_lines(const BenchRow& row) {
  std::string lines;
  if (!row.ratio_reached()) {
    lines += fmt::format("       ratio not reached: compute is {:.2f} x transfers, {:g} was asked for{}\n", row.ratio(),
                         row.wanted.ratio, row.not_again.empty() ? "" : "; not measured again: " + row.not_again);
  }
  if (const Sample& s = row.sample(); s.training_bytes_per_second() > s.replay_bytes_per_second()) {
    lines += fmt::format("       training moved {:.2f} GB/s, the replay {:.2f}: the limit is by the faster\n",
                         s.training_bytes_per_second() * 1e-9, s.replay_bytes_per_second() * 1e-9);
  }
  if (row.beats_limit()) lines += "       limit not to be trusted: faster than it, so compute was slower when it was measured\n";
  if (!row.exact_fault.empty()) lines += "       LOSSES DIFFER: " + row.exact_fault + "\n";
  return lines;
}

std::string sample_lines(const BenchRow& row) {
  std::string lines;
  if (const std::size_t steady = row.samples.size() - row.discarded(); steady == 1 && row.samples.size() > 1) {
    lines += "       this is the only steady sample\n";
  } else if (steady > 1) {
    lines += "       step by limit in each steady sample:";
    for (const Sample& sample : row.samples) {
      if (sample.fault().empty()) lines += fmt::format(" {:.3f}", sample.time_by_limit());
    }
    lines += "\n";
  }
  for (std::size_t i = 0; i < row.samples.size(); ++i) {
    const bool last_try = i == row.shown && !row.steady();
    if (const std::string fault = row.samples[i].fault(); !fault.empty())
      lines += fmt::format("       {}: {}\n", last_try ? "NOT STEADY, and no tries left" : "discarded", fault);
  }
  return lines;
}

}  // namespace

std::string Sample::fault() const {
  if (foreign.disturbs()) return fmt::format("others used {:.2f} cores", foreign.cores);
  if (std::string fault = changed("the disk", disk_before, disk_after); !fault.empty()) return fault;
  if (std::string fault = changed("compute", mean(compute_before), mean(compute_after)); !fault.empty()) return fault;
  const auto change = std::abs(static_cast<double>(figures.moved - replayed));
  if (change > kMostTrafficChange * static_cast<double>(replayed))
    return fmt::format("the step moved {} bytes, {} were replayed", figures.moved, replayed);
  return "";
}

double Sample::compute() const {
  std::vector<double> both = compute_before;
  both.insert(both.end(), compute_after.begin(), compute_after.end());
  return median(std::move(both));
}

double Sample::compute_beside_disk() const { return mean(beside_disk_steps); }

double Sample::training_bytes_per_second() const { return quotient(static_cast<double>(figures.moved), figures.step); }

double Sample::time_by_limit() const { return quotient(figures.step, seconds(limit.bounds.limit)); }

Status judge(const Trace& trace, Bytes budget, Bytes reserve, Sample* sample) {
  const auto with = [&](double compute, double bytes_per_second) {
    return limit_of(trace, {.budget = budget,
                            .reserve = reserve,
                            .compute = static_cast<Nanos>(compute * 1e9),
                            .bytes_per_second = bytes_per_second});
  };
  auto limit = with(sample->compute(), sample->bytes_per_second());
  if (!limit.ok()) return limit.status();
  sample->limit = std::move(limit).value();
  auto beside = with(sample->compute_beside_disk(), sample->bytes_per_second());
  if (!beside.ok()) return beside.status();
  sample->limit_beside_disk = beside.value().bounds.limit;
  sample->limit.predicted = beside.value().predicted;
  return {};
}

void BenchRow::choose() {
  std::vector<std::size_t> steady;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].fault().empty()) steady.push_back(i);
  }
  std::sort(steady.begin(), steady.end(),
            [&](std::size_t a, std::size_t b) { return samples[a].time_by_limit() < samples[b].time_by_limit(); });
  shown = steady.empty() ? samples.size() - 1 : steady[steady.size() / 2];
}

bool BenchRow::undecided(std::int64_t wanted_samples) const {
  std::int64_t within = 0, beyond = 0;
  for (const Sample& sample : samples) {
    if (!sample.fault().empty()) continue;
    ++(sample.time_by_limit() <= kMostTimeByLimit ? within : beyond);
  }
  if (within + beyond < wanted_samples) return true;
  const std::int64_t most = (5 * wanted_samples + 1) / 2;
  const std::int64_t least_within = most / 2 + 1;  // that make their median one of these, whatever the others are: choose()
  return within > 0 && beyond > 0 && within < least_within && beyond <= most - least_within;
}

std::size_t BenchRow::discarded() const {
  return static_cast<std::size_t>(
      std::count_if(samples.begin(), samples.end(), [](const Sample& sample) { return !sample.fault().empty(); }));
}

double BenchRow::time_by_limit_beside_disk() const {
  return quotient(sample().figures.step, seconds(sample().limit_beside_disk));
}

double BenchRow::traffic_by_least() const {
  // What needs no traffic and has none is at its bound.
  const Bytes least = limit().bounds.min_read + limit().bounds.min_write;
  if (least == 0 && sample().figures.moved == 0) return 1;
  return quotient(static_cast<double>(sample().figures.moved), static_cast<double>(least));
}

double BenchRow::predicted_by_measured() const { return quotient(seconds(limit().predicted), sample().figures.step); }
double BenchRow::ratio() const { return quotient(sample().compute(), seconds(limit().bounds.transfers)); }

bool BenchRow::ratio_reached() const {
  return wanted.ratio == 0 || (ratio() >= kLeastRatio * wanted.ratio && ratio() <= kMostRatio * wanted.ratio);
}

Result<BenchRow> reach(const WantedSetting& wanted, const std::function<Result<TokenShape>()>& choose,
                       const std::function<Result<BenchRow>(const TokenShape&)>& measure) {
  auto shape = choose();
  if (!shape.ok()) return BenchRow{.wanted = wanted, .unreachable = shape.status().message()};
  auto first = measure(shape.value());
  if (!first.ok() || !first.value().measured()) return first;
  BenchRow& row = first.value();
  if (row.ratio_reached()) return first;
  if (!row.exact_fault.empty()) {
    row.not_again = "losses differ";
    return first;
  }
  shape = choose();
  if (!shape.ok() || shape.value() == row.shape) {
    row.not_again = shape.ok() ? "tokens chosen anew are the same" : shape.status().message();
    return first;
  }
  auto measured = measure(shape.value());
  BenchRow second =
      measured.ok() ? std::move(measured).value() : BenchRow{.wanted = wanted, .failed = measured.status().message()};
  if (second.failed.empty() && !second.measured()) {
    row.not_again = second.unreachable;
    return first;
  }
  // Where neither is reached the nearer one is shown.
  const auto off = [](const BenchRow& r) { return std::abs(std::log(r.ratio() / r.wanted.ratio)); };
  if (second.failed.empty() && !second.reached() && row.steady() && off(row) < off(second)) std::swap(row, second);
  second.earlier.push_back(std::move(row));
  return second;
}

std::string table_head() {
  return fmt::format(
      "times in s. limit: the longest of compute, transfers (least bytes at the disk's speed) and the best window\n"
      "shown: the sample whose step by its limit is the median. beside: compute while the disk moves as many bytes for nobody, "
      "and the step by the limit with that compute\n"
      "room   c/t asked, is  batch x seq  compute  transf.  window   limit     step   by limit     traffic/least      predicted  "
      "stalled   hits  late  disk GB/s    beside\n");
}

std::string table_line(const BenchRow& row) {
  std::string line = row.wanted.ratio > 0 ? fmt::format("{:3.0f} %  {:9g}", 100 * row.wanted.share, row.wanted.ratio)
                                          : fmt::format("{:3.0f} %  {:>9}", 100 * row.wanted.share, "-");
  if (!row.failed.empty()) return line + "  FAILED: " + row.failed + "\n" + earlier_line(row);
  if (!row.measured()) return line + "  not reached: " + row.unreachable + "\n";
  const Sample& s = row.sample();
  const StepBounds& bounds = row.limit().bounds;
  line += fmt::format(", {:4.2f}  {:>11}  {:7.3f}  {:7.3f}  {:6.3f}  {:6.3f} {:1}", row.ratio(),
                      fmt::format("{} x {}", row.shape.batch, row.shape.sequence), s.compute(), seconds(bounds.transfers),
                      seconds(bounds.window), row.limit_seconds(), row.limit().name()[0]);
  line += fmt::format(
      " {:6.3f}  {:.3f} (<={:.2f})  {:.3f} (<={:.3f})  {:.3f} (+-{:.2f})  {:7.3f}  {:3.0f} %  {:4.1f}  {:9.2f}  {:.3f} {:.3f}\n",
      s.figures.step, row.time_by_limit(), kMostTimeByLimit, row.traffic_by_least(), row.limit().allowed_traffic(),
      row.predicted_by_measured(), kMostPredictionError, s.figures.stalled, 100 * s.figures.hit_rate, s.figures.late,
      s.bytes_per_second() * 1e-9, s.compute_beside_disk(), row.time_by_limit_beside_disk());
  return line + earlier_line(row) + mark_lines(row) + sample_lines(row);
}

Json row_json(const BenchRow& row) {
  Json json = {{"share", row.wanted.share}, {"wanted_ratio", row.wanted.ratio > 0 ? Json(row.wanted.ratio) : Json(nullptr)}};
  for (const BenchRow& earlier : row.earlier) json["earlier"].push_back(row_json(earlier));
  if (!row.measured()) {
    json[row.failed.empty() ? "not_reached" : "failed"] = row.failed.empty() ? row.unreachable : row.failed;
    return json;
  }
  const Sample& s = row.sample();
  const StepBounds& bounds = row.limit().bounds;
  json.update({{"ratio", row.ratio()},
               {"ratio_reached", row.ratio_reached()},
               {"batch_size", row.shape.batch},
               {"sequence_length", row.shape.sequence},
               {"budget_bytes", row.budget},
               {"plain_peak_non_model_bytes", row.plain_non_model},
               {"model_data_bytes", row.model_data},
               {"peak_total_bytes", row.peak_total},
               {"plans", row.plans},
               {"step_seconds", s.figures.step},
               {"limit_seconds", row.limit_seconds()},
               {"limit_is", row.limit().name()},
               {"compute_seconds", s.compute()},
               {"transfers_seconds", seconds(bounds.transfers)},
               {"window_seconds", seconds(bounds.window)},
               {"time_by_limit", row.time_by_limit()},
               {"time_by_limit_allowed", kMostTimeByLimit},
               {"limit_trusted", !row.beats_limit()},
               {"compute_beside_disk_seconds", s.compute_beside_disk()},
               {"limit_beside_disk_seconds", seconds(s.limit_beside_disk)},
               {"time_by_limit_beside_disk", row.time_by_limit_beside_disk()},
               {"moved_bytes", s.figures.moved},
               {"least_bytes", bounds.min_read + bounds.min_write},
               {"traffic_by_least", row.traffic_by_least()},
               {"traffic_by_least_allowed", row.limit().allowed_traffic()},
               {"ring_bytes", row.limit().ring},
               {"tightest_room_bytes", row.limit().tightest_room},
               {"predicted_seconds", seconds(row.limit().predicted)},
               {"predicted_by_measured", row.predicted_by_measured()},
               {"prediction_error_allowed", kMostPredictionError},
               {"stalled_seconds", s.figures.stalled},
               {"hit_rate", s.figures.hit_rate},
               {"late_prefetches", s.figures.late},
               {"disk_bytes_per_second", s.bytes_per_second()},
               {"replay_bytes_per_second", s.replay_bytes_per_second()},
               {"training_bytes_per_second", s.training_bytes_per_second()},
               {"steady", row.steady()},
               {"shown_sample", row.shown},
               {"discarded", row.discarded()},
               {"bits_equal", row.exact_fault.empty()}});
  json["samples"] = Json::array();
  for (const Sample& sample : row.samples) json["samples"].push_back(sample_json(sample));
  return json;
}

Closing closing(const std::vector<BenchRow>& rows, Figures figures) {
  std::size_t measured = 0, reached = 0, steady = 0, within = 0, beaten = 0, discarded = 0, different = 0, failed = 0;
  for (const BenchRow& row : rows) {
    failed += row.failed.empty() ? 0 : 1;
    for (const BenchRow& earlier : row.earlier) discarded += earlier.discarded();
    if (!row.measured()) continue;
    ++measured;
    discarded += row.discarded();
    different += row.exact_fault.empty() ? 0 : 1;
    if (!row.reached()) continue;
    ++reached;
    if (!row.steady()) continue;
    ++steady;
    beaten += row.beats_limit() ? 1 : 0;
    within += !row.beats_limit() && row.time_by_limit() <= kMostTimeByLimit ? 1 : 0;
  }
  std::string text = fmt::format("{} of {} settings reached, {} measured steadily, {} of these within {:.2f} x limit", reached,
                                 rows.size(), steady, within, kMostTimeByLimit);
  if (beaten > 0) text += fmt::format(", {} faster than a limit that is not to be trusted", beaten);
  if (measured > reached) text += fmt::format("; in {} more the ratio was not reached", measured - reached);
  text += fmt::format("; {} samples discarded; losses {}\n", discarded,
                      measured == 0    ? "not compared"
                      : different == 0 ? "bit for bit those of the plain runs' three steps"
                                       : "DIFFER");
  if (failed > 0) text += fmt::format("{} of {} settings FAILED\n", failed, rows.size());
  const bool lacking = figures == Figures::kCount ? steady == 0 : measured == 0;
  if (lacking) text += "NOTHING was both reached and measured steadily\n";
  return {.text = text, .code = lacking || different > 0 || failed > 0 ? 1 : 0};
}

}  // namespace patrickstar::cli
