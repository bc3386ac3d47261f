/* Filters over sequences and dicts. map, select, reject and their kin give an iterator, as in jinja2: it is true even
 * if nothing is in it, and has no length until |list makes a list of it. */
#include "text/jinja_internal.h"

#include <string.h>

/* ---- items by attribute ---- */

/* item.a.b.0 for the path "a.b.0" or the index 0, as jinja2's make_attrgetter looks it up: fallback (may be NULL)
 * stands for each step that leads nowhere. */
static cohort_status by_path(struct jinja_run *run, const struct jinja_value *item, const struct jinja_value *path,
                             const struct jinja_value *fallback, struct jinja_value *out)
{
    *out = *item;
    if (path->kind != KIND_STRING) {
        TRY(jinja_item(run, item, path, out));
        if (out->kind == KIND_UNDEFINED && fallback != NULL)
            *out = *fallback;
        return COHORT_OK;
    }
    const struct jinja_string *string = path->u.string;
    for (size_t from = 0, to = 0; from <= string->length; from = to + 1) {
        struct jinja_value key;
        const struct jinja_value whole = *out;
        bool digits = true;
        int64_t index = 0;
        for (to = from; to < string->length && string->bytes[to] != '.'; to++) {
            const int digit = string->bytes[to] - '0';
            digits = digits && digit >= 0 && digit <= 9 && to - from < 18;
            index = digits ? index * 10 + digit : 0;
        }
        TRY(jinja_string_part(run, string, from, to, &key));
        if (digits && to > from)
            key = jinja_int(index);
        TRY(jinja_item(run, &whole, &key, out));
        if (out->kind == KIND_UNDEFINED && fallback != NULL)
            *out = *fallback;
    }
    return COHORT_OK;
}

static cohort_status lower_if_string(struct jinja_run *run, bool lower, struct jinja_value *value)
{
    const struct jinja_value before = *value;
    return lower && before.kind == KIND_STRING ? jinja_string_case(run, before.u.string, CASE_LOWER, value) : COHORT_OK;
}

/* What items are compared by: an attribute (or several, by commas, if several may be), in lower case unless case
 * counts. */
static cohort_status comparison_key(struct jinja_run *run, const struct jinja_value *item,
                                    const struct jinja_value *attribute, bool lower, bool several,
                                    struct jinja_value *out)
{
    *out = *item;
    if (attribute->kind == KIND_ABSENT || attribute->kind == KIND_NONE)
        return lower_if_string(run, lower, out);
    if (!several || attribute->kind != KIND_STRING ||
        memchr(attribute->u.string->bytes, ',', attribute->u.string->length) == NULL) {
        TRY(by_path(run, item, attribute, NULL, out));
        return lower_if_string(run, lower, out);
    }
    const struct jinja_string *paths = attribute->u.string;
    size_t n = 1, at = 0;
    for (size_t i = 0; i < paths->length; i++)
        n += paths->bytes[i] == ',';
    TRY(jinja_list_new(run, SHAPE_LIST, n, out));
    for (size_t from = 0; at < n; at++) {
        struct jinja_value path;
        size_t to = from;
        while (to < paths->length && paths->bytes[to] != ',')
            to++;
        TRY(jinja_string_part(run, paths, from, to, &path));
        TRY(by_path(run, item, &path, NULL, &out->u.list->items[at]));
        TRY(lower_if_string(run, lower, &out->u.list->items[at]));
        from = to + 1;
    }
    return COHORT_OK;
}

/* ---- sorting ---- */

struct sortable {
    struct jinja_value key;
    size_t index;
};

/* Whether a stands before b. Equal keys are never compared further, so that what has no order may be sorted if it is
 * all the same. */
static cohort_status comes_first(struct jinja_run *run, bool reverse, const struct jinja_value *a,
                                 const struct jinja_value *b, bool *out)
{
    TRY(jinja_equal(run, a, b, out));
    if (*out) {
        *out = false;
        return COHORT_OK;
    }
    return jinja_compare(run, reverse ? OP_GT : OP_LT, a, b, out);
}

/* Stable, by merging; reverse keeps the order of equal items too. */
static cohort_status merge_sort(struct jinja_run *run, struct sortable *items, size_t n, bool reverse)
{
    struct sortable *from = items, *to = NULL;
    TRY(jinja_take(run, &to, n, sizeof *to));
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t start = 0; start < n; start += 2 * width) {
            size_t a = start, middle = start + width < n ? start + width : n, b = middle,
                   end = start + 2 * width < n ? start + 2 * width : n;
            for (size_t at = start; at < end; at++) {
                bool second = a == middle;
                TRY(jinja_step(run, 1));
                if (a < middle && b < end)
                    TRY(comes_first(run, reverse, &from[b].key, &from[a].key, &second));
                to[at] = second ? from[b++] : from[a++];
            }
        }
        struct sortable *const swap = from;
        from = to;
        to = swap;
    }
    if (from != items && n > 0)
        memcpy(items, from, n * sizeof *items);
    return COHORT_OK;
}

