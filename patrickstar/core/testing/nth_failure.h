// NthFailure: counts calls at one site and lets a chosen one fail. The doubles inject faults with it.
#pragma once

#include <cstdint>

namespace patrickstar {

// Not thread-safe: the double that holds it locks.
class NthFailure {
 public:
  // The n-th call from now on fails, once; 1 is the next.
  void arm(std::int64_t nth) { due_ = calls_ + nth; }
  void disarm() { due_ = 0; }
  // One call. True: it is to fail.
  bool hit() {
    if (++calls_ != due_) return false;
    ++injected_;
    return true;
  }
  std::int64_t calls() const { return calls_; }
  std::int64_t injected() const { return injected_; }

 private:
  std::int64_t calls_ = 0;
  std::int64_t due_ = 0;
  std::int64_t injected_ = 0;
};

}  // namespace patrickstar
