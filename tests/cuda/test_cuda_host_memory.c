/* Tensors in memory of the host (alloc_host): products through stages, other operations in place, copies and zeros, all
 * with the bits of device memory, whatever the order in which matrices come. */
#include "kernels/kernel_test.h"

#include "model/param_set.h"

enum { MATRICES = 5, N = 16, K = 24, M = 40, LARGE_N = 48, STEPS = 60 };

static void must(cohort_status status, const cohort_error *err)
{
    if (status != COHORT_OK)
        fail_msg("%s", err->message);
}

struct matrices {
    float *dw[MATRICES]; /* [N, K], but the last, [LARGE_N, K]: too large for the second stage */
    uint16_t *w[MATRICES];
    void *block, *values;
};

static int64_t rows_of(int i) { return i == MATRICES - 1 ? LARGE_N : N; }

static void lay_out(struct matrices *x)
{
    for (int i = 0; i < MATRICES; i++) {
        x->dw[i] = (float *)x->block + (int64_t)i * N * K;
        x->w[i] = (uint16_t *)x->values + (int64_t)i * N * K;
    }
}

enum { ELEMENTS = (MATRICES - 1) * N * K + LARGE_N * K };

static void open_on_host(struct matrices *x)
{
    cohort_error err = {0};
    const size_t dw[2] = {LARGE_N * K * sizeof(float), N * K * sizeof(float)};
    const size_t w[2] = {LARGE_N * K * sizeof(uint16_t), N * K * sizeof(uint16_t)};
    must(backend->ops->alloc_host(backend, &x->block, ELEMENTS * sizeof(float), dw, "a test's gradient", &err), &err);
    must(backend->ops->alloc_host(backend, &x->values, ELEMENTS * sizeof(uint16_t), w, "a test's weights", &err), &err);
    lay_out(x);
}

static void open_on_device(struct matrices *x)
{
    cohort_error err = {0};
    must(backend->ops->alloc(backend, &x->block, ELEMENTS * sizeof(float), "a test's gradient", &err), &err);
    must(backend->ops->alloc(backend, &x->values, ELEMENTS * sizeof(uint16_t), "a test's weights", &err), &err);
    lay_out(x);
}

static void close_matrices(struct matrices *x)
{
    backend->ops->free(backend, x->block);
    backend->ops->free(backend, x->values);
}

static struct weight *weight_of(const struct matrices *x, int i)
{
    struct weight *w = NULL;
    cohort_error err = {0};
    const struct weight_source source = {.format = STORAGE_BF16, .data = x->w[i], .n = rows_of(i), .k = K};
    must(backend->ops->weight_create(backend, &w, &source, &err), &err);
    return w;
}

/* Products in an order that repeats, alternates and comes back, each from the result of what was before: gradient i gets
 * dy_j^T x, and y = x w_i^T. Every few steps something else looks at the gradient: the norm, an optimizer's step, an
 * embedding's gradient to the same place, zeros. Returns the norms' sum. */
static double run(struct matrices *at, const struct array *x, const struct array *dy, const struct array *y,
                  const struct array *tokens, const struct array *d_x, const struct array *start)
{
    struct weight *w[MATRICES];
    double norms = 0.0;
    backend->ops->upload(backend, at->values, start->x, ELEMENTS * sizeof(uint16_t));
    for (int i = 0; i < MATRICES; i++)
        w[i] = weight_of(at, i);
    for (int step = 0; step < STEPS; step++) {
        const int i = (step * 7 + step / 5 * 3) % MATRICES;
        const int64_t n = rows_of(i);
        backend->ops->matmul_forward(
            backend,
            &(struct matmul_forward){.w = w[i], .m = M, .x = x->d, .y = y->d, .y_stride = n, .y_type = DTYPE_BF16});
        backend->ops->matmul_backward_weight(backend, &(struct matmul_backward_weight){.m = M,
                                                                                       .n = n,
                                                                                       .k = K,
                                                                                       .dy = step % 3 ? y->d : dy->d,
                                                                                       .dy_stride = n,
                                                                                       .x = x->d,
                                                                                       .type = DTYPE_BF16,
                                                                                       .dw = at->dw[i]});
        if (step % 11 == 3)
            backend->ops->embed_backward(
                backend,
                &(struct embed_backward){
                    .tokens = 3, .width = K, .vocab = n, .token = tokens->d, .dy = d_x->d, .d_table = at->dw[i]});
        if (step % 13 == 5)
            norms += backend->ops->sum_squares(backend, at->block, ELEMENTS);
        if (step % 17 == 9) { /* weights that change, behind the norm as in a step */
            norms += backend->ops->sum_squares(backend, at->dw[i], n * K);
            backend->ops->convert(
                backend, &(struct convert){
                             .count = n * K, .x = at->dw[i], .x_type = DTYPE_F32, .y = at->w[i], .y_type = DTYPE_BF16});
            for (int j = 0; j < MATRICES; j++)
                backend->ops->weight_refresh(backend, w[j]);
        }
        if (step % 23 == 20)
            backend->ops->zero(backend, at->dw[2], N * K * sizeof(float));
    }
    for (int i = 0; i < MATRICES; i++)
        backend->ops->weight_destroy(backend, w[i]);
    return norms;
}

