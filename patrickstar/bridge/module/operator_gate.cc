#include "patrickstar/bridge/module/operator_gate.h"

#include <array>
#include <utility>

#include "patrickstar/bridge/device/storage_gate.h"

namespace patrickstar::bridge {

void managed_deleter(void* backing) { static_cast<StorageBacking*>(backing)->storage_died(); }

OpenStorages& OpenStorages::operator=(OpenStorages&& other) noexcept {
  close();
  gate_ = std::exchange(other.gate_, nullptr);
  requests_ = std::move(other.requests_);
  leases_ = std::move(other.leases_);
  return *this;
}

void OpenStorages::close() {
  if (gate_ != nullptr) std::exchange(gate_, nullptr)->close(this);
}

// The bytes are rebuilt without the lock, because that may wait for room; who comes second throws its own away.
Status OperatorGate::open_displaced(StorageBacking* backing) {
  {
    const std::lock_guard lock(mutex_);
    if (backing->displaced_ != nullptr) {
      ++backing->open_count_;
      return {};
    }
  }
  auto bytes = backing->rebuild();
  if (!bytes.ok()) return bytes.status();
  const std::lock_guard lock(mutex_);
  if (backing->displaced_ == nullptr) backing->displaced_ = std::move(bytes).value();
  show(backing, backing->displaced_->address());
  return {};
}

// REQUIRES: mutex_ held.
void OperatorGate::show(StorageBacking* backing, void* address) {
  if (backing->open_count_++ > 0) return;
  if (std::exchange(backing->shows_failure_, false)) set_text(backing->storage(), backing->armed_text());
  open_at(backing->storage(), address);
}

bool OperatorGate::displace(StorageBacking* backing, const std::function<bool()>& displaced) {
  const std::lock_guard lock(mutex_);
  if (backing->open_count_ > 0 || !displaced()) return false;
  backing->displaced_at_ = ++displacements_;
  return true;
}

bool OperatorGate::is_open(const StorageBacking* backing) const {
  const std::lock_guard lock(mutex_);
  return backing->open_count_ > 0;
}

Result<OpenStorages> OperatorGate::open(std::span<const OpenRequest> requests) {
  for (;;) {
    OpenStorages open;
    const auto opened = try_open(requests, &open);
    if (!opened.ok()) return opened.status();
    if (opened.value()) return open;
  }
}

Result<bool> OperatorGate::try_open(std::span<const OpenRequest> requests, OpenStorages* open) {
  const std::uint64_t displacements = displacements_.load();
  constexpr std::size_t kInline = 8;  // most operators have fewer managed inputs: no allocation for them
  std::array<Access, kInline> few;
  std::array<Bytes, kInline> few_offsets;
  std::vector<Access> many(requests.size() > kInline ? requests.size() : 0);
  std::vector<Bytes> many_offsets(many.size());
  const std::span<Access> accesses = many.empty() ? std::span<Access>(few) : std::span<Access>(many);
  const std::span<Bytes> offsets = many.empty() ? std::span<Bytes>(few_offsets) : std::span<Bytes>(many_offsets);
  constexpr Bytes kDisplaced = -1;
  std::size_t in_chunks = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto placement = requests[i].backing->locate();
    if (!placement.ok()) return placement.status();
    offsets[i] = placement.value().in_chunk() ? placement.value().offset : kDisplaced;
    if (placement.value().in_chunk()) accesses[in_chunks++] = {placement.value().payload, requests[i].mode};
  }
  if (in_chunks > 0) {
    auto leases = manager_->acquire(accesses.first(in_chunks));
    if (!leases.ok()) return leases.status();
    open->leases_ = std::move(leases).value();
  }
  open->gate_ = this;
  open->requests_.reserve(requests.size());
  if (in_chunks < requests.size()) {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (offsets[i] != kDisplaced) continue;
      PS_RETURN_IF_ERROR(open_displaced(requests[i].backing));
      open->requests_.push_back(requests[i]);
    }
  }
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (offsets[i] != kDisplaced && requests[i].backing->displaced_at_ > displacements) return false;
  }
  std::size_t lease = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (offsets[i] == kDisplaced) continue;
    show(requests[i].backing, open->leases_.address(lease++) + offsets[i]);
    open->requests_.push_back(requests[i]);
  }
  return true;
}

void OperatorGate::close(OpenStorages* open) {
  std::vector<std::unique_ptr<DisplacedBytes>> to_keep;
  std::vector<std::unique_ptr<DisplacedBytes>> to_drop;
  {
    const std::lock_guard lock(mutex_);
    for (const OpenRequest& request : open->requests_) {
      StorageBacking* backing = request.backing;
      if (backing->displaced_ != nullptr && request.mode != AccessMode::kRead) backing->displaced_written_ = true;
      if (--backing->open_count_ > 0) continue;
      arm(backing->storage());
      if (backing->displaced_ == nullptr) continue;
      (std::exchange(backing->displaced_written_, false) ? to_keep : to_drop).push_back(std::move(backing->displaced_));
    }
  }
  open->leases_.release();
  for (const OpenRequest& request : open->requests_) {
    if (request.mode != AccessMode::kRead) request.backing->written();
  }
  open->requests_.clear();
  for (auto& bytes : to_keep) {
    const Status status = bytes->keep();
    const std::lock_guard lock(mutex_);
    if (!status.ok() && latched_.ok()) latched_ = status;
  }
}

void OperatorGate::fail(std::span<const OpenRequest> requests, const Status& status) {
  const std::lock_guard lock(mutex_);
  if (latched_.ok()) latched_ = status;
  for (const OpenRequest& request : requests) {
    request.backing->shows_failure_ = true;
    set_text(request.backing->storage(), status.message());
  }
}

Status OperatorGate::latched() const {
  const std::lock_guard lock(mutex_);
  return latched_;
}

Status OperatorGate::take_latched() {
  const std::lock_guard lock(mutex_);
  return std::exchange(latched_, Status());
}

}  // namespace patrickstar::bridge
