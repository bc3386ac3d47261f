/* Methods of strings, lists, dicts and loops, as Python has them. Those that would change a value are undefined in
 * transformers' sandbox; here they are rows without a function. */
#include "text/jinja_internal.h"

#include <string.h>
#include <utf8proc.h>

static bool is_given(const struct jinja_value *value) { return value->kind != KIND_ABSENT && value->kind != KIND_NONE; }

static cohort_status string_argument(struct jinja_call *call, size_t at, const struct jinja_string **out)
{
    const struct jinja_value *value = &call->arg[at];
    if (value->kind == KIND_UNDEFINED)
        return jinja_fail_undefined(call->run, value);
    if (value->kind != KIND_STRING)
        return jinja_fail(call->run, "a method of a string wants a string, not a %s", jinja_type_name(value));
    *out = value->u.string;
    return COHORT_OK;
}

static cohort_status integer_argument(struct jinja_call *call, size_t at, int64_t value, int64_t *out)
{
    *out = value;
    return is_given(&call->arg[at]) ? jinja_as_int(call->run, &call->arg[at], "an argument of a method", out)
                                    : COHORT_OK;
}

/* ---- strings: parts of them ---- */

static cohort_status strip(struct jinja_call *call, bool left, bool right, struct jinja_value *out)
{
    const struct jinja_string *characters = NULL;
    if (is_given(&call->arg[0]))
        TRY(string_argument(call, 0, &characters));
    return jinja_string_strip(call->run, call->self.u.string, characters, left, right, out);
}

static cohort_status method_strip(struct jinja_call *call, struct jinja_value *out)
{
    return strip(call, true, true, out);
}

static cohort_status method_lstrip(struct jinja_call *call, struct jinja_value *out)
{
    return strip(call, true, false, out);
}

static cohort_status method_rstrip(struct jinja_call *call, struct jinja_value *out)
{
    return strip(call, false, true, out);
}

/* Parts of a string while it is split. */
struct parts {
    struct jinja_run *run;
    const struct jinja_string *string;
    struct jinja_value *items;
    size_t count, capacity;
};

static cohort_status add_part(struct parts *parts, size_t from, size_t to)
{
    TRY(jinja_grow(parts->run, &parts->items, &parts->capacity, parts->count, sizeof *parts->items));
    TRY(jinja_step(parts->run, 1));
    return jinja_string_part(parts->run, parts->string, from, to, &parts->items[parts->count++]);
}

static cohort_status end_parts(struct parts *parts, enum jinja_shape shape, struct jinja_value *out)
{
    struct jinja_value *const items = parts->items;
    TRY(jinja_list_new(parts->run, shape, 0, out));
    out->u.list->items = items != NULL ? items : out->u.list->items;
    out->u.list->count = parts->count;
    return COHORT_OK;
}

/* The last place of b in a that ends at end or before, or SIZE_MAX. */
static size_t find_last(const struct jinja_string *a, const struct jinja_string *b, size_t end)
{
    for (size_t at = end >= b->length ? end - b->length + 1 : 0; at-- > 0;)
        if (memcmp(a->bytes + at, b->bytes, b->length) == 0)
            return at;
    return SIZE_MAX;
}

/* Counts a search through all of string. */
static cohort_status step_search(struct jinja_call *call, const struct jinja_string *wanted)
{
    return jinja_step(call->run, call->self.u.string->length / 16 * (1 + wanted->length / 64));
}

/* At white space, any number of it between parts. */
static cohort_status split_blanks(struct parts *parts, int64_t limit)
{
    const struct jinja_string *string = parts->string;
    size_t at = 0;
    for (;;) {
        uint32_t c = 0;
        size_t n = 0;
        while (at < string->length && (n = utf8_decode(string->bytes + at, &c)) > 0 && jinja_is_space(c))
            at += n;
        if (at == string->length)
            return COHORT_OK;
        const size_t from = at;
        if (limit >= 0 && (int64_t)parts->count >= limit) {
            struct jinja_value rest;
            TRY(jinja_string_strip(parts->run, string, NULL, false, true, &rest));
            return add_part(parts, from, rest.u.string->length);
        }
        while (at < string->length && (n = utf8_decode(string->bytes + at, &c)) > 0 && !jinja_is_space(c))
            at += n;
        TRY(add_part(parts, from, at));
    }
}

