/* Shared by the files that compare answers: answer.c, answer_clean.c, answer_number.c. */
#ifndef COHORT_REWARD_ANSWER_INTERNAL_H
#define COHORT_REWARD_ANSWER_INTERNAL_H

#include "reward/reward_internal.h"

static inline bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* --- answer_clean.c --- */

/* Appends the cleaned text of an answer; NUL-terminated, without NULs inside. */
cohort_status answer_clean(struct span in, struct text *out, cohort_error *err);
/* Appends the normal form of a cleaned text as a formula: equal forms are equal formulas. */
cohort_status answer_formula(struct span in, struct text *out, cohort_error *err);

/* --- answer_number.c --- */

enum { MAX_DIGITS = 256, UNIT_SIZE = 48 };

/* digits * 10^exponent, without leading or trailing zeros; zero has no digits. */
struct decimal {
    char digits[MAX_DIGITS + 1];
    int n_digits;
    long exponent;
};

struct number {
    bool negative;
    struct decimal over, under; /* under: 1 where there is no fraction */
    char unit[UNIT_SIZE];
};

/* Reads a cleaned text, NUL-terminated, that is a number to its end. */
bool answer_number(const char *text, struct number *number);
/* Same value and no contradicting units. */
bool answer_number_equal(const struct number *a, const struct number *b);
/* Length of text without a unit at its end ("2\sqrt{3} cm" -> "2\sqrt{3}"). */
size_t answer_without_unit(const char *text, size_t length);

#endif
