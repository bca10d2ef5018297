#include "patrickstar/core/base/text.h"

#include <fmt/format.h>

#include <cctype>
#include <cmath>
#include <cstdlib>

namespace patrickstar {

std::string format_bytes(Bytes bytes) {
  const double value = static_cast<double>(bytes);
  if (std::abs(bytes) >= kGiB) return fmt::format("{:.2f} GiB", value / static_cast<double>(kGiB));
  if (std::abs(bytes) >= kMiB) return fmt::format("{:.1f} MiB", value / static_cast<double>(kMiB));
  if (std::abs(bytes) >= kKiB) return fmt::format("{:.1f} KiB", value / static_cast<double>(kKiB));
  return fmt::format("{} B", bytes);
}

std::string seconds_text(Nanos time) { return fmt::format("{:.1f} s", static_cast<double>(time) * 1e-9); }

Result<Bytes> parse_bytes(std::string_view text) {
  const auto bad = [&] {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("\"{}\" is not a size; write it like 1.5GiB, 800MiB or 2000000000", text));
  };
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  if (end == copy.c_str() || !std::isfinite(value) || value < 0 || !std::isdigit(static_cast<unsigned char>(copy[0])))
    return bad();
  std::string unit;
  for (const char* c = end; *c != '\0'; ++c) {
    if (!std::isspace(static_cast<unsigned char>(*c))) unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  }
  double scale = 1;
  if (!unit.empty() && unit != "b") {
    const std::string_view prefixes = "kmgt";
    const auto power = prefixes.find(unit[0]);
    const std::string rest = unit.substr(1);
    if (power == std::string_view::npos || (!rest.empty() && rest != "b" && rest != "ib" && rest != "i")) return bad();
    scale = std::pow(rest == "b" ? 1000.0 : 1024.0, static_cast<double>(power) + 1);
  }
  const double bytes = value * scale;
  if (bytes > 9.0e18) return bad();
  return static_cast<Bytes>(bytes);
}

}  // namespace patrickstar
