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

cohort_status rotation_build(struct rotation *rotation, struct backend *backend, const struct rope_config *rope,
                             int32_t positions, int32_t head_dim, cohort_error *err)
{
    const int32_t half = head_dim / 2;
    const size_t count = table_count(positions, head_dim);
    const float factor = (float)rope->attention_factor;
    float *host = NULL, *frequencies = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&host, 2 * count, sizeof *host, "rotation table", err));
    TRY_GOTO(mem_alloc(&frequencies, (size_t)half, sizeof *frequencies, "rotation table", err));
    rope_config_frequencies(rope, head_dim, frequencies);
    for (int32_t i = 0; i < half; i++) {
        for (int32_t p = 0; p < positions; p++) {
            float angle = (float)p * frequencies[i];
            size_t at = (size_t)p * (size_t)half + (size_t)i;
            host[at] = (float)cos((double)angle) * factor;
            host[count + at] = (float)sin((double)angle) * factor;
        }
    }
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
