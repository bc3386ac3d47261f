#include "backend/cpu/cpu_matmul.h"

#include "backend/ops.h"
#include "base/memory.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>

/* -DCOHORT_BREAK_REDUCTION=1 is the negative control of the tests: a forward product of 16 rows or
 * more then adds two halves of k, as a kernel chosen by batch size would, and
 * tests/kernels/test_matmul must fail. Never in a build that is used. */
#ifndef COHORT_BREAK_REDUCTION
#define COHORT_BREAK_REDUCTION 0
#endif

/* The sizes of the blocking. They do not affect the bits of the forward product; REDUCTION_BLOCK is part of the order
 * of summation of the backward products and therefore fixed. */
enum {
    PACKED_A_BYTES = 8 << 20,  /* the packed rows that all panels are multiplied with: in the last-level cache */
    PANELS_BYTES = 1536 << 10, /* the panels of one piece of work: in the second-level cache */
    MAX_ROWS = 2048,           /* rows packed at once */
    REDUCTION_BLOCK = 2048,    /* k of a backward product summed at once */
    PACKED_BYTES_PER_NS = 30,  /* that one core reads of operands in a cache of its own, about */
    SUM_BYTES = 16 << 20,      /* fp32 sums of a bf16 gradient */
    MAX_PANELS = 64            /* of one piece of work */
};

static int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static const struct cpu_matmul *provider_of(struct backend *backend, enum dtype type)
{
    const struct cpu_state *state = backend->state;
    return type == DTYPE_F32 ? state->matmul_f32 : type == DTYPE_BF16 ? state->matmul_bf16 : state->matmul_f16;
}

/* Bytes of one step of a block and of a panel. */
static size_t a_step_bytes(const struct cpu_matmul *p)
{
    return (size_t)p->mr * (size_t)p->k_unit * (size_t)p->a_bytes;
}
static size_t b_step_bytes(const struct cpu_matmul *p)
{
    return (size_t)p->nr * (size_t)p->k_unit * (size_t)p->b_bytes;
}

/* C[m, n] = A . B for one range of k. */
struct product {
    const struct cpu_matmul *provider;
    int64_t m, n, k;
    const char *a; /* [m, k], or [k, m] if a_transposed; rows a_stride elements apart */
    int64_t a_stride;
    bool a_transposed;
    const char *packed_b; /* panels over this k, or NULL: b is [k, n], packed on the fly */
    const char *b;
    int64_t b_stride;
    char *c; /* [m, n] of c_type */
    int64_t c_stride;
    enum dtype c_type;
    enum matmul_store how;
    size_t c_scratch_bytes; /* not 0: c is this much at the head of the scratch instead */
    bool split_k;           /* the negative control */
};

/* How the work is cut: items are (block of panels, range of blocks). */
struct cut {
    int64_t steps, panels, panels_each, panel_groups;
    int64_t blocks, blocks_each, block_groups;
};

static struct cut cut_work(const struct product *q, int64_t rows, int threads)
{
    const struct cpu_matmul *p = q->provider;
    struct cut cut = {.steps = div_up(q->k, p->k_unit), .panels = div_up(q->n, p->nr), .blocks = div_up(rows, p->mr)};
    int64_t fit = PANELS_BYTES / (int64_t)((size_t)cut.steps * b_step_bytes(p));
    /* Four items per thread, if there are enough panels, even out the time that other processes take. */
    int64_t even = div_up(cut.panels, 4 * (int64_t)threads);
    cut.panels_each = max64(1, min64(min64(fit, even), MAX_PANELS));
    cut.panel_groups = div_up(cut.panels, cut.panels_each);
    int64_t groups = cut.panel_groups >= threads ? 1 : div_up(2 * (int64_t)threads, cut.panel_groups);
    cut.blocks_each = div_up(cut.blocks, min64(groups, cut.blocks));
    cut.block_groups = div_up(cut.blocks, cut.blocks_each);
    return cut;
}

static void store_tile(const struct product *q, const float *tile, int64_t row, int rows, int64_t col, int64_t cols)
{
    char *c = q->c + (size_t)(row * q->c_stride + col) * dtype_bytes(q->c_type);
    q->provider->store(tile, q->provider->nr, rows, cols, c, q->c_stride, q->c_type, q->how);
}

