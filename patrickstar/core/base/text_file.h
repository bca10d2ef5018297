// Whole text files: reports, traces, layouts. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "patrickstar/core/base/status.h"

namespace patrickstar {

// Writes `text` beside `path` and renames it, so that whoever is killed meanwhile leaves the old file or the new one. What is
// there and no file (a pipe, a link such as /dev/stdout) is written as it is. Errors: kIoError "[part] cannot write <path>: why".
Status write_text_file(std::string_view part, const std::string& path, std::string_view text);
// Whether write_text_file would begin: to be told now and not after hours. Leaves nothing behind.
Status check_text_file(std::string_view part, const std::string& path);

}  // namespace patrickstar
