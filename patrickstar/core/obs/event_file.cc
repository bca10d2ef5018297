#include "patrickstar/core/obs/event_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "patrickstar/core/base/log.h"

namespace patrickstar {
namespace {

constexpr std::size_t kTogether = std::size_t{64} << 10;

}  // namespace

EventFile::EventFile(std::FILE* file, std::string path) : file_(file), path_(std::move(path)) {
  std::setvbuf(file_, nullptr, _IONBF, 0);  // `pending_` is the buffer: stdio's would be written in the middle of a piece
  pending_.reserve(2 * kTogether);
}

Result<std::unique_ptr<EventFile>> EventFile::open(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) {
    return Status(StatusCode::kIoError, fmt::format("[events] cannot write {}: {}", path, std::strerror(errno)));
  }
  return std::unique_ptr<EventFile>(new EventFile(file, path));
}

EventFile::~EventFile() {
  flush();
  if (file_ != nullptr) std::fclose(file_);
}

void EventFile::append(std::string_view piece) {
  pending_ += piece;
  if (pending_.size() >= kTogether) flush();
}

void EventFile::flush() {
  if (file_ != nullptr && std::fwrite(pending_.data(), 1, pending_.size(), file_) != pending_.size()) {
    log_warning(fmt::format("[events] {} ends here, the rest is lost: {}", path_, std::strerror(errno)));
    std::fclose(std::exchange(file_, nullptr));
  }
  pending_.clear();
}

std::string json_quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace patrickstar
