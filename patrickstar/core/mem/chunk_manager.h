// ChunkManager: the only object that changes residency.
//
// It keeps a table of copies with validity: a payload may have a valid copy on several tiers, and one that is the only valid
// one is dirty. acquire() brings all payloads of an operator to the compute tier together or none, evicting others; reading
// never dirties, and a clean copy whose bytes stand elsewhere is dropped without a write.
//
// Any method from any thread. One mutex; it is never held while waiting, and tiers, links and policies are called with it held
// but never call back. Waiting for a transfer is always allowed; waiting for another thread's lease only while some holder is
// not itself waiting, else kDeadlock or kOutOfRoom with the holders (design.md, decision 5). docs/design.md numbers the
// invariants; check_invariants() checks them all.
//
// Every tier between the compute tier and the bottom needs room for two of the largest payloads: one on its way up while
// another is on its way down.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "patrickstar/core/base/clock.h"
#include "patrickstar/core/base/log.h"
#include "patrickstar/core/mem/lease.h"
#include "patrickstar/core/mem/ledger.h"
#include "patrickstar/core/mem/link.h"
#include "patrickstar/core/mem/manager_stats.h"
#include "patrickstar/core/mem/payload.h"
#include "patrickstar/core/mem/payload_report.h"
#include "patrickstar/core/mem/wait_board.h"
#include "patrickstar/core/mem/waiter.h"
#include "patrickstar/core/obs/event.h"
#include "patrickstar/core/policy/eviction_policy.h"
#include "patrickstar/core/policy/schedule.h"

namespace patrickstar {

// A tier as the manager sees it. All pointers outlive the manager.
struct Level {
  Tier* tier = nullptr;
  Link* link_below = nullptr;              // to the next level; null at the bottom
  std::unique_ptr<EvictionPolicy> policy;  // null at the bottom, where nothing is evicted
};

struct ChunkManagerOptions {
  std::vector<Level> levels;  // compute tier first; 1 to kMaxLevels
  Waiter* waiter = nullptr;
  const Clock* clock = nullptr;
  Ledger* compute_ledger = nullptr;  // told of pinned bytes, asked for non-model bytes; may be null
  // What the schedule wants is started until so much is on its way: more would keep write-backs, and whoever comes to wait,
  // behind it in the link's queue.
  Bytes prefetch_depth = 48 * kMiB;
  Schedule* schedule = nullptr;  // outlives the manager; may be null: nothing is brought before it is asked for
  EventSink* events = nullptr;   // may be null
  // A wait for one thing for so long is told, once: who waits for what, and what is under way. The first bytes of a disk that
  // sleeps may take some seconds.
  Nanos warn_after = 10'000'000'000;
  std::function<void(std::string_view)> warn = log_warning;  // any thread, with no lock held
  // A wait in which nothing at all happens for so long ends with kTimedOut and the same text.
  Nanos time_out = 120'000'000'000;
};

class ChunkManager final : public TransferSink {
 public:
  explicit ChunkManager(ChunkManagerOptions options);
  ~ChunkManager() override;  // waits for transfers under way. REQUIRES: no lease is held.

  // A new payload without contents. On the bottom tier its slot is taken at once, so that eviction never lacks one.
  // Errors: kOutOfRoom of the bottom tier; then nothing was added.
  Result<PayloadId> add(PayloadSpec spec);
  // Forgets a payload and frees its copies. REQUIRES: not leased.
  void remove(PayloadId payload);
  // The contents are dead from now on: copies are freed without a write, those that a transfer reads or writes when it is done,
  // one that is leased when its last lease ends (unless who holds one creates new contents there). Waits for nothing.
  void discard(PayloadId payload);

  // Brings all payloads to the compute tier and pins them, or changes nothing. A payload may be named twice.
  // Errors: kOutOfRoom (nothing more can give way), kDeadlock, kIoError (names payload and file), kTimedOut,
  // kInvalidArgument (a read of a payload that has no contents).
  Result<LeaseSet> acquire(std::span<const Access> accesses, QueueId queue = kCpuQueue);
  // One payload to be written in part: kWrite, or kCreate if it has no contents when its turn to be brought comes. Of several
  // threads that fill parts of a new payload only the first creates it. Errors: as acquire.
  Result<LeaseSet> acquire_or_create(PayloadId payload, QueueId queue = kCpuQueue);
  // Starts to bring a payload up if there is room without evicting. True: it is there or on its way.
  bool prefetch(PayloadId payload);
  // Starts to let a payload go from the compute tier if no lease holds it. True: it is gone or leaving.
  bool give_up(PayloadId payload);
  // Frees at least `bytes` on the compute tier by evicting. For allocations of non-model data. Errors: as acquire.
  Status make_room(Bytes bytes);
  // Waits until no transfer is under way.
  Status drain();
  // A training step ended: the schedule is told.
  void step_done();
  // Runs `read` with the lock held under which the schedule is called: for readings of it. It must call nothing back.
  void read_schedule(const std::function<void()>& read) const;

  bool has_evicted() const;                // ever, from the compute tier
  bool resident(PayloadId payload) const;  // a valid copy on the compute tier
  bool has_contents(PayloadId payload) const;
  std::string name_of(PayloadId payload) const;
  Bytes bytes_of(PayloadId payload) const;
  ManagerStats stats() const;
  std::vector<PayloadReport> report() const;  // of the payloads there are; a scan, so not in a step
  void check_invariants() const;              // PS_CHECKs

  void transfer_done(const Transfer& transfer, Status status) override;  // for links

