// What following a step costs an access, with 10,000 chunks: the aim is 1 us for policy and bookkeeping together, and no scan
// over all chunks. Time is per access; "steps" are entries of a policy's heap that an access looked at or moved.
//
//   policy_bench [--benchmark_filter=...]
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/clock.h"
#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/policy/registry.h"
#include "patrickstar/core/sim/sim_link.h"
#include "patrickstar/core/sim/sim_tier.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

constexpr std::uint32_t kChunks = 10'000;
constexpr Bytes kBytes = kPayloadAlignment;

// Half are parameters, read in forward and written in backward, each then with the tile of the other half: 15,000 accesses in
// 10,000 moments.
Trace step() {
  std::vector<MomentSpec> moments;
  const std::uint32_t params = kChunks / 2;
  for (std::uint32_t i = 0; i < params; ++i) moments.push_back({.accesses = {reads(i)}, .compute = 1000});
  for (std::uint32_t i = params; i-- > 0;) moments.push_back({.accesses = {writes(i), writes(params + i)}, .compute = 1000});
  Trace trace = trace_of(std::vector<Bytes>(kChunks, kBytes), moments);
  for (std::size_t i = 0; i < params; ++i) trace.payloads[i].kind = PayloadKind::kParam;
  return trace;
}

// Moves nothing and is done as soon as somebody looks: what is measured is the manager's part and the policy's.
class InstantLink final : public Link {
 public:
  void set_sink(TransferSink* sink) override { sink_ = sink; }
  void start(const Transfer& transfer) override { pending_.push_back(transfer); }
  Bytes bytes_up() const override { return 0; }
  Bytes bytes_down() const override { return 0; }
  bool deliver() {
    if (pending_.empty()) return false;
    delivered_.swap(pending_);
    for (const Transfer& transfer : delivered_) sink_->transfer_done(transfer, Status());
    count_ += static_cast<std::int64_t>(delivered_.size());
    delivered_.clear();
    return true;
  }
  std::int64_t count() const { return count_; }

 private:
  TransferSink* sink_ = nullptr;
  std::vector<Transfer> pending_;
  std::vector<Transfer> delivered_;
  std::int64_t count_ = 0;
};

class InstantWaiter final : public Waiter {
 public:
  explicit InstantWaiter(InstantLink* link) : link_(link) {}
  WaitResult wait(std::unique_lock<std::mutex>& lock, std::condition_variable&) override {
    lock.unlock();
    const bool delivered = link_->deliver();
    lock.lock();
    return delivered ? WaitResult::kWoken : WaitResult::kTimedOut;
  }

 private:
  InstantLink* const link_;
};

// A tier of equal places that are handed out from a stack.
class FlatTier final : public Tier {
 public:
  explicit FlatTier(Bytes capacity) : ledger_(capacity) {}
  std::string name() const override { return "flat"; }
  Result<Place> allocate(Bytes bytes) override {
    if (!ledger_.try_charge(Account::kChunks, bytes)) return Status(StatusCode::kOutOfRoom, "full");
    return Place{1};
  }
  Bytes shortfall(Bytes bytes) override { return std::max<Bytes>(0, bytes - ledger_.room()); }
  void free(Place, Bytes bytes) override { ledger_.release(Account::kChunks, bytes); }
  Ledger& ledger() { return ledger_; }

 private:
  Ledger ledger_;
};

struct Machine {
  Machine(const std::string& policy, Bytes chunks_of_room)
      : trace(step()),
        upper(chunks_of_room * kBytes),
        deciding(find_policy(policy)->make({.orchestrator = {.budget = chunks_of_room * kBytes}, .trace = &trace})) {
    std::vector<Level> levels;
    levels.push_back({.tier = &upper, .link_below = &link, .policy = std::move(deciding.policy)});
    levels.push_back({.tier = &lower});
    manager = std::make_unique<ChunkManager>(ChunkManagerOptions{.levels = std::move(levels),
                                                                 .waiter = &waiter,
                                                                 .clock = &clock,
                                                                 .compute_ledger = &upper.ledger(),
                                                                 .schedule = deciding.schedule.get()});
    for (std::uint32_t i = 0; i < kChunks; ++i) {
      const Access create{manager->add({.kind = trace.payloads[i].kind, .name = "chunk", .bytes = kBytes}).value(),
                          AccessMode::kCreate};
      PS_CHECK(manager->acquire({&create, 1}).ok());
    }
    for (int i = 0; i < 3; ++i) run_step();
  }
  void moment(std::size_t m) {
    auto leases = manager->acquire(trace.at(m));
    PS_CHECK(leases.ok());
    benchmark::DoNotOptimize(leases.value().address(0));
    leases.value().release();
    link.deliver();
  }
  void run_step() {
    for (std::size_t m = 0; m < trace.moments.size(); ++m) moment(m);
    manager->step_done();
    link.deliver();
  }

