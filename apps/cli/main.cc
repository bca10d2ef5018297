// patrickstar: the command line. One file a subcommand.
#include <CLI/CLI.hpp>

#include "apps/cli/layout.h"
#include "apps/cli/replay.h"
#include "apps/cli/train.h"
#include "apps/cli/train_options.h"

int main(int argc, char** argv) {
  CLI::App app{"Trains models that do not fit: model data lives in chunks on memory and disk, within a budget that holds."};
  app.set_version_flag("--version", "patrickstar " PATRICKSTAR_VERSION);
  app.require_subcommand(1);
  patrickstar::cli::TrainOptions train;
  auto* train_command = app.add_subcommand("train", "train a GPT-2 or Llama shape on a file");
  patrickstar::cli::add_train_options(*train_command, &train);
  patrickstar::cli::ReplayArguments replay;
  auto* replay_command = app.add_subcommand("replay", "a recorded step on simulated tiers, with its limits");
  patrickstar::cli::add_replay_options(*replay_command, &replay);
  patrickstar::cli::LayoutArguments layout;
  auto* layout_command =
      app.add_subcommand("layout", "the order of tensors and the size of chunks that a step replays fastest with");
  patrickstar::cli::add_layout_options(*layout_command, &layout);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // One line and exit code 2 for bad usage; --help and --version are no errors.
    if (error.get_exit_code() == 0) return app.exit(error);
    std::fprintf(stderr, "patrickstar: error: %s (see --help)\n", error.what());
    return 2;
  }
  if (replay_command->parsed()) return patrickstar::cli::run_replay(replay);
  if (layout_command->parsed()) return patrickstar::cli::run_layout(layout);
  return patrickstar::cli::run_train(train);
}
