/* Answers in one spelling: what LaTeX, markdown and Unicode write in several ways.
 *
 * answer_clean keeps the words of an answer readable, since numbers with units are read from it; answer_tokens is for
 * texts that are compared as such. Both take time proportional to the length. */
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
    {"dbinom", "\\binom"},
    {"tbinom", "\\binom"},
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
    {"lvert", "|"},
    {"rvert", "|"},
    {"vert", "|"},
    {"langle", "("},
    {"rangle", ")"},
    {"lbrack", "["},
    {"rbrack", "]"},
    {"imath", "i"},
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
    {"\xe2\x88\x9a", " sqrt "},
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
    if (c == '^' && s.length > 3 && s.at[1] == '{' && is_digit(s.at[2]) && s.at[3] == '}' &&
        !(s.length > 4 && is_digit(s.at[4]))) {
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

/* --- tokens --- */

/* Bytes of the token at s: a run of letters, of digits, a command, a character. */
static size_t token_length(struct span s)
{
    size_t n = 1;
    if (is_letter(s.at[0]))
        while (n < s.length && is_letter(s.at[n]))
            n++;
    else if (is_digit(s.at[0]))
        while (n < s.length && is_digit(s.at[n]))
            n++;
    else if (s.at[0] == '\\')
        n = name_length(s) > 0 ? 1 + name_length(s) : s.length > 1 ? 2 : 1;
    else if ((unsigned char)s.at[0] >= 0xc0)
        while (n < s.length && ((unsigned char)s.at[n] & 0xc0) == 0x80)
            n++;
    return n;
}

static size_t blanks_at(struct span s, size_t i)
{
    size_t n = 0;
    while (i + n < s.length && s.at[i + n] == ' ')
        n++;
    return n;
}

/* "{x}" with one token inside: its length, else 0. */
static size_t braced_token(struct span s)
{
    size_t at = 1 + blanks_at(s, 1);
    if (s.at[0] != '{' || at >= s.length || s.at[at] == '{' || s.at[at] == '}')
        return 0;
    at += token_length(rest_of(s, at));
    at += blanks_at(s, at);
    return at < s.length && s.at[at] == '}' ? at + 1 : 0;
}

/* Whether there are words and no formula: no digit, no command, more than a letter. */
static bool is_words(struct span s)
{
    size_t letters = 0;
    for (size_t i = 0; i < s.length; i++) {
        if (is_digit(s.at[i]) || strchr("\\^_=<>+*/", s.at[i]) != NULL)
            return false;
        letters += is_letter(s.at[i]);
    }
    return letters > 1;
}

cohort_status answer_tokens(struct span in, struct text *out, cohort_error *err)
{
    const bool words = is_words(in);
    TRY(text_append(out, "", 0, err));
    for (struct span s = in; s.length > 0;) {
        const size_t blanks = blanks_at(s, 0), braces = blanks == 0 ? braced_token(s) : 0;
        if (blanks > 0) {
            s = rest_of(s, blanks);
            continue;
        }
        struct span token = {s.at, token_length(s)};
        if (braces > 0) {
            token.at += 1 + blanks_at(s, 1);
            token.length = token_length((struct span){token.at, braces - (size_t)(token.at - s.at)});
        }
        TRY(text_append(out, token.at, token.length, err));
        TRY(text_append(out, "\x1f", 1, err)); /* 1 2 is not 12 */
        s = rest_of(s, braces > 0 ? braces : token.length);
    }
    for (size_t i = 0; words && i < out->length; i++)
        if (out->data[i] >= 'A' && out->data[i] <= 'Z')
            out->data[i] = (char)(out->data[i] - 'A' + 'a');
    return COHORT_OK;
}
