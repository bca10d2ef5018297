// PS_CHECK: a broken invariant ends the process with the place and the expression. Always on; cheap tests only.
// PS_DCHECK: the same in builds without NDEBUG.
#pragma once

namespace patrickstar {
[[noreturn]] void check_failed(const char* expression, const char* file, int line);
}

#define PS_CHECK(cond) \
  (__builtin_expect(static_cast<bool>(cond), 1) ? void() : ::patrickstar::check_failed(#cond, __FILE__, __LINE__))
#ifdef NDEBUG
#define PS_DCHECK(cond) ((void)0)
#else
#define PS_DCHECK(cond) PS_CHECK(cond)
#endif
