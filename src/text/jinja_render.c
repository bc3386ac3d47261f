/* Statements: what a template writes. A rendering ends with its run: nothing of it is kept but the output. */
#include "text/jinja_internal.h"

#include "base/number.h"

#include <string.h>
#include <time.h>

enum {
    DEFAULT_STEPS = 10 * 1000 * 1000,
    DEFAULT_BYTES = 128 * 1024 * 1024,
    DEFAULT_DEPTH = 200,
    FIRST_CHUNK = 1 << 15 /* bytes: most renderings need no second one */
};

static cohort_status execute(struct jinja_run *run, const struct jinja_node *node);

/* ---- output ---- */

static cohort_status write_bytes(struct jinja_run *run, const char *bytes, size_t length, uint8_t tag)
{
    struct jinja_writer *writer = run->writer;
    if (length == 0)
        return COHORT_OK;
    tag |= writer->generated;
    TRY(jinja_spend(run, length));
    TRY(text_append(&writer->text, bytes, length, run->err));
    if (writer->n_segments > 0 && writer->segments[writer->n_segments - 1].tag == tag) {
        writer->segments[writer->n_segments - 1].end = writer->text.length;
        return COHORT_OK;
    }
    TRY(jinja_spend(run, sizeof *writer->segments));
    TRY(mem_grow(&writer->segments, &writer->capacity, writer->n_segments + 1, sizeof *writer->segments,
                 "a chat template", run->err));
    writer->segments[writer->n_segments++] = (struct jinja_segment){.end = writer->text.length, .tag = tag};
    return COHORT_OK;
}

static cohort_status write_string(struct jinja_run *run, const struct jinja_string *string)
{
    if (string->segments == NULL)
        return write_bytes(run, string->bytes, string->length, string->tag);
    TRY(jinja_step(run, string->n_segments / 8));
    for (size_t i = 0, from = 0; i < string->n_segments; from = string->segments[i++].end)
        TRY(write_bytes(run, string->bytes + from, string->segments[i].end - from, string->segments[i].tag));
    return COHORT_OK;
}

static cohort_status write_value(struct jinja_run *run, const struct jinja_value *value)
{
    const struct jinja_string *string = NULL;
    TRY(jinja_to_string(run, value, &string));
    return write_string(run, string);
}

/* What is written from now on is collected. Undone by writer_end or writer_drop. */
static cohort_status writer_begin(struct jinja_run *run)
{
    struct jinja_writer *writer = run->spare_writers;
    if (writer != NULL)
        run->spare_writers = writer->outer;
    else
        TRY(jinja_take(run, &writer, 1, sizeof *writer));
    writer->text.length = 0;
    writer->n_segments = 0;
    writer->generated = 0;
    writer->outer = run->writer;
    run->writer = writer;
    return COHORT_OK;
}

static void writer_drop(struct jinja_run *run)
{
    struct jinja_writer *writer = run->writer;
    run->writer = writer->outer;
    writer->outer = run->spare_writers;
    run->spare_writers = writer;
}

/* *out = what was collected. */
static cohort_status writer_end(struct jinja_run *run, struct jinja_value *out)
{
    const struct jinja_writer *writer = run->writer;
    struct jinja_builder builder;
    jinja_build(&builder, run);
    for (size_t i = 0, from = 0; i < writer->n_segments; from = writer->segments[i++].end)
        TRY(jinja_build_bytes(&builder, writer->text.data + from, writer->segments[i].end - from,
                              writer->segments[i].tag));
    writer_drop(run);
    return jinja_build_end(&builder, out);
}

static void writer_free(struct jinja_writer *writer)
{
    for (; writer != NULL; writer = writer->outer) {
        text_free(&writer->text);
        mem_free(writer->segments);
    }
}

/* ---- names ---- */

static cohort_status scope_new(struct jinja_run *run, struct jinja_scope *outer, struct jinja_scope **out)
{
    TRY(jinja_take(run, out, 1, sizeof **out));
    **out = (struct jinja_scope){.outer = outer};
    return COHORT_OK;
}

static cohort_status assign_name(struct jinja_run *run, int32_t name, const struct jinja_value *value)
{
    struct jinja_scope *scope = run->scope;
    if (scope == NULL) {
        run->globals[name] = *value;
        return COHORT_OK;
    }
    for (size_t i = 0; i < scope->count; i++) {
        if (scope->bindings[i].name == name) {
            scope->bindings[i].value = *value;
            return COHORT_OK;
        }
    }
    TRY(jinja_grow(run, &scope->bindings, &scope->capacity, scope->count, sizeof *scope->bindings));
    scope->bindings[scope->count++] = (struct jinja_binding){.name = name, .value = *value};
    return COHORT_OK;
}

