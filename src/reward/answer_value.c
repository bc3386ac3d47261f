#include "reward/answer_value.h"

#include "base/number.h"

#include <math.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide;

/* A prime of 61 bits that is 1 modulo 4, so that -1 has a root, and far from every power of small numbers: modulo one
 * like 2^61 - 1 the powers of 2 would soon come again. */
#define PRIME             UINT64_C(1740629389526484533)
#define ROOT_OF_MINUS_ONE UINT64_C(1132075463483510522)

/* Of one operation of doubles, relative. */
#define ROUNDING 0x1p-53
/* glibc's and other C libraries' functions are within a few units of the last place. */
#define OF_FUNCTION (8 * ROUNDING)

/* --- residues --- */

static uint64_t times(uint64_t a, uint64_t b) { return (uint64_t)((wide)a * b % PRIME); }

static uint64_t plus(uint64_t a, uint64_t b) { return (a + b) % PRIME; }

static uint64_t minus(uint64_t a) { return a == 0 ? 0 : PRIME - a; }

static uint64_t to_power(uint64_t a, uint64_t n)
{
    uint64_t result = 1;
    for (; n > 0; n >>= 1, a = times(a, a))
        if ((n & 1) != 0)
            result = times(result, a);
    return result;
}

static uint64_t inverse(uint64_t a) { return to_power(a, PRIME - 2); }

static uint64_t of_integer(int64_t n) { return n < 0 ? minus((0 - (uint64_t)n) % PRIME) : (uint64_t)n % PRIME; }

/* --- small rationals --- */

