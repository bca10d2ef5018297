// TensorCounter: counts the bytes of every CPU tensor of a plain run, model data apart from the rest.
//
// For baselines only. Tensors come from an arena like the Runtime's, without a limit; nothing is moved. One at a time, and none
// beside a Runtime. Thread-safe.
#pragma once

#include "patrickstar/core/mem/ledger.h"

namespace at {
class Tensor;
}

namespace patrickstar::bridge {

class MemoryPool;

class TensorCounter {
 public:
  TensorCounter();
  ~TensorCounter();
  TensorCounter(const TensorCounter&) = delete;
  TensorCounter& operator=(const TensorCounter&) = delete;

  // The tensor's memory is model data from now on, until it is freed. Undefined tensors and memory from before are ignored.
  void mark_model_data(const at::Tensor& tensor);
  LedgerPeaks peaks() const;
  // The most bytes that were not marked since this was last asked.
  Bytes take_non_model_peak();

 private:
  MemoryPool* pool_;
};

}  // namespace patrickstar::bridge
