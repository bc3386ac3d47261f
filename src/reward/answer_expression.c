/* Reads a cleaned expression (answer_clean.c), in LaTeX or as people type it, and computes its value on the way: there is
 * no tree of it.
 *
 *     sum      = [sign] product { sign product }                     signs: + - \pm \mp
 *     product  = factors { (* | / | \div) [sign] factors }             and 3:4 of integers
 *     factors  = operand { operand }                                 2x, 3\sqrt{2}, (x+1)(x-1): closer than /, so that
 *                                                                    1/2x is 1/(2x), as math-verify has it
 *     operand  = primary { ^ exponent | ! | % | degree }
 *     primary  = number | symbol | (sum) | [sum] | {sum} | |sum| | \frac.. | \sqrt.. | \binom.. | function
 *
 * A number is digits with a point, with groups of three between commas or blanks where lists are not at hand, with
 * a power of ten (1e-3), with digits that repeat (0.\overline{3}), or mixed (2\frac{1}{2}, 2 1/2). A letter is a symbol,
 * and so is a run of letters from four on; shorter runs are products. e is Euler's number, i the root of -1.
 *
 * The depth is limited, the input short (ANSWER_LENGTH), and loops that a number of the input controls are paid from
 * steps. */
#include "reward/answer_internal.h"

#include <string.h>

enum { DEPTH = 32, LONG_NUMBER = 300 };

struct scan {
    struct span s;
    size_t at;
    int depth, bars;
    struct expression *expression; /* the settings, and what is found */
};

static bool read_sum(struct scan *p, struct value *out);
static bool read_operand(struct scan *p, struct value *out, bool *number);

static char peek(const struct scan *p) { return p->at < p->s.length ? p->s.at[p->at] : '\0'; }

static char peek_at(const struct scan *p, size_t ahead)
{
    return ahead < p->s.length - p->at ? p->s.at[p->at + ahead] : '\0';
}

static bool skip_blanks(struct scan *p)
{
    const size_t before = p->at;
    while (peek(p) == ' ')
        p->at++;
    return p->at > before;
}

static bool take(struct scan *p, char c)
{
    skip_blanks(p);
    if (peek(p) != c)
        return false;
    p->at++;
    return true;
}

/* The letters at the place, or of the command there (behind its backslash). */
static struct span letters_at(const struct scan *p, size_t at)
{
    size_t n = 0;
    while (at + n < p->s.length && is_letter(p->s.at[at + n]))
        n++;
    return (struct span){p->s.at + at, n};
}

static struct span command_at(const struct scan *p)
{
    return peek(p) == '\\' ? letters_at(p, p->at + 1) : (struct span){p->s.at, 0};
}

static bool take_command(struct scan *p, const char *name)
{
    skip_blanks(p);
    const struct span command = command_at(p);
    if (!answer_is_word(command, name))
        return false;
    p->at += 1 + command.length;
    return true;
}

/* --- numbers --- */

static size_t digits_at(const struct scan *p, size_t at)
{
    size_t n = 0;
    while (at + n < p->s.length && is_digit(p->s.at[at + n]))
        n++;
    return n;
}

/* 0.1\overline{6}: the digits that repeat behind those of the number. */
static bool read_repeating(struct scan *p, struct value *number, int decimals)
{
    static const char *const commands[] = {"overline", "bar"};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const size_t start = p->at;
        if (!take_command(p, commands[i]))
            continue;
        const size_t n = take(p, '{') ? digits_at(p, p->at) : 0;
        struct value period, scale, part;
        if (n == 0 || n > LONG_NUMBER || p->at + n >= p->s.length || p->s.at[p->at + n] != '}') {
            p->at = start;
            return true;
        }
        period = value_decimal(p->s.at + p->at, n);
        p->at += n + 1;
        if (!value_power(value_integer(10), value_integer((int64_t)n), &scale) ||
            !value_divide(period, value_add(scale, value_integer(-1)), &part) ||
            !value_power(value_integer(10), value_integer(-decimals), &scale))
            return false;
        *number = value_add(*number, value_multiply(part, scale));
        return true;
    }
    return true;
}

