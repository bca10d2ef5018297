#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

Bytes Trace::model_data_bytes() const {
  std::vector<bool> seen(payloads.size(), false);
  Bytes sum = 0;
  for (const Access& access : accesses) {
    if (seen[access.payload.index()]) continue;
    seen[access.payload.index()] = true;
    sum += bytes_of(access.payload);
  }
  return sum;
}

Nanos Trace::compute() const {
  Nanos sum = 0;
  for (const Moment& moment : moments) sum += moment.compute;
  return sum;
}

}  // namespace patrickstar
