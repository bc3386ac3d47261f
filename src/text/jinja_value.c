/* Values while a template is rendered: memory, lists, dicts, what is true and what is equal. JSON is not copied: a list
 * makes values of its items when somebody looks at them, a dict looks keys up in the JSON object. */
#include "text/jinja_internal.h"

#include "base/number.h"

#include <stdarg.h>
#include <string.h>

/* ---- memory ---- */

enum { CHUNK_HEADER = (sizeof(struct jinja_chunk) + 15) / 16 * 16 };

cohort_status jinja_arena_take(struct jinja_arena *arena, void *out, size_t size, cohort_error *err)
{
    struct jinja_chunk *chunk = arena->last;
    void *block = NULL;
    size = (size + 15) / 16 * 16;
    if (chunk == NULL || chunk->capacity - chunk->used < size) {
        size_t capacity = chunk == NULL ? arena->first_bytes : chunk->capacity * 2;
        if (capacity > (size_t)1 << 24)
            capacity = (size_t)1 << 24;
        if (capacity < size)
            capacity = size;
        TRY(mem_alloc(&chunk, 1, CHUNK_HEADER + capacity, "a chat template", err));
        chunk->capacity = capacity;
        chunk->before = arena->last;
        arena->last = chunk;
    }
    block = (char *)chunk + CHUNK_HEADER + chunk->used;
    chunk->used += size;
    memcpy(out, &block, sizeof block);
    return COHORT_OK;
}

void jinja_arena_free(struct jinja_arena *arena)
{
    while (arena->last != NULL) {
        struct jinja_chunk *chunk = arena->last;
        arena->last = chunk->before;
        mem_free(chunk);
    }
}

cohort_status(jinja_fail)(struct jinja_run *run, const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    number_vformat(message, sizeof message, format, args);
    va_end(args);
    return error_set(run->err, COHORT_ERR_FORMAT, "%s:%d: %s", run->template->name, (int)run->line, message);
}

cohort_status jinja_spend(struct jinja_run *run, size_t bytes)
{
    if (bytes <= INT64_MAX && (run->bytes_left -= (int64_t)bytes) >= 0)
        return COHORT_OK;
    return jinja_fail(run,
                      "rendering makes more bytes than its bound allows: the template repeats or doubles something");
}

cohort_status jinja_take(struct jinja_run *run, void *out, size_t count, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes))
        bytes = SIZE_MAX;
    TRY(jinja_spend(run, bytes));
    return jinja_arena_take(&run->arena, out, bytes, run->err);
}

cohort_status jinja_grow(struct jinja_run *run, void *array, size_t *capacity, size_t count, size_t size)
{
    const size_t wanted = *capacity == 0 ? 4 : *capacity * 2;
    void *grown = NULL, *old = NULL;
    if (count < *capacity)
        return COHORT_OK;
    TRY(jinja_take(run, &grown, wanted, size));
    memcpy(&old, array, sizeof old);
    if (count > 0)
        memcpy(grown, old, count * size);
    memcpy(array, &grown, sizeof grown);
    *capacity = wanted;
    return COHORT_OK;
}

cohort_status jinja_step(struct jinja_run *run, size_t n)
{
    if (n <= INT64_MAX && (run->steps -= (int64_t)n) >= 0)
        return COHORT_OK;
    return jinja_fail(run, "rendering takes more steps than its bound allows: the template loops for too long");
}

cohort_status jinja_enter(struct jinja_run *run)
{
    TRY(jinja_step(run, 1));
    if (--run->depth >= 0)
        return COHORT_OK;
    return jinja_fail(run,
                      "rendering nests deeper than its bound allows: a macro calls itself, or a value lies in itself");
}

/* ---- simple values ---- */

struct jinja_value jinja_bool(bool boolean) { return (struct jinja_value){.kind = KIND_BOOL, .u.boolean = boolean}; }

struct jinja_value jinja_int(int64_t integer) { return (struct jinja_value){.kind = KIND_INT, .u.integer = integer}; }

struct jinja_value jinja_string_value(const struct jinja_string *string)
{
    return (struct jinja_value){.kind = KIND_STRING, .u.string = string};
}

