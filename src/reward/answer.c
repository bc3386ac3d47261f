/* When two answers are the same.
 *
 * Both are cleaned (answer_clean.c): blanks around and repeated ones inside go, so do $...$, $$...$$, \(...\), \[...\],
 * **...** and `...` around the whole, the comma, period, colon or semicolon at the end, dollars that stand around
 * formulas, \left, \right, \big and their like, \displaystyle, \!, and thin spaces between digits; \text{...},
 * \mathrm{...}, \mathbf{...}, \boxed{...} and their like become their content; \dfrac, \tfrac and \cfrac are \frac,
 * \times, \cdot, U+00D7 and U+00B7 are *, degrees are one sign, \leq is \le, \neq is \ne, and Unicode's minus, blanks,
 * pi, infinity, root and relations are those of LaTeX. A NUL is a character of no number.
 *
 * "x = 5" and "x \in S" are "5" and "S" where the left side is one name, with an argument or not ("f(x) = 5"); answers
 * that name different ones differ. Then two answers are equal if
 * 1. the cleaned texts are (letter case counts); or
 * 2. both are numbers (answer_number.c) of the same value. A number is
 *        [sign] [currency] decimal [unit]       5   +5   -0.50   .5   1,234.5   1e-3
 *                                               1.5 \times 10^{3}   $5   5%   5 cm
 *        [sign] [currency] decimal / decimal [unit]             3/4
 *        [sign] \frac{decimal}{decimal} [unit]                  \frac{3}{4}   \frac34
 *        [sign] integer and a fraction of integers below 1      2\frac{1}{2}   2 1/2
 *    of at most 256 digits. Commas are thousands separators only in groups of three ("1,234",
 *    never "1,23"). Values are compared exactly (0.75 = 3/4, but 0.333 is not 1/3). A unit (%,
 *    currency, degrees, or a word or two after a blank) that only one side has is ignored; units
 *    of both sides must agree. 50% is the number 50, and 0.5 as well. Words that change the value
 *    ("million", "half", "or") are no units; or
 * 3. both are choices of the same letter: E, (E), E., "Option E", and with a capital from A to J
 *    and a text behind it "(E) 42", "E. 42", "E: 42". Texts of both must be equal too; a choice
 *    with a text equals an answer that is that text. "(A) and (B)" is no choice; or
 * 4. both are lists of the same brackets whose elements are equal by these rules: (1, 2), [0, 1),
 *    \{1, 2\}, "1, 2", "1 and 2". Elements of sets (braces) and of lists without brackets may come
 *    in any order, those of at most 64; brackets around one element are left away; or
 * 5. their normal forms as formulas are equal: blanks go (not between digits), arguments get their
 *    braces (\frac12, \sqrt2, x^2), numbers lose zeros that say nothing (033, 2.50), the sign of
 *    multiplication goes where a factor follows by itself (2 \cdot \pi, not 2 \cdot 3), a minus in
 *    front of an upper side goes before the fraction, and a quotient that is the whole is a
 * fraction
 *    (\pi/2). A unit at the end is ignored where one side has none. Formulas are not computed:
 *    \sqrt{8} is not 2\sqrt{2}, x+1 is not 1+x.
 *
 * Nothing is equal to an empty answer. */
#include "reward/answer_internal.h"

#include <string.h>

enum { LIST_DEPTH = 4, ANY_ORDER = 64 };

static cohort_status same_answer(struct span a, struct span b, int depth, bool *equal, cohort_error *err);

static struct span trim(struct span s)
{
    while (s.length > 0 && s.at[0] == ' ') {
        s.at++;
        s.length--;
    }
    while (s.length > 0 && s.at[s.length - 1] == ' ')
        s.length--;
    return s;
}

static struct span part(struct span s, size_t start, size_t end)
{
    return trim((struct span){s.at + start, end - start});
}

static bool same_text(struct span a, struct span b)
{
    return a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
}

/* --- x = ... --- */

