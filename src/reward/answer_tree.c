/* The structure of a cleaned answer: lists with and without brackets, relations, unions of sets, matrices; in their
 * leaves values (answer_expression.c) with their units, or text where there is no value.
 *
 *     answer   = part { (, | ; | and | or) part }
 *     part     = sets { (= | < | > | \le | \ge | \ne | \in | \approx) sets }
 *     sets     = operand { (\cup | \cap | \setminus) operand }
 *     operand  = \emptyset | (answer, answer ...) | [...] | \{...\} | [factor] matrix | expression [unit] */
#include "reward/answer_internal.h"

#include <stdio.h>

enum { TREE_DEPTH = 6, MOST_NODES = 512, STEPS = 40000, MOST_UNIT_WORDS = 3 };

static cohort_status build(struct tree *tree, struct span s, int depth, bool bracketed, int32_t *out,
                           cohort_error *err);

static cohort_status add_node(struct tree *tree, enum node_kind kind, struct span text, int32_t *out, cohort_error *err)
{
    TRY(mem_grow(&tree->nodes, &tree->capacity, tree->n + 1, sizeof *tree->nodes, "answer", err));
    *out = (int32_t)tree->n++;
    tree->nodes[*out] = (struct node){.kind = kind, .text = text, .first = -1, .next = -1};
    return COHORT_OK;
}

static void add_child(struct tree *tree, int32_t parent, int32_t *last, int32_t child)
{
    if (*last < 0)
        tree->nodes[parent].first = child;
    else
        tree->nodes[*last].next = child;
    tree->nodes[parent].n++;
    *last = child;
}

/* --- places in a text --- */

/* +1 and -1 at the brackets; *used: bytes of the character. */
static int nesting(struct span s, size_t i, size_t *used)
{
    *used = 1;
    if (s.at[i] == '\\' && i + 1 < s.length) {
        *used = 2;
        if (s.at[i + 1] == '{' || s.at[i + 1] == '}')
            return s.at[i + 1] == '{' ? 1 : -1;
        while (is_letter(s.at[i + 1]) && i + *used < s.length && is_letter(s.at[i + *used]))
            ++*used;
        const struct span command = {s.at + i + 1, *used - 1};
        return answer_is_word(command, "begin") - answer_is_word(command, "end");
    }
    return (s.at[i] == '(' || s.at[i] == '[' || s.at[i] == '{') - (s.at[i] == ')' || s.at[i] == ']' || s.at[i] == '}');
}

static bool is_word_at(struct span s, size_t i, const char *word)
{
    size_t n = strlen(word);
    if (i + n > s.length || memcmp(s.at + i, word, n) != 0)
        return false;
    return (i == 0 || !is_letter(s.at[i - 1])) && (i + n == s.length || !is_letter(s.at[i + n]));
}

size_t answer_conjunction(struct span s, size_t i)
{
    return is_word_at(s, i, "and") ? 3 : is_word_at(s, i, "or") ? 2 : 0;
}

/* What a place between two parts is: the bytes that separate them, and for relations and sets which. 0: none. */
typedef size_t separator(struct span s, size_t i, size_t used, char *which);

static size_t comma(struct span s, size_t i, size_t used, char *which)
{
    *which = ',';
    if (used != 1)
        return 0;
    const size_t word = i > 0 && s.at[i - 1] == ' ' ? answer_conjunction(s, i) : 0;
    if (word > 0)
        return word;
    if (s.at[i] != ',' && s.at[i] != ';')
        return 0;
    size_t next = i + 1; /* ", and" is one separator */
    while (next < s.length && s.at[next] == ' ')
        next++;
    const size_t conjunction = answer_conjunction(s, next);
    return conjunction > 0 ? next + conjunction - i : 1;
}