cohort_status jinja_undefined(struct jinja_run *run, enum jinja_lack lack, const char *name, const char *owner,
                              int64_t index, struct jinja_value *out)
{
    struct jinja_missing *missing = NULL;
    TRY(jinja_take(run, &missing, 1, sizeof *missing));
    *missing = (struct jinja_missing){.lack = lack, .name = name, .owner = owner, .index = index};
    *out = (struct jinja_value){.kind = KIND_UNDEFINED, .u.missing = missing};
    return COHORT_OK;
}

cohort_status(jinja_fail_undefined)(struct jinja_run *run, const struct jinja_value *value)
{
    const struct jinja_missing *missing = value->u.missing;
    switch (missing->lack) {
    case LACK_VARIABLE: return jinja_fail(run, "'%.100s' is undefined", missing->name);
    case LACK_ATTRIBUTE: return jinja_fail(run, "a %s has no attribute '%.100s'", missing->owner, missing->name);
    case LACK_ELEMENT: return jinja_fail(run, "a %s has no element %lld", missing->owner, (long long)missing->index);
    case LACK_PARAMETER: return jinja_fail(run, "the parameter '%.100s' was not given", missing->name);
    case LACK_UNSAFE:
        return jinja_fail(run, "the method '%.100s' of a %s may not be called: values of a template do not change",
                          missing->name, missing->owner);
    default: return jinja_fail(run, "%s", missing->name);
    }
}

const char *jinja_type_name(const struct jinja_value *value)
{
    static const char *const shapes[] = {"list",      "tuple",       "range",    "dict_items",
                                         "dict_keys", "dict_values", "generator"};
    switch (value->kind) {
    case KIND_NONE: return "None";
    case KIND_BOOL: return "bool";
    case KIND_INT: return "int";
    case KIND_FLOAT: return "float";
    case KIND_STRING: return value->u.string->safe ? "Markup" : "str";
    case KIND_LIST: return shapes[value->u.list->shape];
    case KIND_DICT: return "dict";
    case KIND_NAMESPACE: return "namespace";
    case KIND_MACRO: return "macro";
    case KIND_FUNCTION: return "function";
    case KIND_LOOP: return "loop";
    default: return "Undefined";
    }
}

bool jinja_truth(const struct jinja_value *value)
{
    switch (value->kind) {
    case KIND_ABSENT:
    case KIND_UNDEFINED:
    case KIND_NONE: return false;
    case KIND_BOOL: return value->u.boolean;
    case KIND_INT: return value->u.integer != 0;
    case KIND_FLOAT: return value->u.real != 0.0;
    case KIND_STRING: return value->u.string->length > 0;
    case KIND_LIST: return value->u.list->shape == SHAPE_ITERATOR || value->u.list->count > 0;
    case KIND_DICT: return jinja_dict_count(value->u.dict) > 0;
    default: return true;
    }
}

