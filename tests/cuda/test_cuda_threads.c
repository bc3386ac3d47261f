/* Threads of the host call the CUDA backend in turn: it is created on one, used on others and destroyed on a last, none
 * of which has the backend's device as its current one. The emulation has two devices for this; on one GPU the test
 * sees only that calls may come from anywhere. */
#include "backend/ops.h"
#include "backend/sampling.h"
#include "support/numbers.h"

#include <pthread.h>
#include <stdio.h>

#if defined(COHORT_CUDA_EMULATED)
#include "cuda_emulation_control.h"
enum { DEVICE = 1 };
#else
enum { DEVICE = 0 };
#endif

static struct backend *device;

enum { ROWS = 3, N = 16, K = 24 };

/* What the threads hand on. */
static struct {
    float *x, *w, *y;
    uint16_t *half;
    struct weight *weight;
    float host[ROWS * N];
} shared;

/* The first failure of any thread; cmocka's checks are for the main one. */
static cohort_error first_error;

static void must(cohort_status status, const cohort_error *err)
{
    if (status != COHORT_OK && first_error.message[0] == '\0')
        first_error = *err;
}

static void all_must_be_well(void)
{
    if (first_error.message[0] != '\0')
        fail_msg("%s", first_error.message);
}

static void be_well(void)
{
    cohort_error err = {0};
    device->ops->wait(device);
    must(device->ops->check(device, &err), &err);
}

static void create(void)
{
    cohort_error err = {0};
    must(backend_cuda_create(&device, DEVICE, &err), &err);
}

static void allocate(void)
{
    cohort_error err = {0};
    float x[ROWS * K], w[N * K];
    fill(x, DTYPE_F32, ROWS * K, 1, 1.0);
    fill(w, DTYPE_F32, N * K, 2, 1.0);
    must(device->ops->alloc(device, &shared.x, sizeof x, "x", &err), &err);
    must(device->ops->alloc(device, &shared.w, sizeof w, "w", &err), &err);
    must(device->ops->alloc(device, &shared.y, sizeof shared.host, "y", &err), &err);
    must(device->ops->alloc(device, &shared.half, ROWS * K * sizeof *shared.half, "half", &err), &err);
    device->ops->upload(device, shared.x, x, sizeof x);
    device->ops->upload(device, shared.w, w, sizeof w);
    must(device->ops->weight_create(device, &shared.weight,
                                    &(struct weight_source){.format = STORAGE_F32, .data = shared.w, .n = N, .k = K},
                                    &err),
         &err);
}

/* x, then products that are recorded on the way. */
static void step(void *context)
{
    (void)context;
    device->ops->matmul_forward(device, &(struct matmul_forward){.w = shared.weight,
                                                                 .m = ROWS,
                                                                 .x = shared.x,
                                                                 .y = shared.y,
                                                                 .y_stride = N,
                                                                 .y_type = DTYPE_F32,
                                                                 .accumulate = true});
    device->ops->convert(device, &(struct convert){ROWS * K, shared.x, DTYPE_F32, shared.half, DTYPE_BF16});
}

static void work(void)
{
    device->ops->repeat(device, 1, 3, step, NULL);
    be_well();
}

static void look(void)
{
    device->ops->download(device, shared.host, shared.y, sizeof shared.host);
    be_well();
}

static void release(void)
{
    device->ops->weight_destroy(device, shared.weight);
    device->ops->free(device, shared.x);
    device->ops->free(device, shared.w);
    device->ops->free(device, shared.y);
    device->ops->free(device, shared.half);
    be_well();
}

static void destroy(void)
{
    backend_destroy(device);
    device = NULL;
}

static void *thread_main(void *argument)
{
    void (*const *part)(void) = argument;
    (*part)();
    return NULL;
}

static void test_threads_in_turn(void **state)
{
    (void)state;
    void (*const parts[])(void) = {create, allocate, work, look, release, destroy};
#if defined(COHORT_CUDA_EMULATED)
    cuda_emulation_set_devices(2);
#endif
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        pthread_t thread;
        void *argument = NULL;
        memcpy(&argument, &(void (*const *)(void)){&parts[i]}, sizeof argument);
        assert_int_equal(pthread_create(&thread, NULL, thread_main, argument), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        all_must_be_well();
    }
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < N; i++) {
            double sum = 0.0;
            for (int l = 0; l < K; l++)
                sum += (double)(float)number(1, r * K + l) * (double)(float)number(2, i * K + l);
            /* Three times a sum of 24 products below 1. */
            expect_near((double)shared.host[r * N + i], 3.0 * sum, DTYPE_F32, 3.0 * K, 1e-6);
        }
}

