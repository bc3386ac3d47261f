#include "recipe/run_inputs.h"

#include "base/json_text.h"
#include "recipe/json_rows.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_INPUTS_BYTES = 16 << 20, MAX_DEPTH = 4, SHOWN_DIGITS = 12 };

#define NAME(id, word) word,
static const char *const kind_names[INPUT_KINDS] = {INPUT_KIND_LIST(NAME)};
#undef NAME

const char *input_kind_name(enum input_kind kind) { return kind_names[kind]; }

void run_inputs_free(struct run_inputs *inputs)
{
    for (size_t i = 0; i < inputs->count; i++)
        mem_free(inputs->items[i].path);
    for (size_t i = 0; i < inputs->n_changes; i++)
        mem_free(inputs->changes[i].what);
    mem_free(inputs->items);
    mem_free(inputs->changes);
    memset(inputs, 0, sizeof *inputs);
}

cohort_status run_inputs_add(struct run_inputs *inputs, enum input_kind kind, const char *path, const char *sha256,
                             cohort_error *err)
{
    assert(strlen(sha256) == HASH_HEX - 1);
    TRY(mem_grow(&inputs->items, &inputs->capacity, inputs->count + 1, sizeof *inputs->items, "list of inputs", err));
    struct run_input *item = &inputs->items[inputs->count];
    item->kind = kind;
    strcpy(item->sha256, sha256);
    TRY(mem_strdup(&item->path, path, strlen(path), err));
    inputs->count++;
    inputs->read[kind] = true;
    return COHORT_OK;
}

cohort_status run_inputs_add_text(struct run_inputs *inputs, enum input_kind kind, const char *path, const char *text,
                                  size_t length, cohort_error *err)
{
    struct hash hash;
    char hex[HASH_HEX];
    hash_begin(&hash);
    hash_add(&hash, text, length);
    hash_end(&hash, hex);
    return run_inputs_add(inputs, kind, path, hex, err);
}

cohort_status run_inputs_add_file(struct run_inputs *inputs, enum input_kind kind, const char *path, cohort_error *err)
{
    char hex[HASH_HEX];
    TRY(hash_file(path, hex, NULL, err));
    return run_inputs_add(inputs, kind, path, hex, err);
}

/* ---- the files of a command ---- */

/* A file that we may not read is not an input that we can describe. */
static bool is_regular(const char *path)
{
    struct stat st;
    return *path != '\0' && stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, R_OK) == 0;
}

static cohort_status add_words(struct run_inputs *inputs, enum input_kind kind, const char *command, int depth,
                               cohort_error *err);

static cohort_status add_word(struct run_inputs *inputs, enum input_kind kind, const char *word, int depth,
                              cohort_error *err)
{
    const char *value = strchr(word, '=');
    if (is_regular(word))
        return run_inputs_add_file(inputs, kind, word, err);
    if (value != NULL && is_regular(value + 1))
        return run_inputs_add_file(inputs, kind, value + 1, err);
    if (depth < MAX_DEPTH && strpbrk(word, " \t\n;|&<>") != NULL)
        return add_words(inputs, kind, word, depth + 1, err);
    return COHORT_OK;
}

/* Takes the next word of a command, without its quotes, into word; false at the end. */
static cohort_status next_word(const char **at, struct text *word, bool *found, cohort_error *err)
{
    static const char breaks[] = " \t\n;|&<>()";
    char quote = '\0';
    const char *p = *at + strspn(*at, breaks);
    *found = *p != '\0';
    word->length = 0;
    TRY(text_append(word, "", 0, err));
    for (; *p != '\0' && (quote != '\0' || strchr(breaks, *p) == NULL); p++) {
        if (quote == '\0' && (*p == '\'' || *p == '"')) {
            quote = *p;
        } else if (quote != '\0' && *p == quote) {
            quote = '\0';
        } else {
            p += *p == '\\' && quote != '\'' && p[1] != '\0';
            TRY(text_append(word, p, 1, err));
        }
    }
    *at = p;
    return COHORT_OK;
}

static cohort_status add_words(struct run_inputs *inputs, enum input_kind kind, const char *command, int depth,
                               cohort_error *err)
{
    struct text word = {0};
    cohort_status status = COHORT_OK;
    for (;;) {
        bool found = false;
        TRY_GOTO(next_word(&command, &word, &found, err));
        if (!found)
            break;
        TRY_GOTO(add_word(inputs, kind, word.data, depth, err));
    }
cleanup:
    text_free(&word);
    return status;
}

cohort_status run_inputs_add_command(struct run_inputs *inputs, enum input_kind kind, const char *command,
                                     cohort_error *err)
{
    inputs->read[kind] = true;
    return add_words(inputs, kind, command, 0, err);
}

/* ---- inputs.json ---- */

