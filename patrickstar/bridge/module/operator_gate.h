// OperatorGate: opens all managed storages of one operator together and closes them after it.
//
// Any thread. A storage may be open several times (nested operators, several threads): it is armed again when the last one
// closes. A parameter's value leaves its place only while it is not open (displace()). Failures leave every storage of the
// operator armed with the failure's text until it is opened again, and the first is latched until somebody takes it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "patrickstar/bridge/module/storage_backing.h"
#include "patrickstar/core/mem/chunk_manager.h"

namespace patrickstar::bridge {

struct OpenRequest {
  StorageBacking* backing = nullptr;
  AccessMode mode = AccessMode::kRead;  // never kCreate
};

class OperatorGate;

// Open storages of one operator; closes them when destroyed.
class OpenStorages {
 public:
  OpenStorages() = default;
  OpenStorages(OpenStorages&& other) noexcept { *this = std::move(other); }
  OpenStorages& operator=(OpenStorages&& other) noexcept;
  ~OpenStorages() { close(); }
  void close();

 private:
  friend class OperatorGate;
  OperatorGate* gate_ = nullptr;
  std::vector<OpenRequest> requests_;
  LeaseSet leases_;
};

class OperatorGate {
 public:
  explicit OperatorGate(ChunkManager* manager) : manager_(manager) {}  // outlives the gate

  // Errors: as ChunkManager::acquire; then all of them stay armed.
  Result<OpenStorages> open(std::span<const OpenRequest> requests);
  // If the storage is open nowhere, calls `displaced`: true from it says that the backing's locate() says displaced from now on.
  // Then an open() that located it before and has not shown it yet locates again. `displaced` must call nothing back. False:
  // nothing was done.
  bool displace(StorageBacking* backing, const std::function<bool()>& displaced);
  bool is_open(const StorageBacking* backing) const;
  // Puts the failure's text on each storage and remembers the first failure.
  void fail(std::span<const OpenRequest> requests, const Status& status);
  // The first failure since the last take_latched(); ok if there was none.
  Status latched() const;
  // The same, told once: nothing is latched afterwards.
  Status take_latched();

 private:
  friend class OpenStorages;
  void close(OpenStorages* open);
  // False: one of them was displaced after it was located; all are to be closed.
  Result<bool> try_open(std::span<const OpenRequest> requests, OpenStorages* open);
  Status open_displaced(StorageBacking* backing);
  static void show(StorageBacking* backing, void* address);

  ChunkManager* const manager_;
  mutable std::mutex mutex_;  // open counts, armed states, latched_
  Status latched_;
  std::atomic<std::uint64_t> displacements_ = 0;  // ever
};

}  // namespace patrickstar::bridge
