#include "tensor/param.h"

#include <string.h>

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
