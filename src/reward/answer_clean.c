/* Answers in one spelling: what LaTeX, markdown and Unicode write in several ways.
 *
 * answer_clean keeps the words of an answer readable (numbers with units are read from it); answer_formula goes
 * further, for a comparison of formulas character by character. Both take time proportional to the length. */
#include "reward/answer_internal.h"

#include <string.h>

/* Whether the text at s begins with word. */
static bool begins(struct span s, const char *word, size_t n) { return s.length >= n && memcmp(s.at, word, n) == 0; }

static struct span rest_of(struct span s, size_t n) { return (struct span){s.at + n, s.length - n}; }

/* --- what stands around an answer --- */

static bool unwrap(struct span *s, const char *open, const char *close)
{
    size_t a = strlen(open), b = strlen(close);
    if (s->length <= a + b || memcmp(s->at, open, a) != 0 || memcmp(s->at + s->length - b, close, b) != 0)
        return false;
    /* "$5 and $6$" is not wrapped: the mark may not come again inside. */
    for (size_t i = a; i + b <= s->length - b; i++)
        if (memcmp(s->at + i, close, b) == 0)
            return false;
    s->at += a;
    s->length -= a + b;
    return true;
}

static struct span strip(struct span s)
{
    bool again = true;
    while (again) {
        again = false;
        while (s.length > 0 && is_space(s.at[0]))
            s = rest_of(s, 1);
        while (s.length > 0 && is_space(s.at[s.length - 1]))
            s.length--;
        if (s.length > 1 && strchr(".,;:", s.at[s.length - 1]) != NULL && s.at[s.length - 1] != '\0' &&
            !(s.at[s.length - 1] == '.' && s.at[s.length - 2] == '.') &&
            !(s.at[s.length - 1] == ',' && s.at[s.length - 2] == '\\')) {
            s.length--;
            again = true;
        }
        again = again || unwrap(&s, "$$", "$$") || unwrap(&s, "$", "$") || unwrap(&s, "\\(", "\\)") ||
                unwrap(&s, "\\[", "\\]") || unwrap(&s, "**", "**") || unwrap(&s, "`", "`");
    }
    return s;
}

/* --- one spelling --- */

struct spelling {
    const char *from, *to;
};

/* Commands of LaTeX by name; the name ends where its letters end. */
static const struct spelling commands[] = {
    {"dfrac", "\\frac"},
    {"tfrac", "\\frac"},
    {"cfrac", "\\frac"},
    {"left", ""},
    {"right", ""},
    {"big", ""},
    {"bigl", ""},
    {"bigr", ""},
    {"Big", ""},
    {"Bigl", ""},
    {"Bigr", ""},
    {"bigg", ""},
    {"biggl", ""},
    {"biggr", ""},
    {"limits", ""},
    {"displaystyle", ""},
    {"textstyle", ""},
    {"quad", " "},
    {"qquad", " "},
    {"thinspace", " "},
    {"degree", "\xc2\xb0"},
    {"cdot", "*"},
    {"times", "*"},
    {"ast", "*"},
    {"leq", "\\le "},
    {"leqslant", "\\le "},
    {"geq", "\\ge "},
    {"geqslant", "\\ge "},
    {"neq", "\\ne "},
    {"lt", "<"},
    {"gt", ">"},
    {"rightarrow", "\\to "},
    {"ldots", "\\dots "},
    {"cdots", "\\dots "},
    {"varnothing", "\\emptyset "},
    {"lbrace", "\\{"},
    {"rbrace", "\\}"},
    {"percent", "%"},
    {"euro", "\xe2\x82\xac"},
    {"pounds", "\xc2\xa3"},
};

/* Commands whose argument is text, or looks different and means the same. */
static const char *const boxes[] = {"text",   "textrm",     "textbf", "textit", "textsf", "texttt", "textnormal",
                                    "mathrm", "mathbf",     "mathit", "mathsf", "mathtt", "mbox",   "operatorname",
                                    "hbox",   "boldsymbol", "bm",     "emph",   "boxed",  "fbox"};