static size_t relation(struct span s, size_t i, size_t used, char *which)
{
    static const struct {
        const char *word;
        char which;
    } words[] = {{"\\le", 'l'}, {"\\ge", 'g'}, {"\\ne", 'n'}, {"\\in", 'i'}, {"\\approx", '='}},
      signs[] = {{"<=", 'l'}, {">=", 'g'}, {"!=", 'n'}, {":=", '='}, {"==", '='}, {"=", '='}, {"<", '<'}, {">", '>'}};
    const struct span rest = {s.at + i, s.length - i};
    for (size_t w = 0; s.at[i] == '\\' && w < sizeof words / sizeof words[0]; w++)
        if (strlen(words[w].word) == used && memcmp(rest.at, words[w].word, used) == 0) {
            *which = words[w].which;
            return used;
        }
    for (size_t w = 0; used == 1 && w < sizeof signs / sizeof signs[0]; w++) {
        const size_t n = strlen(signs[w].word);
        if (rest.length >= n && memcmp(rest.at, signs[w].word, n) == 0) {
            *which = signs[w].which;
            return n;
        }
    }
    return 0;
}

static size_t set_operation(struct span s, size_t i, size_t used, char *which)
{
    static const char *const words[] = {"\\cup", "\\cap", "\\setminus", "\\backslash"};
    for (size_t w = 0; w < sizeof words / sizeof words[0]; w++)
        if (strlen(words[w]) == used && memcmp(s.at + i, words[w], used) == 0) {
            *which = "un\\\\"[w];
            return used;
        }
    return 0;
}

struct parts {
    struct span s;
    size_t at;
    separator *separates;
    bool groups; /* commas within 1,234 separate nothing */
    char before; /* what stands before the part, 0 for the first */
    char next;
    struct span part;
};

static bool next_part(struct parts *p)
{
    const struct span s = p->s;
    size_t used = 0;
    long depth = 0;
    if (p->at > s.length)
        return false;
    p->before = p->next;
    for (size_t i = p->at; i < s.length; i += used) {
        depth += nesting(s, i, &used);
        if (depth > 0)
            continue;
        if (p->groups && is_digit(s.at[i])) {
            size_t digits = 0;
            while (i + digits < s.length && is_digit(s.at[i + digits]))
                digits++;
            const bool starts = i == 0 || (s.at[i - 1] != '.' && s.at[i - 1] != ',' && s.at[i - 1] != '_');
            used = starts ? answer_grouped((struct span){s.at + i, s.length - i}, digits) : digits;
            continue;
        }
        char which = '\0';
        const size_t bytes = p->separates(s, i, used, &which);
        if (bytes > 0) {
            p->part = answer_part(s, p->at, i);
            p->next = which;
            p->at = i + bytes;
            return true;
        }
    }
    p->part = answer_part(s, p->at, s.length);
    p->at = s.length + 1;
    return true;
}

static struct parts parts_of(struct span s, separator *separates, bool groups)
{
    return (struct parts){.s = s, .separates = separates, .groups = groups};
}

static size_t count_parts(struct parts p)
{
    size_t n = 0;
    while (next_part(&p))
        n++;
    return n;
}

/* --- leaves --- */

/* Three letters or more without a sign may be a word, or names in an order that counts: yes, ABC, but not mgh or xyz. */
static bool is_like_word(struct span s)
{
    bool telling = s.length >= WORD_LENGTH;
    for (size_t i = 0; i < s.length; i++) {
        if (!is_letter(s.at[i]))
            return false;
        telling = telling || strchr("aeiou", s.at[i]) != NULL || (s.at[i] >= 'A' && s.at[i] <= 'Z');
    }
    return s.length > 2 && telling;
}