#if defined(COHORT_CUDA_EMULATED)
/* Every entry of the table, called where another device is the current one. Without anything to do: what makes the
 * device current does not look. */
#define CALL(...)                                                                                                      \
    do {                                                                                                               \
        cuda_emulation_set_current(0);                                                                                 \
        __VA_ARGS__;                                                                                                   \
        if (cuda_emulation_current() != DEVICE)                                                                        \
            fail_msg("the device is not the current one after %s", #__VA_ARGS__);                                      \
    } while (0)

static void no_step(void *context) { (void)context; }

static void test_every_entry(void **state)
{
    (void)state;
    cohort_error err = {0};
    const struct qkv_forward qkv = {.n_heads = 1, .n_kv_heads = 1, .head_dim = 8};
    const struct attention_forward attention = {.n_heads = 1, .n_kv_heads = 1, .head_dim = 8, .act = DTYPE_F32};
    float *memory = NULL, host = 1.0f;
    double sum = 0.0;
    cuda_emulation_set_devices(2);
    CALL(create());
    const struct backend_ops *ops = device->ops;
    CALL(must(ops->alloc(device, &memory, sizeof host, "a float", &err), &err));
    CALL(ops->upload(device, memory, &host, sizeof host));
    CALL(ops->copy(device, memory, memory, 0));
    CALL(ops->zero(device, memory, sizeof host));
    CALL(ops->download(device, &host, memory, sizeof host));
    assert_true(host == 0.0f);
    CALL((void)ops->available(device));
    CALL(ops->wait(device));
    CALL(must(ops->check(device, &err), &err));
    CALL(ops->matmul_forward(device, &(struct matmul_forward){.m = 0}));
    CALL(ops->matmul_backward_input(device, &(struct matmul_backward_input){.m = 0}));
    CALL(ops->matmul_backward_weight(device, &(struct matmul_backward_weight){.m = 0}));
    CALL(ops->embed_forward(device, &(struct embed_forward){.width = 8}));
    CALL(ops->embed_backward(device, &(struct embed_backward){.width = 8, .vocab = 8}));
    CALL(ops->embed_change_forward(device, &(struct embed_change_forward){.width = 8, .r = 1}));
    CALL(ops->embed_change_backward(device, &(struct embed_change_backward){.width = 8, .r = 1, .vocab = 8}));
    CALL(ops->rmsnorm_forward(device, &(struct rmsnorm_forward){.width = 8}));
    CALL(ops->rmsnorm_backward(device, &(struct rmsnorm_backward){.width = 8}));
    CALL(ops->qkv_forward(device, &qkv));
    CALL(ops->qkv_backward(device, &(struct qkv_backward){.forward = qkv}));
    CALL(ops->attention_prepare(device, &(struct attention_batch){.n_heads = 1, .n_kv_heads = 1, .head_dim = 8}));
    CALL(ops->attention_forward(device, &attention));
    CALL(ops->attention_backward(device, &(struct attention_backward){.forward = attention}));
    CALL(ops->swiglu_forward(device, &(struct swiglu_forward){.width = 8}));
    CALL(ops->swiglu_backward(device, &(struct swiglu_backward){.width = 8}));
    CALL(ops->convert(device, &(struct convert){.x_type = DTYPE_F32, .y_type = DTYPE_BF16}));
    CALL(ops->head_stats(device, &(struct head_stats){.vocab = 8, .temperature = 1.0f}));
    CALL(ops->head_gradient(device, &(struct head_gradient){.vocab = 8, .temperature = 1.0f, .act = DTYPE_F32}));
    CALL(ops->sample(device, &(struct sample){8, 8, NULL, NULL, 0}));
    CALL(must(ops->decode_load(device, &(struct decode_load){.n_heads = 1, .n_kv_heads = 1, .head_dim = 8}, &err),
              &err));
    CALL(ops->decode_draw(device, &(struct decode_draw){.vocab = 8}));
    CALL(ops->repeat(device, 7, 1, no_step, NULL));
    CALL((void)ops->sum_squares(device, memory, 1));
    CALL(ops->square_sums(device, memory, 1, &sum));
    CALL((void)ops->add_square_sums(device, &sum, 1));
    CALL(ops->add(device, &(struct add){.count = 0}));
    CALL(ops->adamw(device, &(struct adamw){.type = DTYPE_F32, .step = 1}));
    CALL(ops->free(device, memory));
    CALL(destroy());
    all_must_be_well();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_in_turn),
#if defined(COHORT_CUDA_EMULATED)
        cmocka_unit_test(test_every_entry),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
