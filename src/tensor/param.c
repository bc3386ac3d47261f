#include "tensor/param.h"

#include <assert.h>
#include <string.h>

static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

void param_table_layout(struct param_table *table)
{
    size_t unit = 1;
    table->bytes = 0;
    table->n_weights = 0;
    for (int32_t i = 0; i < table->n_params; i++) {
        struct param *param = &table->params[i];
        unit = storage_bytes(param->format, PARAM_ALIGNMENT);
        assert(!param->adjacent || (i > 0 && param->format == param[-1].format));
        param->offset = param->adjacent ? table->bytes : round_up(table->bytes, unit);
        table->bytes = param->offset + (param->packed ? 0 : storage_bytes(param->format, param->count));
        table->n_weights += param->count;
    }
    table->bytes = round_up(table->bytes, unit);
}

/* FNV-1a. */
static size_t slot_of(const struct param_table *table, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3ull;
    return (size_t)(hash ^ hash >> 32) & (table->n_slots - 1);
}

/* Open addressing in at least twice as many slots as there are names. */
cohort_status param_table_index(struct param_table *table, cohort_error *err)
{
    size_t n_slots = 16;
    while (n_slots < 2 * (size_t)table->n_params)
        n_slots *= 2;
    mem_free(table->by_name);
    table->by_name = NULL;
    TRY(mem_alloc(&table->by_name, n_slots, sizeof *table->by_name, "names of parameters", err));
    table->n_slots = n_slots;
    for (int32_t i = 0; i < table->n_params; i++) {
        size_t slot = slot_of(table, table->params[i].name);
        while (table->by_name[slot] != 0)
            slot = (slot + 1) & (n_slots - 1);
        table->by_name[slot] = i + 1;
    }
    return COHORT_OK;
}

static const struct param *look_up(const struct param_table *table, const char *name)
{
    for (size_t slot = slot_of(table, name); table->by_name[slot] != 0; slot = (slot + 1) & (table->n_slots - 1)) {
        const struct param *param = &table->params[table->by_name[slot] - 1];
        if (strcmp(param->name, name) == 0)
            return param;
    }
    return NULL;
}

const struct param *param_find(const struct param_table *table, const char *name)
{
    if (table->by_name != NULL)
        return look_up(table, name);
    for (int32_t i = 0; i < table->n_params; i++)
        if (strcmp(table->params[i].name, name) == 0)
            return &table->params[i];
    return NULL;
}

void param_table_free(struct param_table *table)
{
    if (table == NULL)
        return;
    mem_free(table->params);
    mem_free(table->by_name);
    memset(table, 0, sizeof *table);
}
