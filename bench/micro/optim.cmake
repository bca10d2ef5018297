ps_benchmark(adam_bench ${CMAKE_CURRENT_LIST_DIR}/adam_bench.cc)
