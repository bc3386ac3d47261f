/* When two answers are the same.
 *
 * Both are cleaned (answer_clean.c): blanks around and repeated ones inside go, so do $...$, $$...$$, \(...\), \[...\],
 * **...** and `...` around the whole, the comma, period, colon or semicolon at the end, dollars that stand around
 * formulas, \left, \right, \big and their like, \displaystyle, \!, and thin spaces between digits; \text{...},
 * \mathrm{...}, \mathbf{...}, \boxed{...} and their like become their content; \dfrac, \tfrac and \cfrac are \frac,
 * \times, \cdot, U+00D7 and U+00B7 are *, degrees are one sign, \leq is \le, \neq is \ne, and Unicode's minus, blanks,
 * pi, infinity, root and relations are those of LaTeX. A NUL is a character of no number.
 *
 * Then two answers are equal if
 * 1. the cleaned texts are (letter case counts); or
 * 2. both are choices of the same letter: E, (E), E., "Option E", and with a capital from A to J
 *    and a text behind it "(E) 42", "E. 42", "E: 42". Texts of both must be equal too; a choice
 *    with a text equals an answer that is that text. "(A) and (B)" is no choice; or
 * 3. they are read (answer_tree.c) and compared (answer_compare.c) as what they say:
 *    - Expressions are computed (answer_value.h): 2\sqrt{2} is \sqrt{8}, (x+1)^2 is x^2+2x+1, 2\frac{1}{2} is 5/2, \log_2 8
 *      is 3. Rational ones are compared exactly. A decimal of six or more digits behind the point is what it is rounded
 *      from, if that is no shorter decimal: 0.333333 is 1/3, but 0.333 is not.
 *    - A unit (5 cm, $5, 90 degrees, 101_2) that only one side has is ignored; units of both sides must agree. 50% is
 *      the number 50, and 0.5 as well.
 *    - (1, 2) is an ordered pair or an open interval, [1, 2] an interval, \{1, 2\} a set; brackets must be the same. "1,
 *      2" and "1 and 2" are in any order, and the same as \{1, 2\}, or in that order as (1, 2). \{5\} and [5] are 5.
 *      \pm 5 is "5, -5".
 *    - Unions, differences of sets of real numbers and \mathbb{R} are compared as sets.
 *    - Matrices have the same shape and equal elements.
 *    - Equations and inequalities are equal if one is a multiple of the other: x + y = 3 is 2y = 6 - 2x, x > 2 is -x < -2.
 *      "x = 5" is 5 where no equation is expected, and where an equation for a name is expected 5 is enough. Answers
 *      that name different ones differ. An interval is right where an inequality is expected, not the other way round;
 *      this is how math-verify has it.
 *    - What cannot be read is compared as text, without blanks, in any case if there are only words.
 *
 * Longer answers than ANSWER_LENGTH are compared by rule 1 alone. Nothing is equal to an empty answer. */
#include "reward/answer_internal.h"

#include <string.h>

enum { CHOICE_DEPTH = 4 };

/* --- choices --- */

struct choice {
    char letter;
    struct span content; /* may be empty */
};

/* Whether the text names choices of its own: "(A) and (B)". */
static bool names_choices(struct span s)
{
    for (size_t i = 0; i < s.length; i++)
        if (answer_conjunction(s, i) > 0 ||
            (i + 2 < s.length && s.at[i] == '(' && is_letter(s.at[i + 1]) && s.at[i + 2] == ')'))
            return true;
    return false;
}

static bool read_choice(struct span s, struct choice *choice)
{
    static const char *const words[] = {"Option ", "option ", "Choice ", "choice ", "Answer ", "answer "};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (s.length > strlen(words[i]) && memcmp(s.at, words[i], strlen(words[i])) == 0) {
            s = answer_part(s, strlen(words[i]), s.length);
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
    choice->content = answer_part(s, end, s.length);
    if (choice->content.length > 0 && strchr(".:", choice->content.at[0]) != NULL)
        choice->content = answer_part(choice->content, 1, choice->content.length);
    return choice->content.length == 0 || (choice->letter >= 'A' && choice->letter <= 'J' &&
                                           choice->content.at[0] != ',' && !names_choices(choice->content));
}

/* --- all of it --- */

/* Words of two letters or more that are no commands. */
static size_t count_words(struct span s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.length; i++) {
        const size_t start = i;
        while (i < s.length && is_letter(s.at[i]))
            i++;
        n += i > start + 1 && (start == 0 || s.at[start - 1] != '\\');
    }
    return n;
}

/* Tells a page of prose from an answer without reading it as one. */
static bool is_prose_beside(struct span a, struct span b)
{
    enum { WORDS_OF_PROSE = 12 };
    const size_t words = count_words(a);
    return words > WORDS_OF_PROSE && count_words(b) < words / 2;
}

static cohort_status same_answer(struct span a, struct span b, int depth, bool *equal, cohort_error *err)
{
    struct choice c, d;
    struct tree x = {0}, y = {0};
    cohort_status status = COHORT_OK;
    *equal = false;
    if (a.length == 0 || b.length == 0)
        return COHORT_OK;
    *equal = a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
    if (*equal)
        return COHORT_OK;
    const bool a_choice = read_choice(a, &c), b_choice = read_choice(b, &d);
    if (a_choice && b_choice) {
        *equal = c.letter == d.letter;
        if (*equal && c.content.length > 0 && d.content.length > 0 && depth < CHOICE_DEPTH)
            return same_answer(c.content, d.content, depth + 1, equal, err);
        return COHORT_OK;
    }
    if (depth < CHOICE_DEPTH && ((a_choice && c.content.length > 0) || (b_choice && d.content.length > 0)))
        return same_answer(a_choice ? c.content : a, b_choice ? d.content : b, depth + 1, equal, err);
    if (a.length > ANSWER_LENGTH || b.length > ANSWER_LENGTH || is_prose_beside(a, b) || is_prose_beside(b, a))
        return COHORT_OK;
    TRY_GOTO(answer_tree(&x, a, err));
    TRY_GOTO(answer_tree(&y, b, err));
    TRY_GOTO(answer_compare(&x, &y, equal, err));
cleanup:
    answer_tree_free(&x);
    answer_tree_free(&y);
    return status;
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
