/* Shared by the files of the options: table, values, YAML, help. */
#ifndef COHORT_RUN_OPTIONS_INTERNAL_H
#define COHORT_RUN_OPTIONS_INTERNAL_H

#include "run/options.h"

/* Integers stay below 2^53, so that a bound kept as a double is exact. */
#define OPTIONS_INT_MAX 9007199254740992.0

struct option_value {
    const struct option_spec *spec;
    bool given, by_flag;                  /* by_flag: options_set, which wins over a file */
    const struct option_synonym *synonym; /* the name by which it was given; NULL: its own, or an alias */
    bool has_value;
    char *text; /* canonical; STRING and ENUM as given */
    int choice; /* of ENUM: index in the choices */
    bool boolean;
    int64_t integer;
    double number;
    char **items; /* of LIST */
    size_t n_items, items_capacity;
};

struct options {
    enum option_command command;
    struct option_value *values; /* the rows of the table that this command knows, in table order */
    size_t n_values;
    struct option_value *by_id[N_OPTIONS]; /* into values; NULL: the command has no such option */
    const struct stop *stop;
    struct ranks *ranks;
};

/* Another name of an option. */
struct option_alias {
    const char *name;
    enum option_id id;
};
const struct option_alias *options_aliases(size_t *count);

/* TRL's name of an option: options_synonyms.c. */
struct option_synonym {
    const char *name;
    enum option_id id;
    const char *unset; /* TRL's value where it is not given; NULL: none */
};
const struct option_synonym *options_synonyms(size_t *count);
/* NULL: the name is none. */
const struct option_synonym *options_synonym(const char *name);
/* What a value means in the words of the option, written into buffer where it has another form; NULL: the option stays
 * unset. */
enum { SYNONYM_BYTES = 32 };
const char *options_synonym_value(const struct option_synonym *synonym, const struct option_spec *spec,
                                  const char *value, char buffer[SYNONYM_BYTES]);

/* By its name, an alias or a synonym; NULL if the command has no such option. */
struct option_value *options_find(const struct options *options, const char *name);
/* The error for a name that the command does not know: which commands have it, or the nearest name. */
cohort_status options_unknown(const struct options *options, const char *name, const char *origin, cohort_error *err);
/* Parses text into *parsed (same spec, otherwise empty; its content is the caller's to free). A list is split at
 * commas; '\,' stands for a comma. origin is what messages call it ("--beta"). */
cohort_status options_parse(struct option_value *parsed, const char *text, const char *origin, cohort_error *err);
/* Checks and appends one item of a list. */
cohort_status options_add_item(struct option_value *parsed, const char *item, size_t length, const char *origin,
                               cohort_error *err);
/* Moves the content of parsed into value. */
void options_take(struct option_value *value, struct option_value *parsed, bool by_flag);
void options_value_clear(struct option_value *value);

/* "an integer from 1 to 8", "one of group, batch, none" */
cohort_status options_describe(const struct option_spec *spec, struct text *out, cohort_error *err);
/* What is written of a command (command_list.h). */
struct command_text {
    const char *name, *summary, *title, *usage, *result, *examples[2];
};
const struct command_text *options_command_text(enum command command);
/* What is shown after a flag, "" of a switch. */
const char *options_placeholder(const struct option_spec *spec);
/* Whether it is a switch that is on: its flag is --no-NAME. */
bool options_turned_off(const struct option_spec *spec);
/* A name as a flag has it; "--name PLACEHOLDER"; what it means, its other names, what it accepts and its default. */
cohort_status options_append_dashed(const char *name, struct text *out, cohort_error *err);
cohort_status options_append_flag(const struct option_spec *spec, struct text *out, cohort_error *err);
cohort_status options_append_meaning(const struct option_spec *spec, struct text *out, cohort_error *err);
/* Name of a command ("grpo"). */
const char *options_command_name(enum command command);

/* text, of fewer than OPTIONS_NUMBER_BYTES: writes the number that a YAML scalar stands for (0x10, 1_000, and what
 * Python's int() and float() take of a quoted one) into out as number_read takes it, or the scalar as it is where it is
 * no number. Returns NULL, or why the scalar cannot be read: "is octal to ...". */
enum { OPTIONS_NUMBER_BYTES = 256 };
const char *options_yaml_number(const char *text, bool quoted, char out[OPTIONS_NUMBER_BYTES]);
/* true, yes, on, 1 and their like. */
bool options_read_bool(const char *text, bool *out);
/* What an option of another program is called here, and what to do if it has no counterpart; both may be NULL. targets
 * is a list like "batch_size|prompts_per_step", of which the first that the command knows is meant. */
struct option_hint {
    const char *name; /* with underscores; "vllm_*": all that begin so */
    const char *targets;
    const char *says;
};
const struct option_hint *options_hints(size_t *count);
const struct option_hint *options_hints_more(size_t *count);
/* NULL: none. */
const struct option_hint *options_hint(const char *name);
/* A run is the same without the option that the hint is about. */
bool options_hint_needless(const struct option_hint *hint);
/* Why a word that an option does not take is not one of its values ("which ..."); NULL: nothing to say. */
const char *options_value_hint(enum option_id id, const char *word);
/* Dashes and underscores are the same. */
bool options_same_name(const char *a, const char *b);
/* Whether the list has numbers as items. */
bool options_list_of_numbers(const struct option_spec *spec);
/* The shortest decimal form that reads back to the same double, with a point (YAML 1.1 readers want
 * one). */
cohort_status options_print_number(double number, struct text *out, cohort_error *err);

#endif
