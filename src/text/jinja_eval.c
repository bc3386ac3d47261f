/* Expressions: from a node to its value. Operators are in jinja_operator.c, what is built in in the files of its
 * kind. */
#include "text/jinja_internal.h"

#include <string.h>

/* ---- names, attributes, items ---- */

cohort_status jinja_lookup(struct jinja_run *run, int32_t name, struct jinja_value *out)
{
    for (const struct jinja_scope *scope = run->scope; scope != NULL; scope = scope->outer) {
        for (size_t i = 0; i < scope->count; i++) {
            if (scope->bindings[i].name == name) {
                *out = scope->bindings[i].value;
                return COHORT_OK;
            }
        }
    }
    *out = run->globals[name];
    if (out->kind != KIND_ABSENT)
        return COHORT_OK;
    return jinja_undefined(run, LACK_VARIABLE, run->template->names[name]->bytes, NULL, 0, out);
}

/* string as a name for messages. */
static cohort_status name_text(struct jinja_run *run, const struct jinja_string *string, const char **out)
{
    char *copy = NULL;
    const size_t n = string->length < 200 ? string->length : 200;
    TRY(jinja_take(run, &copy, n + 1, 1));
    memcpy(copy, string->bytes, n);
    *out = copy;
    return COHORT_OK;
}

/* The method of value that stands at methods or behind it, under the same name; NULL: there is none. */
static const struct jinja_builtin *method_of(const struct jinja_builtin *methods, enum jinja_kind kind)
{
    if (methods == NULL)
        return NULL;
    for (const struct jinja_builtin *at = methods; at->name != NULL && strcmp(at->name, methods->name) == 0; at++)
        if ((at->kinds & KIND_BIT(kind)) != 0)
            return at;
    return NULL;
}

static cohort_status bind_method(struct jinja_run *run, const struct jinja_builtin *method,
                                 const struct jinja_value *self, struct jinja_value *out)
{
    struct jinja_bound *bound = NULL;
    if (method->run == NULL)
        return jinja_undefined(run, LACK_UNSAFE, method->name, jinja_type_name(self), 0, out);
    TRY(jinja_take(run, &bound, 1, sizeof *bound));
    *bound = (struct jinja_bound){.builtin = method, .self = *self};
    *out = (struct jinja_value){.kind = KIND_FUNCTION, .u.function = bound};
    return COHORT_OK;
}

/* Attributes that are no items. *found false: value has none of that name. */
static cohort_status own_attribute(struct jinja_run *run, const struct jinja_value *value,
                                   const struct jinja_string *key, const struct jinja_builtin *methods, bool *found,
                                   struct jinja_value *out)
{
    const struct jinja_builtin *method = method_of(methods, value->kind);
    *found = true;
    if (method != NULL)
        return bind_method(run, method, value, out);
    if (value->kind == KIND_NAMESPACE)
        return jinja_dict_get(run, &value->u.space->attributes,
                              &(struct jinja_value){.kind = KIND_STRING, .u.string = key}, found, out);
    if (value->kind == KIND_LOOP) {
        TRY(jinja_loop_attribute(run, value->u.loop, key, out));
        *found = out->kind != KIND_ABSENT;
        return COHORT_OK;
    }
    if (value->kind == KIND_MACRO && key->length == 4 && memcmp(key->bytes, "name", 4) == 0) {
        const int32_t name = value->u.macro->signature->name;
        *out = name < 0 ? (struct jinja_value){.kind = KIND_NONE} : jinja_string_value(run->template->names[name]);
        return COHORT_OK;
    }
    *found = false;
    return COHORT_OK;
}

cohort_status jinja_attribute(struct jinja_run *run, const struct jinja_value *value, const struct jinja_string *key,
                              const struct jinja_builtin *methods, struct jinja_value *out)
{
    const char *name = NULL;
    bool found = false;
    if (value->kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, value);
    TRY(own_attribute(run, value, key, methods, &found, out));
    if (!found && value->kind == KIND_DICT)
        TRY(jinja_dict_get(run, value->u.dict, &(struct jinja_value){.kind = KIND_STRING, .u.string = key}, &found,
                           out));
    if (found)
        return COHORT_OK;
    TRY(name_text(run, key, &name));
    return jinja_undefined(run, LACK_ATTRIBUTE, name, jinja_type_name(value), 0, out);
}

