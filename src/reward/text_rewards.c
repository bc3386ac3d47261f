/* Rewards of a completion's text alone, with mlx-node's rules.
 *
 * - length, n characters (code points): n / min_length below min_length, 1 up to max_length, and beyond
 *   1 - min(n / max_length - 1, 1) / 2.
 * - xml_format: the share of tags that are there and opened as often as closed, less 0.3 for each that is opened more
 *   or less often than closed, within 0 and 1.
 * - xml_count: 0.25 for <reasoning> with its end after it, 0.25 for <answer>, and 0.001 less for each character
 *   (UTF-16 unit) after the first </answer>, blanks at both ends of that left out. Tags in letters of any case. */
#include "base/utf8.h"
#include "reward/reward_internal.h"

#include <math.h>
#include <string.h>

/* Walks through the characters of a text; a byte that is no UTF-8 is one character, U+FFFD. */
struct walk {
    struct span text;
    size_t at, valid; /* [at, valid) is UTF-8 */
};

static bool walk_next(struct walk *walk, uint32_t *code_point)
{
    if (walk->at == walk->text.length)
        return false;
    if (walk->at >= walk->valid)
        walk->valid = walk->at + utf8_check(walk->text.at + walk->at, walk->text.length - walk->at);
    if (walk->at == walk->valid) {
        *code_point = 0xFFFD;
        walk->at++;
    } else {
        walk->at += utf8_decode(walk->text.at + walk->at, code_point);
    }
    return true;
}

/* --- length --- */

struct lengths {
    int64_t least, most;
};

cohort_status reward_length_create(void **state, const struct reward_options *options, cohort_error *err)
{
    struct lengths *lengths = NULL;
    const int64_t least = options->min_length == 0 ? 50 : options->min_length,
                  most = options->max_length == 0 ? 500 : options->max_length;
    if (least > most)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward 'length': --reward-min-length %lld is more than --reward-max-length %lld",
                         (long long)least, (long long)most);
    TRY(mem_alloc(&lengths, 1, sizeof *lengths, "reward", err));
    *lengths = (struct lengths){least, most};
    *state = lengths;
    return COHORT_OK;
}

static cohort_status length_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                  double *rewards, cohort_error *err)
{
    const struct lengths *lengths = state;
    (void)name, (void)err;
    for (size_t i = 0; i < n_rows; i++) {
        struct walk walk = {.text = {rows[i].completion, rows[i].completion_length}};
        uint32_t code_point;
        int64_t n = 0;
        while (walk_next(&walk, &code_point))
            n++;
        if (n < lengths->least)
            rewards[i] = (double)n / (double)lengths->least;
        else if (n > lengths->most)
            rewards[i] = 1.0 - fmin((double)(n - lengths->most) / (double)lengths->most, 1.0) * 0.5;
        else
            rewards[i] = 1.0;
    }
    return COHORT_OK;
}

/* --- tags --- */

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* Where a tag ends that begins at from or later, 0: nowhere. any_case: the name is in lower-case letters, and the
 * text's may be in capitals. */
static size_t tag_end(struct span text, size_t from, bool closing, const char *name, bool any_case)
{
    const size_t n = strlen(name), start = closing ? 2 : 1;
    for (size_t at = from; at + start + n < text.length; at++) {
        const char *tag = text.at + at;
        if (tag[0] != '<' || (closing && tag[1] != '/') || tag[start + n] != '>')
            continue;
        size_t same = 0;
        while (same < n && (any_case ? lower(tag[start + same]) : tag[start + same]) == name[same])
            same++;
        if (same == n)
            return at + start + n + 1;
    }
    return 0;
}

static size_t count_tags(struct span text, bool closing, const char *name)
{
    size_t count = 0;
    for (size_t at = 0; (at = tag_end(text, at, closing, name, false)) != 0;)
        count++;
    return count;
}