/* Multiplies one block by the panels first .. first + count, which are panel_bytes apart, over all of k. */
static void multiply_block(const struct product *q, const char *block, const char *panels, size_t panel_bytes,
                           int64_t first, int64_t count, int64_t steps, int64_t row, int rows, float *tile)
{
    const struct cpu_matmul *p = q->provider;
    const bool plain = rows == p->mr && q->c_type == DTYPE_F32 && q->how == MATMUL_SET;
    for (int64_t i = 0; i < count; i++) {
        const char *panel = panels + (size_t)i * panel_bytes;
        const int64_t col = (first + i) * p->nr, cols = min64(p->nr, q->n - col);
        if (plain && cols == p->nr) {
            float *c = (float *)(void *)q->c + row * q->c_stride + col;
            p->kernel(block, panel, steps, rows, c, q->c_stride);
        } else {
            p->kernel(block, panel, steps, rows, tile, p->nr);
            store_tile(q, tile, row, rows, col, cols);
        }
    }
}

/* The negative control: two sums instead of one. */
static void multiply_split(const struct product *q, const char *block, const char *panels, size_t panel_bytes,
                           int64_t first, int64_t count, int64_t steps, int64_t row, int rows, float *tile)
{
    const struct cpu_matmul *p = q->provider;
    const int64_t size = (int64_t)p->mr * p->nr, half = steps / 2;
    for (int64_t i = 0; i < count; i++) {
        const char *b = panels + (size_t)i * panel_bytes;
        int64_t col = (first + i) * p->nr;
        p->kernel(block, b, half, rows, tile, p->nr);
        p->kernel(block + (size_t)half * a_step_bytes(p), b + (size_t)half * b_step_bytes(p), steps - half, rows,
                  tile + size, p->nr);
        for (int64_t j = 0; j < (int64_t)rows * p->nr; j++)
            tile[j] += tile[size + j];
        store_tile(q, tile, row, rows, col, min64(p->nr, q->n - col));
    }
}

/* One product of some rows, as the threads see it. */
struct job {
    struct backend *backend;
    const struct product *q;
    struct cut cut;
    char *packed_a, *panels; /* panels: panel_bytes for each thread, or none */
    size_t block_bytes, panel_bytes;
    int64_t row0, rows;
};

static void multiply_item(const struct job *job, int64_t item, char *panel)
{
    const struct product *q = job->q;
    const struct cut *cut = &job->cut;
    _Alignas(64) float tile[2 * MATMUL_MAX_MR * MATMUL_MAX_NR];
    const struct cpu_matmul *p = q->provider;
    const size_t panel_bytes = (size_t)cut->steps * b_step_bytes(p);
    int64_t panel_begin = item / cut->block_groups * cut->panels_each;
    int64_t panel_end = min64(cut->panels, panel_begin + cut->panels_each);
    int64_t block_begin = item % cut->block_groups * cut->blocks_each;
    int64_t block_end = min64(cut->blocks, block_begin + cut->blocks_each);
    const char *panels = panel;
    if (q->packed_b != NULL) {
        panels = q->packed_b + (size_t)panel_begin * panel_bytes;
    } else {
        for (int64_t j = panel_begin; j < panel_end; j++)
            p->pack_b_t(panel + (size_t)(j - panel_begin) * panel_bytes,
                        q->b + (size_t)(j * p->nr) * dtype_bytes(p->b_type), q->b_stride,
                        (int)min64(p->nr, q->n - j * p->nr), q->k);
    }
    for (int64_t i = block_begin; i < block_end; i++) {
        const char *block = job->packed_a + (size_t)i * job->block_bytes;
        const int64_t row = job->row0 + i * p->mr;
        int block_rows = (int)min64(p->mr, job->rows - i * p->mr);
        if (cpu_stopped(job->backend))
            return;
        (COHORT_BREAK_REDUCTION && q->split_k ? multiply_split : multiply_block)(
            q, block, panels, panel_bytes, panel_begin, panel_end - panel_begin, cut->steps, row, block_rows, tile);
    }
}

static void multiply_items(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct cpu_matmul *p = job->q->provider;
    if (p->begin != NULL)
        p->begin();
    for (int64_t item = begin; item < end; item++)
        multiply_item(job, item, job->panels + (size_t)thread * job->panel_bytes);
    if (p->end != NULL)
        p->end();
}

