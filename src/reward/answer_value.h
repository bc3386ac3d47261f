/* The value of an expression, in three ways at once, so that two of them can be compared without a computer algebra
 * system.
 *
 * exact   A rational function of symbols with rational coefficients (pi and e count as symbols, i is the root of -1)
 *         has a residue: its value modulo a prime of 61 bits where every symbol stands for a residue made from its name.
 *         Two such values are equal if and only if their residues are, but for a chance of about (degree / 2^60), which
 *         no one meets (Schwartz and Zippel). Nothing is rounded: 2^100 and 2^100 + 1, 1/2004! and 1/2006! differ.
 * small   A rational number whose sides fit 63 bits is known as such too; exponents, roots of squares and the like
 *         need it.
 * lanes   Every value is also computed in complex double precision, with symbols at four fixed points, some positive
 *         and some negative, and with a bound of its rounding error. Roots, logarithms and the trigonometric functions
 *         live here alone. Two values are equal if they differ by no more than their bounds in every lane.
 *
 * A constant has one lane. A value without a lane (too large, a pole) is NaN there and equals nothing by lanes. */
#ifndef COHORT_REWARD_ANSWER_VALUE_H
#define COHORT_REWARD_ANSWER_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VALUE_LANES = 4 };

struct value_lane {
    double re, im, error; /* the true value lies within error of re + i im */
};

struct value {
    struct value_lane lane[VALUE_LANES];
    uint64_t residue;    /* if exact */
    int64_t over, under; /* if small: lowest terms, under > 0 */
    bool exact, small, constant;
    bool percent, degrees; /* written with that sign; lane, residue and over/under are those of the number before it */
    int decimals;          /* of a number written in decimals alone: how many follow the point; else -1 */
    int figures;           /* and how many digits it has from its first that is not 0 on */
};

/* The number of these digits, with at most one point among them ("12.50"): the caller has checked the form. */
struct value value_decimal(const char *digits, size_t length);
struct value value_integer(int64_t integer);
struct value value_symbol(const char *name, size_t length);
struct value value_pi(void);
struct value value_e(void);
struct value value_i(void);
/* Larger than every number in comparisons; a symbol otherwise. */
struct value value_infinity(void);

/* These return false where there is no such value: a division by zero, an argument that is none of the function's. */
struct value value_add(struct value a, struct value b);
struct value value_negate(struct value a);
struct value value_multiply(struct value a, struct value b);
bool value_divide(struct value a, struct value b, struct value *out);
bool value_power(struct value a, struct value b, struct value *out);
/* The n-th root; of a negative number the real one where n is odd. */
bool value_root(struct value a, struct value n, struct value *out);
bool value_absolute(struct value a, struct value *out);
/* steps: counted down by the work, false at 0. */
bool value_factorial(struct value a, long *steps, struct value *out);
bool value_binomial(struct value n, struct value k, long *steps, struct value *out);
/* Of small numbers. */
bool value_floor(struct value a, bool up, struct value *out);
bool value_gcd(struct value a, struct value b, bool lcm, struct value *out);
/* The larger (or smaller) of two real constants. */
bool value_extreme(struct value a, struct value b, bool larger, struct value *out);

/* Functions of one argument, by their names in LaTeX (sin, arcsin, ln, ...). */
bool value_is_function(const char *name, size_t length);
bool value_function(const char *name, size_t length, struct value a, struct value *out);
/* A lane of a function's value, as a C library computes it: error is what that of the argument makes of it. */
struct value_lane value_lane_of(double re, double im, double error);
/* The logarithm of a to a base. */
bool value_log(struct value a, struct value base, struct value *out);

/* The number itself: what was written with a percent sign, divided by 100; degrees as they are. */
struct value value_plain(struct value a);

/* Whether the two are the same: exactly, by lanes, or as a decimal of at least six digits behind the point that is the
 * other, rounded. Percent and degrees are not looked at. */
bool value_same(const struct value *a, const struct value *b);
/* Whether a = c b with a constant c, as for two equations of the same line; *positive: of c. */
bool value_proportional(const struct value *a, const struct value *b, bool *positive);
/* -1, 0, 1 for two real constants; false where that cannot be told. */
bool value_order(const struct value *a, const struct value *b, int *order);

#endif