static cohort_status write_kind(const struct run_inputs *inputs, enum input_kind kind, struct text *out,
                                cohort_error *err)
{
    bool first = true;
    TRY(text_printf(out, err, ",\n  \"%s\": [", kind_names[kind]));
    for (size_t i = 0; i < inputs->count; i++) {
        const struct run_input *item = &inputs->items[i];
        if (item->kind != kind)
            continue;
        TRY(text_printf(out, err, "%s{\"path\": ", first ? "\n    " : ",\n    "));
        TRY(json_string_write(item->path, strlen(item->path), out, err));
        TRY(text_printf(out, err, ", \"sha256\": \"%s\"}", item->sha256));
        first = false;
    }
    return text_printf(out, err, first ? "]" : "\n  ]");
}

cohort_status run_inputs_write(const struct run_inputs *inputs, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "{\n  \"format\": 1"));
    for (int kind = 0; kind < INPUT_SCHEDULE; kind++)
        if (inputs->read[kind])
            TRY(write_kind(inputs, (enum input_kind)kind, out, err));
    if (inputs->schedule[0] != '\0')
        TRY(text_printf(out, err, ",\n  \"schedule\": {\"lr_scheduler_type\": \"%s\", \"steps\": %lld}",
                        inputs->schedule, (long long)inputs->steps));
    for (size_t i = 0; i < inputs->n_changes; i++) {
        const struct run_change *change = &inputs->changes[i];
        TRY(text_printf(out, err, "%s\n    {\"after_step\": %lld, \"kind\": \"%s\", \"what\": ",
                        i == 0 ? ",\n  \"accepted\": [" : ",", (long long)change->step, kind_names[change->kind]));
        TRY(json_string_write(change->what, strlen(change->what), out, err));
        TRY(text_printf(out, err, "}"));
    }
    return text_printf(out, err, inputs->n_changes > 0 ? "\n  ]\n}\n" : "\n}\n");
}

static bool is_sha256(const char *text)
{
    return text != NULL && strlen(text) == HASH_HEX - 1 && strspn(text, "0123456789abcdef") == HASH_HEX - 1;
}

static cohort_status not_ours(const char *path, const char *what, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT,
                     "%s: %s is not as this version writes it; the checkpoint is damaged: take "
                     "another, or remove this file to go on without comparing inputs",
                     path, what);
}

static cohort_status read_kind(struct run_inputs *inputs, enum input_kind kind, const json_t *list, const char *path,
                               cohort_error *err)
{
    size_t i;
    const json_t *item;
    if (list == NULL)
        return COHORT_OK;
    if (!json_is_array(list))
        return not_ours(path, kind_names[kind], err);
    inputs->read[kind] = true;
    json_array_foreach((json_t *)(uintptr_t)list, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "path")),
                   *sha256 = json_string_value(json_object_get(item, "sha256"));
        if (name == NULL || !is_sha256(sha256))
            return not_ours(path, kind_names[kind], err);
        TRY(run_inputs_add(inputs, kind, name, sha256, err));
    }
    return COHORT_OK;
}

static cohort_status read_schedule(struct run_inputs *inputs, const json_t *schedule, const char *path,
                                   cohort_error *err)
{
    const char *type = json_string_value(json_object_get(schedule, "lr_scheduler_type"));
    const json_t *steps = json_object_get(schedule, "steps");
    if (schedule == NULL)
        return COHORT_OK;
    if (type == NULL || strlen(type) >= sizeof inputs->schedule || !json_is_integer(steps))
        return not_ours(path, "schedule", err);
    strcpy(inputs->schedule, type);
    inputs->steps = json_integer_value(steps);
    return COHORT_OK;
}

static cohort_status read_changes(struct run_inputs *inputs, const json_t *list, const char *path, cohort_error *err)
{
    size_t i;
    const json_t *item;
    if (list != NULL && !json_is_array(list))
        return not_ours(path, "accepted", err);
    json_array_foreach((json_t *)(uintptr_t)list, i, item)
    {
        const json_t *step = json_object_get(item, "after_step");
        const char *name = json_string_value(json_object_get(item, "kind")),
                   *what = json_string_value(json_object_get(item, "what"));
        int kind = 0;
        while (name != NULL && kind < INPUT_KINDS && strcmp(name, kind_names[kind]) != 0)
            kind++;
        if (name == NULL || what == NULL || kind == INPUT_KINDS || !json_is_integer(step))
            return not_ours(path, "accepted", err);
        TRY(run_inputs_note_change(inputs, json_integer_value(step), (enum input_kind)kind, what, err));
    }
    return COHORT_OK;
}

