#include "patrickstar/core/mem/arena.h"

#include <algorithm>

#include "patrickstar/core/base/check.h"

namespace patrickstar {

Result<std::unique_ptr<Arena>> Arena::create(PageSource* pages, Ledger* ledger, Bytes address_space,
                                             std::int64_t most_moved_pages) {
  const Bytes space = round_up(address_space, kPageBytes);
  auto base = pages->reserve(space);
  if (!base.ok()) return base.status();
  return std::unique_ptr<Arena>(new Arena(pages, ledger, base.value(), space, most_moved_pages));
}

Arena::Arena(PageSource* pages, Ledger* ledger, std::byte* base, Bytes space, std::int64_t most_moved_pages)
    : pages_(pages),
      ledger_(ledger),
      base_(base),
      space_(space),
      most_moved_pages_(most_moved_pages),
      committed_(static_cast<std::size_t>(space / kPageBytes), false),
      used_in_page_(static_cast<std::size_t>(space / kPageBytes), 0),
      moved_(static_cast<std::size_t>(space / kPageBytes), false) {
  const Bytes border = round_down(space / 2, kPageBytes);
  zones_[0].end = zones_[1].begin = border;
  zones_[1].end = space;
  if (border > 0) blocks_.emplace(0, Block{.size = border});
  blocks_.emplace(border, Block{.size = space - border});
}

Arena::~Arena() {
  trim(space_);
  pages_->unreserve(base_, space_);
}

void Arena::index(Blocks::iterator block) {
  if (!block->second.used && block->second.committed)
    zone_at(block->first).free_committed.emplace(block->second.size, block->first);
}

void Arena::unindex(Blocks::iterator block) {
  if (!block->second.used && block->second.committed)
    zone_at(block->first).free_committed.erase({block->second.size, block->first});
}

void Arena::count_use(Bytes begin, Bytes end, int sign) {
  for (Bytes page = begin / kPageBytes; page * kPageBytes < end; ++page) {
    const Bytes overlap = std::min(end, (page + 1) * kPageBytes) - std::max(begin, page * kPageBytes);
    auto& used = used_in_page_[static_cast<std::size_t>(page)];
    const bool was_idle = used == 0;
    used += sign * static_cast<std::int32_t>(overlap);
    if (used == 0) {
      idle_pages_.insert(page * kPageBytes);
    } else if (was_idle) {
      idle_pages_.erase(page * kPageBytes);
    }
  }
}

Arena::Blocks::iterator Arena::split(Blocks::iterator block, Bytes at) {
  PS_CHECK(at > block->first && at < block->first + block->second.size);
  unindex(block);
  Block upper = block->second;
  upper.size = block->first + block->second.size - at;
  block->second.size = at - block->first;
  const auto made = blocks_.emplace_hint(std::next(block), at, upper);
  index(block);
  index(made);
  return made;
}

Arena::Blocks::iterator Arena::coalesce(Blocks::iterator block) {
  const auto alike = [&](Blocks::iterator a, Blocks::iterator b) {
    return !a->second.used && !b->second.used && a->second.committed == b->second.committed && b->first != zones_[1].begin;
  };
  const auto swallow_next = [&](Blocks::iterator at) {
    const auto next = std::next(at);
    unindex(at);
    unindex(next);
    at->second.size += next->second.size;
    blocks_.erase(next);
    index(at);
  };
  if (const auto next = std::next(block); next != blocks_.end() && alike(block, next)) swallow_next(block);
  if (block != blocks_.begin()) {
    if (const auto previous = std::prev(block); alike(previous, block)) {
      swallow_next(previous);
      return previous;
    }
  }
  return block;
}

Bytes Arena::missing_in(Bytes begin, Bytes end) const {
  Bytes missing = 0;
  for (Bytes page = begin / kPageBytes; page * kPageBytes < end; ++page) {
    if (!committed_[static_cast<std::size_t>(page)]) missing += kPageBytes;
  }
  return missing;
}

Arena::Wishes Arena::wishes_for(Bytes bytes, Account account) const {
  const Wish first{&zones_[0], kGranularity};
  Wish second{&zones_[1], kGranularity};
  if (account != Account::kChunks) {
    second.fit = Fit::kLowestHole;
    return {{first, second}, 2};
  }
  if (bytes % kPageBytes == 0) return {{Wish{&zones_[0], kPageBytes}, first, second}, 3};
  return {{second, first}, 2};
}

Bytes Arena::best_fit(const Wish& wish, Bytes bytes) {
  const auto& blocks = wish.zone->free_committed;
  Bytes lowest = -1;
  for (auto block = blocks.lower_bound({bytes, 0}); block != blocks.end(); ++block) {
    const Bytes at = round_up(block->second, wish.alignment);  // fits in any block that is a page longer
    if (at + bytes > block->second + block->first) continue;
    if (wish.fit == Fit::kSmallestHole) return at;
    if (lowest < 0 || at < lowest) lowest = at;
  }
  return lowest;
}

// The free range of `bytes` in the zone that needs the fewest new pages; the lowest of equals. Candidates begin at the start
// of a free block or end at the end of one, as far as the alignment allows: between those nothing changes for the better.
Arena::Window Arena::cheapest_window(const Wish& wish, Bytes bytes) const {
  const Zone& zone = *wish.zone;
  Window best;
  const auto consider = [&](Bytes begin) {
    const Bytes missing = missing_in(begin, begin + bytes);
    if (best.begin < 0 || missing < best.missing) best = {begin, missing};
  };
  const auto last = blocks_.lower_bound(zone.end);
  for (auto at = blocks_.lower_bound(zone.begin); at != last;) {
    if (at->second.used) {
      ++at;
      continue;
    }
    const auto first = at;
    while (at != last && !at->second.used) ++at;
    const Bytes run_begin = first->first;
    const Bytes run_end = at == last ? zone.end : at->first;
    if (run_end - run_begin < bytes) continue;
    for (auto block = first; block != at; ++block) {
      const Bytes begin = round_up(block->first, wish.alignment);
      if (begin + bytes <= run_end) consider(begin);
      const Bytes end = round_down(block->first + block->second.size, wish.alignment);
      if (end - bytes >= run_begin) consider(end - bytes);
    }
  }
  return best;
}

Bytes Arena::idle_bytes_outside(Bytes begin, Bytes end) const {
  const Bytes first = round_down(begin, kPageBytes);
  const auto inside = std::distance(idle_pages_.lower_bound(first), idle_pages_.lower_bound(end));
  return (static_cast<Bytes>(idle_pages_.size()) - inside) * kPageBytes;
}

// Gives back at least `wanted` bytes of idle pages that do not touch [keep_begin, keep_end). False when there are too few.
bool Arena::trim_pages(Bytes wanted, Bytes keep_begin, Bytes keep_end) {
  Bytes freed = 0;
  for (auto at = idle_pages_.rbegin(); freed < wanted && at != idle_pages_.rend();) {
    const Bytes page = *at;
    // A page that the system does not take back stays charged.
    if ((page + kPageBytes > keep_begin && page < keep_end) || !pages_->decommit(base_ + page, kPageBytes).ok()) {
      ++at;
      continue;
    }
    note_uncommitted(page);
    ledger_->release(Account::kFree, kPageBytes);
    at = decltype(at)(idle_pages_.erase(std::next(at).base()));
    freed += kPageBytes;
  }
  return freed >= wanted;
}

// An idle page is none any more.
void Arena::note_uncommitted(Bytes page) {
  auto block = std::prev(blocks_.upper_bound(page));
  if (block->first < page) block = split(block, page);
  if (block->second.size > kPageBytes) split(block, page + kPageBytes);
  unindex(block);
  block->second.committed = false;
  coalesce(block);
  committed_[static_cast<std::size_t>(page / kPageBytes)] = false;
}

// Moves memory of idle pages elsewhere to those that [begin, end) lacks, `wanted` bytes of it or as much as goes; that is
// returned.
Bytes Arena::move_pages(Bytes wanted, Bytes begin, Bytes end) {
  Bytes moved = 0;
  auto idle = idle_pages_.rbegin();
  for (Bytes page = round_down(begin, kPageBytes); page < end && moved < wanted; page += kPageBytes) {
    if (committed_[static_cast<std::size_t>(page / kPageBytes)]) continue;
    // At the most there may be, only what does not add to them: from or to a page that is one already.
    const bool any = moved_pages_ < most_moved_pages_ || moved_[static_cast<std::size_t>(page / kPageBytes)];
    const auto fits = [&](Bytes at) {
      return (at + kPageBytes <= begin || at >= end) && (any || moved_[static_cast<std::size_t>(at / kPageBytes)]);
    };
    while (idle != idle_pages_.rend() && !fits(*idle)) ++idle;
    if (idle == idle_pages_.rend() || !pages_->move(base_ + *idle, base_ + page).ok()) break;
    const Bytes from = *idle;
    note_uncommitted(from);
    idle_pages_.erase(from);
    note_committed(page, page + kPageBytes);
    idle = idle_pages_.rbegin();
    for (const auto& [at, is_here] : {std::pair(from, false), std::pair(page, true)}) {
      auto flag = moved_[static_cast<std::size_t>(at / kPageBytes)];
      moved_pages_ += static_cast<int>(is_here) - static_cast<int>(static_cast<bool>(flag));
      flag = is_here;
    }
    moved += kPageBytes;
  }
  return moved;
}

Status Arena::commit_window(Bytes begin, Bytes end) {
  for (Bytes page = round_down(begin, kPageBytes); page < end;) {
    if (committed_[static_cast<std::size_t>(page / kPageBytes)]) {
      page += kPageBytes;
      continue;
    }
    Bytes stop = page;  // one system call for a run of pages
    while (stop < end && !committed_[static_cast<std::size_t>(stop / kPageBytes)]) stop += kPageBytes;
    if (Status status = pages_->commit(base_ + page, stop - page); !status.ok()) return status;
    note_committed(page, stop);
    page = stop;
  }
  return {};
}

// These pages of a free range are committed and idle.
void Arena::note_committed(Bytes begin, Bytes end) {
  auto block = std::prev(blocks_.upper_bound(begin));
  if (block->first < begin) block = split(block, begin);
  if (block->first + block->second.size > end) split(block, end);
  PS_CHECK(!block->second.used && !block->second.committed);
  block->second.committed = true;
  index(block);
  coalesce(block);
  for (Bytes page = begin; page < end; page += kPageBytes) {
    committed_[static_cast<std::size_t>(page / kPageBytes)] = true;
    idle_pages_.insert(page);
  }
}

// REQUIRES: [begin, begin + bytes) lies in one free committed block.
std::byte* Arena::take(Bytes begin, Bytes bytes, Account account) {
  auto block = std::prev(blocks_.upper_bound(begin));
  if (block->first < begin) block = split(block, begin);
  if (block->second.size > bytes) split(block, begin + bytes);
  unindex(block);
  block->second.used = true;
  block->second.account = account;
  live_.emplace(begin, block);
  count_use(begin, begin + bytes, +1);
  ledger_->move(Account::kFree, account, bytes);
  return base_ + begin;
}

Arena::Allocation Arena::try_allocate(Bytes wanted, Account account) {
  PS_CHECK(wanted > 0);
  const Bytes bytes = round_up(wanted, kGranularity);
  const std::lock_guard lock(mutex_);
  Allocation refused{.status =
                         Status(StatusCode::kOutOfRoom, "[arena] no contiguous address space left; this needs an issue report")};
  for (const Wish& wish : wishes_for(bytes, account)) {
    if (const Bytes fit = best_fit(wish, bytes); fit >= 0) return {.address = take(fit, bytes, account)};
    Window window = cheapest_window(wish, bytes);
    if (window.begin < 0) continue;
    const Bytes end = window.begin + bytes;
    if (!ledger_->try_charge(Account::kFree, window.missing)) {
      const Bytes lacking = window.missing - ledger_->room();
      const Bytes idle = idle_bytes_outside(window.begin, end);
      const bool enough = idle >= lacking;
      if (enough) {
        const Bytes moved = move_pages(lacking, window.begin, end);
        window.missing -= moved;
        if (moved < lacking) trim_pages(lacking - moved, window.begin, end);
      }
      if (!enough || !ledger_->try_charge(Account::kFree, window.missing)) {  // or somebody was faster
        const Bytes shortfall = enough ? window.missing : lacking - idle;
        refused = {.shortfall = refused.status.ok() ? std::min(refused.shortfall, shortfall) : shortfall};
        continue;
      }
    }
    if (Status status = commit_window(window.begin, end); !status.ok()) {
      ledger_->release(Account::kFree, missing_in(window.begin, end));
      return {.status = std::move(status)};
    }
    return {.address = take(window.begin, bytes, account)};
  }
  return refused;
}

void Arena::free(void* address) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(static_cast<std::byte*>(address) - base_);
  PS_CHECK(found != live_.end());
  const auto block = found->second;
  live_.erase(found);
  const Bytes begin = block->first;
  const Bytes bytes = block->second.size;
  ledger_->move(block->second.account, Account::kFree, bytes);
  block->second.used = false;
  block->second.account = Account::kFree;
  index(block);
  count_use(begin, begin + bytes, -1);
  coalesce(block);
}