cohort_status jinja_sort_entries(struct jinja_run *run, struct jinja_entry *entries, size_t n)
{
    struct sortable *order = NULL;
    struct jinja_entry *sorted = NULL;
    TRY(jinja_take(run, &order, n, sizeof *order));
    TRY(jinja_take(run, &sorted, n, sizeof *sorted));
    for (size_t i = 0; i < n; i++)
        order[i] = (struct sortable){.key = entries[i].key, .index = i};
    TRY(merge_sort(run, order, n, false));
    for (size_t i = 0; i < n; i++)
        sorted[i] = entries[order[i].index];
    if (n > 0)
        memcpy(entries, sorted, n * sizeof *entries);
    return COHORT_OK;
}

/* *out = list in the order of its items' keys. */
static cohort_status sort_list(struct jinja_run *run, const struct jinja_list *list, struct sortable *keys,
                               bool reverse, struct jinja_value *out)
{
    TRY(merge_sort(run, keys, list->count, reverse));
    TRY(jinja_list_new(run, SHAPE_LIST, list->count, out));
    for (size_t i = 0; i < list->count; i++)
        out->u.list->items[i] = list->items[keys[i].index];
    return COHORT_OK;
}

static cohort_status filter_sort(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_list *list = NULL;
    struct sortable *keys = NULL;
    TRY(jinja_iterate(call->run, &call->self, &list));
    TRY(jinja_take(call->run, &keys, list->count, sizeof *keys));
    for (size_t i = 0; i < list->count; i++) {
        keys[i].index = i;
        TRY(comparison_key(call->run, &list->items[i], &call->arg[2], !jinja_truth(&call->arg[1]), true, &keys[i].key));
    }
    return sort_list(call->run, list, keys, jinja_truth(&call->arg[0]), out);
}

static bool is_word(const struct jinja_value *value, const char *word)
{
    return value->kind == KIND_STRING && value->u.string->length == strlen(word) &&
           memcmp(value->u.string->bytes, word, strlen(word)) == 0;
}

static cohort_status filter_dictsort(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    struct jinja_value pairs;
    struct sortable *keys = NULL;
    const bool by_value = is_word(&call->arg[1], "value");
    if (call->self.kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, &call->self);
    if (call->self.kind != KIND_DICT)
        return jinja_fail(run, "dictsort wants a dict, not a %s", jinja_type_name(&call->self));
    if (call->arg[1].kind != KIND_ABSENT && !by_value && !is_word(&call->arg[1], "key"))
        return jinja_fail(run, "dictsort sorts by 'key' or 'value'");
    TRY(jinja_dict_list(run, call->self.u.dict, PART_ITEMS, SHAPE_LIST, &pairs));
    const struct jinja_list *list = pairs.u.list;
    TRY(jinja_take(run, &keys, list->count, sizeof *keys));
    for (size_t i = 0; i < list->count; i++) {
        keys[i] = (struct sortable){.key = list->items[i].u.list->items[by_value], .index = i};
        TRY(lower_if_string(run, !jinja_truth(&call->arg[0]), &keys[i].key));
    }
    return sort_list(run, list, keys, jinja_truth(&call->arg[2]), out);
}

static cohort_status extreme(struct jinja_call *call, enum jinja_operator op, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    struct jinja_list *list = NULL;
    struct jinja_value best;
    TRY(jinja_iterate(run, &call->self, &list));
    if (list->count == 0)
        return jinja_undefined(run, LACK_HINT, "no smallest or largest item: the sequence is empty", NULL, 0, out);
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value key;
        bool better = i == 0;
        TRY(jinja_step(run, 1));
        TRY(comparison_key(run, &list->items[i], &call->arg[1], !jinja_truth(&call->arg[0]), false, &key));
        if (!better)
            TRY(jinja_compare(run, op, &key, &best, &better));
        if (better) {
            best = key;
            *out = list->items[i];
        }
    }
    return COHORT_OK;
}

static cohort_status filter_min(struct jinja_call *call, struct jinja_value *out) { return extreme(call, OP_LT, out); }

static cohort_status filter_max(struct jinja_call *call, struct jinja_value *out) { return extreme(call, OP_GT, out); }

