/* What a data set is, found by reading all of it: its columns, how its rows are used, how long they are, and which
 * would be cut or refused. For `cohort data`, which prints it. */
#ifndef COHORT_RECIPE_DATA_SURVEY_H
#define COHORT_RECIPE_DATA_SURVEY_H

#include "recipe/sft_row.h"

enum { SURVEY_COLUMNS = 256, SURVEY_FAULTS = 20, SURVEY_EXAMPLES = 3 };

enum survey_type { SURVEY_TEXT, SURVEY_INTEGER, SURVEY_REAL, SURVEY_BOOL, SURVEY_LIST, SURVEY_OBJECT, SURVEY_NULL };
enum { SURVEY_TYPES = SURVEY_NULL + 1 };
/* "text", "whole number", ... */
const char *survey_type_name(enum survey_type type);

struct survey_column {
    char *name;
    size_t counts[SURVEY_TYPES]; /* rows by the type of the value */
};

/* A row that would be cut, left out or refused. */
struct survey_fault {
    char *what; /* with its place */
};

/* A row as it is seen: of a set that teaches the whole row with what is learned, otherwise the prompt. */
struct survey_example {
    size_t row;
    struct text text;
    size_t learned; /* byte of text from which on it is learned; its length: nothing */
};

struct data_survey {
    struct dataset data;
    struct survey_column *columns;
    size_t n_columns, column_capacity;
    size_t n_counted;   /* rows that columns were counted in */
    const char *prompt; /* the canonical column that is rendered first; NULL: none */
    bool more_columns;  /* than SURVEY_COLUMNS */
    bool teaches;       /* rows can be learned (sft); else they can only be asked */
    bool asks;          /* rows have a prompt that can be asked (grpo, eval, generate) */
    bool in_tokens;     /* lengths and examples are of tokens; else of characters */
    int32_t *lengths;   /* [n_lengths] of the rows that are good */
    size_t n_lengths;
    size_t n_cut, n_dropped, n_refused;
    struct survey_fault faults[SURVEY_FAULTS];
    size_t n_faults;
    struct survey_example examples[SURVEY_EXAMPLES];
    size_t n_examples;
};

/* session has a tokenizer, or is NULL: then text is looked at alone. max_length: tokens of a row that is learned;
 * max_prompt: of a prompt that is asked. Options used: those of data_open and sft_style. *survey is overwritten; free
 * it also after a failure. */
cohort_status data_survey_make(struct data_survey *survey, const struct session *session, int32_t max_length,
                               int32_t max_prompt, const struct options *options, const cohort_observer *observer,
                               cohort_error *err);
void data_survey_free(struct data_survey *survey);

#endif