cohort_status jinja_as_int(struct jinja_run *run, const struct jinja_value *value, const char *what, int64_t *out)
{
    if (value->kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (value->kind != KIND_INT && value->kind != KIND_BOOL)
        return jinja_fail(run, "%s must be an integer, not a %s", what, jinja_type_name(value));
    *out = value->kind == KIND_INT ? value->u.integer : value->u.boolean;
    return COHORT_OK;
}

/* ---- from JSON ---- */

static cohort_status list_of_json(struct jinja_run *run, const json_t *json, uint8_t tag,
                                  const enum jinja_origin *elements, struct jinja_value *out)
{
    struct jinja_list *list = NULL;
    TRY(jinja_take(run, &list, 1, sizeof *list));
    *list = (struct jinja_list){.tag = tag, .count = json_array_size(json), .json = json, .elements = elements};
    *out = (struct jinja_value){.kind = KIND_LIST, .u.list = list};
    return COHORT_OK;
}

cohort_status jinja_from_json(struct jinja_run *run, const json_t *json, uint8_t tag, struct jinja_value *out)
{
    switch (json_typeof(json)) {
    case JSON_STRING: {
        struct jinja_string *string = NULL;
        TRY(jinja_take(run, &string, 1, sizeof *string));
        *string = (struct jinja_string){
            .bytes = json_string_value(json), .length = json_string_length(json), .characters = UNCOUNTED, .tag = tag};
        *out = jinja_string_value(string);
        return COHORT_OK;
    }
    case JSON_INTEGER: *out = jinja_int(json_integer_value(json)); return COHORT_OK;
    case JSON_REAL: *out = (struct jinja_value){.kind = KIND_FLOAT, .u.real = json_real_value(json)}; return COHORT_OK;
    case JSON_TRUE:
    case JSON_FALSE: *out = jinja_bool(json_is_true(json)); return COHORT_OK;
    case JSON_ARRAY: return list_of_json(run, json, tag, NULL, out);
    case JSON_OBJECT: {
        struct jinja_dict *dict = NULL;
        TRY(jinja_take(run, &dict, 1, sizeof *dict));
        dict->tag = tag;
        dict->json = json;
        *out = (struct jinja_value){.kind = KIND_DICT, .u.dict = dict};
        return COHORT_OK;
    }
    default: *out = (struct jinja_value){.kind = KIND_NONE}; return COHORT_OK;
    }
}

cohort_status jinja_from_variable(struct jinja_run *run, const struct jinja_variable *variable, struct jinja_value *out)
{
    if (json_is_array(variable->value) && variable->elements != NULL)
        return list_of_json(run, variable->value, (uint8_t)variable->origin, variable->elements, out);
    return jinja_from_json(run, variable->value, (uint8_t)variable->origin, out);
}

/* ---- lists ---- */

cohort_status jinja_list_new(struct jinja_run *run, enum jinja_shape shape, size_t count, struct jinja_value *out)
{
    struct jinja_list *list = NULL;
    TRY(jinja_step(run, count / 8));
    TRY(jinja_take(run, &list, 1, sizeof *list));
    list->shape = shape;
    list->count = count;
    TRY(jinja_take(run, &list->items, count, sizeof *list->items));
    *out = (struct jinja_value){.kind = KIND_LIST, .u.list = list};
    return COHORT_OK;
}

cohort_status jinja_items(struct jinja_run *run, struct jinja_list *list)
{
    struct jinja_value *items = NULL;
    if (list->items != NULL || list->json == NULL)
        return COHORT_OK;
    TRY(jinja_step(run, list->count / 8));
    TRY(jinja_take(run, &items, list->count, sizeof *items));
    for (size_t i = 0; i < list->count; i++)
        TRY(jinja_from_json(run, json_array_get(list->json, i),
                            list->elements != NULL ? (uint8_t)list->elements[i] : list->tag, &items[i]));
    list->items = items;
    return COHORT_OK;
}

/* A string's characters as a list. */
static cohort_status characters_of(struct jinja_run *run, const struct jinja_string *string, struct jinja_value *out)
{
    const size_t n = jinja_characters(string);
    struct jinja_string *plain = NULL; /* what Python takes from a safe string one by one is not safe */
    TRY(jinja_take(run, &plain, 1, sizeof *plain));
    *plain = *string;
    plain->safe = false;
    TRY(jinja_list_new(run, SHAPE_LIST, n, out));
    for (size_t i = 0, at = 0; i < n; i++) {
        uint32_t code_point = 0;
        const size_t length = utf8_decode(string->bytes + at, &code_point);
        TRY(jinja_string_part(run, plain, at, at + length, &out->u.list->items[i]));
        at += length;
    }
    return COHORT_OK;
}

cohort_status jinja_iterate(struct jinja_run *run, const struct jinja_value *value, struct jinja_list **out)
{
    struct jinja_value made = {.kind = KIND_ABSENT};
    switch (value->kind) {
    case KIND_LIST: {
        struct jinja_list *list = value->u.list;
        TRY(jinja_items(run, list));
        *out = list;
        if (list->shape != SHAPE_ITERATOR)
            return COHORT_OK;
        TRY(jinja_take(run, out, 1, sizeof **out));
        **out = (struct jinja_list){
            .shape = SHAPE_ITERATOR, .count = list->count - list->taken, .items = list->items + list->taken};
        list->taken = list->count;
        return COHORT_OK;
    }
    case KIND_DICT: TRY(jinja_dict_list(run, value->u.dict, PART_KEYS, SHAPE_LIST, &made)); break;
    case KIND_STRING: TRY(characters_of(run, value->u.string, &made)); break;
    case KIND_UNDEFINED: TRY(jinja_list_new(run, SHAPE_LIST, 0, &made)); break;
    default: return jinja_fail(run, "a %s cannot be iterated over", jinja_type_name(value));
    }
    *out = made.u.list;
    return COHORT_OK;
}

/* ---- dicts ---- */

cohort_status jinja_dict_new(struct jinja_run *run, struct jinja_value *out)
{
    struct jinja_dict *dict = NULL;
    TRY(jinja_take(run, &dict, 1, sizeof *dict));
    *out = (struct jinja_value){.kind = KIND_DICT, .u.dict = dict};
    return COHORT_OK;
}

size_t jinja_dict_count(const struct jinja_dict *dict)
{
    return dict->json != NULL ? json_object_size(dict->json) : dict->count;
}

static cohort_status check_key(struct jinja_run *run, const struct jinja_value *key)
{
    if (key->kind == KIND_DICT ||
        (key->kind == KIND_LIST && key->u.list->shape != SHAPE_TUPLE && key->u.list->shape != SHAPE_RANGE))
        return jinja_fail(run, "a %s cannot be a key", jinja_type_name(key));
    return COHORT_OK;
}

static cohort_status find_entry(struct jinja_run *run, const struct jinja_dict *dict, const struct jinja_value *key,
                                struct jinja_entry **out)
{
    *out = NULL;
    TRY(jinja_step(run, dict->count / 8));
    for (size_t i = 0; i < dict->count && *out == NULL; i++) {
        bool same = false;
        TRY(jinja_equal(run, &dict->entries[i].key, key, &same));
        if (same)
            *out = &dict->entries[i];
    }
    return COHORT_OK;
}

cohort_status jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict, const struct jinja_value *key,
                             bool *found, struct jinja_value *out)
{
    *found = false;
    TRY(check_key(run, key));
    if (dict->json != NULL) {
        if (key->kind != KIND_STRING)
            return COHORT_OK;
        const json_t *value = json_object_getn(dict->json, key->u.string->bytes, key->u.string->length);
        *found = value != NULL;
        return *found ? jinja_from_json(run, value, dict->tag, out) : COHORT_OK;
    }
    struct jinja_entry *entry = NULL;
    TRY(find_entry(run, dict, key, &entry));
    *found = entry != NULL;
    if (*found)
        *out = entry->value;
    return COHORT_OK;
}

