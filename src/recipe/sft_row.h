/* A row of supervised fine-tuning: its tokens, which of them are learned, what it counts, and what is cut off. sft and
 * data read rows through this, so that one says of a row what the other does with it. docs/SFT.md has the rules. */
#ifndef COHORT_RECIPE_SFT_ROW_H
#define COHORT_RECIPE_SFT_ROW_H

#include "recipe/row_prompt.h"
#include "recipe/sft_row_list.h"

#define TRUNCATION(id, word) TRUNCATION_##id,
enum truncation { TRUNCATION_LIST(TRUNCATION) N_TRUNCATIONS };
#undef TRUNCATION
#define PACKING(id, word) PACKING_##id,
enum packing_strategy { PACKING_LIST(PACKING) N_PACKINGS };
#undef PACKING

/* What completion_only_loss says. */
enum sft_part {
    SFT_PART_UNSET, /* as ONLY, of text all */
    SFT_PART_ONLY,  /* the completion; of messages the last */
    SFT_PART_ALL
};

/* How rows are read, as the options say. */
struct sft_style {
    struct row_style row;
    const char *text_field; /* the column of plain text; borrowed from the options */
    enum sft_part part;
    bool assistant_only; /* of what part says the assistant's words alone, in every turn */
    int32_t max_length;  /* tokens of a row */
    bool keep_end;       /* cut at the beginning, not at the end */
};
/* Options used: those of row_style, dataset_text_field, completion_only_loss, assistant_only_loss, truncation_mode. */
struct sft_style sft_style(const struct options *options, int32_t max_length);

struct sft_row {
    struct token_list ids;
    bool *learned; /* [ids.count]; the first token, which nothing predicts, never is */
    size_t learned_capacity;
    bool first_learned;               /* the first token would be, did it not come first */
    int32_t n_prompt;                 /* tokens before the first one that is learned, at least 1 */
    int32_t n_learned;                /* tokens; 0: the row teaches nothing */
    bool masked;                      /* tokens behind the prompt are not learned */
    bool conversation;                /* what ends a turn of the template is learned */
    bool weighted;                    /* it has a column "weight" */
    double weight;                    /* that, else 1; 0: the row teaches nothing */
    int32_t n_whole, n_learned_whole; /* before it was cut */
};
void sft_row_free(struct sft_row *row);
bool sft_row_teaches(const struct sft_row *row);

/* A row of the set, in whole. {"messages": [...]}: the last message, which must be the assistant's, or with assistant_only_loss
 * every one of the assistant's; {"prompt", "completion"}: text, or lists of messages; text in the style's column; "input_ids" with "labels", or with "assistant_masks" and "completion_mask". Text
 * completions and texts get the session's text_end behind them; of a rendered conversation what is learned ends with
 * the end of its last turn. place begins messages. row: zeroed, or to be used again. */
cohort_status sft_row_make(const struct session *session, const struct sft_style *style, const json_t *json,
                           const char *place, struct sft_row *row, cohort_error *err);
/* Cuts it to the style's max_length. */
void sft_row_cut(struct sft_row *row, const struct sft_style *style);
/* Appends tokens first .. first + n of another row to one that sft_row_clear or this made. Before it is used,
 * sft_row_finish looks at what it has become. */
void sft_row_clear(struct sft_row *row);
cohort_status sft_row_append(struct sft_row *row, const struct sft_row *from, int32_t first, int32_t n,
                             cohort_error *err);
void sft_row_finish(struct sft_row *row);
/* What is wrong with a row for sft beside its text, which takes no tokenizer to see: its weights. weight and weighted
 * (may be NULL) as in struct sft_row. */
cohort_status sft_row_check(const struct sft_style *style, const json_t *json, const char *place, double *weight,
                            bool *weighted, cohort_error *err);

struct tree;
struct completion_tokens;
/* The row as a tree with one completion; completion gets its tokens. */
struct tree sft_row_tree(const struct sft_row *row, struct completion_tokens *completion);

#endif
