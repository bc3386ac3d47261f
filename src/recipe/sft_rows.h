/* Rows for supervised fine-tuning: what is read, and which tokens carry loss. */
#ifndef COHORT_RECIPE_SFT_ROWS_H
#define COHORT_RECIPE_SFT_ROWS_H

#include "recipe/session.h"

struct sft_rows {
    struct token_list *ids; /* [n] prompt, then completion */
    int32_t *n_prompt;      /* [n] tokens without loss, at least 1 */
    size_t n;
    int32_t longest;
    char sha256[HASH_HEX];   /* of the file's bytes */
    size_t n_cut, n_dropped; /* shortened to max_length; left out because nothing to learn was left */
    bool conversations;      /* some rows are messages: what ends a turn of the template is learned */
};

/* {"messages": [...]}: loss on the last message, which must be the assistant's; {"prompt", "completion"}: text, or
 * lists of messages; {"text"}: loss on all but the first token. Text completions and texts get the session's text_end
 * behind them; of a rendered conversation the loss ends with the end of its last turn. Options used: those of row_style. */
cohort_status sft_rows_load(struct sft_rows *rows, const struct session *session, const char *path, size_t limit,
                            int32_t max_length, const struct options *options, cohort_error *err);
void sft_rows_free(struct sft_rows *rows);
struct tree;
struct completion_tokens;
/* The row as a tree with one completion; completion gets its tokens. */
struct tree sft_rows_tree(const struct sft_rows *rows, size_t i, struct completion_tokens *completion);

#endif
