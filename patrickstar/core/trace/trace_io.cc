#include "patrickstar/core/trace/trace_io.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <string_view>

#include "patrickstar/core/base/text_file.h"

namespace patrickstar {
namespace {

constexpr std::string_view kFirstLine = "patrickstar-trace 1";
constexpr std::string_view kKinds = "pgs";                                      // by PayloadKind
constexpr std::string_view kModes = "rwc";                                      // by AccessMode
constexpr std::string_view kTraining = "tf";                                    // by Training
constexpr std::string_view kGradients[] = {"in-parameter", "own-chunks"};       // by GradientPlacement
constexpr std::string_view kUpdates[] = {"at-step", "deferred", "overlapped"};  // by UpdateTiming
constexpr std::string_view kDTypes[] = {"bf16", "fp32"};                        // by DType
constexpr Elems kMostElems = Elems{1} << 56;                                    // of a tensor

// --- writing ----------------------------------------------------------------------------------------------------------------

Status check_limits(const Trace& trace) {
  const auto refuse = [](std::string text) { return Status(StatusCode::kInvalidArgument, "[trace] " + std::move(text)); };
  Bytes payloads = 0;
  for (std::size_t i = 0; i < trace.payloads.size(); ++i) {
    const Bytes bytes = trace.payloads[i].bytes;
    if (bytes < 0 || bytes > kMaxTraceBytes - payloads) return refuse(fmt::format("payload {}: {} bytes is too much", i, bytes));
    payloads += bytes;
  }
  Nanos compute = 0;
  std::size_t next = 0;
  for (std::size_t i = 0; i < trace.moments.size(); ++i) {
    const Moment& moment = trace.moments[i];
    if (moment.first != next) return refuse(fmt::format("moment {}: its accesses do not follow those of the one before", i));
    next += moment.count;
    if (next > trace.accesses.size()) return refuse(fmt::format("moment {}: its accesses are not there", i));
    if (moment.non_model < 0 || moment.non_model > kMaxTraceBytes) return refuse(fmt::format("moment {}: non-model bytes", i));
    if (moment.compute < 0 || moment.compute > kMaxTraceNanos - compute) return refuse(fmt::format("moment {}: compute", i));
    compute += moment.compute;
  }
  if (next != trace.accesses.size()) return refuse("accesses that belong to no moment");
  for (const Access& access : trace.accesses) {
    if (access.payload.index() >= trace.payloads.size() || trace.bytes_of(access.payload) == 0)
      return refuse(fmt::format("an access names payload {}, which is none", access.payload.value));
  }
  if (!trace.model.tensors.empty() && (trace.model.tile_elems < 1 || trace.model.tile_elems > kMostElems))
    return refuse("the most elements of a tile");
  for (const TracedTensor& tensor : trace.model.tensors) {
    const bool there = tensor.param.index() < trace.payloads.size() && trace.bytes_of(tensor.param) > 0;
    const bool short_name = !tensor.spec.name.empty() && tensor.spec.name.find('\n') == std::string::npos;
    if (!there || !short_name || tensor.spec.elems < 1 || tensor.spec.elems > kMostElems)
      return refuse(fmt::format("tensor \"{}\": its name, length or payload", tensor.spec.name));
  }
  return {};
}

std::string text_of(const Trace& trace) {
  std::string text(kFirstLine);
  auto out = std::back_inserter(text);
  text += "\npayloads\n";
  for (const TracedPayload& payload : trace.payloads) {
    if (payload.bytes == 0) {
      text += "-\n";
    } else {
      fmt::format_to(out, "{} {}\n", kKinds[static_cast<std::size_t>(payload.kind)], payload.bytes);
    }
  }
  if (const TracedModel& model = trace.model; !model.tensors.empty()) {
    fmt::format_to(out, "tensors {} {} {} {}\n", kDTypes[static_cast<std::size_t>(model.scheme.dtype)],
                   kGradients[static_cast<std::size_t>(model.scheme.gradients)],
                   kUpdates[static_cast<std::size_t>(model.updates)], model.tile_elems);
    for (const TracedTensor& tensor : model.tensors) {
      fmt::format_to(out, "{} {} {} {} {}\n", kTraining[static_cast<std::size_t>(tensor.spec.training)], tensor.group,
                     tensor.param.value, tensor.spec.elems, tensor.spec.name);
    }
  }
  text += "moments\n";
  Bytes before = 0;
  for (std::size_t i = 0; i < trace.moments.size(); ++i) {
    const Bytes change = trace.moments[i].non_model - before;
    before = trace.moments[i].non_model;
    fmt::format_to(out, "{} {}{}", trace.moments[i].compute, change > 0 ? "+" : "", change);
    for (const Access& access : trace.at(i)) {
      fmt::format_to(out, " {}{}", kModes[static_cast<std::size_t>(access.mode)], access.payload.value);
    }
    text += '\n';
  }
  fmt::format_to(out, "end {} {} {}\n", trace.payloads.size(), trace.moments.size(), trace.accesses.size());
  return text;
}

// --- reading ----------------------------------------------------------------------------------------------------------------

// Takes what stands before the next space, and the space. A second space leaves an empty word, which nothing accepts.
std::string_view take_word(std::string_view* rest) {
  const std::size_t space = rest->find(' ');
  const std::string_view word = rest->substr(0, space);
  *rest = space == std::string_view::npos ? std::string_view() : rest->substr(space + 1);
  return word;
}

// Digits without leading zeros, at most `most`.
std::optional<std::int64_t> number(std::string_view word, std::int64_t most) {
  if (word.empty() || (word.size() > 1 && word[0] == '0') || word[0] == '-') return std::nullopt;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || value > most) return std::nullopt;
  return value;
}

// "0", "+5" or "-5".
std::optional<std::int64_t> signed_change(std::string_view word, std::int64_t most) {
  if (word == "0") return 0;
  if (word.size() < 2 || (word[0] != '+' && word[0] != '-') || word[1] == '0') return std::nullopt;
  const auto size = number(word.substr(1), most);
  if (!size) return std::nullopt;
  return word[0] == '-' ? -*size : *size;
}

template <std::size_t N>
std::optional<std::size_t> one_of(const std::string_view (&words)[N], std::string_view word) {
  for (std::size_t i = 0; i < N; ++i) {
    if (words[i] == word) return i;
  }
  return std::nullopt;
}

class Reader {
 public:
  explicit Reader(std::istream* in) : in_(in) {}