static cohort_status method_split(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = call->self.u.string, *separator = NULL;
    struct parts parts = {.run = call->run, .string = string};
    int64_t limit = -1;
    size_t from = 0;
    TRY(integer_argument(call, 1, -1, &limit));
    if (!is_given(&call->arg[0])) {
        TRY(jinja_step(call->run, string->length / 16));
        TRY(split_blanks(&parts, limit));
        return end_parts(&parts, SHAPE_LIST, out);
    }
    TRY(string_argument(call, 0, &separator));
    if (separator->length == 0)
        return jinja_fail(call->run, "split wants a separator that is not empty");
    TRY(jinja_step(call->run, string->length / 64));
    while (limit < 0 || (int64_t)parts.count < limit) {
        const size_t found = jinja_string_find(string, separator, from);
        if (found == SIZE_MAX)
            break;
        TRY(add_part(&parts, from, found));
        from = found + separator->length;
    }
    TRY(add_part(&parts, from, string->length));
    return end_parts(&parts, SHAPE_LIST, out);
}

static cohort_status method_rsplit(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = call->self.u.string, *separator = NULL;
    struct parts parts = {.run = call->run, .string = string};
    int64_t limit = -1;
    size_t to = string->length;
    TRY(integer_argument(call, 1, -1, &limit));
    if (limit < 0)
        return method_split(call, out);
    if (!is_given(&call->arg[0]))
        return jinja_fail(call->run, "rsplit with a limit wants a separator");
    TRY(string_argument(call, 0, &separator));
    if (separator->length == 0)
        return jinja_fail(call->run, "rsplit wants a separator that is not empty");
    while ((int64_t)parts.count < limit) {
        const size_t found = find_last(string, separator, to);
        TRY(jinja_step(call->run, (to - (found == SIZE_MAX ? 0 : found)) / 16));
        if (found == SIZE_MAX)
            break;
        TRY(add_part(&parts, found + separator->length, to));
        to = found;
    }
    TRY(add_part(&parts, 0, to));
    for (size_t i = 0; i < parts.count / 2; i++) { /* found from the end */
        const struct jinja_value swap = parts.items[i];
        parts.items[i] = parts.items[parts.count - 1 - i];
        parts.items[parts.count - 1 - i] = swap;
    }
    return end_parts(&parts, SHAPE_LIST, out);
}

static cohort_status partition(struct jinja_call *call, bool last, struct jinja_value *out)
{
    const struct jinja_string *string = call->self.u.string, *separator = NULL;
    struct parts parts = {.run = call->run, .string = string};
    TRY(string_argument(call, 0, &separator));
    TRY(step_search(call, separator));
    if (separator->length == 0)
        return jinja_fail(call->run, "partition wants a separator that is not empty");
    const size_t end = string->length;
    const size_t found = last ? find_last(string, separator, end) : jinja_string_find(string, separator, 0);
    const bool none = found == SIZE_MAX;
    const size_t first = none ? (last ? 0 : end) : found, second = none ? first : found + separator->length;
    TRY(add_part(&parts, 0, first));
    TRY(add_part(&parts, first, second));
    TRY(add_part(&parts, second, end));
    return end_parts(&parts, SHAPE_TUPLE, out);
}

static cohort_status method_partition(struct jinja_call *call, struct jinja_value *out)
{
    return partition(call, false, out);
}

static cohort_status method_rpartition(struct jinja_call *call, struct jinja_value *out)
{
    return partition(call, true, out);
}

static cohort_status method_splitlines(struct jinja_call *call, struct jinja_value *out)
{
    return jinja_string_lines(call->run, call->self.u.string, jinja_truth(&call->arg[0]), out);
}

static bool has_affix(const struct jinja_string *string, const struct jinja_string *affix, bool at_end)
{
    return affix->length <= string->length &&
           memcmp(string->bytes + (at_end ? string->length - affix->length : 0), affix->bytes, affix->length) == 0;
}

