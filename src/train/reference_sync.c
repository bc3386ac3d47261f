#include "train/reference_sync.h"

#include <assert.h>
#include <string.h>

enum { PART = 1 << 20 }; /* elements of a tensor at once */

cohort_status reference_sync_open(struct reference_sync *sync, cohort_error *err)
{
    if (sync->steps == 0)
        return COHORT_OK;
    TRY(mem_alloc(&sync->policy, PART, sizeof(float), "mixing the reference", err));
    return mem_alloc(&sync->reference, PART, sizeof(float), "mixing the reference", err);
}

void reference_sync_close(struct reference_sync *sync)
{
    mem_free(sync->policy);
    mem_free(sync->reference);
}

bool reference_sync_mixed(const struct reference_sync *sync, int64_t step)
{
    return sync->steps > 0 && step >= sync->steps;
}

bool reference_sync_due(const struct reference_sync *sync, int64_t step)
{
    return reference_sync_mixed(sync, step) && step % sync->steps == 0;
}

static float mixed(double alpha, float policy, float reference)
{
    return (float)((1.0 - alpha) * (double)reference + alpha * (double)policy);
}

void reference_sync_values(double alpha, enum storage_format format, int64_t count, const void *policy, void *reference)
{
    for (int64_t i = 0; i < count; i++) {
        if (format == STORAGE_F32) {
            float *to = (float *)reference + i;
            *to = mixed(alpha, ((const float *)policy)[i], *to);
        } else {
            uint16_t *to = (uint16_t *)reference + i;
            *to = bf16_from_f32(mixed(alpha, f32_from_bf16(((const uint16_t *)policy)[i]), f32_from_bf16(*to)));
        }
    }
}

void reference_sync_mix(struct reference_sync *sync, struct model *reference, const struct model *policy)
{
    struct backend *backend = reference->backend;
    const struct param_table *table = &reference->base.table;
    assert(table->n_params == policy->base.table.n_params);
    backend->unstoppable++;
    for (int32_t i = 0; i < table->n_params; i++) {
        const struct param *param = &table->params[i], *other = &policy->base.table.params[i];
        assert(param->format == other->format && param->count == other->count);
        for (int64_t first = 0; first < param->count; first += PART) {
            const int64_t n = param->count - first < PART ? param->count - first : PART;
            const size_t bytes = storage_bytes(param->format, n), offset = storage_bytes(param->format, first);
            char *values = (char *)param_values(&reference->base, param) + offset;
            backend->ops->download(backend, sync->policy, (const char *)param_values(&policy->base, other) + offset,
                                   bytes);
            backend->ops->download(backend, sync->reference, values, bytes);
            reference_sync_values(sync->alpha, param->format, n, sync->policy, sync->reference);
            backend->ops->upload(backend, values, sync->reference, bytes);
        }
    }
    model_refresh(reference);
    backend->unstoppable--;
}
