# The portable kernels' vectors are wider than the baseline's registers. No function that takes one is called across files, so
# the remark that gcc passes them differently since 4.6 does not matter. (A pragma does not reach it.)
if(TARGET cohort_kernels_portable)
  target_compile_options(cohort_kernels_portable PRIVATE -Wno-psabi)
endif()

# Kernel benchmarks, each bench/bench_*.c a program of its own. They compare with oneDNN, which nothing else needs.
if(COHORT_BENCH)
  find_path(DNNL_INCLUDE dnnl.h PATH_SUFFIXES oneapi/dnnl)
  find_library(DNNL_LIBRARY dnnl)
  if(DNNL_INCLUDE AND DNNL_LIBRARY)
    file(GLOB COHORT_BENCH_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/bench_*.c)
    foreach(source ${COHORT_BENCH_SOURCES})
      get_filename_component(name ${source} NAME_WE)
      add_executable(${name} ${source})
      set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
      target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${DNNL_INCLUDE})
      target_link_libraries(${name} PRIVATE cohort_static ${DNNL_LIBRARY} PkgConfig::DEPS OpenMP::OpenMP_C m)
    endforeach()
  else()
    message(WARNING "COHORT_BENCH: oneDNN (libdnnl-dev) was not found; the benchmarks are left out")
  endif()
endif()

# Waiting threads that spin take the core from those that work when a test shares the machine.
if(COHORT_TESTS AND TEST test_matmul)
  set_property(TEST test_matmul APPEND PROPERTY ENVIRONMENT OMP_WAIT_POLICY=passive)
endif()
