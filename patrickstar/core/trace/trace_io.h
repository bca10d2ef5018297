// A trace as a text file: docs/formats.md says what the lines mean. Recorded traces are kept with the tests and benchmarks, so
// the form is compact and easy to compare line by line. What load_trace accepts is what save_trace writes, but for comments.
#pragma once

#include <string>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

// The most that a file may say, so that no sum of a reader overflows.
inline constexpr Bytes kMaxTraceBytes = Bytes{1} << 60;             // all payloads together; non-model at any moment
inline constexpr Nanos kMaxTraceNanos = 1'000'000'000'000'000'000;  // compute of the whole step: some 31 years

// Errors: kIoError names the file and the cause; what was written until then has no "end" line, so it does not load.
// kInvalidArgument: the trace is beyond the limits above, or an access names a payload that is none.
Status save_trace(const Trace& trace, const std::string& path);

// Errors: kIoError; kInvalidArgument "[trace] <path>:<line>: ..." for the first line that is wrong. Takes memory in proportion
// to the file's length, whatever the file says.
Result<Trace> load_trace(const std::string& path);

}  // namespace patrickstar
