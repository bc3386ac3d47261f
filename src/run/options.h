/* All options, each defined once: the table behind flags, YAML keys, defaults, ranges, --help, docs/OPTIONS.md and
 * config.yaml. Names are TRL's (underscores in YAML, dashes as flags). A value is kept as checked text plus its parsed
 * form. */
#ifndef COHORT_RUN_OPTIONS_H
#define COHORT_RUN_OPTIONS_H

#include "base/memory.h"
#include "base/stop.h"
#include "run/command_list.h"
#include "run/input_kind.h"

#define COMMAND(id, ...) COMMAND_##id,
enum command { COMMAND_LIST(COMMAND) N_COMMANDS };
#undef COMMAND

/* The same as bits: which commands know an option. */
#define COMMAND(id, ...) FOR_##id = 1 << COMMAND_##id,
enum option_command {
    COMMAND_LIST(COMMAND) FOR_PREFERENCE =
        FOR_DPO | FOR_KTO | FOR_ORPO | FOR_CPO | FOR_REWARD, /* learn from preferences */
    FOR_ROWS = FOR_SFT | FOR_PREFERENCE,                     /* rows of a data set are what a step takes */
    FOR_GROUPS = FOR_GRPO | FOR_RLOO,                        /* groups of completions are sampled and rewarded */
    FOR_DRAWN = FOR_GROUPS | FOR_DISTILL,                    /* what a step takes is sampled by the model */
    FOR_TRAIN = FOR_ROWS | FOR_DRAWN
};
#undef COMMAND

/* OPTION_LEARNING_RATE and so on, one for each name of options_table.h: a misspelled one does not compile. */
enum option_id {
#define OPTION(id, ...) OPTION_##id,
#define ALSO(...)
#define ALIAS(...)
#define SYNONYM(...)
#include "run/options_table.h"
    N_OPTIONS
};

enum option_type {
    OPTION_TYPE_BOOL,
    OPTION_TYPE_INT,
    OPTION_TYPE_FLOAT,
    OPTION_TYPE_STRING,
    OPTION_TYPE_ENUM,
    OPTION_TYPE_LIST /* of strings */
};

/* What a run that is resumed may change. */
enum option_resume {
    RESUME_NO_RUN,   /* no command that trains has the option */
    RESUME_KEPT,     /* nothing: it enters the numbers of a step */
    RESUME_FREE,     /* length, saving, evaluation, machine */
    RESUME_PLACE,    /* likewise; nor is it written into config.yaml, which can be used for another run as it is */
    RESUME_ACCEPTED, /* with --accept-changed input */
    RESUME_HASHED    /* likewise, but a checkpoint with hashes lets the name change: the content is compared */
};

struct option_spec {
    enum option_id id;
    const char *name; /* "num_generations" */
    enum option_type type;
    const char *fallback;       /* default as text; NULL: none, the option is unset until given */
    double minimum, maximum;    /* of INT and FLOAT, inclusive; of a LIST of numbers (0, 0: items are texts) */
    const char *const *choices; /* of ENUM, and of a LIST what its items may be; ends with NULL */
    const char *placeholder;    /* of STRING: what --help shows after the flag ("DIR") */
    const char *alone;          /* of STRING: what the flag means without a value; NULL: it needs one */
    unsigned commands;
    const char *group; /* heading in --help: "Model", "Data", "Rollout" and so on */
    const char *help;  /* one line, with units */
    bool single;       /* of FLOAT: used in single precision, in which it must not vanish */
    bool count;        /* of FLOAT: a count or a share; a whole number is written as an integer is */
    bool biases;       /* of LIST: items are a token id and a number, "ID:NUMBER" */
    bool pairs;        /* of LIST: items are "NAME=VALUE", in YAML also a mapping */
    enum option_resume resume;
    enum input_kind input; /* of ACCEPTED and HASHED */
};

const struct option_spec *options_table(size_t *count);
/* The row of a name (length bytes) for one of the commands; NULL if none of them has it. */
const struct option_spec *options_row(unsigned commands, const char *name, size_t length);

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
/* What an option is where it was not given, in place of the table's default: it counts as not given still. */
cohort_status options_suggest(struct options *options, const char *name, const char *value, const char *origin,
                              cohort_error *err);
/* A flat YAML mapping (scalars and sequences of scalars). Errors have file:line:column. Values set by options_set win,
 * but the file's are checked all the same. Items of a sequence are taken as they are; a scalar for a list is split as a
 * flag's text is. Truth values and numbers are what they are to PyYAML, or refused with the reason (options_number.c).
 * null keeps an option without default unset. "config" in a file is an error. */
