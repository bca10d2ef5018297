// Trace: what one training step does to the payloads, moment by moment. The step repeats for ever, so the trace is cyclic: after
// the last moment comes the first. Plain values; not thread-safe.
//
// A moment is one granted acquire: all payloads of one operator, or those of one update of a tile. It lasts until the next.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "patrickstar/core/base/model_scheme.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/trace/access.h"

namespace patrickstar {

struct TracedPayload {
  PayloadKind kind = PayloadKind::kParam;
  Bytes bytes = 0;  // 0: not a payload (a gap in the numbering); never accessed
};

struct Moment {
  std::uint32_t first = 0;  // accesses [first, first + count) of Trace::accesses
  std::uint32_t count = 0;
  Bytes non_model = 0;  // the most bytes that were not chunks from this moment until the next
  Nanos compute = 0;    // work from this moment until the next, without waiting for transfers
};

struct TracedTensor {
  TensorSpec spec;
  std::uint32_t group = 0;  // tensors of one group were attached together, so only they may share a chunk
  PayloadId param;          // where its value lies
};

// The tensors behind the payloads. A step in which each has payloads of its own (chunks of one element) says which tensor is used
// when, and so what the same step does under any other layout (sim/relayout.h).
struct TracedModel {
  ModelScheme scheme;
  UpdateTiming updates = UpdateTiming::kAtStep;
  Elems tile_elems = 0;
  std::vector<TracedTensor> tensors;  // by TensorId; empty: not known
};

struct Trace {
  std::vector<TracedPayload> payloads;  // by PayloadId
  std::vector<Access> accesses;
  std::vector<Moment> moments;
  TracedModel model;

  std::span<const Access> at(std::size_t moment) const {
    return std::span(accesses).subspan(moments[moment].first, moments[moment].count);
  }
  Bytes bytes_of(PayloadId payload) const { return payloads[payload.index()].bytes; }
  Bytes model_data_bytes() const;  // of payloads that are accessed
  Nanos compute() const;           // of the whole step
};

}  // namespace patrickstar