/* Packs blocks of rows. */
static void pack_blocks(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct product *q = job->q;
    const struct cpu_matmul *p = q->provider;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = job->row0 + i * p->mr;
        const int block_rows = (int)min64(p->mr, job->rows - i * p->mr);
        const char *a = q->a + (size_t)(q->a_transposed ? row : row * q->a_stride) * dtype_bytes(p->type);
        (q->a_transposed ? p->pack_a_t : p->pack_a)(job->packed_a + (size_t)i * job->block_bytes, a, q->a_stride,
                                                    block_rows, q->k);
    }
}

static size_t round_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Returns the scratch, at whose head c is if it was asked for there; NULL if there is none (the
 * state is then marked failed and the next checked call says so). */
static void *multiply(struct backend *backend, struct product *q)
{
    const struct cpu_matmul *p = q->provider;
    if (q->m == 0 || q->n == 0)
        return NULL;
    assert(q->k > 0);
    const double step_ns =
        (double)div_up(q->m, p->mr) * p->mr / p->products_per_ns + (double)p->b_bytes / PACKED_BYTES_PER_NS;
    const int threads = cpu_threads(backend, q->n * q->k, step_ns);
    const int64_t steps = div_up(q->k, p->k_unit);
    const size_t block_bytes = (size_t)steps * a_step_bytes(p);
    const int64_t fit = max64(1, PACKED_A_BYTES / (int64_t)block_bytes);
    const int64_t max_rows = min64(q->m, min64(fit, MAX_ROWS / p->mr + 1) * p->mr);

    const size_t a_bytes = round_up((size_t)div_up(max_rows, p->mr) * block_bytes);
    const struct cut most = cut_work(q, max_rows, threads);
    const size_t panel_bytes =
        q->packed_b != NULL ? 0 : round_up((size_t)most.panels_each * (size_t)steps * b_step_bytes(p));
    const size_t c_bytes = round_up(q->c_scratch_bytes);
    char *scratch = cpu_scratch(backend, c_bytes + a_bytes + (size_t)threads * panel_bytes);
    if (scratch == NULL)
        return NULL;
    if (c_bytes > 0)
        q->c = scratch;
    struct job job = {.backend = backend,
                      .q = q,
                      .packed_a = scratch + c_bytes,
                      .panels = scratch + c_bytes + a_bytes,
                      .block_bytes = block_bytes,
                      .panel_bytes = panel_bytes};
    for (int64_t row0 = 0; row0 < q->m; row0 += max_rows) {
        job.row0 = row0;
        job.rows = min64(max_rows, q->m - row0);
        job.cut = cut_work(q, job.rows, threads);
        assert(job.cut.panels_each == most.panels_each); /* the size does not depend on the rows */
        /* A single block is packed here: with few rows, handing it out costs more. */
        cpu_run(backend, job.cut.blocks == 1 ? 1 : threads, job.cut.blocks, 0, pack_blocks, &job);
        cpu_run(backend, threads, job.cut.panel_groups * job.cut.block_groups, 1, multiply_items, &job);
    }
    return scratch;
}

static struct product forward_product(const struct matmul_forward *p)
{
    const struct weight *w = p->w;
    return (struct product){.provider = w->provider,
                            .m = p->m,
                            .n = w->n,
                            .k = w->k,
                            .a = p->x,
                            .a_stride = w->k,
                            .packed_b = w->packed,
                            .c = p->y,
                            .c_stride = p->y_stride,
                            .c_type = p->y_type,
                            .how = p->accumulate ? MATMUL_ADD : MATMUL_SET,
                            .split_k = COHORT_BREAK_REDUCTION && p->m >= 16};
}

void cpu_matmul_forward(struct backend *backend, const struct matmul_forward *p)
{
    assert(!p->accumulate || p->y_type == DTYPE_F32);
    matmul_make_input(backend, p);
    matmul_copy_before(backend, p);
    struct product q = forward_product(p);
    multiply(backend, &q);
}

/* Several products as the threads see them: the items of all, one product's behind the other's. */
struct many {
    const struct job *jobs;
    const int64_t *first_block, *first_item; /* [count + 1] */
    int32_t count;
};

