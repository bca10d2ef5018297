#include "patrickstar/core/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace patrickstar {
namespace {

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = spdlog::stderr_color_mt("patrickstar");
    made->set_pattern("%n: %^%l%$: %v");
    return made;
  }();
  return *instance;
}

}  // namespace

void log_info(std::string_view line) { logger().info("{}", line); }
void log_warning(std::string_view line) { logger().warn("{}", line); }

}  // namespace patrickstar
