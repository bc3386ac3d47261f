/* Tests: what stands behind "is", and the names that select and reject take. */
#include "text/jinja_internal.h"

#include <string.h>
#include <utf8proc.h>

static bool is_sequence(const struct jinja_value *value)
{
    return value->kind == KIND_STRING || value->kind == KIND_DICT || value->kind == KIND_UNDEFINED ||
           (value->kind == KIND_LIST && value->u.list->shape <= SHAPE_RANGE);
}

static bool is_same(const struct jinja_value *a, const struct jinja_value *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case KIND_NONE: return true;
    case KIND_BOOL: return a->u.boolean == b->u.boolean;
    case KIND_INT: return a->u.integer == b->u.integer;
    case KIND_STRING: return jinja_string_equal(a->u.string, b->u.string);
    case KIND_LIST: return a->u.list == b->u.list;
    case KIND_DICT: return a->u.dict == b->u.dict || (a->u.dict->json != NULL && a->u.dict->json == b->u.dict->json);
    default: return a->u.missing == b->u.missing;
    }
}

/* Python's islower or isupper of a value's text: it has letters with case, and all of them are this one. */
static cohort_status has_case(struct jinja_call *call, utf8proc_category_t wanted, struct jinja_value *out)
{
    const struct jinja_string *string = NULL;
    bool any = false, all = true;
    TRY(jinja_to_string(call->run, &call->self, &string));
    TRY(jinja_step(call->run, string->length / 4));
    for (size_t at = 0; at < string->length;) {
        uint32_t c = 0;
        at += utf8_decode(string->bytes + at, &c);
        const utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
        const bool cased =
            category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
        any |= cased && category == wanted;
        all &= !cased || category == wanted;
    }
    *out = jinja_bool(any && all);
    return COHORT_OK;
}

cohort_status jinja_is_lower(struct jinja_call *call, struct jinja_value *out)
{
    return has_case(call, UTF8PROC_CATEGORY_LL, out);
}

cohort_status jinja_is_upper(struct jinja_call *call, struct jinja_value *out)
{
    return has_case(call, UTF8PROC_CATEGORY_LU, out);
}

static cohort_status remainder_is(struct jinja_call *call, const struct jinja_value *divisor, int64_t wanted,
                                  struct jinja_value *out)
{
    struct jinja_value rest;
    const struct jinja_value zero = jinja_int(wanted);
    bool same = false;
    TRY(jinja_operate(call->run, OP_MOD, &call->self, divisor, &rest));
    TRY(jinja_equal(call->run, &rest, &zero, &same));
    *out = jinja_bool(same);
    return COHORT_OK;
}

static cohort_status test_odd(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_value two = jinja_int(2);
    return remainder_is(call, &two, 1, out);
}

static cohort_status test_even(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_value two = jinja_int(2);
    return remainder_is(call, &two, 0, out);
}

static cohort_status test_divisibleby(struct jinja_call *call, struct jinja_value *out)
{
    return remainder_is(call, &call->arg[0], 0, out);
}

static cohort_status compare_as(struct jinja_call *call, enum jinja_operator op, struct jinja_value *out)
{
    bool holds = false;
    TRY(jinja_compare(call->run, op, &call->self, &call->arg[0], &holds));
    *out = jinja_bool(holds);
    return COHORT_OK;
}

#define COMPARISON(name, op)                                                                                           \
    static cohort_status test_##name(struct jinja_call *call, struct jinja_value *out)                                 \
    {                                                                                                                  \
        return compare_as(call, op, out);                                                                              \
    }
COMPARISON(eq, OP_EQ)
COMPARISON(ne, OP_NE)
COMPARISON(lt, OP_LT)
COMPARISON(le, OP_LE)
COMPARISON(gt, OP_GT)
COMPARISON(ge, OP_GE)
COMPARISON(in, OP_IN)

/* A test that looks at the value alone. */
#define PREDICATE(name, condition)                                                                                     \
    static cohort_status test_##name(struct jinja_call *call, struct jinja_value *out)                                 \
    {                                                                                                                  \
        const struct jinja_value *v = &call->self;                                                                     \
        *out = jinja_bool(condition);                                                                                  \
        return COHORT_OK;                                                                                              \
    }