static cohort_status assign_attribute(struct jinja_run *run, const struct jinja_node *target,
                                      const struct jinja_value *value)
{
    struct jinja_value space;
    TRY(jinja_lookup(run, target->left->name, &space));
    if (space.kind != KIND_NAMESPACE)
        return jinja_fail(run, "cannot assign to an attribute of '%.100s', which is no namespace",
                          run->template->names[target->left->name]->bytes);
    return jinja_namespace_set(run, space.u.space, target->constant.u.string, value);
}

static cohort_status assign(struct jinja_run *run, const struct jinja_node *target, const struct jinja_value *value)
{
    struct jinja_list *list = NULL;
    if (target->type == NODE_NAME)
        return assign_name(run, target->name, value);
    if (target->type == NODE_ATTRIBUTE_TARGET)
        return assign_attribute(run, target, value);
    if (value->kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, value);
    TRY(jinja_iterate(run, value, &list));
    if (list->count != target->n_items)
        return jinja_fail(run, "%zu names stand for %zu values", target->n_items, list->count);
    TRY(jinja_enter(run));
    for (size_t i = 0; i < target->n_items; i++)
        TRY(assign(run, target->items[i], &list->items[i]));
    run->depth++;
    return COHORT_OK;
}

/* ---- loops ---- */

cohort_status jinja_loop_next(struct jinja_run *run, struct jinja_loop *loop, struct jinja_value *out)
{
    struct jinja_scope *const scope = run->scope;
    *out = (struct jinja_value){.kind = KIND_ABSENT};
    while (loop->next < loop->items->count) {
        const struct jinja_value *item = &loop->items->items[loop->next++];
        struct jinja_value passes = jinja_bool(true);
        if (loop->node->right != NULL && !loop->filtered) {
            TRY(scope_new(run, loop->scope, &run->scope));
            TRY(assign(run, loop->node->target, item));
            TRY(jinja_eval(run, loop->node->right, &passes));
            run->scope = scope;
        }
        if (jinja_truth(&passes)) {
            *out = *item;
            return COHORT_OK;
        }
    }
    return COHORT_OK;
}

/* One round of a loop's body. All rounds have one scope: a macro that was made in one sees the names of the present one,
 * as in jinja2. */
static cohort_status loop_round(struct jinja_run *run, struct jinja_loop *loop, struct jinja_scope **scope)
{
    const struct jinja_value self = {.kind = KIND_LOOP, .u.loop = loop};
    if (*scope == NULL)
        TRY(scope_new(run, loop->scope, scope));
    (*scope)->count = 0;
    run->scope = *scope;
    TRY(assign_name(run, run->template->loop, &self));
    TRY(assign(run, loop->node->target, &loop->current));
    TRY(execute(run, loop->node->body));
    run->scope = loop->scope;
    return COHORT_OK;
}

static cohort_status execute_for(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value over, next;
    struct jinja_loop *loop = NULL;
    struct jinja_scope *scope = NULL;
    bool finished_one = false; /* as in jinja2: a round that ended by break or continue does not count for else */
    TRY(jinja_eval(run, node->left, &over));
    run->line = node->line;
    TRY(jinja_take(run, &loop, 1, sizeof *loop));
    *loop = (struct jinja_loop){.node = node, .scope = run->scope};
    TRY(jinja_iterate(run, &over, &loop->items));
    for (;; loop->index0++) {
        next = loop->after;
        if (!loop->peeked)
            TRY(jinja_loop_next(run, loop, &next));
        if (next.kind == KIND_ABSENT)
            break;
        loop->peeked = false;
        loop->before = loop->current;
        loop->current = next;
        TRY(jinja_step(run, 1));
        TRY(loop_round(run, loop, &scope));
        const enum jinja_flow flow = run->flow;
        run->flow = FLOW_ON;
        finished_one |= flow == FLOW_ON;
        if (flow == FLOW_BREAK)
            break;
    }
    if (node->third == NULL || finished_one)
        return COHORT_OK;
    TRY(scope_new(run, loop->scope, &run->scope));
    TRY(execute(run, node->third));
    run->scope = loop->scope;
    return COHORT_OK;
}

/* ---- macros ---- */

