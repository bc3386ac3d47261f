/* Where a completion states its answer.
 *
 * Looked at is what follows the last </think>, or where that is blank what precedes it; of that, the content of the
 * last <answer>...</answer> where there is one. In it, the answer is
 *   1. the content of the last complete \boxed{...} or \fbox{...}, braces balanced, or what stands
 *      behind \boxed without braces, to the next blank or dollar (at most 100 bytes). Several with nothing but "and",
 *      "or" or commas between ("\boxed{2} and \boxed{3}") are one list, as in TRL: who states two answers has not stated
 *      either;
 *   2. else the line after the last "####";
 *   3. else what the last statement of an answer says (any case): "answer" or "answers" and, within
 *      80 characters of the same sentence, "is", "are", "equals", ":" or "="; marks like ** aside.
 *      It goes to the end of its line, or to a period that a blank follows; where nothing is left
 *      of the line (a heading "**Answer:**", or "### Answer" alone), it is the next line that is
 *      not blank. Words like "therefore" and "equal to" at its begin are passed over;
 *   4. else the whole text.
 *
 * Where a statement is not equal, it is read once more up to an explanation: a comma and a word ("42, altogether"), a
 * blank and "(", or "because", "since", "which", "as", "so", "where", "when"; or, where it begins with $...$, \(...\),
 * \[...\] or **...**, as what stands between the marks, if neither "and", "or" nor a comma follow. Where the whole text
 * is not equal, its last line that is not blank is read, and the $...$, \(...\) or **...** with which that line ends.
 * In either case what follows the last "=" is the last to be tried, if the expected answer has no "=".
 *
 * Of the data's text, rule 1 and 2 apply and <answer>, else it is taken whole (GSM8K's answers end in "#### 42").
 *
 * Everything here takes time proportional to the length of the completion, whatever it holds. */
#include "reward/reward_internal.h"

#include <string.h>

enum { STATEMENT_WIDTH = 80, UNBRACED_BOX = 100, SEPARATOR_WIDTH = 40 };

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static bool is_letter(char c) { return lower(c) >= 'a' && lower(c) <= 'z'; }

static struct span trim(struct span s)
{
    while (s.length > 0 && is_blank(s.at[0])) {
        s.at++;
        s.length--;
    }
    while (s.length > 0 && is_blank(s.at[s.length - 1]))
        s.length--;
    return s;
}

static struct span from(struct span s, size_t start) { return (struct span){s.at + start, s.length - start}; }

static struct span between(struct span s, size_t start, size_t end)
{
    return trim((struct span){s.at + start, end - start});
}

/* Whether word (in small letters) stands at i, in any case. */
static bool word_at(struct span s, size_t i, const char *word)
{
    for (; *word != '\0'; word++, i++)
        if (i >= s.length || lower(s.at[i]) != *word)
            return false;
    return true;
}

/* Start of the last occurrence of word, or the length. */
static size_t find_last(struct span s, const char *word)
{
    size_t n = strlen(word), found = s.length;
    const char *at = s.at, *end = s.at + s.length;
    while (at < end && (at = memmem(at, (size_t)(end - at), word, n)) != NULL) {
        found = (size_t)(at - s.at);
        at += n;
    }
    return found;
}

static struct span line_at(struct span s, size_t start)
{
    const char *newline = memchr(s.at + start, '\n', s.length - start);
    return between(s, start, newline != NULL ? (size_t)(newline - s.at) : s.length);
}

/* --- rules 1 and 2 --- */

/* The length of \boxed or \fbox at i, or 0. */
static size_t box_at(struct span s, size_t i)
{
    size_t n = s.length - i >= 6 && memcmp(s.at + i, "\\boxed", 6) == 0  ? 6
               : s.length - i >= 5 && memcmp(s.at + i, "\\fbox", 5) == 0 ? 5
                                                                         : 0;
    return n > 0 && i + n < s.length && is_letter(s.at[i + n]) ? 0 : n;
}

