#include "apps/cli/bench/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

namespace patrickstar::cli {
namespace {

constexpr int kNoProgram = 127;

// In the new process: nothing here may allocate or lock.
[[noreturn]] void become(const char* program, char* const* arguments, const char* words, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kNoProgram);  // it went before it could be watched
  const int nothing = open("/dev/null", O_RDWR);
  const int said = open(words, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(nothing, STDIN_FILENO);
  dup2(nothing, STDOUT_FILENO);
  dup2(said, STDERR_FILENO);
  execv(program, arguments);
  _exit(kNoProgram);
}

}  // namespace

Result<std::unique_ptr<Child>> Child::start(const std::string& program, std::vector<std::string> arguments,
                                            const std::string& prefix) {
  arguments.insert(arguments.begin(), program);
  arguments.insert(arguments.end(), {"--summary", prefix + ".summary"});
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  const std::string words = prefix + ".stderr";
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return Status(StatusCode::kUnavailable, fmt::format("[bench] no new process: {}", std::strerror(errno)));
  if (pid == 0) become(program.c_str(), pointers.data(), words.c_str(), parent);
  return std::unique_ptr<Child>(new Child(pid, prefix));
}

Child::~Child() {
  if (ended_) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
}

Result<RunRecord> Child::run(const Patience& patience) {
  if (ended_) return Status(StatusCode::kInvalidArgument, "[bench] the run has ended already");
  if (started_) kill(pid_, SIGCONT);
  started_ = true;
  int status = 0;
  // waitpid knows no time-out, and a pidfd tells of no stop.
  const std::jthread watching([&](const std::stop_token& stop) { watch(stop, patience); });
  while (waitpid(pid_, &status, WUNTRACED) < 0) {
    if (errno != EINTR) return Status(StatusCode::kIoError, fmt::format("[bench] waitpid: {}", std::strerror(errno)));
  }
  ended_ = !WIFSTOPPED(status);
  if (ended_ && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
    const std::string how =
        WIFEXITED(status) ? fmt::format("code {}", WEXITSTATUS(status)) : fmt::format("signal {}", WTERMSIG(status));
    return Status(StatusCode::kUnavailable,
                  fmt::format("[bench] a run of patrickstar train ended with {}: {}", how, last_words()));
  }
  std::ostringstream text;
  text << std::ifstream(prefix_ + ".summary").rdbuf();
  return parse_run(text.str());
}

void Child::watch(const std::stop_token& stop, const Patience& patience) const {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  std::string before = last_words();
  for (int ticks = 0; !never.wait_for(lock, stop, patience.tick, [&] { return stop.stop_requested(); });) {
    const std::string words = last_words();
    ticks = words == before ? ticks + 1 : 0;
    before = words;
    if (!Patience::speaks(ticks)) continue;
    patience.say(fmt::format("[bench] waiting for a run of patrickstar train (process {}), nothing new for {:g} s: {}", pid_,
                             patience.seconds(ticks), words));
  }
}

std::string Child::last_words() const {
  std::string last;
  std::ifstream file(prefix_ + ".stderr");
  for (std::string line; std::getline(file, line);) last = line;
  return last.empty() ? "it said nothing" : last;
}

}  // namespace patrickstar::cli
