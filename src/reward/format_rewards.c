/* mlx-node's rewards of completions of the form <reasoning>...</reasoning><answer>...</answer> (tags in small letters):
 *
 * - strict_format: 0.5 if that is all of it, blanks aside.
 * - soft_format: 0.5 if the first <reasoning> ends, and an <answer> with its end is behind it or, where none begins there,
 *   anywhere.
 * - integer: 0.5 if the answer is a whole number: a sign, digits, commas and blanks anywhere between.
 * - correctness: 2 if the answer is the row's (its column "answer", or "solution"), as a text, or both as whole numbers
 *   ("1,000.0" is 1000).
 * The answer is what the first <answer> behind the reasoning holds, to the end where it does not end; without one behind
 * it, or without reasoning, the first <answer> that ends. */
#include "base/number.h"
#include "reward/reward_internal.h"

#include <math.h>
#include <string.h>

struct parts {
    struct span answer; /* at NULL: none */
    bool soft, strict;
};

/* What the rules take for white space between tags. */
static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool blanks_alone(struct span s, size_t from, size_t to)
{
    for (; from < to; from++)
        if (!is_blank(s.at[from]))
            return false;
    return true;
}

static size_t find(struct span s, size_t start, const char *word)
{
    const char *at = start > s.length ? NULL : memmem(s.at + start, s.length - start, word, strlen(word));
    return at == NULL ? s.length : (size_t)(at - s.at);
}

static struct span between(struct span s, size_t from, size_t to)
{
    return reward_trim((struct span){s.at + from, to - from});
}

static struct parts read_parts(struct span s)
{
    static const char reasoning[] = "<reasoning>", reasoning_end[] = "</reasoning>", answer[] = "<answer>",
                      answer_end[] = "</answer>";
    struct parts parts = {{NULL, 0}, false, false};
    const size_t first = find(s, 0, reasoning), thought = find(s, first + strlen(reasoning), reasoning_end);
    const bool closed = first < s.length && thought < s.length;
    const size_t behind = thought + strlen(reasoning_end);
    size_t start = closed ? find(s, behind, answer) : s.length;
    if (start < s.length) {
        const size_t from = start + strlen(answer), end = find(s, from, answer_end);
        parts.answer = between(s, from, end);
        parts.soft = end < s.length;
        if (!parts.soft && parts.answer.length == 0)
            parts.answer.at = NULL;
        parts.strict = parts.soft && blanks_alone(s, 0, first) && blanks_alone(s, behind, start) &&
                       blanks_alone(s, end + strlen(answer_end), s.length);
        return parts;
    }
    start = find(s, 0, answer);
    const size_t from = start + strlen(answer), end = find(s, from, answer_end);
    if (start < s.length && end < s.length) {
        parts.answer = between(s, from, end);
        parts.soft = closed;
    }
    return parts;
}

/* The digits of a whole number that text is, without commas, blanks, zeros before it, and where a fraction of zeros may
 * follow without that. false: it is none, or beyond the range of doubles, where the rules end. */
static bool whole_number(struct span s, bool fraction, struct text *digits, bool *negative, cohort_error *err,
                         cohort_status *status)
{
    struct text plain = {0};
    bool whole = false;
    double number = 0.0;
    digits->length = 0;
    for (size_t i = 0; i < s.length && *status == COHORT_OK;) {
        const size_t blank = reward_blank_at(s, i);
        if (blank > 0 || s.at[i] == ',')
            i += blank > 0 ? blank : 1;
        else
            *status = text_append(&plain, s.at + i++, 1, err);
    }
    const size_t sign = plain.length > 0 && (plain.data[0] == '-' || plain.data[0] == '+');
    size_t end = sign, from = sign;
    while (end < plain.length && plain.data[end] >= '0' && plain.data[end] <= '9')
        end++;
    size_t rest = end;
    if (fraction && rest + 1 < plain.length && plain.data[rest] == '.')
        for (rest++; rest < plain.length && plain.data[rest] == '0';)
            rest++;
    if (*status == COHORT_OK && end > sign && rest == plain.length && !(rest > end && rest == end + 1) &&
        number_read(plain.data, end, &number)) {
        while (from + 1 < end && plain.data[from] == '0')
            from++;
        whole = true;
        *negative = plain.data[0] == '-' && !(from + 1 == end && plain.data[from] == '0');
        *status = text_append(digits, plain.data + from, end - from, err);
    }
    text_free(&plain);
    return whole && *status == COHORT_OK;
}

static cohort_status same_answer(struct span a, struct span b, bool *same, cohort_error *err)
{
    struct text x = {0}, y = {0};
    bool x_negative = false, y_negative = false;
    cohort_status status = COHORT_OK;
    const bool x_whole = whole_number(a, true, &x, &x_negative, err, &status);
    const bool y_whole = status == COHORT_OK && whole_number(b, true, &y, &y_negative, err, &status);
    if (x_whole && y_whole)
        *same = x_negative == y_negative && x.length == y.length && memcmp(x.data, y.data, x.length) == 0;
    else
        *same = !x_whole && !y_whole && a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
    text_free(&x);
    text_free(&y);
    return status;
}

static cohort_status correctness_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                       double *rewards, cohort_error *err)
{
    (void)state;
    for (size_t i = 0; i < n_rows; i++) {
        char *expected = NULL;
        bool same = false;
        TRY(reward_expected_answer(&rows[i], name, &expected, err));
        if (expected == NULL) { /* null: there is no answer to compare with */
            rewards[i] = (double)NAN;
            continue;
        }
        const struct parts parts = read_parts((struct span){rows[i].completion, rows[i].completion_length});
        const struct span gold = reward_trim((struct span){expected, strlen(expected)});
        cohort_status status = COHORT_OK;
        if (parts.answer.length > 0 && gold.length > 0)
            status = same_answer(parts.answer, gold, &same, err);
        mem_free(expected);
        TRY(status);
        rewards[i] = same ? 2.0 : 0.0;
    }
    return COHORT_OK;
}

static cohort_status integer_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                   double *rewards, cohort_error *err)
{
    (void)state, (void)name;
    for (size_t i = 0; i < n_rows; i++) {
        const struct parts parts = read_parts((struct span){rows[i].completion, rows[i].completion_length});
        struct text digits = {0};
        bool negative = false;
        cohort_status status = COHORT_OK;
        const bool whole =
            parts.answer.length > 0 && whole_number(parts.answer, false, &digits, &negative, err, &status);
        text_free(&digits);
        TRY(status);
        rewards[i] = whole ? 0.5 : 0.0;
    }
    return COHORT_OK;
}

static cohort_status strict_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                  double *rewards, cohort_error *err)
{
    (void)state, (void)name, (void)err;
    for (size_t i = 0; i < n_rows; i++)
        rewards[i] = read_parts((struct span){rows[i].completion, rows[i].completion_length}).strict ? 0.5 : 0.0;
    return COHORT_OK;
}

static cohort_status soft_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                double *rewards, cohort_error *err)
{
    (void)state, (void)name, (void)err;
    for (size_t i = 0; i < n_rows; i++)
        rewards[i] = read_parts((struct span){rows[i].completion, rows[i].completion_length}).soft ? 0.5 : 0.0;
    return COHORT_OK;
}

const struct reward_kind reward_kind_correctness = {.score = correctness_score};
const struct reward_kind reward_kind_integer = {.score = integer_score};
const struct reward_kind reward_kind_strict = {.score = strict_score};
const struct reward_kind reward_kind_soft = {.score = soft_score};