  Trace trace;
  InstantLink link;
  InstantWaiter waiter{&link};
  SteadyClock clock;
  FlatTier upper;
  FlatTier lower{Bytes{2} * kChunks * kBytes};
  PolicySet deciding;
  std::unique_ptr<ChunkManager> manager;
};

// Whole steps; the time of one by its accesses.
void run_steps(benchmark::State& state, const std::string& policy, Bytes chunks_of_room) {
  Machine machine(policy, chunks_of_room);
  const auto accesses = static_cast<double>(machine.trace.accesses.size());
  const ManagerStats before = machine.manager->stats();
  const std::int64_t transfers = machine.link.count();
  for (auto _ : state) machine.run_step();
  const double all = accesses * static_cast<double>(state.iterations());
  state.counters["access"] = benchmark::Counter(all, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["transfers"] = static_cast<double>(machine.link.count() - transfers) / all;
  state.counters["misses"] = static_cast<double>(machine.manager->stats().misses - before.misses) / all;
  if (machine.deciding.schedule != nullptr) {
    state.SetLabel(machine.deciding.schedule->stats().following ? "following a plan" : "no plan");
  }
}
void resident(benchmark::State& state, const std::string& policy) { run_steps(state, policy, kChunks); }
void streaming(benchmark::State& state, const std::string& policy) { run_steps(state, policy, kChunks * 3 / 4); }
// Every 50th moment is left out, another one each time: 200 jumps a step, of which each is noticed at the second moment after it.
void irregular(benchmark::State& state, const std::string& policy) {
  Machine machine(policy, kChunks * 3 / 4);
  std::size_t out = 0;
  std::int64_t accesses = machine.manager->stats().accesses;
  for (auto _ : state) {
    out = (out + 7) % 50;
    for (std::size_t m = 0; m < machine.trace.moments.size(); ++m) {
      if (m % 50 != out) machine.moment(m);
    }
    machine.manager->step_done();
    machine.link.deliver();
  }
  accesses = machine.manager->stats().accesses - accesses;
  state.counters["access"] =
      benchmark::Counter(static_cast<double>(accesses), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  if (machine.deciding.schedule == nullptr) return;
  state.SetLabel(machine.deciding.schedule->stats().following ? "following a plan" : "no plan");
  state.counters["deviations"] =
      static_cast<double>(machine.deciding.schedule->stats().deviations) / static_cast<double>(accesses);
}
// All is there, and a plan is followed because there was no room for a moment.
void resident_following(benchmark::State& state) { run_steps(state, "planned", kChunks - 1); }

// A policy alone: each access untracks, uses and tracks; a victim is asked for each time.
void policy_alone(benchmark::State& state, const std::string& name) {
  const Trace trace = step();
  PolicySet deciding = find_policy(name)->make({.orchestrator = {.budget = kChunks * kBytes}, .trace = &trace});
  for (std::uint32_t i = 0; i < kChunks; ++i) deciding.policy->track(PayloadId(i));
  for (auto _ : state) {
    for (std::size_t m = 0; m < trace.moments.size(); ++m) {
      for (const Access& access : trace.at(m)) deciding.policy->untrack(access.payload);
      deciding.policy->used(trace.at(m));
      for (const Access& access : trace.at(m)) deciding.policy->track(access.payload);
      benchmark::DoNotOptimize(deciding.policy->victim());
    }
  }
  state.counters["access"] = benchmark::Counter(static_cast<double>(trace.accesses.size() * state.iterations()),
                                                benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void follower_granted(benchmark::State& state) {
  const Trace trace = step();
  Follower follower(trace);
  for (auto _ : state) {
    for (std::size_t m = 0; m < trace.moments.size(); ++m) benchmark::DoNotOptimize(follower.granted(trace.at(m)));
  }
  state.counters["moment"] = benchmark::Counter(static_cast<double>(trace.moments.size() * state.iterations()),
                                                benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// One operator that uses so many chunks (a foreach operator): by chunk.
void follower_granted_wide(benchmark::State& state) {
  std::vector<Access> all;
  for (std::uint32_t i = 0; i < state.range(0); ++i) all.push_back(reads(i));
  Follower follower(trace_of(std::vector<Bytes>(all.size(), kBytes), {{all}}));
  for (auto _ : state) benchmark::DoNotOptimize(follower.granted(all));
  state.counters["access"] = benchmark::Counter(static_cast<double>(state.range(0) * state.iterations()),
                                                benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// A plan that is followed without a manager, with all that streams brought at once.
void orchestrator_alone(benchmark::State& state) {
  const Trace trace = step();
  Orchestrator orchestrator({.budget = kChunks * 3 / 4 * kBytes});
  const auto policy = orchestrator.make_policy();
  for (std::uint32_t i = 0; i < kChunks; ++i) orchestrator.added(PayloadId(i), trace.payloads[i].kind, kBytes);
  orchestrator.evicted(PayloadId(std::uint32_t{0}));
  std::int64_t wants = 0;
  const auto run_step = [&] {
    for (std::size_t m = 0; m < trace.moments.size(); ++m) {
      orchestrator.granted(trace.at(m), {.compute = 1000});
      for (const Access& access : trace.at(m)) benchmark::DoNotOptimize(orchestrator.keep(access.payload));
      for (int asked = 0; asked < 2; ++asked) {  // at the grant and at the release
        for (;;) {
          ++wants;
          const auto want = orchestrator.want();
          if (!want || want->left < kBytes) break;
          orchestrator.brought(want->payload);
        }
      }
    }
    orchestrator.step_done({.compute = 1000});
  };
  for (int i = 0; i < 3; ++i) run_step();
  PS_CHECK(orchestrator.stats().following);
  wants = 0;
  for (auto _ : state) run_step();
  const auto all = static_cast<double>(trace.accesses.size() * state.iterations());
  state.counters["access"] = benchmark::Counter(all, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["wants"] = static_cast<double>(wants) / all;
}

// want() as it stands between two moments: what a release asks.
void orchestrator_want(benchmark::State& state) {
  const Trace trace = step();
  Orchestrator orchestrator({.budget = kChunks * 3 / 4 * kBytes});
  for (std::uint32_t i = 0; i < kChunks; ++i) orchestrator.added(PayloadId(i), trace.payloads[i].kind, kBytes);
  orchestrator.evicted(PayloadId(std::uint32_t{0}));
  for (int i = 0; i < 3; ++i) {
    for (std::size_t m = 0; m < trace.moments.size() / (i == 2 ? 2 : 1); ++m)
      orchestrator.granted(trace.at(m), {.compute = 1000});
    if (i < 2) orchestrator.step_done({.compute = 1000});
  }
  PS_CHECK(orchestrator.want().has_value());
  for (auto _ : state) benchmark::DoNotOptimize(orchestrator.want());
}

// Once, when two steps have been watched.
void plan_is_made(benchmark::State& state) {
  const Trace trace = step();
  for (auto _ : state) benchmark::DoNotOptimize(make_plan(trace, {.budget = kChunks * 3 / 4 * kBytes}));
}

void register_all() {
  for (const PolicyEntry& entry : registered_policies()) {
    const std::string name(entry.name);
    benchmark::RegisterBenchmark(("resident/" + name).c_str(), resident, name)->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("streaming/" + name).c_str(), streaming, name)->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("irregular/" + name).c_str(), irregular, name)->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("policy_alone/" + name).c_str(), policy_alone, name)->Unit(benchmark::kMillisecond);
  }
}

BENCHMARK(resident_following)->Unit(benchmark::kMillisecond);
BENCHMARK(follower_granted)->Unit(benchmark::kMillisecond);
BENCHMARK(follower_granted_wide)->Arg(1)->Arg(4)->Arg(1000);
BENCHMARK(orchestrator_alone)->Unit(benchmark::kMillisecond);
BENCHMARK(orchestrator_want);
BENCHMARK(plan_is_made)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace patrickstar

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  patrickstar::register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
