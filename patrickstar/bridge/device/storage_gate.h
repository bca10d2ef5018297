// Arming: how a storage whose bytes lie in a chunk refuses accesses that do not go through an operator.
//
// An armed storage raises its text from every data_ptr accessor (numpy, tolist, save, through views too); an open one gives
// its bytes. The only file that reaches into c10::StorageImpl; tied to the LibTorch versions it was tried with.
// Not thread-safe: callers serialise per storage (operator_gate.h).
#pragma once

#include <c10/core/Allocator.h>

#include <string>

namespace c10 {
struct StorageImpl;
}

namespace patrickstar::bridge {

// Puts the storage under our control: frees its old memory and gives it a pointerless DataPtr with `context` and `deleter`,
// which runs when the storage dies. It is armed with `text` afterwards.
void take_over(c10::StorageImpl* storage, void* context, void (*deleter)(void*), const std::string& text);
// As take_over, but the old memory is the caller's from now on.
c10::DataPtr take_over_keeping(c10::StorageImpl* storage, void* context, void (*deleter)(void*), const std::string& text);
// The context of a storage taken over with `deleter`, else null. Costs a compare; any thread.
void* context_of(c10::StorageImpl* storage, void (*deleter)(void*));
// Gives the bytes at `address` to accessors. REQUIRES: taken over.
void open_at(c10::StorageImpl* storage, void* address);
// Accessors raise the text again. The address stays known, so that opening at the same place is cheap.
void arm(c10::StorageImpl* storage);
// Changes the text that an armed storage raises.
void set_text(c10::StorageImpl* storage, const std::string& text);
bool armed(const c10::StorageImpl* storage);

}  // namespace patrickstar::bridge
