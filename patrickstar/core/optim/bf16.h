// bfloat16 (the upper half of an IEEE binary32) in scalar code: the definition that every vector path must match bit by bit.
#pragma once

#include <bit>
#include <cstdint>

namespace patrickstar {

// The only NaNs that optim/ ever writes. Which operand's payload a NaN result carries depends on the order of operands in the
// instruction, which compilers choose; one fixed NaN keeps results the same everywhere.
inline constexpr std::uint32_t kCanonicalNaN32 = 0x7fc00000u;
inline constexpr std::uint16_t kCanonicalNaN16 = 0x7fc0u;

// Round to nearest, ties to even. Overflow gives infinity, denormals are kept, every NaN becomes kCanonicalNaN16 (as
// c10::BFloat16 does).
constexpr std::uint16_t float_to_bf16_rne(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (bits & 0x7fffffffu) > 0x7f800000u ? kCanonicalNaN16 : static_cast<std::uint16_t>(rounded);
}

// Exact: every bf16 is an fp32.
constexpr float bf16_to_float(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

}  // namespace patrickstar
