// Strong ids: a chunk cannot be passed where a payload is meant.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace patrickstar {

template <class Tag>
struct Id {
  std::uint32_t value = UINT32_MAX;

  constexpr Id() = default;
  constexpr explicit Id(std::uint32_t v) : value(v) {}
  constexpr explicit Id(std::size_t v) : value(static_cast<std::uint32_t>(v)) {}
  constexpr bool valid() const { return value != UINT32_MAX; }
  constexpr std::size_t index() const { return value; }
  friend constexpr auto operator<=>(Id, Id) = default;
};

using TensorId = Id<struct TensorTag>;    // a tensor of the layout, in registration order
using ChunkId = Id<struct ChunkTag>;      // a run of elements that all kinds share
using PayloadId = Id<struct PayloadTag>;  // the bytes of one chunk of one kind, or of one tile: what moves
using QueueId = Id<struct QueueTag>;      // where work is done in order: the calling CPU thread, later a CUDA stream

inline constexpr QueueId kCpuQueue{std::uint32_t{0}};

}  // namespace patrickstar

template <class Tag>
struct std::hash<patrickstar::Id<Tag>> {
  std::size_t operator()(patrickstar::Id<Tag> id) const noexcept { return id.value; }
};