/* What is not ASCII, and {,}. */
static const struct spelling characters[] = {
    {"{,}", ","},
    {"\xc2\xa0", " "},     /* no-break space */
    {"\xe2\x80\xaf", " "}, /* narrow no-break space */
    {"\xe2\x80\x89", " "}, /* thin space */
    {"\xe2\x80\x8b", ""},  /* zero width space */
    {"\xe2\x88\x92", "-"}, /* minus */
    {"\xe2\x80\x93", "-"}, /* en dash */
    {"\xe2\x80\x91", "-"}, /* no-break hyphen */
    {"\xc3\x97", "*"},     /* times */
    {"\xc2\xb7", "*"},     /* middle dot */
    {"\xe2\x8b\x85", "*"}, /* dot operator */
    {"\xc2\xb2", "^2"},    /* superscripts */
    {"\xc2\xb3", "^3"},
    {"\xcf\x80", "\\pi "},
    {"\xe2\x88\x9e", "\\infty "},
    {"\xe2\x88\x9a", "\\sqrt "},
    {"\xe2\x89\xa4", "\\le "},
    {"\xe2\x89\xa5", "\\ge "},
    {"\xe2\x89\xa0", "\\ne "},
    {"\xe2\x88\xaa", "\\cup "},
    {"\xe2\x88\xa9", "\\cap "},
    {"\xe2\x88\x88", "\\in "},
    {"^{\\circ}", "\xc2\xb0"},
    {"^\\circ", "\xc2\xb0"},
    {"^{\\degree}", "\xc2\xb0"},
    {"^\\degree", "\xc2\xb0"},
    {"^\xc2\xb0", "\xc2\xb0"},
};

/* The length of the command's name at s, after its backslash. */
static size_t name_length(struct span s)
{
    size_t n = 0;
    while (1 + n < s.length && is_letter(s.at[1 + n]))
        n++;
    return n;
}

static bool is_word(struct span s, size_t n, const char *word)
{
    return n > 0 && s.at[1] == word[0] && strlen(word) == n && memcmp(s.at + 1, word, n) == 0;
}

struct respelling {
    struct text *out;
    uint64_t boxes; /* bit d: the brace at depth d opened a \text */
    long depth;
    bool math_marks; /* dollars are marks of formulas, not of money */
};

static cohort_status put(struct respelling *r, const char *text, cohort_error *err)
{
    /* Blanks become one space. */
    if (strcmp(text, " ") == 0 && (r->out->length == 0 || r->out->data[r->out->length - 1] == ' '))
        return COHORT_OK;
    return text_append(r->out, text, strlen(text), err);
}

/* A command at s; *used: its bytes. */
static cohort_status respell_command(struct respelling *r, struct span s, size_t *used, cohort_error *err)
{
    char last = r->out->length > 0 ? r->out->data[r->out->length - 1] : ' ';
    size_t n = name_length(s);
    char next = s.length > 1 ? s.at[1] : '\0';
    if (n == 0) {
        *used = s.length > 1 ? 2 : 1;
        switch (next) {
        case '!': return COHORT_OK;
        case ',': /* between digits it groups them, elsewhere it is a blank */
            return is_digit(last) && s.length > 2 && is_digit(s.at[2]) ? COHORT_OK : put(r, " ", err);
        case ' ':
        case ';':
        case ':':
        case '>':
        case '(':
        case ')':
        case '[':
        case ']': return put(r, " ", err);
        case '$': return put(r, "$", err);
        case '%': return put(r, "%", err);
        case '#': return put(r, "#", err);
        case '&': return put(r, "&", err);
        case '_': return put(r, "_", err);
        case '\0': *used = 1; return text_append(r->out, "\\", 1, err);
        default: return text_append(r->out, s.at, *used, err);
        }
    }
    *used = 1 + n;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (is_word(s, n, commands[i].from)) {
            if ((is_word(s, n, "left") || is_word(s, n, "right")) && s.length > 1 + n && s.at[1 + n] == '.')
                ++*used; /* the bracket that is not there */
            return put(r, commands[i].to, err);
        }
    for (size_t i = 0; i < sizeof boxes / sizeof boxes[0]; i++)
        if (is_word(s, n, boxes[i])) {
            if (s.length > 1 + n && s.at[1 + n] == '{' && r->depth < 64) {
                r->boxes |= (uint64_t)1 << r->depth;
                r->depth++;
                ++*used;
            }
            return put(r, " ", err);
        }
    return text_append(r->out, s.at, *used, err);
}