void Arena::reclassify(void* address, Account account) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(static_cast<std::byte*>(address) - base_);
  PS_CHECK(found != live_.end());
  Block& block = found->second->second;
  ledger_->move(block.account, account, block.size);
  block.account = account;
}

Bytes Arena::block_bytes(const void* address) const {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(static_cast<const std::byte*>(address) - base_);
  PS_CHECK(found != live_.end());
  return found->second->second.size;
}

Bytes Arena::shortfall(Bytes wanted, Account account) const {
  const Bytes bytes = round_up(wanted, kGranularity);
  const std::lock_guard lock(mutex_);
  Bytes least = INT64_MAX;
  for (const Wish& wish : wishes_for(bytes, account)) {
    if (best_fit(wish, bytes) >= 0) return 0;
    const Window window = cheapest_window(wish, bytes);
    if (window.begin < 0) continue;
    const Bytes lacking = window.missing - ledger_->room() - idle_bytes_outside(window.begin, window.begin + bytes);
    least = std::min(least, std::max<Bytes>(0, lacking));
  }
  return least < INT64_MAX ? least : bytes;
}

bool Arena::trim(Bytes wanted) {
  const std::lock_guard lock(mutex_);
  return trim_pages(wanted, -1, -1);
}

void Arena::check_invariants() const {
  const std::lock_guard lock(mutex_);
  Bytes at = 0;
  Bytes committed_free = 0;
  std::size_t indexed = 0;
  std::vector<Bytes> used(used_in_page_.size(), 0);
  const Block* previous = nullptr;
  for (const auto& [offset, block] : blocks_) {
    PS_CHECK(offset == at && block.size > 0);
    PS_CHECK(offset >= zones_[1].begin || offset + block.size <= zones_[0].end);
    if (previous != nullptr && offset != zones_[1].begin && !previous->used && !block.used) {
      PS_CHECK(previous->committed != block.committed);
    }
    PS_CHECK(block.used || missing_in(offset, offset + block.size) == (block.committed ? 0 : round_up(block.size, kPageBytes)));
    if (block.used) {
      PS_CHECK(live_.contains(offset) && missing_in(offset, offset + block.size) == 0);
      for (Bytes b = offset; b < offset + block.size; b += kGranularity)
        used[static_cast<std::size_t>(b / kPageBytes)] += kGranularity;
    } else if (block.committed) {
      committed_free += block.size;
      ++indexed;
      PS_CHECK(zone_at(offset).free_committed.contains({block.size, offset}));
    }
    at += block.size;
    previous = &block;
  }
  PS_CHECK(at == space_ && indexed == zones_[0].free_committed.size() + zones_[1].free_committed.size());
  PS_CHECK(committed_free == ledger_->in(Account::kFree));
  PS_CHECK(moved_pages_ == std::count(moved_.begin(), moved_.end(), true) && moved_pages_ <= most_moved_pages_);
  for (std::size_t page = 0; page < used.size(); ++page) {
    PS_CHECK(used[page] == used_in_page_[page]);
    PS_CHECK(idle_pages_.contains(static_cast<Bytes>(page) * kPageBytes) == (committed_[page] && used[page] == 0));
  }
}

}  // namespace patrickstar
