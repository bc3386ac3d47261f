/* Whether a stated answer is the expected one, both as trees (answer_tree.c). The rules are in answer.c.
 *
 * The two are not the same in their parts: an equation that is stated where none is expected stands for its last side,
 * and a set may be stated where an inequality is expected, as math-verify has it. */
#include "reward/answer_internal.h"

enum { BUDGET = 200000, MOST_ELEMENTS = 512 };

struct comparison {
    const struct tree *a, *b; /* stated, expected */
    long budget;              /* comparisons of nodes that may still be made */
};

static cohort_status same(struct comparison *c, const struct node *a, const struct node *b, bool *equal,
                          cohort_error *err);

static const struct node *next_of(const struct tree *tree, const struct node *node)
{
    return node->next < 0 ? NULL : &tree->nodes[node->next];
}

static const struct node *first_of(const struct tree *tree, const struct node *node)
{
    return node->first < 0 ? NULL : &tree->nodes[node->first];
}

static const struct node *last_of(const struct tree *tree, const struct node *node)
{
    const struct node *last = first_of(tree, node);
    while (last != NULL && last->next >= 0)
        last = next_of(tree, last);
    return last;
}

static cohort_status same_tokens(struct span a, struct span b, bool *equal, cohort_error *err)
{
    struct text x = {0}, y = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(answer_tokens(a, &x, err));
    TRY_GOTO(answer_tokens(b, &y, err));
    *equal = x.length > 0 && x.length == y.length && memcmp(x.data, y.data, x.length) == 0;
cleanup:
    text_free(&x);
    text_free(&y);
    return status;
}

/* --- values --- */

static bool same_value(const struct node *a, const struct node *b)
{
    if (!answer_same_unit(a->unit, b->unit))
        return false;
    if (a->value.percent != b->value.percent) {
        if (a->unit[0] != '\0' || b->unit[0] != '\0')
            return false;
        /* 50% is 50 of what is counted in percent, and 0.5 of what is not. */
        const struct value x = value_plain(a->value), y = value_plain(b->value);
        return value_same(&a->value, &b->value) || value_same(&x, &y);
    }
    return value_same(&a->value, &b->value);
}

/* --- lists --- */

static cohort_status same_in_order(struct comparison *c, const struct node *a, const struct node *b, bool *equal,
                                   cohort_error *err)
{
    const struct node *x = first_of(c->a, a), *y = first_of(c->b, b);
    *equal = a->n == b->n;
    for (; *equal && x != NULL && y != NULL; x = next_of(c->a, x), y = next_of(c->b, y))
        TRY(same(c, x, y, equal, err));
    return COHORT_OK;
}

/* Each element of either is one of the other; where they are no sets, of those that are not taken yet. */
static cohort_status same_in_any_order(struct comparison *c, const struct node *a, const struct node *b, bool sets,
                                       bool *equal, cohort_error *err)
{
    bool *taken = NULL;
    cohort_status status = COHORT_OK;
    *equal = (sets || a->n == b->n) && a->n <= MOST_ELEMENTS && b->n <= MOST_ELEMENTS && (a->n > 0) == (b->n > 0);
    if (!*equal)
        return COHORT_OK;
    TRY(mem_alloc(&taken, (size_t)b->n + 1, sizeof *taken, "answer", err));
    for (const struct node *x = first_of(c->a, a); *equal && x != NULL; x = next_of(c->a, x)) {
        bool found = false;
        int i = 0;
        for (const struct node *y = first_of(c->b, b); y != NULL && !(found && !sets); y = next_of(c->b, y), i++) {
            bool one = false;
            if (!sets && taken[i])
                continue;
            TRY_GOTO(same(c, x, y, &one, err));
            taken[i] = taken[i] || one;
            found = found || one;
        }
        *equal = found;
    }
    for (int i = 0; *equal && i < b->n; i++)
        *equal = taken[i];
cleanup:
    mem_free(taken);
    return status;
}