/* 1e-3, with nothing between the parts. */
static bool read_exponent(struct scan *p, struct value *number)
{
    const size_t sign = peek_at(p, 1) == '-' || peek_at(p, 1) == '+', n = digits_at(p, p->at + 1 + sign);
    if ((peek(p) != 'e' && peek(p) != 'E') || n == 0 || n > 6)
        return true;
    struct value exponent = value_decimal(p->s.at + p->at + 1 + sign, n), power;
    if (peek_at(p, 1) == '-')
        exponent = value_negate(exponent);
    p->at += 1 + sign + n;
    if (!value_power(value_integer(10), exponent, &power))
        return false;
    *number = value_multiply(*number, power);
    return true;
}

/* Of a number that begins with so many digits: bytes with groups of three behind them ("1,234,567"). */
size_t answer_grouped(struct span s, size_t digits)
{
    size_t at = digits;
    if (digits == 0 || digits > 3 || at >= s.length || (s.at[at] != ',' && s.at[at] != ' '))
        return digits;
    const char mark = s.at[at];
    while (at + 3 < s.length && s.at[at] == mark && is_digit(s.at[at + 1]) && is_digit(s.at[at + 2]) &&
           is_digit(s.at[at + 3]))
        at += 4;
    /* Not 1,23 nor 1,2345 nor "1 234/567". */
    if (at < s.length && (is_digit(s.at[at]) || (s.at[at] == mark && at + 1 < s.length && is_digit(s.at[at + 1]))))
        return digits;
    return mark == ' ' && at < s.length && s.at[at] == '/' ? digits : at;
}

static bool read_decimal(struct scan *p, struct value *out)
{
    const size_t start = p->at, digits = digits_at(p, start);
    size_t whole = digits;
    if (p->expression->groups)
        whole = answer_grouped((struct span){p->s.at + start, p->s.length - start}, digits);
    size_t end = start + whole, decimals = 0;
    if (end < p->s.length && p->s.at[end] == '.') {
        decimals = digits_at(p, end + 1);
        if (digits == 0 && decimals == 0)
            return false;
        end += 1 + decimals;
    }
    p->at = end;
    if (whole == digits) {
        *out = value_decimal(p->s.at + start, end - start);
    } else {
        char plain[LONG_NUMBER];
        size_t n = 0;
        for (size_t i = start; i < end && n < sizeof plain; i++)
            if (p->s.at[i] != ',' && p->s.at[i] != ' ')
                plain[n++] = p->s.at[i];
        if (n == sizeof plain)
            return false;
        *out = value_decimal(plain, n);
    }
    return (decimals == 0 && (end == start + whole)) || peek(p) != '\\' ? read_exponent(p, out)
                                                                        : read_repeating(p, out, (int)decimals);
}

/* Whether a fraction of numerals below 1 follows; *over and *under are its parts. */
static bool mixed_fraction(struct scan *p, bool blank, struct value *over, struct value *under)
{
    const size_t start = p->at;
    bool found = false;
    int order = 0;
    if (take_command(p, "frac")) {
        struct value *const parts[] = {over, under};
        found = true;
        for (int i = 0; found && i < 2; i++) {
            skip_blanks(p);
            const bool braces = peek(p) == '{';
            p->at += braces;
            const size_t n = braces ? digits_at(p, p->at) : digits_at(p, p->at) > 0;
            found = n > 0 && n < LONG_NUMBER;
            if (found)
                *parts[i] = value_decimal(p->s.at + p->at, n);
            p->at += n;
            found = found && (!braces || take(p, '}'));
        }
    } else if (blank) {
        const size_t n = digits_at(p, p->at);
        size_t at = p->at + n;
        while (n > 0 && at < p->s.length && p->s.at[at] == ' ')
            at++;
        if (n > 0 && n < LONG_NUMBER && at < p->s.length && p->s.at[at] == '/') {
            for (at++; at < p->s.length && p->s.at[at] == ' ';)
                at++;
            const size_t m = digits_at(p, at);
            found = m > 0 && m < LONG_NUMBER;
            if (found) {
                *over = value_decimal(p->s.at + p->at, n);
                *under = value_decimal(p->s.at + at, m);
                p->at = at + m;
            }
        }
    }
    if (found && value_order(over, under, &order) && order < 0)
        return true;
    p->at = start;
    return false;
}