/* A value with its unit, if the text is one; *plus_minus: there is one for each sign. */
static bool read_value(struct tree *tree, struct span s, int sign, bool bracketed, struct node *node, bool *plus_minus)
{
    struct expression e = {.sign = sign, .groups = !bracketed, .steps = tree->steps};
    bool found = false;
    *node = (struct node){.kind = NODE_VALUE, .text = s, .first = -1, .next = -1};
    /* A currency, and the sign before it. */
    const bool negative = s.length > 1 && (s.at[0] == '-' || s.at[0] == '+') &&
                          answer_currency(answer_part(s, 1, s.length)) > 0 && s.at[0] == '-';
    struct span core = s;
    if (s.length > 1 && (s.at[0] == '-' || s.at[0] == '+') && answer_currency(answer_part(s, 1, s.length)) > 0)
        core = answer_part(s, 1, s.length);
    const size_t currency = answer_currency(core);
    if (currency > 0) {
        snprintf(node->unit, sizeof node->unit, "%.*s", (int)currency, core.at);
        core = answer_part(core, currency, core.length);
    }
    for (int words = MOST_UNIT_WORDS; !found && words >= 0; words--) {
        const size_t end = answer_unit_end(core, words);
        if (end == core.length || core.length - end >= sizeof node->unit)
            continue;
        const struct span number = answer_part(core, 0, end);
        found = answer_expression(number, &e, &node->value) && node->value.constant;
        if (found) {
            const struct span unit = answer_part(core, end, core.length);
            if (currency > 0 && answer_is_percent(node->unit))
                return false;
            snprintf(node->unit, sizeof node->unit, "%.*s", (int)unit.length, unit.at);
        }
    }
    found = found || answer_expression(core, &e, &node->value);
    tree->steps = e.steps;
    *plus_minus = found && e.plus_minus;
    if (!found)
        return false;
    if (negative)
        node->value = value_negate(node->value);
    if (node->unit[0] == '\0' && e.base.length > 0 && e.base.length + 1 < sizeof node->unit)
        snprintf(node->unit, sizeof node->unit, "_%.*s", (int)e.base.length, e.base.at);
    if (node->unit[0] == '\0' && node->value.degrees)
        snprintf(node->unit, sizeof node->unit, "\xc2\xb0");
    if (answer_is_percent(node->unit)) {
        node->value.percent = true;
        node->unit[0] = '\0';
    }
    node->word = is_like_word(s);
    return true;
}

static cohort_status build_value(struct tree *tree, struct span s, bool bracketed, int32_t *out, cohort_error *err)
{
    struct node node, other;
    bool both = false, same = false;
    if (!read_value(tree, s, 1, bracketed, &node, &both))
        return add_node(tree, NODE_TEXT, s, out, err);
    if (!both || !read_value(tree, s, -1, bracketed, &other, &same)) {
        TRY(add_node(tree, NODE_VALUE, s, out, err));
        tree->nodes[*out] = node;
        return COHORT_OK;
    }
    int32_t child = 0, last = -1;
    TRY(add_node(tree, NODE_LIST, s, out, err));
    for (int i = 0; i < 2; i++) {
        TRY(add_node(tree, NODE_VALUE, s, &child, err));
        tree->nodes[child] = i == 0 ? node : other;
        add_child(tree, *out, &last, child);
    }
    return COHORT_OK;
}

/* --- operands --- */

struct brackets {
    char open, close; /* 0: none; { for sets */
    struct span inside;
};

/* Takes the brackets off that stand around the whole. */
static struct brackets read_brackets(struct span s)
{
    struct brackets found = {.inside = s};
    size_t open = s.length > 0 && s.at[0] == '\\', used = 0;
    long depth = 0;
    if (open >= s.length || (open == 1 ? s.at[1] != '{' : strchr("([", s.at[0]) == NULL))
        return found;
    for (size_t i = 0; i < s.length; i += used) {
        depth += nesting(s, i, &used);
        if (depth <= 0 && (depth < 0 || i + used < s.length))
            return found;
    }
    size_t close = open == 1 ? 2 : 1; /* bytes at the end */
    if (depth != 0 || s.length < open + 1 + close || (open == 1) != (s.at[s.length - 2] == '\\') ||
        strchr(")]}", s.at[s.length - 1]) == NULL || (s.at[s.length - 1] == '}' && open == 0))
        return found;
    found.open = s.at[open];
    found.close = s.at[s.length - 1];
    found.inside = answer_part(s, open + 1, s.length - close);
    return found;
}

