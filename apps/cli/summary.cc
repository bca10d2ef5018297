#include "apps/cli/summary.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "apps/cli/output.h"
#include "patrickstar/core/base/text.h"

namespace patrickstar::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kChunksListed = 20;  // for a person

Json options_json(const TrainOptions& o, const TrainPlan& plan) {
  return {{"data", o.data},
          {"model", o.model},
          {"steps", o.steps},
          {"batch_size", o.batch_size},
          {"accumulate", o.accumulate},
          {"sequence_length", o.sequence_length},
          {"dtype", o.dtype},
          {"checkpoint_activations", o.checkpoint_activations},
          {"memory_budget", o.memory_budget},
          {"spill_dir", o.spill_dir},
          {"prefetch", o.prefetch},
          {"update_schedule", o.update_schedule},
          {"chunk_elems", o.chunk_elems},
          {"tile_elems", o.tile_elems},
          {"layout", o.layout},
          {"io", o.io},
          {"direct", o.direct},
          {"seed", o.seed},
          {"threads", o.threads},
          {"grad_clip", o.grad_clip},
          {"lr", o.lr},
          {"weight_decay", o.weight_decay},
          {"warmup", o.warmup},
          {"lr_schedule", o.lr_schedule},
          {"validate_every", o.validate_every},
          {"validate_batches", o.validate_batches},
          {"plain", o.plain},
          {"plain_allocator", o.plain_allocator},
          {"repeat_batch", o.repeat_batch},
          {"freeze_layers", o.freeze_layers},
          {"shape",
           {{"layers", plan.model.layers},
            {"hidden_size", plan.model.hidden_size},
            {"heads", plan.model.heads},
            {"kv_heads", plan.model.kv_heads},
            {"intermediate_size", plan.model.intermediate_size},
            {"vocab_size", plan.model.vocab_size},
            {"max_positions", plan.model.max_positions},
            {"head", plan.model.head == models::Head::kTied ? "tied" : "untied"}}}};
}

Json chunks_json(const std::vector<PayloadReport>& chunks) {
  Json json = Json::array();
  for (const PayloadReport& chunk : chunks) {
    json.push_back({{"name", chunk.spec.name},
                    {"kind", payload_kind_name(chunk.spec.kind)},
                    {"bytes", chunk.spec.bytes},
                    {"in_memory", copy_state_name(chunk.states[0])},
                    {"on_disk", copy_state_name(chunk.states[1])},
                    {"uses", chunk.counts.uses},
                    {"misses", chunk.counts.misses},
                    {"late_prefetches", chunk.counts.late},
                    {"evictions", chunk.counts.evictions},
                    {"read_bytes", chunk.counts.read},
                    {"written_bytes", chunk.counts.written},
                    {"in_memory_seconds", static_cast<double>(chunk.counts.resident) * 1e-9}});
  }
  return json;
}

Json bytes_or_null(Bytes bytes) { return bytes < 0 ? Json(nullptr) : Json(bytes); }

}  // namespace

double median_step_seconds(const TrainSummary& summary) {
  std::vector<double> seconds;
  for (std::size_t i = summary.steps.size() > 1 ? 1 : 0; i < summary.steps.size(); ++i)
    seconds.push_back(summary.steps[i].seconds);
  if (seconds.empty()) return 0;
  std::sort(seconds.begin(), seconds.end());
  return (seconds[(seconds.size() - 1) / 2] + seconds[seconds.size() / 2]) / 2;
}

