/* Operators with Python's meaning: arithmetic, order, membership, slices. */
#include "text/jinja_internal.h"

#include <math.h>
#include <string.h>

static const char *const OPERATOR_TEXTS[] = {
    "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};

static cohort_status fail_types(struct jinja_run *run, enum jinja_operator op, const struct jinja_value *left,
                                const struct jinja_value *right)
{
    if (left->kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, left);
    if (right->kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, right);
    return jinja_fail(run, "'%s' is not defined for a %s and a %s", OPERATOR_TEXTS[op], jinja_type_name(left),
                      jinja_type_name(right));
}

/* ---- numbers ---- */

static bool is_integer(const struct jinja_value *value) { return value->kind == KIND_INT || value->kind == KIND_BOOL; }

static int64_t integer_of(const struct jinja_value *value)
{
    return value->kind == KIND_BOOL ? value->u.boolean : value->u.integer;
}

static double real_of(const struct jinja_value *value)
{
    return value->kind == KIND_FLOAT ? value->u.real : (double)integer_of(value);
}

static struct jinja_value real_value(double real) { return (struct jinja_value){.kind = KIND_FLOAT, .u.real = real}; }

static cohort_status fail_large(struct jinja_run *run) { return jinja_fail(run, "an integer does not fit 64 bits"); }

static cohort_status integer_power(struct jinja_run *run, int64_t base, int64_t exponent, struct jinja_value *out)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base == 0)
            return jinja_fail(run, "0 cannot be raised to a negative power");
        *out = real_value(pow((double)base, (double)exponent));
        return COHORT_OK;
    }
    while (exponent > 0) {
        if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result))
            return fail_large(run);
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
            return fail_large(run);
    }
    *out = jinja_int(result);
    return COHORT_OK;
}

static cohort_status integers(struct jinja_run *run, enum jinja_operator op, int64_t a, int64_t b,
                              struct jinja_value *out)
{
    int64_t result = 0;
    bool large = false;
    switch (op) {
    case OP_ADD: large = __builtin_add_overflow(a, b, &result); break;
    case OP_SUB: large = __builtin_sub_overflow(a, b, &result); break;
    case OP_MUL: large = __builtin_mul_overflow(a, b, &result); break;
    case OP_POW: return integer_power(run, a, b, out);
    default:
        if (b == 0)
            return jinja_fail(run, "division by zero");
        if (op == OP_DIV) {
            *out = real_value((double)a / (double)b);
            return COHORT_OK;
        }
        if (b == -1) { /* INT64_MIN / -1 does not fit */
            large = op == OP_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &result);
            break;
        }
        result = op == OP_FLOORDIV ? a / b : a % b;
        if (a % b != 0 && (a < 0) != (b < 0)) /* Python rounds down */
            result += op == OP_FLOORDIV ? -1 : b;
    }
    if (large)
        return fail_large(run);
    *out = jinja_int(result);
    return COHORT_OK;
}

/* Python's float_divmod. */
static cohort_status reals_divide(struct jinja_run *run, enum jinja_operator op, double a, double b,
                                  struct jinja_value *out)
{
    if (b == 0.0)
        return jinja_fail(run, "division by zero");
    if (op == OP_DIV) {
        *out = real_value(a / b);
        return COHORT_OK;
    }
    double rest = fmod(a, b), whole = (a - rest) / b;
    if (rest != 0.0 && (b < 0.0) != (rest < 0.0)) {
        rest += b;
        whole -= 1.0;
    } else if (rest == 0.0) {
        rest = copysign(0.0, b);
    }
    double down = floor(whole);
    if (whole == 0.0)
        down = copysign(0.0, a / b);
    else if (whole - down > 0.5)
        down += 1.0;
    *out = real_value(op == OP_MOD ? rest : down);
    return COHORT_OK;
}

static cohort_status reals(struct jinja_run *run, enum jinja_operator op, double a, double b, struct jinja_value *out)
{
    switch (op) {
    case OP_ADD: *out = real_value(a + b); return COHORT_OK;
    case OP_SUB: *out = real_value(a - b); return COHORT_OK;
    case OP_MUL: *out = real_value(a * b); return COHORT_OK;
    case OP_POW:
        if (a < 0.0 && b != floor(b))
            return jinja_fail(run, "a negative number cannot be raised to a fraction");
        if (a == 0.0 && b < 0.0)
            return jinja_fail(run, "0 cannot be raised to a negative power");
        *out = real_value(pow(a, b));
        return COHORT_OK;
    default: return reals_divide(run, op, a, b, out);
    }
}

