/* The split regexes of Qwen, Llama 3 and GPT-2 by hand. Each is a list of alternatives of which the first that matches
 * counts, and each matches at every character, so that words stand side by side. tests/unit/test_known_splits.c compares
 * them with PCRE2's matches. */
#include "text/tokenizer_internal.h"

#include <string.h>

static const struct {
    const char *pattern;
    enum known_split known;
} KNOWN[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", SPLIT_GPT2},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
     "\\s+(?!\\S)|\\s+",
     SPLIT_QWEN},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     SPLIT_LLAMA3},
};
enum { N_KNOWN = sizeof KNOWN / sizeof KNOWN[0] };

enum known_split known_split_find(const char *pattern, size_t length)
{
    for (size_t i = 0; i < N_KNOWN; i++)
        if (strlen(KNOWN[i].pattern) == length && memcmp(KNOWN[i].pattern, pattern, length) == 0)
            return KNOWN[i].known;
    return SPLIT_REGEX;
}

const char *known_split_pattern(enum known_split known)
{
    for (size_t i = 0; i < N_KNOWN; i++)
        if (KNOWN[i].known == known)
            return KNOWN[i].pattern;
    return NULL;
}

struct reader {
    const unsigned char *classes;
    const char *text;
    size_t length;
};

/* The classes of the character at byte at, 0 at the end; *end is where it ends. */
static inline unsigned look(const struct reader *r, size_t at, size_t *end)
{
    if (at >= r->length) {
        *end = at;
        return 0;
    }
    const unsigned char lead = (unsigned char)r->text[at];
    if (lead < 0x80) {
        *end = at + 1;
        return r->classes[lead];
    }
    uint32_t code_point = 0;
    *end = at + utf8_decode(r->text + at, &code_point);
    return code_point < CHAR_TABLED ? r->classes[code_point] : char_classes(code_point);
}

/* Where the run of characters that have one of the classes ends; inverted: that have none of them. */
static inline size_t run_end(const struct reader *r, size_t at, unsigned classes, bool inverted)
{
    size_t end = at;
    while (at < r->length && ((look(r, at, &end) & classes) != 0) != inverted)
        at = end;
    return at;
}

/* The contraction at byte at ('s, 'll), or its beginning where there is none. Without case, U+017F is an s too. */
static size_t contraction(const struct reader *r, size_t at, bool any_case)
{
    static const char *const pairs[] = {"re", "ve", "ll"};
    if (r->text[at] != '\'' || at + 1 >= r->length)
        return at;
    const char *s = r->text + at + 1;
    const size_t left = r->length - at - 1;
    const char fold = any_case ? 0x20 : 0;
    const char first = (char)(s[0] | fold);
    if (first == 's' || first == 't' || first == 'm' || first == 'd')
        return at + 2;
    for (size_t i = 0; i < 3 && left >= 2; i++)
        if (first == pairs[i][0] && (char)(s[1] | fold) == pairs[i][1])
            return at + 3;
    return any_case && left >= 2 && memcmp(s, "\xC5\xBF", 2) == 0 ? at + 3 : at;
}

/* \s+(?!\S)|\s+ : white space up to its last character, which belongs to what follows it, unless it is alone. */
static size_t space_run(const struct reader *r, size_t at)
{
    const size_t end = run_end(r, at, CHAR_SPACE, false);
    if (end == r->length)
        return end;
    const size_t last = utf8_before(r->text, end);
    return last == at ? end : last;
}

static size_t match_gpt2(const struct reader *r, size_t at)
{
    size_t next = contraction(r, at, false), end = 0;
    if (next > at)
        return next;
    unsigned classes = look(r, at, &end);
    size_t start = at;
    if (r->text[at] == ' ' && at + 1 < r->length) {
        start = at + 1;
        classes = look(r, start, &end);
    }
    if ((classes & CHAR_LETTER) != 0)
        return run_end(r, end, CHAR_LETTER, false);
    if ((classes & CHAR_NUMBER) != 0)
        return run_end(r, end, CHAR_NUMBER, false);
    if ((classes & CHAR_SPACE) == 0)
        return run_end(r, end, CHAR_SPACE | CHAR_LETTER | CHAR_NUMBER, true);
    return space_run(r, at);
}

static size_t match_qwen(const struct reader *r, size_t at, int most_digits)
{
    size_t end = 0, next = contraction(r, at, true);
    if (next > at)
        return next;
    unsigned classes = look(r, at, &end);
    if ((classes & CHAR_LETTER) != 0)
        return run_end(r, end, CHAR_LETTER, false);
    if ((classes & CHAR_NUMBER) != 0) {
        for (int digits = 1; digits < most_digits && (look(r, end, &next) & CHAR_NUMBER) != 0; digits++)
            end = next;
        return end;
    }
    const unsigned behind = look(r, end, &next);
    if ((classes & CHAR_NEWLINE) == 0 && (behind & CHAR_LETTER) != 0)
        return run_end(r, next, CHAR_LETTER, false);
    if ((classes & CHAR_SPACE) == 0) {
        end = run_end(r, end, CHAR_SPACE | CHAR_LETTER | CHAR_NUMBER, true);
        return run_end(r, end, CHAR_NEWLINE, false);
    }
    if (r->text[at] == ' ' && end < r->length && (behind & (CHAR_SPACE | CHAR_LETTER | CHAR_NUMBER)) == 0) {
        end = run_end(r, next, CHAR_SPACE | CHAR_LETTER | CHAR_NUMBER, true);
        return run_end(r, end, CHAR_NEWLINE, false);
    }
    size_t last_newline = 0;
    for (end = at; end < r->length; end = next) {
        classes = look(r, end, &next);
        if ((classes & CHAR_SPACE) == 0)
            break;
        if ((classes & CHAR_NEWLINE) != 0)
            last_newline = next;
    }
    if (last_newline > 0)
        return last_newline;
    const size_t last = utf8_before(r->text, end);
    return end == r->length || last == at ? end : last;
}

size_t known_split_match(enum known_split known, const unsigned char *classes, const char *text, size_t length,
                         size_t at)
{
    const struct reader reader = {classes, text, length};
    if (known == SPLIT_GPT2)
        return match_gpt2(&reader, at);
    return match_qwen(&reader, at, known == SPLIT_QWEN ? 1 : 3);
}