/* Length of the name at the begin: x, x_1, \theta, AB, f(x), f'; 0 if there is none. */
static size_t name_at(struct span s)
{
    size_t n = s.length > 0 && s.at[0] == '\\';
    if (n >= s.length || !is_letter(s.at[n]))
        return 0;
    while (n < s.length && (is_letter(s.at[n]) || is_digit(s.at[n]) || s.at[n] == '_' || s.at[n] == '\'' ||
                            s.at[n] == '{' || s.at[n] == '}'))
        n++;
    if (n + 2 < s.length && s.at[n] == '(' && is_letter(s.at[n + 1]) && s.at[n + 2] == ')')
        n += 3;
    return n;
}

/* Splits "x = 5" into name and *right; the name is empty if there is none. */
static struct span left_side(struct span s, struct span *right)
{
    static const char in[] = "\\in";
    size_t n = name_at(s), at = n;
    *right = s;
    if (n == 0)
        return (struct span){s.at, 0};
    at += at < s.length && s.at[at] == ' ';
    if (at < s.length && s.at[at] == '=') {
        at++;
        if (memchr(s.at + at, '=', s.length - at) != NULL)
            return (struct span){s.at, 0};
    } else if (s.length - at > sizeof in && memcmp(s.at + at, in, sizeof in - 1) == 0 &&
               !is_letter(s.at[at + sizeof in - 1])) {
        at += sizeof in - 1;
    } else {
        return (struct span){s.at, 0};
    }
    struct span rest = part(s, at, s.length);
    if (rest.length == 0)
        return (struct span){s.at, 0};
    *right = rest;
    return (struct span){s.at, n};
}

/* --- choices --- */

struct choice {
    char letter;
    struct span content; /* may be empty */
};

static bool is_word_at(struct span s, size_t i, const char *word)
{
    size_t n = strlen(word);
    if (i + n > s.length || memcmp(s.at + i, word, n) != 0)
        return false;
    return (i == 0 || !is_letter(s.at[i - 1])) && (i + n == s.length || !is_letter(s.at[i + n]));
}

/* Whether the text names choices of its own: "(A) and (B)". */
static bool names_choices(struct span s)
{
    for (size_t i = 0; i < s.length; i++)
        if (is_word_at(s, i, "and") || is_word_at(s, i, "or") ||
            (i + 2 < s.length && s.at[i] == '(' && is_letter(s.at[i + 1]) && s.at[i + 2] == ')'))
            return true;
    return false;
}

static bool read_choice(struct span s, struct choice *choice)
{
    static const char *const words[] = {"Option ", "option ", "Choice ", "choice ", "Answer ", "answer "};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (s.length > strlen(words[i]) && memcmp(s.at, words[i], strlen(words[i])) == 0) {
            s = part(s, strlen(words[i]), s.length);
            break;
        }
    size_t bracket = s.length > 2 && s.at[0] == '(', end = bracket + 1;
    if (s.length == 0 || !is_letter(s.at[bracket]))
        return false;
    choice->letter = s.at[bracket];
    if (bracket == 1) {
        if (s.at[2] != ')')
            return false;
        end = 3;
    } else if (s.length > 1) {
        if (strchr(").:", s.at[1]) == NULL || (s.length > 2 && s.at[2] != ' '))
            return false;
        end = 2;
    }
    choice->content = part(s, end, s.length);
    if (choice->content.length > 0 && strchr(".:", choice->content.at[0]) != NULL)
        choice->content = part(choice->content, 1, choice->content.length);
    return choice->content.length == 0 || (choice->letter >= 'A' && choice->letter <= 'J' &&
                                           choice->content.at[0] != ',' && !names_choices(choice->content));
}

/* --- lists --- */

struct list {
    char open, close; /* 0: no brackets; { for sets */
    struct span inside;
};

/* +1 and -1 at the brackets; *used: bytes of the character. */
static int nesting(struct span s, size_t i, size_t *used)
{
    *used = 1;
    if (s.at[i] == '\\' && i + 1 < s.length) {
        *used = 2;
        return (s.at[i + 1] == '{') - (s.at[i + 1] == '}');
    }
    return (s.at[i] == '(' || s.at[i] == '[' || s.at[i] == '{') - (s.at[i] == ')' || s.at[i] == ']' || s.at[i] == '}');
}