  // What is wrong with line(), or nothing.
  std::optional<std::string> read() {
    if (!next() || line_ != kFirstLine) return fmt::format("the first line must be \"{}\"", kFirstLine);
    if (!next() || line_ != "payloads") return "\"payloads\" must come here";
    while (next() && line_ != "moments" && !line_.starts_with("tensors")) {
      if (auto wrong = payload()) return wrong;
    }
    if (line_.starts_with("tensors")) {
      if (auto wrong = tensors()) return wrong;
    }
    if (line_ != "moments") return "the file ends before \"moments\"";
    while (next() && !line_.starts_with("end")) {
      if (auto wrong = moment()) return wrong;
    }
    const std::string end = fmt::format("end {} {} {}", trace_.payloads.size(), trace_.moments.size(), trace_.accesses.size());
    if (line_ != end) return fmt::format("\"{}\" (payloads, moments, accesses read so far) must come here", end);
    if (next()) return "nothing may follow the \"end\" line";
    return std::nullopt;
  }
  std::int64_t line() const { return number_; }
  Trace take() { return std::move(trace_); }

 private:
  // The next line that is no comment, without its newline; false at the end of the file. A last line without a newline is cut
  // short: it does not count.
  bool next() {
    do {
      ++number_;
      if (!std::getline(*in_, line_) || in_->eof()) {
        line_.clear();
        return false;
      }
    } while (number_ > 1 && line_.starts_with('#'));
    return true;
  }

  std::optional<std::string> payload() {
    TracedPayload read;
    if (line_ != "-") {
      std::string_view rest = line_;
      const std::string_view kind = take_word(&rest);
      const auto bytes = number(rest, kMaxTraceBytes - payload_bytes_);
      const std::size_t at = kind.size() == 1 ? kKinds.find(kind[0]) : std::string_view::npos;
      if (at == std::string_view::npos || !bytes || *bytes == 0)
        return "a payload is \"-\" or p, g or s and its bytes, 1 or more and at most 2^60 for all together";
      read = {.kind = static_cast<PayloadKind>(at), .bytes = *bytes};
      payload_bytes_ += *bytes;
    }
    if (trace_.payloads.size() == kMost) return "too many payloads";
    trace_.payloads.push_back(read);
    return std::nullopt;
  }

