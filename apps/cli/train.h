// patrickstar train: the loop.
#pragma once

#include "apps/cli/train_options.h"

namespace patrickstar::cli {

// Exit code: 0, 1 (run time) or 2 (usage); on an error one line on stderr has been written.
int run_train(const TrainOptions& options);

}  // namespace patrickstar::cli
