// Child: `patrickstar train` as a process of its own, which stops itself between steps (--pause-after) so that one process can
// measure several in turn. It dies with its parent, and is killed with this object. One thread.
#pragma once

#include <sys/types.h>

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "apps/cli/bench/run_record.h"
#include "patrickstar/core/base/status.h"
#include "patrickstar/core/io/transfer_replay.h"

namespace patrickstar::cli {

class Child {
 public:
  // Runs `program` with these; what it leaves goes to `prefix`.summary and the like. Errors: kUnavailable: no process.
  static Result<std::unique_ptr<Child>> start(const std::string& program, std::vector<std::string> arguments,
                                              const std::string& prefix);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  // Lets it run until it stops itself or ends, and reads its summary. While it says nothing new that is said, now and then; it is
  // not given up, for it does that itself. Errors: the last line that it said; it ended earlier.
  Result<RunRecord> run(const Patience& patience = {});
  std::string trace_path() const { return prefix_ + ".trace"; }
  std::string transfers_path() const { return prefix_ + ".transfers"; }

 private:
  Child(pid_t pid, std::string prefix) : pid_(pid), prefix_(std::move(prefix)) {}
  void watch(const std::stop_token& stop, const Patience& patience) const;
  std::string last_words() const;

  const pid_t pid_;
  const std::string prefix_;
  bool started_ = false;  // whether it has been let run
  bool ended_ = false;
};

}  // namespace patrickstar::cli