static bool read_number(struct scan *p, struct value *out)
{
    struct value over, under;
    if (!read_decimal(p, out))
        return false;
    const size_t end = p->at;
    const bool blank = skip_blanks(p);
    if (out->decimals == 0 && mixed_fraction(p, blank, &over, &under)) {
        if (!value_divide(over, under, &over))
            return false;
        *out = value_add(*out, over);
        return true;
    }
    p->at = end;
    /* 101_2: the base is like a unit. */
    if (peek(p) == '_' && p->expression->base.length == 0 && p->depth == 1) {
        const bool braces = peek_at(p, 1) == '{';
        const size_t n = digits_at(p, p->at + 1 + braces);
        if (n == 0 || (braces && (p->at + 2 + n >= p->s.length || p->s.at[p->at + 2 + n] != '}')))
            return false;
        p->expression->base = (struct span){p->s.at + p->at + 1 + braces, n};
        p->at += 1 + n + 2 * (size_t)braces;
    }
    return peek(p) != '_';
}

/* --- groups and arguments --- */

static bool read_group(struct scan *p, char close, struct value *out)
{
    const int bars = p->bars;
    p->at++;
    p->bars = 0;
    const bool good = read_sum(p, out) && take(p, close);
    p->bars = bars;
    return good;
}

static struct value symbol(struct span name)
{
    if (answer_is_word(name, "e"))
        return value_e();
    if (answer_is_word(name, "i"))
        return value_i();
    return value_symbol(name.at, name.length);
}

/* An argument of \frac and the like: a group, a digit, a letter, a command. digits: all that follow, as people write
 * x^10. */
static bool read_argument(struct scan *p, bool digits, struct value *out)
{
    skip_blanks(p);
    const char c = peek(p);
    if (c == '{')
        return read_group(p, '}', out);
    if (c == '(')
        return read_group(p, ')', out);
    if (is_digit(c)) {
        const size_t n = digits ? digits_at(p, p->at) : 1;
        *out = value_decimal(p->s.at + p->at, n);
        p->at += n;
        return true;
    }
    if (is_letter(c)) {
        *out = symbol((struct span){p->s.at + p->at, 1});
        p->at++;
        return true;
    }
    if (c == '\\') {
        bool number;
        const char next = peek_at(p, 1);
        if (!is_letter(next) || p->depth >= DEPTH)
            return false;
        p->depth++;
        const bool good = read_operand(p, out, &number);
        p->depth--;
        return good;
    }
    return false;
}

static bool read_power(struct scan *p, struct value *base)
{
    struct value exponent;
    p->at++; /* ^ */
    skip_blanks(p);
    const bool negative = peek(p) == '-';
    p->at += negative;
    if (p->depth >= DEPTH || !read_argument(p, true, &exponent))
        return false;
    if (negative)
        exponent = value_negate(exponent);
    skip_blanks(p);
    p->depth++;
    const bool good = peek(p) != '^' || read_power(p, &exponent); /* 2^3^2 is 2^9 */
    p->depth--;
    return good && value_power(*base, exponent, base);
}

/* --- symbols and functions --- */

/* Symbols that are commands of LaTeX; those with an argument are one symbol with it. */
static const char *const symbols[] = {
    "alpha", "beta",   "gamma", "delta", "epsilon", "varepsilon", "zeta",     "eta",   "theta",   "vartheta", "iota",
    "kappa", "lambda", "mu",    "nu",    "xi",      "rho",        "sigma",    "tau",   "upsilon", "phi",      "varphi",
    "chi",   "psi",    "omega", "Gamma", "Delta",   "Theta",      "Lambda",   "Xi",    "Pi",      "Sigma",    "Upsilon",
    "Phi",   "Psi",    "Omega", "ell",   "hbar",    "angle",      "triangle", "aleph", "nabla",   "partial",  "prime",
};
static const char *const accents[] = {"vec",     "hat",    "bar",     "overline", "underline", "tilde",
                                      "widehat", "mathbb", "mathcal", "mathfrak", "dot",       "overrightarrow"};

static bool is_among(struct span word, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (answer_is_word(word, list[i]))
            return true;
    return false;
}

