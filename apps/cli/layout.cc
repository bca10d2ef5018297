#include "apps/cli/layout.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "apps/cli/output.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/base/text_file.h"
#include "patrickstar/core/sim/layout_search.h"
#include "patrickstar/core/trace/trace_io.h"

namespace patrickstar::cli {
namespace {

using Json = nlohmann::ordered_json;

double seconds(Nanos nanos) { return static_cast<double>(nanos) * 1e-9; }

std::string to_json(const LayoutArguments& a, const ReplayTiers& tiers, const LayoutSearch& search) {
  Json candidates = Json::array();
  for (const LayoutFigures& f : search.figures) {
    Json one = {{"order", placement_order_name(f.candidate.order)},
                {"chunk_elems", f.candidate.options.chunk_elems},
                {"tile_elems", f.candidate.options.tile_elems},
                {"chunks", f.chunks},
                {"payload_bytes", f.payloads},
                {"padding_bytes", f.padding},
                {"padding_share", f.padding_share()}};
    if (f.status.ok()) {
      one.update({{"step_s", seconds(f.time)},
                  {"limit_s", seconds(f.limit)},
                  {"traffic_bytes", f.traffic},
                  {"values_fetched_bytes", f.fetched},
                  {"values_fetched_unused_bytes", f.unused}});
    } else {
      one["error"] = f.status.message();
    }
    candidates.push_back(one);
  }
  const Json json = {{"trace", a.trace},
                     {"tiers",
                      {{"host_bytes", tiers.host},
                       {"disk_bytes", tiers.disk},
                       {"disk_bytes_per_second", tiers.disk_bytes_per_second},
                       {"disk_latency_s", seconds(tiers.disk_latency)}}},
                     {"candidates", candidates},
                     {"chosen", search.chosen},
                     {"reason", search.reason}};
  return json_text(json, 2);
}

std::string to_text(const LayoutArguments& a, const ReplayTiers& tiers, const LayoutSearch& search) {
  std::string text = fmt::format("{}: host {}, disk {:.2f} GB/s; the last of the replayed steps, policy planned\n", a.trace,
                                 format_bytes(tiers.host), tiers.disk_bytes_per_second * 1e-9);
  text +=
      "  order         chunk elems  tile elems  chunks   padding        step s    limit s  traffic GB  unused of values read\n";
  for (std::size_t i = 0; i < search.figures.size(); ++i) {
    const LayoutFigures& f = search.figures[i];
    text += fmt::format("{} {:<12} {:12} {:11} {:7} {:8.2f} %  ", i == search.chosen ? '*' : ' ',
                        placement_order_name(f.candidate.order), f.candidate.options.chunk_elems, f.candidate.options.tile_elems,
                        f.chunks, 100 * f.padding_share());
    if (!f.status.ok()) {
      text += f.status.message() + "\n";
      continue;
    }
    text += fmt::format("{:10.4f} {:10.4f} {:11.4f}  {} of {}\n", seconds(f.time), seconds(f.limit),
                        static_cast<double>(f.traffic) * 1e-9, format_bytes(f.unused), format_bytes(f.fetched));
  }
  text += search.reason + "\n";
  text += "The order is that within what is attached together: parts of a model that is built block by block keep theirs.\n";
  return text;
}

}  // namespace

void add_layout_options(CLI::App& app, LayoutArguments* a) {
  app.add_option("--trace", a->trace, "a step as train --trace --chunk-elems 1 wrote it")->required();
  app.add_option("--tier", a->tiers, "host=2GiB and disk=100GB,bandwidth=1.6GB/s (and latency=80us), one option each")
      ->required()
      ->allow_extra_args(false);
  app.add_option("--output", a->output, "write the choice here, for train --layout");
  app.add_flag("--json", a->json, "for a program");
}

Result<LayoutReport> layout_report(const LayoutArguments& arguments, const ReplayTiers& tiers) {
  const auto trace = load_trace(arguments.trace);
  if (!trace.ok()) return trace.status();
  PS_RETURN_IF_ERROR(check_duration(trace.value(), tiers, 1));
  const auto step = step_by_tensor(trace.value());
  if (!step.ok()) return step.status();
  const auto found = search_layouts(
      step.value(),
      {.host_budget = tiers.host, .disk = {.bytes_per_second = tiers.disk_bytes_per_second, .latency = tiers.disk_latency}});
  if (!found.ok()) return found.status();
  const LayoutSearch& search = found.value();
  const LayoutFigures& chosen = search.figures[search.chosen];
  if (chosen.payloads > tiers.disk) {
    return Status(StatusCode::kOutOfRoom, fmt::format("[layout] the payloads take {} on disk, which has {}",
                                                      format_bytes(chosen.payloads), format_bytes(tiers.disk)));
  }
  LayoutReport report{.text = arguments.json ? to_json(arguments, tiers, search) : to_text(arguments, tiers, search),
                      .chosen = {.options = chosen.candidate.options,
                                 .order = placement_order_name(chosen.candidate.order),
                                 .reason = search.reason,
                                 .tensors = {}}};
  for (const TensorId id : placement(step.value(), chosen.candidate.order))
    report.chosen.tensors.push_back(step.value().model.tensors[id.index()].spec);
  return report;
}

int run_layout(const LayoutArguments& arguments) {
  const auto tiers = parse_tiers(arguments.tiers);
  if (!tiers.ok()) return fail(2, tiers.status().message());
  const auto report = layout_report(arguments, tiers.value());
  if (!report.ok()) return fail(1, report.status().message());
  std::fputs(report.value().text.c_str(), stdout);
  if (arguments.output.empty()) return 0;
  const auto text = layout_text(report.value().chosen);
  if (!text.ok()) return fail(1, text.status().message());
  if (Status status = write_text_file("layout", arguments.output, text.value()); !status.ok()) return fail(1, status.message());
  return 0;
}

}  // namespace patrickstar::cli
