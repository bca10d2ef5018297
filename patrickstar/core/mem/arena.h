// Arena: the one pool of host memory, for chunk payloads and tensors alike (design.md, decision 6).
//
// A reserved range of address space in which blocks are split and coalesced; pages are committed when a block needs them and
// given back when the ledger needs them. A free block that keeps its pages is on the ledger's free account: it counts.
// So the arena never holds more than the budget, and memory that eviction frees serves activations without a system call.
//
// [Note: moved pages] What a step needs beside chunks comes and goes, and so do pages between tensors and chunks, hundreds a
// step. An idle page that is given back to be committed elsewhere would be zeroed by the kernel: 3 to 4 % of a step of
// gpt2-medium in a quarter or half of its model data. So its memory is moved to where it is needed, if the system can do that.
//
// Any thread. Never evicts and never calls back: who needs room asks the ChunkManager to make it and tries again.
//
// [Note: one pool] A free slot that keeps its pages frees nothing for the process, so chunks and activations cannot have a
// free list each. Virtual space is plentiful: a large block always finds a contiguous range, and what is wasted is at most
// the unused part of pages that a live block keeps.
//
// [Note: whole pages] What nothing else of its size fits into beside a live block is lost to the budget. So a chunk of whole
// pages (tiles, most parameter chunks) begins at a page, and a chunk that ends within a page lies among others like it, in a
// zone of their own, where they share pages: with both placed wherever they fit gpt2-medium had 90 MB in partly used pages.
// Both are preferences: where they cannot be met without eviction any place will do. A tensor among those chunks takes the lowest
// place that holds it, for it keeps its page when the chunks leave: a few in ten pages of fourteen left no room for one of 2 MiB.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "patrickstar/core/mem/ledger.h"
#include "patrickstar/core/mem/page_source.h"

namespace patrickstar {

class Arena {
 public:
  // Blocks are multiples of this and aligned to it.
  static constexpr Bytes kGranularity = 4096;

  struct Allocation {
    std::byte* address = nullptr;  // null: refused
    Bytes shortfall = 0;           // when the budget refused: bytes that must be freed at the least
    Status status;                 // not ok only when the operating system refused
  };

  // Half of `address_space` should be several times the budget ([Note: one pool]). The ledger and pages outlive the arena.
  // `most_moved_pages` hold memory that was moved there, at a time (PageSource::move).
  static Result<std::unique_ptr<Arena>> create(PageSource* pages, Ledger* ledger, Bytes address_space,
                                               std::int64_t most_moved_pages = 8192);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // At least `bytes`, on `account`. REQUIRES: bytes > 0.
  Allocation try_allocate(Bytes bytes, Account account);
  // REQUIRES: address came from try_allocate.
  void free(void* address);
  // Puts a live block on another account (a gradient that becomes model data where it stands).
  void reclassify(void* address, Account account);

  bool owns(const void* address) const { return address >= base_ && address < base_ + space_; }
  std::byte* base() const { return base_; }
  Bytes address_space() const { return space_; }
  Bytes block_bytes(const void* address) const;  // REQUIRES: a live block begins there
  // Bytes that must be freed before try_allocate(bytes, account) can work; 0 when it would work now.
  Bytes shortfall(Bytes bytes, Account account) const;
  // Gives wholly free pages back until that is at least `wanted` bytes. False: there were fewer, and all went.
  bool trim(Bytes wanted);
  // Checks every invariant of the structure; PS_CHECKs. For tests and checked builds.
  void check_invariants() const;

 private:
  // Blocks tile [0, space_). A free block is wholly committed or wholly not, no two free neighbours of a zone are alike, and
  // none reaches from one zone into the other.
  struct Block {
    Bytes size = 0;
    bool used = false;
    bool committed = false;
    Account account = Account::kFree;  // of a used block
  };
  using Blocks = std::map<Bytes, Block>;  // by offset
  struct Window {                         // where a block could go that needs pages
    Bytes begin = -1;
    Bytes missing = 0;  // bytes of pages to commit
  };

  struct Zone {
    Bytes begin = 0;
    Bytes end = 0;
    std::set<std::pair<Bytes, Bytes>> free_committed;  // (size, offset)
  };
  enum class Fit : std::uint8_t { kSmallestHole, kLowestHole };
  struct Wish {  // where a block should lie: [Note: whole pages]
    const Zone* zone;
    Bytes alignment;
    Fit fit = Fit::kSmallestHole;
  };
  struct Wishes {
    std::array<Wish, 3> wishes;
    std::size_t count = 0;
    const Wish* begin() const { return wishes.data(); }
    const Wish* end() const { return wishes.data() + count; }
  };

  Arena(PageSource* pages, Ledger* ledger, std::byte* base, Bytes space, std::int64_t most_moved_pages);
  const Zone& zone_at(Bytes offset) const { return zones_[offset < zones_[1].begin ? 0 : 1]; }
  Zone& zone_at(Bytes offset) { return zones_[offset < zones_[1].begin ? 0 : 1]; }
  // Where the block should lie, and where it may if that needs an eviction.
  Wishes wishes_for(Bytes bytes, Account account) const;
  // Offset in the committed free block of the zone that holds `bytes` and is the smallest or lowest; < 0: there is none.
  static Bytes best_fit(const Wish& wish, Bytes bytes);
  Bytes missing_in(Bytes begin, Bytes end) const;
  Window cheapest_window(const Wish& wish, Bytes bytes) const;
  Bytes idle_bytes_outside(Bytes begin, Bytes end) const;
  bool trim_pages(Bytes wanted, Bytes keep_begin, Bytes keep_end);
  Bytes move_pages(Bytes wanted, Bytes begin, Bytes end);
  Status commit_window(Bytes begin, Bytes end);
  void note_uncommitted(Bytes page);
  void note_committed(Bytes begin, Bytes end);
  std::byte* take(Bytes begin, Bytes bytes, Account account);
  Blocks::iterator split(Blocks::iterator block, Bytes at);
  Blocks::iterator coalesce(Blocks::iterator block);
  void index(Blocks::iterator block);
  void unindex(Blocks::iterator block);
  void count_use(Bytes begin, Bytes end, int sign);

  PageSource* const pages_;
  Ledger* const ledger_;
  std::byte* const base_;
  const Bytes space_;
  const std::int64_t most_moved_pages_;
  mutable std::mutex mutex_;
  Blocks blocks_;
  std::unordered_map<Bytes, Blocks::iterator> live_;  // used blocks by offset
  std::array<Zone, 2> zones_;                         // the second: chunks that end within a page
  std::vector<bool> committed_;                       // per page
  std::vector<std::int32_t> used_in_page_;            // bytes of live blocks per page
  std::set<Bytes> idle_pages_;                        // offsets of committed pages with no live byte
  std::vector<bool> moved_;                           // per page: its memory was moved here, and not on
  std::int64_t moved_pages_ = 0;                      // of these
};

}  // namespace patrickstar
