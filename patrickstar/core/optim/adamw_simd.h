// Inside optim/ only: the vector kernel behind adamw_update, chosen at run time.
#pragma once

#include "patrickstar/core/optim/adamw.h"

namespace patrickstar {

// One range on the calling thread with the best instruction set of this machine. REQUIRES: as adamw_update.
void adamw_update_simd(const AdamWRange& range, const AdamWFactors& factors);

}  // namespace patrickstar