/* ---- strings and lists ---- */

static cohort_status add_strings(struct jinja_run *run, const struct jinja_string *a, const struct jinja_string *b,
                                 struct jinja_value *out)
{
    struct jinja_value escaped;
    if (a->safe == b->safe) {
        TRY(jinja_string_concat(run, a, b, out));
    } else if (a->safe) {
        TRY(jinja_string_escape(run, b, &escaped));
        TRY(jinja_string_concat(run, a, escaped.u.string, out));
    } else {
        TRY(jinja_string_escape(run, a, &escaped));
        TRY(jinja_string_concat(run, escaped.u.string, b, out));
    }
    return a->safe || b->safe ? jinja_string_safe(run, out) : COHORT_OK;
}

static cohort_status add_lists(struct jinja_run *run, struct jinja_list *a, struct jinja_list *b,
                               struct jinja_value *out)
{
    TRY(jinja_items(run, a));
    TRY(jinja_items(run, b));
    TRY(jinja_list_new(run, a->shape, a->count + b->count, out));
    struct jinja_list *list = out->u.list;
    if (a->count > 0)
        memcpy(list->items, a->items, a->count * sizeof *list->items);
    if (b->count > 0)
        memcpy(list->items + a->count, b->items, b->count * sizeof *list->items);
    list->tag = a->tag != 0 ? a->tag : b->tag;
    return COHORT_OK;
}

/* Whether n copies of size are within what may be made: as one check, before work begins. */
static cohort_status check_copies(struct jinja_run *run, size_t size, int64_t n)
{
    size_t bytes = 0;
    if (n > 0 && (__builtin_mul_overflow(size, (size_t)n, &bytes) || bytes > (size_t)INT64_MAX / 2))
        bytes = SIZE_MAX;
    if (bytes <= INT64_MAX && (int64_t)bytes <= run->bytes_left)
        return COHORT_OK;
    return jinja_spend(run, SIZE_MAX);
}

static cohort_status repeat(struct jinja_run *run, const struct jinja_value *value, int64_t n, struct jinja_value *out)
{
    if (n < 0)
        n = 0;
    if (value->kind == KIND_STRING) {
        const struct jinja_string *string = value->u.string;
        struct jinja_builder builder;
        TRY(check_copies(run, string->length, n));
        jinja_build(&builder, run);
        for (int64_t i = 0; string->length > 0 && i < n; i++) {
            TRY(jinja_step(run, 1));
            TRY(jinja_build_string(&builder, string));
        }
        TRY(jinja_build_end(&builder, out));
        return string->safe ? jinja_string_safe(run, out) : COHORT_OK;
    }
    struct jinja_list *list = value->u.list;
    TRY(jinja_items(run, list));
    TRY(check_copies(run, list->count * sizeof *list->items, n));
    TRY(jinja_list_new(run, list->shape, list->count * (size_t)n, out));
    out->u.list->tag = list->tag;
    for (size_t i = 0; list->count > 0 && i < (size_t)n; i++)
        memcpy(out->u.list->items + i * list->count, list->items, list->count * sizeof *list->items);
    return COHORT_OK;
}

static bool can_repeat(const struct jinja_value *value)
{
    return value->kind == KIND_STRING || (value->kind == KIND_LIST && value->u.list->shape <= SHAPE_TUPLE);
}