/* Whether separators of a list stand between two boxes, and else only blanks and marks of formulas. */
static bool only_separates(struct span s, size_t start, size_t end)
{
    static const char *const marks[] = {",",           ";",          "and",           "or",
                                        "\\text{and}", "\\text{or}", "\\text{ and }", "\\text{ or }"},
                             *const others[] = {"$", "\\quad", "\\(", "\\)", "\\,", "\\ "};
    bool separated = false;
    if (end - start > SEPARATOR_WIDTH)
        return false;
    const struct span between_boxes = {s.at, end};
    while (start < end) {
        size_t n = is_blank(s.at[start]);
        for (size_t w = 0; n == 0 && w < sizeof marks / sizeof marks[0]; w++)
            if (word_at(between_boxes, start, marks[w])) {
                n = strlen(marks[w]);
                separated = true;
            }
        for (size_t w = 0; n == 0 && w < sizeof others / sizeof others[0]; w++)
            if (word_at(between_boxes, start, others[w]))
                n = strlen(others[w]);
        if (n == 0)
            return false;
        start += n;
    }
    return separated;
}

/* One pass: of boxes within one another only the innermost can be the last that is complete, since those around it end
 * after it; so one is followed at a time. */
/* *row: from the first to the last of several that stand in a row ("\boxed{2} and \boxed{3}"), or empty. */
static bool last_boxed(struct span s, struct span *out, struct span *row)
{
    bool found = false, open = false;
    long depth = 0;
    size_t start = 0, box = 0, row_start = 0, row_end = 0, in_row = 0;
    for (size_t i = 0; i < s.length; i++) {
        if (!open) { /* only a box is of interest */
            const char *next = memchr(s.at + i, '\\', s.length - i);
            if (next == NULL)
                break;
            i = (size_t)(next - s.at);
        }
        size_t n = s.at[i] == '\\' ? box_at(s, i) : 0;
        if (n > 0) {
            size_t at = i + n;
            while (at < s.length && is_blank(s.at[at]))
                at++;
            if (at < s.length && s.at[at] == '{') {
                open = true;
                depth = 1;
                box = i;
                start = at + 1;
                i = at;
                continue;
            }
            size_t end = at;
            while (end < s.length && end - at <= UNBRACED_BOX && !is_blank(s.at[end]) && s.at[end] != '$' &&
                   !(s.at[end] == '\\' && end + 1 < s.length && (s.at[end + 1] == ')' || s.at[end + 1] == ']')))
                end++;
            if (end > at && end - at <= UNBRACED_BOX && s.at[at] != '}' && box_at(s, at) == 0) {
                *out = between(s, at, end);
                found = true;
                in_row = 0;
            }
            i += n - 1;
        } else if (s.at[i] == '\\') {
            if (i + 1 < s.length && (s.at[i + 1] != '\\' || box_at(s, i + 1) == 0))
                i++; /* \{ and \} are characters */
        } else if (s.at[i] == '{') {
            depth++;
        } else if (s.at[i] == '}' && --depth == 0) {
            const struct span content = between(s, start, i);
            const bool again =
                found && content.length == out->length && memcmp(content.at, out->at, content.length) == 0;
            *out = content;
            found = true;
            open = false;
            if (in_row == 0 || box < row_end || !only_separates(s, row_end, box)) {
                row_start = box;
                in_row = 0;
            }
            in_row += in_row == 0 || !again; /* the same box once more adds nothing */
            row_end = i + 1;
        }
    }
    *row = in_row > 1 ? between(s, row_start, row_end) : (struct span){s.at, 0};
    return found;
}

static bool after_hashes(struct span s, struct span *out)
{
    size_t found = find_last(s, "####");
    if (found == s.length)
        return false;
    *out = line_at(s, found + 4);
    return true;
}

static struct span within_answer_tags(struct span s)
{
    static const char open[] = "<answer>", close[] = "</answer>";
    size_t end = find_last(s, close);
    if (end == s.length)
        return s;
    size_t start = find_last((struct span){s.at, end}, open);
    return start == end ? s : between(s, start + sizeof open - 1, end);
}

/* --- rule 3 --- */

static bool is_mark(char c) { return c == '*' || c == '_' || c == '#' || c == ':'; }

