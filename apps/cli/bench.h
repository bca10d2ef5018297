// patrickstar bench: step time, traffic and prediction of planned steps on this machine, each beside its limit. No LibTorch: the
// steps are taken by `patrickstar train` in processes of their own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "patrickstar/core/base/units.h"

namespace CLI {
class App;
}

namespace patrickstar::cli {

struct BenchOptions {
  std::string model = "gpt2-medium";
  std::string dtype = "bf16";
  std::vector<double> shares = {25, 50, 75};  // %
  std::vector<double> ratios = {2, 1, 0.5};   // not with batch_size
  std::int64_t steps = 5;                     // measured at a time
  std::int64_t samples = 3;     // of each setting, more where they lie on both sides of the aim; their median counts
  std::int64_t batch_size = 0;  // 0: this and the next are chosen for each ratio
  std::int64_t sequence_length = 0;
  std::string spill_dir = "/var/tmp";
  std::string update_schedule = "auto";
  std::string io = "auto";
  int threads = 0;
  std::string json;
  bool quick = false;
};

// Adds the subcommand's options to `app`, with their defaults in the help.
void add_bench_options(CLI::App& app, BenchOptions* options);

// `memory`: what is free, in bytes. Exit code: 0; 1: a run failed, losses differ, or no setting was measured steadily at the
// ratio asked for (`quick`: or none at all, for its figures mean nothing); 2: usage.
int run_bench(const BenchOptions& options, Bytes memory);

}  // namespace patrickstar::cli
