/* Subsets of the real numbers. The ends of all intervals and all single numbers of both sets cut the line into points and
 * the gaps between them; either set contains each of these whole or not at all, so they are equal if they contain the
 * same. */
#include "reward/answer_internal.h"

enum { MOST_ENDS = 64, SET_DEPTH = 6 };

/* A point is numbered 2k where end k is, the gap behind it 2k + 1. */
struct line {
    const struct value *ends[MOST_ENDS]; /* [n], ascending and different */
    int n;
    const struct node *symbol; /* of inequalities */
};

static const struct node *child_of(const struct tree *tree, const struct node *node, int i)
{
    int32_t at = node->first;
    while (i-- > 0 && at >= 0)
        at = tree->nodes[at].next;
    return at < 0 ? NULL : &tree->nodes[at];
}

static bool is_number(const struct node *node)
{
    return node->kind == NODE_VALUE && node->value.constant && !node->value.percent && node->unit[0] == '\0';
}

static bool add_end(struct line *line, const struct value *end)
{
    int at = line->n, order = 0;
    if (line->n == MOST_ENDS || end->lane[0].im != 0.0)
        return false;
    for (; at > 0; at--) {
        if (!value_order(line->ends[at - 1], end, &order))
            return false;
        if (order == 0)
            return true;
        if (order < 0)
            break;
    }
    memmove(&line->ends[at + 1], &line->ends[at], (size_t)(line->n - at) * sizeof line->ends[0]);
    line->ends[at] = end;
    line->n++;
    return true;
}

/* 2k of an end that is on the line. */
static int place_of(const struct line *line, const struct value *end)
{
    int order = 1;
    for (int k = 0; k < line->n; k++)
        if (value_order(line->ends[k], end, &order) && order == 0)
            return 2 * k;
    return -1;
}

static bool is_symbol(const struct node *node)
{
    return node->kind == NODE_VALUE && !node->value.constant && node->value.exact && node->text.length > 0 &&
           (node->text.length == 1 || node->text.at[0] == '\\' || node->text.at[1] == '_');
}

/* An inequality of one symbol: its ends are added. In two of them the symbol is the same. */
static bool add_relation(struct line *line, const struct tree *tree, const struct node *node)
{
    const struct node *symbol = NULL;
    for (int i = 0; i < node->n; i++) {
        const struct node *side = child_of(tree, node, i);
        if (i > 0 && strchr("<>lgn", side->operation) == NULL)
            return false;
        if (is_number(side)) {
            if (!add_end(line, &side->value))
                return false;
        } else if (!is_symbol(side) || symbol != NULL) {
            return false;
        } else {
            symbol = side;
        }
    }
    if (symbol == NULL || node->n > 3 || (line->symbol != NULL && !value_same(&line->symbol->value, &symbol->value)))
        return false;
    line->symbol = symbol;
    return true;
}

static bool is_interval(const struct tree *tree, const struct node *node)
{
    return node->kind == NODE_LIST && node->n == 2 && node->open != '\0' && node->open != '{' &&
           is_number(child_of(tree, node, 0)) && is_number(child_of(tree, node, 1));
}

static bool add_ends(struct line *line, const struct tree *tree, const struct node *node, int depth)
{
    if (depth == SET_DEPTH)
        return false;
    switch (node->kind) {
    case NODE_LIST:
        if (node->open != '{' && !is_interval(tree, node))
            return false;
        for (int32_t at = node->first; at >= 0; at = tree->nodes[at].next)
            if (!is_number(&tree->nodes[at]) || !add_end(line, &tree->nodes[at].value))
                return false;
        return true;
    case NODE_SETS:
        for (int32_t at = node->first; at >= 0; at = tree->nodes[at].next)
            if (!add_ends(line, tree, &tree->nodes[at], depth + 1))
                return false;
        return true;
    case NODE_RELATION: return add_relation(line, tree, node);
    default: return false;
    }
}

static bool relation_holds(int left, char operation, int right)
{
    switch (operation) {
    case '<': return left < right;
    case '>': return left > right;
    case 'l': return left <= right;
    case 'g': return left >= right;
    default: return left != right;
    }
}

static bool contains(const struct line *line, const struct tree *tree, const struct node *node, int place)
{
    bool in = false;
    if (node->kind == NODE_SETS) {
        for (int32_t at = node->first; at >= 0; at = tree->nodes[at].next) {
            const struct node *part = &tree->nodes[at];
            const bool has = contains(line, tree, part, place);
            in = part->operation == '\0'  ? has
                 : part->operation == 'u' ? in || has
                 : part->operation == 'n' ? in && has
                                          : in && !has;
        }
        return in;
    }
    if (node->kind == NODE_RELATION) {
        in = true;
        for (int i = 1; i < node->n; i++) {
            const struct node *left = child_of(tree, node, i - 1), *right = child_of(tree, node, i);
            in = in && relation_holds(is_number(left) ? place_of(line, &left->value) : place, right->operation,
                                      is_number(right) ? place_of(line, &right->value) : place);
        }
        return in;
    }
    if (node->open == '{') {
        for (int32_t at = node->first; !in && at >= 0; at = tree->nodes[at].next)
            in = place_of(line, &tree->nodes[at].value) == place;
        return in;
    }
    const int low = place_of(line, &child_of(tree, node, 0)->value),
              high = place_of(line, &child_of(tree, node, 1)->value);
    return (place > low || (place == low && node->open == '[')) &&
           (place < high || (place == high && node->close == ']'));
}

bool answer_same_set(const struct tree *a, const struct node *x, const struct tree *b, const struct node *y)
{
    struct value infinity = value_infinity(), minus = value_negate(infinity);
    struct line line = {.n = 0};
    if (!add_end(&line, &minus) || !add_end(&line, &infinity) || !add_ends(&line, a, x, 0) || !add_ends(&line, b, y, 0))
        return false;
    for (int place = 1; place < 2 * (line.n - 1); place++)
        if (contains(&line, a, x, place) != contains(&line, b, y, place))
            return false;
    return true;
}