/* Where the value begins that "answer" at i states, or 0. */
static size_t statement_value(struct span s, size_t i)
{
    size_t at = i + strlen("answer"), end = at + STATEMENT_WIDTH;
    bool marks_only = true;
    at += at < s.length && lower(s.at[at]) == 's';
    if (at < s.length && is_letter(s.at[at]))
        return 0;
    for (; at < s.length && at < end; at++) {
        char c = s.at[at];
        if (c == '\n')
            return marks_only ? at : 0;
        if (c == ':' || c == '=')
            return at + 1;
        if ((c == '.' || c == '?' || c == '!') && (at + 1 == s.length || is_blank(s.at[at + 1])))
            return 0;
        if (is_blank(c)) {
            static const char *const verbs[] = {"is", "are", "equals"};
            for (size_t v = 0; v < sizeof verbs / sizeof verbs[0]; v++) {
                size_t n = strlen(verbs[v]);
                if (word_at(s, at + 1, verbs[v]) && (at + 1 + n == s.length || !is_letter(s.at[at + 1 + n])))
                    return at + 1 + n;
            }
        } else if (!is_mark(c)) {
            marks_only = false;
        }
    }
    return 0;
}

/* Where the value of the last statement begins; false if there is none. */
static bool last_statement(struct span s, size_t *value)
{
    bool found = false;
    for (size_t i = 0; i < s.length; i++) {
        if (lower(s.at[i]) != 'a' || !word_at(s, i, "answer") || (i > 0 && is_letter(s.at[i - 1])))
            continue;
        size_t at = statement_value(s, i);
        if (at > 0) {
            *value = at;
            found = true;
        }
    }
    return found;
}

/* The sentence at value: its end may be the end of a formula on lines of its own. */
static struct span sentence(struct span s, size_t value)
{
    static const char *const fillers[] = {"therefore ", "thus ",   "then ",     "simply ",
                                          "just ",      "indeed ", "equal to ", "given by "};
    size_t at = value, lines = 0;
    while (at < s.length && (is_blank(s.at[at]) || is_mark(s.at[at]))) {
        if (s.at[at] == '*' && lines == 0 && at > value && is_blank(s.at[at - 1]))
            break; /* " **42**" begins the value, "**" behind a colon ends its mark */
        if (s.at[at] == '*' && lines > 0)
            break;
        lines += s.at[at] == '\n';
        at++;
    }
    for (size_t i = 0; i < sizeof fillers / sizeof fillers[0]; i++)
        if (word_at(s, at, fillers[i]))
            at += strlen(fillers[i]);
    for (size_t i = at; i < s.length; i++) {
        if (i == at) { /* \[ and $$ may be alone on their lines */
            const char *close = s.length - i > 2 && memcmp(s.at + i, "$$", 2) == 0    ? "$$"
                                : s.length - i > 2 && memcmp(s.at + i, "\\[", 2) == 0 ? "\\]"
                                                                                      : NULL;
            const char *found = close == NULL ? NULL : memmem(s.at + i + 2, s.length - i - 2, close, 2);
            if (found != NULL) {
                i = (size_t)(found - s.at) + 1;
                continue;
            }
        }
        if (s.at[i] == '\n' || (s.at[i] == '.' && i + 1 < s.length && is_blank(s.at[i + 1])))
            return between(s, at, i);
    }
    return between(s, at, s.length);
}

/* "and", "or" or a comma at i, blanks aside. */
static bool goes_on(struct span s, size_t i)
{
    while (i < s.length && s.at[i] == ' ')
        i++;
    return i < s.length &&
           (s.at[i] == ',' || s.at[i] == ';' || s.at[i] == '/' || word_at(s, i, "and") || word_at(s, i, "or"));
}

static void add_cut(struct found_answer *answer, struct span cut)
{
    cut = trim(cut);
    if (cut.length > 0 && answer->n_cut < (int)(sizeof answer->cut / sizeof answer->cut[0]))
        answer->cut[answer->n_cut++] = cut;
}

/* What follows the last "=" of the text. */
static void cut_equation(struct found_answer *answer, struct span s)
{
    const char *equals = memrchr(s.at, '=', s.length);
    if (equals != NULL && (equals == s.at || strchr("<>!:=", equals[-1]) == NULL))
        answer->equation = trim(from(s, (size_t)(equals - s.at) + 1));
}

