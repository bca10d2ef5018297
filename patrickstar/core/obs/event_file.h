// EventFile: what file sinks share. Text goes to the file in whole pieces, so that a process that is killed leaves a file that
// ends after one. Not thread-safe.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "patrickstar/core/base/status.h"

namespace patrickstar {

class EventFile {
 public:
  // Error: kIoError that names the path.
  static Result<std::unique_ptr<EventFile>> open(const std::string& path);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // Keeps it until some 64 KiB are together. An error of the file is told once, by the log; from then on nothing is written:
  // what is observed goes on.
  void append(std::string_view piece);
  void flush();

 private:
  EventFile(std::FILE* file, std::string path);

  std::FILE* file_;  // null after an error
  const std::string path_;
  std::string pending_;
};

// A JSON string with its quotes.
std::string json_quoted(std::string_view text);

}  // namespace patrickstar