cohort_status jinja_dict_set(struct jinja_run *run, struct jinja_dict *dict, const struct jinja_value *key,
                             const struct jinja_value *value)
{
    struct jinja_entry *entry = NULL;
    TRY(check_key(run, key));
    TRY(find_entry(run, dict, key, &entry));
    if (entry != NULL) {
        entry->value = *value;
        return COHORT_OK;
    }
    TRY(jinja_grow(run, &dict->entries, &dict->capacity, dict->count, sizeof *dict->entries));
    dict->entries[dict->count++] = (struct jinja_entry){.key = *key, .value = *value};
    return COHORT_OK;
}

cohort_status jinja_dict_entries(struct jinja_run *run, const struct jinja_dict *dict, struct jinja_entry **out)
{
    const size_t n = jinja_dict_count(dict);
    size_t i = 0;
    TRY(jinja_step(run, n / 8));
    TRY(jinja_take(run, out, n, sizeof **out));
    if (dict->json == NULL) {
        if (n > 0)
            memcpy(*out, dict->entries, n * sizeof **out);
        return COHORT_OK;
    }
    json_t *json = (json_t *)(uintptr_t)dict->json; /* jansson's iteration wants to be able to change it */
    for (void *at = json_object_iter(json); at != NULL && i < n; at = json_object_iter_next(json, at), i++) {
        struct jinja_string *key = NULL;
        TRY(jinja_take(run, &key, 1, sizeof *key));
        *key = (struct jinja_string){.bytes = json_object_iter_key(at),
                                     .length = json_object_iter_key_len(at),
                                     .characters = UNCOUNTED,
                                     .tag = dict->tag};
        (*out)[i].key = jinja_string_value(key);
        TRY(jinja_from_json(run, json_object_iter_value(at), dict->tag, &(*out)[i].value));
    }
    return COHORT_OK;
}

