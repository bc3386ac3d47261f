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
        table->bytes = param->offset + storage_bytes(param->format, param->count);
        table->n_weights += param->count;
    }
    table->bytes = round_up(table->bytes, unit);
}

const struct param *param_find(const struct param_table *table, const char *name)
{
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
    memset(table, 0, sizeof *table);
}
