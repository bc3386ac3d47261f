/* Functions that a template can call, and the attributes of "loop". */
#include "text/jinja_internal.h"

#include "base/number.h"

#include <string.h>
#include <time.h>

enum { MAX_RANGE = 100000 }; /* as jinja2's sandbox has it */

static cohort_status function_range(struct jinja_call *call, struct jinja_value *out)
{
    int64_t bounds[3] = {0, 0, 1};
    size_t given = 0;
    for (size_t i = 0; i < 3 && call->arg[i].kind != KIND_ABSENT; i++) {
        TRY(jinja_as_int(call->run, &call->arg[i], "an argument of range", &bounds[i]));
        given++;
    }
    if (given == 1) {
        bounds[1] = bounds[0];
        bounds[0] = 0;
    }
    const int64_t step = bounds[2];
    int64_t distance = 0;
    if (step == 0)
        return jinja_fail(call->run, "the step of range is zero");
    if (step > 0 ? __builtin_sub_overflow(bounds[1], bounds[0], &distance)
                 : __builtin_sub_overflow(bounds[0], bounds[1], &distance))
        distance = (bounds[0] < bounds[1]) == (step > 0) ? INT64_MAX : 0;
    const uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    const uint64_t n = distance > 0 ? ((uint64_t)distance - 1) / stride + 1 : 0;
    if (n > MAX_RANGE)
        return jinja_fail(call->run, "a range of %llu numbers is too long: %d at most", (unsigned long long)n,
                          (int)MAX_RANGE);
    TRY(jinja_list_new(call->run, SHAPE_RANGE, (size_t)n, out));
    for (uint64_t i = 0; i < n; i++)
        out->u.list->items[i] = jinja_int((int64_t)((uint64_t)bounds[0] + i * (uint64_t)step));
    return COHORT_OK;
}

/* What dict() and namespace() are given: a dict or pairs, and named values. */
static cohort_status fill_dict(struct jinja_call *call, struct jinja_dict *dict)
{
    struct jinja_run *run = call->run;
    const struct jinja_args *args = call->args;
    if (args->count > 1)
        return jinja_fail(run, "dict and namespace take one argument at most, and named ones");
    if (args->count == 1 && args->values[0].kind == KIND_DICT) {
        const size_t n = jinja_dict_count(args->values[0].u.dict);
        TRY(jinja_dict_entries(run, args->values[0].u.dict, &dict->entries));
        dict->count = dict->capacity = n;
    } else if (args->count == 1) {
        struct jinja_list *list = NULL, *pair = NULL;
        TRY(jinja_iterate(run, &args->values[0], &list));
        for (size_t i = 0; i < list->count; i++) {
            TRY(jinja_iterate(run, &list->items[i], &pair));
            if (pair->count != 2)
                return jinja_fail(run, "a dict is made of pairs, not of %zu values", pair->count);
            TRY(jinja_dict_set(run, dict, &pair->items[0], &pair->items[1]));
        }
    }
    for (size_t i = 0; i < args->n_named; i++)
        TRY(jinja_dict_set(run, dict, &(struct jinja_value){.kind = KIND_STRING, .u.string = args->named[i].name},
                           &args->named[i].value));
    return COHORT_OK;
}

static cohort_status function_dict(struct jinja_call *call, struct jinja_value *out)
{
    TRY(jinja_dict_new(call->run, out));
    return fill_dict(call, out->u.dict);
}

static cohort_status check_name(struct jinja_run *run, const struct jinja_string *name)
{
    if (name->length == 0 || name->bytes[0] != '_')
        return COHORT_OK;
    return jinja_fail(run, "a namespace cannot have the attribute '%.*s': it begins with an underscore",
                      (int)(name->length < 100 ? name->length : 100), name->bytes);
}