cohort_status run_inputs_read(struct run_inputs *inputs, const char *path, cohort_error *err)
{
    json_t *root = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(json_text_read(&root, path, MAX_INPUTS_BYTES, 0, err));
    if (json_integer_value(json_object_get(root, "format")) != 1) {
        status = not_ours(path, "format", err);
        goto cleanup;
    }
    for (int kind = 0; kind < INPUT_SCHEDULE; kind++)
        TRY_GOTO(read_kind(inputs, (enum input_kind)kind, json_object_get(root, kind_names[kind]), path, err));
    TRY_GOTO(read_schedule(inputs, json_object_get(root, "schedule"), path, err));
    TRY_GOTO(read_changes(inputs, json_object_get(root, "accepted"), path, err));
cleanup:
    json_decref(root);
    if (status != COHORT_OK)
        run_inputs_free(inputs);
    return status;
}

/* ---- then and now ---- */

/* The input of a kind with number i, or NULL. */
static struct run_input *input_at(const struct run_inputs *inputs, enum input_kind kind, size_t i)
{
    for (size_t at = 0; at < inputs->count; at++)
        if (inputs->items[at].kind == kind && i-- == 0)
            return &inputs->items[at];
    return NULL;
}

static cohort_status describe(const struct run_input *before, const struct run_input *now, struct text *out,
                              cohort_error *err)
{
    if (before == NULL)
        return text_printf(out, err, "%.200s (SHA-256 %.*s...) is read now, and was not", now->path, SHOWN_DIGITS,
                           now->sha256);
    if (now == NULL)
        return text_printf(out, err, "%.200s (SHA-256 %.*s...) is not read any more", before->path, SHOWN_DIGITS,
                           before->sha256);
    if (strcmp(before->path, now->path) == 0)
        return text_printf(out, err, "%.200s: expected SHA-256 %.*s..., found %.*s...", now->path, SHOWN_DIGITS,
                           before->sha256, SHOWN_DIGITS, now->sha256);
    return text_printf(out, err, "%.200s: expected what %.200s held, SHA-256 %.*s..., found %.*s...", now->path,
                       before->path, SHOWN_DIGITS, before->sha256, SHOWN_DIGITS, now->sha256);
}

static cohort_status compare_schedules(const struct run_inputs *before, const struct run_inputs *now, struct text *out,
                                       cohort_error *err)
{
    /* Another type of schedule is another option, and is compared there. */
    if (now->schedule[0] == '\0' || strcmp(before->schedule, now->schedule) != 0 || before->steps == now->steps)
        return COHORT_OK;
    return text_printf(out, err,
                       "the %s schedule was planned for %lld steps, this run has %lld: with them "
                       "the learning rate of every step to come would change",
                       now->schedule, (long long)before->steps, (long long)now->steps);
}

cohort_status run_inputs_compare(const struct run_inputs *before, const struct run_inputs *now,
                                 struct text differs[INPUT_KINDS], cohort_error *err)
{
    for (int k = 0; k < INPUT_SCHEDULE; k++) {
        const enum input_kind kind = (enum input_kind)k;
        if (!before->read[kind] || !now->read[kind])
            continue;
        for (size_t i = 0;; i++) {
            const struct run_input *was = input_at(before, kind, i), *is = input_at(now, kind, i);
            if (was == NULL && is == NULL)
                break;
            if (was == NULL || is == NULL || strcmp(was->sha256, is->sha256) != 0) {
                TRY(describe(was, is, &differs[kind], err));
                break; /* the first difference is enough */
            }
        }
    }
    return compare_schedules(before, now, &differs[INPUT_SCHEDULE], err);
}

cohort_status run_inputs_inherit(struct run_inputs *now, const struct run_inputs *before, cohort_error *err)
{
    for (int k = 0; k < INPUT_SCHEDULE; k++) {
        const enum input_kind kind = (enum input_kind)k;
        if (!before->read[kind])
            continue;
        const bool looked = now->read[kind];
        now->read[kind] = true;
        for (size_t i = 0;; i++) {
            const struct run_input *was = input_at(before, kind, i);
            struct run_input *is = looked ? input_at(now, kind, i) : NULL;
            if (was == NULL)
                break;
            if (!looked)
                TRY(run_inputs_add(now, kind, was->path, was->sha256, err));
            if (is == NULL || strcmp(is->sha256, was->sha256) != 0)
                continue;
            char *path = NULL;
            TRY(mem_strdup(&path, was->path, strlen(was->path), err));
            mem_free(is->path);
            is->path = path;
        }
    }
    for (size_t i = 0; i < before->n_changes; i++)
        TRY(run_inputs_note_change(now, before->changes[i].step, before->changes[i].kind, before->changes[i].what,
                                   err));
    return COHORT_OK;
}

cohort_status run_inputs_note_change(struct run_inputs *inputs, int64_t step, enum input_kind kind, const char *what,
                                     cohort_error *err)
{
    TRY(mem_grow(&inputs->changes, &inputs->change_capacity, inputs->n_changes + 1, sizeof *inputs->changes,
                 "list of changes", err));
    struct run_change *change = &inputs->changes[inputs->n_changes];
    change->step = step;
    change->kind = kind;
    TRY(mem_strdup(&change->what, what, strlen(what), err));
    inputs->n_changes++;
    return COHORT_OK;
}
