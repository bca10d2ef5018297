// patrickstar replay: a recorded step on tiers that are only simulated, and what no schedule could beat beside it. No LibTorch.
#pragma once

#include <string>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/trace/trace.h"

namespace CLI {
class App;
}

namespace patrickstar::cli {

struct ReplayArguments {
  std::string trace;               // a file as docs/formats.md has it
  std::vector<std::string> tiers;  // as typed: "host=2GiB", "disk=100GB,bandwidth=1.6GB/s,latency=80us"
  std::string policy = "planned";
  int steps = 8;
  bool json = false;
};

// Adds the subcommand's options to `app`, with their defaults in the help.
void add_replay_options(CLI::App& app, ReplayArguments* arguments);

struct ReplayTiers {
  Bytes host = 0;  // chunks and non-model bytes together
  Bytes disk = 0;
  double disk_bytes_per_second = 0;  // reads and writes share it
  Nanos disk_latency = 0;            // of each transfer
};
// Errors: kInvalidArgument in one line that quotes what is wrong.
Result<ReplayTiers> parse_tiers(const std::vector<std::string>& tiers);

// Whether the simulation's clock can hold the steps. Error: kInvalidArgument: a disk so slow that a unit must be missing.
Status check_duration(const Trace& trace, const ReplayTiers& tiers, int steps);

// What is printed: a table, or JSON. The same for the same arguments, on any machine.
// Errors: those of load_trace; kOutOfRoom: the step needs more than the tiers have.
Result<std::string> replay_report(const ReplayArguments& arguments, const ReplayTiers& tiers);

// Exit code: 0, 1 (the file, or room) or 2 (usage); on an error one line on stderr has been written.
int run_replay(const ReplayArguments& arguments);

}  // namespace patrickstar::cli