cohort_status jinja_namespace_set(struct jinja_run *run, struct jinja_namespace *space, const struct jinja_string *name,
                                  const struct jinja_value *value)
{
    TRY(check_name(run, name));
    return jinja_dict_set(run, &space->attributes, &(struct jinja_value){.kind = KIND_STRING, .u.string = name}, value);
}

static cohort_status function_namespace(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_namespace *space = NULL;
    TRY(jinja_take(call->run, &space, 1, sizeof *space));
    TRY(fill_dict(call, &space->attributes));
    for (size_t i = 0; i < space->attributes.count; i++)
        if (space->attributes.entries[i].key.kind == KIND_STRING)
            TRY(check_name(call->run, space->attributes.entries[i].key.u.string));
    *out = (struct jinja_value){.kind = KIND_NAMESPACE, .u.space = space};
    return COHORT_OK;
}

static cohort_status function_raise_exception(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *message = NULL;
    (void)out;
    TRY(jinja_to_string(call->run, &call->arg[0], &message));
    return jinja_fail(call->run, "the template says: %.*s", (int)(message->length < 400 ? message->length : 400),
                      message->bytes);
}

/* Python's datetime handles %f itself; z and Z are empty without a time zone. */
static cohort_status expand_format(struct jinja_run *run, const struct jinja_string *format, char **out)
{
    size_t n = 0;
    TRY(jinja_take(run, out, format->length * 4 + 2, 1));
    (*out)[n++] = '.'; /* so that an empty result is told apart from one that does not fit */
    for (size_t i = 0; i < format->length; i++) {
        const char next = i + 1 < format->length ? format->bytes[i + 1] : '\0';
        if (format->bytes[i] == '\0')
            return jinja_fail(run, "a time format has a NUL");
        if (format->bytes[i] != '%' || (next != 'f' && next != 'z' && next != 'Z' && next != '%')) {
            (*out)[n++] = format->bytes[i];
            continue;
        }
        if (next == 'f' || next == '%')
            memcpy(*out + n, next == 'f' ? "000000" : "%%", next == 'f' ? 6 : 2);
        n += next == 'f' ? 6 : next == '%' ? 2 : 0;
        i++;
    }
    (*out)[n] = '\0';
    return COHORT_OK;
}

static cohort_status function_strftime_now(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    const time_t now = (time_t)run->now;
    struct tm local;
    char *format = NULL, *text = NULL;
    const size_t room = 1024;
    if (call->arg[0].kind != KIND_STRING)
        return jinja_fail(run, "strftime_now wants a format");
    if (call->arg[0].u.string->length > room / 8)
        return jinja_fail(run, "a time format of %zu bytes is too long", call->arg[0].u.string->length);
    TRY(expand_format(run, call->arg[0].u.string, &format));
    TRY(jinja_take(run, &text, room, 1));
    if (localtime_r(&now, &local) == NULL)
        return jinja_fail(run, "there is no local time for %lld", (long long)run->now);
    struct number_scope scope = number_scope_begin();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the template's own: strftime reads no arguments by it */
    const size_t n = strftime(text, room, format, &local);
#pragma GCC diagnostic pop
    number_scope_end(scope);
    if (n == 0 || utf8_check(text, n) < n)
        return jinja_fail(run, "a time in that format is too long, or no text");
    return jinja_string_literal(run, text + 1, n - 1, JINJA_TEMPLATE, out);
}

const struct jinja_builtin jinja_functions[] = {
    {.name = "range", .parameters = "start stop step", .required = 1, .run = function_range},
    {.name = "dict", .run = function_dict},
    {.name = "namespace", .run = function_namespace},
    {.name = "raise_exception", .parameters = "message", .required = 1, .run = function_raise_exception},
    {.name = "strftime_now", .parameters = "format", .required = 1, .run = function_strftime_now},
    {.name = NULL}};

/* ---- loop ---- */

