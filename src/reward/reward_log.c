#include "reward/reward.h"

#include <math.h>

/* metrics: {"NAME": [sum, count]}; extra: {"COLUMN": [a value for each row so far, null where none was given]}. */

static json_t *member(json_t **object, const char *key)
{
    if (*object == NULL)
        *object = json_object();
    json_t *value = json_object_get(*object, key);
    if (value == NULL && json_object_set_new(*object, key, json_array()) == 0)
        value = json_object_get(*object, key);
    return value;
}

bool reward_log_metric(struct reward_log *log, const char *name, double sum, int64_t count)
{
    json_t *pair = member(&log->metrics, name);
    if (pair == NULL)
        return false;
    const json_t *before = json_array_get(pair, 0), *n = json_array_get(pair, 1);
    /* JSON has no NaN: a null sum stands for it. */
    const bool number = !isnan(sum) && !json_is_null(before);
    json_t *both = number ? json_real(json_number_value(before) + sum) : json_null();
    json_t *total = json_integer(json_integer_value(n) + count);
    const bool good = both != NULL && total != NULL && json_array_clear(pair) == 0 &&
                      json_array_append(pair, both) == 0 && json_array_append(pair, total) == 0;
    json_decref(both);
    json_decref(total);
    return good;
}

bool reward_log_extra(struct reward_log *log, const char *column, size_t row, json_t *value)
{
    json_t *values = member(&log->extra, column);
    if (values == NULL)
        return false;
    while (json_array_size(values) <= row)
        if (json_array_append_new(values, json_null()) != 0)
            return false;
    return json_array_set(values, row, value) == 0;
}

bool reward_log_merge(struct reward_log *into, const struct reward_log *from, size_t first_row)
{
    const char *key = NULL;
    json_t *value = NULL;
    if (into->warning == NULL)
        into->warning = json_incref(from->warning);
    json_object_foreach(from->metrics, key, value)
    {
        const json_t *sum = json_array_get(value, 0);
        if (!reward_log_metric(into, key, json_is_null(sum) ? (double)NAN : json_number_value(sum),
                               json_integer_value(json_array_get(value, 1))))
            return false;
    }
    json_object_foreach(from->extra, key, value)
    {
        for (size_t i = 0; i < json_array_size(value); i++)
            if (!reward_log_extra(into, key, first_row + i, json_array_get(value, i)))
                return false;
    }
    return true;
}

bool reward_log_empty(const struct reward_log *log) { return log->metrics == NULL && log->extra == NULL; }

void reward_log_free(struct reward_log *log)
{
    json_decref(log->metrics);
    json_decref(log->extra);
    json_decref(log->warning);
    *log = (struct reward_log){0};
}
