ps_benchmark(mem_bench ${CMAKE_CURRENT_LIST_DIR}/mem_bench.cc)