/* How many items the loop has in all: what its filter lets through is only known when all were looked at. */
static cohort_status loop_length(struct jinja_run *run, struct jinja_loop *loop, size_t *out)
{
    struct jinja_value *rest = NULL, item;
    size_t n = 0;
    const size_t left = loop->items->count - loop->next;
    if (loop->node->right == NULL) {
        *out = loop->items->count;
        return COHORT_OK;
    }
    TRY(jinja_take(run, &rest, left, sizeof *rest));
    for (;;) {
        TRY(jinja_loop_next(run, loop, &item));
        if (item.kind == KIND_ABSENT)
            break;
        rest[n++] = item;
    }
    *out = loop->index0 + 1 + (loop->peeked && loop->after.kind != KIND_ABSENT) + n;
    loop->length = *out;
    loop->next = 0;
    TRY(jinja_take(run, &loop->items, 1, sizeof *loop->items));
    *loop->items = (struct jinja_list){.shape = SHAPE_LIST, .count = n, .items = rest};
    loop->filtered = true;
    return COHORT_OK;
}

static cohort_status peek(struct jinja_run *run, struct jinja_loop *loop)
{
    if (!loop->peeked)
        TRY(jinja_loop_next(run, loop, &loop->after));
    loop->peeked = true;
    return COHORT_OK;
}

enum loop_name {
    LOOP_INDEX,
    LOOP_INDEX0,
    LOOP_FIRST,
    LOOP_LAST,
    LOOP_PREVITEM,
    LOOP_NEXTITEM,
    LOOP_LENGTH,
    LOOP_REVINDEX,
    LOOP_REVINDEX0,
    LOOP_DEPTH,
    LOOP_DEPTH0,
    N_LOOP_NAMES
};

cohort_status jinja_loop_attribute(struct jinja_run *run, struct jinja_loop *loop, const struct jinja_string *name,
                                   struct jinja_value *out)
{
    static const char *const names[] = {"index",  "index0",   "first",     "last",  "previtem", "nextitem",
                                        "length", "revindex", "revindex0", "depth", "depth0"};
    size_t which = 0, length = 0;
    while (which < N_LOOP_NAMES &&
           (strlen(names[which]) != name->length || memcmp(names[which], name->bytes, name->length) != 0))
        which++;
    *out = (struct jinja_value){.kind = KIND_ABSENT};
    switch (which) {
    case LOOP_INDEX: *out = jinja_int((int64_t)loop->index0 + 1); return COHORT_OK;
    case LOOP_INDEX0: *out = jinja_int((int64_t)loop->index0); return COHORT_OK;
    case LOOP_FIRST: *out = jinja_bool(loop->index0 == 0); return COHORT_OK;
    case LOOP_DEPTH: *out = jinja_int(1); return COHORT_OK;
    case LOOP_DEPTH0: *out = jinja_int(0); return COHORT_OK;
    case LOOP_LAST:
        TRY(peek(run, loop));
        *out = jinja_bool(loop->after.kind == KIND_ABSENT);
        return COHORT_OK;
    case LOOP_PREVITEM:
        *out = loop->before;
        return loop->index0 > 0 ? COHORT_OK
                                : jinja_undefined(run, LACK_HINT, "there is no previous item", NULL, 0, out);
    case LOOP_NEXTITEM:
        TRY(peek(run, loop));
        *out = loop->after;
        return out->kind != KIND_ABSENT ? COHORT_OK
                                        : jinja_undefined(run, LACK_HINT, "there is no next item", NULL, 0, out);
    case LOOP_LENGTH:
    case LOOP_REVINDEX:
    case LOOP_REVINDEX0:
        length = loop->length;
        if (length == 0)
            TRY(loop_length(run, loop, &length));
        *out = jinja_int((int64_t)(which == LOOP_LENGTH     ? length
                                   : which == LOOP_REVINDEX ? length - loop->index0
                                                            : length - loop->index0 - 1));
        return COHORT_OK;
    default: return COHORT_OK;
    }
}
