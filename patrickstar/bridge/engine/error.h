// The one exception type of the bridge: a core Status on its way to the user.
#pragma once

#include <stdexcept>

#include "patrickstar/core/base/status.h"

namespace patrickstar::bridge {

class Error : public std::runtime_error {
 public:
  explicit Error(const Status& status) : std::runtime_error(status.message()), code_(status.code()) {}
  StatusCode code() const { return code_; }

 private:
  StatusCode code_;
};

inline void throw_if_error(const Status& status) {
  if (!status.ok()) throw Error(status);
}

template <class T>
T value_or_throw(Result<T> result) {
  throw_if_error(result.status());
  return std::move(result).value();
}

}  // namespace patrickstar::bridge
