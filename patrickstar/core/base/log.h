// One line to the person at the terminal (stderr, by spdlog). Any thread. Not for the hot path.
#pragma once

#include <string_view>

namespace patrickstar {

void log_info(std::string_view line);
void log_warning(std::string_view line);

}  // namespace patrickstar
