#include "apps/cli/replay.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "apps/cli/output.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/policy/registry.h"
#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/replay.h"
#include "patrickstar/core/trace/trace_io.h"

namespace patrickstar::cli {
namespace {

using Json = nlohmann::ordered_json;

Status bad(const std::string& text) { return Status(StatusCode::kInvalidArgument, text); }

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end = text.find(at); end != std::string::npos; end = text.find(at, begin)) {
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

bool remove_suffix(std::string_view suffix, std::string* text) {
  if (text->size() < suffix.size() || text->compare(text->size() - suffix.size(), suffix.size(), suffix) != 0) return false;
  text->resize(text->size() - suffix.size());
  return true;
}

// "80us", "0.1ms", "1s".
Result<Nanos> parse_latency(const std::string& text) {
  std::string number = text;
  const double scale = remove_suffix("us", &number)   ? 1e3
                       : remove_suffix("ms", &number) ? 1e6
                       : remove_suffix("s", &number)  ? 1e9
                                                      : 0;
  char* end = nullptr;
  const double value = std::strtod(number.c_str(), &end);
  if (scale == 0 || number.empty() || *end != '\0' || !(value >= 0) || value * scale > 1e12)
    return bad(fmt::format("\"{}\" is not a latency; write it like 80us or 0.1ms", text));
  return static_cast<Nanos>(value * scale);
}

Status set_disk_option(const std::string& option, ReplayTiers* tiers) {
  const std::size_t equals = option.find('=');
  const std::string name = option.substr(0, equals);
  std::string value = equals == std::string::npos ? "" : option.substr(equals + 1);
  if (name == "bandwidth") {
    (void)remove_suffix("/s", &value);
    const auto bytes = parse_bytes(value);
    if (!bytes.ok() || bytes.value() == 0)
      return bad(fmt::format("\"{}\" is not a bandwidth; write it like bandwidth=1.6GB/s", option));
    tiers->disk_bytes_per_second = static_cast<double>(bytes.value());
    return {};
  }
  if (name == "latency") {
    const auto latency = parse_latency(value);
    if (!latency.ok()) return latency.status();
    tiers->disk_latency = latency.value();
    return {};
  }
  return bad(fmt::format("disk knows no \"{}\"; it has bandwidth and latency", option));
}

double seconds(Nanos nanos) { return static_cast<double>(nanos) * 1e-9; }
double ratio(double a, double b) { return b > 0 ? a / b : 1; }

// All that is reported.
struct Outcome {
  const Trace& trace;
  const ReplayTiers& tiers;
  StepBounds bounds;
  ReplayReport report;
  std::optional<OrchestratorStats> plan;  // of a policy with a schedule

  double time_by_limit() const { return ratio(seconds(report.steps.back().time), seconds(bounds.limit)); }
  // 0/0: what needs no traffic and has none is at its bound.
  double traffic_by_least() const {
    const StepReport& last = report.steps.back();
    return ratio(static_cast<double>(last.read + last.written), static_cast<double>(bounds.min_read + bounds.min_write));
  }
};

std::string to_json(const ReplayArguments& a, const Outcome& o) {
  Json steps = Json::array();
  for (const StepReport& step : o.report.steps) {
    steps.push_back({{"time_s", seconds(step.time)},
                     {"stall_s", seconds(step.stall)},
                     {"read_bytes", step.read},
                     {"written_bytes", step.written},
                     {"accesses", step.accesses},
                     {"misses", step.misses},
                     {"hit_rate", step.hit_rate()}});
  }
  Json json = {{"trace", a.trace},
               {"policy", a.policy},
               {"tiers",
                {{"host_bytes", o.tiers.host},
                 {"disk_bytes", o.tiers.disk},
                 {"disk_bytes_per_second", o.tiers.disk_bytes_per_second},
                 {"disk_latency_s", seconds(o.tiers.disk_latency)}}},
               {"model_data_bytes", o.trace.model_data_bytes()},
               {"peak_bytes", o.report.peak},
               {"steps", steps},
               {"bounds",
                {{"limit_s", seconds(o.bounds.limit)},
                 {"compute_s", seconds(o.bounds.compute)},
                 {"transfers_s", seconds(o.bounds.transfers)},
                 {"window_s", seconds(o.bounds.window)},
                 {"least_read_bytes", o.bounds.min_read},
                 {"least_written_bytes", o.bounds.min_write}}},
               {"last_step", {{"time_by_limit", o.time_by_limit()}, {"traffic_by_least", o.traffic_by_least()}}}};
  if (o.plan.has_value()) {
    json["orchestration"] = {{"following", o.plan->following}, {"plans", o.plan->plans},   {"deviations", o.plan->deviations},
                             {"retraces", o.plan->retraces},   {"forced", o.plan->forced}, {"reserve_bytes", o.plan->reserve}};
  }
  return json_text(json, 2);
}

std::string to_text(const ReplayArguments& a, const Outcome& o) {
  const auto giga = [](Bytes bytes) { return static_cast<double>(bytes) * 1e-9; };
  std::string text = fmt::format("{}: {} moments, {} of model data; host {}, disk {:.2f} GB/s, policy {}\n", a.trace,
                                 o.trace.moments.size(), format_bytes(o.trace.model_data_bytes()), format_bytes(o.tiers.host),
                                 o.tiers.disk_bytes_per_second * 1e-9, a.policy);
  text += "  step     time s    stall s    read GB  written GB  hit rate\n";
  int number = 0;
  for (const StepReport& step : o.report.steps) {
    text += fmt::format("{:6} {:10.3f} {:10.3f} {:10.3f} {:11.3f}  {:7.1f} %\n", ++number, seconds(step.time),
                        seconds(step.stall), giga(step.read), giga(step.written), 100 * step.hit_rate());
  }
  text += fmt::format(" limit {:10.3f} {:10} {:10.3f} {:11.3f}  (no schedule does better)\n", seconds(o.bounds.limit), "",
                      giga(o.bounds.min_read), giga(o.bounds.min_write));
  text += fmt::format("limit: the longest of compute {:.3f} s, transfers {:.3f} s and the best window {:.3f} s\n",
                      seconds(o.bounds.compute), seconds(o.bounds.transfers), seconds(o.bounds.window));
  text += fmt::format("last step: {:.3f} of the limit in time, {:.3f} of the least traffic; peak of host memory {}\n",
                      o.time_by_limit(), o.traffic_by_least(), format_bytes(o.report.peak));
  if (o.plan.has_value()) {
    text += fmt::format("plan: {}, made {} times; {} unexpected moments, {} payloads forced out, reserve {}\n",
                        o.plan->following ? "followed" : "none is followed", o.plan->plans, o.plan->deviations, o.plan->forced,
                        format_bytes(o.plan->reserve));
  }
  return text;
}

}  // namespace

void add_replay_options(CLI::App& app, ReplayArguments* a) {
  app.option_defaults()->always_capture_default();
  app.add_option("--trace", a->trace, "a step as train --trace wrote it")->required();
  app.add_option("--tier", a->tiers, "host=2GiB and disk=100GB,bandwidth=1.6GB/s (and latency=80us), one option each")
      ->required()
      ->allow_extra_args(false);
  std::vector<std::string> policies;
  for (const PolicyEntry& policy : registered_policies()) policies.emplace_back(policy.name);
  app.add_option("--policy", a->policy, describe_policies())->check(CLI::IsMember(policies));
  app.add_option("--steps", a->steps, "how often the step is repeated; the first two are a warm-up")->check(CLI::Range(1, 1000));
  app.add_flag("--json", a->json, "for a program");
}

Result<ReplayTiers> parse_tiers(const std::vector<std::string>& tiers) {
  ReplayTiers parsed;
  for (const std::string& tier : tiers) {
    const std::vector<std::string> parts = split(tier, ',');
    const std::size_t equals = parts[0].find('=');
    const std::string name = parts[0].substr(0, equals);
    if (equals == std::string::npos || (name != "host" && name != "disk"))
      return bad(fmt::format("--tier {}: write host=2GiB or disk=100GB,bandwidth=1.6GB/s", tier));
    const auto bytes = parse_bytes(parts[0].substr(equals + 1));
    if (!bytes.ok()) return bad(fmt::format("--tier {}: {}", tier, bytes.status().message()));
    if (bytes.value() == 0) return bad(fmt::format("--tier {}: 0 is no room", tier));
    Bytes& room = name == "host" ? parsed.host : parsed.disk;
    if (room != 0) return bad(fmt::format("--tier {}: {} is given twice", tier, name));
    room = bytes.value();
    if (name == "host" && parts.size() > 1) return bad(fmt::format("--tier {}: host has a size only", tier));
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const Status status = set_disk_option(parts[i], &parsed);
      if (!status.ok()) return bad(fmt::format("--tier {}: {}", tier, status.message()));
    }
  }
  if (parsed.host == 0) return bad("--tier host=... is missing");
  if (parsed.disk == 0) return bad("--tier disk=... is missing");
  if (parsed.disk_bytes_per_second == 0) return bad("--tier disk=...: bandwidth is missing, like disk=100GB,bandwidth=1.6GB/s");
  return parsed;
}