static uint64_t gcd_of(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static uint64_t magnitude(int64_t n) { return n < 0 ? 0 - (uint64_t)n : (uint64_t)n; }

static void set_small(struct value *v, int64_t over, int64_t under)
{
    v->small = under != 0 && over != INT64_MIN && under != INT64_MIN;
    if (!v->small)
        return;
    if (under < 0) {
        over = -over;
        under = -under;
    }
    int64_t common = (int64_t)gcd_of(magnitude(over), (uint64_t)under);
    v->over = over / common;
    v->under = under / common;
}

static bool is_integer(const struct value *v) { return v->small && v->under == 1; }

/* --- lanes --- */

static const struct value_lane unknown = {(double)NAN, (double)NAN, (double)INFINITY};

static double size_of(struct value_lane a) { return hypot(a.re, a.im); }

/* A lane with an error relative to itself added; what is lost is unknown. */
static struct value_lane rounded(double re, double im, double error, double relative)
{
    double size = hypot(re, im);
    if (!isfinite(size) || !isfinite(error))
        return unknown;
    error += size * relative;
    /* A part that is nothing but rounding is none: it would choose the side of a branch cut. */
    if (fabs(im) <= error && fabs(re) > error)
        im = 0.0;
    if (error > 1e-6 * size && error > 1e-9)
        return unknown;
    return (struct value_lane){re, im, error};
}

static struct value_lane lane_add(struct value_lane a, struct value_lane b)
{
    return rounded(a.re + b.re, a.im + b.im, a.error + b.error, 2 * ROUNDING);
}

static struct value_lane lane_multiply(struct value_lane a, struct value_lane b)
{
    return rounded(
        a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re,
        size_of(a) * b.error + size_of(b) * a.error + a.error * b.error + 4 * ROUNDING * size_of(a) * size_of(b), 0.0);
}

static struct value_lane lane_divide(struct value_lane a, struct value_lane b)
{
    const double size = size_of(b);
    if (!(b.error < size / 2))
        return unknown;
    /* b scaled to about 1, so that its square does not overflow. */
    const double re = b.re / size, im = b.im / size;
    const double x = (a.re * re + a.im * im) / size, y = (a.im * re - a.re * im) / size;
    return rounded(x, y, (a.error + hypot(x, y) * b.error) / (size - b.error), 10 * ROUNDING);
}

static struct value_lane lane_exp(struct value_lane a)
{
    const double size = exp(a.re);
    if (!(a.error < 0.5))
        return unknown;
    return rounded(size * cos(a.im), a.im == 0.0 ? 0.0 : size * sin(a.im), size * a.error * 2,
                   OF_FUNCTION + ROUNDING * (fabs(a.re) + fabs(a.im)));
}

static struct value_lane lane_log(struct value_lane a)
{
    const double size = size_of(a);
    if (!(a.error < size / 2))
        return unknown;
    return rounded(log(size), atan2(a.im, a.re), 2 * a.error / size + OF_FUNCTION * (1 + fabs(log(size))), OF_FUNCTION);
}

static struct value_lane lane_sqrt(struct value_lane a)
{
    const double size = size_of(a);
    if (size <= 2 * a.error) /* zero for all that is known */
        return rounded(0.0, 0.0, sqrt(3 * a.error), 0.0);
    const double error = a.error / sqrt(size);
    if (a.im == 0.0)
        return a.re >= 0 ? rounded(sqrt(a.re), 0.0, error, OF_FUNCTION) : rounded(0.0, sqrt(-a.re), error, OF_FUNCTION);
    const double root = sqrt(size), angle = atan2(a.im, a.re) / 2;
    return rounded(root * cos(angle), root * sin(angle), error, 2 * OF_FUNCTION);
}

static struct value_lane lane_power(struct value_lane a, struct value_lane b)
{
    if (a.re == 0.0 && a.im == 0.0 && a.error == 0.0)
        return b.re > 0 ? a : unknown;
    return lane_exp(lane_multiply(b, lane_log(a)));
}

static struct value_lane lane_integer_power(struct value_lane a, uint64_t n)
{
    struct value_lane result = {1.0, 0.0, 0.0};
    for (; n > 0; n >>= 1) {
        if ((n & 1) != 0)
            result = lane_multiply(result, a);
        if (n > 1)
            a = lane_multiply(a, a);
    }
    return result;
}

static const struct value_lane *lane_of(const struct value *v, int i) { return &v->lane[v->constant ? 0 : i]; }

static int lanes_of(bool constant) { return constant ? 1 : VALUE_LANES; }

struct value_lane value_lane_of(double re, double im, double error) { return rounded(re, im, 2 * error, OF_FUNCTION); }

/* --- making values --- */

static struct value fresh(bool constant) { return (struct value){.constant = constant, .decimals = -1}; }

struct value value_integer(int64_t integer)
{
    struct value v = fresh(true);
    set_small(&v, integer, 1);
    v.exact = true;
    v.residue = of_integer(integer);
    v.lane[0] = rounded((double)integer, 0.0, 0.0, magnitude(integer) >> 53 != 0 ? ROUNDING : 0.0);
    return v;
}

struct value value_decimal(const char *digits, size_t length)
{
    struct value v = fresh(true);
    int64_t over = 0, under = 1;
    bool fits = true, point = false, counted = false;
    uint64_t power = 1;
    v.exact = true;
    v.decimals = 0;
    for (size_t i = 0; i < length; i++) {
        if (digits[i] == '.') {
            point = true;
            continue;
        }
        const int digit = digits[i] - '0';
        v.residue = plus(times(v.residue, 10), (uint64_t)digit);
        counted = counted || digit != 0;
        v.figures += counted;
        fits = fits && !__builtin_mul_overflow(over, 10, &over) && !__builtin_add_overflow(over, digit, &over);
        if (point) {
            power = times(power, 10);
            v.decimals++;
            fits = fits && !__builtin_mul_overflow(under, 10, &under);
        }
    }
    v.residue = times(v.residue, inverse(power));
    if (fits)
        set_small(&v, over, under);
    double number = 0.0;
    if (length > 0 && digits[length - 1] == '.') /* "5." */
        length--;
    v.lane[0] =
        number_read(digits, length, &number) ? rounded(number, 0.0, 0.0, is_integer(&v) ? 0.0 : ROUNDING) : unknown;
    if (is_integer(&v))
        v.lane[0] = value_integer(v.over).lane[0];
    return v;
}

/* Mixes the bits of a number (the finaliser of MurmurHash3). */
static uint64_t mixed(uint64_t h)
{
    h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
    h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

static uint64_t name_hash(const char *name, size_t length)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
    return mixed(h + length);
}

struct value value_symbol(const char *name, size_t length)
{
    const uint64_t h = name_hash(name, length);
    struct value v = fresh(false);
    v.exact = true;
    v.residue = mixed(h + 1) % PRIME;
    for (int i = 0; i < VALUE_LANES; i++) {
        const uint64_t bits = mixed(h + 2 + (uint64_t)i);
        /* Between 0.5 and 2.5: powers stay in range. Lane 0 is positive, lane 1 negative, the others as it comes. */
        const double size = 0.5 + 2.0 * ((double)(bits >> 12) * 0x1p-52);
        const bool negative = i == 1 || (i > 1 && (bits & 1) != 0);
        v.lane[i] = (struct value_lane){negative ? -size : size, 0.0, 0.0};
    }
    return v;
}

static struct value known(const char *name, double number)
{
    struct value v = value_symbol(name, strlen(name));
    v.constant = true;
    v.lane[0] = (struct value_lane){number, 0.0, number * ROUNDING};
    return v;
}

/* Names that no answer can spell. */
struct value value_pi(void) { return known("\1pi", 3.14159265358979323846); }
struct value value_e(void) { return known("\1e", 2.71828182845904523536); }
struct value value_infinity(void) { return known("\1infinity", 1e300); }

struct value value_i(void)
{
    struct value v = fresh(true);
    v.exact = true;
    v.residue = ROOT_OF_MINUS_ONE;
    v.lane[0] = (struct value_lane){0.0, 1.0, 0.0};
    return v;
}

struct value value_plain(struct value a)
{
    struct value v = a;
    if (a.percent) {
        a.percent = false;
        if (!value_divide(a, value_integer(100), &v))
            return a; /* 100 is not zero */
    }
    v.percent = v.degrees = false;
    v.decimals = -1;
    v.figures = 0;
    return v;
}

/* --- arithmetic --- */

struct value value_add(struct value a, struct value b)
{
    a = value_plain(a);
    b = value_plain(b);
    struct value v = fresh(a.constant && b.constant);
    v.exact = a.exact && b.exact;
    v.residue = v.exact ? plus(a.residue, b.residue) : 0;
    int64_t x, y, over, under;
    if (a.small && b.small && !__builtin_mul_overflow(a.over, b.under, &x) &&
        !__builtin_mul_overflow(b.over, a.under, &y) && !__builtin_add_overflow(x, y, &over) &&
        !__builtin_mul_overflow(a.under, b.under, &under))
        set_small(&v, over, under);
    for (int i = 0; i < lanes_of(v.constant); i++)
        v.lane[i] = lane_add(*lane_of(&a, i), *lane_of(&b, i));
    return v;
}

/* Keeps how it is written: -0.5 has one decimal. */
struct value value_negate(struct value a)
{
    a.residue = minus(a.residue);
    a.over = -a.over;
    for (int i = 0; i < lanes_of(a.constant); i++) {
        a.lane[i].re = -a.lane[i].re;
        a.lane[i].im = a.lane[i].im == 0.0 ? 0.0 : -a.lane[i].im; /* no negative zero: it is a side of a branch cut */
    }
    return a;
}

struct value value_multiply(struct value a, struct value b)
{
    const bool degrees = a.degrees || b.degrees;
    a = value_plain(a);
    b = value_plain(b);
    struct value v = fresh(a.constant && b.constant);
    v.degrees = degrees;
    v.exact = a.exact && b.exact;
    v.residue = v.exact ? times(a.residue, b.residue) : 0;
    int64_t over, under;
    if (a.small && b.small && !__builtin_mul_overflow(a.over, b.over, &over) &&
        !__builtin_mul_overflow(a.under, b.under, &under))
        set_small(&v, over, under);
    for (int i = 0; i < lanes_of(v.constant); i++)
        v.lane[i] = lane_multiply(*lane_of(&a, i), *lane_of(&b, i));
    return v;
}

/* Whether the value is zero, for all that can be known. */
static bool is_zero(const struct value *a)
{
    if (a->exact)
        return a->residue == 0;
    for (int i = 0; i < lanes_of(a->constant); i++)
        if (!(size_of(a->lane[i]) <= 4 * a->lane[i].error))
            return false;
    return true;
}

bool value_divide(struct value a, struct value b, struct value *out)
{
    a = value_plain(a);
    b = value_plain(b);
    struct value v = fresh(a.constant && b.constant);
    if (is_zero(&b))
        return false;
    v.exact = a.exact && b.exact;
    v.residue = v.exact ? times(a.residue, inverse(b.residue)) : 0;
    int64_t over, under;
    if (a.small && b.small && !__builtin_mul_overflow(a.over, b.under, &over) &&
        !__builtin_mul_overflow(a.under, b.over, &under))
        set_small(&v, over, under);
    for (int i = 0; i < lanes_of(v.constant); i++)
        v.lane[i] = lane_divide(*lane_of(&a, i), *lane_of(&b, i));
    *out = v;
    return true;
}

static bool integer_power(struct value a, int64_t n, struct value *out)
{
    if (n < 0) {
        struct value inverted;
        return value_divide(value_integer(1), a, &inverted) && n != INT64_MIN && integer_power(inverted, -n, out);
    }
    struct value v = fresh(a.constant);
    v.exact = a.exact;
    v.residue = a.exact ? to_power(a.residue, (uint64_t)n) : 0;
    if (a.small && (n <= 64 || magnitude(a.over) <= 1)) {
        int64_t over = 1, under = 1;
        bool fits = true;
        for (int64_t i = 0; fits && i < (n > 64 ? 64 + n % 2 : n); i++) /* 1, 0 and -1 beyond 64: of n's parity */
            fits = !__builtin_mul_overflow(over, a.over, &over) && !__builtin_mul_overflow(under, a.under, &under);
        if (fits)
            set_small(&v, over, under);
    }
    for (int i = 0; i < lanes_of(v.constant); i++)
        v.lane[i] = lane_integer_power(a.lane[i], (uint64_t)n);
    *out = v;
    return true;
}

/* root^n = a of integers. */
static bool integer_root(int64_t a, int64_t n, int64_t *root)
{
    if (a < 0 || n < 1 || n > 63)
        return false;
    const int64_t guess = llround(pow((double)a, 1.0 / (double)n));
    for (int64_t r = guess > 0 ? guess - 1 : 0; r <= guess + 1; r++) {
        int64_t product = 1;
        bool fits = true;
        for (int64_t i = 0; fits && i < n; i++)
            fits = !__builtin_mul_overflow(product, r, &product);
        if (fits && product == a) {
            *root = r;
            return true;
        }
    }
    return false;
}

static struct value small_value(int64_t over, int64_t under)
{
    struct value v = value_integer(over);
    if (under != 1)
        (void)value_divide(v, value_integer(under), &v); /* under is not zero */
    return v;
}

bool value_power(struct value a, struct value b, struct value *out)
{
    a = value_plain(a);
    b = value_plain(b);
    if (is_integer(&b))
        return integer_power(a, b.over, out);
    int64_t over, under;
    if (a.small && b.small && a.over >= 0 && integer_root(a.over, b.under, &over) &&
        integer_root(a.under, b.under, &under))
        return integer_power(small_value(over, under), b.over, out);
    struct value v = fresh(a.constant && b.constant);
    const bool half = b.small && b.over == 1 && b.under == 2;
    for (int i = 0; i < lanes_of(v.constant); i++)
        v.lane[i] = half ? lane_sqrt(*lane_of(&a, i)) : lane_power(*lane_of(&a, i), *lane_of(&b, i));
    *out = v;
    return true;
}

/* A real number that is less than zero for certain. */
static bool is_negative(const struct value *a)
{
    return a->constant && a->lane[0].im == 0.0 && a->lane[0].re < -a->lane[0].error;
}

bool value_root(struct value a, struct value n, struct value *out)
{
    struct value inverted;
    a = value_plain(a);
    if (!value_divide(value_integer(1), n, &inverted))
        return false;
    if (is_negative(&a) && is_integer(&n) && n.over % 2 != 0) {
        if (!value_power(value_negate(a), inverted, out))
            return false;
        *out = value_negate(*out);
        return true;
    }
    return value_power(a, inverted, out);
}

bool value_absolute(struct value a, struct value *out)
{
    a = value_plain(a);
    if (a.constant && a.lane[0].im == 0.0 && fabs(a.lane[0].re) > a.lane[0].error) {
        *out = a.lane[0].re < 0 ? value_negate(a) : a;
        return true;
    }
    struct value v = fresh(a.constant);
    for (int i = 0; i < lanes_of(v.constant); i++)
        v.lane[i] = rounded(size_of(a.lane[i]), 0.0, a.lane[i].error, 2 * ROUNDING);
    *out = v;
    return true;
}

bool value_factorial(struct value a, long *steps, struct value *out)
{
    a = value_plain(a);
    if (is_integer(&a)) {
        struct value v = value_integer(1);
        if (a.over < 0 || a.over > *steps)
            return false;
        *steps -= a.over;
        for (int64_t n = 2; n <= a.over; n++) {
            if (n <= 20) {
                v = value_multiply(v, value_integer(n));
            } else {
                v.small = false;
                v.residue = times(v.residue, (uint64_t)n);
                v.lane[0] = lane_multiply(v.lane[0], (struct value_lane){(double)n, 0.0, 0.0});
            }
        }
        *out = v;
        return true;
    }
    if (a.constant)
        return false; /* of a fraction, or beyond what is computed */
    struct value v = fresh(false);
    for (int i = 0; i < VALUE_LANES; i++)
        /* The slope of the gamma function between -1.5 and 30 is within 20 of its size but at its poles, where the error
         * is large anyway. */
        v.lane[i] = a.lane[i].im != 0.0 || fabs(a.lane[i].re) > 30
                        ? unknown
                        : rounded(tgamma(a.lane[i].re + 1), 0.0, 0.0, 32 * OF_FUNCTION + 20 * a.lane[i].error);
    *out = v;
    return true;
}

bool value_binomial(struct value n, struct value k, long *steps, struct value *out)
{
    struct value upper, lower, rest;
    if (is_integer(&n) && is_integer(&k) && (k.over < 0 || k.over > n.over)) {
        *out = value_integer(0);
        return n.over >= 0;
    }
    return value_factorial(n, steps, &upper) && value_factorial(k, steps, &lower) &&
           value_factorial(value_add(n, value_negate(k)), steps, &rest) &&
           value_divide(upper, value_multiply(lower, rest), out);
}

bool value_floor(struct value a, bool up, struct value *out)
{
    a = value_plain(a);
    if (a.small) {
        const int64_t down = a.over / a.under - (a.over % a.under < 0);
        *out = value_integer(down + (up && a.over % a.under != 0));
        return true;
    }
    if (!a.constant || a.lane[0].im != 0.0 || !(fabs(a.lane[0].re) < 0x1p52))
        return false;
    const double whole = up ? ceil(a.lane[0].re) : floor(a.lane[0].re), near = fabs(a.lane[0].re - rint(a.lane[0].re));
    *out = value_integer((int64_t)whole);
    return near > 4 * a.lane[0].error;
}

bool value_gcd(struct value a, struct value b, bool lcm, struct value *out)
{
    if (!is_integer(&a) || !is_integer(&b))
        return false;
    const int64_t common = (int64_t)gcd_of(magnitude(a.over), magnitude(b.over));
    int64_t product = 0;
    if (lcm && (common == 0 || __builtin_mul_overflow(a.over / common, b.over, &product)))
        return false;
    *out = value_integer(lcm ? (int64_t)magnitude(product) : common);
    return true;
}

bool value_extreme(struct value a, struct value b, bool larger, struct value *out)
{
    int order = 0;
    a = value_plain(a);
    b = value_plain(b);
    if (!value_order(&a, &b, &order))
        return false;
    *out = (order >= 0) == larger ? a : b;
    return true;
}

/* --- comparison --- */

/* What bounds leave out: they are first-order, and their own sums are rounded. */
enum { BOUND_SLACK = 4 };

static bool near(struct value_lane a, struct value_lane b, double more)
{
    return hypot(a.re - b.re, a.im - b.im) <= BOUND_SLACK * (a.error + b.error) + more;
}

/* A decimal with as many places may stand for what it is rounded from: 0.333333 for 1/3, which is how far math-verify
 * looks. Fewer are too few to mean it, and digits that are all zeros say nothing. */
enum { DECIMALS_THAT_ROUND = 6 };

static bool same_rounded(const struct value *decimal, const struct value *other)
{
    if (decimal->decimals < DECIMALS_THAT_ROUND || decimal->figures < DECIMALS_THAT_ROUND || !other->constant)
        return false;
    if (other->decimals >= 0 && other->decimals <= decimal->decimals)
        return false; /* digits against digits: they would be the same */
    return near(decimal->lane[0], other->lane[0], 0.5 * pow(10.0, -decimal->decimals));
}

bool value_same(const struct value *a, const struct value *b)
{
    if (a->exact && b->exact) {
        if (a->residue == b->residue)
            return true;
    } else {
        const bool constant = a->constant && b->constant;
        bool same = true;
        for (int i = 0; same && i < lanes_of(constant); i++)
            same = near(*lane_of(a, i), *lane_of(b, i), 0.0);
        if (same)
            return true;
    }
    return a->constant && b->constant && (same_rounded(a, b) || same_rounded(b, a));
}

bool value_proportional(const struct value *a, const struct value *b, bool *positive)
{
    struct value_lane first = unknown;
    *positive = true;
    if (a->constant || b->constant)
        return value_same(a, b);
    for (int i = 0; i < VALUE_LANES; i++) {
        const struct value_lane ratio = lane_divide(a->lane[i], b->lane[i]);
        if (i == 0)
            first = ratio;
        if (!near(ratio, first, 0.0) || size_of(ratio) <= BOUND_SLACK * ratio.error)
            return false;
    }
    *positive = first.im == 0.0 && first.re > 0;
    return first.im == 0.0;
}

bool value_order(const struct value *a, const struct value *b, int *order)
{
    const struct value_lane x = a->lane[0], y = b->lane[0];
    if (!a->constant || !b->constant || x.im != 0.0 || y.im != 0.0 || isnan(x.re) || isnan(y.re))
        return false;
    if (value_same(a, b))
        *order = 0;
    else if (near(x, y, 0.0))
        return false;
    else
        *order = x.re < y.re ? -1 : 1;
    return true;
}