static void test_same(void **state)
{
    (void)state;
    static const int32_t ids[3] = {1, 0, 1};
    EACH_BACKEND
    {
        if (backend->ops->alloc_host == NULL)
            continue;
        const struct array *x = array_new(M * K, DTYPE_BF16, 120, 1.0),
                           *dy = array_new(M * LARGE_N, DTYPE_BF16, 121, 1.0),
                           *y = array_new(M * LARGE_N, DTYPE_BF16, 0, 0.0),
                           *d_x = array_new(3 * K, DTYPE_F32, 122, 1.0),
                           *start = array_new(ELEMENTS, DTYPE_BF16, 123, 0.1), *tokens = ids_of(ids, 3);
        struct matrices device, host;
        open_on_device(&device);
        open_on_host(&host);
        const double one = run(&device, x, dy, y, tokens, d_x, start), other = run(&host, x, dy, y, tokens, d_x, start);
        backend_must_be_well();
        assert_true(one == other && one > 0.0);
        void *a = fetched(backend, device.block, ELEMENTS * sizeof(float)),
             *b = fetched(backend, host.block, ELEMENTS * sizeof(float));
        assert_memory_equal(a, b, ELEMENTS * sizeof(float));
        free(a);
        free(b);
        a = fetched(backend, device.values, ELEMENTS * sizeof(uint16_t));
        b = fetched(backend, host.values, ELEMENTS * sizeof(uint16_t));
        assert_memory_equal(a, b, ELEMENTS * sizeof(uint16_t));
        free(a);
        free(b);
        /* Copies between the two kinds, both ways and within the host's. */
        backend->ops->copy(backend, device.block, host.dw[1], N * K * sizeof(float));
        backend->ops->copy(backend, host.dw[0], host.dw[1], N * K * sizeof(float));
        backend->ops->copy(backend, host.dw[2], device.block, N * K * sizeof(float));
        a = fetched(backend, device.block, N * K * sizeof(float));
        b = fetched(backend, host.block, 3 * N * K * sizeof(float));
        for (int i = 0; i < 3; i++)
            assert_memory_equal(a, (float *)b + i * N * K, N * K * sizeof(float));
        free(a);
        free(b);
        close_matrices(&device);
        close_matrices(&host);
        arrays_free();
    }
}

#if defined(COHORT_CUDA_EMULATED) /* a GPU is shared with others, whose memory comes and goes */
/* What a set takes of the device, whatever of it is offloaded, is what its sizes say, which plans read. */
static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t rank;
        int64_t rows, columns;
        enum param_kind kind;
        bool adjacent;
    } rows[] = {{"embed", 2, 3000, 64, PARAM_EMBEDDING, false}, {"q", 2, 64, 64, PARAM_MATRIX, false},
                {"k", 2, 32, 64, PARAM_MATRIX, true},           {"q_bias", 1, 64, 1, PARAM_VECTOR, false},
                {"k_bias", 1, 32, 1, PARAM_VECTOR, true},       {"norm", 1, 64, 1, PARAM_VECTOR, false},
                {"frozen", 2, 5000, 64, PARAM_MATRIX, false}};
    enum { N_ROWS = sizeof rows / sizeof *rows };
    EACH_BACKEND
    for (unsigned offload = 0; offload < 8; offload++) {
        struct param_table table = {.n_params = N_ROWS};
        struct param_set set;
        cohort_error err = {0};
        must(mem_alloc(&table.params, N_ROWS, sizeof *table.params, "table", &err), &err);
        for (int i = 0; i < N_ROWS; i++) {
            struct param *p = &table.params[i];
            *p = (struct param){.rank = rows[i].rank,
                                .shape = {rows[i].rows, rows[i].columns},
                                .count = rows[i].rows * rows[i].columns,
                                .format = STORAGE_BF16,
                                .kind = rows[i].kind,
                                .adjacent = rows[i].adjacent};
            snprintf(p->name, sizeof p->name, "%s", rows[i].name);
        }
        param_table_layout(&table);
        must(param_set_open(&set, backend, &table, &err), &err);
        param_set_freeze(&set, &set.table.params[N_ROWS - 1]);
        param_set_offload(&set, offload);
        const struct param_bytes values = param_set_value_sizes(&set, offload),
                                 train = param_set_train_sizes(&set, DTYPE_F32);
        const size_t before = backend->ops->available(backend);
        must(param_set_allocate(&set, &err), &err);
        const size_t between = backend->ops->available(backend);
        must(param_set_train_begin(&set, DTYPE_F32, &err), &err);
        const size_t after = backend->ops->available(backend);
        if (before - between > values.own + 1 || before - between < values.own)
            fail_msg("offload %u: values take %zu bytes, the plan says %zu", offload, before - between, values.own);
        if (between - after != train.own)
            fail_msg("offload %u: training takes %zu bytes, the plan says %zu", offload, between - after, train.own);
        assert_int_equal(values.host > 0, (offload & PARAM_OFFLOAD_VALUES) != 0);
        /* Stages of the largest product that trains and of a layer's, no more. */
        if (offload == (PARAM_OFFLOAD_GRADIENT | PARAM_OFFLOAD_STATES))
            assert_int_equal(train.own, (3000 * 64 + 96 * 64) * sizeof(float));
        for (int i = 0; i < N_ROWS; i++) {
            const void *p = param_values(&set, &set.table.params[i]);
            assert_true(i + 1 == N_ROWS || !rows[i + 1].adjacent ||
                        (const char *)param_values(&set, &set.table.params[i + 1]) ==
                            (const char *)p + storage_bytes(STORAGE_BF16, set.table.params[i].count));
        }
        param_set_close(&set);
    }
}
#endif

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    test_options.cuda = true;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),
#if defined(COHORT_CUDA_EMULATED)
        cmocka_unit_test(test_sizes),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
