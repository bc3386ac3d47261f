# Tests of the decoder, of training and of exactness on the GPU, labelled cuda (the demo: cuda-demo): the sources are those of the CPU's
# tests, called with --device cuda, or with DEVICE=cuda where they go through the program. The small ones run on the emulation too, labelled
# cuda-emulated. The operations' tests (tests/kernels), and what only a GPU has (tests/cuda), are in cuda_emulation.cmake.
if(NOT COHORT_TESTS)
  return()
endif()
set(COHORT_DEVICE_TESTS test_model test_distill_steps test_classifier test_optimizers test_aux_loss test_grpo_steps test_grpo_hundred test_reward_steps test_split test_loss_split test_sft_steps test_sft_split test_param_set test_model_adapter test_adapter_gradients test_linear test_operations test_invariance test_engine_pool test_constraint test_guided_batch
    test_prompt_embeddings test_episode test_trainer test_reference_sync test_step_rows test_turns test_engine_mix test_draft_model test_first_token test_rotating_window test_prefix test_wishes)

if(COHORT_EMULATED)
  foreach(source parity/test_model parity/test_distill_steps parity/test_classifier parity/test_optimizers parity/test_grpo_steps parity/test_reward_steps parity/test_sft_steps parity/test_aux_loss parity/test_adapter_gradients grad/test_split grad/test_param_set grad/test_model_adapter grad/test_linear grad/test_operations
         invariance/test_invariance invariance/test_constraint invariance/test_guided_batch invariance/test_loss_split invariance/test_sft_split invariance/test_trainer grad/test_episode
         parity/test_reference_sync invariance/test_step_rows unit/test_prompt_embeddings invariance/test_turns invariance/test_engine_mix invariance/test_draft_model invariance/test_first_token invariance/test_rotating_window)
    get_filename_component(name ${source} NAME)
    set(name ${name}_emulated)
    add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/${source}.c ${PROJECT_SOURCE_DIR}/tests/support/tiny_model.c)
    cohort_link_emulated(${name})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
    target_compile_definitions(${name} PRIVATE COHORT_SOURCE_DIR="${PROJECT_SOURCE_DIR}" COHORT_BINARY_DIR="${CMAKE_BINARY_DIR}")
    target_link_libraries(${name} PRIVATE PkgConfig::CMOCKA PkgConfig::DEPS Threads::Threads m)
    set(brief "")
    if(name STREQUAL test_engine_mix_emulated)
      set(brief --brief --seed 3) # what it has without is of tests/slow
    endif()
    add_test(NAME ${name} COMMAND ${name} --device cuda --small ${brief})
    set_tests_properties(${name} PROPERTIES LABELS cuda-emulated TIMEOUT 300)
  endforeach()
endif()

if(NOT COHORT_CUDA)
  return()
endif()
foreach(test ${COHORT_DEVICE_TESTS})
  add_test(NAME ${test}_cuda COMMAND ${test} --device cuda)
  set_tests_properties(${test}_cuda PROPERTIES LABELS cuda TIMEOUT 200)
endforeach()

foreach(test grpo_exact resume resume_optimizers offload lora lora_embedding experts save_meanwhile)
  add_test(NAME test_${test}_cuda COMMAND bash ${PROJECT_SOURCE_DIR}/tests/invariance/test_${test}.sh)
  set_tests_properties(test_${test}_cuda PROPERTIES LABELS cuda TIMEOUT 200
    ENVIRONMENT "COHORT=${CMAKE_BINARY_DIR}/cohort;SOURCE=${PROJECT_SOURCE_DIR};BUILD=${CMAKE_BINARY_DIR};DEVICE=cuda")
endforeach()

foreach(seed 1 2 3)
  add_test(NAME test_demo_seed_${seed}_cuda COMMAND bash ${PROJECT_SOURCE_DIR}/tests/slow/test_demo_seed_${seed}.sh)
  set_tests_properties(test_demo_seed_${seed}_cuda PROPERTIES LABELS cuda-demo TIMEOUT 400
    ENVIRONMENT "COHORT=${CMAKE_BINARY_DIR}/cohort;SOURCE=${PROJECT_SOURCE_DIR};BUILD=${CMAKE_BINARY_DIR};DEVICE=cuda")