/* Takes the brackets off that stand around the whole. */
static struct list read_list(struct span s)
{
    struct list list = {.inside = s};
    size_t open = s.length > 0 && s.at[0] == '\\', used = 0;
    long depth = 0;
    if (open >= s.length || (open == 1 ? s.at[1] != '{' : strchr("([{", s.at[0]) == NULL))
        return list;
    for (size_t i = 0; i < s.length; i += used) {
        depth += nesting(s, i, &used);
        if (depth <= 0 && (depth < 0 || i + used < s.length))
            return list;
    }
    size_t close = open == 1 ? 2 : 1; /* bytes at the end */
    if (depth != 0 || s.length < open + 1 + close || (open == 1) != (s.at[s.length - 2] == '\\'))
        return list;
    list.open = s.at[open];
    list.close = s.at[s.length - 1];
    list.inside = part(s, open + 1, s.length - close);
    return list;
}

/* The element at *at, which is moved behind it; false at the end. Commas, semicolons and the words "and" and "or"
 * separate. */
static bool next_element(struct span s, size_t *at, struct span *element)
{
    size_t i = *at, used = 0;
    long depth = 0;
    if (i > s.length)
        return false;
    for (; i < s.length; i += used) {
        depth += nesting(s, i, &used);
        if (depth > 0 || used != 1)
            continue;
        size_t word = i > 0 && s.at[i - 1] == ' ' ? is_word_at(s, i, "and") ? 3 : is_word_at(s, i, "or") ? 2 : 0 : 0;
        if (s.at[i] != ',' && s.at[i] != ';' && word == 0)
            continue;
        *element = part(s, *at, i);
        *at = i + (word > 0 ? word : 1);
        if (word == 0) { /* ", and" is one separator */
            size_t next = *at;
            while (next < s.length && s.at[next] == ' ')
                next++;
            *at = is_word_at(s, next, "and") ? next + 3 : is_word_at(s, next, "or") ? next + 2 : *at;
        }
        return true;
    }
    *element = part(s, *at, s.length);
    *at = s.length + 1;
    return true;
}

static size_t count_elements(struct span s)
{
    size_t n = 0, at = 0;
    struct span element;
    while (next_element(s, &at, &element))
        n++;
    return n;
}

static cohort_status same_in_order(struct span a, struct span b, int depth, bool *equal, cohort_error *err)
{
    size_t i = 0, j = 0;
    struct span x, y;
    *equal = true;
    while (*equal && next_element(a, &i, &x) && next_element(b, &j, &y))
        TRY(same_answer(x, y, depth, equal, err));
    return COHORT_OK;
}

static cohort_status same_in_any_order(struct span a, struct span b, int depth, bool *equal, cohort_error *err)
{
    uint64_t taken = 0;
    size_t i = 0;
    struct span x, y;
    *equal = true;
    while (*equal && next_element(a, &i, &x)) {
        size_t j = 0;
        bool found = false;
        for (int k = 0; !found && next_element(b, &j, &y); k++) {
            if ((taken >> k & 1) == 0)
                TRY(same_answer(x, y, depth, &found, err));
            if (found)
                taken |= (uint64_t)1 << k;
        }
        *equal = found;
    }
    return COHORT_OK;
}

/* *is: whether both are lists, so that they are compared as such. */
static cohort_status same_list(struct span a, struct span b, int depth, bool *is, bool *equal, cohort_error *err)
{
    struct list x = read_list(a), y = read_list(b);
    size_t n = count_elements(x.inside), m = count_elements(y.inside);
    *is = false;
    if (depth == LIST_DEPTH)
        return COHORT_OK;
    if (n == 1 && m == 1 && (x.open == '(' || y.open == '(')) {
        /* (42) is 42. An element of its own is smaller than the list, so this ends. */
        if (x.open != '\0' && (x.open != '(' || x.close != ')'))
            return COHORT_OK;
        if (y.open != '\0' && (y.open != '(' || y.close != ')'))
            return COHORT_OK;
        *is = true;
        return same_answer(x.inside, y.inside, depth + 1, equal, err);
    }
    if (n != m || n < 2 || x.open != y.open || x.close != y.close)
        return COHORT_OK;
    *is = true;
    if ((x.open == '{' || x.open == '\0') && n <= ANY_ORDER)
        return same_in_any_order(x.inside, y.inside, depth + 1, equal, err);
    return same_in_order(x.inside, y.inside, depth + 1, equal, err);
}

