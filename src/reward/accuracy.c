/* The accuracy reward: finds the answer in a completion and compares it with the row's.
 *
 * The answer of a completion, looked for in what follows its last </think>, or where that is blank
 * in what precedes it:
 *   1. the content of the last complete \boxed{...}, braces balanced;
 *   2. else the line after the last "####";
 *   3. else what follows the last "answer is" (any case, a colon allowed) in its sentence: to the
 * end of the line, or to a period that a blank follows;
 *   4. else the whole text.
 * The expected answer is the row's column "answer", or "solution" where there is no "answer". Of a
 * text, rules 1 and 2 apply (GSM8K's answers end in "#### 42"), else it is taken whole. A number is
 * taken as JSON writes it. A row with neither column is an error, as is one of another type; null
 * or blank text makes the reward null.
 *
 * Two answers are equal by the rules of answer.c. An empty answer of a completion is wrong, never
 * equal. */
#include "base/number.h"
#include "base/number_json.h"
#include "reward/reward_internal.h"

#include <stdlib.h>
#include <string.h>

struct span {
    const char *at;
    size_t length;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static struct span trim(struct span s)
{
    while (s.length > 0 && is_blank(s.at[0])) {
        s.at++;
        s.length--;
    }
    while (s.length > 0 && is_blank(s.at[s.length - 1]))
        s.length--;
    return s;
}

/* Start of the last occurrence of word (ASCII case ignored if asked), or NULL. */
static const char *find_last(struct span s, const char *word, bool any_case)
{
    size_t n = strlen(word);
    for (size_t i = s.length >= n ? s.length - n + 1 : 0; i-- > 0;)
        if (any_case ? ascii_same_bytes(s.at + i, word, n) : memcmp(s.at + i, word, n) == 0)
            return s.at + i;
    return NULL;
}

static struct span from(struct span s, const char *at)
{
    return (struct span){at, s.length - (size_t)(at - s.at)};
}

static bool last_boxed(struct span all, struct span *out)
{
    static const char word[] = "\\boxed";
    struct span s = all;
    const char *found = NULL;
    while ((found = find_last(s, word, false)) != NULL) {
        struct span rest = from(all, found + sizeof word - 1);
        while (rest.length > 0 && is_blank(rest.at[0]))
            rest = from(rest, rest.at + 1);
        long depth = 0;
        for (size_t i = 0; i < rest.length && (i > 0 || rest.at[0] == '{'); i++) {
            if (rest.at[i] == '\\' && i + 1 < rest.length)
                i++; /* \{ and \} are characters */
            else if (rest.at[i] == '{')
                depth++;
            else if (rest.at[i] == '}' && --depth == 0) {
                *out = trim((struct span){rest.at + 1, i - 1});
                return true;
            }
        }
        s.length = (size_t)(found - s.at); /* cut off: look for an earlier one */
    }
    return false;
}

static bool after_hashes(struct span s, struct span *out)
{
    const char *found = find_last(s, "####", false);
    if (found == NULL)
        return false;
    struct span rest = from(s, found + 4);
    const char *newline = memchr(rest.at, '\n', rest.length);
    if (newline != NULL)
        rest.length = (size_t)(newline - rest.at);
    *out = trim(rest);
    return true;
}

static bool after_answer_is(struct span s, struct span *out)
{
    static const char word[] = "answer is";
    const char *found = find_last(s, word, true);
    if (found == NULL)
        return false;
    struct span rest = from(s, found + sizeof word - 1);
    if (rest.length > 0 && rest.at[0] == ':')
        rest = from(rest, rest.at + 1);
    rest = trim(rest);
    for (size_t i = 0; i < rest.length; i++)
        if (rest.at[i] == '\n' ||
            (rest.at[i] == '.' && i + 1 < rest.length && is_blank(rest.at[i + 1]))) {
            rest.length = i;
            break;
        }
    *out = trim(rest);
    return true;
}

static struct span completion_answer(const char *completion)
{
    static const char close[] = "</think>";
    struct span s = {completion, strlen(completion)}, out = {0};
    const char *end = find_last(s, close, false);
    if (end != NULL && trim(from(s, end + sizeof close - 1)).length > 0)
        s = from(s, end + sizeof close - 1);
    else if (end != NULL)
        s.length = (size_t)(end - s.at);
    if (last_boxed(s, &out) || after_hashes(s, &out) || after_answer_is(s, &out))
        return out;
    return trim(s);
}

static struct span expected_answer(const char *answer)
{
    struct span s = {answer, strlen(answer)}, out = {0};
    return last_boxed(s, &out) || after_hashes(s, &out) ? out : trim(s);
}

/* The expected answer as text, *out mem_alloc'ed; NULL for an unscorable row. */
static cohort_status read_expected(const struct reward_row *row, const char *name, char **out,
                                   cohort_error *err)
{
    const char *column = "answer";
    const json_t *value = json_object_get(row->data, column);
    *out = NULL;
    if (value == NULL) {
        column = "solution";
        value = json_object_get(row->data, column);
    }
    if (value == NULL)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "reward '%s': prompt %lld has no column 'answer' (or 'solution'); add it to "
            "the data, null where there is none",
            name, (long long)row->prompt_index);
    if (json_is_null(value))
        return COHORT_OK;
    if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward '%s': prompt %lld: column '%s' holds a NUL, which no answer has",
                         name, (long long)row->prompt_index, column);
    if (json_is_string(value)) {
        struct span answer = expected_answer(json_string_value(value));
        return answer.length == 0 ? COHORT_OK : mem_strdup(out, answer.at, answer.length, err);
    }
    if (!json_is_number(value))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward '%s': prompt %lld: column '%s' must be a text, a number or null",
                         name, (long long)row->prompt_index, column);
    /* The fewest digits that read back to the same number: 17 would make 0.1 into
     * 0.10000000000000001. */
    char *written = NULL;
    for (size_t digits = 15; digits <= 17; digits++) {
        free(written);
        written = number_json_dump(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
        json_t *again = written != NULL
                            ? number_json_load(written, strlen(written), JSON_DECODE_ANY, NULL)
                            : NULL;
        bool same = again != NULL && json_number_value(again) == json_number_value(value);
        json_decref(again);
        if (same)
            break;
    }
    if (written == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "reward '%s': out of memory", name);
    cohort_status status = mem_strdup(out, written, strlen(written), err);
    free(written);
    return status;
}

static cohort_status accuracy_score(void *state, const char *name, const struct reward_row *rows,
                                    size_t n_rows, double *rewards, cohort_error *err)
{
    (void)state;
    for (size_t i = 0; i < n_rows; i++) {
        char *expected = NULL, *answer = NULL;
        bool equal = false;
        TRY(read_expected(&rows[i], name, &expected, err));
        if (expected == NULL)
            continue; /* null, as reward_score has set it */
        struct span found = completion_answer(rows[i].completion);
        cohort_status status = mem_strdup(&answer, found.at, found.length, err);
        if (status == COHORT_OK && found.length > 0)
            status = answer_equal(answer, expected, &equal, err);
        mem_free(answer);
        mem_free(expected);
        TRY(status);
        rewards[i] = equal ? 1.0 : 0.0;
    }
    return COHORT_OK;
}

const struct reward_kind reward_kind_accuracy = {accuracy_score, NULL};