static cohort_status method_removeprefix(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = call->self.u.string, *affix = NULL;
    TRY(string_argument(call, 0, &affix));
    return jinja_string_part(call->run, string, has_affix(string, affix, false) ? affix->length : 0, string->length,
                             out);
}

static cohort_status method_removesuffix(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = call->self.u.string, *affix = NULL;
    TRY(string_argument(call, 0, &affix));
    return jinja_string_part(call->run, string, 0,
                             has_affix(string, affix, true) ? string->length - affix->length : string->length, out);
}

/* ---- strings: what is in them ---- */

/* Self between the characters that arguments 1 and 2 name, as slices do. */
static cohort_status window(struct jinja_call *call, const struct jinja_string **out, size_t *offset)
{
    const struct jinja_value none = {.kind = KIND_NONE};
    const struct jinja_value bounds[3] = {is_given(&call->arg[1]) ? call->arg[1] : none,
                                          is_given(&call->arg[2]) ? call->arg[2] : none, none};
    struct jinja_value part;
    TRY(jinja_slice(call->run, &call->self, bounds, &part));
    *out = part.u.string;
    *offset = part.u.string->length > 0 ? (size_t)(part.u.string->bytes - call->self.u.string->bytes) : 0;
    return COHORT_OK;
}

static cohort_status affix_of(struct jinja_call *call, bool at_end, struct jinja_value *out)
{
    const struct jinja_string *string = NULL;
    size_t offset = 0;
    bool found = false;
    TRY(window(call, &string, &offset));
    if (call->arg[0].kind == KIND_LIST && call->arg[0].u.list->shape == SHAPE_TUPLE) {
        const struct jinja_list *list = call->arg[0].u.list;
        for (size_t i = 0; i < list->count && !found; i++)
            found = list->items[i].kind == KIND_STRING && has_affix(string, list->items[i].u.string, at_end);
    } else {
        const struct jinja_string *affix = NULL;
        TRY(string_argument(call, 0, &affix));
        found = has_affix(string, affix, at_end);
    }
    *out = jinja_bool(found);
    return COHORT_OK;
}

static cohort_status method_startswith(struct jinja_call *call, struct jinja_value *out)
{
    return affix_of(call, false, out);
}

static cohort_status method_endswith(struct jinja_call *call, struct jinja_value *out)
{
    return affix_of(call, true, out);
}

/* The index of a character, or -1. */
static cohort_status find(struct jinja_call *call, bool last, struct jinja_value *out)
{
    const struct jinja_string *wanted = NULL, *string = NULL;
    size_t offset = 0;
    TRY(string_argument(call, 0, &wanted));
    TRY(step_search(call, wanted));
    TRY(window(call, &string, &offset));
    const size_t found = last ? find_last(string, wanted, string->length) : jinja_string_find(string, wanted, 0);
    *out = jinja_int(-1);
    if (found == SIZE_MAX)
        return COHORT_OK;
    const struct jinja_string before = {
        .bytes = call->self.u.string->bytes, .length = offset + found, .characters = UNCOUNTED};
    *out = jinja_int((int64_t)jinja_characters(&before));
    return COHORT_OK;
}

static cohort_status method_find(struct jinja_call *call, struct jinja_value *out) { return find(call, false, out); }

static cohort_status method_rfind(struct jinja_call *call, struct jinja_value *out) { return find(call, true, out); }

static cohort_status method_index(struct jinja_call *call, struct jinja_value *out)
{
    TRY(find(call, false, out));
    return out->u.integer >= 0 ? COHORT_OK : jinja_fail(call->run, "index: the string does not contain that");
}

static cohort_status method_rindex(struct jinja_call *call, struct jinja_value *out)
{
    TRY(find(call, true, out));
    return out->u.integer >= 0 ? COHORT_OK : jinja_fail(call->run, "rindex: the string does not contain that");
}

static cohort_status method_count(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *wanted = NULL, *string = NULL;
    size_t offset = 0;
    int64_t n = 0;
    TRY(string_argument(call, 0, &wanted));
    TRY(step_search(call, wanted));
    TRY(window(call, &string, &offset));
    if (wanted->length == 0)
        n = (int64_t)jinja_characters(string) + 1;
    for (size_t at = 0; wanted->length > 0 && (at = jinja_string_find(string, wanted, at)) != SIZE_MAX; n++)
        at += wanted->length;
    *out = jinja_int(n);
    return COHORT_OK;
}