std::string to_json(const TrainSummary& s, const TrainOptions& options, const TrainPlan& plan) {
  Json json;
  json["version"] = PATRICKSTAR_VERSION;
  json["runner"] = s.runner;
  json["parameters"] = s.parameters;
  json["model_data_bytes"] = s.model_data_bytes;
  json["budget_bytes"] = s.budget_bytes > 0 ? Json(s.budget_bytes) : Json(nullptr);
  json["peak_model_bytes"] = bytes_or_null(s.peak_model_bytes);
  json["peak_non_model_bytes"] = bytes_or_null(s.peak_non_model_bytes);
  json["peak_total_bytes"] = bytes_or_null(s.peak_total_bytes);
  json["steps_peak_non_model_bytes"] = bytes_or_null(s.steps_peak_non_model_bytes);
  json["peak_rss_bytes"] = s.peak_rss_bytes;
  json["smallest_budget_bytes"] = bytes_or_null(s.smallest_budget_bytes);
  json["losses"] = Json::array();
  json["losses_hex"] = Json::array();
  json["step_seconds"] = Json::array();
  json["disk_read_bytes_per_step"] = Json::array();
  json["disk_written_bytes_per_step"] = Json::array();
  Bytes read = 0;
  Bytes written = 0;
  for (const StepRecord& step : s.steps) {
    json["losses"].push_back(std::strtod(fmt::format("{:.9g}", step.loss).c_str(), nullptr));
    json["losses_hex"].push_back(fmt::format("{:08x}", std::bit_cast<std::uint32_t>(step.loss)));
    json["step_seconds"].push_back(step.seconds);
    json["disk_read_bytes_per_step"].push_back(step.disk_read);
    json["disk_written_bytes_per_step"].push_back(step.disk_written);
    read += step.disk_read;
    written += step.disk_written;
  }
  json["validation"] = Json::array();
  for (const auto& [step, loss] : s.validation) json["validation"].push_back({{"step", step}, {"loss", loss}});
  json["weights_hash"] = s.weights_hash;
  json["median_step_seconds"] = median_step_seconds(s);
  const double median = median_step_seconds(s);
  json["tokens_per_second"] = median > 0 ? static_cast<double>(s.tokens_per_step) / median : 0.0;
  json["disk_read_bytes"] = 0;
  json["disk_written_bytes"] = 0;
  json["traffic"] = Json::object();
  for (const KindRecord& kind : s.kinds) {
    json["traffic"][kind.kind] = {{"read_bytes", kind.read}, {"written_bytes", kind.written}};
    json["disk_read_bytes"] = json["disk_read_bytes"].get<Bytes>() + kind.read;
    json["disk_written_bytes"] = json["disk_written_bytes"].get<Bytes>() + kind.written;
  }
  json["evictions"] = s.evictions;
  json["accesses"] = s.accesses;
  json["misses"] = s.misses;
  json["late_prefetches"] = s.late;
  json["stalled_seconds"] = s.stalled_seconds;
  json["stalled_seconds_per_step"] = Json::array();
  for (const char* name : {"accesses_per_step", "misses_per_step", "late_prefetches_per_step", "planned_read_bytes_per_step",
                           "planned_written_bytes_per_step"}) {
    json[name] = Json::array();
  }
  for (const StepRecord& step : s.steps) {
    json["stalled_seconds_per_step"].push_back(step.stalled);
    json["accesses_per_step"].push_back(step.accesses);
    json["misses_per_step"].push_back(step.misses);
    json["late_prefetches_per_step"].push_back(step.late);
    json["planned_read_bytes_per_step"].push_back(step.planned_read);
    json["planned_written_bytes_per_step"].push_back(step.planned_written);
  }
  if (s.bound.has_value()) json["least_bytes_per_step"] = {{"read", s.bound->read}, {"written", s.bound->written}};
  if (!s.chunks.empty()) json["chunks"] = chunks_json(s.chunks);
  if (s.orchestration.has_value()) {
    const OrchestratorStats& o = *s.orchestration;
    json["orchestration"] = {{"following", o.following},
                             {"plans", o.plans},
                             {"deviations", o.deviations},
                             {"retraces", o.retraces},
                             {"forced_evictions", o.forced},
                             {"reserve_bytes", o.reserve},
                             {"planned_read_bytes_per_step", o.planned_read},
                             {"planned_written_bytes_per_step", o.planned_written}};
  }
  json["io_backend"] = s.io_backend;
  json["versions"] = {{"patrickstar", PATRICKSTAR_VERSION}, {"torch", s.torch_version}};
  json["simd"] = s.simd;
  json["threads"] = s.threads;
  json["seed"] = options.seed;
  json["interrupted"] = s.interrupted;
  json["options"] = options_json(options, plan);
  return json_text(json, 2);
}

std::string to_text(const TrainSummary& s) {
  if (s.steps.empty()) return s.interrupted ? "interrupted before the first step\n" : "no step was taken\n";
  std::string text = s.interrupted ? fmt::format("interrupted after step {}\n", s.steps.size()) : "";
  text += fmt::format("{} steps of {} tokens: loss {:.4f} to {:.4f}, {:.2f} s a step, {:.0f} tokens/s\n", s.steps.size(),
                      s.tokens_per_step, s.steps.front().loss, s.steps.back().loss, median_step_seconds(s),
                      static_cast<double>(s.tokens_per_step) / std::max(1e-9, median_step_seconds(s)));
  text += fmt::format("memory: model data {}", format_bytes(s.model_data_bytes));
  if (s.budget_bytes > 0) text += fmt::format(", budget {}", format_bytes(s.budget_bytes));
  if (s.peak_total_bytes >= 0) {
    const Bytes non_model = s.steps_peak_non_model_bytes >= 0 ? s.steps_peak_non_model_bytes : s.peak_non_model_bytes;
    text += fmt::format(", peak {} (chunks {}, activations and the like {})", format_bytes(s.peak_total_bytes),
                        format_bytes(s.peak_model_bytes), format_bytes(non_model));
  }
  text += fmt::format(", process {}\n", format_bytes(s.peak_rss_bytes));
  if (s.smallest_budget_bytes >= 0)
    text +=
        fmt::format("a budget that would be enough: {} (estimated from what was done)\n", format_bytes(s.smallest_budget_bytes));
  if (!s.chunks.empty()) text += "\n" + step_table(s.steps, s.bound) + "\n" + chunk_table(s.chunks, kChunksListed);
  return text;
}

Bytes peak_rss() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return Bytes{usage.ru_maxrss} * kKiB;
}

}  // namespace patrickstar::cli
