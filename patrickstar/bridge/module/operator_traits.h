// Which inputs of an operator need bytes, and which are written: from the schema's alias annotations, once per operator.
#pragma once

#include <cstdint>

namespace at {
struct RecordFunction;
}

namespace patrickstar::bridge {

enum class OperatorKind : std::uint8_t {
  kReadsBytes,  // acquire its inputs
  kNoBytes,     // a pure view, a factory (*_like), or a composite whose inner operators acquire for themselves
};

struct OperatorTraits {
  OperatorKind kind = OperatorKind::kReadsBytes;
  std::uint64_t written = 0;  // bit i: input i is written; inputs from 64 on count as written
  bool writes(std::size_t input) const { return input >= 64 || ((written >> input) & 1) != 0; }
};

// Cached by the schema, in the calling thread. Scopes that are no operators (user labels) need no bytes.
const OperatorTraits& operator_traits(const at::RecordFunction& function);

}  // namespace patrickstar::bridge