static cohort_status new_macro(struct jinja_run *run, const struct jinja_signature *signature, struct jinja_value *out)
{
    struct jinja_macro *macro = NULL;
    TRY(jinja_take(run, &macro, 1, sizeof *macro));
    *macro = (struct jinja_macro){.signature = signature, .scope = run->scope};
    *out = (struct jinja_value){.kind = KIND_MACRO, .u.macro = macro};
    return COHORT_OK;
}

static const char *macro_name(const struct jinja_run *run, const struct jinja_signature *signature)
{
    return signature->name < 0 ? "caller" : run->template->names[signature->name]->bytes;
}

/* Named arguments: of parameters that have none yet, the caller, and what kwargs takes. */
static cohort_status bind_named(struct jinja_run *run, const struct jinja_signature *signature,
                                const struct jinja_args *args, struct jinja_value *values, struct jinja_value *caller,
                                struct jinja_dict *kwargs)
{
    for (size_t i = 0; i < args->n_named; i++) {
        const struct jinja_keyword *named = &args->named[i];
        const int32_t name = jinja_name_find(run->template, named->name->bytes, named->name->length);
        size_t place = args->count < signature->n_parameters ? args->count : signature->n_parameters;
        while (place < signature->n_parameters && signature->parameters[place] != name)
            place++;
        if (place < signature->n_parameters)
            values[place] = named->value;
        else if (name == run->template->caller && signature->uses_caller)
            *caller = named->value;
        else if (signature->uses_kwargs)
            TRY(jinja_dict_set(run, kwargs, &(struct jinja_value){.kind = KIND_STRING, .u.string = named->name},
                               &named->value));
        else
            return jinja_fail(run, "the macro '%.100s' takes no argument '%.*s'", macro_name(run, signature),
                              (int)(named->name->length < 100 ? named->name->length : 100), named->name->bytes);
    }
    return COHORT_OK;
}

/* What the macro's body sees, set in run->scope. */
static cohort_status bind_macro(struct jinja_run *run, const struct jinja_signature *signature,
                                const struct jinja_args *args)
{
    const struct jinja_template *template = run->template;
    const size_t n = signature->n_parameters, given = args->count < n ? args->count : n;
    struct jinja_value *values = NULL, caller = {.kind = KIND_ABSENT}, kwargs, rest;
    TRY(jinja_take(run, &values, n, sizeof *values));
    TRY(jinja_dict_new(run, &kwargs));
    for (size_t i = 0; i < given; i++)
        values[i] = args->values[i];
    TRY(bind_named(run, signature, args, values, &caller, kwargs.u.dict));
    if (args->count > n && !signature->uses_varargs)
        return jinja_fail(run, "the macro '%.100s' takes %zu arguments at most, not %zu", macro_name(run, signature), n,
                          args->count);
    for (size_t i = 0; i < n; i++) {
        if (values[i].kind == KIND_ABSENT && signature->defaults[i] != NULL)
            TRY(jinja_eval(run, signature->defaults[i], &values[i]));
        else if (values[i].kind == KIND_ABSENT)
            TRY(jinja_undefined(run, LACK_PARAMETER, template->names[signature->parameters[i]]->bytes, NULL, 0,
                                &values[i]));
        TRY(assign_name(run, signature->parameters[i], &values[i]));
    }
    if (signature->uses_caller) {
        if (caller.kind == KIND_ABSENT)
            TRY(jinja_undefined(run, LACK_HINT, "no caller is defined: the macro was not called by a call block", NULL,
                                0, &caller));
        TRY(assign_name(run, template->caller, &caller));
    }
    if (signature->uses_kwargs)
        TRY(assign_name(run, template->kwargs, &kwargs));
    if (signature->uses_varargs) {
        TRY(jinja_list_new(run, SHAPE_TUPLE, args->count - given, &rest));
        for (size_t i = given; i < args->count; i++)
            rest.u.list->items[i - given] = args->values[i];
        TRY(assign_name(run, template->varargs, &rest));
    }
    return COHORT_OK;
}

cohort_status jinja_macro_call(struct jinja_run *run, const struct jinja_macro *macro, const struct jinja_args *args,
                               struct jinja_value *out)
{
    struct jinja_scope *const scope = run->scope;
    TRY(jinja_enter(run));
    TRY(scope_new(run, macro->scope, &run->scope));
    TRY(bind_macro(run, macro->signature, args));
    TRY(writer_begin(run));
    TRY(execute(run, macro->signature->body));
    TRY(writer_end(run, out));
    run->scope = scope;
    run->depth++;
    return COHORT_OK;
}

