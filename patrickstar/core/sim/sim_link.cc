#include "patrickstar/core/sim/sim_link.h"

#include <cmath>
#include <utility>

#include "patrickstar/core/base/check.h"

namespace patrickstar {

SimLink::SimLink(SimLinkOptions options, const Clock* clock) : options_(std::move(options)), clock_(clock) {
  PS_CHECK(options_.bytes_per_second > 0 && options_.bytes_per_second_down > 0 && options_.latency >= 0);
}

SimLink::~SimLink() { PS_CHECK(next_channel() == nullptr); }

void SimLink::set_slow_spells(std::vector<SlowSpell> spells) {
  Nanos before = 0;
  for (const SlowSpell& spell : spells) {
    PS_CHECK(spell.from >= before && spell.to >= spell.from && spell.factor >= 1);
    before = spell.to;
  }
  slow_spells_ = std::move(spells);
}

SimLink::Channel& SimLink::channel(Direction direction) {
  return channels_[options_.sharing == LinkSharing::kDuplex && direction == Direction::kDown ? 1 : 0];
}

void SimLink::start(const Transfer& transfer) {
  Channel& serving = channel(transfer.direction);
  serving.queue.push(transfer.urgency, transfer);
  if (!serving.current) begin(&serving);
}

// REQUIRES: something is queued and nothing is under way.
void SimLink::begin(Channel* channel) {
  channel->current = channel->queue.pop();
  channel->due = end_of(*channel->current);
}

// When a transfer that begins now is done.
Nanos SimLink::end_of(const Transfer& transfer) const {
  const bool down = options_.sharing == LinkSharing::kDuplex && transfer.direction == Direction::kDown;
  const double bandwidth = down ? options_.bytes_per_second_down : options_.bytes_per_second;
  double work = static_cast<double>(options_.latency) + std::ceil(static_cast<double>(transfer.bytes) * 1e9 / bandwidth);
  Nanos now = clock_->now();
  for (const SlowSpell& spell : slow_spells_) {
    if (spell.to <= now) continue;
    if (now < spell.from) {
      const double at_full_speed = static_cast<double>(spell.from - now);
      if (work <= at_full_speed) break;
      work -= at_full_speed;
      now = spell.from;
    }
    const double in_spell = static_cast<double>(spell.to - now) / spell.factor;
    if (work <= in_spell) return now + static_cast<Nanos>(std::ceil(work * spell.factor));
    work -= in_spell;
    now = spell.to;
  }
  return now + static_cast<Nanos>(std::ceil(work));
}

const SimLink::Channel* SimLink::next_channel() const {
  const Channel* next = nullptr;
  for (const Channel& each : channels_) {
    if (each.current && (next == nullptr || each.due < next->due)) next = &each;
  }
  return next;
}

std::optional<Nanos> SimLink::next_due() const {
  const Channel* next = next_channel();
  return next == nullptr ? std::nullopt : std::optional(next->due);
}

void SimLink::deliver() {
  const Channel* next = next_channel();
  PS_CHECK(next != nullptr && clock_->now() == next->due);
  Channel& served = channel(next->current->direction);
  const Transfer done = *std::exchange(served.current, std::nullopt);
  (done.direction == Direction::kUp ? bytes_up_ : bytes_down_) += done.bytes;
  // What waited goes before what the sink starts now, but for urgency: the disk does not idle while we think.
  if (!served.queue.empty()) begin(&served);
  sink_->transfer_done(done, Status());
}

}  // namespace patrickstar