/* Whether there are characters, and all of them are in the set of categories. */
static cohort_status all_in(struct jinja_call *call, uint32_t categories, struct jinja_value *out)
{
    const struct jinja_string *string = call->self.u.string;
    bool all = string->length > 0;
    TRY(jinja_step(call->run, string->length / 4));
    for (size_t at = 0; at < string->length && all;) {
        uint32_t c = 0;
        at += utf8_decode(string->bytes + at, &c);
        all = (categories >> utf8proc_category((utf8proc_int32_t)c) & 1) != 0;
    }
    *out = jinja_bool(all);
    return COHORT_OK;
}

enum {
    LETTERS = 1 << UTF8PROC_CATEGORY_LU | 1 << UTF8PROC_CATEGORY_LL | 1 << UTF8PROC_CATEGORY_LT |
              1 << UTF8PROC_CATEGORY_LM | 1 << UTF8PROC_CATEGORY_LO,
    DECIMALS = 1 << UTF8PROC_CATEGORY_ND,
    NUMBERS = DECIMALS | 1 << UTF8PROC_CATEGORY_NL | 1 << UTF8PROC_CATEGORY_NO
};

static cohort_status method_isalpha(struct jinja_call *call, struct jinja_value *out)
{
    return all_in(call, LETTERS, out);
}

static cohort_status method_isalnum(struct jinja_call *call, struct jinja_value *out)
{
    return all_in(call, LETTERS | NUMBERS, out);
}

static cohort_status method_isdecimal(struct jinja_call *call, struct jinja_value *out)
{
    return all_in(call, DECIMALS, out);
}

static cohort_status method_isnumeric(struct jinja_call *call, struct jinja_value *out)
{
    return all_in(call, NUMBERS, out);
}

static cohort_status method_isspace(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_value rest;
    TRY(jinja_string_strip(call->run, call->self.u.string, NULL, true, true, &rest));
    *out = jinja_bool(call->self.u.string->length > 0 && rest.u.string->length == 0);
    return COHORT_OK;
}

static cohort_status method_isascii(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = call->self.u.string;
    *out = jinja_bool(jinja_characters(string) == string->length);
    return jinja_step(call->run, string->length / 64);
}

/* ---- strings: new ones ---- */

#define CASE_METHOD(name, how)                                                                                         \
    static cohort_status method_##name(struct jinja_call *call, struct jinja_value *out)                               \
    {                                                                                                                  \
        return jinja_string_case(call->run, call->self.u.string, how, out);                                            \
    }
CASE_METHOD(upper, CASE_UPPER)
CASE_METHOD(lower, CASE_LOWER)
CASE_METHOD(title, CASE_TITLE)
CASE_METHOD(capitalize, CASE_CAPITALIZE)
CASE_METHOD(swapcase, CASE_SWAP)

static cohort_status pad(struct jinja_call *call, enum jinja_pad where, struct jinja_value *out)
{
    int64_t width = 0;
    char fill[5] = " ";
    TRY(integer_argument(call, 0, 0, &width));
    if (call->arg[1].kind != KIND_ABSENT) {
        const struct jinja_string *string = NULL;
        TRY(string_argument(call, 1, &string));
        if (jinja_characters(string) != 1)
            return jinja_fail(call->run, "a string is filled up with one character");
        memcpy(fill, string->bytes, string->length);
        fill[string->length] = '\0';
    }
    return jinja_string_pad(call->run, call->self.u.string, width, fill, where, out);
}

static cohort_status method_center(struct jinja_call *call, struct jinja_value *out)
{
    return pad(call, PAD_BOTH, out);
}

static cohort_status method_ljust(struct jinja_call *call, struct jinja_value *out)
{
    return pad(call, PAD_RIGHT, out);
}

static cohort_status method_rjust(struct jinja_call *call, struct jinja_value *out) { return pad(call, PAD_LEFT, out); }

