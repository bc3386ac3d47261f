# The CUDA backend on the CPU, for tests (tests/cuda_emulation): the same sources compiled as C and C++. Its objects come before the
# library, whose stub of the backend is then not needed. x86-64 only; not under sanitizers, which lose track of the coroutines' stacks.
if(NOT COHORT_TESTS)
  return()
endif()
set(COHORT_EMULATED OFF)
if(COHORT_X86 AND NOT COHORT_SANITIZE)
  enable_language(CXX)
  set(COHORT_EMULATED ON)
  set(EMULATION ${PROJECT_SOURCE_DIR}/tests/cuda_emulation)
  file(GLOB COHORT_EMULATION_SOURCES CONFIGURE_DEPENDS ${EMULATION}/*.cpp)
  list(FILTER COHORT_EMULATION_SOURCES EXCLUDE REGEX /test_)
  # Every .cu file through a .cpp that includes it: with COHORT_CUDA the file itself belongs to another language.
  set(COHORT_EMULATED_KERNELS)
  foreach(source ${COHORT_CUDA_KERNEL_SOURCES})
    get_filename_component(name ${source} NAME_WE)
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/emulated/${name}.cpp CONTENT "#include \"${source}\"\n" @ONLY)
    list(APPEND COHORT_EMULATED_KERNELS ${CMAKE_BINARY_DIR}/emulated/${name}.cpp)
  endforeach()

  # Until all kernels are in the tree: those that are not end the process when called.
  file(WRITE ${CMAKE_BINARY_DIR}/emulated/missing.c.new "#include <stdio.h>\n#include <stdlib.h>\n")
  foreach(name embed_forward embed_backward rmsnorm_forward rmsnorm_backward qkv_forward qkv_backward swiglu_forward swiglu_backward
          convert sum_squares adamw head_stats head_gradient sample attention_forward attention_backward attention_prepare
          attention_prepare_decode attention_destroy decode_load decode_draw decode_fetch decode_destroy skinny_takes skinny_forward)
    set(body "{ fprintf(stderr, \"cuda_${name} is not there yet\\n\"); exit(1); }")
    if(name MATCHES "destroy|takes")
      set(body "{ return 0; }")
    endif()
    file(APPEND ${CMAKE_BINARY_DIR}/emulated/missing.c.new
         "int cuda_${name}(void);\n__attribute__((weak)) int cuda_${name}(void) ${body}\n")
  endforeach()
  file(COPY_FILE ${CMAKE_BINARY_DIR}/emulated/missing.c.new ${CMAKE_BINARY_DIR}/emulated/missing.c ONLY_IF_DIFFERENT)
  list(APPEND COHORT_EMULATED_KERNELS ${CMAKE_BINARY_DIR}/emulated/missing.c)

  add_library(cohort_cuda_emulated OBJECT ${COHORT_EMULATION_SOURCES} ${COHORT_EMULATED_KERNELS} ${COHORT_CUDA_HOST_SOURCES})
  set_target_properties(cohort_cuda_emulated PROPERTIES CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS ON)
  target_compile_definitions(cohort_cuda_emulated PUBLIC COHORT_CUDA_EMULATED=1)
  # Kernels reinterpret memory as nvcc allows.
  target_compile_options(cohort_cuda_emulated PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:-O2;-ffp-contract=off;-fno-math-errno;-fno-strict-aliasing;-Wall;-Wextra;-Wno-unknown-pragmas>")
  target_include_directories(cohort_cuda_emulated BEFORE PUBLIC ${EMULATION} ${EMULATION}/include ${PROJECT_SOURCE_DIR}/include
                             ${PROJECT_SOURCE_DIR}/src)

  # A program over the emulated backend.
  function(cohort_link_emulated name)
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:cohort_cuda_emulated>)
    target_include_directories(${name} PRIVATE ${EMULATION} ${EMULATION}/include)
    target_compile_definitions(${name} PRIVATE COHORT_CUDA_EMULATED=1)
    set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    target_link_libraries(${name} PRIVATE cohort_static PkgConfig::DEPS OpenMP::OpenMP_C m)
  endfunction()

  if(TARGET cohort_cli)
    add_executable(cohort_emulated ${COHORT_CLI_SOURCES})
    cohort_link_emulated(cohort_emulated)
  endif()

  # The emulation itself.
  add_executable(test_cuda_emulation ${EMULATION}/test_cuda_emulation.cpp)
  cohort_link_emulated(test_cuda_emulation)
  set_target_properties(test_cuda_emulation PROPERTIES CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON)
  target_compile_options(test_cuda_emulation PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:-O2;-ffp-contract=off;-fno-strict-aliasing;-Wall;-Wextra;-Wno-unknown-pragmas>")
  target_link_libraries(test_cuda_emulation PRIVATE PkgConfig::CMOCKA)
  target_include_directories(test_cuda_emulation PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  add_test(NAME test_cuda_emulation COMMAND test_cuda_emulation)
  set_tests_properties(test_cuda_emulation PROPERTIES LABELS cuda-emulated TIMEOUT 300)
endif()

# Every tests/cuda/test_*.c: on the GPU as it is (label cuda), on the emulation with --small (label cuda-emulated).
foreach(source ${COHORT_TEST_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  get_filename_component(dir ${source} DIRECTORY)
  if(NOT dir STREQUAL "${PROJECT_SOURCE_DIR}/tests/cuda")
    continue()
  endif()
  set(targets)
  if(COHORT_CUDA)
    add_executable(${name} ${source} ${COHORT_TEST_SUPPORT})
    target_link_libraries(${name} PRIVATE cohort_static)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS cuda TIMEOUT 300)
    list(APPEND targets ${name})
  endif()
  if(COHORT_EMULATED)
    add_executable(${name}_emulated ${source} ${COHORT_TEST_SUPPORT})
    cohort_link_emulated(${name}_emulated)
    add_test(NAME ${name}_emulated COMMAND ${name}_emulated --small)
    set_tests_properties(${name}_emulated PROPERTIES LABELS cuda-emulated TIMEOUT 300 ENVIRONMENT OMP_WAIT_POLICY=passive)
    list(APPEND targets ${name}_emulated)
  endif()
  foreach(target ${targets})
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
    target_compile_definitions(${target} PRIVATE COHORT_SOURCE_DIR="${PROJECT_SOURCE_DIR}" COHORT_BINARY_DIR="${CMAKE_BINARY_DIR}")
    target_link_libraries(${target} PRIVATE PkgConfig::CMOCKA PkgConfig::DEPS OpenMP::OpenMP_C m)
  endforeach()
endforeach()
