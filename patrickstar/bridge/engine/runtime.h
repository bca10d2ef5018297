// Runtime: one per process. Owns hook, allocator, ledger, arena, tiers and the ChunkManager; Engines attach models to it.
//
// While it lives, LibTorch's CPU tensors come from its memory pool and every operator goes through its gate. Storages in chunk
// space keep it alive. Any thread may run operators; create and destroy on one thread with no operator running.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "patrickstar/bridge/device/memory_pool.h"
#include "patrickstar/bridge/module/operator_gate.h"
#include "patrickstar/core/io/disk.h"
#include "patrickstar/core/io/transfer_log.h"
#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/mem/host_tier.h"
#include "patrickstar/core/mem/layout.h"
#include "patrickstar/core/policy/orchestrator.h"

namespace patrickstar::bridge {

enum class Prefetch : std::uint8_t {
  kPlanned,   // a step is watched, then every chunk is in place before it is touched (core/policy/orchestrator.h)
  kOnDemand,  // a chunk comes when an operator asks for it; LRU
};

// All defaults of the runtime, in one place.
struct RuntimeOptions {
  // Most bytes of host memory, model and non-model data together. 0: kAutomaticBudgetPercent of what is available.
  Bytes memory_budget = 0;
  std::string spill_dir = "/var/tmp";  // where the scratch file goes; it is unlinked at once
  Bytes disk_capacity = 0;             // 0: what the file system has
  IoBackend io = IoBackend::kAuto;
  DirectIo direct = DirectIo::kAuto;
  int io_threads = DiskOptions{}.threads;  // of the pread back end
  LayoutOptions layout;
  Prefetch prefetch = Prefetch::kPlanned;
  Bytes ring = PlanOptions{}.ring;  // room for payloads on their way in and out
  // A wait for one thing for so long is told by the log, once, with who waits for what: a disk that is stuck shows early.
  std::chrono::nanoseconds warn_after{ChunkManagerOptions{}.warn_after};
  // A wait in which nothing happens for so long ends with an error that says the same.
  std::chrono::nanoseconds time_out{ChunkManagerOptions{}.time_out};
  EventSink* events = nullptr;            // outlives the Runtime; may be null
  TransferLog* transfers = nullptr;       // hears of every transfer to and from the disk; outlives the Runtime; may be null
  FileOps* file_ops = &posix_file_ops();  // the seam to the operating system's files; outlives the Runtime
};

inline constexpr int kAutomaticBudgetPercent = 80;  // of available_memory()

class Runtime final : private RoomMaker {
 public:
  // Throws Error: a second Runtime, spill directory unusable, budget impossible.
  static std::shared_ptr<Runtime> create(const RuntimeOptions& options);
  ~Runtime() override;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const RuntimeOptions& options() const { return options_; }
  ChunkManager& manager() { return *manager_; }
  OperatorGate& gate() { return *gate_; }
  Ledger& ledger() const { return pool_->ledger(); }
  MemoryPool& pool() { return *pool_; }
  const Clock& clock() const { return clock_; }
  // Null when chunks come on demand. Not to be asked while operators run.
  const Orchestrator* orchestrator() const { return orchestrator_.get(); }
  std::optional<OrchestratorStats> orchestrator_stats() const;  // any thread, unlike what is behind orchestrator()
  // "io_uring+O_DIRECT" and the like.
  const std::string& io_backend() const { return disk_.backend; }
  // The smallest budget that would have sufficed for what was done so far: what no eviction could have given back, and what
  // the arena's partly used pages and the contiguity of its blocks take on top. Bytes.
  Bytes smallest_budget() const;
  // Preallocates so much more of the scratch file than is in use, so that a full disk is found early. Throws Error.
  void reserve_disk(Bytes bytes);

 private:
  explicit Runtime(const RuntimeOptions& options) : options_(options) {}
  Status start();
  Status make_room(Bytes bytes) override;

  RuntimeOptions options_;
  SteadyClock clock_;
  ThreadWaiter waiter_;
  MemoryPool* pool_ = nullptr;  // destroys itself when retired and empty
  std::unique_ptr<HostTier> host_;
  Disk disk_;
  std::unique_ptr<Orchestrator> orchestrator_;
  std::unique_ptr<ChunkManager> manager_;
  std::unique_ptr<OperatorGate> gate_;
};

}  // namespace patrickstar::bridge
