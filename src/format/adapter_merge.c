#include "format/adapter_merge.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static cohort_status keep(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                          cohort_error *err)
{
    const struct adapter_merge *m = context;
    (void)err;
    memcpy(m->values + param->offset + storage_bytes(param->format, first), data, storage_bytes(param->format, count));
    return COHORT_OK;
}

static const float *values_of(const struct adapter_merge *m, const struct param *param)
{
    return param == NULL ? NULL : (const float *)(const void *)(m->values + param->offset);
}

/* A bias of B goes into the base's own bias. */
static const struct param *bias_of(const struct adapter_merge *m, const struct adapter_site *site)
{
    return adapter_bias_of(m->base, site->base);
}

cohort_status adapter_merge_open(struct adapter_merge *merge, const char *base_dir, const struct param_table *base,
                                 const struct model_config *config, const char *adapter_dir,
                                 const struct adapter_settings *settings, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    int64_t widest = 0, most = 0;
    *merge = (struct adapter_merge){.base = base};
    TRY_GOTO(adapter_layout_open(&merge->layout, settings, base, config, STORAGE_F32, err));
    for (int32_t i = 0; i < merge->layout.n_sites; i++) {
        const struct adapter_site *site = &merge->layout.sites[i];
        if (config->tie_embeddings && config->n_labels == 0 && site->where != ADAPTER_OF_PROJECTION) {
            merge->untied = true;
            merge->embedding = site->base;
        }
        most = param_rows(site->base) > most ? param_rows(site->base) : most;
        widest = param_columns(site->base) > widest ? param_columns(site->base) : widest;
    }
    TRY_GOTO(mem_alloc(&merge->values, merge->layout.table.bytes, 1, "adapter", err));
    TRY_GOTO(mem_alloc(&merge->factor, (size_t)(most > widest ? most : widest), sizeof(float), "adapter", err));
    TRY_GOTO(mem_alloc(&merge->row, (size_t)widest, sizeof(float), "adapter", err));
    TRY_GOTO(adapter_read(adapter_dir, settings, &merge->layout, keep, merge, NULL, err));
    TRY_GOTO(checkpoint_source_open(&merge->source, base_dir, base, err));
    status = adapter_check_base(adapter_dir, settings, &merge->layout, checkpoint_source_fetch, merge->source, err);
cleanup:
    if (status != COHORT_OK)
        adapter_merge_close(merge);
    return status;
}

void adapter_merge_close(struct adapter_merge *merge)
{
    checkpoint_source_close(merge->source);
    adapter_layout_free(&merge->layout);
    mem_free(merge->values);
    mem_free(merge->factor);
    mem_free(merge->row);
    memset(merge, 0, sizeof *merge);
}

/* row[from, to) = s (B A)[i, from .. to); of experts i counts the rows of all. */
static void delta_row(const struct adapter_merge *m, const struct adapter_site *site, int64_t i, int64_t from,
                      int64_t to)
{
    const int64_t k = param_columns(site->base), r = site->r;
    const int64_t expert = site->n_experts > 0 ? i / site->b->shape[1] : 0;
    const float *b = values_of(m, site->b) + i * r;
    float *row = m->row;
    for (int64_t c = from; c < to; c++)
        row[c] = 0;
    for (int64_t j = 0; j < site->r; j++) {
        const float *a = values_of(m, site->a) + (expert * r + j) * k;
        for (int64_t c = from; c < to; c++)
            row[c] = fmaf(b[j], a[c], row[c]);
    }
    for (int64_t c = from; c < to; c++)
        row[c] *= site->scale;
}

/* Of the sum of the squares of a row or column: struct fold's, so that what is merged in memory has the same bits. */
enum { LANES = 32 };

/* From the lanes, stride elements apart, of row or column i. */
static void find_factor(struct adapter_merge *m, const struct adapter_site *site, int64_t i, double *lane,
                        int64_t stride)
{
    const float magnitude = values_of(m, site->magnitude)[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l * stride] += lane[(l + half) * stride];
    const float norm = (float)sqrt(lane[0]);
    m->factor[i] = norm > 0.0f ? magnitude / norm : magnitude;
}

/* The factor of every row of a site with DoRA; of an embedding that of every column. */
static cohort_status find_factors(struct adapter_merge *m, const struct adapter_site *site, cohort_error *err)
{
    const struct param *base = site->base;
    const int64_t k = base->shape[1];
    const bool columns = site->where == ADAPTER_OF_EMBEDDING;
    const size_t n_lanes = (size_t)(columns ? k : 1) * LANES;
    void *row = NULL;
    double *lane = NULL; /* [LANES, k] of columns */
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&row, storage_bytes(base->format, k), 1, "a row", err));
    TRY_GOTO(mem_alloc(&lane, n_lanes, sizeof *lane, "sums of squares", err));
    for (int64_t i = 0; i < base->shape[0]; i++) {
        TRY_GOTO(checkpoint_source_fetch(m->source, base, i * k, k, row, err));
        delta_row(m, site, i, 0, k);
        if (!columns)
            memset(lane, 0, n_lanes * sizeof *lane);
        for (int64_t c = 0; c < k; c++) {
            const double value = (double)(storage_get(base->format, row, c) + m->row[c]);
            lane[columns ? i % LANES * k + c : c % LANES] += value * value;
        }
        if (!columns)
            find_factor(m, site, i, lane, 1);
    }
    for (int64_t c = 0; columns && c < k; c++)
        find_factor(m, site, c, lane + c, k);
    m->factor_of = site;
cleanup:
    mem_free(lane);
    mem_free(row);
    return status;
}

cohort_status adapter_merge_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                  cohort_error *err)
{
    struct adapter_merge *m = context;
    const bool head = m->untied && strcmp(param->name, "lm_head.weight") == 0;
    if (m->untied) /* param is of a table without the tie */
        param = head ? m->embedding : param_find(m->base, param->name);
    const struct param *saved = adapter_saved_as(&m->layout, param);
    int64_t first_row = 0;
    const struct adapter_site *site = adapter_site_of(&m->layout, param, head, &first_row);
    if (saved != NULL)
        memcpy(to, m->values + saved->offset + storage_bytes(saved->format, first),
               storage_bytes(saved->format, count));
    else
        TRY(checkpoint_source_fetch(m->source, param, first, count, to, err));
    for (int32_t s = 0; s < m->layout.n_sites; s++) {
        const struct adapter_site *candidate = &m->layout.sites[s];
        if (candidate->b_bias != NULL && bias_of(m, candidate) == param)
            for (int64_t i = 0; i < count; i++)
                storage_set(param->format, to, i,
                            storage_get(param->format, to, i) +
                                candidate->scale * values_of(m, candidate->b_bias)[first + i]);
    }
    if (site == NULL)
        return COHORT_OK;
    if (site->magnitude != NULL && m->factor_of != site)
        TRY(find_factors(m, site, err));
    const int64_t k = param_columns(param);
    for (int64_t at = first; at < first + count;) {
        const int64_t i = at / k, from = at % k, left = first + count - at;
        const int64_t end = from + left < k ? from + left : k;
        delta_row(m, site, first_row + i, from, end);
        for (int64_t c = from; c < end; c++) {
            const int64_t place = at - first + c - from;
            float value = storage_get(param->format, to, place) + m->row[c];
            if (site->magnitude != NULL)
                value *= m->factor[site->where == ADAPTER_OF_EMBEDDING ? c : i];
            storage_set(param->format, to, place, value);
        }
        at += end - from;
    }
    return COHORT_OK;
}