static cohort_status item_at(struct jinja_run *run, const struct jinja_value *value, int64_t index, bool *found,
                             struct jinja_value *out)
{
    const bool is_string = value->kind == KIND_STRING;
    const size_t count = is_string ? jinja_characters(value->u.string) : value->u.list->count;
    const int64_t at = index < 0 ? index + (int64_t)count : index;
    *found = at >= 0 && (uint64_t)at < count;
    if (!*found)
        return COHORT_OK;
    if (!is_string) {
        TRY(jinja_items(run, value->u.list));
        *out = value->u.list->items[at];
        return COHORT_OK;
    }
    const size_t from = jinja_character_at(value->u.string, (size_t)at);
    uint32_t code_point = 0;
    if (count < value->u.string->length)
        TRY(jinja_step(run, value->u.string->length / 8));
    return jinja_string_part(run, value->u.string, from, from + utf8_decode(value->u.string->bytes + from, &code_point),
                             out);
}

static bool has_items(const struct jinja_value *value)
{
    return value->kind == KIND_STRING || (value->kind == KIND_LIST && value->u.list->shape <= SHAPE_RANGE);
}

cohort_status jinja_item(struct jinja_run *run, const struct jinja_value *value, const struct jinja_value *key,
                         struct jinja_value *out)
{
    bool found = false;
    if (value->kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, value);
    const bool is_index = key->kind == KIND_INT || key->kind == KIND_BOOL;
    const int64_t index = key->kind == KIND_INT ? key->u.integer : is_index && key->u.boolean;
    if (value->kind == KIND_DICT) {
        if (key->kind != KIND_DICT && (key->kind != KIND_LIST || key->u.list->shape == SHAPE_TUPLE))
            TRY(jinja_dict_get(run, value->u.dict, key, &found, out));
    } else if (has_items(value) && is_index) {
        TRY(item_at(run, value, index, &found, out));
    }
    if (found)
        return COHORT_OK;
    if (key->kind != KIND_STRING)
        return jinja_undefined(run, is_index ? LACK_ELEMENT : LACK_HINT, "an item that is not there is used",
                               jinja_type_name(value), index, out);
    const char *name = NULL;
    TRY(name_text(run, key->u.string, &name));
    TRY(own_attribute(run, value, key->u.string, key->u.string->length < 200 ? jinja_find_method(name) : NULL, &found,
                      out));
    return found ? COHORT_OK : jinja_undefined(run, LACK_ATTRIBUTE, name, jinja_type_name(value), 0, out);
}

/* ---- calls ---- */

static cohort_status star_args(struct jinja_run *run, const struct jinja_node *star, size_t fixed,
                               struct jinja_value **values, size_t *count)
{
    struct jinja_value value;
    struct jinja_list *list = NULL;
    struct jinja_value *grown = NULL;
    TRY(jinja_eval(run, star, &value));
    TRY(jinja_iterate(run, &value, &list));
    TRY(jinja_step(run, list->count / 8));
    TRY(jinja_take(run, &grown, fixed + list->count, sizeof *grown));
    if (fixed > 0)
        memcpy(grown, *values, fixed * sizeof *grown);
    if (list->count > 0)
        memcpy(grown + fixed, list->items, list->count * sizeof *grown);
    *values = grown;
    *count = fixed + list->count;
    return COHORT_OK;
}

