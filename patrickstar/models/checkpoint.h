// checkpoint: activation checkpointing (Chen et al., arXiv 1604.06174) for C++.
//
// Forward runs the body without recording and keeps its input and the generators' states only; backward restores those, runs
// the body again with recording and goes on through it (a backward within the backward). Losses and gradients are bitwise
// those of calling the body directly, dropout included.
//
// Thread safety: as autograd's; the default generator is shared by the process, so two threads that draw from it at once are
// not reproducible, with or without this. Works with loss.backward(), not with autograd::grad or backward(inputs): those raise.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace patrickstar::models {

// What the tensors that the body captures (its parameters) need. An input that needs no gradient (a frozen embedding) tells
// nothing about them, and asking too much would send the backward through frozen layers.
enum class Captured : std::uint8_t { kTrainable, kFrozen };

// The body must compute the same from the same input and generator state; what it captures may be leaves (parameters), not
// intermediates that need gradients. Memory until backward: the input, and 5 KB of generator state.
at::Tensor checkpoint(std::function<at::Tensor(at::Tensor)> body, const at::Tensor& input,
                      Captured captured = Captured::kTrainable);

}  // namespace patrickstar::models
