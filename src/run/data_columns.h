/* Which columns of a row are which to the commands: the columns that --columns names, and the forms in which published
 * sets come. Afterwards a row has the canonical columns (prompt or messages, completion, solution, answer, tools, ...)
 * beside all that it had, and who reads rows knows of no other.
 *
 * A form is looked for, with the columns as --columns has named them, where the first row of a file has no "prompt", "messages", "text" or "prompt_tokens":
 *
 *   conversations, conversation
 *                       a list of {"from", "value"} (ShareGPT; from: human, gpt, system, tool and their other names), of
 *                       {"role", "content"}, or of {"input", "output"}; with "system", if there is one, first
 *                                                                                          -> messages
 *   instruction, output (Alpaca) with "input", "system" and "history" ([[question, answer], ...]) if there are any
 *                                                                                          -> prompt, completion
 *   instruction, response (Dolly) with "context" if there is any                           -> prompt, completion
 *   question, answer    -> prompt, completion; an answer that ends with "#### VALUE" (GSM8K) becomes the column
 *                       solution, and answer is VALUE
 *   problem, answer     likewise
 *   question, solution  -> prompt, completion, whatever the answer
 *   problem, solution   likewise; here and above the completion only where it is text
 *
 * Prompts and completions made so are messages, which the chat template renders. A column that a row has already is
 * left alone. Messages that are the JSON text of a list become the list. */
#ifndef COHORT_RUN_DATA_COLUMNS_H
#define COHORT_RUN_DATA_COLUMNS_H

#include "base/memory.h"

#include <jansson.h>
#include <stdint.h>

/* --columns, each "CANONICAL=COLUMN". The column also keeps its own name. Of several for one canonical column a file takes
 * the first that its first row has. Of several files, one that has none of them keeps what it has. */
struct data_columns {
    struct data_rename {
        char *to, *from;
    } * items;
    size_t n;
    bool recognise;
    bool several;   /* files: each may have columns of its own */
    uint64_t found; /* items that a file has had, by bits */
};
enum { DATA_MOST_COLUMNS = 64 };
/* "prompt=question"; errors name --columns. */
cohort_status data_columns_parse(struct data_columns *columns, const char *const *items, size_t n, cohort_error *err);
void data_columns_free(struct data_columns *columns);
/* Appends the names of a row's columns, the first dozen, for a message: "id, body". */
cohort_status data_columns_list(const json_t *row, struct text *out, cohort_error *err);

/* The form of a file's rows. */
enum data_form_kind {
    DATA_FORM_NONE,
    DATA_FORM_CONVERSATIONS,
    DATA_FORM_CONVERSATION,
    DATA_FORM_ALPACA,
    DATA_FORM_DOLLY,
    DATA_FORM_QUESTION,
    DATA_FORM_SOLVED,
    DATA_FORM_PROBLEM,
    DATA_FORM_UNSOLVED
};
struct data_form {
    enum data_form_kind kind;
    uint64_t renames; /* the items of --columns that count here, by bits */
};
/* From the first row of path. Two forms at once are an error that names what to give. notes gets a line on what was
 * recognised. */
cohort_status data_form_find(struct data_form *form, struct data_columns *columns, const json_t *first,
                             const char *path, struct text *notes, cohort_error *err);
/* Behind the last file: whether each canonical column that --columns names was found in one of them. */
cohort_status data_columns_check(const struct data_columns *columns, const char *set, cohort_error *err);
/* The columns by which the form was recognised, in words; NULL: none. */
const char *data_form_columns(const struct data_form *form);
/* Makes a row, which is the caller's alone, canonical. place begins messages. */
cohort_status data_columns_apply(const struct data_columns *columns, const struct data_form *form, json_t *row,
                                 const char *place, cohort_error *err);

#endif
