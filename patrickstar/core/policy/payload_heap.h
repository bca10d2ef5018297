// PayloadHeap: payloads by key, the greatest first, each with one key that may change: what policies keep candidates in.
//
// A heap of four children a node in one vector, with each payload's place in it: no allocation per operation and few cache
// lines, unlike a tree of nodes. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/ids.h"

namespace patrickstar {

template <class Key>
class PayloadHeap {
 public:
  bool empty() const { return entries_.empty(); }
  std::size_t size() const { return entries_.size(); }
  bool contains(PayloadId payload) const { return payload.index() < place_.size() && place_[payload.index()] != kNowhere; }
  // Of equal keys the greater id. REQUIRES: not empty.
  PayloadId top() const { return entries_.front().second; }

  // O(log size), and O(1) for a key that is less than most. REQUIRES: not there.
  void insert(PayloadId payload, const Key& key) {
    if (place_.size() <= payload.index()) place_.resize(payload.index() + 1, kNowhere);
    PS_CHECK(place_[payload.index()] == kNowhere);
    entries_.emplace_back(key, payload);
    rise(entries_.size() - 1);
  }
  // O(log size). REQUIRES: there.
  void erase(PayloadId payload) {
    PS_CHECK(contains(payload));
    const std::size_t at = std::exchange(place_[payload.index()], kNowhere);
    const Entry last = entries_.back();
    entries_.pop_back();
    if (at == entries_.size()) return;
    put(at, last);
    settle(at);
  }
  // O(log size). REQUIRES: there.
  void change(PayloadId payload, const Key& key) {
    PS_CHECK(contains(payload));
    entries_[place_[payload.index()]].first = key;
    settle(place_[payload.index()]);
  }
  void clear() {
    for (const Entry& entry : entries_) place_[entry.second.index()] = kNowhere;
    entries_.clear();
  }
  // Entries that were looked at or moved, ever: what an operation costs, for tests that must not ask a clock.
  std::int64_t steps() const { return steps_; }

 private:
  using Entry = std::pair<Key, PayloadId>;
  static constexpr std::uint32_t kNowhere = UINT32_MAX;
  static constexpr std::size_t kChildren = 4;

  void put(std::size_t at, const Entry& entry) {
    ++steps_;
    entries_[at] = entry;
    place_[entry.second.index()] = static_cast<std::uint32_t>(at);
  }
  void rise(std::size_t at) {
    const Entry entry = entries_[at];
    while (at > 0) {
      const std::size_t parent = (at - 1) / kChildren;
      if (!(entries_[parent] < entry)) break;
      put(at, entries_[parent]);
      at = parent;
    }
    put(at, entry);
  }
  void sink(std::size_t at) {
    const Entry entry = entries_[at];
    for (std::size_t first = kChildren * at + 1; first < entries_.size(); first = kChildren * at + 1) {
      const std::size_t end = std::min(first + kChildren, entries_.size());
      std::size_t child = first;
      for (std::size_t i = first + 1; i < end; ++i) {
        if (entries_[child] < entries_[i]) child = i;
      }
      steps_ += static_cast<std::int64_t>(end - first);
      if (!(entry < entries_[child])) break;
      put(at, entries_[child]);
      at = child;
    }
    put(at, entry);
  }
  // The entry at `at` may be greater or less than it should be there.
  void settle(std::size_t at) {
    if (at > 0 && entries_[(at - 1) / kChildren] < entries_[at]) {
      rise(at);
    } else {
      sink(at);
    }
  }

  std::vector<Entry> entries_;
  std::vector<std::uint32_t> place_;  // by payload
  std::int64_t steps_ = 0;
};

}  // namespace patrickstar