endforeach()

# Negative controls: test_invariance linked with one file of the backend built so that sums depend on the batch. It must see differences.
function(cohort_cuda_negative name define)
  list(TRANSFORM ARGN PREPEND ${PROJECT_SOURCE_DIR}/src/backend/cuda/ OUTPUT_VARIABLE sources)
  add_library(broken_cuda_${name} OBJECT ${sources})
  target_include_directories(broken_cuda_${name} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(broken_cuda_${name} PRIVATE ${define}=1)
  target_compile_options(broken_cuda_${name} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${COHORT_CUDA_FLAGS}>")
  cohort_negative_program(test_negative_${name}_cuda $<TARGET_OBJECTS:broken_cuda_${name}>)
  add_test(NAME test_negative_${name}_cuda COMMAND test_negative_${name}_cuda --device cuda --expect-difference)
  set_tests_properties(test_negative_${name}_cuda PROPERTIES LABELS cuda TIMEOUT 200)
  set(COHORT_CUDA_NEGATIVES ${COHORT_CUDA_NEGATIVES} test_negative_${name}_cuda PARENT_SCOPE)
endfunction()
cohort_cuda_negative(reduction COHORT_BREAK_REDUCTION cuda_matmul.c)
cohort_cuda_negative(attention COHORT_BREAK_ATTENTION kernel_attention_forward.cu kernel_attention_decode.cu
                     kernel_attention_plain.cu)
cohort_cuda_negative(combine COHORT_BREAK_COMBINE kernel_combine.cu)
target_compile_definitions(test_negative_combine_cuda PRIVATE CONTROL_SHAPE=4)

# Matrix products alone: few rows against cuBLASLt, bits and times.
add_executable(bench_products ${PROJECT_SOURCE_DIR}/bench/cuda/bench_products.c ${PROJECT_SOURCE_DIR}/bench/cuda/bench_device.cu)
set_target_properties(bench_products PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench LINKER_LANGUAGE C)
target_include_directories(bench_products PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/bench)
target_compile_options(bench_products PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${COHORT_CUDA_FLAGS}>")
target_link_libraries(bench_products PRIVATE cohort_static ${COHORT_CUDA_LIBRARIES} PkgConfig::DEPS Threads::Threads m)
add_test(NAME test_products_bits_cuda COMMAND bench_products bits)
set_tests_properties(test_products_bits_cuda PROPERTIES LABELS cuda TIMEOUT 200)

# What ranks exchange, beside a plain exchange of as many bytes; for scripts/gpu-check --ranks.
add_executable(bench_exchange ${PROJECT_SOURCE_DIR}/bench/cuda/bench_exchange.c)
set_target_properties(bench_exchange PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench LINKER_LANGUAGE C)
target_include_directories(bench_exchange PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(bench_exchange PRIVATE cohort_static ${COHORT_CUDA_LIBRARIES} PkgConfig::DEPS Threads::Threads m)
add_custom_target(gpu_check_ranks DEPENDS cohort_cli bench_exchange)

# What scripts/gpu-check builds: not the CPU's other tests, and not the emulation.
file(GLOB COHORT_CUDA_TESTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/cuda/test_*.c ${PROJECT_SOURCE_DIR}/tests/kernels/test_*.c)
list(FILTER COHORT_CUDA_TESTS EXCLUDE REGEX "/kernels/test_cpu_")
list(TRANSFORM COHORT_CUDA_TESTS REPLACE "^.*/([a-z0-9_]*)[.]c$" "\\1")
add_custom_target(gpu_check DEPENDS cohort_cli bench_products ${COHORT_DEVICE_TESTS} ${COHORT_CUDA_TESTS} ${COHORT_CUDA_NEGATIVES})

# It measures what a process takes of the device's memory: no other test may take or free any meanwhile.
if(TEST test_cuda_memory)
  set_tests_properties(test_cuda_memory PROPERTIES RUN_SERIAL TRUE)
endif()