  std::optional<std::string> tensors() {
    std::string_view rest = line_;
    take_word(&rest);
    const auto dtype = one_of(kDTypes, take_word(&rest));
    const auto gradients = one_of(kGradients, take_word(&rest));
    const auto updates = one_of(kUpdates, take_word(&rest));
    const auto tile = number(rest, kMostElems);
    if (!line_.starts_with("tensors ") || !dtype || !gradients || !updates || !tile || *tile == 0)
      return "tensors have a dtype (bf16, fp32), gradients (in-parameter, own-chunks), updates (at-step, deferred, overlapped) "
             "and "
             "the most elements of a tile";
    TracedModel& model = trace_.model;
    model.scheme = {static_cast<DType>(*dtype), static_cast<GradientPlacement>(*gradients)};
    model.updates = static_cast<UpdateTiming>(*updates);
    model.tile_elems = *tile;
    while (next() && line_ != "moments") {
      if (auto wrong = tensor()) return wrong;
    }
    if (model.tensors.empty()) return "\"tensors\" without one";
    return std::nullopt;
  }

  std::optional<std::string> tensor() {
    std::string_view rest = line_;
    const std::string_view training = take_word(&rest);
    const auto group = number(take_word(&rest), kMost);
    const auto param = number(take_word(&rest), kMost);
    const auto elems = number(take_word(&rest), kMostElems);
    const std::size_t at = training.size() == 1 ? kTraining.find(training[0]) : std::string_view::npos;
    if (at == std::string_view::npos || !group || !param || !elems || *elems == 0 || rest.empty())
      return "a tensor is t or f, its group, its value's payload, its elements (1 or more) and its name";
    const PayloadId payload(static_cast<std::size_t>(*param));
    if (payload.index() >= trace_.payloads.size() || trace_.bytes_of(payload) == 0)
      return fmt::format("there is no payload {}", *param);
    trace_.model.tensors.push_back({.spec = {std::string(rest), *elems, static_cast<Training>(at)},
                                    .group = static_cast<std::uint32_t>(*group),
                                    .param = payload});
    return std::nullopt;
  }

  std::optional<std::string> moment() {
    std::string_view rest = line_;
    const auto compute = number(take_word(&rest), kMaxTraceNanos - compute_);
    if (!compute) return "a moment begins with its compute time in ns, 0 or more and at most 10^18 for all together";
    const bool more = line_.find(' ') != std::string::npos;
    const auto change = signed_change(take_word(&rest), kMaxTraceBytes);
    if (!more || !change || non_model_ + *change < 0 || non_model_ + *change > kMaxTraceBytes)
      return "a moment's second number is the change of non-model bytes: 0, +n or -n; the sum stays within 0 and 2^60";
    if (trace_.moments.size() == kMost) return "too many moments";
    compute_ += *compute;
    non_model_ += *change;
    Moment read{.first = static_cast<std::uint32_t>(trace_.accesses.size()), .non_model = non_model_, .compute = *compute};
    if (line_.ends_with(' ')) return "a space at the end of the line";
    while (!rest.empty()) {
      const std::string_view word = take_word(&rest);
      const std::size_t mode = word.empty() ? std::string_view::npos : kModes.find(word[0]);
      const auto id = mode == std::string_view::npos ? std::nullopt : number(word.substr(1), kMost);
      if (!id) return fmt::format("\"{}\" is no access: r, w or c and a payload's number", word.substr(0, 40));
      if (static_cast<std::size_t>(*id) >= trace_.payloads.size() || trace_.payloads[static_cast<std::size_t>(*id)].bytes == 0)
        return fmt::format("there is no payload {}", *id);
      if (trace_.accesses.size() == kMost) return "too many accesses";
      trace_.accesses.push_back({PayloadId(static_cast<std::size_t>(*id)), static_cast<AccessMode>(mode)});
      ++read.count;
    }
    trace_.moments.push_back(read);
    return std::nullopt;
  }

  static constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max() - 1;  // an id's last value means none

  std::istream* const in_;
  std::string line_;
  std::int64_t number_ = 0;
  Trace trace_;
  Bytes payload_bytes_ = 0;
  Bytes non_model_ = 0;
  Nanos compute_ = 0;
};

Status io_error(const char* what, const std::string& path) {
  return Status(StatusCode::kIoError, fmt::format("[trace] {} {} failed: {}", what, path, std::strerror(errno)));
}

}  // namespace

Status save_trace(const Trace& trace, const std::string& path) {
  PS_RETURN_IF_ERROR(check_limits(trace));
  return write_text_file("trace", path, text_of(trace));
}

Result<Trace> load_trace(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) return io_error("opening", path);
  Reader reader(&in);
  const auto wrong = reader.read();
  if (in.bad()) return io_error("reading", path);
  if (wrong) return Status(StatusCode::kInvalidArgument, fmt::format("[trace] {}:{}: {}", path, reader.line(), *wrong));
  return reader.take();
}

}  // namespace patrickstar