static cohort_status double_star_args(struct jinja_run *run, const struct jinja_node *node,
                                      struct jinja_keyword **named, size_t *n_named)
{
    struct jinja_value value;
    struct jinja_entry *entries = NULL;
    struct jinja_keyword *grown = NULL;
    TRY(jinja_eval(run, node, &value));
    if (value.kind != KIND_DICT)
        return jinja_fail(run, "what stands behind ** must be a dict, not a %s", jinja_type_name(&value));
    const size_t n = jinja_dict_count(value.u.dict);
    TRY(jinja_dict_entries(run, value.u.dict, &entries));
    TRY(jinja_take(run, &grown, *n_named + n + 1, sizeof *grown));
    if (*n_named > 0)
        memcpy(grown, *named, *n_named * sizeof *grown);
    for (size_t i = 0; i < n; i++) {
        if (entries[i].key.kind != KIND_STRING)
            return jinja_fail(run, "the keys of a dict behind ** must be strings");
        for (size_t k = 0; k < *n_named; k++)
            if (jinja_string_equal(grown[k].name, entries[i].key.u.string))
                return jinja_fail(run, "the argument '%.*s' is given twice",
                                  (int)(grown[k].name->length < 100 ? grown[k].name->length : 100),
                                  grown[k].name->bytes);
        grown[*n_named + i] = (struct jinja_keyword){.name = entries[i].key.u.string, .value = entries[i].value};
    }
    *named = grown;
    *n_named += n;
    return COHORT_OK;
}

cohort_status jinja_eval_args(struct jinja_run *run, const struct jinja_arguments *arguments,
                              const struct jinja_value *caller, struct jinja_args *out)
{
    struct jinja_value *values = NULL;
    struct jinja_keyword *named = NULL;
    *out = (struct jinja_args){0};
    size_t count = 0, n_named = 0;
    if (arguments != NULL) {
        count = arguments->count;
        n_named = arguments->n_named;
    }
    if (count > 0)
        TRY(jinja_take(run, &values, count, sizeof *values));
    if (n_named > 0 || caller != NULL)
        TRY(jinja_take(run, &named, n_named + 1, sizeof *named));
    for (size_t i = 0; i < count; i++)
        TRY(jinja_eval(run, arguments->values[i], &values[i]));
    for (size_t i = 0; i < n_named; i++) {
        named[i].name = run->template->names[arguments->names[i]];
        TRY(jinja_eval(run, arguments->values[count + i], &named[i].value));
    }
    if (caller != NULL)
        named[n_named++] =
            (struct jinja_keyword){.name = run->template->names[run->template->caller], .value = *caller};
    if (arguments != NULL && arguments->star != NULL)
        TRY(star_args(run, arguments->star, count, &values, &count));
    if (arguments != NULL && arguments->double_star != NULL)
        TRY(double_star_args(run, arguments->double_star, &named, &n_named));
    *out = (struct jinja_args){.values = values, .count = count, .named = named, .n_named = n_named};
    return COHORT_OK;
}

/* The place of a parameter by its name, or MAX_PARAMETERS; *n counts them all. */
static size_t find_parameter(const char *parameters, const struct jinja_string *name, size_t *n)
{
    size_t place = MAX_PARAMETERS;
    for (*n = 0; *parameters != '\0'; ++*n) {
        const size_t length = strcspn(parameters, " ");
        if (name != NULL && name->length == length && memcmp(name->bytes, parameters, length) == 0)
            place = *n;
        parameters += length;
        parameters += strspn(parameters, " ");
    }
    return place;
}

cohort_status jinja_builtin_call(struct jinja_run *run, const struct jinja_builtin *builtin,
                                 const struct jinja_value *self, const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_call call = {.run = run, .self = *self, .args = args};
    size_t n = 0;
    if (builtin->parameters == NULL)
        return builtin->run(&call, out);
    find_parameter(builtin->parameters, NULL, &n);
    if (args->count > n)
        return jinja_fail(run, "'%s' takes %zu arguments at most, not %zu", builtin->name, n, args->count);
    for (size_t i = 0; i < args->count; i++)
        call.arg[i] = args->values[i];
    for (size_t i = 0; i < args->n_named; i++) {
        const struct jinja_string *name = args->named[i].name;
        const size_t place = find_parameter(builtin->parameters, name, &n);
        if (place == MAX_PARAMETERS || call.arg[place].kind != KIND_ABSENT)
            return jinja_fail(run, "'%s' takes no argument '%.*s'%s", builtin->name,
                              (int)(name->length < 100 ? name->length : 100), name->bytes,
                              place == MAX_PARAMETERS ? "" : " twice");
        call.arg[place] = args->named[i].value;
    }
    for (size_t i = 0; i < builtin->required; i++)
        if (call.arg[i].kind == KIND_ABSENT)
            return jinja_fail(run, "'%s' wants %u argument%s (%s)", builtin->name, builtin->required,
                              builtin->required == 1 ? "" : "s", builtin->parameters);
    return builtin->run(&call, out);
}

