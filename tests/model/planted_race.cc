// Two threads write one variable without a lock. ThreadSanitizer must say so: a run that finds nothing would prove nothing.
#include <cstdio>
#include <thread>

int main() {
  int shared = 0;
  std::thread one([&] { ++shared; });
  std::thread two([&] { ++shared; });
  one.join();
  two.join();
  std::printf("%d\n", shared);
}