static cohort_status build_list(struct tree *tree, struct span s, struct brackets brackets, int depth, int32_t *out,
                                cohort_error *err)
{
    struct parts parts = parts_of(brackets.inside, comma, brackets.open == '\0');
    int32_t child = 0, last = -1;
    TRY(add_node(tree, NODE_LIST, s, out, err));
    tree->nodes[*out].open = brackets.open;
    tree->nodes[*out].close = brackets.close;
    while (brackets.inside.length > 0 && next_part(&parts)) {
        TRY(build(tree, parts.part, depth + 1, brackets.open != '\0', &child, err));
        const struct node *node = &tree->nodes[child];
        if (node->kind == NODE_LIST && node->open == '\0' && node->n == 2) { /* \pm: two elements */
            const int32_t second = tree->nodes[node->first].next, first = node->first;
            add_child(tree, *out, &last, first);
            tree->nodes[last].next = -1;
            add_child(tree, *out, &last, second);
        } else {
            add_child(tree, *out, &last, child);
        }
    }
    return COHORT_OK;
}

/* "\begin{NAME}" at i: the length of it with the column's form of an array, and the name; 0: none. */
static size_t begins_matrix(struct span s, size_t i, struct span *name)
{
    static const char begin[] = "\\begin{";
    static const char *const names[] = {"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"};
    if (s.length - i < sizeof begin || memcmp(s.at + i, begin, sizeof begin - 1) != 0)
        return 0;
    const char *close = memchr(s.at + i, '}', s.length - i);
    if (close == NULL)
        return 0;
    *name = (struct span){s.at + i + sizeof begin - 1, (size_t)(close - s.at) - i - (sizeof begin - 1)};
    size_t length = (size_t)(close - s.at) + 1 - i;
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++)
        if (answer_is_word(*name, names[n])) {
            if (names[n][0] == 'a' && i + length < s.length && s.at[i + length] == '{') {
                close = memchr(s.at + i + length, '}', s.length - i - length);
                length = close == NULL ? 0 : (size_t)(close - s.at) + 1 - i;
            }
            return length;
        }
    return 0;
}

static size_t cell(struct span s, size_t i, size_t used, char *which)
{
    *which = s.at[i];
    if (s.at[i] == '&')
        return 1;
    return used == 2 && s.at[i] == '\\' && s.at[i + 1] == '\\' ? 2 : 0;
}

/* A matrix, with a factor before it or not; *is: whether it is one. */
static cohort_status build_matrix(struct tree *tree, struct span s, int depth, bool *is, int32_t *out,
                                  cohort_error *err)
{
    static const char begin[] = "\\begin";
    const char *found = memmem(s.at, s.length, begin, sizeof begin - 1);
    struct span name = {s.at, 0};
    struct value factor = value_integer(1);
    char end[40];
    *is = false;
    if (found == NULL)
        return COHORT_OK;
    const size_t start = (size_t)(found - s.at), opened = begins_matrix(s, start, &name);
    if (opened == 0 || name.length > 20)
        return COHORT_OK;
    const int length = snprintf(end, sizeof end, "\\end{%.*s}", (int)name.length, name.at);
    if (s.length < start + opened + (size_t)length || memcmp(s.at + s.length - length, end, (size_t)length) != 0)
        return COHORT_OK;
    struct span before = answer_part(s, 0, start);
    if (before.length > 0 && before.at[before.length - 1] == '*')
        before = answer_part(before, 0, before.length - 1);
    if (before.length == 1 && before.at[0] == '-') {
        factor = value_integer(-1);
    } else if (before.length > 0) {
        struct expression e = {.sign = 1, .groups = true, .steps = tree->steps};
        if (!answer_expression(before, &e, &factor))
            return COHORT_OK;
    }
    struct span inside = answer_part(s, start + opened, s.length - (size_t)length);
    if (inside.length >= 2 && memcmp(inside.at + inside.length - 2, "\\\\", 2) == 0) /* a row's end at the last row */
        inside = answer_part(inside, 0, inside.length - 2);
    struct parts parts = parts_of(inside, cell, false);
    int32_t child = 0, last = -1, columns = 0, in_row = 0, rows = 1;
    TRY(add_node(tree, NODE_MATRIX, s, out, err));
    *is = true;
    while (next_part(&parts)) {
        if (parts.before == '\\') {
            *is = *is && (rows == 1 || in_row == columns);
            columns = in_row;
            in_row = 0;
            rows++;
        }
        TRY(build(tree, parts.part, depth + 1, false, &child, err));
        if (before.length > 0 && tree->nodes[child].kind == NODE_VALUE)
            tree->nodes[child].value = value_multiply(tree->nodes[child].value, factor);
        else if (before.length > 0)
            *is = false;
        add_child(tree, *out, &last, child);
        in_row++;
    }
    *is = *is && (rows == 1 || in_row == columns);
    tree->nodes[*out].rows = rows;
    tree->nodes[*out].columns = in_row;
    return COHORT_OK;
}

