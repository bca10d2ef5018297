// Example 1: the core alone. 64 MiB of data live in 24 MiB of memory; the rest lies on disk.
//
//   example_lease [DIRECTORY]     where the scratch file goes (default /var/tmp); it has no name and is gone afterwards
//
// No LibTorch in here. The parts, from the bottom up:
//   Ledger         the account book: says no when a byte would cross the budget
//   Arena          host memory, in pages that the ledger has agreed to
//   HostTier       the arena as a place for payloads; DiskTier is the same for a scratch file
//   Link           moves bytes between a tier and the one beneath it, in the background (open_disk makes it)
//   ChunkManager   knows where each payload is, and brings it to memory when somebody asks for a lease
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/base/text.h"
#include "patrickstar/core/io/disk.h"
#include "patrickstar/core/mem/arena.h"
#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/mem/host_tier.h"
#include "patrickstar/core/mem/ledger.h"
#include "patrickstar/core/policy/lru.h"

namespace {

using patrickstar::Access;
using patrickstar::AccessMode;
using patrickstar::Bytes;
using patrickstar::ChunkManager;
using patrickstar::format_bytes;
using patrickstar::kGiB;
using patrickstar::kMiB;
using patrickstar::LeaseSet;
using patrickstar::PayloadId;
using patrickstar::Result;
using patrickstar::Status;

constexpr Bytes kBudget = 24 * kMiB;
constexpr Bytes kPayload = 8 * kMiB;
constexpr std::uint32_t kPayloads = 8;
constexpr std::size_t kWords = static_cast<std::size_t>(kPayload) / sizeof(std::uint32_t);

// The core never throws: what can be expected to go wrong comes back as a Status or a Result. This program just gives up.
[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "example_lease: %s\n", why.c_str());
  std::exit(1);
}

void check(const Status& status) {
  if (!status.ok()) give_up(status.message());
}

template <class T>
T value_of(Result<T> result) {
  check(result.status());
  return std::move(result).value();
}

LeaseSet acquire(ChunkManager& manager, const std::vector<Access>& accesses) { return value_of(manager.acquire(accesses)); }

// What payload `owner` holds at `word` after `additions` additions.
std::uint32_t pattern(std::uint32_t owner, std::size_t word, std::uint32_t additions) {
  return owner * 0x9E3779B1U + static_cast<std::uint32_t>(word) + additions;
}

// A place may move between two leases, so the address is asked for anew under each of them.
std::uint32_t* words(const LeaseSet& leases, std::size_t i) { return reinterpret_cast<std::uint32_t*>(leases.address(i)); }

void print_traffic(const char* when, const ChunkManager& manager, const patrickstar::Ledger& ledger) {
  const patrickstar::ManagerStats stats = manager.stats();
  std::printf("%-28s %3lld evictions, %s written, %s read; %s\n", when, static_cast<long long>(stats.evictions),
              format_bytes(stats.written()).c_str(), format_bytes(stats.read()).c_str(), ledger.table().c_str());
}

// kCreate: everything will be overwritten, so nothing is fetched. A new payload has no contents and needs it.
void fill(ChunkManager& manager, const std::vector<PayloadId>& payloads) {
  for (std::uint32_t owner = 0; owner < kPayloads; ++owner) {
    const LeaseSet lease = acquire(manager, {{payloads[owner], AccessMode::kCreate}});
    for (std::size_t word = 0; word < kWords; ++word) words(lease, 0)[word] = pattern(owner, word, 0);
  }  // the lease ends here: from now on the payload may leave memory
}

// kRead on one, kWrite on another: an operator's payloads come together or not at all. Only the written one becomes dirty; the
// other keeps its bytes on disk and is dropped without a write when room is needed.
void add_the_neighbour(ChunkManager& manager, const std::vector<PayloadId>& payloads) {
  for (std::uint32_t owner = 1; owner < kPayloads; owner += 2) {
    const LeaseSet lease = acquire(manager, {{payloads[owner - 1], AccessMode::kRead}, {payloads[owner], AccessMode::kWrite}});
    for (std::size_t word = 0; word < kWords; ++word) {
      words(lease, 1)[word] += words(lease, 0)[word] == pattern(owner - 1, word, 0) ? 1U : 2U;
    }
  }
}

std::size_t count_wrong(ChunkManager& manager, const std::vector<PayloadId>& payloads) {
  std::size_t wrong = 0;
  for (std::uint32_t owner = 0; owner < kPayloads; ++owner) {
    const LeaseSet lease = acquire(manager, {{payloads[owner], AccessMode::kRead}});
    for (std::size_t word = 0; word < kWords; ++word) {
      if (words(lease, 0)[word] != pattern(owner, word, owner % 2)) ++wrong;
    }
  }
  return wrong;
}

// More than the budget at once is an error that says who holds what. Nothing is lost and the manager goes on.
void ask_for_too_much(ChunkManager& manager, const std::vector<PayloadId>& payloads) {
  std::vector<Access> all;
  for (const PayloadId payload : payloads) all.push_back({payload, AccessMode::kRead});
  const auto refused = manager.acquire(all);
  if (refused.ok()) give_up("eight payloads cannot all be in memory at once");
  std::printf("all eight at once is refused: %s\n", refused.status().message().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  // What the manager uses must outlive it, so it is declared last.
  patrickstar::Ledger ledger(kBudget);
  patrickstar::MmapPages pages;
  const auto arena = value_of(patrickstar::Arena::create(&pages, &ledger, /*address_space=*/1 * kGiB));
  patrickstar::HostTier host(arena.get());

  const patrickstar::Disk disk = value_of(patrickstar::open_disk({.directory = argc > 1 ? argv[1] : "/var/tmp"}));
  check(disk.tier->reserve(kPayloads * kPayload));  // a full disk shows now, not in the middle of the work

  patrickstar::ThreadWaiter waiter;
  const patrickstar::SteadyClock clock;
  std::vector<patrickstar::Level> levels;  // the compute tier first
  levels.push_back({.tier = &host, .link_below = disk.link.get(), .policy = std::make_unique<patrickstar::Lru>()});
  levels.push_back({.tier = disk.tier.get()});
  ChunkManager manager({.levels = std::move(levels), .waiter = &waiter, .clock = &clock, .compute_ledger = &ledger});

  std::vector<PayloadId> payloads;
  for (std::uint32_t i = 0; i < kPayloads; ++i) {
    payloads.push_back(value_of(manager.add({.name = "payload " + std::to_string(i), .bytes = kPayload})));
  }
  std::printf("%u payloads of %s, a budget of %s, the rest through %s\n", kPayloads, format_bytes(kPayload).c_str(),
              format_bytes(kBudget).c_str(), disk.backend.c_str());

  fill(manager, payloads);
  print_traffic("after filling:", manager, ledger);
  add_the_neighbour(manager, payloads);
  print_traffic("after the additions:", manager, ledger);
  ask_for_too_much(manager, payloads);
  const std::size_t wrong = count_wrong(manager, payloads);
  print_traffic("after reading all back:", manager, ledger);

  check(manager.drain());  // the invariants hold at any moment; this only makes the figures final
  manager.check_invariants();
  const Bytes peak = ledger.peaks().total;
  std::printf("%zu wrong words; at most %s of memory were held\n", wrong, format_bytes(peak).c_str());
  return wrong == 0 && peak <= kBudget && manager.stats().evictions > 0 ? 0 : 1;
}
