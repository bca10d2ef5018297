// What our AdamW and the plain one share: parameter groups, options and the clipping factor, on top of torch::optim.
#pragma once

#include <torch/optim/adamw.h>

#include "patrickstar/core/optim/adamw.h"

namespace patrickstar::bridge {

// The core's options of one group. Throws Error: amsgrad, betas outside [0, 1).
AdamWOptions adamw_options(const torch::optim::OptimizerParamGroup& group);

}  // namespace patrickstar::bridge