/* The end of a symbol that begins at start: its subscript and primes. */
static size_t symbol_end(const struct scan *p, size_t end)
{
    if (end < p->s.length && p->s.at[end] == '_') {
        size_t at = end + 1;
        if (at < p->s.length && p->s.at[at] == '{') {
            while (at < p->s.length && p->s.at[at] != '}')
                at++;
            end = at < p->s.length ? at + 1 : end;
        } else if (at < p->s.length && (is_letter(p->s.at[at]) || is_digit(p->s.at[at]))) {
            end = at + 1;
        }
    }
    while (end < p->s.length && p->s.at[end] == '\'')
        end++;
    return end;
}

/* x_{1} and x_1 are one name; so are those with blanks inside. */
static struct value named(const struct scan *p, size_t start, size_t end)
{
    char name[64];
    size_t n = 0;
    for (size_t i = start; i < end; i++)
        if (p->s.at[i] != '{' && p->s.at[i] != '}' && p->s.at[i] != ' ') {
            if (n == sizeof name) /* too long to be shortened */
                return value_symbol(p->s.at + start, end - start);
            name[n++] = p->s.at[i];
        }
    return symbol((struct span){name, n});
}

/* What a function takes: a group in parentheses or braces, else the factors up to the next function. */
static bool read_function_argument(struct scan *p, struct value *out)
{
    bool number;
    skip_blanks(p);
    if (peek(p) == '(')
        return read_group(p, ')', out);
    const bool negative = peek(p) == '-';
    p->at += negative;
    if (!read_operand(p, out, &number))
        return false;
    while (answer_factor_follows(p->s, p->at, number, p->bars > 0)) {
        struct value next;
        skip_blanks(p);
        const struct span word = peek(p) == '\\' ? command_at(p) : letters_at(p, p->at);
        if (value_is_function(word.at, word.length))
            break;
        if (!read_operand(p, &next, &number))
            return false;
        const bool degrees = next.degrees;
        *out = value_multiply(*out, next);
        out->degrees = degrees;
    }
    if (negative)
        *out = value_negate(*out);
    return true;
}

static bool read_function(struct scan *p, struct span name, bool command, struct value *out)
{
    struct value exponent = value_integer(1), base = value_integer(10), argument;
    const bool log = answer_is_word(name, "log");
    bool inverse = false, based = false;
    char arc[16] = "arc";
    if (p->depth >= DEPTH)
        return false;
    if (log && take(p, '_')) {
        based = true;
        if (!read_argument(p, !command, &base))
            return false;
    }
    skip_blanks(p);
    if (peek(p) == '^') {
        p->at++;
        if (!(take(p, '-') ? read_argument(p, true, &exponent) && (exponent = value_negate(exponent), true)
                           : read_argument(p, true, &exponent)))
            return false;
        inverse = exponent.small && exponent.over == -1 && exponent.under == 1 && name.length == 3 && !log;
    }
    p->depth++;
    const bool good = read_function_argument(p, &argument);
    p->depth--;
    if (!good)
        return false;
    if (inverse) { /* \sin^{-1} is the arc sine */
        memcpy(arc + 3, name.at, 3);
        return value_function(arc, 6, argument, out);
    }
    return (based ? value_log(argument, base, out) : value_function(name.at, name.length, argument, out)) &&
           value_power(*out, exponent, out);
}

/* \max(1, 2), \gcd(4, 6): lists of constants. */
static bool read_of_list(struct scan *p, struct span name, struct value *out)
{
    const bool gcd = answer_is_word(name, "gcd"), lcm = answer_is_word(name, "lcm");
    const bool braces = (skip_blanks(p), peek(p) == '\\' && peek_at(p, 1) == '{');
    p->at += braces;
    if (peek(p) != (braces ? '{' : '('))
        return false;
    p->at++;
    const bool groups = p->expression->groups;
    p->expression->groups = false;
    bool good = read_sum(p, out);
    while (good && take(p, ',')) {
        struct value next;
        good = read_sum(p, &next) && (gcd || lcm ? value_gcd(*out, next, lcm, out)
                                                 : value_extreme(*out, next, answer_is_word(name, "max"), out));
    }
    p->expression->groups = groups;
    good = good && (!braces || take(p, '\\'));
    return good && take(p, braces ? '}' : ')');
}

static bool is_of_list(struct span name)
{
    static const char *const names[] = {"max", "min", "gcd", "lcm"};
    return is_among(name, names, sizeof names / sizeof names[0]);
}

