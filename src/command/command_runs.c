/* cohort runs: what runs have recorded. */
#include "command/command.h"
#include "recipe/runs_view.h"

#include <string.h>

static cohort_status usage(cohort_error *err, const char *action)
{
    return error_set(err, COHORT_ERR_ARGUMENT,
                     "'%s' is not what runs does; it takes list, show NAME, compare A B, completions NAME, export NAME "
                     "or sql NAME 'SELECT ...' (cohort runs --help)",
                     action);
}

cohort_status command_runs(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    enum { MOST_WORDS = 16 };
    (void)extra;
    const struct runs_view view = {.options = options, .observer = observer};
    const size_t n = options_list_count(options, OPTION_ACTION);
    const char *words[MOST_WORDS] = {"list"};
    if (n > MOST_WORDS)
        return error_set(err, COHORT_ERR_ARGUMENT, "runs: %zu words; text with blanks goes between quotes", n);
    for (size_t i = 0; i < n; i++)
        words[i] = options_list_item(options, OPTION_ACTION, i);
    const char *action = words[0];
    if (strcmp(action, "list") == 0 && n <= 1)
        return runs_list(&view, err);
    if (strcmp(action, "compare") == 0)
        return runs_compare(&view, words + 1, n - 1, err);
    if (strcmp(action, "sql") == 0 && n != 3)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "sql takes a run and one SELECT between quotes, as in: cohort runs sql NAME 'SELECT * FROM "
                         "metrics WHERE step = 1'");
    if (strcmp(action, "sql") == 0)
        return runs_sql(&view, words[1], words[2], err);
    static const struct {
        const char *name;
        cohort_status (*run)(const struct runs_view *view, const char *name, cohort_error *err);
    } actions[] = {{"show", runs_show}, {"completions", runs_completions}, {"export", runs_export}};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (strcmp(action, actions[i].name) != 0)
            continue;
        if (n != 2)
            return error_set(err, COHORT_ERR_ARGUMENT, "%s takes one run, as in: cohort runs %s NAME", action, action);
        return actions[i].run(&view, words[1], err);
    }
    return usage(err, action);
}