cohort_status options_read_yaml(struct options *options, const char *path, cohort_error *err);
/* Writes the resolved values as YAML, one per line, in table order, without unset values and without the options that
 * say where a run is. options_read_yaml gives the same values back. */
cohort_status options_write_yaml(const struct options *options, struct text *out, cohort_error *err);
/* Write the reference page (Markdown tables) of all options, and the --help text of one command for a terminal
 * of so many columns (0: 100). */
cohort_status options_write_docs(struct text *out, cohort_error *err);
cohort_status options_write_help(enum option_command command, int columns, struct text *out, cohort_error *err);
/* The manual page of a command, or of the program (0): roff with the man macros. */
cohort_status options_write_man(unsigned command, struct text *out, cohort_error *err);
/* Completion for two shells. */
cohort_status options_write_bash(struct text *out, cohort_error *err);
cohort_status options_write_zsh(struct text *out, cohort_error *err);

/* The message for a name that the command does not know (as options_set's), and whether a run is the same without it. */
cohort_status options_explain(const struct options *options, const char *name, struct text *out, bool *needless,
                              cohort_error *err);
/* Other names of a row: aliases and those of other programs, at most room of them. Returns how many there are. */
size_t options_other_names(const struct option_spec *spec, const char **names, size_t room);
/* "bool", "int", "float", "text", "word", "list" */
const char *options_type_word(const struct option_spec *spec);

/* What a person should be told about the values, one line each, before a command begins: which of TRL's names were taken.
 * Nothing is appended where there is nothing to tell. */
cohort_status options_notes(const struct options *options, struct text *out, cohort_error *err);

/* What an embedding program passes beside values: the stop object that a command checks (borrowed; NULL: none). */
void options_set_stop(struct options *options, const struct stop *stop);
const struct stop *options_stop(const struct options *options);
/* Likewise the ranks that do the command together; NULL: one does. */
struct ranks;
void options_set_ranks(struct options *options, struct ranks *ranks);
struct ranks *options_ranks(const struct options *options);

/* By name, for flags and files: whether the command has such an option, whether it is of type BOOL, and what the flag
 * means without a value ("true" for a BOOL; NULL: it needs one, or there is no such option). */
bool options_has(const struct options *options, const char *name);
bool options_was_given(const struct options *options, const char *name); /* false where it has none */
bool options_is_switch(const struct options *options, const char *name);
const char *options_alone(const struct options *options, const char *name);
/* Appends the value of an option by its name, as a flag's text is, of a list its i-th item. *there: whether it has one. */
cohort_status options_write_value(const struct options *options, const char *name, size_t i, struct text *out,
                                  bool *there, cohort_error *err);
/* The option whose value are words without a flag; NULL: the command takes none. */
const char *options_bare(enum option_command command);
/* The command of this name as enum option_command; 0: there is none. */
unsigned options_command(const char *name);

/* Typed reads; asking for an option that the command or for a type that the option does not have, or for a bool, int or
 * float that is not set, is our mistake (assert). */
bool options_is_set(const struct options *options, enum option_id id); /* given, or has a default */
bool options_given(const struct options *options, enum option_id id);  /* given by flag or file */
bool options_bool(const struct options *options, enum option_id id);
int64_t options_int(const struct options *options, enum option_id id);
double options_float(const struct options *options, enum option_id id);
/* The value, or otherwise where it is not set. */
bool options_bool_or(const struct options *options, enum option_id id, bool otherwise);
int64_t options_int_or(const struct options *options, enum option_id id, int64_t otherwise);
double options_float_or(const struct options *options, enum option_id id, double otherwise);
const char *options_string(const struct options *options, enum option_id id); /* NULL if unset */
/* Index of an ENUM's value in the row's choices, -1 if unset. Of choices that are a list (WORDS) it is the list's enum:
 * both are made from the same list, in which a word without code does not compile. With AUTO_OR it is 0 for "auto" and
 * 1 more than the list's. */
int options_choice(const struct options *options, enum option_id id);
/* The word itself, for a reader that refuses words it does not know; NULL if unset. */
const char *options_choice_word(const struct options *options, enum option_id id);
size_t options_list_count(const struct options *options, enum option_id id);
const char *options_list_item(const struct options *options, enum option_id id, size_t i);
/* An item of a list of numbers. */
double options_list_number(const struct options *options, enum option_id id, size_t i);
/* Index of an item in the row's choices. */
int options_list_choice(const struct options *options, enum option_id id, size_t i);

#endif