cohort_status jinja_call(struct jinja_run *run, const struct jinja_value *function, const struct jinja_args *args,
                         struct jinja_value *out)
{
    switch (function->kind) {
    case KIND_FUNCTION:
        return jinja_builtin_call(run, function->u.function->builtin, &function->u.function->self, args, out);
    case KIND_MACRO: return jinja_macro_call(run, function->u.macro, args, out);
    case KIND_UNDEFINED: return jinja_fail_undefined(run, function);
    case KIND_LOOP: return jinja_fail(run, "recursive loops are not supported: 'loop' cannot be called");
    default: return jinja_fail(run, "a %s cannot be called", jinja_type_name(function));
    }
}

static cohort_status eval_call(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value function;
    struct jinja_args args;
    TRY(jinja_eval(run, node->left, &function));
    TRY(jinja_eval_args(run, node->arguments, NULL, &args));
    run->line = node->line;
    return jinja_call(run, &function, &args, out);
}

/* A filter or test over self. */
static cohort_status eval_builtin(struct jinja_run *run, const struct jinja_node *node, const struct jinja_value *self,
                                  struct jinja_value *out)
{
    struct jinja_args args = {0};
    if (node->arguments != NULL)
        TRY(jinja_eval_args(run, node->arguments, NULL, &args));
    run->line = node->line;
    return jinja_builtin_call(run, node->builtin, self, &args, out);
}

cohort_status jinja_eval_filters(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *value)
{
    if (node == NULL)
        return COHORT_OK;
    TRY(jinja_enter(run));
    TRY(jinja_eval_filters(run, node->left, value));
    run->depth++;
    const struct jinja_value self = *value;
    return eval_builtin(run, node, &self, value);
}

/* ---- operators ---- */

static cohort_status eval_chain(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    TRY(jinja_eval(run, node->left, out));
    for (size_t i = 0; i < node->n_items; i++) {
        const struct jinja_value left = *out;
        struct jinja_value right;
        TRY(jinja_eval(run, node->items[i], &right));
        run->line = node->line;
        TRY(jinja_operate(run, node->operators[i], &left, &right, out));
    }
    return COHORT_OK;
}

static cohort_status eval_compare(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value left, right;
    bool holds = true;
    TRY(jinja_eval(run, node->left, &left));
    for (size_t i = 0; i < node->n_items && holds; i++, left = right) {
        TRY(jinja_eval(run, node->items[i], &right));
        run->line = node->line;
        TRY(jinja_compare(run, node->operators[i], &left, &right, &holds));
    }
    *out = jinja_bool(holds);
    return COHORT_OK;
}

static cohort_status eval_concat(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    const struct jinja_string *whole = NULL, *part = NULL;
    TRY(jinja_eval(run, node->left, out));
    TRY(jinja_to_string(run, out, &whole));
    for (size_t i = 0; i < node->n_items; i++) {
        struct jinja_value value;
        TRY(jinja_eval(run, node->items[i], &value));
        TRY(jinja_to_string(run, &value, &part));
        TRY(jinja_string_concat(run, whole, part, out));
        whole = out->u.string;
    }
    return COHORT_OK;
}

static cohort_status eval_logic(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    for (size_t i = 0; i < node->n_items; i++) {
        TRY(jinja_eval(run, node->items[i], out));
        if (jinja_truth(out) == (node->type == NODE_OR))
            break;
    }
    return COHORT_OK;
}

static cohort_status eval_condition(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    TRY(jinja_eval(run, node->right, out));
    if (jinja_truth(out))
        return jinja_eval(run, node->left, out);
    if (node->third != NULL)
        return jinja_eval(run, node->third, out);
    return jinja_undefined(run, LACK_HINT, "the inline if-expression evaluated to false and has no else", NULL, 0, out);
}