static cohort_status filter_unique(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    struct jinja_list *list = NULL;
    struct jinja_value seen;
    size_t n = 0;
    TRY(jinja_iterate(run, &call->self, &list));
    TRY(jinja_dict_new(run, &seen));
    TRY(jinja_list_new(run, SHAPE_ITERATOR, list->count, out));
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value key, ignored;
        bool found = false;
        TRY(comparison_key(run, &list->items[i], &call->arg[1], !jinja_truth(&call->arg[0]), false, &key));
        TRY(jinja_dict_get(run, seen.u.dict, &key, &found, &ignored));
        if (found)
            continue;
        TRY(jinja_dict_set(run, seen.u.dict, &key, &key));
        out->u.list->items[n++] = list->items[i];
    }
    out->u.list->count = n;
    return COHORT_OK;
}

/* ---- map, select, reject ---- */

/* The filter or test that args->values[from] names, with what stands behind it as its arguments. */
static cohort_status named_builtin(struct jinja_call *call, size_t from, const char *kind,
                                   const struct jinja_builtin *(*find)(const char *name),
                                   const struct jinja_builtin **builtin, struct jinja_args *args)
{
    char name[64] = "";
    const struct jinja_value *value = &call->args->values[from];
    if (value->kind == KIND_STRING && value->u.string->length < sizeof name) {
        memcpy(name, value->u.string->bytes, value->u.string->length);
        name[value->u.string->length] = '\0';
    }
    *builtin = find(name);
    if (*builtin == NULL || (*builtin)->run == NULL)
        return jinja_fail(call->run, "%s named '%s' is not supported", kind, name);
    *args = (struct jinja_args){.values = call->args->values + from + 1,
                                .count = call->args->count - from - 1,
                                .named = call->args->named,
                                .n_named = call->args->n_named};
    return COHORT_OK;
}

static cohort_status map_attribute(struct jinja_call *call, struct jinja_list *list, struct jinja_value *out)
{
    const struct jinja_value *attribute = NULL, *fallback = NULL;
    for (size_t i = 0; i < call->args->n_named; i++) {
        const struct jinja_keyword *named = &call->args->named[i];
        const struct jinja_value name = {.kind = KIND_STRING, .u.string = named->name};
        if (is_word(&name, "attribute"))
            attribute = &named->value;
        else if (is_word(&name, "default"))
            fallback = named->value.kind == KIND_NONE ? NULL : &named->value;
        else
            return jinja_fail(call->run, "map takes attribute= and default=, or the name of a filter");
    }
    if (attribute == NULL)
        return jinja_fail(call->run, "map wants the name of a filter, or attribute=");
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value *item = &out->u.list->items[i];
        TRY(by_path(call->run, &list->items[i], attribute, fallback, item));
    }
    return COHORT_OK;
}

/* What map, select and their kin go over: nothing, where self is false. */
static cohort_status iterate_if_true(struct jinja_call *call, struct jinja_list **out)
{
    struct jinja_value empty;
    if (jinja_truth(&call->self))
        return jinja_iterate(call->run, &call->self, out);
    TRY(jinja_list_new(call->run, SHAPE_LIST, 0, &empty));
    *out = empty.u.list;
    return COHORT_OK;
}

static cohort_status filter_map(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_list *list = NULL;
    TRY(iterate_if_true(call, &list));
    TRY(jinja_list_new(call->run, SHAPE_ITERATOR, list->count, out));
    if (call->args->count == 0)
        return map_attribute(call, list, out);
    const struct jinja_builtin *filter = NULL;
    struct jinja_args args;
    TRY(named_builtin(call, 0, "a filter", jinja_find_filter, &filter, &args));
    TRY(jinja_enter(call->run));
    for (size_t i = 0; i < list->count; i++) {
        TRY(jinja_step(call->run, 1));
        TRY(jinja_builtin_call(call->run, filter, &list->items[i], &args, &out->u.list->items[i]));
    }
    call->run->depth++;
    return COHORT_OK;
}

/* Items of which a test (none: their truth) says wanted; by_attribute: the first argument names what is tested. */
static cohort_status choose(struct jinja_call *call, bool wanted, bool by_attribute, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    struct jinja_list *list = NULL;
    const struct jinja_builtin *test = NULL;
    struct jinja_args args = {0};
    size_t n = 0;
    if (call->args->count < by_attribute)
        return jinja_fail(run, "selectattr and rejectattr want the name of an attribute");
    if (call->args->count > by_attribute)
        TRY(named_builtin(call, by_attribute, "a test", jinja_find_test, &test, &args));
    TRY(iterate_if_true(call, &list));
    TRY(jinja_list_new(run, SHAPE_ITERATOR, list->count, out));
    TRY(jinja_enter(run));
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value item = list->items[i], holds;
        TRY(jinja_step(run, 1));
        if (by_attribute)
            TRY(by_path(run, &list->items[i], &call->args->values[0], NULL, &item));
        holds = item;
        if (test != NULL)
            TRY(jinja_builtin_call(run, test, &item, &args, &holds));
        if (jinja_truth(&holds) == wanted)
            out->u.list->items[n++] = list->items[i];
    }
    out->u.list->count = n;
    run->depth++;
    return COHORT_OK;
}

