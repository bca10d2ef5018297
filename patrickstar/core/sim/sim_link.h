// SimLink: a Link that takes time and moves nothing. It serves one transfer after the other, the most urgent first and in order
// of arrival among equals; one that has begun is not interrupted. As a disk does, both directions share it, or each has a
// bandwidth of its own (duplex).
//
// A transfer takes latency + bytes / bandwidth from when it begins. In a slow spell everything takes `factor` times as long.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "patrickstar/core/base/clock.h"
#include "patrickstar/core/io/urgency_queue.h"
#include "patrickstar/core/mem/link.h"

namespace patrickstar {

struct SlowSpell {
  Nanos from = 0;
  Nanos to = 0;
  double factor = 1;  // 1 or more
};

enum class LinkSharing : std::uint8_t { kShared, kDuplex };

struct SimLinkOptions {
  double bytes_per_second = 1e9;       // of both directions together; duplex: upwards
  double bytes_per_second_down = 1e9;  // duplex only
  LinkSharing sharing = LinkSharing::kShared;
  Nanos latency = 0;
};

// One thread. Transfers end when the timeline says so (timeline.h).
class SimLink final : public Link {
 public:
  SimLink(SimLinkOptions options, const Clock* clock);
  ~SimLink() override;  // PS_CHECKs that nothing is under way

  // When the link is slow, by the clock. REQUIRES: in order of time, without overlap. What has begun keeps its end.
  void set_slow_spells(std::vector<SlowSpell> spells);

  void set_sink(TransferSink* sink) override { sink_ = sink; }
  void start(const Transfer& transfer) override;
  Bytes bytes_up() const override { return bytes_up_; }
  Bytes bytes_down() const override { return bytes_down_; }

  // When the next transfer ends; nothing: none is under way.
  std::optional<Nanos> next_due() const;
  // Tells the sink of that transfer and begins the next. REQUIRES: the clock shows next_due(); the manager's lock is not held.
  void deliver();

 private:
  // What serves one direction or both.
  struct Channel {
    std::optional<Transfer> current;
    Nanos due = 0;
    UrgencyQueue<Transfer> queue;
  };

  Channel& channel(Direction direction);
  const Channel* next_channel() const;
  void begin(Channel* channel);
  Nanos end_of(const Transfer& transfer) const;

  const SimLinkOptions options_;
  const Clock* const clock_;
  std::vector<SlowSpell> slow_spells_;
  TransferSink* sink_ = nullptr;
  std::array<Channel, 2> channels_;  // duplex: by Direction; shared: the first
  Bytes bytes_up_ = 0;
  Bytes bytes_down_ = 0;
};

}  // namespace patrickstar