static cohort_status respell_one(struct respelling *r, struct span s, size_t *used, cohort_error *err)
{
    char c = s.at[0], last = r->out->length > 0 ? r->out->data[r->out->length - 1] : ' ';
    *used = 1;
    if (c == '\\')
        return respell_command(r, s, used, err);
    if (is_space(c) || c == '~')
        return put(r, " ", err);
    if (c == '\0')
        return put(r, "\xef\xbf\xbd", err); /* part of no number */
    if (c == '$' && r->math_marks)
        return COHORT_OK;
    if (c == '{' || c == '^' || (unsigned char)c >= 0x80)
        for (size_t i = 0; i < sizeof characters / sizeof characters[0]; i++) {
            size_t n = strlen(characters[i].from);
            if (begins(s, characters[i].from, n) &&
                !(is_letter(characters[i].from[n - 1]) && s.length > n && is_letter(s.at[n]))) {
                *used = n;
                return put(r, characters[i].to, err);
            }
        }
    if (c == '^' && s.length > 3 && s.at[1] == '{' && is_digit(s.at[2]) && s.at[3] == '}') {
        const char power[] = {'^', s.at[2], '\0'}; /* m^{2} is m^2 */
        *used = 4;
        return put(r, power, err);
    }
    if (c == '*' && s.length > 1 && s.at[1] == '*' &&
        (last == ' ' || s.length == 2 || is_space(s.at[2]) || strchr(".,:;", s.at[2]) != NULL)) {
        *used = 2; /* bold */
        return COHORT_OK;
    }
    if (c == '{') {
        if (r->depth < 64)
            r->boxes &= ~((uint64_t)1 << r->depth);
        r->depth++;
    } else if (c == '}' && r->depth > 0) {
        r->depth--;
        if (r->depth < 64 && (r->boxes >> r->depth & 1) != 0)
            return COHORT_OK;
    }
    return text_append(r->out, s.at, 1, err);
}

/* Dollars stand around formulas where their number is even and not each begins an amount. */
static bool dollars_are_marks(struct span s)
{
    size_t count = 0, amounts = 0;
    for (size_t i = 0; i < s.length; i++) {
        if (s.at[i] == '\\')
            i++;
        else if (s.at[i] == '$') {
            count++;
            amounts += i + 1 < s.length && is_digit(s.at[i + 1]);
        }
    }
    return count > 0 && count % 2 == 0 && amounts < count;
}

/* Length of what stands at s and stays as it is: words with one space between them. */
static size_t plain_length(struct span s)
{
    size_t n = 0;
    for (; n < s.length; n++) {
        unsigned char c = (unsigned char)s.at[n];
        bool plain =
            c > ' ' && c < 0x7f && c != '\\' && c != '~' && c != '$' && c != '{' && c != '}' && c != '^' && c != '*';
        if (!plain && !(c == ' ' && n > 0 && s.at[n - 1] != ' '))
            break;
    }
    return n;
}