static cohort_status eval_negate(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value value;
    const struct jinja_value zero = jinja_int(0);
    TRY(jinja_eval(run, node->left, &value));
    run->line = node->line;
    if (value.kind == KIND_FLOAT) {
        *out = (struct jinja_value){.kind = KIND_FLOAT,
                                    .u.real = node->type == NODE_NEGATE ? -value.u.real : value.u.real};
        return COHORT_OK;
    }
    if (value.kind != KIND_INT && value.kind != KIND_BOOL && value.kind != KIND_UNDEFINED)
        return jinja_fail(run, "a %s has no sign", jinja_type_name(&value));
    return jinja_operate(run, node->type == NODE_NEGATE ? OP_SUB : OP_ADD, &zero, &value, out);
}

static cohort_status eval_slice(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value value, bounds[3];
    TRY(jinja_eval(run, node->left, &value));
    for (size_t i = 0; i < 3; i++) {
        bounds[i] = (struct jinja_value){.kind = KIND_NONE};
        if (node->items[i] != NULL)
            TRY(jinja_eval(run, node->items[i], &bounds[i]));
    }
    run->line = node->line;
    return jinja_slice(run, &value, bounds, out);
}

/* ---- literals ---- */

static cohort_status eval_list(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value list;
    TRY(jinja_list_new(run, node->type == NODE_LIST ? SHAPE_LIST : SHAPE_TUPLE, node->n_items, &list));
    for (size_t i = 0; i < node->n_items; i++)
        TRY(jinja_eval(run, node->items[i], &list.u.list->items[i]));
    *out = list;
    return COHORT_OK;
}

static cohort_status eval_dict(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value dict, key, value;
    TRY(jinja_dict_new(run, &dict));
    for (size_t i = 0; i + 1 < node->n_items; i += 2) {
        TRY(jinja_eval(run, node->items[i], &key));
        TRY(jinja_eval(run, node->items[i + 1], &value));
        TRY(jinja_dict_set(run, dict.u.dict, &key, &value));
    }
    *out = dict;
    return COHORT_OK;
}

static cohort_status eval_inner(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value left, right;
    switch (node->type) {
    case NODE_ATTRIBUTE:
        TRY(jinja_eval(run, node->left, &left));
        run->line = node->line;
        return jinja_attribute(run, &left, node->constant.u.string, node->builtin, out);
    case NODE_ITEM:
        TRY(jinja_eval(run, node->left, &left));
        TRY(jinja_eval(run, node->right, &right));
        run->line = node->line;
        return jinja_item(run, &left, &right, out);
    case NODE_SLICE: return eval_slice(run, node, out);
    case NODE_CALL: return eval_call(run, node, out);
    case NODE_FILTER:
    case NODE_TEST: TRY(jinja_eval(run, node->left, &left)); return eval_builtin(run, node, &left, out);
    case NODE_CHAIN: return eval_chain(run, node, out);
    case NODE_COMPARE: return eval_compare(run, node, out);
    case NODE_CONCAT: return eval_concat(run, node, out);
    case NODE_AND:
    case NODE_OR: return eval_logic(run, node, out);
    case NODE_NOT:
        TRY(jinja_eval(run, node->left, &left));
        *out = jinja_bool(!jinja_truth(&left));
        return COHORT_OK;
    case NODE_NEGATE:
    case NODE_PLUS: return eval_negate(run, node, out);
    case NODE_CONDITION: return eval_condition(run, node, out);
    case NODE_LIST:
    case NODE_TUPLE: return eval_list(run, node, out);
    case NODE_DICT: return eval_dict(run, node, out);
    default: return error_set(run->err, COHORT_ERR_INTERNAL, "node %d is no expression", (int)node->type);
    }
}

cohort_status jinja_eval(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    run->line = node->line;
    if (node->type == NODE_CONSTANT) {
        *out = node->constant;
        return jinja_step(run, 1);
    }
    if (node->type == NODE_NAME) {
        TRY(jinja_step(run, 1));
        return jinja_lookup(run, node->name, out);
    }
    TRY(jinja_enter(run));
    TRY(eval_inner(run, node, out));
    run->depth++;
    return COHORT_OK;
}
