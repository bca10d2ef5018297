// Status and Result<T>: how the core reports what can be expected to go wrong. The core never throws.
//
// A message names the part, the ids and byte counts, and what to do: "[disk] write of chunk 7 to /spill failed: No space
// left on device; give --spill-dir a directory with 3.2 GiB free". Broken invariants are PS_CHECK (check.h), not Status.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "patrickstar/core/base/check.h"

namespace patrickstar {

enum class StatusCode {
  kOk,
  kInvalidArgument,  // the caller's input cannot work; trying again changes nothing
  kOutOfRoom,        // a tier's budget has no room and nothing more can be evicted
  kDeadlock,         // waiting could never end: every holder of a lease waits itself
  kIoError,          // the operating system refused or a transfer failed
  kTimedOut,         // a wait's time-out passed
  kUnavailable,      // a feature this machine or kernel does not have
};

const char* status_code_name(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) { PS_CHECK(code != StatusCode::kOk); }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // Same code, message "<context>: <message>". An ok status stays ok.
  Status with_context(const std::string& context) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// A value or the reason why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                                    // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) { PS_CHECK(!status_.ok()); }  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  // REQUIRES: ok()
  T& value() & {
    PS_CHECK(ok());
    return *value_;
  }
  const T& value() const& {
    PS_CHECK(ok());
    return *value_;
  }
  T&& value() && {
    PS_CHECK(ok());
    return std::move(*value_);
  }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace patrickstar

#define PS_RETURN_IF_ERROR(expr)                                                        \
  do {                                                                                  \
    if (::patrickstar::Status ps_status_ = (expr); !ps_status_.ok()) return ps_status_; \
  } while (false)
