/* Every option once: the table behind flags, YAML keys, defaults, ranges, --help, docs/OPTIONS.md and config.yaml.
 * Names are TRL's (underscores in YAML, dashes as flags). A value is kept as checked text plus its parsed form. */
#ifndef COHORT_RUN_OPTIONS_H
#define COHORT_RUN_OPTIONS_H

#include "base/memory.h"
#include "base/stop.h"

enum option_type {
    OPTION_BOOL,
    OPTION_INT,
    OPTION_FLOAT,
    OPTION_STRING,
    OPTION_ENUM,
    OPTION_LIST /* of strings */
};

/* Which commands know an option. */
enum option_command {
    FOR_GENERATE = 1 << 0,
    FOR_LOGPROBS = 1 << 1,
    FOR_TOKENIZE = 1 << 2,
    FOR_INFO = 1 << 3,
    FOR_INIT = 1 << 4,
    FOR_SFT = 1 << 5,
    FOR_GRPO = 1 << 6,
    FOR_EVAL = 1 << 7,
    FOR_SCORE = 1 << 8,
    FOR_BENCH = 1 << 9,
    FOR_TRAIN = FOR_SFT | FOR_GRPO
};

struct option_spec {
    const char *name; /* "num_generations" */
    enum option_type type;
    const char *fallback;    /* default as text; NULL: none, the option is unset until given */
    double minimum, maximum; /* of INT and FLOAT, inclusive; of a LIST of numbers (0, 0: items are texts) */
    const char *choices;     /* of ENUM: "group|batch|none"; of a LIST: what its items may be, or "ID:NUMBER" */
    unsigned commands;
    const char *group; /* heading in --help: "Model", "Data", "Rollout", "Loss", "Optimizer", "Run", "Machine" */
    const char *help;  /* one line, with units */
    bool single;       /* of FLOAT: used in single precision, in which it must not vanish */
};

const struct option_spec *options_table(size_t *count);

struct options; /* values for one command */
cohort_status options_create(struct options **out, enum option_command command, cohort_error *err);
void options_destroy(struct options *options);
/* origin ("--beta", "run.yaml:7") is for messages. An unknown name suggests the nearest known one;
 * a bad value says what is accepted. For lists, a comma-separated text ("\\," is a comma within an
 * item, "" the empty list): it takes the place of the default's and of a file's list, whichever is
 * read first, and several calls add up among themselves. Dashes and underscores in
 * name are the same. */
cohort_status options_set(struct options *options, const char *name, const char *value, const char *origin,
                          cohort_error *err);
/* A flat YAML mapping (scalars and sequences of scalars). Errors have file:line:column. Values set by options_set win,
 * but the file's are checked all the same. Items of a sequence are taken as they are; a scalar for a list is split as a
 * flag's text is. Truth values and numbers are what they are to PyYAML, or refused with the reason (options_number.c).
 * null keeps an option without default unset. "config" in a file is an error. */
cohort_status options_read_yaml(struct options *options, const char *path, cohort_error *err);
/* The resolved values as YAML, one a line, in table order, unset ones and the YAML file's own "config" left out.
 * options_read_yaml gives the same values back. */
cohort_status options_write_yaml(const struct options *options, struct text *out, cohort_error *err);
/* The reference page (Markdown table) of all options, and the --help text of one command. */
cohort_status options_write_docs(struct text *out, cohort_error *err);
cohort_status options_write_help(enum option_command command, struct text *out, cohort_error *err);

/* What an embedding program hands over beside values: the stop object that a command looks at (borrowed; NULL:
 * none). */
void options_set_stop(struct options *options, const struct stop *stop);
const struct stop *options_stop(const struct options *options);

/* Typed reads; asking for a name or type the table does not have, or for a bool, int or float that is not set, is our
 * mistake (assert). */
/* Whether the command has an option of this name. */
bool options_has(const struct options *options, const char *name);
/* Whether name is an option of type BOOL that this command knows. */
bool options_is_switch(const struct options *options, const char *name);
bool options_is_set(const struct options *options, const char *name); /* given, or has a default */
bool options_given(const struct options *options, const char *name);  /* given by flag or file */
bool options_bool(const struct options *options, const char *name);
int64_t options_int(const struct options *options, const char *name);
double options_float(const struct options *options, const char *name);
const char *options_string(const struct options *options, const char *name); /* NULL if unset */
/* Index of an ENUM's value in the table's choices, -1 if unset; src/recipe/choices.h turns it into what the code calls
 * it. */
int options_choice(const struct options *options, const char *name);
/* The word itself, for a reader that refuses words it does not know; NULL if unset. */
const char *options_choice_word(const struct options *options, const char *name);
size_t options_list_count(const struct options *options, const char *name);
const char *options_list_item(const struct options *options, const char *name, size_t i);

#endif
