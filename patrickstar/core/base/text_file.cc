#include "patrickstar/core/base/text_file.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace patrickstar {
namespace {

Status cannot(std::string_view part, const std::string& path, int error) {
  return Status(StatusCode::kIoError, fmt::format("[{}] cannot write {}: {}", part, path, std::strerror(error)));
}

bool put(const std::string& path, std::string_view text) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  const bool written = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return file != nullptr && std::fclose(file) == 0 && written;
}

// Where it is written first: the same path where a rename would replace something that is no file, links among it.
std::string beside(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) return path;
  return fmt::format("{}.{}", path, getpid());
}

}  // namespace

Status write_text_file(std::string_view part, const std::string& path, std::string_view text) {
  const std::string first = beside(path);
  if (put(first, text) && (first == path || std::rename(first.c_str(), path.c_str()) == 0)) return {};
  const int error = errno;
  if (first != path) unlink(first.c_str());
  return cannot(part, path, error);
}

Status check_text_file(std::string_view part, const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return cannot(part, path, EISDIR);
  const std::string first = beside(path);
  if (first == path) return access(path.c_str(), W_OK) == 0 || errno == ENOENT ? Status() : cannot(part, path, errno);
  if (!put(first, "")) return cannot(part, path, errno);
  unlink(first.c_str());
  return {};
}

}  // namespace patrickstar
