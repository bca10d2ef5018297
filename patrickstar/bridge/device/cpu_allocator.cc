#include "patrickstar/bridge/device/cpu_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <mutex>

#include "patrickstar/bridge/device/memory_pool.h"

namespace patrickstar::bridge {
namespace {

std::atomic<MemoryPool*> active_pool{nullptr};
std::atomic<std::int64_t> refused{0};

void free_block(void* address) {
  if (address != nullptr) MemoryPool::owner_of(address)->free(address);
}

// raw_deallocate does not say which allocator a block came from: ask LibTorch's own about what no pool of ours holds.
class PooledCpuAllocator final : public c10::Allocator {
 public:
  explicit PooledCpuAllocator(c10::Allocator* fallback) : fallback_(fallback) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    MemoryPool* pool = active_pool.load(std::memory_order_acquire);
    if (pool == nullptr) return fallback_->allocate(bytes);
    if (bytes == 0) return {nullptr, nullptr, &free_block, c10::Device(c10::DeviceType::CPU)};
    const auto block = pool->allocate(static_cast<Bytes>(bytes));
    if (!block.ok()) {
      refused.fetch_add(1);
      TORCH_CHECK_WITH(OutOfMemoryError, false, block.status().message());
    }
    return {block.value(), block.value(), &free_block, c10::Device(c10::DeviceType::CPU)};
  }
  // Blocks made while no pool is active are LibTorch's, but raw pointers are only made and freed within a Runtime's life.
  c10::DeleterFnPtr raw_deleter() const override {
    return active_pool.load(std::memory_order_acquire) != nullptr ? &free_block : fallback_->raw_deleter();
  }
  void copy_data(void* dest, const void* src, std::size_t count) const override { default_copy_data(dest, src, count); }

 private:
  c10::Allocator* const fallback_;
};

std::atomic<bool> installed{false};

}  // namespace

void use_pool(MemoryPool* pool) {
  static std::once_flag once;
  if (pool != nullptr) {
    std::call_once(once, [] {
      static PooledCpuAllocator allocator(c10::GetCPUAllocator());
      c10::SetCPUAllocator(&allocator, /*priority=*/1);
      installed.store(true);
    });
  }
  active_pool.store(pool, std::memory_order_release);
}

bool is_ours(const c10::DataPtr& pointer) { return pointer.get_deleter() == &free_block; }

bool allocator_installed() { return installed.load(); }

std::int64_t refused_allocations() { return refused.load(); }

}  // namespace patrickstar::bridge
