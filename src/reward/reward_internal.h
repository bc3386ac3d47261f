/* Shared by the files of the rewards. */
#ifndef COHORT_REWARD_INTERNAL_H
#define COHORT_REWARD_INTERNAL_H

#include "reward/reward.h"

/* What a kind of reward does; state is its own. */
struct reward_kind {
    cohort_status (*score)(void *state, const char *name, const struct reward_row *rows, size_t n_rows, double *rewards,
                           cohort_error *err);
    void (*destroy)(void *state);
    const char *(*warning)(void *state);    /* of reward_warning; NULL: never */
    struct reward_log *(*log)(void *state); /* what it has said since it was last taken; NULL: it says nothing */
    /* As reward_score_lists, for what may reward tokens; NULL: it does not. */
    cohort_status (*score_lists)(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                 double *rewards, double **lists, cohort_error *err);
};

struct reward {
    char *name;
    const struct reward_kind *kind;
    void *state; /* owned */
};

extern const struct reward_kind reward_kind_accuracy, reward_kind_reasoning, reward_kind_pattern, reward_kind_exec,
    reward_kind_overlong, reward_kind_repetition, reward_kind_cosine, reward_kind_length, reward_kind_xml_format,
    reward_kind_xml_count, reward_kind_correctness, reward_kind_integer, reward_kind_strict, reward_kind_soft,
    reward_kind_schema, reward_kind_tools, reward_kind_judge;

/* pattern NULL: the row's column "pattern". format: the match must begin at the first character, as
 * TRL's re.match. */
cohort_status reward_pattern_create(void **state, const char *pattern, bool format, cohort_error *err);
/* Texts of an option that is a list, as the state of a reward. An empty one is an error, which names the option. */
struct reward_texts {
    size_t n;
    char *texts[]; /* [n], owned */
};
cohort_status reward_texts_create(void **state, const char *const *texts, size_t n, const char *option,
                                  cohort_error *err);
void reward_texts_destroy(void *state);
/* States of reward_kind_length and reward_kind_xml_format. */
cohort_status reward_length_create(void **state, const struct reward_options *options, cohort_error *err);
cohort_status reward_xml_create(void **state, const struct reward_options *options, cohort_error *err);
/* State of reward_kind_schema, whose schema is checked, and of reward_kind_tools. */
cohort_status reward_schema_create(void **state, const struct reward_options *options, cohort_error *err);
cohort_status reward_tools_create(void **state, const struct reward_options *options, cohort_error *err);
/* State of reward_kind_reasoning. */
cohort_status reward_reasoning_create(void **state, const struct reward_options *options, cohort_error *err);
/* State of reward_kind_overlong, reward_kind_repetition and reward_kind_cosine, whose options are checked. */
cohort_status reward_tokens_create(void **state, const struct reward_kind *kind, const struct reward_options *options,
                                   cohort_error *err);
/* What to start for a reward of a program, and what it is asked. */
enum reward_form { REWARD_EXEC, REWARD_PYTHON };
struct reward_command {
    enum reward_form form;
    const char *label;  /* in messages; borrowed */
    char *arguments[9]; /* the list ends with NULL; it may point into owned */
    char *owned[2];
};
/* Of python:FILE:FUNCTION. *name: the function's, which the caller frees. */
cohort_status reward_python_command(struct reward_command *command, const char *spec, const char *python, char **name,
                                    cohort_error *err);
void reward_command_free(struct reward_command *command);
/* State of reward_kind_exec: starts the programs. *name may be replaced by what a program calls itself. */
cohort_status reward_exec_create(void **state, const struct reward_command *command,
                                 const struct reward_options *options, char **name, cohort_error *err);
int reward_exec_workers(const void *state);
cohort_status reward_exec_keep_scores(void *state, cohort_error *err);
cohort_status reward_exec_start(struct reward_job **job, void *state, const struct reward_row *rows, size_t n_rows,
                                const struct reward_progress *progress, cohort_error *err);

/* State of reward_kind_judge. */
cohort_status reward_judge_create(void **state, const char *url, const struct reward_options *options,
                                  cohort_error *err);
cohort_status reward_judge_keep_scores(void *state, cohort_error *err);

/* Some bytes of a text that is somebody else's; they may hold NULs. */
struct span {
    const char *at;
    size_t length;
};

/* Without white space at its ends, and the length of a character of white space at i (0: another one): what JavaScript's
 * trim takes away. */
struct span reward_trim(struct span s);
size_t reward_blank_at(struct span s, size_t i);
/* What follows the last </think>; the whole where there is none. */
struct span reward_after_reasoning(struct span completion);

/* The expected answer of a row as text, *out mem_alloc'ed; NULL for an unscorable row (rules: accuracy.c). */
cohort_status reward_expected_answer(const struct reward_row *row, const char *name, char **out, cohort_error *err);

/* The accuracy reward of a completion, or of a part of one, for its row; NaN: unscorable. */
cohort_status reward_accuracy_row(const struct reward_row *row, const char *name, struct span completion,
                                  double *reward, cohort_error *err);

/* Whether two answers (extracted, not empty) are the same, by the rules of answer.c. */
cohort_status answer_equal(struct span a, struct span b, bool *equal, cohort_error *err);

/* Where a completion states its answer, by the rules of answer_find.c. whole may be empty: then there is no answer.
 * cut: shorter readings of the same place, tried if the whole is not equal. equation: what follows its last "=", tried
 * if the expected answer has none; it may be empty. */
struct found_answer {
    struct span whole, cut[2], equation;
    int n_cut;
};
struct found_answer answer_find(struct span completion);
/* The expected answer within a text of the data. */
struct span answer_expected(struct span text);

#endif