/* The last job that begins at or before an item. */
static int32_t job_of(const int64_t *first, int32_t count, int64_t item)
{
    int32_t low = 0, high = count;
    while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        if (first[middle] <= item)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void pack_many(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct many *many = context;
    for (int64_t i = begin; i < end; i++) {
        const int32_t j = job_of(many->first_block, many->count, i);
        pack_blocks(&many->jobs[j], i - many->first_block[j], i - many->first_block[j] + 1, thread);
    }
}

static void multiply_many(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct many *many = context;
    const struct cpu_matmul *p = many->jobs[0].q->provider;
    (void)thread;
    if (p->begin != NULL)
        p->begin();
    for (int64_t item = begin; item < end; item++) {
        const int32_t j = job_of(many->first_item, many->count, item);
        multiply_item(&many->jobs[j], item - many->first_item[j], NULL);
    }
    if (p->end != NULL)
        p->end();
}

void cpu_matmul_forward_many(struct backend *backend, const struct matmul_forward *products, int32_t count)
{
    if (count == 0)
        return;
    const struct weight *w = products[0].w;
    const struct cpu_matmul *p = w->provider;
    const int64_t steps = div_up(w->k, p->k_unit);
    const size_t block_bytes = (size_t)steps * a_step_bytes(p), n = (size_t)count;
    int64_t blocks = 0, rows = 0;
    for (int32_t i = 0; i < count; i++) {
        blocks += div_up(products[i].m, p->mr);
        rows += products[i].m;
    }
    const size_t jobs_bytes = round_up(n * sizeof(struct job)), q_bytes = round_up(n * sizeof(struct product)),
                 list_bytes = round_up((n + 1) * sizeof(int64_t));
    char *scratch = cpu_scratch(backend, (size_t)blocks * block_bytes + jobs_bytes + q_bytes + 2 * list_bytes);
    if (scratch == NULL)
        return;
    struct job *jobs = (struct job *)(void *)(scratch + (size_t)blocks * block_bytes);
    struct product *q = (struct product *)(void *)((char *)jobs + jobs_bytes);
    int64_t *first_block = (int64_t *)(void *)((char *)q + q_bytes),
            *first_item = first_block + list_bytes / sizeof(int64_t);
    const double step_ns =
        (double)(blocks * p->mr) / p->products_per_ns + (double)count * (double)p->b_bytes / PACKED_BYTES_PER_NS;
    const int threads = cpu_threads(backend, w->n * w->k, step_ns);
    first_block[0] = first_item[0] = 0;
    for (int32_t i = 0; i < count; i++) {
        q[i] = forward_product(&products[i]);
        jobs[i] = (struct job){.backend = backend,
                               .q = &q[i],
                               .cut = cut_work(&q[i], products[i].m, threads),
                               .packed_a = scratch + (size_t)first_block[i] * block_bytes,
                               .block_bytes = block_bytes,
                               .rows = products[i].m};
        first_block[i + 1] = first_block[i] + jobs[i].cut.blocks;
        first_item[i + 1] = first_item[i] + jobs[i].cut.panel_groups * jobs[i].cut.block_groups;
    }
    const struct many many = {jobs, first_block, first_item, count};
    cpu_run(backend, rows < p->mr ? 1 : threads, blocks, 0, pack_many, &many);
    cpu_run(backend, threads, first_item[count], 1, multiply_many, &many);
}

void cpu_matmul_add(struct backend *backend, const struct weight *w, int64_t m, const void *x, void *y,
                    int64_t y_stride, enum dtype y_type)
{
    struct product q = {.provider = w->provider,
                        .m = m,
                        .n = w->n,
                        .k = w->k,
                        .a = x,
                        .a_stride = w->k,
                        .packed_b = w->packed,
                        .c = y,
                        .c_stride = y_stride,
                        .c_type = y_type,
                        .how = MATMUL_ADD_NONZERO};
    multiply(backend, &q);
}

void cpu_matmul_add_input(struct backend *backend, const struct weight *w, int64_t m, const void *x, void *y,
                          enum dtype y_type)
{
    struct product q = {.provider = w->provider,
                        .m = m,
                        .n = w->k,
                        .k = w->n,
                        .a = x,
                        .a_stride = w->n,
                        .b = w->natural,
                        .b_stride = w->k,
                        .c = y,
                        .c_stride = w->k,
                        .c_type = y_type,
                        .how = MATMUL_ADD_NONZERO};
    multiply(backend, &q);
}

/* The reduction of dx = dy . w runs over n, in blocks, for the rows of one q. */
static void *multiply_blocks(struct backend *backend, struct product *q, const struct weight *w, const char *dy)
{
    const size_t type_bytes = dtype_bytes(w->type);
    const struct cpu_state *state = backend->state;
    size_t scratch_bytes = 0;
    void *scratch = NULL;
    const enum matmul_store how = q->how;
    for (int64_t n0 = 0; n0 < w->n; n0 += REDUCTION_BLOCK) {
        q->k = min64(REDUCTION_BLOCK, w->n - n0); /* the first is the largest, so that the scratch grows only there */
        q->a = dy + (size_t)n0 * type_bytes;
        q->b = (const char *)w->natural + (size_t)(n0 * w->k) * dtype_bytes(w->provider->b_type);
        q->how = n0 > 0 ? MATMUL_ADD : how;
        scratch = multiply(backend, q);
        if (scratch == NULL)
            break;
        assert(n0 == 0 || state->scratch_bytes == scratch_bytes);
        scratch_bytes = state->scratch_bytes;
    }
    return scratch;
}

/* Converts sums to the type that they are stored in. */
struct store_job {
    const struct cpu_matmul *provider;
    const float *sum; /* [rows, k] */
    char *dx;         /* [rows, k] type */
    int64_t k;
    enum dtype type;
};

static void store_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct store_job *job = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        job->provider->store(job->sum + i * job->k, job->k, 1, job->k,
                             job->dx + (size_t)(i * job->k) * dtype_bytes(job->type), job->k, job->type, MATMUL_SET);
}

