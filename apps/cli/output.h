// What every subcommand writes the same way: its error line and its JSON.
#pragma once

#include <string>

namespace patrickstar::cli {

// One line on stderr, "patrickstar: error: " and the first line of `text` (LibTorch adds its stack to it). Returns `code`.
int fail(int code, const std::string& text);

// A JSON document as the text of a file. A path may hold bytes that are not UTF-8, which JSON cannot: they become U+FFFD, so that
// nobody loses a summary over them.
template <class Json>
std::string json_text(const Json& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace patrickstar::cli