/* The first part of a statement, without the explanation that follows it. */
static void cut_statement(struct found_answer *answer)
{
    static const char *const marks[][2] = {{"$$", "$$"}, {"$", "$"}, {"\\(", "\\)"}, {"\\[", "\\]"}, {"**", "**"}};
    static const char *const reasons[] = {"because", "since", "which", "as", "so", "where", "when"};
    struct span s = answer->whole;
    for (size_t m = 0; m < sizeof marks / sizeof marks[0]; m++) {
        size_t n = strlen(marks[m][0]);
        if (s.length <= n || memcmp(s.at, marks[m][0], n) != 0)
            continue;
        const char *close = memmem(s.at + n, s.length - n, marks[m][1], n);
        size_t end = close == NULL ? 0 : (size_t)(close - s.at);
        if (end > n && !goes_on(s, end + n)) {
            add_cut(answer, between(s, n, end));
            return;
        }
    }
    for (size_t i = 1; i + 1 < s.length; i++) {
        bool word = i + 2 < s.length && is_letter(s.at[i + 2]);
        bool end = s.at[i] == ',' && s.at[i + 1] == ' ' && word && !goes_on(s, i + 2);
        if (s.at[i] == ' ' && s.at[i + 1] == '(' && !word_at(s, i + 2, "mod"))
            end = true;
        for (size_t r = 0; !end && s.at[i] == ' ' && r < sizeof reasons / sizeof reasons[0]; r++)
            end = word_at(s, i + 1, reasons[r]) && i + 1 + strlen(reasons[r]) < s.length &&
                  s.at[i + 1 + strlen(reasons[r])] == ' ';
        if (end) {
            add_cut(answer, between(s, 0, i));
            s = between(s, 0, i);
            add_cut(answer, s);
            break;
        }
    }
    cut_equation(answer, s);
}

/* --- rule 4 --- */

static void cut_last_line(struct found_answer *answer)
{
    static const char *const marks[][2] = {{"$", "$"}, {"\\(", "\\)"}, {"**", "**"}};
    struct span s = answer->whole;
    const char *newline = memrchr(s.at, '\n', s.length);
    struct span line = newline == NULL ? s : between(s, (size_t)(newline - s.at) + 1, s.length);
    if (newline != NULL)
        add_cut(answer, line);
    while (line.length > 0 && line.at[line.length - 1] == '.')
        line = between(line, 0, line.length - 1);
    for (size_t m = 0; m < sizeof marks / sizeof marks[0]; m++) {
        size_t n = strlen(marks[m][1]);
        if (line.length <= 2 * n || memcmp(line.at + line.length - n, marks[m][1], n) != 0)
            continue;
        struct span inside = {line.at, line.length - n};
        size_t start = find_last(inside, marks[m][0]);
        if (start < inside.length) {
            line = from(inside, start + n);
            add_cut(answer, line);
            break;
        }
    }
    cut_equation(answer, line);
}

struct found_answer answer_find(struct span completion)
{
    static const char close[] = "</think>";
    struct found_answer answer = {.n_cut = 0};
    struct span s = completion, out = {completion.at, 0}, row = {completion.at, 0};
    size_t end = find_last(s, close), value = 0;
    if (end < s.length && trim(from(s, end + sizeof close - 1)).length > 0)
        s = from(s, end + sizeof close - 1);
    else
        s.length = end;
    s = within_answer_tags(s);
    if (last_boxed(s, &out, &row) || after_hashes(s, &out)) {
        answer.whole = row.length > 0 ? row : out;
    } else if (last_statement(s, &value)) {
        answer.whole = sentence(s, value);
        cut_statement(&answer);
    } else {
        answer.whole = trim(s);
        cut_last_line(&answer);
    }
    return answer;
}

struct span answer_expected(struct span text)
{
    struct span s = within_answer_tags(text), out = {text.at, 0}, row = {text.at, 0};
    if (last_boxed(s, &out, &row))
        return row.length > 0 ? row : out;
    return after_hashes(s, &out) ? out : trim(s);
}
