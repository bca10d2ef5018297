// WaitBoard: which thread waits for what, and since when. The manager's notes for the day on which a wait takes too long.
// Not thread-safe: the manager's lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

enum class WaitCause : std::uint8_t {
  kTransfer,  // of `payload`
  kTurn,      // to gather
  kRoom,      // of `bytes` on `level`, for `payload` if it is valid: some transfer may free it
  kLease,     // the same, but only the end of a lease can free it
  kRest,      // no transfer under way
};
const char* wait_cause_name(WaitCause cause);  // as events have it

struct WaitFor {
  WaitCause cause = WaitCause::kRest;
  PayloadId payload;
  int level = 0;
  Bytes bytes = 0;

  // Whether a thread that waits for one and then for the other has not come further.
  bool same_goal(const WaitFor& other) const;
};

class WaitBoard {
 public:
  struct Wait {
    WaitFor what;
    bool active = false;
    bool told = false;      // a warning named it
    Nanos since = 0;        // it waits for this
    Nanos quiet_since = 0;  // nothing has happened
    std::uint64_t epoch = 0;
  };
  enum class Begun { kAnew, kStill };

  // `thread` waits for `what`, now; `epoch` counts what happens. kStill: it did so already.
  Begun begin(std::uint32_t thread, const WaitFor& what, Nanos now, std::uint64_t epoch);
  void end(std::uint32_t thread) { waits_[thread].active = false; }
  const Wait& of(std::uint32_t thread) const { return waits_[thread]; }
  // The calling thread is this one: it may wait from now on, and has its name at the system.
  void enter(std::uint32_t thread);
  bool knows(std::uint32_t thread) const { return thread < names_.size() && names_[thread][0] != '\0'; }
  // All that wait for `least` or longer count as told.
  void mark_told(Nanos now, Nanos least);
  std::vector<std::uint32_t> waiting() const;   // threads
  std::string who(std::uint32_t thread) const;  // "thread 3 (pt_autograd_0)"

 private:
  std::vector<Wait> waits_;                  // by thread
  std::vector<std::array<char, 16>> names_;  // likewise; empty: did not come here yet
};

}  // namespace patrickstar
