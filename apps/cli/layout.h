// patrickstar layout: the order of tensors and the size of chunks that a recorded step replays fastest with. No LibTorch.
#pragma once

#include <string>
#include <vector>

#include "apps/cli/replay.h"
#include "patrickstar/core/base/status.h"
#include "patrickstar/core/mem/layout_io.h"

namespace CLI {
class App;
}

namespace patrickstar::cli {

struct LayoutArguments {
  std::string trace;               // recorded with chunks of one element, so that it tells tensors apart
  std::vector<std::string> tiers;  // as for replay
  std::string output;              // empty: nothing is written
  bool json = false;
};

// Adds the subcommand's options to `app`.
void add_layout_options(CLI::App& app, LayoutArguments* arguments);

struct LayoutReport {
  std::string text;  // a table, or JSON
  ChosenLayout chosen;
};
// The same for the same arguments, on any machine. Errors: those of load_trace, step_by_tensor and search_layouts; kOutOfRoom:
// the disk is too small.
Result<LayoutReport> layout_report(const LayoutArguments& arguments, const ReplayTiers& tiers);

// Exit code: 0, 1 (a file, or room) or 2 (usage); on an error one line on stderr has been written.
int run_layout(const LayoutArguments& arguments);

}  // namespace patrickstar::cli