static bool read_sqrt(struct scan *p, bool command, struct value *out)
{
    struct value index = value_integer(2), argument;
    skip_blanks(p);
    if (command && peek(p) == '[' && !read_group(p, ']', &index))
        return false;
    return read_argument(p, !command, &argument) && value_root(argument, index, out);
}

static bool read_command(struct scan *p, struct value *out)
{
    const size_t start = p->at;
    const struct span name = command_at(p);
    p->at += 1 + name.length;
    if (name.length == 0)
        return false;
    if (answer_is_word(name, "frac")) {
        struct value under;
        return read_argument(p, false, out) && read_argument(p, false, &under) && value_divide(*out, under, out);
    }
    if (answer_is_word(name, "binom")) {
        struct value lower;
        return read_argument(p, false, out) && read_argument(p, false, &lower) &&
               value_binomial(*out, lower, &p->expression->steps, out);
    }
    if (answer_is_word(name, "sqrt"))
        return read_sqrt(p, true, out);
    if (answer_is_word(name, "pi") || answer_is_word(name, "infty")) {
        *out = name.at[0] == 'p' ? value_pi() : value_infinity();
        return true;
    }
    if (answer_is_word(name, "lfloor") || answer_is_word(name, "lceil")) {
        const bool up = name.at[1] == 'c';
        return read_sum(p, out) && take_command(p, up ? "rceil" : "rfloor") && value_floor(*out, up, out);
    }
    if (value_is_function(name.at, name.length))
        return read_function(p, name, true, out);
    if (is_of_list(name))
        return read_of_list(p, name, out);
    size_t end = p->at;
    if (is_among(name, accents, sizeof accents / sizeof accents[0])) {
        while (end < p->s.length && p->s.at[end] == ' ')
            end++;
        const char *close =
            end < p->s.length && p->s.at[end] == '{' ? memchr(p->s.at + end, '}', p->s.length - end) : NULL;
        if (close == NULL)
            return false;
        end = (size_t)(close - p->s.at) + 1;
    } else if (!is_among(name, symbols, sizeof symbols / sizeof symbols[0])) {
        return false;
    }
    p->at = symbol_end(p, end);
    *out = named(p, start, p->at);
    return true;
}

/* A run of letters without a backslash. */
static bool read_letters(struct scan *p, struct value *out)
{
    const struct span run = letters_at(p, p->at);
    if (run.length > 1) {
        if (answer_is_word(run, "sqrt")) {
            p->at += run.length;
            return read_sqrt(p, false, out);
        }
        if (answer_is_word(run, "pi") || answer_is_word(run, "inf") || answer_is_word(run, "infinity")) {
            *out = run.at[0] == 'p' ? value_pi() : value_infinity();
            p->at += run.length;
            return true;
        }
        if (value_is_function(run.at, run.length)) {
            p->at += run.length;
            return read_function(p, run, false, out);
        }
        if (is_of_list(run)) {
            p->at += run.length;
            return read_of_list(p, run, out);
        }
        /* Two words in a row are prose. */
        size_t next = p->at + run.length;
        if (next < p->s.length && p->s.at[next] == ' ' && letters_at(p, next + 1).length > 1)
            return false;
    }
    const size_t start = p->at, length = run.length >= WORD_LENGTH ? run.length : 1;
    p->at = symbol_end(p, start + length);
    *out = named(p, start, p->at);
    return true;
}

/* --- operands --- */

static bool read_primary(struct scan *p, struct value *out, bool *number)
{
    skip_blanks(p);
    const char c = peek(p);
    *number = is_digit(c) || (c == '.' && is_digit(peek_at(p, 1)));
    if (*number)
        return read_number(p, out);
    switch (c) {
    case '(': return read_group(p, ')', out);
    case '[': return read_group(p, ']', out);
    case '{': return read_group(p, '}', out);
    case '|': {
        struct value inside;
        const int bars = p->bars++;
        p->at++;
        const bool good = read_sum(p, &inside) && take(p, '|') && value_absolute(inside, out);
        p->bars = bars;
        return good;
    }
    case '\\': return read_command(p, out);
    default: return is_letter(c) && read_letters(p, out);
    }
}