static bool is_brackets(const struct node *node, char open, char close)
{
    return node->open == open && node->close == close;
}

static cohort_status same_list(struct comparison *c, const struct node *a, const struct node *b, bool *equal,
                               cohort_error *err)
{
    const bool a_set = a->open == '{', b_set = b->open == '{';
    *equal = false;
    if ((a_set || a->open == '\0') && (b_set || b->open == '\0'))
        return same_in_any_order(c, a, b, a_set && b_set, equal, err);
    /* 1, 2 for (1, 2): brackets that are left away. */
    if (is_brackets(a, b->open, b->close) || (a->open == '\0' && is_brackets(b, '(', ')')) ||
        (b->open == '\0' && is_brackets(a, '(', ')')))
        return same_in_order(c, a, b, equal, err);
    return COHORT_OK;
}

/* --- relations --- */

static bool is_equation(const struct tree *tree, const struct node *node)
{
    if (node->kind != NODE_RELATION)
        return false;
    const struct node *side = next_of(tree, first_of(tree, node));
    for (; side != NULL; side = next_of(tree, side))
        if (side->operation != '=' && side->operation != 'i')
            return false;
    return true;
}

/* x, x_1, f(x), AB, \angle ABC, (x, y), "the area": what has no sign of operation, and digits only where they belong to a
 * name. */
static bool is_name(const struct node *node)
{
    const struct span s = node->text;
    if (s.length == 0 || !(is_letter(s.at[0]) || s.at[0] == '\\' || s.at[0] == '(') ||
        (node->kind == NODE_VALUE && node->value.constant))
        return false;
    for (size_t i = 0; i < s.length; i++) {
        if (memchr("+-*/^!%", s.at[i], sizeof "+-*/^!%" - 1) != NULL)
            return false;
        if (is_digit(s.at[i]) && (i == 0 || s.at[i - 1] == ' '))
            return false;
    }
    return true;
}

/* Whether all sides are the same number: 6 * 7 = 42. */
static bool is_true(const struct tree *tree, const struct node *node)
{
    const struct node *first = first_of(tree, node);
    for (const struct node *side = first; side != NULL; side = next_of(tree, side))
        if (side->kind != NODE_VALUE || !side->value.constant || side->operation == 'i' ||
            !value_same(&first->value, &side->value))
            return false;
    return true;
}

/* The difference of the sides around a relation. */
static bool difference(const struct node *left, const struct node *right, struct value *out)
{
    if (left->kind != NODE_VALUE || right->kind != NODE_VALUE)
        return false;
    *out = value_add(left->value, value_negate(value_plain(right->value)));
    return true;
}

static char mirrored(char operation)
{
    switch (operation) {
    case '<': return '>';
    case '>': return '<';
    case 'l': return 'g';
    case 'g': return 'l';
    default: return operation;
    }
}

/* One link of a chain each: their differences are multiples, in the same direction. */
static bool same_link(const struct node *a, const struct node *a_right, char a_operation, const struct node *b,
                      const struct node *b_right)
{
    struct value x, y;
    bool positive = true;
    if (!difference(a, a_right, &x) || !difference(b, b_right, &y) || !value_proportional(&x, &y, &positive))
        return false;
    return (positive ? a_operation : mirrored(a_operation)) == b_right->operation;
}

static const struct node *child_at(const struct tree *tree, const struct node *node, int i)
{
    const struct node *child = first_of(tree, node);
    while (i-- > 0)
        child = next_of(tree, child);
    return child;
}

