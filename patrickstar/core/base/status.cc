#include "patrickstar/core/base/status.h"

namespace patrickstar {

const char* status_code_name(StatusCode code) {
  switch (code) {
    case StatusCode::kOk: return "ok";
    case StatusCode::kInvalidArgument: return "invalid argument";
    case StatusCode::kOutOfRoom: return "out of room";
    case StatusCode::kDeadlock: return "deadlock";
    case StatusCode::kIoError: return "I/O error";
    case StatusCode::kTimedOut: return "timed out";
    case StatusCode::kUnavailable: return "unavailable";
  }
  return "unknown";
}

Status Status::with_context(const std::string& context) const {
  if (ok()) return *this;
  return Status(code_, context + ": " + message_);
}

}  // namespace patrickstar
