// StorageBacking: what stands behind one storage whose bytes lie in chunk space.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "patrickstar/core/base/ids.h"
#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/mem/lease.h"

namespace c10 {
struct StorageImpl;
}

namespace patrickstar::bridge {

// Where a storage's bytes are to be found at the next access.
struct Placement {
  PayloadId payload;  // invalid: displaced, its place holds something else (a gradient)
  Bytes offset = 0;   // into the payload
  bool in_chunk() const { return payload.valid(); }
};

// The bytes of a displaced storage while it is open, and what to do with them afterwards.
class DisplacedBytes {
 public:
  virtual ~DisplacedBytes() = default;  // frees the bytes
  virtual void* address() = 0;
  virtual Status keep() = 0;  // the bytes were written: makes them the storage's contents
};

// Made and destroyed by the engine; the operator gate opens and closes it. `open_count` belongs to the gate.
class StorageBacking {
 public:
  explicit StorageBacking(c10::StorageImpl* storage) : storage_(storage) {}
  virtual ~StorageBacking() = default;

  c10::StorageImpl* storage() const { return storage_; }
  // Brings the bytes back to their place first if nothing else lies there.
  virtual Result<Placement> locate() = 0;
  // REQUIRES: locate() said displaced.
  virtual Result<std::unique_ptr<DisplacedBytes>> rebuild() = 0;
  // A write outside the optimizer has ended.
  virtual void written() = 0;
  // The text that an armed storage raises.
  virtual std::string armed_text() const = 0;
  // The storage is gone; `this` may be destroyed in the call.
  virtual void storage_died() = 0;

 private:
  friend class OperatorGate;
  c10::StorageImpl* const storage_;
  int open_count_ = 0;
  std::uint64_t displaced_at_ = 0;  // the gate's count of displacements then
  bool shows_failure_ = false;      // instead of armed_text()
  std::unique_ptr<DisplacedBytes> displaced_;
  bool displaced_written_ = false;
};

// The deleter by which a managed storage is told from others (design.md, decision 3); its context is the backing.
void managed_deleter(void* backing);

}  // namespace patrickstar::bridge
