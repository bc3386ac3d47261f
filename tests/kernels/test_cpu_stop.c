/* Operations that are stopped, and a backend in a forked child. */
#include "backend/ops.h"
#include "support/numbers.h"
#include "support/sanitized.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct backend *open_backend(int threads)
{
    struct backend *backend = NULL;
    cohort_error err = {0};
    if (backend_cpu_create(&backend, CPU_ISA_PORTABLE, threads, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    backend->alone_ns = 0.0;
    return backend;
}

static cohort_status check(struct backend *backend)
{
    cohort_error err = {0};
    return backend_check(backend, &err);
}

/* ---- In the middle of the slowest product of the 0.6B shape ---- */

struct stopper {
    struct stop stop;
    clockid_t clock; /* of the thread that computes: what other programs take does not count */
    double stopped_at;
};

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *stop_soon(void *argument)
{
    struct stopper *stopper = argument;
    while (seconds_of(stopper->clock) < stopper->stopped_at)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    stopper->stopped_at = seconds_of(stopper->clock);
    atomic_store(&stopper->stop.requested, true);
    return NULL;
}

static void test_stopped_product(void **state)
{
    (void)state;
    enum { N = 6144, K = 1024, M = SLOW ? 128 : 2048 };
    float *w = calloc((size_t)N * K, sizeof *w), *x = calloc((size_t)M * K, sizeof *x);
    float *y = calloc((size_t)M * N, sizeof *y);
    assert_true(w != NULL && x != NULL && y != NULL);
    for (int threads = 1; threads <= 2; threads++) {
        struct backend *backend = open_backend(threads);
        struct stopper stopper = {0};
        struct weight *weight = NULL;
        pthread_t thread;
        cohort_error err = {0};
        assert_int_equal(
            backend->ops->weight_create(
                backend, &weight, &(struct weight_source){.format = STORAGE_F32, .data = w, .n = N, .k = K}, &err),
            COHORT_OK);
        const struct matmul_forward product = {.w = weight, .m = M, .x = x, .y = y, .y_stride = N, .y_type = DTYPE_F32};
        assert_int_equal(pthread_getcpuclockid(pthread_self(), &stopper.clock), 0);
        backend->stop = &stopper.stop;
        stopper.stopped_at = seconds_of(stopper.clock) + 0.01;
        assert_int_equal(pthread_create(&thread, NULL, stop_soon, &stopper), 0);
        while (check(backend) == COHORT_OK)
            backend->ops->matmul_forward(backend, &product);
        const double end = seconds_of(stopper.clock);
        pthread_join(thread, NULL);
        if (!SLOW)
            assert_true(end - stopper.stopped_at < 0.1);
        assert_int_equal(check(backend), COHORT_ERR_CANCELLED);
        backend->stop = NULL;
        assert_int_equal(check(backend), COHORT_OK);
        backend->ops->weight_destroy(backend, weight);
        backend_destroy(backend);
    }
    free(w);
    free(x);
    free(y);
}

/* ---- What is finished all the same ---- */

static void test_update_is_whole(void **state)
{
    (void)state;
    enum { COUNT = 200000, N = 160, K = 96 };
    struct stop stop = {true};
    float *result[2][4];
    double sum[2];
    for (int stopped = 0; stopped < 2; stopped++) {
        struct backend *backend = open_backend(2);
        struct weight *weight = NULL;
        cohort_error err = {0};
        for (int i = 0; i < 4; i++) {
            result[stopped][i] = calloc(COUNT, sizeof(float));
            assert_non_null(result[stopped][i]);
            for (int j = 0; j < COUNT; j++)
                result[stopped][i][j] = (float)((i * 7 + j) % 13) * 0.25f;
        }
        float **r = result[stopped];
        assert_int_equal(
            backend->ops->weight_create(
                backend, &weight, &(struct weight_source){.format = STORAGE_F32, .data = r[0], .n = N, .k = K}, &err),
            COHORT_OK);
        backend->stop = stopped ? &stop : NULL;
        backend->unstoppable++; /* as optimizer_apply does */
        sum[stopped] = backend->ops->sum_squares(backend, r[3], COUNT);
        backend->ops->adamw(backend, &(struct adamw){.count = COUNT,
                                                     .weight = r[0],
                                                     .type = DTYPE_F32,
                                                     .grad = r[3],
                                                     .m = r[1],
                                                     .v = r[2],
                                                     .moment_type = DTYPE_F32,
                                                     .grad_scale = 1.0f,
                                                     .learning_rate = 0.01f,
                                                     .beta1 = 0.9f,
                                                     .beta2 = 0.99f,
                                                     .eps = 1e-8f,
                                                     .step = 1});
        backend->ops->weight_refresh(backend, weight);
        backend->unstoppable--;
        assert_int_equal(check(backend), stopped ? COHORT_ERR_CANCELLED : COHORT_OK);
        /* The packed weight is that of the updated one. */
        backend->stop = NULL;
        backend->ops->matmul_forward(
            backend, &(struct matmul_forward){
                         .w = weight, .m = 3, .x = r[3], .y = r[3] + 1000, .y_stride = N, .y_type = DTYPE_F32});
        assert_int_equal(check(backend), COHORT_OK);
        backend->ops->weight_destroy(backend, weight);
        backend_destroy(backend);
    }
    assert_true(sum[0] == sum[1] && sum[0] > 0.0);
    for (int i = 0; i < 4; i++) {
        assert_memory_equal(result[0][i], result[1][i], COUNT * sizeof(float));
        free(result[0][i]);
        free(result[1][i]);
    }
}

/* ---- Fork ---- */

static void test_forked_child(void **state)
{
    (void)state;
    struct backend *backend = open_backend(2);
    float x[4 * 64] = {1.0f}, y[4 * 64], gain[64] = {1.0f};
    const struct rmsnorm_forward norm = {4, 64, NULL, x, gain, DTYPE_F32, 1e-6f, y, DTYPE_F32};
    backend->ops->rmsnorm_forward(backend, &norm);
    assert_int_equal(check(backend), COHORT_OK);
    const pid_t child = fork();
    if (child == 0) {
        cohort_error err = {0};
        alarm(20);
        backend->ops->rmsnorm_forward(backend, &norm); /* does not hang */
        const cohort_status status = backend->ops->check(backend, &err);
        const bool named = strstr(err.message, "open it again in the child") != NULL;
        backend_destroy(backend);
        _exit(status == COHORT_ERR_STATE && named ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    backend->ops->rmsnorm_forward(backend, &norm);
    assert_int_equal(check(backend), COHORT_OK);
    backend_destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_product),
        cmocka_unit_test(test_update_is_whole),
        cmocka_unit_test(test_forked_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