static cohort_status build_operand(struct tree *tree, struct span s, int depth, bool bracketed, int32_t *out,
                                   cohort_error *err)
{
    static const char real[] = "\\mathbb{R}";
    bool matrix = false;
    if (answer_is_word(s, "\\emptyset") || answer_is_word(s, "\\emptyset {}"))
        return build_list(tree, s, (struct brackets){'{', '}', {s.at, 0}}, depth, out, err);
    if (answer_is_word(s, real)) { /* the interval without ends */
        int32_t child = 0, last = -1;
        TRY(add_node(tree, NODE_LIST, s, out, err));
        tree->nodes[*out].open = '(';
        tree->nodes[*out].close = ')';
        for (int i = 0; i < 2; i++) {
            TRY(add_node(tree, NODE_VALUE, s, &child, err));
            tree->nodes[child].value = i == 0 ? value_negate(value_infinity()) : value_infinity();
            add_child(tree, *out, &last, child);
        }
        return COHORT_OK;
    }
    const struct brackets brackets = read_brackets(s);
    if (brackets.open != '\0') {
        const size_t n = count_parts(parts_of(brackets.inside, comma, false));
        if (brackets.open == '{' || n > 1)
            return build_list(tree, s, brackets, depth, out, err);
        const struct span inside = brackets.inside;
        if (inside.length > 0 && (inside.at[0] == '(' || inside.at[0] == '\\')) { /* ((1,2)), [\begin{array}...] */
            TRY(build(tree, inside, depth + 1, bracketed, out, err));
            if (tree->nodes[*out].kind != NODE_TEXT)
                return COHORT_OK;
        }
    }
    TRY(build_matrix(tree, s, depth, &matrix, out, err));
    return matrix ? COHORT_OK : build_value(tree, s, bracketed, out, err);
}

/* Parts with an operation between them. */
static cohort_status build_chain(struct tree *tree, struct parts parts, enum node_kind kind, int depth, bool bracketed,
                                 int32_t *out, cohort_error *err)
{
    int32_t child = 0, last = -1;
    TRY(add_node(tree, kind, parts.s, out, err));
    while (next_part(&parts)) {
        const char operation = parts.before;
        TRY(build(tree, parts.part, depth + 1, bracketed, &child, err));
        add_child(tree, *out, &last, child);
        tree->nodes[child].operation = operation;
    }
    return COHORT_OK;
}

static cohort_status build(struct tree *tree, struct span s, int depth, bool bracketed, int32_t *out, cohort_error *err)
{
    if (depth >= TREE_DEPTH || tree->n >= MOST_NODES)
        return add_node(tree, NODE_TEXT, s, out, err);
    const struct parts lists = parts_of(s, comma, !bracketed), relations = parts_of(s, relation, false),
                       sets = parts_of(s, set_operation, false);
    if (count_parts(lists) > 1)
        return build_list(tree, s, (struct brackets){.inside = s}, depth, out, err);
    if (count_parts(relations) > 1)
        return build_chain(tree, relations, NODE_RELATION, depth, bracketed, out, err);
    if (count_parts(sets) > 1)
        return build_chain(tree, sets, NODE_SETS, depth, bracketed, out, err);
    return build_operand(tree, s, depth, bracketed, out, err);
}

cohort_status answer_tree(struct tree *tree, struct span s, cohort_error *err)
{
    int32_t root = 0;
    *tree = (struct tree){.steps = STEPS};
    s = answer_trim(s);
    if (s.length > ANSWER_LENGTH)
        return add_node(tree, NODE_TEXT, s, &root, err);
    return build(tree, s, 0, false, &root, err);
}

void answer_tree_free(struct tree *tree) { mem_free(tree->nodes); }