 private:
  friend class LeaseSet;
  class RoomSeeker;
  class WaitScope;
  using Lock = std::unique_lock<std::mutex>;
  // The acquire that may hold some of its payloads and lack others: one at a time, so that no two can each hold what the
  // other lacks.
  struct Gathering {
    std::span<const Access> accesses;
    std::uint32_t thread = 0;
    bool blocked = false;  // waits for a lease, and nothing happened since
    PayloadId bringing;    // the one on its way up: its copies beneath stay
  };

  Payload& at(PayloadId payload) { return payloads_[payload.index()]; }
  const Payload& at(PayloadId payload) const { return payloads_[payload.index()]; }
  int bottom() const { return static_cast<int>(levels_.size()) - 1; }
  static int nearest_valid(const Payload& payload);

  // acquire
  bool ready_now(const Payload& payload, AccessMode mode) const;
  void grant(std::span<const Access> accesses, QueueId queue, LeaseSet* leases);
  bool gathered(std::span<const Access> accesses) const;
  Status gather(Lock& lock, std::span<const Access> accesses);
  Status bring_all(Lock& lock, std::span<const Access> accesses);
  static bool has_contents(const Payload& payload) { return !payload.discarded && nearest_valid(payload) >= 0; }
  Status begin_gathering(Lock& lock, std::span<const Access> accesses);
  void let_go_of_gathered();
  void set_bringing(PayloadId id);
  Status bring_up(Lock& lock, std::span<const Access> accesses);
  Status start_hop_up(Lock& lock, PayloadId id, Urgency urgency);
  void release(LeaseSet* leases);
  void pin(PayloadId id);
  void unpin(PayloadId id);

  // room
  Result<Place> take_place(int level, Bytes bytes);
  Result<Place> allocate(Lock& lock, int level, Bytes bytes);
  Status make_room(Lock& lock, int level, Bytes bytes);
  Status evict(Lock& lock, int level, PayloadId id);
  bool is_only_copy(PayloadId id, int level) const;
  void let_go(int level, PayloadId id, Place below);
  void let_go_if_done(PayloadId id);
  bool let_go_unwaited(PayloadId id);
  bool let_surplus_go();
  void pump();
  bool start_prefetch(PayloadId id);
  MomentFacts facts();
  void give_back(int level, Place place, Bytes bytes);
  Status wait(Lock& lock, const WaitFor& what);
  void begin_waiting(std::uint32_t thread, const WaitFor& what);
  void end_waiting();
  bool tell_if_long(Lock& lock, std::uint32_t thread);
  Status wait_for_lease(Lock& lock, const WaitFor& room);
  Status can_wait_for_lease(std::uint32_t thread) const;
  void progress();
  std::uint32_t holder_of_this_thread();
  std::string holders_text() const;
  std::string goal_text(std::uint32_t thread, const WaitFor& what, Nanos now) const;
  std::string waits_text(Nanos now) const;      // who waits for what
  std::string transfers_text(Nanos now) const;  // what is under way

  // copies and transfers
  void start_transfer(PayloadId id, int from, int to, Urgency urgency);
  void finish_up(PayloadId id, int from, int to, bool ok);
  void finish_down(PayloadId id, int from, int to, bool ok);
  void free_copy(PayloadId id, int level);
  void free_copies(PayloadId id);
  void free_dead_copies(PayloadId id);
  bool is_candidate(PayloadId id, int level) const;
  void update_candidate(PayloadId id, int level);
  void emit(EventKind kind, PayloadId id, int level, std::string_view why = {});
  void emit_wait(EventKind kind, std::uint32_t thread);
  void emit_readings();
  void set_ahead(PayloadId id);
  void clear_ahead(Payload* payload);
  void note_resident(Payload* payload);
  void note_gone(Payload* payload);

  std::vector<Level> levels_;
  Waiter* const waiter_;
  const Clock* const clock_;
  Ledger* const compute_ledger_;
  EventSink* const events_;
  Schedule* const schedule_;
  const Bytes prefetch_depth_;
  const Nanos warn_after_;
  const std::function<void(std::string_view)> warn_;
  const Nanos time_out_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Payload> payloads_;
  std::unordered_map<PayloadId, Status> failures_;  // of the last fetch of a payload, until the next succeeds
  std::int64_t transfers_under_way_ = 0;
  std::uint64_t next_transfer_ = 1;
  std::array<Bytes, kMaxLevels> leaving_bytes_{};
  Bytes prefetching_bytes_ = 0;                  // on their way up because the schedule or prefetch() wanted it
  Bytes compute_bytes_ = 0;                      // that copies take on the compute tier
  Nanos last_moment_ = 0;                        // when it was granted, and
  Nanos stalled_at_last_moment_ = 0;             // what stats_.stalled was then
  std::array<Bytes, kMaxLevels> freed_bytes_{};  // ever
  std::int64_t failed_write_backs_ = 0;          // ever
  Status last_write_back_failure_;
  bool write_back_failed_ = false;  // since the last grant
  std::optional<Gathering> gathering_;
  std::vector<std::int32_t> held_;   // leases by thread
  std::int64_t leases_ = 0;          // all
  std::uint64_t epoch_ = 0;          // [Note: who waits for whom]
  std::uint64_t releases_ = 0;       // of leases, ever
  std::int64_t blocked_leases_ = 0;  // of threads that are blocked in this epoch
  int waiting_ = 0;                  // threads in wait()
  WaitBoard waits_;                  // what they wait for
  int room_seekers_ = 0;             // threads in make_room()
  ManagerStats stats_;
  Bytes moving_bytes_ = 0;           // of transfers under way
  Bytes ahead_bytes_ = 0;            // of payloads that are `ahead`
  std::array<Bytes, 5> readings_{};  // as last told
};

}  // namespace patrickstar
