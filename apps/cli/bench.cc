#include "apps/cli/bench.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "apps/cli/bench/setting.h"
#include "apps/cli/output.h"
#include "apps/cli/summary.h"
#include "patrickstar/core/base/processor.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/base/text_file.h"

namespace patrickstar::cli {
namespace {

using Json = nlohmann::ordered_json;

void say(const std::string& line) {
  static const auto start = std::chrono::steady_clock::now();
  const std::chrono::duration<double> since = std::chrono::steady_clock::now() - start;
  fmt::print(stderr, "{:4.0f} s  {}\n", since.count(), line);
  std::fflush(stderr);
}

// The small model, few steps of it, once: all the parts run, and no figure means anything.
BenchOptions quick(BenchOptions options) {
  options.model = "a tiny GPT-2";
  options.shares = {50};
  options.ratios = {1};
  options.steps = 2;
  options.samples = 2;
  options.batch_size = 1;
  options.sequence_length = 64;
  options.threads = 1;
  return options;
}

// Of the sources that this program was built from; "unknown" where they are gone.
std::string commit() {
  std::string text;
  if (FILE* pipe = popen("'" PATRICKSTAR_SOURCE_DIR "/tools/commit' 2>/dev/null", "r")) {
    for (int c = std::fgetc(pipe); c != EOF && c != '\n'; c = std::fgetc(pipe)) text.push_back(static_cast<char>(c));
    pclose(pipe);
  }
  return text.empty() ? "unknown" : text;
}

std::string load_average() {
  std::string line;
  std::getline(std::ifstream("/proc/loadavg"), line);
  return line;
}

// All that is known so far, raw samples included.
class Report {
 public:
  Report(const BenchOptions& options, Bytes memory) : path_(options.json) {
    json_ = {{"benchmark", "patrickstar bench"},
             {"version", PATRICKSTAR_VERSION},
             {"commit", commit()},
             {"machine",
              {{"processor", processor_name()},
               {"cpus", std::thread::hardware_concurrency()},
               {"free_memory_bytes", memory},
               {"load_before", load_average()}}},
             {"options",
              {{"model", options.model},
               {"dtype", options.dtype},
               {"shares", options.shares},
               {"ratios", options.ratios},
               {"steps", options.steps},
               {"samples", options.samples},
               {"batch_size", options.batch_size},
               {"sequence_length", options.sequence_length},
               {"spill_dir", options.spill_dir},
               {"update_schedule", options.update_schedule},
               {"io", options.io},
               {"threads", options.threads}}}};
  }

  // Written after every setting, so that nothing measured is lost. Errors: those of write_text_file.
  Status write(const SettingBench& bench, const std::vector<BenchRow>& rows) {
    if (path_.empty()) return {};
    const BenchFacts& facts = bench.facts();
    json_["runs"] = {{"io_backend", facts.io_backend},
                     {"replay_backend", facts.disk_backend},
                     {"simd", facts.simd},
                     {"torch", facts.torch},
                     {"threads", facts.threads}};
    json_["calibration"] = {{"disk_bytes_per_second", bench.calibrated_bytes_per_second()}, {"compute", Json::array()}};
    for (const auto& [tokens, point] : bench.curve().points())
      json_["calibration"]["compute"].push_back(
          {{"tokens", tokens}, {"seconds", point.seconds}, {"non_model_bytes", point.non_model}});
    json_["machine"]["load_after"] = load_average();
    json_["settings"] = Json::array();
    for (const BenchRow& row : rows) json_["settings"].push_back(row_json(row));
    return write_text_file("bench", path_, json_text(json_, 1));
  }

 private:
  const std::string path_;
  Json json_;
};

}  // namespace

void add_bench_options(CLI::App& app, BenchOptions* o) {
  const auto positive = CLI::Range(std::int64_t{1}, std::int64_t{1} << 20);
  app.option_defaults()->always_capture_default();
  app.add_option("--model", o->model, "shape, as train has them");
  app.add_option("--dtype", o->dtype, "as train has it; fp32 on a processor without bf16 instructions")
      ->check(CLI::IsMember({"bf16", "fp32"}));
  app.add_option("--shares", o->shares, "budgets: % of the model data beside the plain run's peak of activations and the like")
      ->delimiter(',')
      ->check(CLI::Range(1.0, 99.0));
  app.add_option("--ratios", o->ratios, "compute by transfers, for which tokens per step are chosen; not with --batch-size")
      ->delimiter(',')
      ->check(CLI::Range(0.01, 100.0));
  app.add_option("--steps", o->steps, "measured at a time, after 4 to warm up")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1000}));
  app.add_option("--samples", o->samples,
                 "of each setting, those that are discarded not counted, more where they lie on both sides of the aim; the "
                 "median is shown")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1000}));
  app.add_option("--batch-size", o->batch_size, "with --sequence-length: these tokens, whatever ratio that gives")
      ->check(positive);
  app.add_option("--sequence-length", o->sequence_length)->check(positive);
  app.add_option("--spill-dir", o->spill_dir, "directory of the scratch files, on the disk to be measured");
  app.add_option("--update-schedule", o->update_schedule, "as train has it")
      ->check(CLI::IsMember({"auto", "step", "deferred", "overlapped"}));
  app.add_option("--io", o->io, "disk back end")->check(CLI::IsMember({"auto", "pread", "io_uring"}));
  app.add_option("--threads", o->threads, "intra-op threads (0: LibTorch's default)")->check(CLI::Range(0, 4096));
  app.add_option("--json", o->json, "write all figures and raw samples here, after every setting");
  app.add_flag("--quick", o->quick, "one setting of a tiny model: does it work? Its figures mean nothing");
}

int run_bench(const BenchOptions& asked, Bytes memory) {
  if ((asked.batch_size > 0) != (asked.sequence_length > 0)) return fail(2, "--batch-size and --sequence-length belong together");
  const BenchOptions options = asked.quick ? quick(asked) : asked;
  auto made = SettingBench::create(options, memory, say);
  if (!made.ok()) return fail(made.status().code() == StatusCode::kInvalidArgument ? 2 : 1, made.status().message());
  SettingBench& bench = *made.value();
  Report report(options, memory);
  std::vector<BenchRow> rows;
  if (Status status = report.write(bench, rows); !status.ok()) return fail(1, status.message());  // now, not after minutes
  if (options.batch_size == 0) {
    if (Status status = bench.calibrate(); !status.ok()) return fail(1, status.message());
  }
  fmt::print("{}, {}, in {} free memory, spilling to {}\n{}", options.model, options.dtype, format_bytes(memory),
             options.spill_dir, table_head());
  std::fflush(stdout);
  const std::vector<double> ratios = options.batch_size > 0 ? std::vector<double>{0} : options.ratios;
  const std::size_t all = options.shares.size() * ratios.size();
  for (const double share : options.shares) {
    for (const double ratio : ratios) {
      const WantedSetting wanted{.share = share / 100, .ratio = ratio};
      say(fmt::format("setting {} of {}", rows.size() + 1, all));
      auto row = bench.measure(wanted);
      rows.push_back(row.ok() ? std::move(row).value() : BenchRow{.wanted = wanted, .failed = row.status().message()});
      std::fputs(table_line(rows.back()).c_str(), stdout);
      std::fflush(stdout);
      if (Status status = report.write(bench, rows); !status.ok()) return fail(1, status.message());
    }
  }
  const Closing end = closing(rows, options.quick ? Figures::kMeanNothing : Figures::kCount);
  std::fputs(end.text.c_str(), stdout);
  return end.code;
}

}  // namespace patrickstar::cli
