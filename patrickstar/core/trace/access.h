// What an access is: which payload, and what is done to its bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "patrickstar/core/base/ids.h"

namespace patrickstar {

// kState: a tile, that is a slice of the optimizer state (master, exp_avg, exp_avg_sq side by side).
enum class PayloadKind : std::uint8_t { kParam, kGrad, kState };
inline constexpr std::size_t kPayloadKinds = 3;
const char* payload_kind_name(PayloadKind kind);

// kRead never dirties. kWrite reads and writes. kCreate overwrites everything: what the payload held is not fetched.
enum class AccessMode : std::uint8_t { kRead, kWrite, kCreate };

struct Access {
  PayloadId payload;
  AccessMode mode = AccessMode::kRead;
};

}  // namespace patrickstar
