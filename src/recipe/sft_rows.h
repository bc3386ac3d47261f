/* The rows of a data set for supervised fine-tuning, and the units in which a step takes them: rows, or bins of rows. What
 * is called a row here may be a piece of one of the set's (packing_strategy bfd_split), or pieces of several that follow
 * each other (wrapped). */
#ifndef COHORT_RECIPE_SFT_ROWS_H
#define COHORT_RECIPE_SFT_ROWS_H

#include "recipe/sft_row.h"

/* A piece of a row of the set, or what begins there. */
struct sft_cut {
    uint32_t row;
    int32_t first, n; /* tokens */
    bool idle;        /* nothing of it is learned: it takes its room of a bin, as in TRL, and is then left out */
};

/* Which rows become units. */
struct sft_packing {
    bool on;
    enum packing_strategy strategy;
    int32_t room; /* tokens of a bin */
};

/* The rows of a data set from which something can be learned. Of each its place in the set is kept, 4 bytes (and with
 * packing where bins begin, up to 4 more); the rest is read, rendered and encoded again when it is learned. */
struct sft_rows {
    struct dataset data;
    uint32_t *kept;       /* [n] of data, unit after unit; NULL: cuts has them */
    struct sft_cut *cuts; /* [n] of strategies that cut; NULL: kept has them */
    size_t n, kept_capacity;
    bool wraps;                 /* a cut goes on in the rows of data behind it */
    struct sft_row whole;       /* the row of data that was read last */
    size_t n_rows;              /* of data, before they were cut */
    uint32_t *begin;            /* [n_units + 1] of kept; NULL: a unit is a row */
    size_t n_units, most;       /* most: rows of one unit */
    struct dataset_part *parts; /* [data.n_parts] of the units */
    int32_t longest;            /* tokens of a row */
    size_t n_cut, n_dropped, n_weighted,
        n_zero;                              /* rows shortened; left out because nothing to learn was left; that have a
                                                    weight; left out because it is 0 */
    int64_t tokens, tokens_cut, learned_cut; /* of rows that are kept; cut off all rows; of these those to learn */
    bool conversations;                      /* some rows are messages: what ends a turn of the template is learned */
    const struct session *session;           /* borrowed */
    struct sft_style style;
};

/* Every row is read once here: a bad one is an error with its place. named: the option that names the set. Bins are of
 * one part each. Options used: those of data_open and sft_style. */
cohort_status sft_rows_load(struct sft_rows *rows, const struct session *session, enum option_id named, size_t limit,
                            int32_t max_length, const struct sft_packing *packing, const struct options *options,
                            const cohort_observer *observer, cohort_error *err);
void sft_rows_free(struct sft_rows *rows);
/* Tells what was cut, left out, weighted and packed. */
void sft_rows_tell(const struct sft_rows *rows, const cohort_observer *observer);
/* Rows *first .. + the result of n are those of a unit. */
size_t sft_rows_unit(const struct sft_rows *rows, size_t unit, size_t *first);
/* Row i of the n. row: zeroed, or to be used again. */
cohort_status sft_rows_read(struct sft_rows *rows, size_t i, struct sft_row *row, cohort_error *err);

#endif
