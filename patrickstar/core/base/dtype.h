// Element types of chunks.
#pragma once

#include <cstdint>

#include "patrickstar/core/base/units.h"

namespace patrickstar {

enum class DType : std::uint8_t { kBFloat16, kFloat32 };

constexpr Bytes dtype_bytes(DType dtype) { return dtype == DType::kBFloat16 ? 2 : 4; }
constexpr const char* dtype_name(DType dtype) { return dtype == DType::kBFloat16 ? "bf16" : "fp32"; }

}  // namespace patrickstar
