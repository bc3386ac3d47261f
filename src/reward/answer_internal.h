/* Shared by the files that compare answers: answer.c and answer_*.c. */
#ifndef COHORT_REWARD_ANSWER_INTERNAL_H
#define COHORT_REWARD_ANSWER_INTERNAL_H

#include "reward/answer_value.h"
#include "reward/reward_internal.h"

#include <string.h>

enum {
    ANSWER_LENGTH =
        4096,        /* bytes of a cleaned answer that is read as more than text; proofs are longer, answers never */
    WORD_LENGTH = 4, /* letters in a row that are a word, not a product of symbols */
    UNIT_SIZE = 48,
};

static inline bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static inline bool answer_is_word(struct span s, const char *word)
{
    return strlen(word) == s.length && memcmp(s.at, word, s.length) == 0;
}

static inline struct span answer_trim(struct span s)
{
    while (s.length > 0 && s.at[0] == ' ') {
        s.at++;
        s.length--;
    }
    while (s.length > 0 && s.at[s.length - 1] == ' ')
        s.length--;
    return s;
}

static inline struct span answer_part(struct span s, size_t start, size_t end)
{
    return answer_trim((struct span){s.at + start, end - start});
}

/* --- answer_clean.c --- */

/* Appends the cleaned text of an answer; NUL-terminated, without NULs inside. */
cohort_status answer_clean(struct span in, struct text *out, cohort_error *err);
/* Appends what two cleaned texts have in common that differ in blanks alone, in braces around one token, or, where there
 * are only words, in case. */
cohort_status answer_tokens(struct span in, struct text *out, cohort_error *err);

/* --- answer_expression.c --- */

struct expression {
    int sign;         /* of \pm */
    bool groups;      /* 1,234 is one number */
    long steps;       /* that may still be spent on factorials */
    bool plus_minus;  /* out: there was a \pm or \mp */
    struct span base; /* out: of a number with a base (101_2) */
};

/* The value of the whole text; false where it is no expression or has no value. */
bool answer_expression(struct span s, struct expression *expression, struct value *out);
/* Whether a factor follows at the place, without a sign between. */
bool answer_factor_follows(struct span s, size_t at, bool after_number, bool in_bars);
/* Bytes of a number that begins with so many digits, with groups of three behind them. */
size_t answer_grouped(struct span s, size_t digits);

/* --- answer_unit.c --- */

/* The length of s without a unit of so many words at its end (0: one written without a blank); s.length: it has none. */
size_t answer_unit_end(struct span s, int words);
/* Bytes of a currency's sign at the begin. */
size_t answer_currency(struct span s);
/* Whether the units agree, or one of them is "". */
bool answer_same_unit(const char *a, const char *b);
bool answer_is_percent(const char *unit);

/* --- answer_tree.c --- */

enum node_kind { NODE_TEXT, NODE_VALUE, NODE_LIST, NODE_SETS, NODE_RELATION, NODE_MATRIX };

struct node {
    enum node_kind kind;
    struct span text; /* of the cleaned answer */
    struct value value;
    char unit[UNIT_SIZE];
    bool word;              /* a value that may be a word: letters alone */
    char open, close;       /* LIST: ( [ {, or 0 for a list without brackets */
    char operation;         /* of this child with the one before it. SETS: u, n, \; RELATION: = < > l g n i (in) */
    int32_t rows, columns;  /* MATRIX: its children, row by row */
    int32_t first, next, n; /* children: first, their number, and the next one of this node's parent; -1: none */
};

struct tree {
    struct node *nodes; /* [n], the root is 0 */
    size_t n, capacity;
    long steps;
};

/* Parts of at most ANSWER_LENGTH bytes; the texts stay those of s. */
cohort_status answer_tree(struct tree *tree, struct span s, cohort_error *err);
void answer_tree_free(struct tree *tree);
/* "and" or "or" at i, as a word of its own: its length, else 0. */
size_t answer_conjunction(struct span s, size_t i);

/* --- answer_compare.c, answer_set.c --- */

/* Whether what is stated (the root of a) is what is expected (the root of b). */
cohort_status answer_compare(const struct tree *a, const struct tree *b, bool *equal, cohort_error *err);
/* Whether two nodes are the same subset of the real numbers: intervals, sets of numbers, unions, differences, R, and
 * inequalities of one symbol. false also where they are none. */
bool answer_same_set(const struct tree *a, const struct node *x, const struct tree *b, const struct node *y);

#endif
