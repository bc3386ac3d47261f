/* From argv to options. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static bool fail(const cohort_error *err)
{
    fprintf(stderr, "cohort: %s\n", err->message);
    return false;
}

/* "--name=value" split at '='; name and value are NULL-terminated copies in buffer. */
static bool split(const char *argument, char *name, size_t size, const char **value)
{
    const char *equals = strchr(argument, '=');
    size_t length = equals == NULL ? strlen(argument) : (size_t)(equals - argument);
    if (length >= size)
        return false;
    memcpy(name, argument, length);
    name[length] = '\0';
    *value = equals == NULL ? NULL : equals + 1;
    return true;
}

static bool is_flag(const char *argument)
{
    return strncmp(argument, "--", 2) == 0 && argument[2] != '\0';
}

bool cli_parse(cohort_options *options, int argc, char **argv)
{
    const char *yaml = NULL;
    cohort_error err = {0};
    for (int i = 0; i < argc; i++) {
        char name[128], origin[160];
        const char *value = NULL;
        if (!is_flag(argv[i])) {
            fprintf(stderr, "cohort: '%s' is not an option; options begin with -- (see --help)\n",
                    argv[i]);
            return false;
        }
        if (!split(argv[i] + 2, name, sizeof name, &value)) {
            fprintf(stderr, "cohort: '%.60s...' is no option (see --help)\n", argv[i]);
            return false;
        }
        snprintf(origin, sizeof origin, "--%s", name);
        bool given = value != NULL, last = i + 1 == argc;
        if (!given && cohort_options_is_switch(options, name)) {
            bool spelled =
                !last && (strcmp(argv[i + 1], "true") == 0 || strcmp(argv[i + 1], "false") == 0);
            value = spelled ? argv[++i] : "true";
        } else if (!given && strncmp(name, "no-", 3) == 0 &&
                   cohort_options_is_switch(options, name + 3)) {
            memmove(name, name + 3, strlen(name + 3) + 1);
            value = "false";
        } else if (!given && strcmp(name, "resume") == 0 && (last || is_flag(argv[i + 1]))) {
            value = "latest";
        } else if (!given && last) {
            if (cohort_options_set(options, name, "", origin, &err) == COHORT_ERR_ARGUMENT &&
                strstr(err.message, "not an option") != NULL)
                return fail(&err);
            fprintf(stderr, "cohort: --%s needs a value\n", name);
            return false;
        } else if (!given) {
            value = argv[++i];
        }
        if (cohort_options_set(options, name, value, origin, &err) != COHORT_OK)
            return fail(&err);
        if (strcmp(name, "config") == 0)
            yaml = value;
    }
    if (yaml != NULL && cohort_options_reads_yaml(options) &&
        cohort_options_read_yaml(options, yaml, &err) != COHORT_OK)
        return fail(&err);
    return true;
}