static cohort_status method_zfill(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = call->self.u.string;
    const bool sign = string->length > 0 && (string->bytes[0] == '-' || string->bytes[0] == '+');
    int64_t width = 0;
    struct jinja_value digits, mark, filled;
    TRY(integer_argument(call, 0, 0, &width));
    if (!sign)
        return jinja_string_pad(call->run, string, width, "0", PAD_LEFT, out);
    TRY(jinja_string_part(call->run, string, 0, 1, &mark));
    TRY(jinja_string_part(call->run, string, 1, string->length, &digits));
    TRY(jinja_string_pad(call->run, digits.u.string, width > 0 ? width - 1 : 0, "0", PAD_LEFT, &filled));
    return jinja_string_concat(call->run, mark.u.string, filled.u.string, out);
}

static cohort_status method_replace(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *from = NULL, *to = NULL;
    int64_t limit = -1;
    TRY(string_argument(call, 0, &from));
    TRY(string_argument(call, 1, &to));
    TRY(integer_argument(call, 2, -1, &limit));
    if (call->self.u.string->safe && !to->safe) { /* as all that gets into a safe string */
        struct jinja_value escaped;
        TRY(jinja_string_escape(call->run, to, &escaped));
        to = escaped.u.string;
    }
    return jinja_string_replace(call->run, call->self.u.string, from, to, limit, out);
}

static cohort_status method_join(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    const struct jinja_string *between = call->self.u.string;
    struct jinja_list *list = NULL;
    struct jinja_builder builder;
    if (call->arg[0].kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, &call->arg[0]);
    TRY(jinja_iterate(run, &call->arg[0], &list));
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].kind != KIND_STRING)
            return jinja_fail(run, "join wants strings, not a %s", jinja_type_name(&list->items[i]));
    jinja_build(&builder, run);
    for (size_t i = 0; i < list->count; i++) {
        TRY(jinja_step(run, 1));
        if (i > 0)
            TRY(jinja_build_string(&builder, between));
        TRY(jinja_build_string(&builder, list->items[i].u.string));
    }
    return jinja_build_end(&builder, out);
}

/* One place of str.format: {} {0} {name}; at is behind the brace. */
static cohort_status format_place(struct jinja_call *call, size_t *at, size_t *next, const struct jinja_value **out)
{
    const struct jinja_string *format = call->self.u.string;
    const char *close = memchr(format->bytes + *at, '}', format->length - *at);
    if (close == NULL)
        return jinja_fail(call->run, "format: '}' is missing");
    const struct jinja_string name = {.bytes = format->bytes + *at, .length = (size_t)(close - format->bytes) - *at};
    size_t index = 0, digits = 0;
    while (digits < name.length && digits < 6 && name.bytes[digits] >= '0' && name.bytes[digits] <= '9')
        index = index * 10 + (size_t)(name.bytes[digits++] - '0');
    *at += name.length + 1;
    *out = NULL;
    if (name.length == 0)
        index = (*next)++;
    if (digits == name.length && index < call->args->count)
        *out = &call->args->values[index];
    for (size_t i = 0; *out == NULL && i < call->args->n_named; i++)
        if (jinja_string_equal(call->args->named[i].name, &name))
            *out = &call->args->named[i].value;
    if (*out == NULL)
        return jinja_fail(call->run, "format knows {}, {0} and {name} of its arguments, not '{%.*s}'",
                          (int)(name.length < 100 ? name.length : 100), name.bytes);
    return COHORT_OK;
}

static cohort_status method_format(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    const struct jinja_string *format = call->self.u.string, *string = NULL;
    struct jinja_value whole, piece;
    size_t from = 0, next = 0;
    TRY(jinja_string_literal(run, "", 0, JINJA_TEMPLATE, &whole));
    for (size_t at = 0; at < format->length;) {
        const char c = format->bytes[at];
        const bool twice = at + 1 < format->length && format->bytes[at + 1] == c;
        if (c != '{' && c != '}') {
            at++;
            continue;
        }
        if (c == '}' && !twice)
            return jinja_fail(run, "format: a single '}'");
        TRY(jinja_string_part(run, format, from, at + twice, &piece));
        TRY(jinja_string_concat(run, whole.u.string, piece.u.string, &whole));
        at += 1 + twice;
        if (!twice) {
            const struct jinja_value *value = NULL;
            TRY(format_place(call, &at, &next, &value));
            TRY(jinja_to_string(run, value, &string));
            TRY(jinja_string_concat(run, whole.u.string, string, &whole));
        }
        from = at;
    }
    TRY(jinja_string_part(run, format, from, format->length, &piece));
    return jinja_string_concat(run, whole.u.string, piece.u.string, out);
}