/* --- all of it --- */

static size_t count_letters(struct span s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.length; i++)
        n += is_letter(s.at[i]);
    return n;
}

static cohort_status same_formula(struct span a, struct span b, bool *equal, cohort_error *err)
{
    struct text x = {0}, y = {0};
    cohort_status status = COHORT_OK;
    size_t a_plain = answer_without_unit(a.at, a.length), b_plain = answer_without_unit(b.at, b.length);
    if ((a_plain < a.length) != (b_plain < b.length)) {
        a.length = a_plain;
        b.length = b_plain;
    }
    /* A normal form has all letters of its text, and those of \frac where a slash was. This tells a page of prose from
     * an answer without making a formula of it. */
    size_t a_letters = count_letters(a), b_letters = count_letters(b);
    if (a_letters > b_letters + 4 || b_letters > a_letters + 4)
        goto cleanup;
    TRY_GOTO(answer_formula(a, &x, err));
    TRY_GOTO(answer_formula(b, &y, err));
    *equal = x.length > 0 && x.length == y.length && memcmp(x.data, y.data, x.length) == 0;
cleanup:
    text_free(&x);
    text_free(&y);
    return status;
}

/* A longer text is no number: 256 digits, separators, a fraction and a unit. */
enum { NUMBER_LENGTH = 1000 };

static bool read_number(struct span s, struct number *number)
{
    char text[NUMBER_LENGTH + 1];
    if (s.length == 0 || s.length > NUMBER_LENGTH)
        return false;
    memcpy(text, s.at, s.length);
    text[s.length] = '\0';
    return answer_number(text, number);
}

static cohort_status same_answer(struct span a, struct span b, int depth, bool *equal, cohort_error *err)
{
    struct span a_right, b_right;
    struct number x, y;
    struct choice c, d;
    *equal = false;
    if (a.length == 0 || b.length == 0)
        return COHORT_OK;
    struct span a_left = left_side(a, &a_right), b_left = left_side(b, &b_right);
    if (a_left.length > 0 && b_left.length > 0 && !same_text(a_left, b_left))
        return COHORT_OK;
    a = a_right;
    b = b_right;
    *equal = same_text(a, b);
    if (*equal)
        return COHORT_OK;
    bool a_number = read_number(a, &x), b_number = read_number(b, &y);
    if (a_number && b_number) {
        *equal = answer_number_equal(&x, &y);
        return COHORT_OK;
    }
    bool a_choice = read_choice(a, &c), b_choice = read_choice(b, &d);
    if (a_choice && b_choice) {
        *equal = c.letter == d.letter;
        if (*equal && c.content.length > 0 && d.content.length > 0 && depth < LIST_DEPTH)
            return same_answer(c.content, d.content, depth + 1, equal, err);
        return COHORT_OK;
    }
    if (depth < LIST_DEPTH && ((a_choice && c.content.length > 0) || (b_choice && d.content.length > 0)))
        return same_answer(a_choice ? c.content : a, b_choice ? d.content : b, depth + 1, equal, err);
    if (!a_number && !b_number) { /* "1,034" is no list */
        bool lists = false;
        TRY(same_list(a, b, depth, &lists, equal, err));
        if (lists)
            return COHORT_OK;
    } else if (read_list(a).open == '(' || read_list(b).open == '(') {
        bool lists = false;
        TRY(same_list(a, b, depth, &lists, equal, err));
        if (lists)
            return COHORT_OK;
    }
    return same_formula(a, b, equal, err);
}

cohort_status answer_equal(struct span a, struct span b, bool *equal, cohort_error *err)
{
    struct text x = {0}, y = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(answer_clean(a, &x, err));
    TRY_GOTO(answer_clean(b, &y, err));
    TRY_GOTO(same_answer((struct span){x.data, x.length}, (struct span){y.data, y.length}, 0, equal, err));
cleanup:
    text_free(&x);
    text_free(&y);
    return status;
}
