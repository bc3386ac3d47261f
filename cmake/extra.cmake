# The portable kernels' vectors are wider than the baseline's registers. No function that takes one is called across files, so
# the remark that gcc passes them differently since 4.6 does not matter. (A pragma does not reach it.)
if(TARGET cohort_kernels_portable)
  target_compile_options(cohort_kernels_portable PRIVATE -Wno-psabi)
endif()

# Kernel benchmarks, each bench/bench_*.c a program of its own. They compare with oneDNN and its threads, which are OpenMP's; nothing
# else needs these.
if(COHORT_BENCH)
  find_package(OpenMP REQUIRED COMPONENTS C)
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

# Negative controls of the exactness tests: test_invariance linked with one kernel file compiled so that its order of summation
# depends on the batch. The objects come before the library, so the library's own are left where they are. These programs
# must see differences, else the comparisons of test_invariance are worth nothing.
if(COHORT_TESTS AND TARGET test_invariance)
  function(cohort_negative_program name)
    add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/invariance/test_invariance.c
                   ${PROJECT_SOURCE_DIR}/tests/support/tiny_model.c ${ARGN})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${name} PRIVATE cohort_static PkgConfig::CMOCKA PkgConfig::DEPS Threads::Threads m)
  endfunction()
  function(cohort_negative_control name)
    cohort_negative_program(${name} ${ARGN})
    add_test(NAME ${name} COMMAND ${name} --expect-difference)
    set_tests_properties(${name} PROPERTIES LABELS invariance TIMEOUT ${COHORT_TEST_SECONDS})
  endfunction()
  function(cohort_broken_objects name define source)
    add_library(${name} OBJECT ${source})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(${name} PRIVATE Threads::Threads PkgConfig::DEPS)
    target_compile_definitions(${name} PRIVATE ${define}=1)
    target_compile_options(${name} PRIVATE ${ARGN})
  endfunction()

  cohort_broken_objects(broken_reduction COHORT_BREAK_REDUCTION ${PROJECT_SOURCE_DIR}/src/backend/cpu/cpu_matmul.c)
  cohort_negative_control(test_negative_reduction $<TARGET_OBJECTS:broken_reduction>)

  # The same through the program: the shell tests must stop at a comparison.
  if(TARGET cohort_cli AND NOT CMAKE_CROSSCOMPILING_EMULATOR)
    add_executable(cohort_broken ${COHORT_CLI_SOURCES} $<TARGET_OBJECTS:broken_reduction>)
    set_target_properties(cohort_broken PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    target_link_libraries(cohort_broken PRIVATE cohort_static ${COHORT_CLI_LIBRARIES})
    foreach(test program_rows grpo_exact)
      add_test(NAME test_negative_${test} COMMAND bash ${PROJECT_SOURCE_DIR}/tests/invariance/test_${test}.sh)
      set_tests_properties(test_negative_${test} PROPERTIES LABELS invariance TIMEOUT ${COHORT_TEST_SECONDS}
        ENVIRONMENT "COHORT=${CMAKE_BINARY_DIR}/tests/cohort_broken;SOURCE=${PROJECT_SOURCE_DIR};BUILD=${CMAKE_BINARY_DIR}"
        PASS_REGULAR_EXPRESSION "FAILED: [^\n]*(differ|are exactly on-policy)")
    endforeach()
  endif()

  # What ranks have of a gradient added in another order than that of the lanes.
  if(TARGET cohort_cli AND COHORT_MPI_FOUND AND NOT CMAKE_CROSSCOMPILING_EMULATOR)
    cohort_broken_objects(broken_lanes COHORT_BREAK_LANES ${PROJECT_SOURCE_DIR}/src/train/lanes.c)
    add_executable(cohort_broken_lanes ${COHORT_CLI_SOURCES} $<TARGET_OBJECTS:broken_lanes>)
    set_target_properties(cohort_broken_lanes PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    target_link_libraries(cohort_broken_lanes PRIVATE cohort_static ${COHORT_CLI_LIBRARIES})
    add_test(NAME test_negative_ranks COMMAND bash ${PROJECT_SOURCE_DIR}/tests/invariance/test_ranks.sh)
    set_tests_properties(test_negative_ranks PROPERTIES LABELS invariance TIMEOUT ${COHORT_TEST_SECONDS} SKIP_RETURN_CODE 77
      ENVIRONMENT "COHORT=${CMAKE_BINARY_DIR}/tests/cohort_broken_lanes;SOURCE=${PROJECT_SOURCE_DIR};BUILD=${CMAKE_BINARY_DIR}"
      PASS_REGULAR_EXPRESSION "FAILED: s3: final/ differs;left out")
  endif()

  set(attention ${PROJECT_SOURCE_DIR}/src/backend/cpu/kernel_attention.c)
  set(broken_attention)
  foreach(isa portable avx2 avx512 avx512bf16)
    if(TARGET cohort_kernels_${isa})
      get_target_property(flags cohort_kernels_${isa} COMPILE_OPTIONS)
      cohort_broken_objects(broken_attention_${isa} COHORT_BREAK_ATTENTION ${attention} ${flags})
      list(APPEND broken_attention $<TARGET_OBJECTS:broken_attention_${isa}>)
    endif()
  endforeach()
  cohort_negative_control(test_negative_attention ${broken_attention})

  # The outputs of experts added in an order that depends on the batch.
  set(broken_combine)
  foreach(isa portable avx2 avx512)
    if(TARGET cohort_kernels_${isa})
      get_target_property(flags cohort_kernels_${isa} COMPILE_OPTIONS)
      cohort_broken_objects(broken_combine_${isa} COHORT_BREAK_COMBINE
                            ${PROJECT_SOURCE_DIR}/src/backend/cpu/kernel_combine.c ${flags})
      list(APPEND broken_combine $<TARGET_OBJECTS:broken_combine_${isa}>)
    endif()
  endforeach()
  cohort_negative_control(test_negative_combine ${broken_combine})
  target_compile_definitions(test_negative_combine PRIVATE CONTROL_SHAPE=4)
endif()

# Clang remarks where a loop that asks for vectors does not get them, which is what a sanitizer's checks come to.
if(CMAKE_C_COMPILER_ID MATCHES "Clang" AND COHORT_SANITIZE)
  target_compile_options(cohort_core PRIVATE -Wno-pass-failed)
endif()