/* A bf16 dx of more than one block is summed in fp32 scratch first, some rows at a time. */
void cpu_matmul_backward_input(struct backend *backend, const struct matmul_backward_input *p)
{
    const struct weight *w = p->w;
    const struct cpu_matmul *provider = w->provider;
    assert(w->natural != NULL);
    assert(!p->accumulate || p->dx_type == DTYPE_F32);
    const bool sum_apart = p->dx_type != DTYPE_F32 && w->n > REDUCTION_BLOCK;
    const int64_t fit = max64(1, SUM_BYTES / (w->k * (int64_t)sizeof(float) * provider->mr));
    const int64_t max_rows = sum_apart ? min64(p->m, fit * provider->mr) : p->m;
    for (int64_t row0 = 0; row0 < p->m; row0 += max_rows) {
        const int64_t rows = min64(max_rows, p->m - row0);
        const char *dy = (const char *)p->dy + (size_t)(row0 * p->dy_stride) * dtype_bytes(w->type);
        char *dx = (char *)p->dx + (size_t)(row0 * w->k) * dtype_bytes(p->dx_type);
        struct product q = {.provider = provider,
                            .m = rows,
                            .n = w->k,
                            .a_stride = p->dy_stride,
                            .b_stride = w->k,
                            .c = dx,
                            .c_stride = w->k,
                            .c_type = sum_apart ? DTYPE_F32 : p->dx_type,
                            .c_scratch_bytes = sum_apart ? (size_t)(rows * w->k) * sizeof(float) : 0,
                            .how = p->accumulate ? MATMUL_ADD : MATMUL_SET};
        const float *sum = multiply_blocks(backend, &q, w, dy);
        if (sum == NULL || !sum_apart)
            continue;
        const struct store_job job = {provider, sum, dx, w->k, p->dx_type};
        cpu_run(backend, cpu_threads(backend, rows * w->k, 0.15), rows, 0, store_rows, &job);
    }
}

/* dw += dy^T . x: the reduction runs over m, in blocks. */
void cpu_matmul_backward_weight(struct backend *backend, const struct matmul_backward_weight *p)
{
    const size_t type_bytes = dtype_bytes(p->type);
    struct product q = {.provider = provider_of(backend, p->type),
                        .m = p->n,
                        .n = p->k,
                        .a_stride = p->dy_stride,
                        .a_transposed = true,
                        .b_stride = p->k,
                        .c = (char *)p->dw,
                        .c_stride = p->k,
                        .c_type = DTYPE_F32,
                        .how = MATMUL_ADD};
    for (int64_t m0 = 0; m0 < p->m; m0 += REDUCTION_BLOCK) {
        q.k = min64(REDUCTION_BLOCK, p->m - m0);
        q.a = (const char *)p->dy + (size_t)(m0 * p->dy_stride) * type_bytes;
        q.b = (const char *)p->x + (size_t)(m0 * p->k) * type_bytes;
        multiply(backend, &q);
    }
}