static cohort_status filter_select(struct jinja_call *call, struct jinja_value *out)
{
    return choose(call, true, false, out);
}

static cohort_status filter_reject(struct jinja_call *call, struct jinja_value *out)
{
    return choose(call, false, false, out);
}

static cohort_status filter_selectattr(struct jinja_call *call, struct jinja_value *out)
{
    return choose(call, true, true, out);
}

static cohort_status filter_rejectattr(struct jinja_call *call, struct jinja_value *out)
{
    return choose(call, false, true, out);
}

/* ---- the rest ---- */

static cohort_status filter_default(struct jinja_call *call, struct jinja_value *out)
{
    const bool lacks = call->self.kind == KIND_UNDEFINED || (jinja_truth(&call->arg[1]) && !jinja_truth(&call->self));
    *out = lacks ? call->arg[0] : call->self;
    return lacks && call->arg[0].kind == KIND_ABSENT ? jinja_string_literal(call->run, "", 0, JINJA_TEMPLATE, out)
                                                     : COHORT_OK;
}

static cohort_status filter_length(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_value *self = &call->self;
    *out = jinja_int(0);
    switch (self->kind) {
    case KIND_UNDEFINED: return COHORT_OK;
    case KIND_STRING:
        TRY(jinja_step(call->run, self->u.string->length / 64));
        *out = jinja_int((int64_t)jinja_characters(self->u.string));
        return COHORT_OK;
    case KIND_DICT: *out = jinja_int((int64_t)jinja_dict_count(self->u.dict)); return COHORT_OK;
    case KIND_LIST:
        if (self->u.list->shape == SHAPE_ITERATOR)
            break;
        *out = jinja_int((int64_t)self->u.list->count);
        return COHORT_OK;
    default: break;
    }
    return jinja_fail(call->run, "a %s has no length", jinja_type_name(self));
}

static cohort_status filter_first(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_list *list = NULL;
    TRY(jinja_iterate(call->run, &call->self, &list));
    if (list->count == 0)
        return jinja_undefined(call->run, LACK_HINT, "there is no first item: the sequence is empty", NULL, 0, out);
    *out = list->items[0];
    return COHORT_OK;
}

static cohort_status filter_last(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_list *list = NULL;
    if (call->self.kind == KIND_LIST && call->self.u.list->shape == SHAPE_ITERATOR)
        return jinja_fail(call->run, "a generator has no last item: '|list' makes a list of it");
    TRY(jinja_iterate(call->run, &call->self, &list));
    if (list->count == 0)
        return jinja_undefined(call->run, LACK_HINT, "there is no last item: the sequence is empty", NULL, 0, out);
    *out = list->items[list->count - 1];
    return COHORT_OK;
}

static cohort_status filter_list(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_list *list = NULL;
    TRY(jinja_iterate(call->run, &call->self, &list));
    TRY(jinja_list_new(call->run, SHAPE_LIST, list->count, out));
    out->u.list->tag = list->tag;
    if (list->count > 0)
        memcpy(out->u.list->items, list->items, list->count * sizeof *list->items);
    return COHORT_OK;
}

static cohort_status filter_join(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    struct jinja_list *list = NULL;
    const struct jinja_string **strings = NULL, *between = NULL;
    struct jinja_builder builder;
    TRY(jinja_iterate(run, &call->self, &list));
    TRY(jinja_take(run, &strings, list->count, sizeof *strings));
    if (call->arg[0].kind != KIND_ABSENT)
        TRY(jinja_to_string(run, &call->arg[0], &between));
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value item = list->items[i];
        TRY(jinja_step(run, 1));
        if (call->arg[1].kind != KIND_ABSENT && call->arg[1].kind != KIND_NONE)
            TRY(by_path(run, &list->items[i], &call->arg[1], NULL, &item));
        TRY(jinja_to_string(run, &item, &strings[i]));
    }
    jinja_build(&builder, run);
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0 && between != NULL)
            TRY(jinja_build_string(&builder, between));
        TRY(jinja_build_string(&builder, strings[i]));
    }
    return jinja_build_end(&builder, out);
}