cohort_status answer_clean(struct span in, struct text *out, cohort_error *err)
{
    struct text respelled = {0};
    cohort_status status = COHORT_OK;
    struct span s = strip(in);
    struct respelling r = {.out = &respelled, .math_marks = dollars_are_marks(s)};
    TRY_GOTO(text_append(&respelled, "", 0, err));
    while (s.length > 0) {
        size_t used = plain_length(s);
        if (used > 0)
            TRY_GOTO(text_append(&respelled, s.at, used, err));
        else
            TRY_GOTO(respell_one(&r, s, &used, err));
        s = rest_of(s, used);
    }
    /* A \boxed{42 that was cut off may have been going to be 421: its brace stays. */
    for (long d = 0; d < r.depth && d < 64; d++)
        if ((r.boxes >> d & 1) != 0)
            TRY_GOTO(text_append(&respelled, "{", 1, err));
    s = strip((struct span){respelled.data, respelled.length});
    TRY_GOTO(text_append(out, s.at, s.length, err));
cleanup:
    text_free(&respelled);
    return status;
}

/* --- formulas --- */

enum { FORMULA_DEPTH = 64 };

struct formula {
    struct text *out;
    char need[FORMULA_DEPTH]; /* arguments still to come after the group at this depth */
    int depth;
    char wanted; /* arguments that the last command still wants */
    char mark;   /* what wants them: '^', '_', or 'c' for a command */
};

static bool ends_operand(const struct text *out)
{
    char c = out->length > 0 ? out->data[out->length - 1] : '\0';
    return is_digit(c) || is_letter(c) || c == ')' || c == '}' || c == ']' || (unsigned char)c >= 0x80;
}

static bool begins_operand(char c)
{
    return is_digit(c) || is_letter(c) || c == '(' || c == '{' || c == '\\' || c == '.' || (unsigned char)c >= 0x80;
}

/* Length of the number at s: digits, and a fraction. */
static size_t number_length(struct span s)
{
    size_t n = 0;
    while (n < s.length && is_digit(s.at[n]))
        n++;
    if (n < s.length && s.at[n] == '.' && (n > 0 || (s.length > 1 && is_digit(s.at[1])))) {
        size_t fraction = n + 1;
        while (fraction < s.length && is_digit(s.at[fraction]))
            fraction++;
        if (fraction > n + 1)
            n = fraction;
    }
    return n;
}

/* 033 is 33 (but not in "1,033"), .5 is 0.5, 2.50 is 2.5. */
static cohort_status put_number(struct text *out, struct span s, cohort_error *err)
{
    char last = out->length > 0 ? out->data[out->length - 1] : '\0';
    const char *point = memchr(s.at, '.', s.length);
    if (last != ',' && last != '.')
        while (s.length > 1 && s.at[0] == '0' && is_digit(s.at[1]))
            s = rest_of(s, 1);
    if (s.at[0] == '.')
        TRY(text_append(out, "0", 1, err));
    if (point != NULL) {
        while (s.at[s.length - 1] == '0')
            s.length--;
        if (s.at[s.length - 1] == '.')
            s.length--;
    }
    return text_append(out, s.at, s.length, err);
}

/* The piece at s as it stands: a number, a command, a character. One digit where a command wants an argument without
 * braces, all of them after ^ and _ as people write. */
static size_t piece_length(const struct formula *f, struct span s)
{
    unsigned char c = (unsigned char)s.at[0];
    if (f->wanted > 0 && f->mark == 'c' && is_digit(s.at[0]))
        return 1;
    size_t n = number_length(s);
    if (n > 0)
        return n;
    if (c == '\\') {
        n = name_length(s);
        return n > 0 ? n + 1 : s.length > 1 ? 2 : 1;
    }
    n = 1;
    if (c >= 0xc0)
        while (n < s.length && ((unsigned char)s.at[n] & 0xc0) == 0x80)
            n++;
    return n;
}