static bool read_operand(struct scan *p, struct value *out, bool *number)
{
    static const char degree[] = "\xc2\xb0";
    if (!read_primary(p, out, number))
        return false;
    for (;;) {
        const size_t end = p->at;
        skip_blanks(p);
        const char c = peek(p);
        if (c == '^') {
            if (!read_power(p, out))
                return false;
        } else if (c == '!' && peek_at(p, 1) != '=') {
            p->at++;
            if (!value_factorial(*out, &p->expression->steps, out))
                return false;
        } else if (c == '%' && !out->percent) {
            p->at++;
            *out = out->degrees ? value_plain(*out) : *out;
            out->percent = true;
        } else if (c == degree[0] && peek_at(p, 1) == degree[1] && !out->degrees) {
            p->at += 2;
            *out = out->percent ? value_plain(*out) : *out;
            out->degrees = true;
        } else {
            p->at = end;
            return true;
        }
        *number = false;
    }
}

bool answer_factor_follows(struct span s, size_t at, bool after_number, bool in_bars)
{
    static const char *const operators[] = {"div", "pm", "mp", "rfloor", "rceil", "mid"};
    while (at < s.length && s.at[at] == ' ')
        at++;
    if (at >= s.length)
        return false;
    const char c = s.at[at];
    if (c == '\\') {
        size_t n = 0;
        while (at + 1 + n < s.length && is_letter(s.at[at + 1 + n]))
            n++;
        return n > 0 && !is_among((struct span){s.at + at + 1, n}, operators, sizeof operators / sizeof operators[0]);
    }
    return is_letter(c) || c == '(' || c == '{' || (c == '|' && !in_bars) || (is_digit(c) && !after_number);
}

static bool read_factors(struct scan *p, struct value *out)
{
    bool number;
    if (!read_operand(p, out, &number))
        return false;
    while (answer_factor_follows(p->s, p->at, number, p->bars > 0)) {
        struct value next;
        if (!read_operand(p, &next, &number))
            return false;
        *out = value_multiply(*out, next);
    }
    return true;
}

/* 3:4 of integers is a ratio, 12:30 a time. */
static bool take_ratio(struct scan *p, const struct value *left)
{
    const size_t start = p->at;
    if (left->decimals != 0 || !left->small || !take(p, ':'))
        return false;
    skip_blanks(p);
    const size_t n = digits_at(p, p->at);
    if (n > 0 && n != 2)
        return true;
    p->at = start;
    return false;
}

static bool read_product(struct scan *p, struct value *out)
{
    if (!read_factors(p, out))
        return false;
    for (;;) {
        struct value next;
        const bool times = take(p, '*');
        if (!times && !take(p, '/') && !take_command(p, "div") && !take_ratio(p, out))
            return true;
        const bool negative = take(p, '-');
        if (!read_factors(p, &next) || !(times || value_divide(*out, next, out)))
            return false;
        if (times)
            *out = value_multiply(*out, next);
        if (negative)
            *out = value_negate(*out);
    }
}

/* A sign: 1, -1, or 0 where there is none. */
static int read_sign(struct scan *p)
{
    if (take(p, '+'))
        return 1;
    if (take(p, '-'))
        return -1;
    if (take_command(p, "pm")) {
        p->expression->plus_minus = true;
        return p->expression->sign;
    }
    if (take_command(p, "mp")) {
        p->expression->plus_minus = true;
        return -p->expression->sign;
    }
    return 0;
}

static bool read_sum(struct scan *p, struct value *out)
{
    int sign = read_sign(p);
    bool good = p->depth < DEPTH;
    p->depth++;
    good = good && read_product(p, out);
    if (good && sign < 0)
        *out = value_negate(*out);
    while (good && (sign = read_sign(p)) != 0) {
        struct value next;
        const bool degrees = out->degrees;
        good = (take(p, '-') ? (sign = -sign) : sign) != 0 && read_product(p, &next);
        if (good) {
            const bool both = degrees && next.degrees;
            *out = value_add(*out, sign < 0 ? value_negate(next) : next);
            out->degrees = both;
        }
    }
    p->depth--;
    return good;
}

bool answer_expression(struct span s, struct expression *expression, struct value *out)
{
    struct scan p = {.s = s, .expression = expression};
    expression->plus_minus = false;
    expression->base = (struct span){s.at, 0};
    if (s.length == 0 || s.length > ANSWER_LENGTH || !read_sum(&p, out))
        return false;
    skip_blanks(&p);
    return p.at == s.length;
}