/* The bytes of the packed weight, or 0 if the size is impossible. */
static size_t packed_bytes(const struct cpu_matmul *p, int64_t n, int64_t k)
{
    size_t bytes = 0;
    if (n <= 0 || k <= 0 || n > INT64_MAX - MATMUL_MAX_NR || k > INT64_MAX - 64 ||
        __builtin_mul_overflow((size_t)div_up(k, p->k_unit), b_step_bytes(p), &bytes) ||
        __builtin_mul_overflow((size_t)div_up(n, p->nr), bytes, &bytes))
        return 0;
    return bytes;
}

size_t cpu_weight_bytes(struct backend *backend, const struct weight_source *source)
{
    return packed_bytes(provider_of(backend, storage_dtype(source->format)), source->n, source->k);
}

cohort_status cpu_weight_create(struct backend *backend, struct weight **out, const struct weight_source *source,
                                cohort_error *err)
{
    const int64_t n = source->n, k = source->k;
    cohort_status status = COHORT_OK;
    struct weight *weight = NULL;
    *out = NULL;
    if (source->format != STORAGE_F32 && source->format != STORAGE_BF16 && source->format != STORAGE_F16)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "weight [%lld, %lld] has format %d; products take F32, BF16 or F16", (long long)n,
                         (long long)k, (int)source->format);
    assert(source->scales == NULL);
    const struct cpu_matmul *p = provider_of(backend, storage_dtype(source->format));
    size_t bytes = packed_bytes(p, n, k);
    if (bytes == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "weight [%lld, %lld] is not a possible shape", (long long)n,
                         (long long)k);
    TRY(mem_alloc(&weight, 1, sizeof *weight, "weight", err));
    *weight = (struct weight){.natural = source->data, .provider = p, .n = n, .k = k, .type = p->type};
    weight->lent = source->room != NULL;
    weight->packed = source->room;
    if (!weight->lent)
        TRY_GOTO(cpu_alloc(backend, &weight->packed, bytes, "packed weight", err));
    if (weight->natural != NULL)
        cpu_weight_refresh(backend, weight);
    *out = weight;
    weight = NULL;
cleanup:
    cpu_weight_destroy(backend, weight);
    return status;
}

/* rows: [weight->n - first, k], from row first on, which begins a panel. */
static void pack_rows(const struct weight *weight, int64_t first, int64_t past, const char *rows)
{
    const struct cpu_matmul *p = weight->provider;
    const size_t panel_bytes = (size_t)div_up(weight->k, p->k_unit) * b_step_bytes(p);
    const size_t row_bytes = (size_t)weight->k * dtype_bytes(p->b_type);
    for (int64_t row = first; row < past; row += p->nr)
        p->pack_b((char *)weight->packed + (size_t)(row / p->nr) * panel_bytes,
                  rows + (size_t)(row - first) * row_bytes, weight->k, (int)min64(p->nr, past - row), weight->k);
}

static void pack_panels(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct weight *weight = context;
    const int64_t nr = weight->provider->nr;
    (void)thread;
    pack_rows(weight, begin * nr, min64(end * nr, weight->n),
              (const char *)weight->natural + (size_t)(begin * nr * weight->k) * dtype_bytes(weight->provider->b_type));
}

void cpu_weight_fill(struct backend *backend, struct weight *weight, int64_t first, int64_t rows, const void *data)
{
    (void)backend;
    assert(first % weight->provider->nr == 0 && first + rows <= weight->n &&
           (rows % weight->provider->nr == 0 || first + rows == weight->n));
    pack_rows(weight, first, first + rows, data);
}

/* Not ended by a stop: this is the last part of the optimizer's update. */
void cpu_weight_refresh(struct backend *backend, struct weight *weight)
{
    assert(weight->natural != NULL);
    cpu_run(backend, cpu_threads(backend, weight->n * weight->k, 0.2), div_up(weight->n, weight->provider->nr), 0,
            pack_panels, weight);
}

void cpu_weight_destroy(struct backend *backend, struct weight *weight)
{
    if (weight == NULL)
        return;
    if (!weight->lent)
        cpu_free(backend, weight->packed);
    mem_free(weight);
}
