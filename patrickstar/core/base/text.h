// Sizes as people write and read them.
#pragma once

#include <string>
#include <string_view>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

// "1.50 GiB", "12.0 MiB", "512 B".
std::string format_bytes(Bytes bytes);
// "12.3 s".
std::string seconds_text(Nanos time);

// Reads "1.5GiB", "800 MiB", "2GB", "4096", "64k": binary units with an i or alone (KiB = k = 1024), decimal with a B
// (KB = 1000). Case does not matter. Error: kInvalidArgument that quotes the text.
Result<Bytes> parse_bytes(std::string_view text);

}  // namespace patrickstar