/* ---- dicts, lists, loops ---- */

static cohort_status method_get(struct jinja_call *call, struct jinja_value *out)
{
    bool found = false;
    TRY(jinja_dict_get(call->run, call->self.u.dict, &call->arg[0], &found, out));
    if (!found)
        *out = call->arg[1].kind == KIND_ABSENT ? (struct jinja_value){.kind = KIND_NONE} : call->arg[1];
    return COHORT_OK;
}

#define PART_METHOD(name, part, shape)                                                                                 \
    static cohort_status method_##name(struct jinja_call *call, struct jinja_value *out)                               \
    {                                                                                                                  \
        return jinja_dict_list(call->run, call->self.u.dict, part, shape, out);                                        \
    }
PART_METHOD(items, PART_ITEMS, SHAPE_ITEMS)
PART_METHOD(keys, PART_KEYS, SHAPE_KEYS)
PART_METHOD(values, PART_VALUES, SHAPE_VALUES)

static cohort_status method_copy(struct jinja_call *call, struct jinja_value *out)
{
    *out = call->self; /* nothing changes either of them */
    return COHORT_OK;
}

static cohort_status method_list_count(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_list *list = call->self.u.list;
    int64_t n = 0;
    TRY(jinja_items(call->run, list));
    TRY(jinja_step(call->run, list->count / 8));
    for (size_t i = 0; i < list->count; i++) {
        bool same = false;
        TRY(jinja_equal(call->run, &list->items[i], &call->arg[0], &same));
        n += same;
    }
    *out = jinja_int(n);
    return COHORT_OK;
}

static cohort_status method_list_index(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_list *list = call->self.u.list;
    TRY(jinja_items(call->run, list));
    TRY(jinja_step(call->run, list->count / 8));
    for (size_t i = 0; i < list->count; i++) {
        bool same = false;
        TRY(jinja_equal(call->run, &list->items[i], &call->arg[0], &same));
        *out = jinja_int((int64_t)i);
        if (same)
            return COHORT_OK;
    }
    return jinja_fail(call->run, "index: the list does not contain that");
}

static cohort_status method_cycle(struct jinja_call *call, struct jinja_value *out)
{
    if (call->args->count == 0)
        return jinja_fail(call->run, "loop.cycle wants values");
    *out = call->args->values[call->self.u.loop->index0 % call->args->count];
    return COHORT_OK;
}

static cohort_status method_changed(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_loop *loop = call->self.u.loop;
    struct jinja_value values;
    bool same = false;
    TRY(jinja_list_new(call->run, SHAPE_TUPLE, call->args->count, &values));
    for (size_t i = 0; i < call->args->count; i++)
        values.u.list->items[i] = call->args->values[i];
    if (loop->changed.kind != KIND_ABSENT)
        TRY(jinja_equal(call->run, &loop->changed, &values, &same));
    loop->changed = values;
    *out = jinja_bool(!same);
    return COHORT_OK;
}

