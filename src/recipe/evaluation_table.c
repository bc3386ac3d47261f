/* The table of an evaluation. What is a standard error or a count of a quantity stands in the quantity's own line. */
#include "recipe/evaluation.h"

#include "base/number.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LABEL = 40, CELL = 96 };

/* Sets have the same metrics one behind the other; behind those of named ones comes what they have in common. */
static size_t of_first(const struct evaluation_sets *sets, const struct metrics *metrics)
{
    assert(sets->n > 0);
    return (metrics->count - (sets->items[0].name == NULL ? 0 : 1)) / sets->n;
}

/* PREFIX and what, of which the value is asked. */
static double value_of(const struct metrics *metrics, const struct evaluation_set *set, const char *what,
                       const char *more)
{
    char name[256];
    snprintf(name, sizeof name, "eval_%s%s%s%s", set->name == NULL ? "" : set->name, set->name == NULL ? "" : "_", what,
             more);
    return metrics_get(metrics, name);
}

static void write_cell(const struct metrics *metrics, const struct evaluation_set *set, const char *what,
                       char cell[CELL])
{
    const double value = value_of(metrics, set, what, ""), error = value_of(metrics, set, what, "/stderr"),
                 n = value_of(metrics, set, what, "/n");
    if (isnan(value))
        snprintf(cell, CELL, "null");
    else if (isnan(n))
        number_format(cell, CELL, "%.6g", value);
    else if (isnan(error))
        number_format(cell, CELL, "%.6g (n %.0f)", value, n);
    else
        number_format(cell, CELL, "%.6g +- %.2g (n %.0f)", value, error, n);
}

/* A line with its cells in columns that are as wide as the widest of their own. */
static cohort_status write_line(const char *label, const char *cell, size_t column, size_t n, int width,
                                struct text *out, cohort_error *err)
{
    if (column == 0)
        TRY(text_printf(out, err, "%-*s ", LABEL, label));
    return column + 1 < n ? text_printf(out, err, "%-*s  ", width, cell) : text_printf(out, err, "%s\n", cell);
}

static int width_of(const struct evaluation_sets *sets, const struct metrics *metrics, size_t column, size_t prefix)
{
    const struct evaluation_set *set = &sets->items[column];
    size_t width = set->name == NULL ? 0 : strlen(set->name);
    for (size_t i = 0; i < of_first(sets, metrics); i++) {
        char cell[CELL];
        write_cell(metrics, set, metrics->items[i].name + prefix, cell);
        width = strlen(cell) > width ? strlen(cell) : width;
    }
    return (int)width;
}

cohort_status evaluation_table(const struct evaluation_sets *sets, const struct metrics *metrics, struct text *out,
                               cohort_error *err)
{
    if (metrics->incomplete)
        return error_set(err, COHORT_ERR_MEMORY, "metrics of the evaluation: out of memory");
    char prefix[96]; /* of the first set, whose quantities are those of all */
    const char *name = sets->items[0].name;
    snprintf(prefix, sizeof prefix, "eval_%s%s", name == NULL ? "" : name, name == NULL ? "" : "_");
    const size_t skip = strlen(prefix);
    for (size_t c = 0; name != NULL && c < sets->n; c++)
        TRY(write_line("", sets->items[c].name, c, sets->n, width_of(sets, metrics, c, skip), out, err));
    for (size_t i = 0; i < of_first(sets, metrics); i++) {
        const char *metric = metrics->items[i].name;
        if (text_ends(metric, "/stderr") || text_ends(metric, "/n"))
            continue;
        for (size_t c = 0; c < sets->n; c++) {
            char cell[CELL];
            write_cell(metrics, &sets->items[c], metric + skip, cell);
            TRY(write_line(name == NULL ? metric : metric + skip, cell, c, sets->n, width_of(sets, metrics, c, skip),
                           out, err));
        }
    }
    return COHORT_OK;
}