static cohort_status execute_call_block(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value function, caller, result;
    struct jinja_args args;
    TRY(new_macro(run, node->macro, &caller));
    TRY(jinja_eval(run, node->left->left, &function));
    TRY(jinja_eval_args(run, node->left->arguments, &caller, &args));
    run->line = node->line;
    TRY(jinja_call(run, &function, &args, &result));
    return write_value(run, &result);
}

/* ---- blocks ---- */

/* The text that body writes, through filters. If break or continue left the body, run->flow says so, and there is
 * none. */
static cohort_status collect(struct jinja_run *run, const struct jinja_node *body, const struct jinja_node *filters,
                             struct jinja_value *out)
{
    struct jinja_scope *const scope = run->scope;
    TRY(scope_new(run, scope, &run->scope));
    TRY(writer_begin(run));
    TRY(execute(run, body));
    if (run->flow == FLOW_ON) {
        TRY(writer_end(run, out));
        TRY(jinja_eval_filters(run, filters, out));
    } else {
        writer_drop(run);
    }
    run->scope = scope;
    return COHORT_OK;
}

static cohort_status execute_with(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_scope *const outer = run->scope;
    struct jinja_scope *scope = NULL;
    TRY(scope_new(run, outer, &scope));
    for (size_t i = 0; i + 1 < node->n_items; i += 2) { /* the values do not see the new names */
        struct jinja_value value;
        TRY(jinja_eval(run, node->items[i + 1], &value));
        run->scope = scope;
        TRY(assign(run, node->items[i], &value));
        run->scope = outer;
    }
    run->scope = scope;
    TRY(execute(run, node->body));
    run->scope = outer;
    return COHORT_OK;
}

static cohort_status execute_generation(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_scope *const scope = run->scope;
    const uint8_t generated = run->writer->generated;
    TRY(scope_new(run, scope, &run->scope));
    run->writer->generated = TAG_GENERATED;
    TRY(execute(run, node->body));
    run->writer->generated = generated;
    run->scope = scope;
    return COHORT_OK;
}

static cohort_status execute_if(struct jinja_run *run, const struct jinja_node *node)
{
    size_t i = 0;
    for (; i + 1 < node->n_items; i += 2) {
        struct jinja_value condition;
        TRY(jinja_eval(run, node->items[i], &condition));
        if (jinja_truth(&condition))
            return execute(run, node->items[i + 1]);
    }
    return i < node->n_items ? execute(run, node->items[i]) : COHORT_OK;
}

static cohort_status execute_one(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value;
    switch (node->type) {
    case NODE_TEXT: return write_string(run, node->constant.u.string);
    case NODE_PRINT:
        TRY(jinja_eval(run, node->left, &value));
        run->line = node->line;
        return write_value(run, &value);
    case NODE_IF: return execute_if(run, node);
    case NODE_FOR: return execute_for(run, node);
    case NODE_SET:
        TRY(jinja_eval(run, node->left, &value));
        run->line = node->line;
        return assign(run, node->target, &value);
    case NODE_SET_BLOCK:
        TRY(collect(run, node->body, node->left, &value));
        return run->flow == FLOW_ON ? assign(run, node->target, &value) : COHORT_OK;
    case NODE_FILTER_BLOCK:
        TRY(collect(run, node->body, node->left, &value));
        return run->flow == FLOW_ON ? write_value(run, &value) : COHORT_OK;
    case NODE_MACRO: TRY(new_macro(run, node->macro, &value)); return assign_name(run, node->name, &value);
    case NODE_CALL_BLOCK: return execute_call_block(run, node);
    case NODE_WITH: return execute_with(run, node);
    case NODE_GENERATION: return execute_generation(run, node);
    case NODE_BREAK: run->flow = FLOW_BREAK; return COHORT_OK;
    case NODE_CONTINUE: run->flow = FLOW_CONTINUE; return COHORT_OK;
    case NODE_BODY: return execute(run, node);
    default: return error_set(run->err, COHORT_ERR_INTERNAL, "node %d is no statement", (int)node->type);
    }
}

/* The statements of a NODE_BODY, up to one that leaves a loop. */
static cohort_status execute(struct jinja_run *run, const struct jinja_node *node)
{
    TRY(jinja_enter(run));
    for (size_t i = 0; i < node->n_items && run->flow == FLOW_ON; i++) {
        run->line = node->items[i]->line;
        TRY(jinja_step(run, 1));
        TRY(execute_one(run, node->items[i]));
    }
    run->depth++;
    return COHORT_OK;
}