/* Rows of one name stand side by side. */
enum {
    STRING = KIND_BIT(KIND_STRING),
    LIST = KIND_BIT(KIND_LIST),
    DICT = KIND_BIT(KIND_DICT),
    LOOP = KIND_BIT(KIND_LOOP)
};
const struct jinja_builtin jinja_methods[] = {{"split", "sep maxsplit", 0, STRING, method_split},
                                              {"get", "key default", 1, DICT, method_get},
                                              {"items", "", 0, DICT, method_items},
                                              {"keys", "", 0, DICT, method_keys},
                                              {"values", "", 0, DICT, method_values},
                                              {"copy", "", 0, DICT | LIST, method_copy},
                                              {"strip", "chars", 0, STRING, method_strip},
                                              {"lstrip", "chars", 0, STRING, method_lstrip},
                                              {"rstrip", "chars", 0, STRING, method_rstrip},
                                              {"startswith", "prefix start end", 1, STRING, method_startswith},
                                              {"endswith", "suffix start end", 1, STRING, method_endswith},
                                              {"upper", "", 0, STRING, method_upper},
                                              {"lower", "", 0, STRING, method_lower},
                                              {"casefold", "", 0, STRING, NULL},
                                              {"title", "", 0, STRING, method_title},
                                              {"capitalize", "", 0, STRING, method_capitalize},
                                              {"swapcase", "", 0, STRING, method_swapcase},
                                              {"replace", "old new count", 2, STRING, method_replace},
                                              {"join", "iterable", 1, STRING, method_join},
                                              {"format", NULL, 0, STRING, method_format},
                                              {"splitlines", "keepends", 0, STRING, method_splitlines},
                                              {"rsplit", "sep maxsplit", 0, STRING, method_rsplit},
                                              {"partition", "sep", 1, STRING, method_partition},
                                              {"rpartition", "sep", 1, STRING, method_rpartition},
                                              {"removeprefix", "prefix", 1, STRING, method_removeprefix},
                                              {"removesuffix", "suffix", 1, STRING, method_removesuffix},
                                              {"find", "sub start end", 1, STRING, method_find},
                                              {"rfind", "sub start end", 1, STRING, method_rfind},
                                              {"index", "sub start end", 1, STRING, method_index},
                                              {"index", "value", 1, LIST, method_list_index},
                                              {"rindex", "sub start end", 1, STRING, method_rindex},
                                              {"count", "sub start end", 1, STRING, method_count},
                                              {"count", "value", 1, LIST, method_list_count},
                                              {"center", "width fillchar", 1, STRING, method_center},
                                              {"ljust", "width fillchar", 1, STRING, method_ljust},
                                              {"rjust", "width fillchar", 1, STRING, method_rjust},
                                              {"zfill", "width", 1, STRING, method_zfill},
                                              {"islower", "", 0, STRING, jinja_is_lower},
                                              {"isupper", "", 0, STRING, jinja_is_upper},
                                              {"isalpha", "", 0, STRING, method_isalpha},
                                              {"isalnum", "", 0, STRING, method_isalnum},
                                              {"isdigit", "", 0, STRING, method_isdecimal},
                                              {"isdecimal", "", 0, STRING, method_isdecimal},
                                              {"isnumeric", "", 0, STRING, method_isnumeric},
                                              {"isspace", "", 0, STRING, method_isspace},
                                              {"isascii", "", 0, STRING, method_isascii},
                                              {"cycle", NULL, 0, LOOP, method_cycle},
                                              {"changed", NULL, 0, LOOP, method_changed},
                                              {"append", NULL, 0, LIST, NULL},
                                              {"extend", NULL, 0, LIST, NULL},
                                              {"insert", NULL, 0, LIST, NULL},
                                              {"remove", NULL, 0, LIST, NULL},
                                              {"reverse", NULL, 0, LIST, NULL},
                                              {"sort", NULL, 0, LIST, NULL},
                                              {"pop", NULL, 0, LIST | DICT, NULL},
                                              {"clear", NULL, 0, LIST | DICT, NULL},
                                              {"popitem", NULL, 0, DICT, NULL},
                                              {"setdefault", NULL, 0, DICT, NULL},
                                              {"update", NULL, 0, DICT, NULL},
                                              {"fromkeys", NULL, 0, DICT, NULL},
                                              {"encode", NULL, 0, STRING, NULL},
                                              {"expandtabs", NULL, 0, STRING, NULL},
                                              {"format_map", NULL, 0, STRING, NULL},
                                              {"isidentifier", NULL, 0, STRING, NULL},
                                              {"isprintable", NULL, 0, STRING, NULL},
                                              {"istitle", NULL, 0, STRING, NULL},
                                              {"translate", NULL, 0, STRING, NULL},
                                              {.name = NULL}};
