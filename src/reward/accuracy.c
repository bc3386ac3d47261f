/* The accuracy reward: finds the answer in a completion (answer_find.c) and compares it with the row's (answer.c).
 *
 * The expected answer is the row's column "answer", or "solution" where there is no "answer". Of a text, the last
 * \boxed{...}, what follows "####" or the whole is taken (answer_find.c). A number is taken as JSON writes it. A row
 * with neither column is an error, as is one of another type; null or blank text makes the reward null.
 *
 * An empty answer of a completion is wrong, never equal.
 *
 * reasoning_accuracy is the same for what follows the reasoning. */
#include "base/number.h"
#include "reward/reward_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

cohort_status reward_expected_answer(const struct reward_row *row, const char *name, char **out, cohort_error *err)
{
    const char *column = "answer";
    const json_t *value = json_object_get(row->data, column);
    *out = NULL;
    if (value == NULL || json_is_null(value)) { /* null fills the columns that a row does not have */
        const json_t *solution = json_object_get(row->data, "solution");
        column = solution != NULL ? "solution" : column;
        value = solution != NULL ? solution : value;
    }
    if (value == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward '%s': prompt %lld has no column 'answer' (or 'solution'); add it to "
                         "the data, null where there is none",
                         name, (long long)row->prompt_index);
    if (json_is_null(value))
        return COHORT_OK;
    if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward '%s': prompt %lld: column '%s' holds a NUL, which no answer has", name,
                         (long long)row->prompt_index, column);
    if (json_is_string(value)) {
        struct span answer = answer_expected((struct span){json_string_value(value), json_string_length(value)});
        return answer.length == 0 ? COHORT_OK : mem_strdup(out, answer.at, answer.length, err);
    }
    if (!json_is_number(value))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward '%s': prompt %lld: column '%s' must be a text, a number or null", name,
                         (long long)row->prompt_index, column);
    char written[NUMBER_BYTES];
    if (json_is_integer(value))
        number_format(written, sizeof written, "%lld", (long long)json_integer_value(value));
    else
        number_write_double(json_real_value(value), written);
    return mem_strdup(out, written, strlen(written), err);
}

cohort_status reward_accuracy_row(const struct reward_row *row, const char *name, struct span completion,
                                  double *reward, cohort_error *err)
{
    char *text = NULL;
    bool equal = false;
    cohort_status status = COHORT_OK;
    *reward = (double)NAN;
    TRY(reward_expected_answer(row, name, &text, err));
    if (text == NULL)
        return COHORT_OK;
    struct span expected = {text, strlen(text)};
    struct found_answer found = answer_find(completion);
    if (found.whole.length > 0)
        TRY_GOTO(answer_equal(found.whole, expected, &equal, err));
    for (int i = 0; !equal && i < found.n_cut; i++)
        TRY_GOTO(answer_equal(found.cut[i], expected, &equal, err));
    if (!equal && found.equation.length > 0 && memchr(text, '=', expected.length) == NULL)
        TRY_GOTO(answer_equal(found.equation, expected, &equal, err));
    *reward = equal ? 1.0 : 0.0;
cleanup:
    mem_free(text);
    return status;
}

static cohort_status accuracy_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                    double *rewards, cohort_error *err)
{
    (void)state;
    for (size_t i = 0; i < n_rows; i++)
        TRY(reward_accuracy_row(&rows[i], name, (struct span){rows[i].completion, rows[i].completion_length},
                                &rewards[i], err));
    return COHORT_OK;
}

const struct reward_kind reward_kind_accuracy = {.score = accuracy_score};

/* --- reasoning_accuracy --- */

cohort_status reward_reasoning_create(void **state, const struct reward_options *options, cohort_error *err)
{
    static const char *const usual[] = {"</think>"};
    return options->n_delimiters > 0 ? reward_texts_create(state, options->reasoning_delimiters, options->n_delimiters,
                                                           "--reasoning-delimiters", err)
                                     : reward_texts_create(state, usual, 1, "--reasoning-delimiters", err);
}

/* What follows the last place of a delimiter; at is NULL where the text does not have it. */
static struct span after_last(struct span text, const char *delimiter)
{
    const size_t length = strlen(delimiter);
    for (size_t at = text.length < length ? 0 : text.length - length + 1; at-- > 0;)
        if (memcmp(text.at + at, delimiter, length) == 0)
            return (struct span){text.at + at + length, text.length - at - length};
    return (struct span){NULL, 0};
}

struct span reward_after_reasoning(struct span completion)
{
    const struct span rest = after_last(completion, "</think>");
    return rest.at == NULL ? completion : rest;
}

static cohort_status reasoning_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                     double *rewards, cohort_error *err)
{
    const struct reward_texts *delimiters = state;
    for (size_t i = 0; i < n_rows; i++) {
        const struct span completion = {rows[i].completion, rows[i].completion_length};
        struct span answer = {NULL, 0};
        for (size_t d = 0; answer.at == NULL && d < delimiters->n; d++)
            answer = after_last(completion, delimiters->texts[d]);
        if (answer.at == NULL)
            rewards[i] = 0.0; /* not null: reasoning without an end counts as wrong */
        else
            TRY(reward_accuracy_row(&rows[i], name, answer, &rewards[i], err));
    }
    return COHORT_OK;
}

const struct reward_kind reward_kind_reasoning = {.score = reasoning_score, .destroy = reward_texts_destroy};