cohort_status jinja_operate(struct jinja_run *run, enum jinja_operator op, const struct jinja_value *left,
                            const struct jinja_value *right, struct jinja_value *out)
{
    const bool whole_left = is_integer(left), whole_right = is_integer(right);
    if (whole_left && whole_right)
        return integers(run, op, integer_of(left), integer_of(right), out);
    if ((whole_left || left->kind == KIND_FLOAT) && (whole_right || right->kind == KIND_FLOAT))
        return reals(run, op, real_of(left), real_of(right), out);
    if (op == OP_ADD && left->kind == KIND_STRING && right->kind == KIND_STRING)
        return add_strings(run, left->u.string, right->u.string, out);
    if (op == OP_ADD && left->kind == KIND_LIST && can_repeat(left) && right->kind == KIND_LIST &&
        left->u.list->shape == right->u.list->shape)
        return add_lists(run, left->u.list, right->u.list, out);
    if (op == OP_MUL && can_repeat(left) && whole_right)
        return repeat(run, left, integer_of(right), out);
    if (op == OP_MUL && can_repeat(right) && whole_left)
        return repeat(run, right, integer_of(left), out);
    if (op == OP_MOD && left->kind == KIND_STRING)
        return jinja_format(run, left->u.string, right, out);
    return fail_types(run, op, left, right);
}

/* ---- comparisons ---- */

static int sign_of(double a, double b) { return a < b ? -1 : a > b; }

/* *order: less, equal, greater; *ordered false: neither (NaN). */
static cohort_status order_of(struct jinja_run *run, enum jinja_operator op, const struct jinja_value *left,
                              const struct jinja_value *right, int *order, bool *ordered)
{
    *ordered = true;
    if (is_integer(left) && is_integer(right)) {
        const int64_t a = integer_of(left), b = integer_of(right);
        *order = a < b ? -1 : a > b;
        return COHORT_OK;
    }
    if ((is_integer(left) || left->kind == KIND_FLOAT) && (is_integer(right) || right->kind == KIND_FLOAT)) {
        *order = sign_of(real_of(left), real_of(right));
        *ordered = !isnan(real_of(left)) && !isnan(real_of(right));
        return COHORT_OK;
    }
    if (left->kind == KIND_STRING && right->kind == KIND_STRING) {
        TRY(jinja_step(run, left->u.string->length / 64));
        *order = jinja_string_order(left->u.string, right->u.string);
        return COHORT_OK;
    }
    if (left->kind != KIND_LIST || right->kind != KIND_LIST || left->u.list->shape != right->u.list->shape ||
        left->u.list->shape > SHAPE_TUPLE)
        return fail_types(run, op, left, right);
    struct jinja_list *a = left->u.list, *b = right->u.list;
    TRY(jinja_items(run, a));
    TRY(jinja_items(run, b));
    TRY(jinja_enter(run));
    *order = a->count < b->count ? -1 : a->count > b->count;
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool same = false;
        TRY(jinja_step(run, 1));
        TRY(jinja_equal(run, &a->items[i], &b->items[i], &same));
        if (same)
            continue;
        TRY(order_of(run, op, &a->items[i], &b->items[i], order, ordered));
        break;
    }
    run->depth++;
    return COHORT_OK;
}

static cohort_status contains(struct jinja_run *run, const struct jinja_value *item, const struct jinja_value *in,
                              bool *out)
{
    struct jinja_value ignored;
    *out = false;
    switch (in->kind) {
    case KIND_STRING:
        if (item->kind != KIND_STRING)
            return item->kind == KIND_UNDEFINED
                       ? jinja_fail_undefined(run, item)
                       : jinja_fail(run, "only a string can be 'in' a string, not a %s", jinja_type_name(item));
        TRY(jinja_step(run, in->u.string->length / 64));
        *out = jinja_string_find(in->u.string, item->u.string, 0) != SIZE_MAX;
        return COHORT_OK;
    case KIND_DICT: return jinja_dict_get(run, in->u.dict, item, out, &ignored);
    case KIND_LIST:
    case KIND_UNDEFINED: {
        struct jinja_list *list = NULL;
        TRY(jinja_iterate(run, in, &list));
        TRY(jinja_step(run, list->count / 8));
        for (size_t i = 0; i < list->count && !*out; i++)
            TRY(jinja_equal(run, &list->items[i], item, out));
        return COHORT_OK;
    }
    default: return jinja_fail(run, "nothing can be 'in' a %s", jinja_type_name(in));
    }
}

