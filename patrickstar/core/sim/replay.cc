#include "patrickstar/core/sim/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/policy/lru.h"
#include "patrickstar/core/sim/sim_tier.h"
#include "patrickstar/core/sim/timeline.h"

namespace patrickstar {
namespace {

// The machine of one run. Members go in reverse: the manager first, which waits for what is under way.
class Machine {
 public:
  Machine(const Trace& trace, const ReplayOptions& options)
      : trace_(trace),
        options_(options),
        host_("host", options.host_budget),
        disk_("disk", std::numeric_limits<Bytes>::max()),
        link_(options.disk, &timeline_.clock()),
        waiter_(&timeline_) {
    timeline_.add(&link_);
    ChunkManagerOptions made{.waiter = &waiter_, .clock = &timeline_.clock(), .compute_ledger = &host_.ledger()};
    made.levels.push_back({.tier = &host_, .link_below = &link_, .policy = std::make_unique<Lru>()});
    made.levels.push_back({.tier = &disk_});
    made.warn = [](std::string_view) {};  // seconds of a virtual clock are long for nobody
    if (options.configure) options.configure(&made);
    manager_ = std::make_unique<ChunkManager>(std::move(made));
  }

  // Ids are those of the trace.
  Status add_payloads() {
    for (std::size_t i = 0; i < trace_.payloads.size(); ++i) {
      const TracedPayload& payload = trace_.payloads[i];
      if (payload.bytes % kPayloadAlignment != 0)
        return Status(StatusCode::kInvalidArgument,
                      fmt::format("[replay] payload {}: {} bytes are no multiple of {}", i, payload.bytes, kPayloadAlignment));
      const bool gap = payload.bytes == 0;
      const auto id = manager_->add({.kind = payload.kind,
                                     .name = fmt::format("payload {} {}", i, payload_kind_name(payload.kind)),
                                     .bytes = gap ? kPayloadAlignment : payload.bytes});
      if (!id.ok()) return id.status();
      PS_CHECK(id.value() == PayloadId(i));
      if (gap) manager_->remove(id.value());
    }
    return {};
  }

  Status create_contents() {
    std::vector<bool> created(trace_.payloads.size(), false);
    for (const Access& access : trace_.accesses) {
      if (access.payload.index() >= created.size() || trace_.bytes_of(access.payload) == 0)
        return Status(StatusCode::kInvalidArgument, fmt::format("[replay] there is no payload {}", access.payload.value));
      if (created[access.payload.index()]) continue;
      created[access.payload.index()] = true;
      const Access create{access.payload, AccessMode::kCreate};
      const auto lease = manager_->acquire({&create, 1});
      if (!lease.ok()) return lease.status().with_context("[replay] before the first step");
    }
    PS_RETURN_IF_ERROR(manager_->drain());
    std::vector<SlowSpell> spells = options_.slow_spells;
    for (SlowSpell& spell : spells) {
      spell.from += timeline_.clock().now();
      spell.to += timeline_.clock().now();
    }
    link_.set_slow_spells(std::move(spells));
    return {};
  }

  Result<StepReport> step(const Trace& trace) {
    const StepReport before = so_far();
    stall_ = 0;
    for (std::size_t t = 0; t < trace.moments.size(); ++t) {
      const Status status = moment(trace, t);
      if (!status.ok()) return status.with_context(fmt::format("moment {}", t));
    }
    if (options_.step_done) options_.step_done(manager_.get());
    manager_->check_invariants();
    const StepReport after = so_far();
    return StepReport{.time = after.time - before.time,
                      .stall = stall_,
                      .read = after.read - before.read,
                      .written = after.written - before.written,
                      .accesses = after.accesses - before.accesses,
                      .misses = after.misses - before.misses};
  }

  Bytes peak() { return host_.ledger().peaks().total; }

 private:
  StepReport so_far() const {
    const ManagerStats stats = manager_->stats();
    return {.time = timeline_.clock().now(),
            .read = link_.bytes_up(),
            .written = link_.bytes_down(),
            .accesses = stats.accesses,
            .misses = stats.misses};
  }

  Status moment(const Trace& trace, std::size_t t) {
    const Nanos begin = timeline_.clock().now();
    PS_RETURN_IF_ERROR(set_non_model(trace.moments[t].non_model));
    auto leases = manager_->acquire(trace.at(t));
    if (!leases.ok()) return leases.status();
    stall_ += timeline_.clock().now() - begin;
    if (options_.granted) options_.granted(manager_.get(), t);
    timeline_.run_until(timeline_.clock().now() + trace.moments[t].compute);
    leases.value().release();
    return {};
  }

  Status set_non_model(Bytes bytes) {
    Ledger& ledger = host_.ledger();
    const Bytes more = bytes - ledger.in(Account::kNonModel);
    if (more <= 0) {
      ledger.release(Account::kNonModel, -more);
      return {};
    }
    for (int tries = 0; !ledger.try_charge(Account::kNonModel, more); ++tries) {
      // Each try frees something; whoever takes it again each time would do so for ever.
      if (tries == kMostTries) return Status(StatusCode::kOutOfRoom, "[replay] room made is taken again: " + ledger.table());
      PS_RETURN_IF_ERROR(manager_->make_room(more - ledger.room()));
    }
    return {};
  }

  static constexpr int kMostTries = 10'000;

  const Trace& trace_;
  const ReplayOptions& options_;
  Timeline timeline_;
  SimTier host_;
  SimTier disk_;
  SimLink link_;
  SimWaiter waiter_;
  std::unique_ptr<ChunkManager> manager_;
  Nanos stall_ = 0;
};

}  // namespace

void decide_by(PolicySet* deciding, ReplayOptions* options) {
  options->configure = [deciding](ChunkManagerOptions* manager) {
    manager->schedule = deciding->schedule.get();
    manager->levels[0].policy = std::move(deciding->policy);
  };
  options->step_done = [](ChunkManager* manager) { manager->step_done(); };
}

Result<ReplayReport> replay(const Trace& trace, const ReplayOptions& options) {
  Machine machine(trace, options);
  PS_RETURN_IF_ERROR(machine.add_payloads());
  PS_RETURN_IF_ERROR(machine.create_contents());
  ReplayReport report;
  for (int i = 0; i < options.steps; ++i) {
    auto step = machine.step(options.trace_of_step ? *options.trace_of_step(i) : trace);
    if (!step.ok()) return step.status().with_context(fmt::format("[replay] step {}", i));
    report.steps.push_back(step.value());
  }
  report.peak = machine.peak();
  return report;
}

}  // namespace patrickstar
