/* The rows of a data set of preferences: pairs of a chosen and a rejected completion of one prompt, single completions
 * that are wanted or not, or pairs of whole sequences, which a reward model scores. docs/TRAINERS.md has the rules. A side is a prompt with a completion as sft reads it
 * (sft_row.h), so that texts, messages, templates, EOS and tokens are those of sft. */
#ifndef COHORT_RECIPE_PREFERENCE_ROWS_H
#define COHORT_RECIPE_PREFERENCE_ROWS_H

#include "recipe/sft_row.h"

/* What a row is. */
enum preference_kind {
    PREFERENCE_PAIRS,
    PREFERENCE_SINGLES,
    PREFERENCE_SEQUENCES /* pairs whose sides are rendered as one: what they begin with is counted as their prompt */
};

struct preference_row {
    struct sft_row chosen, rejected; /* of one prompt; of a single completion chosen alone */
    bool wanted;                     /* a single completion is, by its label or its side of a pair */
    double margin;                   /* column "margin", by which the chosen one should be better; else 0 */
};
void preference_row_free(struct preference_row *row);

/* The rows that have a completion left on both sides. Of each its place in the set is kept; the rest is read, rendered and
 * encoded again when it is learned. */
struct preference_rows {
    struct dataset data;
    enum preference_kind kind; /* a pair of the set is two single completions */
    uint32_t *kept;            /* [n] of data; of singles twice that, and 1 more for the rejected side of a pair */
    size_t n;
    struct dataset_part *parts;                 /* [data.n_parts] */
    int32_t longest;                            /* tokens of a prompt with one completion */
    int32_t longest_prompt, longest_completion; /* of these */
    size_t n_wanted;                            /* single completions */
    int64_t tokens;                             /* of a prompt with both completions, at most */
    size_t n_cut, n_dropped; /* rows of which a side was shortened; left out because no completion was left. Sequences
                                      are not shortened: a row with one that is too long is left out */
    size_t n_padded;         /* sequences whose last token is the model's padding */
    bool conversations;      /* some rows are messages: what ends a turn of the template is learned */
    bool margins;            /* some rows have one */
    const struct session *session; /* borrowed */
    struct sft_style style;
};

/* Every row is read once here: a bad one is an error with its place. named: the option that names the set. Options used:
 * those of data_open and row_style. */
cohort_status preference_rows_load(struct preference_rows *rows, const struct session *session, enum option_id named,
                                   size_t limit, enum preference_kind kind, int32_t max_length,
                                   const struct options *options, const cohort_observer *observer, cohort_error *err);
void preference_rows_free(struct preference_rows *rows);
/* Tells what was cut and left out. */
void preference_rows_tell(const struct preference_rows *rows, const cohort_observer *observer);
/* Row i of the n. row: zeroed, or to be used again. */
cohort_status preference_rows_read(struct preference_rows *rows, size_t i, struct preference_row *row,
                                   cohort_error *err);
/* Of single completions: the row before i, the last one before the first, that is of another row of the set. */
size_t preference_rows_before(const struct preference_rows *rows, size_t i);
/* A row of the set, not cut; place begins messages. For tests and surveys. kind: pairs or sequences. */
cohort_status preference_row_make(const struct session *session, const struct sft_style *style,
                                  enum preference_kind kind, const json_t *json, const char *place,
                                  struct preference_row *row, cohort_error *err);

/* The row as a tree with two completions, or with a single one, which get its tokens. */
struct tree preference_row_tree(const struct preference_row *row, bool single, struct completion_tokens completions[2]);

#endif
