#include "patrickstar/bridge/device/tensor_counter.h"

#include <ATen/core/Tensor.h>

#include "patrickstar/bridge/device/cpu_allocator.h"
#include "patrickstar/bridge/device/memory_pool.h"
#include "patrickstar/bridge/engine/error.h"

namespace patrickstar::bridge {

TensorCounter::TensorCounter() : pool_(value_or_throw(MemoryPool::create(Bytes{1} << 42))) { use_pool(pool_); }

TensorCounter::~TensorCounter() {
  use_pool(nullptr);
  pool_->retire();
}

void TensorCounter::mark_model_data(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.has_storage()) return;
  void* block = tensor.storage().unsafeGetStorageImpl()->_mutable_data_ptr_no_checks().get();
  if (block != nullptr && is_ours(tensor.storage().data_ptr())) pool_->reclassify(block, Account::kChunks);
}

LedgerPeaks TensorCounter::peaks() const { return pool_->ledger().peaks(); }

Bytes TensorCounter::take_non_model_peak() { return pool_->ledger().take_non_model_peak(); }

}  // namespace patrickstar::bridge
