/* What options there are, for bindings: check arguments, translate, nothing else. */
#include "api/handles.h"

#include <string.h>

enum { NAMES = 8 }; /* other names of one option, at most */

static cohort_status missing(cohort_error *err, const char *function, const char *what)
{
    return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s must not be NULL", function, what);
}

cohort_status cohort_options_list(cohort_command command, bool (*visit)(void *context, const cohort_option *option),
                                  void *context, cohort_error *err)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    if (visit == NULL)
        return missing(err, "cohort_options_list", "visit");
    if (cohort_command_name(command) == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_options_list: there is no command %d", (int)command);
    for (size_t i = 0; i < count; i++) {
        const char *names[NAMES];
        const struct option_spec *spec = &table[i];
        if ((spec->commands & (1u << (unsigned)command)) == 0)
            continue;
        cohort_option option = {.size = sizeof option,
                                .name = spec->name,
                                .group = spec->group,
                                .help = spec->help,
                                .fallback = spec->fallback,
                                .type = options_type_word(spec),
                                .choices = spec->choices,
                                .names = names,
                                .n_names = options_other_names(spec, names, NAMES)};
        while (spec->choices != NULL && spec->choices[option.n_choices] != NULL)
            option.n_choices++;
        if (option.n_names > NAMES)
            option.n_names = NAMES;
        if (!visit(context, &option))
            break;
    }
    return COHORT_OK;
}

cohort_status cohort_options_explain(const cohort_options *options, const char *name, char **text, bool *needless,
                                     cohort_error *err)
{
    struct text said = {0};
    if (options == NULL || name == NULL || text == NULL || needless == NULL)
        return missing(err, "cohort_options_explain", "options, name, text and needless");
    *text = NULL;
    *needless = false;
    if (cohort_options_has(options, name))
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_options_explain: '%.80s' is an option of %s", name,
                         cohort_command_name(options->command));
    cohort_status status = options_explain(options->options, name, &said, needless, err);
    if (status != COHORT_OK) {
        text_free(&said);
        return status;
    }
    *text = said.data;
    return COHORT_OK;
}
