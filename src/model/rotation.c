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

cohort_status rotation_build(struct rotation *rotation, struct backend *backend, double theta, int32_t positions,
                             int32_t head_dim, cohort_error *err)
{
    const int32_t half = head_dim / 2;
    const size_t count = table_count(positions, head_dim);
    float *host = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&host, 2 * count, sizeof *host, "rotation table", err));
    for (int32_t i = 0; i < half; i++) {
        float frequency = (float)(1.0 / pow(theta, 2.0 * i / head_dim));
        for (int32_t p = 0; p < positions; p++) {
            float angle = (float)p * frequency;
            size_t at = (size_t)p * (size_t)half + (size_t)i;
            host[at] = (float)cos((double)angle);
            host[count + at] = (float)sin((double)angle);
        }
    }
    TRY_GOTO(backend->ops->alloc(backend, &rotation->cos_table, count * sizeof(float), "rotation table", err));
    TRY_GOTO(backend->ops->alloc(backend, &rotation->sin_table, count * sizeof(float), "rotation table", err));
    backend->ops->upload(backend, rotation->cos_table, host, count * sizeof(float));
    backend->ops->upload(backend, rotation->sin_table, host + count, count * sizeof(float));
cleanup:
    mem_free(host);
    return status;
}

void rotation_free(struct rotation *rotation, struct backend *backend)
{
    backend->ops->free(backend, rotation->cos_table);
    backend->ops->free(backend, rotation->sin_table);
    memset(rotation, 0, sizeof *rotation);
}
