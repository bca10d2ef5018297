// patrickstar train: the loop.
#pragma once

#include "apps/cli/train_options.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar::cli {

// Exit code: 0, 1 (run time) or 2 (usage); on an error one line on stderr has been written.
int run_train(const TrainOptions& options);

// Bytes that a process may still take here: of the machine, or of its container.
Bytes free_memory();

}  // namespace patrickstar::cli
