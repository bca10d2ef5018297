// AllOrders: runs a scenario once for every way in which its choices can fall.
//
//   AllOrders orders;
//   do { Scenario s; while (s.pending() > 0) s.complete(orders.pick(s.pending())); check(s); } while (orders.next());
#pragma once

#include <cstddef>
#include <vector>

#include "patrickstar/core/base/check.h"

namespace patrickstar {

class AllOrders {
 public:
  // One of [0, count), each in its turn. REQUIRES: count > 0; the same run asks for the same counts after the same picks.
  std::size_t pick(std::size_t count) {
    PS_CHECK(count > 0);
    if (at_ == choices_.size()) choices_.push_back({0, count});
    PS_CHECK(choices_[at_].count == count);
    return choices_[at_++].taken;
  }
  // To the next run. False: there is none.
  bool next() {
    PS_CHECK(at_ == choices_.size());
    at_ = 0;
    ++runs_;
    while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().count) choices_.pop_back();
    if (choices_.empty()) return false;
    ++choices_.back().taken;
    return true;
  }
  std::size_t runs() const { return runs_; }  // that ended

 private:
  struct Choice {
    std::size_t taken;
    std::size_t count;
  };
  std::vector<Choice> choices_;
  std::size_t at_ = 0;
  std::size_t runs_ = 0;
};

}  // namespace patrickstar