static cohort_status same_relation(struct comparison *c, const struct node *a, const struct node *b, bool *equal,
                                   cohort_error *err)
{
    const struct node *x = first_of(c->a, a), *y = first_of(c->b, b);
    bool forth = a->n == b->n, back = forth;
    *equal = false;
    if (is_equation(c->a, a) && is_equation(c->b, b) && is_name(x) && is_name(y)) {
        bool names = false;
        TRY(same_tokens(x->text, y->text, &names, err));
        if (names)
            return same(c, last_of(c->a, a), last_of(c->b, b), equal, err);
    }
    for (int i = 0; (forth || back) && i + 1 < a->n && i < 8; i++) {
        const struct node *left = child_at(c->a, a, i), *right = next_of(c->a, left);
        const struct node *there = child_at(c->b, b, i), *mirror = child_at(c->b, b, b->n - 2 - i);
        forth = forth && same_link(left, right, right->operation, there, next_of(c->b, there));
        back = back && same_link(left, right, right->operation, mirror, next_of(c->b, mirror));
    }
    *equal = (forth || back) && a->n <= 8;
    if (!*equal)
        *equal = answer_same_set(c->a, a, c->b, b);
    return COHORT_OK;
}

/* --- all of it --- */

static bool is_set(const struct node *node)
{
    return node->kind == NODE_SETS || (node->kind == NODE_LIST && node->open != '\0');
}

static const struct node *only_element(const struct tree *tree, const struct node *node)
{
    return node->kind == NODE_LIST && node->n == 1 && (node->open == '{' || is_brackets(node, '[', ']'))
               ? first_of(tree, node)
               : node;
}

static cohort_status same(struct comparison *c, const struct node *a, const struct node *b, bool *equal,
                          cohort_error *err)
{
    *equal = false;
    if (c->budget-- <= 0 || a->text.length == 0 || b->text.length == 0)
        return COHORT_OK;
    /* An equation for its last side where there is none on the other: "x = 5" is 5, but "2x = 5" is not. */
    const bool a_equation = is_equation(c->a, a), b_equation = is_equation(c->b, b);
    if (a_equation && !b_equation && (is_name(first_of(c->a, a)) || is_true(c->a, a)))
        return same(c, last_of(c->a, a), b, equal, err);
    if (a->kind == NODE_RELATION && b->kind == NODE_RELATION)
        return same_relation(c, a, b, equal, err);
    if (b_equation && (is_name(first_of(c->b, b)) || is_true(c->b, b)))
        return same(c, a, last_of(c->b, b), equal, err);
    if (b->kind == NODE_RELATION && is_set(a)) {
        *equal = answer_same_set(c->a, a, c->b, b);
        return COHORT_OK;
    }
    if (a->kind == NODE_RELATION) /* an inequality, where none is expected */
        return b->kind == NODE_TEXT ? same_tokens(a->text, b->text, equal, err) : COHORT_OK;
    if (a->kind == NODE_SETS || b->kind == NODE_SETS) {
        *equal = answer_same_set(c->a, a, c->b, b);
        return *equal || a->kind != b->kind ? COHORT_OK : same_tokens(a->text, b->text, equal, err);
    }
    if (a->kind == NODE_LIST && b->kind == NODE_LIST)
        return same_list(c, a, b, equal, err);
    if (a->kind == NODE_LIST || b->kind == NODE_LIST) { /* {5} is 5 */
        const struct node *x = only_element(c->a, a), *y = only_element(c->b, b);
        return x == a && y == b ? COHORT_OK : same(c, x, y, equal, err);
    }
    if (a->kind == NODE_MATRIX && b->kind == NODE_MATRIX)
        return a->rows == b->rows && a->columns == b->columns ? same_in_order(c, a, b, equal, err) : COHORT_OK;
    if (a->kind == NODE_VALUE && b->kind == NODE_VALUE && !(a->word && b->word)) {
        *equal = same_value(a, b);
        return COHORT_OK;
    }
    return a->kind == NODE_MATRIX || b->kind == NODE_MATRIX ? COHORT_OK : same_tokens(a->text, b->text, equal, err);
}

cohort_status answer_compare(const struct tree *a, const struct tree *b, bool *equal, cohort_error *err)
{
    struct comparison c = {a, b, BUDGET};
    return same(&c, &a->nodes[0], &b->nodes[0], equal, err);
}
