#include "recipe/data_open.h"

#include "ranks/ranks.h"

#include <string.h>

enum { REPORT_EVERY = 4096 };

static void tell(void *context, const char *line) { observer_message(context, "%s", line); }

cohort_status data_open_spec(struct dataset *set, const char *spec, size_t limit, bool forms,
                             const struct options *options, const cohort_observer *observer, cohort_error *err)
{
    const size_t n = options_list_count(options, OPTION_COLUMNS);
    const char **columns = NULL;
    if (strcmp(spec, "-") == 0 && ranks_count(options_ranks(options)) > 1)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "-: of several ranks one has this input; give a file, which all can read");
    TRY(mem_alloc(&columns, n, sizeof *columns, "columns", err));
    for (size_t i = 0; i < n; i++)
        columns[i] = options_list_item(options, OPTION_COLUMNS, i);
    const cohort_status status = dataset_open(set,
                                              &(struct dataset_request){.spec = spec,
                                                                        .limit = limit,
                                                                        .columns = columns,
                                                                        .n_columns = n,
                                                                        .recognise = forms,
                                                                        .stop = options_stop(options)},
                                              err);
    mem_free(columns);
    if (status == COHORT_OK && observer != NULL) {
        observer_notes(observer, &set->notes);
        set->tell = tell;
        set->tell_context = (cohort_observer *)(uintptr_t)observer;
    }
    return status;
}

cohort_status data_open(struct dataset *set, const struct options *options, enum option_id named, size_t limit,
                        bool forms, const cohort_observer *observer, cohort_error *err)
{
    const size_t most = named == OPTION_DATA ? (size_t)options_int_or(options, OPTION_DATA_LIMIT, 0) : 0;
    return data_open_spec(set, options_string(options, named), limit == 0 || (most > 0 && most < limit) ? most : limit,
                          forms, options, observer, err);
}

cohort_status data_order(struct dataset_order *order, const struct dataset_part *parts, size_t n_parts,
                         const struct options *options, cohort_error *err)
{
    const int64_t seed = options_int_or(options, OPTION_DATA_SHUFFLE_SEED, options_int(options, OPTION_SEED));
    return dataset_order_create(order, parts, n_parts, (uint64_t)seed, options_bool(options, OPTION_SHUFFLE_DATASET),
                                err);
}

cohort_status data_report(const struct dataset *set, size_t i, const struct options *options,
                          const cohort_observer *observer, cohort_error *err)
{
    TRY(stop_check(options_stop(options), err));
    if (observer == NULL || i == 0 || i % REPORT_EVERY != 0)
        return COHORT_OK;
    const cohort_progress progress = {
        .phase = "read", .done = (int64_t)i, .total = (int64_t)set->n_rows, .unit = "rows"};
    return observer_progress(observer, &progress) ? COHORT_OK
                                                  : error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
}
