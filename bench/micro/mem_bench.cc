// The paths that every operator takes: a lease on chunks that are there, and a block of the arena.
//
//   mem_bench [--benchmark_filter=...]      aim for acquire + release of one resident chunk: 60 ns
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "bench/micro/origin.h"
#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/clock.h"
#include "patrickstar/core/base/processor.h"
#include "patrickstar/core/mem/arena.h"
#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/mem/host_tier.h"
#include "patrickstar/core/policy/lru.h"
#include "patrickstar/core/testing/manual_link.h"
#include "patrickstar/core/testing/memory_tier.h"

namespace patrickstar {
namespace {

// Two tiers with room for everything: what is measured never moves a byte.
struct Resident {
  explicit Resident(std::size_t payloads)
      : upper("host", static_cast<Bytes>(payloads) * kPayloadAlignment),
        lower("disk", static_cast<Bytes>(payloads) * kPayloadAlignment) {
    std::vector<Level> levels;
    levels.push_back({.tier = &upper, .link_below = &link, .policy = std::make_unique<Lru>()});
    levels.push_back({.tier = &lower});
    manager = std::make_unique<ChunkManager>(
        ChunkManagerOptions{.levels = std::move(levels), .waiter = &waiter, .clock = &clock, .compute_ledger = &upper.ledger()});
    for (std::size_t i = 0; i < payloads; ++i) {
      ids.push_back(manager->add({.name = "chunk", .bytes = kPayloadAlignment}).value());
      const Access access{ids.back(), AccessMode::kCreate};
      PS_CHECK(manager->acquire({&access, 1}).ok());
    }
  }

  MemoryTier upper;
  MemoryTier lower;
  ManualLink link{"/scratch"};
  ThreadWaiter waiter;
  SteadyClock clock;
  std::unique_ptr<ChunkManager> manager;
  std::vector<PayloadId> ids;
};

// Argument: how many payloads there are; one after another is leased.
void acquire_release(benchmark::State& state) {
  Resident resident(static_cast<std::size_t>(state.range(0)));
  std::size_t i = 0;
  for (auto _ : state) {
    const Access access{resident.ids[i], AccessMode::kRead};
    auto leases = resident.manager->acquire({&access, 1});
    benchmark::DoNotOptimize(leases.value().address(0));
    if (++i == resident.ids.size()) i = 0;
  }
}
BENCHMARK(acquire_release)->Arg(1)->Arg(10'000);

void acquire_release_four(benchmark::State& state) {
  Resident resident(64);
  std::vector<Access> accesses;
  for (std::size_t i = 0; i < 4; ++i) accesses.push_back({resident.ids[16 * i], i == 0 ? AccessMode::kWrite : AccessMode::kRead});
  for (auto _ : state) {
    auto leases = resident.manager->acquire(accesses);
    benchmark::DoNotOptimize(leases.value().address(3));
  }
}
BENCHMARK(acquire_release_four);

// 1 MiB from a pool that keeps pages; argument: how many other blocks of mixed sizes live in it.
void arena_allocate_free(benchmark::State& state) {
  MmapPages pages;
  Ledger ledger(4 * kGiB);
  auto arena = std::move(Arena::create(&pages, &ledger, 64 * kGiB)).value();
  std::vector<std::byte*> others;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    others.push_back(arena->try_allocate((1 + i % 7) * 64 * kKiB, Account::kNonModel).address);
  }
  for (std::size_t i = 0; i < others.size(); i += 3) {  // holes
    arena->free(others[i]);
    others[i] = nullptr;
  }
  for (auto _ : state) {
    auto block = arena->try_allocate(kMiB, Account::kNonModel);
    benchmark::DoNotOptimize(block.address);
    arena->free(block.address);
  }
  for (std::byte* block : others) {
    if (block != nullptr) arena->free(block);
  }
}
BENCHMARK(arena_allocate_free)->Arg(0)->Arg(3'000);

}  // namespace
}  // namespace patrickstar

int main(int argc, char** argv) {
  benchmark::AddCustomContext("commit", patrickstar::bench::commit());
  benchmark::AddCustomContext("command", patrickstar::bench::command_line(argc, argv));
  benchmark::AddCustomContext("processor", patrickstar::processor_name());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
