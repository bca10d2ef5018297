// Where a result comes from, for the files that benchmarks write.
#pragma once

#include <cstdio>
#include <string>

namespace patrickstar::bench {

// The first line that a command prints.
inline std::string output_of(const char* command) {
  std::string text;
  if (FILE* pipe = popen(command, "r")) {
    for (int c = std::fgetc(pipe); c != EOF && c != '\n'; c = std::fgetc(pipe)) text.push_back(static_cast<char>(c));
    pclose(pipe);
  }
  return text;
}

// REQUIRES: run from the project's root; else empty.
inline std::string commit() { return output_of("tools/commit 2>/dev/null"); }

inline std::string command_line(int argc, char** argv) {
  std::string text;
  for (int i = 0; i < argc; ++i) text += std::string(i > 0 ? " " : "") + argv[i];
  return text;
}

}  // namespace patrickstar::bench
