/* Creation of the CPU backend, its memory, and what of either is refused. */
#include "backend/ops.h"
#include "support/numbers.h"

#include <stdint.h>

static void test_create_errors(void **state)
{
    (void)state;
    struct backend *backend = NULL;
    cohort_error err = {0};
    assert_int_equal(backend_cpu_create(&backend, CPU_ISA_AUTO, -1, &err), COHORT_ERR_ARGUMENT);
    assert_null(backend);
    assert_int_equal(backend_cpu_create(&backend, CPU_ISA_PORTABLE, 1, &err), COHORT_OK);
    assert_string_equal(backend->provider_bf16, "portable");
    void *block = &err;
    assert_int_equal(backend->ops->alloc(backend, &block, SIZE_MAX, "key cache", &err), COHORT_ERR_MEMORY);
    assert_non_null(strstr(err.message, "key cache"));
    assert_null(block);
    assert_int_equal(backend->ops->alloc(backend, &block, 5 << 20, "key cache", &err), COHORT_OK);
    assert_int_equal((uintptr_t)block % 64, 0);
    assert_int_equal(((char *)block)[0], 0);
    assert_memory_equal(block, (char *)block + 1, (5 << 20) - 1);
    backend->ops->free(backend, block);
    struct weight *weight = NULL;
    assert_int_equal(backend->ops->weight_create(
                         backend, &weight,
                         &(struct weight_source){.format = STORAGE_BF16, .n = INT64_MAX / 2, .k = INT64_MAX / 2}, &err),
                     COHORT_ERR_ARGUMENT);
    assert_null(weight);
    assert_int_equal(backend->ops->weight_create(
                         backend, &weight, &(struct weight_source){.format = N_STORAGE_FORMATS, .n = 2, .k = 2}, &err),
                     COHORT_ERR_UNSUPPORTED);
    backend->ops->weight_destroy(backend, NULL);
    backend_destroy(backend);
    backend_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_create_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
