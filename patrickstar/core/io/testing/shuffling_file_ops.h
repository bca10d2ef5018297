// ShufflingFileOps: files whose reads and writes complete in another order than they came, without a clock, and late if wanted.
//
// A read or write stands still until a random number of other calls have come after it, and then moves its bytes; so what a
// transfer reads or fills is touched at the last moment. It goes on all the same when every thread that can make calls stands
// here (then a random one of them goes), or after `rounds` turns in which nothing came: nobody ever waits for what cannot come.
// With `most_delay` it then sleeps for a random while besides, so that what was brought ahead comes too late here and there.
// The draws are the seed's; which call gets which depends on the threads.
//
// What goes through io_uring cannot stand still: half of its reads and writes are cut short instead, so the rest comes behind
// others that were submitted meanwhile, and every 16th result is late.
//
// Thread safety: any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <random>

#include "patrickstar/core/base/units.h"
#include "patrickstar/core/io/file_ops.h"

namespace patrickstar {

struct ShuffleOptions {
  std::uint32_t seed = 1;
  int threads = 1;         // that may make calls at a time
  int most_overtakes = 4;  // calls that one waits for, at most
  int rounds = 200;        // turns of the processor that one gives away, at most
  Nanos most_delay = 0;    // that a call takes longer
};

class ShufflingFileOps final : public FileOps {
 public:
  explicit ShufflingFileOps(const ShuffleOptions& options, FileOps& real = posix_file_ops())
      : options_(options), real_(real), random_(options.seed) {}

  std::int64_t held() const;       // calls that stood still
  std::int64_t overtaken() const;  // calls that went on after one that came later
  std::int64_t cut() const;        // reads and writes of io_uring that were cut short
  Nanos delayed() const;           // by most_delay, all together

  int open_scratch(const std::string& directory) override { return real_.open_scratch(directory); }
  int set_caching(int fd, Caching caching) override { return real_.set_caching(fd, caching); }
  int preallocate(int fd, Bytes from, Bytes to) override { return real_.preallocate(fd, from, to); }
  Bytes free_bytes(const std::string& directory) override { return real_.free_bytes(directory); }
  std::int64_t pread(int fd, std::byte* data, Bytes bytes, Bytes offset) override;
  std::int64_t pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) override;
  void close(int fd) override { real_.close(fd); }
  Bytes submitting(IoKind kind, Bytes bytes) override;
  std::int64_t completed(IoKind kind, std::int64_t result) override;

 private:
  void stand();
  void be_late(std::unique_lock<std::mutex> lock);
  void let_one_go_if_all_stand();

  const ShuffleOptions options_;
  FileOps& real_;
  mutable std::mutex mutex_;
  std::mt19937 random_;
  std::map<std::int64_t, std::int64_t> standing_;  // call -> goes on when so many have come
  std::int64_t come_ = 0;
  std::int64_t last_gone_ = 0;  // the latest call that went on
  std::int64_t held_ = 0;
  std::int64_t overtaken_ = 0;
  std::int64_t cut_ = 0;
  Nanos delayed_ = 0;
};

}  // namespace patrickstar