static cohort_status filter_items(struct jinja_call *call, struct jinja_value *out)
{
    if (call->self.kind == KIND_UNDEFINED)
        return jinja_list_new(call->run, SHAPE_ITERATOR, 0, out);
    if (call->self.kind != KIND_DICT)
        return jinja_fail(call->run, "items wants a dict, not a %s", jinja_type_name(&call->self));
    return jinja_dict_list(call->run, call->self.u.dict, PART_ITEMS, SHAPE_ITERATOR, out);
}

static cohort_status filter_reverse(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_list *list = NULL;
    const struct jinja_value none = {.kind = KIND_NONE}, bounds[3] = {none, none, jinja_int(-1)};
    if (call->self.kind == KIND_STRING)
        return jinja_slice(call->run, &call->self, bounds, out);
    TRY(jinja_iterate(call->run, &call->self, &list));
    TRY(jinja_list_new(call->run, SHAPE_ITERATOR, list->count, out));
    for (size_t i = 0; i < list->count; i++)
        out->u.list->items[i] = list->items[list->count - 1 - i];
    return COHORT_OK;
}

static cohort_status filter_sum(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_list *list = NULL;
    TRY(jinja_iterate(call->run, &call->self, &list));
    *out = call->arg[1].kind == KIND_ABSENT ? jinja_int(0) : call->arg[1];
    if (out->kind == KIND_STRING)
        return jinja_fail(call->run, "sum does not add strings: use join");
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value item = list->items[i];
        const struct jinja_value sum = *out;
        TRY(jinja_step(call->run, 1));
        if (call->arg[0].kind != KIND_ABSENT && call->arg[0].kind != KIND_NONE)
            TRY(by_path(call->run, &list->items[i], &call->arg[0], NULL, &item));
        TRY(jinja_operate(call->run, OP_ADD, &sum, &item, out));
    }
    return COHORT_OK;
}

static cohort_status filter_batch(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    struct jinja_list *list = NULL;
    int64_t width = 0;
    TRY(jinja_as_int(run, &call->arg[0], "the size of a batch", &width));
    TRY(jinja_iterate(run, &call->self, &list));
    if (width < 1)
        return jinja_fail(run, "a batch has one item at least");
    const size_t n = (size_t)width, batches = list->count / n + (list->count % n > 0);
    const bool fill = call->arg[1].kind != KIND_ABSENT && call->arg[1].kind != KIND_NONE;
    TRY(jinja_list_new(run, SHAPE_ITERATOR, batches, out));
    for (size_t i = 0; i < batches; i++) {
        const size_t left = list->count - i * n, have = left < n ? left : n;
        struct jinja_value *batch = &out->u.list->items[i];
        TRY(jinja_list_new(run, SHAPE_LIST, fill ? n : have, batch));
        for (size_t k = 0; k < batch->u.list->count; k++)
            batch->u.list->items[k] = k < have ? list->items[i * n + k] : call->arg[1];
    }
    return COHORT_OK;
}

const struct jinja_builtin jinja_list_filters[] = {
    {.name = "default", .parameters = "default_value boolean", .run = filter_default},
    {.name = "d", .parameters = "default_value boolean", .run = filter_default},
    {.name = "length", .parameters = "", .run = filter_length},
    {.name = "count", .parameters = "", .run = filter_length},
    {.name = "first", .parameters = "", .run = filter_first},
    {.name = "last", .parameters = "", .run = filter_last},
    {.name = "list", .parameters = "", .run = filter_list},
    {.name = "join", .parameters = "d attribute", .run = filter_join},
    {.name = "items", .parameters = "", .run = filter_items},
    {.name = "dictsort", .parameters = "case_sensitive by reverse", .run = filter_dictsort},
    {.name = "sort", .parameters = "reverse case_sensitive attribute", .run = filter_sort},
    {.name = "unique", .parameters = "case_sensitive attribute", .run = filter_unique},
    {.name = "min", .parameters = "case_sensitive attribute", .run = filter_min},
    {.name = "max", .parameters = "case_sensitive attribute", .run = filter_max},
    {.name = "map", .run = filter_map},
    {.name = "select", .run = filter_select},
    {.name = "reject", .run = filter_reject},
    {.name = "selectattr", .run = filter_selectattr},
    {.name = "rejectattr", .run = filter_rejectattr},
    {.name = "reverse", .parameters = "", .run = filter_reverse},
    {.name = "sum", .parameters = "attribute start", .run = filter_sum},
    {.name = "batch", .parameters = "linecount fill_with", .required = 1, .run = filter_batch},
    {.name = NULL}};
