# Options that every target of ours shares, and the one way to add a test or a benchmark.

add_library(ps_options INTERFACE)
# -Wrestrict: false positives on std::string in g++ 12 (its bug 105329).
# No contraction: the arithmetic of optim/ is a fixed sequence of rounded operations (design.md).
target_compile_options(ps_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
                       -Wno-missing-field-initializers -Wno-restrict -ffp-contract=off -fno-fast-math)
if(PATRICKSTAR_WERROR)
  target_compile_options(ps_options INTERFACE -Werror)
endif()
target_include_directories(ps_options INTERFACE ${PROJECT_SOURCE_DIR})
if(PATRICKSTAR_SANITIZE)
  if(PATRICKSTAR_BRIDGE)
    message(FATAL_ERROR "PATRICKSTAR_SANITIZE covers the core only (LibTorch is not instrumented): "
                        "add -DPATRICKSTAR_BRIDGE=OFF or use the presets asan and tsan")
  endif()
  list(JOIN PATRICKSTAR_SANITIZE "," _sanitizers)
  # -O1 and lines only: half the time to compile, which is most of .ci/run on a slow machine. Warnings are the other builds' business.
  target_compile_options(ps_options INTERFACE -fsanitize=${_sanitizers} -fno-omit-frame-pointer -O1 -g1 -Wno-error)
  target_link_options(ps_options INTERFACE -fsanitize=${_sanitizers})
  target_compile_definitions(ps_options INTERFACE PATRICKSTAR_SANITIZED=1)
endif()

# ps_core_test(name sources...): a GoogleTest binary over the core and its doubles.
function(ps_core_test name)
  if(NOT PATRICKSTAR_TESTS)
    return()
  endif()
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE patrickstar_core patrickstar_testing GTest::gtest GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} PROPERTIES LABELS core TIMEOUT 120 DISCOVERY_TIMEOUT 60)
endfunction()

# ps_bridge_test(name sources...): a GoogleTest binary over LibTorch. One process a test: hook and allocator are process-wide. They
# compute on two threads that wait for each other, so two at a time on two cores take three times as long as one after the other.
function(ps_bridge_test name)
  if(NOT PATRICKSTAR_TESTS)
    return()
  endif()
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE patrickstar patrickstar_testing GTest::gtest GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} PROPERTIES LABELS bridge PROCESSORS 2 TIMEOUT 600 DISCOVERY_TIMEOUT 120)
endfunction()

# ps_benchmark(name sources...): a Google Benchmark binary over the core.
function(ps_benchmark name)
  if(NOT PATRICKSTAR_BENCHMARKS)
    return()
  endif()
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE patrickstar_core patrickstar_testing benchmark::benchmark)
endfunction()