static cohort_status put_piece(struct formula *f, struct span piece, cohort_error *err)
{
    struct text *out = f->out;
    size_t n = out->length;
    /* \pi r is not \pir. */
    if (is_letter(piece.at[0]) && n > 0 && is_letter(out->data[n - 1])) {
        size_t k = n;
        while (k > 0 && is_letter(out->data[k - 1]) && n - k < 32)
            k--;
        if (k > 0 && out->data[k - 1] == '\\')
            TRY(text_append(out, " ", 1, err));
    }
    return is_digit(piece.at[0]) || (piece.at[0] == '.' && piece.length > 1)
               ? put_number(out, piece, err)
               : text_append(out, piece.at, piece.length, err);
}

static cohort_status formula_step(struct formula *f, struct span s, size_t *used, bool *good, cohort_error *err)
{
    char c = s.at[0];
    *used = 1;
    if (c == ' ') { /* 1 2 is not 12 */
        char last = f->out->length > 0 ? f->out->data[f->out->length - 1] : '\0';
        bool apart = is_digit(last) && s.length > 1 && (is_digit(s.at[1]) || s.at[1] == '.') && f->wanted == 0;
        return apart ? text_append(f->out, " ", 1, err) : COHORT_OK;
    }
    if (c == '{') {
        if (f->depth == FORMULA_DEPTH) {
            *good = false;
            return COHORT_OK;
        }
        f->need[f->depth++] = f->wanted > 0 ? (char)(f->wanted - 1) : 0;
        f->wanted = 0;
        return text_append(f->out, "{", 1, err);
    }
    if (c == '}') {
        f->wanted = f->depth > 0 ? f->need[--f->depth] : 0;
        f->mark = 'c';
        return text_append(f->out, "}", 1, err);
    }
    if (c == '*') { /* between factors it means nothing, but 2*3 is not 23 */
        char next = s.length > 1 ? s.at[1] == ' ' && s.length > 2 ? s.at[2] : s.at[1] : '\0';
        char last = f->out->length > 0 ? f->out->data[f->out->length - 1] : '\0';
        bool dropped =
            ends_operand(f->out) && begins_operand(next) && !(is_digit(last) && (is_digit(next) || next == '.'));
        return dropped ? COHORT_OK : text_append(f->out, "*", 1, err);
    }
    if (c == '^' || c == '_') {
        f->wanted = 1;
        f->mark = c;
        return text_append(f->out, s.at, 1, err);
    }
    *used = piece_length(f, s);
    struct span piece = {s.at, *used};
    bool frac = is_word(piece, piece.length - 1, "frac") && c == '\\';
    bool root = is_word(piece, piece.length - 1, "sqrt") && c == '\\';
    if (frac || root) {
        f->wanted = frac ? 2 : 1;
        f->mark = 'c';
        return put_piece(f, piece, err);
    }
    /* \sqrt[3]{2}: the index is no argument. */
    if (f->wanted > 0 && c != '[' && c != ']' && f->mark != '[') {
        bool sign = (c == '-' || c == '+') && f->mark != 'c';
        if (sign) { /* 10^-3 */
            TRY(text_append(f->out, "{", 1, err));
            TRY(text_append(f->out, s.at, c == '-', err));
            struct span rest = rest_of(s, 1);
            size_t n = rest.length > 0 ? piece_length(f, rest) : 0;
            if (n > 0 && rest.at[0] != '{')
                TRY(put_piece(f, (struct span){rest.at, n}, err));
            else
                n = 0;
            *used = 1 + n;
        } else {
            TRY(text_append(f->out, "{", 1, err));
            TRY(put_piece(f, piece, err));
        }
        f->wanted--;
        return text_append(f->out, "}", 1, err);
    }
    if (f->wanted > 0 && c == '[')
        f->mark = '[';
    else if (f->mark == '[' && c == ']')
        f->mark = 'c';
    return put_piece(f, piece, err);
}