Status check_duration(const Trace& trace, const ReplayTiers& tiers, int steps) {
  double most = static_cast<double>(trace.compute());
  for (const Access& access : trace.accesses) {
    const auto bytes = static_cast<double>(trace.bytes_of(access.payload));
    most += 2 * (bytes / tiers.disk_bytes_per_second * 1e9 + static_cast<double>(tiers.disk_latency));
  }
  constexpr double kMost = 1e17;  // ns; three years, a 90th of what the clock holds
  if (most * steps <= kMost) return {};
  return bad(
      fmt::format("at {:g} bytes/s {} steps may take {:.2g} years, more than can be simulated; is a unit missing, as in "
                  "bandwidth=1.6GB/s?",
                  tiers.disk_bytes_per_second, steps, most * steps * 1e-9 / (365.25 * 86400)));
}

Result<std::string> replay_report(const ReplayArguments& arguments, const ReplayTiers& tiers) {
  const auto loaded = load_trace(arguments.trace);
  if (!loaded.ok()) return loaded.status();
  const Trace& trace = loaded.value();
  if (trace.moments.empty()) return bad(fmt::format("[replay] {}: a step without moments", arguments.trace));
  Bytes all = 0;
  for (const TracedPayload& payload : trace.payloads) all += payload.bytes;
  if (all > tiers.disk)
    return Status(StatusCode::kOutOfRoom, fmt::format("[replay] the payloads take {} on disk, which has {}", format_bytes(all),
                                                      format_bytes(tiers.disk)));
  PS_RETURN_IF_ERROR(check_duration(trace, tiers, arguments.steps));
  Outcome outcome{.trace = trace, .tiers = tiers};
  outcome.bounds = step_bounds(trace, room_for_chunks(trace, tiers.host), tiers.disk_bytes_per_second);
  if (outcome.bounds.lacking > 0)
    return Status(StatusCode::kOutOfRoom,
                  fmt::format("[replay] host lacks {} at the step's tightest moment", format_bytes(outcome.bounds.lacking)));
  const PolicyEntry* policy = find_policy(arguments.policy);
  if (policy == nullptr) return bad(fmt::format("[replay] there is no policy \"{}\"", arguments.policy));
  PolicySet deciding = policy->make({.orchestrator = {.budget = tiers.host}, .trace = &trace});
  ReplayOptions options{.host_budget = tiers.host,
                        .disk = {.bytes_per_second = tiers.disk_bytes_per_second, .latency = tiers.disk_latency},
                        .steps = arguments.steps};
  decide_by(&deciding, &options);
  options.step_done = [&](ChunkManager* manager) {
    manager->step_done();
    // Now: a manager that goes takes its payloads out of the plan.
    if (deciding.schedule != nullptr) outcome.plan = deciding.schedule->stats();
  };
  auto report = replay(trace, options);
  if (!report.ok()) return report.status();
  outcome.report = std::move(report.value());
  return arguments.json ? to_json(arguments, outcome) : to_text(arguments, outcome);
}

int run_replay(const ReplayArguments& arguments) {
  const auto tiers = parse_tiers(arguments.tiers);
  if (!tiers.ok()) return fail(2, tiers.status().message());
  const auto report = replay_report(arguments, tiers.value());
  if (!report.ok()) return fail(1, report.status().message());
  std::fputs(report.value().c_str(), stdout);
  return 0;
}

}  // namespace patrickstar::cli
