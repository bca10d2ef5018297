// Link: the port that moves bytes between a tier and the one beneath it, asynchronously.
//
// The manager starts transfers with its lock held, so start() only queues; the sink hears of each transfer exactly once, from
// any thread, never from inside start(). A transfer that failed leaves its source as it was and its target undefined.
#pragma once

#include <cstdint>

#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/base/status.h"
#include "patrickstar/core/mem/tier.h"

namespace patrickstar {

enum class Direction : std::uint8_t { kUp, kDown };  // towards the compute tier, away from it

// Who waits: a link serves all demand before any prefetch before any write-back, each in order of arrival.
enum class Urgency : std::uint8_t { kDemand, kPrefetch, kWriteBack };

const char* urgency_name(Urgency urgency);  // "demand", "prefetch", "write-back"

struct Transfer {
  std::uint64_t id = 0;  // chosen by the manager, unique among those under way
  PayloadId payload;     // for events and messages only
  Direction direction = Direction::kUp;
  Urgency urgency = Urgency::kDemand;
  Place upper;      // on the tier nearer to compute
  Place lower;      // on the tier beneath
  Bytes bytes = 0;  // multiple of kPayloadAlignment
};

class TransferSink {
 public:
  virtual ~TransferSink() = default;
  // `status` names the file or device and the cause. Any thread, never from inside Link::start.
  virtual void transfer_done(const Transfer& transfer, Status status) = 0;
};

class Link {
 public:
  virtual ~Link() = default;  // waits for what is under way

  virtual void set_sink(TransferSink* sink) = 0;  // once, before the first start()
  virtual void start(const Transfer& transfer) = 0;
  // Bytes moved since construction; any thread. For summaries: the manager counts for itself.
  virtual Bytes bytes_up() const = 0;
  virtual Bytes bytes_down() const = 0;
};

}  // namespace patrickstar
