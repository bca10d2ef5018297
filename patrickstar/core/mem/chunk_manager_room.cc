// ChunkManager: room. chunk_manager.cc lists the other files.
#include <algorithm>

#include "patrickstar/core/mem/chunk_manager.h"
#include "patrickstar/core/mem/chunk_manager_scope.h"

namespace patrickstar {

Status ChunkManager::make_room(Bytes bytes) {
  Lock lock(mutex_);
  const WaitScope scope(this);
  return make_room(lock, 0, bytes);
}

Result<Place> ChunkManager::take_place(int level, Bytes bytes) {
  auto place = levels_[static_cast<std::size_t>(level)].tier->allocate(bytes);
  if (place.ok() && level == 0) compute_bytes_ += bytes;
  return place;
}

Result<Place> ChunkManager::allocate(Lock& lock, int level, Bytes bytes) {
  Tier* tier = levels_[static_cast<std::size_t>(level)].tier;
  for (;;) {
    auto place = take_place(level, bytes);
    if (place.ok() || place.status().code() != StatusCode::kOutOfRoom) return place;
    const Bytes lacking = std::max<Bytes>(tier->shortfall(bytes), kPayloadAlignment);
    const Status room = make_room(lock, level, lacking);
    if (room.ok()) continue;
    place = take_place(level, bytes);  // who is not the manager may have freed some: a tensor of the same pool
    if (!place.ok()) return room;
    return place;
  }
}

// While someone makes room nobody else takes it ahead of need.
class ChunkManager::RoomSeeker {
 public:
  explicit RoomSeeker(ChunkManager* manager) : manager_(manager) { ++manager_->room_seekers_; }
  ~RoomSeeker() { --manager_->room_seekers_; }
  RoomSeeker(const RoomSeeker&) = delete;
  RoomSeeker& operator=(const RoomSeeker&) = delete;

 private:
  ChunkManager* const manager_;
};

// Returns when `bytes` were freed on the level since the call, or fewer if no more can be: the caller tries again and comes back.
Status ChunkManager::make_room(Lock& lock, int level, Bytes bytes) {
  const RoomSeeker seeker(this);
  const bool gathers = gathering_ && gathering_->thread == holder_of_this_thread();
  const WaitFor room{
      .cause = WaitCause::kRoom, .payload = gathers ? gathering_->bringing : PayloadId(), .level = level, .bytes = bytes};
  const auto l = static_cast<std::size_t>(level);
  const Bytes freed_before = freed_bytes_[l];
  const std::int64_t failed_before = failed_write_backs_;
  for (;;) {
    const Bytes freed = freed_bytes_[l] - freed_before;
    if (freed >= bytes) return {};
    if (levels_[l].policy == nullptr)
      return Status(StatusCode::kOutOfRoom, "[memory] nothing lies beneath to give way to: " + holders_text());
    if (failed_write_backs_ != failed_before) return last_write_back_failure_;
    if (freed + leaving_bytes_[l] < bytes) {
      if (const auto victim = levels_[l].policy->victim()) {
        PS_RETURN_IF_ERROR(evict(lock, level, *victim));
        continue;
      }
      if (freed > 0) return {};
    }
    PS_RETURN_IF_ERROR(transfers_under_way_ > 0 ? wait(lock, room) : wait_for_lease(lock, room));
  }
}

bool ChunkManager::is_only_copy(PayloadId id, int level) const {
  for (int other = 0; other <= bottom(); ++other) {
    if (other != level && at(id).copies[static_cast<std::size_t>(other)].state == CopyState::kValid) return false;
  }
  return true;
}

// REQUIRES: `id` is a candidate on `level`.
Status ChunkManager::evict(Lock& lock, int level, PayloadId id) {
  Place below;
  if (is_only_copy(id, level) && level + 1 < bottom()) {
    const Bytes bytes = at(id).spec.bytes;
    auto place = allocate(lock, level + 1, bytes);
    if (!place.ok()) return place.status().with_context("no room to write back " + at(id).spec.name);
    if (!at(id).copies[static_cast<std::size_t>(level)].tracked || !is_only_copy(id, level)) {  // changed while we made room
      give_back(level + 1, place.value(), bytes);
      return {};
    }
    below = place.value();
  }
  if (level == 0) emit(EventKind::kForced, id, 0);
  if (level == 0 && schedule_ != nullptr) schedule_->evicted(id);
  let_go(level, id, below);
  return {};
}

// `below`: the place for a dirty copy on a middle tier. REQUIRES: `id` is a candidate on `level`.
void ChunkManager::let_go(int level, PayloadId id, Place below) {
  if (level == 0) {
    ++stats_.evictions;
    ++at(id).counts.evictions;
  }
  if (!is_only_copy(id, level)) return free_copy(id, level);
  const int to = level + 1;
  if (to < bottom()) at(id).copies[static_cast<std::size_t>(to)].place = below;
  at(id).copies[static_cast<std::size_t>(level)].leaving = true;
  leaving_bytes_[static_cast<std::size_t>(level)] += at(id).spec.bytes;
  start_transfer(id, level, to, Urgency::kWriteBack);
}

}  // namespace patrickstar