cohort_status reward_xml_create(void **state, const struct reward_options *options, cohort_error *err)
{
    static const char *const usual[] = {"thinking", "answer"};
    return options->n_tags > 0 ? reward_texts_create(state, options->tags, options->n_tags, "--reward-tags", err)
                               : reward_texts_create(state, usual, 2, "--reward-tags", err);
}

static cohort_status xml_format_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                      double *rewards, cohort_error *err)
{
    const struct reward_texts *tags = state;
    (void)name, (void)err;
    for (size_t i = 0; i < n_rows; i++) {
        const struct span text = {rows[i].completion, rows[i].completion_length};
        size_t balanced = 0, unbalanced = 0;
        for (size_t t = 0; t < tags->n; t++) {
            const size_t opened = count_tags(text, false, tags->texts[t]),
                         closed = count_tags(text, true, tags->texts[t]);
            balanced += opened == closed && opened > 0;
            unbalanced += opened != closed;
        }
        rewards[i] = fmin(fmax((double)balanced / (double)tags->n - (double)unbalanced * 0.3, 0.0), 1.0);
    }
    return COHORT_OK;
}

/* What JavaScript's trim takes away. */
static bool is_blank(uint32_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000 || c == 0xFEFF;
}

size_t reward_blank_at(struct span s, size_t i)
{
    /* Of the text only as much as a character can be: the walk looks ahead. */
    struct walk walk = {.text = {s.at + i, s.length - i < 4 ? s.length - i : 4}};
    uint32_t code_point;
    return walk_next(&walk, &code_point) && is_blank(code_point) ? walk.at : 0;
}

struct span reward_trim(struct span s)
{
    size_t blank = 0;
    while (s.length > 0 && (blank = reward_blank_at(s, 0)) > 0)
        s = (struct span){s.at + blank, s.length - blank};
    for (bool again = true; again && s.length > 0;) {
        size_t start = s.length - 1; /* of the last character */
        while (start > 0 && s.length - start < 4 && ((unsigned char)s.at[start] & 0xc0) == 0x80)
            start--;
        again = reward_blank_at(s, start) == s.length - start;
        s.length = again ? start : s.length;
    }
    return s;
}

/* UTF-16 units of a text without the blanks at its ends. */
static size_t units_between_blanks(struct span text)
{
    struct walk walk = {.text = text};
    uint32_t code_point;
    size_t units = 0, to_last = 0; /* since the first that is no blank */
    while (walk_next(&walk, &code_point)) {
        const bool blank = is_blank(code_point);
        if (blank && units == 0)
            continue;
        units += code_point > 0xFFFF ? 2 : 1;
        to_last = blank ? to_last : units;
    }
    return to_last;
}

static bool encloses(struct span text, const char *name)
{
    const size_t opened = tag_end(text, 0, false, name, true);
    return opened != 0 && tag_end(text, opened, true, name, true) != 0;
}

static cohort_status xml_count_score(void *state, const char *name, const struct reward_row *rows, size_t n_rows,
                                     double *rewards, cohort_error *err)
{
    (void)state, (void)name, (void)err;
    for (size_t i = 0; i < n_rows; i++) {
        const struct span text = {rows[i].completion, rows[i].completion_length};
        const size_t end = tag_end(text, 0, true, "answer", true);
        const size_t more = end == 0 ? 0 : units_between_blanks((struct span){text.at + end, text.length - end});
        const double tags = (encloses(text, "reasoning") ? 0.25 : 0.0) + (encloses(text, "answer") ? 0.25 : 0.0);
        rewards[i] = tags - (double)more * 0.001;
    }
    return COHORT_OK;
}

const struct reward_kind reward_kind_length = {.score = length_score, .destroy = mem_free};
const struct reward_kind reward_kind_xml_format = {.score = xml_format_score, .destroy = reward_texts_destroy};
const struct reward_kind reward_kind_xml_count = {.score = xml_count_score};
