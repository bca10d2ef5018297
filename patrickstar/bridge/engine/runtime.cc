#include "patrickstar/bridge/engine/runtime.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "patrickstar/bridge/device/cpu_allocator.h"
#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/bridge/module/operator_hook.h"
#include "patrickstar/core/base/available_memory.h"
#include "patrickstar/core/base/text.h"
#include "patrickstar/core/policy/lru.h"

namespace patrickstar::bridge {
namespace {

std::atomic<bool> runtime_exists{false};

// Below this not even the libraries' own tensors fit.
constexpr Bytes kSmallestBudget = 4 * kMiB;

}  // namespace

std::shared_ptr<Runtime> Runtime::create(const RuntimeOptions& options) {
  if (runtime_exists.exchange(true)) {
    throw Error(Status(StatusCode::kInvalidArgument,
                       "[runtime] there is one Runtime per process: destroy the first (and its Engines "
                       "and parameters) before the second"));
  }
  std::shared_ptr<Runtime> runtime(new Runtime(options));
  throw_if_error(runtime->start());
  return runtime;
}

Status Runtime::start() {
  if (options_.memory_budget == 0) {
    const Bytes available = available_memory();
    if (available <= 0)
      return Status(StatusCode::kUnavailable, "[runtime] cannot read the available memory; give a memory budget");
    options_.memory_budget = round_down(available / 100 * kAutomaticBudgetPercent, kPageBytes);
  }
  if (options_.memory_budget < kSmallestBudget) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("[runtime] a memory budget of {} is impossible: the smallest is {} before any model",
                              format_bytes(options_.memory_budget), format_bytes(kSmallestBudget)));
  }
  auto disk = open_disk({.directory = options_.spill_dir,
                         .capacity = options_.disk_capacity,
                         .io = options_.io,
                         .direct = options_.direct,
                         .threads = options_.io_threads},
                        *options_.file_ops);
  if (!disk.ok()) return disk.status();
  disk_.file = std::move(disk.value().file);
  disk_.tier = std::move(disk.value().tier);
  disk_.link = std::move(disk.value().link);
  if (options_.transfers != nullptr) disk_.link = std::make_unique<LoggingLink>(std::move(disk_.link), options_.transfers);
  disk_.backend = disk.value().backend;
  auto pool = MemoryPool::create(options_.memory_budget);
  if (!pool.ok()) return pool.status();
  pool_ = pool.value();
  host_ = std::make_unique<HostTier>(&pool_->arena());
  std::unique_ptr<EvictionPolicy> policy = std::make_unique<Lru>();
  if (options_.prefetch == Prefetch::kPlanned) {
    const Bytes budget = options_.memory_budget;
    orchestrator_ = std::make_unique<Orchestrator>(
        // Three "steps": all until the optimizer is made, a step in which no update is due yet, and one to plan from.
        OrchestratorOptions{
            .budget = budget, .reserve = budget / 400 + 4 * kPageBytes, .ring = options_.ring, .warm_up_steps = 3});
    policy = orchestrator_->make_policy();
  }
  std::vector<Level> levels;
  levels.push_back({.tier = host_.get(), .link_below = disk_.link.get(), .policy = std::move(policy)});
  levels.push_back({.tier = disk_.tier.get()});
  manager_ = std::make_unique<ChunkManager>(ChunkManagerOptions{.levels = std::move(levels),
                                                                .waiter = &waiter_,
                                                                .clock = &clock_,
                                                                .compute_ledger = &pool_->ledger(),
                                                                .schedule = orchestrator_.get(),
                                                                .events = options_.events,
                                                                .warn_after = options_.warn_after.count(),
                                                                .time_out = options_.time_out.count()});
  gate_ = std::make_unique<OperatorGate>(manager_.get());
  pool_->set_room_maker(this);
  use_pool(pool_);
  use_operator_gate(gate_.get());
  return {};
}

Runtime::~Runtime() {
  use_operator_gate(nullptr);
  use_pool(nullptr);
  if (pool_ != nullptr) pool_->set_room_maker(nullptr);
  gate_.reset();
  manager_.reset();
  if (pool_ != nullptr) pool_->retire();
  runtime_exists.store(false);
}

Bytes Runtime::smallest_budget() const {
  // A page that a live block keeps is used in part: blocks of many sizes leave about a fiftieth, and some pages at the least.
  const LedgerPeaks peaks = ledger().peaks();
  return round_up(peaks.needed_with_block + peaks.needed / 50 + 8 * kPageBytes, kPageBytes);
}

void Runtime::reserve_disk(Bytes bytes) {
  const Status status = disk_.tier->reserve(disk_.tier->in_use() + bytes);
  // Not kOutOfRoom, by which users know what a larger memory budget mends.
  if (!status.ok()) throw Error(Status(StatusCode::kIoError, status.message()));
}

std::optional<OrchestratorStats> Runtime::orchestrator_stats() const {
  std::optional<OrchestratorStats> stats;
  if (orchestrator_ != nullptr) manager_->read_schedule([&] { stats = orchestrator_->stats(); });
  return stats;
}

Status Runtime::make_room(Bytes bytes) { return manager_->make_room(bytes); }

}  // namespace patrickstar::bridge
