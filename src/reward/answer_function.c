/* Functions of one argument, computed in the lanes of values (answer_value.h). */
#include "reward/answer_value.h"

#include <complex.h>
#include <math.h>
#include <string.h>

typedef double complex point;

/* re + im i with both parts as they are (C11's CMPLX, which glibc keeps from clang): a complex number is laid out as its two parts. */
static point point_of(double re, double im)
{
    const double parts[2] = {re, im};
    point out;
    memcpy(&out, parts, sizeof out);
    return out;
}

static point one_over(point a) { return 1.0 / a; }
static point minus_sine(point a) { return -csin(a); }
static point of_tangent(point a) { return 1.0 / (ccos(a) * ccos(a)); }
static point of_arcsine(point a) { return 1.0 / csqrt(1.0 - a * a); }
static point of_arctangent(point a) { return 1.0 / (1.0 + a * a); }
static point of_tanh(point a) { return 1.0 / (ccosh(a) * ccosh(a)); }
static point of_arsinh(point a) { return 1.0 / csqrt(1.0 + a * a); }
static point of_arcosh(point a) { return 1.0 / csqrt(a * a - 1.0); }
static point of_artanh(point a) { return 1.0 / (1.0 - a * a); }

enum angle { NUMBER, ANGLE }; /* an argument that may be written in degrees */

static const struct function {
    const char *name;
    point (*at)(point), (*slope)(point);
    enum angle argument;
    bool inverted; /* 1 / at */
} functions[] = {
    {"sin", csin, ccos, ANGLE, false},
    {"cos", ccos, minus_sine, ANGLE, false},
    {"tan", ctan, of_tangent, ANGLE, false},
    {"cot", ctan, of_tangent, ANGLE, true},
    {"sec", ccos, minus_sine, ANGLE, true},
    {"csc", csin, ccos, ANGLE, true},
    {"arcsin", casin, of_arcsine, NUMBER, false},
    {"arccos", cacos, of_arcsine, NUMBER, false},
    {"arctan", catan, of_arctangent, NUMBER, false},
    {"asin", casin, of_arcsine, NUMBER, false},
    {"acos", cacos, of_arcsine, NUMBER, false},
    {"atan", catan, of_arctangent, NUMBER, false},
    {"sinh", csinh, ccosh, NUMBER, false},
    {"cosh", ccosh, csinh, NUMBER, false},
    {"tanh", ctanh, of_tanh, NUMBER, false},
    {"arsinh", casinh, of_arsinh, NUMBER, false},
    {"arcosh", cacosh, of_arcosh, NUMBER, false},
    {"artanh", catanh, of_artanh, NUMBER, false},
    {"arcsinh", casinh, of_arsinh, NUMBER, false},
    {"arccosh", cacosh, of_arcosh, NUMBER, false},
    {"arctanh", catanh, of_artanh, NUMBER, false},
    {"ln", clog, one_over, NUMBER, false},
};

static const struct function *find(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (strlen(functions[i].name) == length && memcmp(functions[i].name, name, length) == 0)
            return &functions[i];
    return NULL;
}

static bool is_word(const char *name, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(name, word, length) == 0;
}

bool value_is_function(const char *name, size_t length)
{
    return find(name, length) != NULL || is_word(name, length, "exp") || is_word(name, length, "log") ||
           is_word(name, length, "lg");
}

bool value_log(struct value a, struct value base, struct value *out)
{
    struct value over, under;
    return value_function("ln", 2, a, &over) && value_function("ln", 2, base, &under) && value_divide(over, under, out);
}

bool value_function(const char *name, size_t length, struct value a, struct value *out)
{
    const struct function *function = find(name, length);
    const bool degrees = a.degrees;
    a = value_plain(a);
    if (is_word(name, length, "exp"))
        return value_power(value_e(), a, out);
    if (is_word(name, length, "log") || is_word(name, length, "lg")) /* as math-verify reads it: of base 10 */
        return value_log(a, value_integer(10), out);
    if (function == NULL)
        return false;
    if (degrees && function->argument == ANGLE && !value_divide(value_multiply(a, value_pi()), value_integer(180), &a))
        return false;
    struct value v = {.constant = a.constant, .decimals = -1};
    for (int i = 0; i < (a.constant ? 1 : VALUE_LANES); i++) {
        const point x = point_of(a.lane[i].re, a.lane[i].im), y = function->at(x);
        v.lane[i] = value_lane_of(creal(y), cimag(y), cabs(function->slope(x)) * a.lane[i].error);
    }
    *out = v;
    return function->inverted ? value_divide(value_integer(1), v, out) : true;
}