cohort_status jinja_dict_list(struct jinja_run *run, const struct jinja_dict *dict, enum jinja_part part,
                              enum jinja_shape shape, struct jinja_value *out)
{
    const size_t n = jinja_dict_count(dict);
    struct jinja_entry *entries = NULL;
    TRY(jinja_dict_entries(run, dict, &entries));
    TRY(jinja_list_new(run, shape, n, out));
    for (size_t i = 0; i < n; i++) {
        struct jinja_value *item = &out->u.list->items[i];
        if (part == PART_ITEMS) {
            TRY(jinja_list_new(run, SHAPE_TUPLE, 2, item));
            item->u.list->items[0] = entries[i].key;
            item->u.list->items[1] = entries[i].value;
        } else {
            *item = part == PART_KEYS ? entries[i].key : entries[i].value;
        }
    }
    return COHORT_OK;
}

/* ---- equality, as Python has it ---- */

static cohort_status lists_equal(struct jinja_run *run, struct jinja_list *a, struct jinja_list *b, bool *out)
{
    *out = a == b;
    if (a == b || a->shape != b->shape || a->count != b->count || a->shape > SHAPE_RANGE)
        return COHORT_OK;
    TRY(jinja_items(run, a));
    TRY(jinja_items(run, b));
    TRY(jinja_step(run, a->count / 8));
    *out = true;
    for (size_t i = 0; i < a->count && *out; i++)
        TRY(jinja_equal(run, &a->items[i], &b->items[i], out));
    return COHORT_OK;
}

static cohort_status dicts_equal(struct jinja_run *run, const struct jinja_dict *a, const struct jinja_dict *b,
                                 bool *out)
{
    const size_t n = jinja_dict_count(a);
    struct jinja_entry *entries = NULL;
    *out = a == b;
    if (a == b || n != jinja_dict_count(b))
        return COHORT_OK;
    TRY(jinja_dict_entries(run, a, &entries));
    *out = true;
    for (size_t i = 0; i < n && *out; i++) {
        struct jinja_value other = {.kind = KIND_ABSENT};
        TRY(jinja_dict_get(run, b, &entries[i].key, out, &other));
        if (*out)
            TRY(jinja_equal(run, &entries[i].value, &other, out));
    }
    return COHORT_OK;
}

static bool is_number(const struct jinja_value *value)
{
    return value->kind == KIND_BOOL || value->kind == KIND_INT || value->kind == KIND_FLOAT;
}

/* Exact also where a double cannot hold the integer. */
static bool numbers_equal(const struct jinja_value *a, const struct jinja_value *b)
{
    if (a->kind != KIND_FLOAT && b->kind == KIND_FLOAT)
        return numbers_equal(b, a);
    const int64_t integer = b->kind == KIND_BOOL ? b->u.boolean : b->u.integer;
    if (a->kind != KIND_FLOAT)
        return (a->kind == KIND_BOOL ? a->u.boolean : a->u.integer) == integer;
    if (b->kind == KIND_FLOAT)
        return a->u.real == b->u.real;
    return a->u.real >= -0x1p63 && a->u.real < 0x1p63 && (double)(int64_t)a->u.real == a->u.real &&
           (int64_t)a->u.real == integer;
}

cohort_status jinja_equal(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b, bool *out)
{
    *out = false;
    if (is_number(a) && is_number(b)) {
        *out = numbers_equal(a, b);
        return COHORT_OK;
    }
    if (a->kind != b->kind)
        return COHORT_OK;
    switch (a->kind) {
    case KIND_ABSENT:
    case KIND_UNDEFINED:
    case KIND_NONE: *out = true; return COHORT_OK;
    case KIND_STRING:
        TRY(jinja_step(run, a->u.string->length / 64));
        *out = jinja_string_equal(a->u.string, b->u.string);
        return COHORT_OK;
    case KIND_LIST:
        TRY(jinja_enter(run));
        TRY(lists_equal(run, a->u.list, b->u.list, out));
        run->depth++;
        return COHORT_OK;
    case KIND_DICT:
        TRY(jinja_enter(run));
        TRY(dicts_equal(run, a->u.dict, b->u.dict, out));
        run->depth++;
        return COHORT_OK;
    case KIND_FUNCTION:
        *out = a->u.function->builtin == b->u.function->builtin && a->u.function->self.kind == KIND_ABSENT &&
               b->u.function->self.kind == KIND_ABSENT;
        return COHORT_OK;
    case KIND_NAMESPACE: *out = a->u.space == b->u.space; return COHORT_OK;
    case KIND_MACRO: *out = a->u.macro == b->u.macro; return COHORT_OK;
    default: *out = a->u.loop == b->u.loop; return COHORT_OK;
    }
}
