// UrgencyQueue: all demand before any prefetch before any write-back, each in order of arrival. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/mem/link.h"

namespace patrickstar {

template <class T>
class UrgencyQueue {
 public:
  void push(Urgency urgency, T item) { lane(urgency).push_back(std::move(item)); }

  bool empty() const {
    for (const auto& items : lanes_) {
      if (!items.empty()) return false;
    }
    return true;
  }
  // REQUIRES: not empty
  T& front() { return first().front(); }
  // REQUIRES: not empty
  T pop() {
    auto& items = first();
    T item = std::move(items.front());
    items.pop_front();
    return item;
  }

 private:
  std::deque<T>& lane(Urgency urgency) { return lanes_[static_cast<std::size_t>(urgency)]; }
  std::deque<T>& first() {
    for (auto& items : lanes_) {
      if (!items.empty()) return items;
    }
    PS_CHECK(!"the queue is empty");
    return lanes_[0];
  }

  std::array<std::deque<T>, 3> lanes_;  // by Urgency, the most urgent first
};

}  // namespace patrickstar
