#include "model/rotation.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

/* Elements of one table. */
static size_t table_count(int32_t positions, int32_t head_dim) { return (size_t)positions * (size_t)(head_dim / 2); }

size_t rotation_bytes(int32_t positions, int32_t head_dim)
{
    return 2 * table_count(positions, head_dim) * sizeof(float);
}

struct angles {
    const float *frequencies; /* [half] */
    float *cosine, *sine;     /* [positions, half] */
    float factor;
    int32_t half;
};

static void rotation_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct angles *a = context;
    (void)thread;
    for (int64_t p = begin; p < end; p++) {
        for (int32_t i = 0; i < a->half; i++) {
            const double angle = (double)((float)p * a->frequencies[i]);
            const size_t at = (size_t)p * (size_t)a->half + (size_t)i;
            a->cosine[at] = (float)cos(angle) * a->factor;
            a->sine[at] = (float)sin(angle) * a->factor;
        }
    }
}

cohort_status rotation_build(struct rotation *rotation, struct backend *backend, const struct rope_config *rope,
                             int32_t positions, int32_t head_dim, struct pool *pool, cohort_error *err)
{
    const int32_t half = head_dim / 2;
    const size_t count = table_count(positions, head_dim);
    float *host = NULL, *frequencies = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&host, 2 * count, sizeof *host, "rotation table", err));
    TRY_GOTO(mem_alloc(&frequencies, (size_t)half, sizeof *frequencies, "rotation table", err));
    rope_config_frequencies(rope, head_dim, frequencies);
    const struct angles angles = {frequencies, host, host + count, (float)rope->attention_factor, half};
    pool_run(pool, positions, 0, rotation_rows, &angles); /* a stop is found by who reads the weights */
    TRY_GOTO(backend->ops->alloc(backend, &rotation->cos_table, count * sizeof(float), "rotation table", err));
    TRY_GOTO(backend->ops->alloc(backend, &rotation->sin_table, count * sizeof(float), "rotation table", err));
    backend->ops->upload(backend, rotation->cos_table, host, count * sizeof(float));
    backend->ops->upload(backend, rotation->sin_table, host + count, count * sizeof(float));
cleanup:
    mem_free(frequencies);
    mem_free(host);
    return status;
}

void rotation_free(struct rotation *rotation, struct backend *backend)
{
    backend->ops->free(backend, rotation->cos_table);
    backend->ops->free(backend, rotation->sin_table);
    memset(rotation, 0, sizeof *rotation);
}