cohort_status jinja_compare(struct jinja_run *run, enum jinja_operator op, const struct jinja_value *left,
                            const struct jinja_value *right, bool *out)
{
    int order = 0;
    bool ordered = false;
    switch (op) {
    case OP_EQ: return jinja_equal(run, left, right, out);
    case OP_NE:
        TRY(jinja_equal(run, left, right, out));
        *out = !*out;
        return COHORT_OK;
    case OP_IN: return contains(run, left, right, out);
    case OP_NOT_IN:
        TRY(contains(run, left, right, out));
        *out = !*out;
        return COHORT_OK;
    default: break;
    }
    TRY(order_of(run, op, left, right, &order, &ordered));
    if (op == OP_LT)
        *out = ordered && order < 0;
    else if (op == OP_LE)
        *out = ordered && order <= 0;
    else if (op == OP_GT)
        *out = ordered && order > 0;
    else
        *out = ordered && order >= 0;
    return COHORT_OK;
}

/* ---- slices ---- */

/* Python's slice.indices: where it begins, and how many items it has. */
static cohort_status slice_range(struct jinja_run *run, const struct jinja_value bounds[3], int64_t count,
                                 int64_t *first, int64_t *step, int64_t *n)
{
    int64_t limits[2];
    *step = 1;
    if (bounds[2].kind != KIND_NONE)
        TRY(jinja_as_int(run, &bounds[2], "the step of a slice", step));
    if (*step == 0)
        return jinja_fail(run, "the step of a slice is zero");
    if (*step < -INT64_MAX)
        *step = -INT64_MAX;
    for (size_t i = 0; i < 2; i++) {
        const int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? count - 1 : count;
        int64_t at = (i == 0) == (*step < 0) ? high : low;
        if (bounds[i].kind != KIND_NONE) {
            TRY(jinja_as_int(run, &bounds[i], "a bound of a slice", &at));
            if (at < 0)
                at = at < -count ? low : at + count;
            at = at < low ? low : at > high ? high : at;
        }
        limits[i] = at;
    }
    *first = limits[0];
    const int64_t distance = *step > 0 ? limits[1] - limits[0] : limits[0] - limits[1];
    const int64_t stride = *step > 0 ? *step : -*step;
    *n = distance > 0 ? (distance - 1) / stride + 1 : 0;
    return COHORT_OK;
}

static cohort_status slice_string(struct jinja_run *run, const struct jinja_string *string, int64_t first, int64_t step,
                                  int64_t n, struct jinja_value *out)
{
    struct jinja_builder builder;
    TRY(jinja_step(run, jinja_characters(string) == string->length ? 1 : string->length / 8));
    if (n <= 0)
        return jinja_string_part(run, string, 0, 0, out);
    if (step == 1)
        return jinja_string_part(run, string, jinja_character_at(string, (size_t)first),
                                 jinja_character_at(string, (size_t)(first + n)), out);
    size_t *starts = NULL; /* of every character, in bytes */
    const size_t count = jinja_characters(string);
    TRY(jinja_step(run, count / 8));
    TRY(jinja_take(run, &starts, count + 1, sizeof *starts));
    for (size_t i = 0, at = 0; at < string->length; at++)
        if (((unsigned char)string->bytes[at] & 0xc0u) != 0x80u)
            starts[i++] = at;
    starts[count] = string->length;
    jinja_build(&builder, run);
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = first + i * step;
        TRY(jinja_build_part(&builder, string, starts[at], starts[at + 1]));
    }
    return jinja_build_end(&builder, out);
}

cohort_status jinja_slice(struct jinja_run *run, const struct jinja_value *value, const struct jinja_value bounds[3],
                          struct jinja_value *out)
{
    int64_t first = 0, step = 0, n = 0;
    if (value->kind == KIND_STRING) {
        TRY(slice_range(run, bounds, (int64_t)jinja_characters(value->u.string), &first, &step, &n));
        return slice_string(run, value->u.string, first, step, n, out);
    }
    if (value->kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (value->kind != KIND_LIST || value->u.list->shape > SHAPE_RANGE)
        return jinja_fail(run, "a %s cannot be sliced", jinja_type_name(value));
    struct jinja_list *list = value->u.list;
    TRY(jinja_items(run, list));
    TRY(slice_range(run, bounds, (int64_t)list->count, &first, &step, &n));
    TRY(jinja_list_new(run, list->shape, (size_t)n, out));
    out->u.list->tag = list->tag;
    for (int64_t i = 0; i < n; i++)
        out->u.list->items[i] = list->items[first + i * step];
    return COHORT_OK;
}
