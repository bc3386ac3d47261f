/* Rows for supervised fine-tuning: what is read, and which tokens carry loss. */
#ifndef COHORT_RECIPE_SFT_ROWS_H
#define COHORT_RECIPE_SFT_ROWS_H

#include "recipe/row_prompt.h"

/* A row as it is learned. */
struct sft_row {
    struct token_list ids; /* prompt, then completion */
    int32_t n_prompt;      /* tokens without loss, at least 1 */
};
void sft_row_free(struct sft_row *row);
/* A row, not cut. *conversation (may be NULL) is set where it is one. Rows are as sft_rows_load takes them. row:
 * zeroed, or to be used again. */
cohort_status sft_row_make(const struct session *session, const struct row_style *style, const json_t *json,
                           const char *place, struct sft_row *row, bool *conversation, cohort_error *err);
struct tree;
struct completion_tokens;
/* The row as a tree with one completion; completion gets its tokens. */
struct tree sft_row_tree(const struct sft_row *row, struct completion_tokens *completion);

/* The rows of a data set from which something can be learned. Of each its place in the set is kept, 4 bytes; the rest
 * is read, rendered and encoded again when it is learned. */
struct sft_rows {
    struct dataset data;
    uint32_t *kept;             /* [n] of data */
    struct dataset_part *parts; /* [data.n_parts] of the kept rows */
    size_t n;
    int32_t longest, max_length;   /* tokens */
    size_t n_cut, n_dropped;       /* shortened to max_length; left out because nothing to learn was left */
    bool conversations;            /* some rows are messages: what ends a turn of the template is learned */
    const struct session *session; /* borrowed */
    struct row_style style;
};

/* {"messages": [...]}: loss on the last message, which must be the assistant's; {"prompt", "completion"}: text, or
 * lists of messages; {"text"}: loss on all but the first token. Text completions and texts get the session's text_end
 * behind them; of a rendered conversation the loss ends with the end of its last turn. Every row is read once here: a bad
 * one is an error with its place. named: the option that names the set. Options used: those of data_open and
 * row_style. */
cohort_status sft_rows_load(struct sft_rows *rows, const struct session *session, enum option_id named, size_t limit,
                            int32_t max_length, const struct options *options, const cohort_observer *observer,
                            cohort_error *err);
void sft_rows_free(struct sft_rows *rows);
/* Row i of the n. row: zeroed, or to be used again. */
cohort_status sft_rows_read(struct sft_rows *rows, size_t i, struct sft_row *row, cohort_error *err);

#endif
