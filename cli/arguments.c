/* From argv to options. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool fail(const cohort_error *err)
{
    fprintf(stderr, "cohort: %s\n", err->message);
    return false;
}

/* What the library says of a name that the command does not know. */
static bool fail_unknown(cohort_options *options, const char *name, const char *origin)
{
    cohort_error err = {0};
    cohort_options_set(options, name, "", origin, &err);
    return fail(&err);
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

static bool is_flag(const char *argument) { return strncmp(argument, "--", 2) == 0 && argument[2] != '\0'; }

static bool is_no_switch(const cohort_options *options, const char *name)
{
    return strncmp(name, "no", 2) == 0 && (name[2] == '-' || name[2] == '_') && !cohort_options_has(options, name) &&
           cohort_options_is_switch(options, name + 3);
}

/* What stands behind the dashes of a flag: two of them, or one before a name of one letter (-o). NULL: no flag. */
static const char *flag_of(const cohort_options *options, const char *argument)
{
    const char letter[] = {argument[0] == '-' ? argument[1] : '\0', '\0'};
    if (is_flag(argument))
        return argument + 2;
    return letter[0] != '\0' && (argument[2] == '\0' || argument[2] == '=') && cohort_options_has(options, letter)
               ? argument + 1
               : NULL;
}

/* As a person writes them. */
static const char *dashes_of(const char *name) { return name[1] == '\0' ? "-" : "--"; }

/* A flag of this command, which no value can be meant to be: "--out --steps 3" lacks a value. */
static bool is_own_flag(const cohort_options *options, const char *argument)
{
    char name[128];
    const char *value = NULL;
    const char *flag = flag_of(options, argument);
    return flag != NULL && split(flag, name, sizeof name, &value) &&
           (cohort_options_has(options, name) || is_no_switch(options, name));
}

static bool fail_file(const char *argument, const char *takes)
{
    fprintf(stderr,
            "cohort: '%.80s' is a file without an option; several data files are one value, as in --%s %.80s,OTHER, "
            "or a folder\n",
            argument, takes, argument);
    return false;
}

/* Whether the option has a value. */
static bool is_set(const cohort_options *options, const char *name)
{
    char *value = NULL;
    const bool set = cohort_options_get(options, name, 0, &value, NULL) == COHORT_OK && value != NULL;
    cohort_free(value);
    return set;
}

/* An argument that is no --name: "-m", "-steps", "steps". */
static bool fail_no_flag(cohort_options *options, const char *argument)
{
    char name[128], origin[160];
    const char *value = NULL;
    if (argument[0] == '-' && argument[1] != '\0' && argument[1] != '-' &&
        split(argument + 1, name, sizeof name, &value)) {
        if (cohort_options_has(options, name)) {
            fprintf(stderr, "cohort: '-%s': options begin with two dashes: --%s\n", name, name);
            return false;
        }
        snprintf(origin, sizeof origin, "-%s", name);
        return fail_unknown(options, name, origin);
    }
    const char *takes = cohort_options_has(options, "data") ? "data" : "batch";
    if (access(argument, F_OK) == 0 && cohort_options_has(options, takes))
        fail_file(argument, takes);
    else if (cohort_options_has(options, argument))
        fprintf(stderr, "cohort: '%s': options begin with two dashes: --%s\n", argument, argument);
    else
        fprintf(stderr, "cohort: '%.80s' is not an option; options begin with -- (see --help)\n", argument);
    return false;
}

/* The value of a flag without '=', from argv[*i + 1] if it takes one. NULL: the error was told. */
static const char *value_of(cohort_options *options, char *name, int argc, char **argv, int *i)
{
    const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
    const char *alone = cohort_options_alone(options, name);
    if (alone != NULL) {
        /* What stands behind such a flag and is none itself can only be meant for it: --thinking False. */
        const bool spelled = next != NULL && next[0] != '-';
        *i += spelled ? 1 : 0;
        return spelled ? next : alone;
    }
    if (is_no_switch(options, name)) {
        memmove(name, name + 3, strlen(name + 3) + 1);
        return "false";
    }
    if (next == NULL) {
        fprintf(stderr, "cohort: %s%s needs a value\n", dashes_of(name), name);
        return NULL;
    }
    if (is_own_flag(options, next)) {
        fprintf(stderr,
                "cohort: %s%s needs a value, and %.80s is an option of its own; if it is meant as "
                "the value, write %s%s=%.80s\n",
                dashes_of(name), name, next, dashes_of(name), name, next);
        return NULL;
    }
    ++*i;
    return next;
}

/* Whether an argument is the value of no flag. */
static bool is_bare(const char *argument) { return !is_flag(argument) && (argument[0] != '-' || argument[1] == '\0'); }

/* Values without a flag are one value with commas between them, the words of a prompt with blanks. Where they are files,
 * as a shell makes them of *.jsonl, a comma in the name of one is written so that it stays one, and a single value is
 * taken as it stands. The words of an action keep every comma. */
static bool set_bare(cohort_options *options, const char *name, char **values, int n)
{
    size_t size = 1, length = 0;
    cohort_error err = {0};
    const bool prompt = strcmp(name, "prompt") == 0;
    if (prompt && access(values[0], F_OK) == 0 && is_set(options, "batch"))
        return fail_file(values[0], "batch");
    for (int i = 0; i < n; i++)
        size += 2 * strlen(values[i]) + 1;
    char *text = malloc(size);
    if (text == NULL) {
        fprintf(stderr, "cohort: out of memory\n");
        return false;
    }
    for (int i = 0; i < n; i++) {
        const bool escape = !prompt && (strcmp(name, "action") == 0 || (n > 1 && access(values[i], F_OK) == 0));
        if (i > 0)
            text[length++] = prompt ? ' ' : ',';
        for (const char *at = values[i]; *at != '\0'; at++) {
            if (*at == ',' && escape)
                text[length++] = '\\';
            text[length++] = *at;
        }
    }
    text[length] = '\0';
    const bool good = cohort_options_set(options, name, text, values[0], &err) == COHORT_OK || fail(&err);
    free(text);
    return good;
}

/* bare: gets the values without a flag, *n_bare of them; NULL: the command takes none. */
static bool parse(cohort_options *options, char **bare, int *n_bare, int argc, char **argv)
{
    const char *yaml = NULL;
    cohort_error err = {0};
    for (int i = 0; i < argc; i++) {
        char name[128], origin[160];
        const char *value = NULL;
        if (bare != NULL && is_bare(argv[i])) {
            bare[(*n_bare)++] = argv[i];
            continue;
        }
        const char *flag = flag_of(options, argv[i]);
        if (flag == NULL)
            return fail_no_flag(options, argv[i]);
        if (!split(flag, name, sizeof name, &value)) {
            fprintf(stderr, "cohort: '%.60s...' is no option (see --help)\n", argv[i]);
            return false;
        }
        snprintf(origin, sizeof origin, "%s%s", dashes_of(name), name);
        if (is_no_switch(options, name) && value != NULL) {
            fprintf(stderr, "cohort: --%s takes no value; write --%s or --%s=%.40s\n", name, name, name + 3, value);
            return false;
        }
        if (!cohort_options_has(options, name) && !is_no_switch(options, name))
            return fail_unknown(options, name, origin);
        if (value == NULL)
            value = value_of(options, name, argc, argv, &i);
        if (value == NULL)
            return false;
        if (cohort_options_set(options, name, value, origin, &err) != COHORT_OK)
            return fail(&err);
        if (strcmp(name, "config") == 0 && yaml != NULL) {
            fprintf(stderr, "cohort: --config is given twice; put the options into one file\n");
            return false;
        }
        if (strcmp(name, "config") == 0)
            yaml = value;
    }
    if (yaml != NULL && cohort_options_reads_yaml(options) &&
        cohort_options_read_yaml(options, yaml, &err) != COHORT_OK)
        return fail(&err);
    return true;
}

bool cli_parse(cohort_options *options, const char *bare, int argc, char **argv)
{
    char **values = NULL;
    int n = 0;
    if (bare != NULL && argc > 0 && (values = malloc((size_t)argc * sizeof *values)) == NULL) {
        fprintf(stderr, "cohort: out of memory\n");
        return false;
    }
    const bool good = parse(options, values, &n, argc, argv) && (n == 0 || set_bare(options, bare, values, n));
    free(values);
    return good;
}