/* Whether the text has no sum, relation or quotient outside of brackets. */
static bool is_product(struct span s)
{
    long depth = 0;
    for (size_t i = 0; i < s.length; i++) {
        char c = s.at[i];
        depth += (c == '(' || c == '{' || c == '[') - (c == ')' || c == '}' || c == ']');
        if (depth < 0 || (depth == 0 && strchr("+-=<>/,;: ", c) != NULL))
            return false;
    }
    return depth == 0 && s.length > 0;
}

/* "(x+1)" -> "x+1" where the brackets belong together. */
static struct span without_brackets(struct span s)
{
    long depth = 0;
    if (s.length < 3 || s.at[0] != '(' || s.at[s.length - 1] != ')')
        return s;
    for (size_t i = 0; i + 1 < s.length; i++) {
        depth += (s.at[i] == '(') - (s.at[i] == ')');
        if (depth == 0)
            return s;
    }
    return (struct span){s.at + 1, s.length - 2};
}

/* A quotient's lower side after a slash: one number, letter, command or bracket. */
static bool is_single(struct span s)
{
    if (s.length == 0 || !is_product(s))
        return false;
    if (without_brackets(s).length < s.length || s.length == 1)
        return true;
    if (number_length(s) == s.length)
        return true;
    if (s.at[0] != '\\')
        return false;
    size_t n = 1 + name_length(s);
    if (n == s.length)
        return true;
    long depth = 0;
    for (size_t i = n; i < s.length; i++) {
        depth += (s.at[i] == '{') - (s.at[i] == '}');
        if (depth == 0 && i + 1 < s.length)
            return false;
    }
    return s.at[n] == '{';
}

/* \frac{-1}{x} is -\frac{1}{x}, and 2\pi/3 is \frac{2\pi}{3}, where that is all. */
static cohort_status put_fraction(struct span s, struct text *out, cohort_error *err)
{
    static const char negative[] = "\\frac{-";
    if (begins(s, negative, sizeof negative - 1)) {
        size_t start = sizeof negative - 1, end = start;
        for (long depth = 1; end < s.length; end++) {
            depth += (s.at[end] == '{') - (s.at[end] == '}');
            if (depth == 0)
                break;
        }
        if (end < s.length && is_product((struct span){s.at + start, end - start})) {
            TRY(text_append(out, "-\\frac{", 7, err));
            return text_append(out, s.at + start, s.length - start, err);
        }
    }
    const char *slash = memchr(s.at, '/', s.length);
    size_t sign = s.length > 0 && s.at[0] == '-';
    if (slash != NULL) {
        struct span over = {s.at + sign, (size_t)(slash - s.at) - sign};
        struct span under = rest_of(s, (size_t)(slash - s.at) + 1);
        if (over.length > 0 && slash > s.at + sign && is_product(over) && is_single(under)) {
            over = without_brackets(over);
            under = without_brackets(under);
            TRY(text_append(out, "-", sign, err));
            TRY(text_append(out, "\\frac{", 6, err));
            TRY(text_append(out, over.at, over.length, err));
            TRY(text_append(out, "}{", 2, err));
            TRY(text_append(out, under.at, under.length, err));
            return text_append(out, "}", 1, err);
        }
    }
    return text_append(out, s.at, s.length, err);
}

cohort_status answer_formula(struct span in, struct text *out, cohort_error *err)
{
    struct text plain = {0};
    struct formula f = {.out = &plain};
    struct span s = in;
    bool good = true;
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_append(&plain, "", 0, err));
    while (s.length > 0 && good) {
        size_t used = 0;
        TRY_GOTO(formula_step(&f, s, &used, &good, err));
        s = rest_of(s, used);
    }
    /* Braces too deep to follow: the text as it is. */
    status = good ? put_fraction((struct span){plain.data, plain.length}, out, err)
                  : text_append(out, in.at, in.length, err);
cleanup:
    text_free(&plain);
    return status;
}
