#include "patrickstar/bridge/device/storage_gate.h"

#include <c10/core/Device.h>
#include <c10/core/StorageImpl.h>
#include <torch/headeronly/version.h>

namespace patrickstar::bridge {
namespace {

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 11 && TORCH_VERSION_MINOR <= 15,
              "StorageImpl's private flags were tried with LibTorch 2.11 to 2.15: run storage_gate_test and widen this");

// Explicit instantiation may name a private member; the friend hands it out ([temp.spec.general]/6).
template <class Tag, typename Tag::type Member>
struct Reach {
  friend constexpr typename Tag::type get(Tag) { return Member; }
};
struct ThrowFlag {
  using type = bool c10::StorageImpl::*;
  friend constexpr type get(ThrowFlag);
};
struct CheckFlag {
  using type = bool c10::StorageImpl::*;
  friend constexpr type get(CheckFlag);
};
template struct Reach<ThrowFlag, &c10::StorageImpl::throw_on_immutable_data_ptr_>;
template struct Reach<CheckFlag, &c10::StorageImpl::has_mutable_data_ptr_check_>;

void set_flags(c10::StorageImpl* storage, bool raise) {
  storage->*get(ThrowFlag{}) = raise;
  storage->*get(CheckFlag{}) = raise;
}

}  // namespace

void take_over(c10::StorageImpl* storage, void* context, void (*deleter)(void*), const std::string& text) {
  (void)take_over_keeping(storage, context, deleter, text);
}

c10::DataPtr take_over_keeping(c10::StorageImpl* storage, void* context, void (*deleter)(void*), const std::string& text) {
  c10::DataPtr old = std::move(storage->_mutable_data_ptr_no_checks());
  storage->get_extra_meta().custom_data_ptr_error_msg_ = text;
  storage->set_data_ptr_noswap(c10::DataPtr(nullptr, context, deleter, c10::Device(c10::DeviceType::CPU)));
  storage->set_resizable(false);
  set_flags(storage, true);
  return old;
}

void* context_of(c10::StorageImpl* storage, void (*deleter)(void*)) {
  c10::DataPtr& pointer = storage->_mutable_data_ptr_no_checks();
  return pointer.get_deleter() == deleter ? pointer.get_context() : nullptr;
}

void open_at(c10::StorageImpl* storage, void* address) {
  c10::DataPtr& pointer = storage->_mutable_data_ptr_no_checks();
  if (pointer.get() != address) {
    const auto deleter = pointer.get_deleter();
    void* context = pointer.release_context();
    pointer = c10::DataPtr(address, context, deleter, c10::Device(c10::DeviceType::CPU));
  }
  set_flags(storage, false);
}

void arm(c10::StorageImpl* storage) { set_flags(storage, true); }

void set_text(c10::StorageImpl* storage, const std::string& text) { storage->get_extra_meta().custom_data_ptr_error_msg_ = text; }

bool armed(const c10::StorageImpl* storage) { return storage->*get(ThrowFlag{}); }

}  // namespace patrickstar::bridge