PREDICATE(defined, v->kind != KIND_UNDEFINED)
PREDICATE(undefined, v->kind == KIND_UNDEFINED)
PREDICATE(none, v->kind == KIND_NONE)
PREDICATE(boolean, v->kind == KIND_BOOL)
PREDICATE(true, v->kind == KIND_BOOL && v->u.boolean)
PREDICATE(false, v->kind == KIND_BOOL && !v->u.boolean)
PREDICATE(integer, v->kind == KIND_INT)
PREDICATE(float, v->kind == KIND_FLOAT)
PREDICATE(number, v->kind == KIND_INT || v->kind == KIND_FLOAT || v->kind == KIND_BOOL)
PREDICATE(string, v->kind == KIND_STRING)
PREDICATE(mapping, v->kind == KIND_DICT)
PREDICATE(sequence, is_sequence(v))
PREDICATE(iterable, is_sequence(v) || v->kind == KIND_LIST || v->kind == KIND_LOOP)
PREDICATE(callable,
          v->kind == KIND_FUNCTION || v->kind == KIND_MACRO || v->kind == KIND_LOOP || v->kind == KIND_UNDEFINED)
PREDICATE(escaped, v->kind == KIND_STRING && v->u.string->safe)
PREDICATE(sameas, is_same(v, &call->arg[0]))

static cohort_status exists(struct jinja_call *call, const struct jinja_builtin *(*find)(const char *name),
                            struct jinja_value *out)
{
    char name[64] = "";
    if (call->self.kind == KIND_STRING && call->self.u.string->length < sizeof name) {
        memcpy(name, call->self.u.string->bytes, call->self.u.string->length);
        name[call->self.u.string->length] = '\0';
    }
    *out = jinja_bool(find(name) != NULL);
    return COHORT_OK;
}

static cohort_status test_filter(struct jinja_call *call, struct jinja_value *out)
{
    return exists(call, jinja_find_filter, out);
}

static cohort_status test_test(struct jinja_call *call, struct jinja_value *out)
{
    return exists(call, jinja_find_test, out);
}

const struct jinja_builtin jinja_test_table[] = {
    {.name = "defined", .parameters = "", .run = test_defined},
    {.name = "undefined", .parameters = "", .run = test_undefined},
    {.name = "none", .parameters = "", .run = test_none},
    {.name = "string", .parameters = "", .run = test_string},
    {.name = "mapping", .parameters = "", .run = test_mapping},
    {.name = "sequence", .parameters = "", .run = test_sequence},
    {.name = "iterable", .parameters = "", .run = test_iterable},
    {.name = "boolean", .parameters = "", .run = test_boolean},
    {.name = "true", .parameters = "", .run = test_true},
    {.name = "false", .parameters = "", .run = test_false},
    {.name = "integer", .parameters = "", .run = test_integer},
    {.name = "float", .parameters = "", .run = test_float},
    {.name = "number", .parameters = "", .run = test_number},
    {.name = "callable", .parameters = "", .run = test_callable},
    {.name = "escaped", .parameters = "", .run = test_escaped},
    {.name = "lower", .parameters = "", .run = jinja_is_lower},
    {.name = "upper", .parameters = "", .run = jinja_is_upper},
    {.name = "odd", .parameters = "", .run = test_odd},
    {.name = "even", .parameters = "", .run = test_even},
    {.name = "divisibleby", .parameters = "num", .required = 1, .run = test_divisibleby},
    {.name = "sameas", .parameters = "other", .required = 1, .run = test_sameas},
    {.name = "eq", .parameters = "other", .required = 1, .run = test_eq},
    {.name = "==", .parameters = "other", .required = 1, .run = test_eq},
    {.name = "equalto", .parameters = "other", .required = 1, .run = test_eq},
    {.name = "ne", .parameters = "other", .required = 1, .run = test_ne},
    {.name = "!=", .parameters = "other", .required = 1, .run = test_ne},
    {.name = "lt", .parameters = "other", .required = 1, .run = test_lt},
    {.name = "<", .parameters = "other", .required = 1, .run = test_lt},
    {.name = "lessthan", .parameters = "other", .required = 1, .run = test_lt},
    {.name = "le", .parameters = "other", .required = 1, .run = test_le},
    {.name = "<=", .parameters = "other", .required = 1, .run = test_le},
    {.name = "gt", .parameters = "other", .required = 1, .run = test_gt},
    {.name = ">", .parameters = "other", .required = 1, .run = test_gt},
    {.name = "greaterthan", .parameters = "other", .required = 1, .run = test_gt},
    {.name = "ge", .parameters = "other", .required = 1, .run = test_ge},
    {.name = ">=", .parameters = "other", .required = 1, .run = test_ge},
    {.name = "in", .parameters = "seq", .required = 1, .run = test_in},
    {.name = "filter", .parameters = "", .run = test_filter},
    {.name = "test", .parameters = "", .run = test_test},
    {.name = NULL}};