/* ---- a rendering ---- */

static cohort_status set_globals(struct jinja_run *run, const struct jinja_variable *variables, size_t n)
{
    const struct jinja_template *template = run->template;
    TRY(jinja_take(run, &run->globals, template->n_names, sizeof *run->globals));
    for (const struct jinja_builtin *at = jinja_functions; at->name != NULL; at++) {
        const int32_t name = jinja_name_find(template, at->name, strlen(at->name));
        struct jinja_bound *bound = NULL;
        if (name < 0)
            continue;
        TRY(jinja_take(run, &bound, 1, sizeof *bound));
        bound->builtin = at;
        run->globals[name] = (struct jinja_value){.kind = KIND_FUNCTION, .u.function = bound};
    }
    for (size_t i = 0; i < n; i++) {
        const int32_t name = jinja_name_find(template, variables[i].name, strlen(variables[i].name));
        if (name >= 0 && variables[i].value != NULL)
            TRY(jinja_from_variable(run, &variables[i], &run->globals[name]));
    }
    return COHORT_OK;
}

static cohort_status push_span(struct jinja_span **spans, size_t *n, size_t *capacity, struct jinja_span span,
                               cohort_error *err)
{
    if (*n > 0 && (*spans)[*n - 1].to == span.from && (*spans)[*n - 1].origin == span.origin) {
        (*spans)[*n - 1].to = span.to;
        return COHORT_OK;
    }
    TRY(mem_grow(spans, capacity, *n + 1, sizeof **spans, "spans of a chat", err));
    (*spans)[(*n)++] = span;
    return COHORT_OK;
}

/* Moves what was written to out. */
static cohort_status take_output(struct jinja_run *run, struct jinja_output *out)
{
    struct jinja_writer *writer = run->writer;
    size_t from = 0;
    for (size_t i = 0; i < writer->n_segments; from = writer->segments[i++].end) {
        const struct jinja_segment *segment = &writer->segments[i];
        struct jinja_span span = {.from = from, .to = segment->end, .origin = segment->tag & TAG_ORIGIN};
        if (span.origin != JINJA_TEMPLATE)
            TRY(push_span(&out->spans, &out->n_spans, &out->spans_capacity, span, run->err));
        span.origin = JINJA_TEMPLATE;
        if ((segment->tag & TAG_GENERATED) != 0)
            TRY(push_span(&out->generation, &out->n_generation, &out->generation_capacity, span, run->err));
    }
    const struct text text = out->text;
    out->text = writer->text;
    writer->text = text;
    return COHORT_OK;
}

cohort_status jinja_render(const struct jinja_template *template, const struct jinja_variable *variables,
                           size_t n_variables, const struct jinja_settings *settings, struct jinja_output *out,
                           cohort_error *err)
{
    const struct jinja_settings defaults = {0};
    if (settings == NULL)
        settings = &defaults;
    struct jinja_run run = {.template = template,
                            .arena.first_bytes = FIRST_CHUNK,
                            .bytes.first_bytes = FIRST_CHUNK,
                            .steps = settings->max_steps > 0 ? settings->max_steps : DEFAULT_STEPS,
                            .bytes_left = settings->max_bytes > 0 ? settings->max_bytes : DEFAULT_BYTES,
                            .depth = settings->max_depth > 0 ? settings->max_depth : DEFAULT_DEPTH,
                            .now = settings->now != 0 ? settings->now : (int64_t)time(NULL),
                            .line = 1,
                            .err = err};
    struct jinja_writer writer = {.text = out->text}; /* its memory is used again */
    cohort_status status = COHORT_OK;
    out->text = (struct text){0};
    writer.text.length = 0;
    out->n_spans = out->n_generation = 0;
    run.writer = &writer;
    TRY_GOTO(text_append(&writer.text, "", 0, err));
    TRY_GOTO(set_globals(&run, variables, n_variables));
    TRY_GOTO(execute(&run, template->body));
    TRY_GOTO(take_output(&run, out));
cleanup:
    if (status != COHORT_OK)
        out->n_spans = out->n_generation = 0;
    writer_free(run.writer);
    writer_free(run.spare_writers);
    mem_free(run.scratch);
    jinja_arena_free(&run.bytes);
    jinja_arena_free(&run.arena);
    return status;
}

void jinja_output_free(struct jinja_output *out)
{
    text_free(&out->text);
    mem_free(out->spans);
    mem_free(out->generation);
    memset(out, 0, sizeof *out);
}
