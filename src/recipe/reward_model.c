#include "recipe/reward_model.h"

#include "base/json_text.h"
#include "recipe/run_identity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Sequences of a pass, which takes little memory beside its tokens. */
enum { MOST_SEQUENCES = 1024 };

/* ---- opening ---- */

cohort_status reward_models_add(struct reward_models *models, const char *dir, struct reward_model **out,
                                cohort_error *err)
{
    if (*dir == '\0')
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "reward 'model:' names no folder; write model:DIR, a sequence classifier in Hugging Face layout");
    TRY(mem_grow(&models->items, &models->capacity, models->n + 1, sizeof *models->items, "reward models", err));
    TRY(mem_alloc(&models->items[models->n], 1, sizeof **models->items, "reward model", err));
    *out = models->items[models->n++];
    return mem_strdup(&(*out)->dir, dir, strlen(dir), err);
}

/* What turns open and close with, and what ends a text, as the template shows where it renders a conversation. */
static cohort_status find_markers(struct reward_model *m, cohort_error *err)
{
    const struct model_config *config = &m->session.model->config;
    const int32_t eos = tokenizer_eos(m->session.tokenizer);
    const struct chat_options chat = {0};
    cohort_error ignored = {0};
    struct rendered rendered = {0};
    json_t *messages =
        json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "user", "content", "a", "role", "assistant", "content", "b");
    cohort_status status = COHORT_OK;
    if (messages == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "markers of a template: out of memory");
    TRY_GOTO(chat_template_add_markers(m->session.chat, config->eos_ids, (size_t)config->n_eos, err));
    if (eos >= 0)
        TRY_GOTO(chat_template_add_markers(m->session.chat, &eos, 1, err));
    /* One that cannot render this is refused where it is asked to. */
    if (chat_template_render(m->session.chat, messages, &chat, "reward model", &rendered.text, &rendered.spans,
                             &ignored) == COHORT_OK)
        m->markers = rendered.spans.markers;
cleanup:
    rendered_free(&rendered);
    json_decref(messages);
    return status;
}

static cohort_status open_model(struct reward_model *m, struct backend *backend, const struct options *options,
                                int64_t longest, const cohort_observer *observer, cohort_error *err)
{
    struct session *s = &m->session;
    struct model_config config = {0};
    struct checkpoint_types types = {0};
    enum dtype type = DTYPE_F32;
    TRY(model_config_load(&config, NULL, m->dir, err));
    if (config.n_labels != 1)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         config.n_labels == 0
                             ? "a language model, which gives no scores: cohort reward makes a reward model of one"
                             : "a sequence classifier of %d labels: a reward model has one",
                         (int)config.n_labels);
    TRY(session_type(options, &config, m->dir, false, &type, &types, &s->notes, err));
    TRY(model_open(&s->model, backend, &config, type, 0, err));
    if (session_writes_f16(options, &config, &types))
        session_store_f16(s->model, &types, NULL);
    TRY(tokenizer_load(&s->tokenizer, m->dir, err));
    if (tokenizer_size(s->tokenizer) > config.vocab_size)
        return error_set(err, COHORT_ERR_FORMAT,
                         "tokenizer.json has %d tokens, the model only %d rows (vocab_size of config.json)",
                         (int)tokenizer_size(s->tokenizer), (int)config.vocab_size);
    TRY(chat_template_open(&s->chat, s->tokenizer, NULL, err));
    s->text_end = s->turn_end = -1;
    TRY(find_markers(m, err));
    observer_notes(observer, &s->notes);
    const int64_t pass = session_pass_tokens(s->model), wanted = 2 * longest > pass ? 2 * longest : pass;
    m->max_tokens = wanted < s->model->max_context ? wanted : s->model->max_context;
    m->runner.extras.scores = true;
    return COHORT_OK;
}

cohort_status reward_models_open(struct reward_models *models, struct backend *backend, const struct options *options,
                                 bool style, int64_t longest, const cohort_observer *observer, cohort_error *err)
{
    for (size_t i = 0; i < models->n; i++) {
        struct reward_model *m = models->items[i];
        m->observer = observer;
        if (style)
            m->style = row_style(options);
        m->session.backend = backend;
        const cohort_status status = open_model(m, backend, options, longest, observer, err);
        if (status != COHORT_OK) {
            error_context(err, "reward model:%s", m->dir);
            return status;
        }
    }
    return COHORT_OK;
}

size_t reward_models_bytes(const struct reward_models *models)
{
    size_t bytes = 0;
    for (size_t i = 0; i < models->n; i++)
        bytes += model_weight_bytes(models->items[i]->session.model);
    return bytes;
}

size_t reward_models_working_bytes(const struct reward_models *models)
{
    size_t most = 0;
    for (size_t i = 0; i < models->n; i++) {
        const struct reward_model *m = models->items[i];
        struct backend_load load = {.context = (int32_t)m->max_tokens,
                                    .train_tokens = m->max_tokens,
                                    .train_sequences = 2 * MOST_SEQUENCES,
                                    .train_logits_rows = 1};
        rollout_load(m->session.model, NULL, NULL, &load);
        const size_t bytes = backend_working_bytes(m->session.backend, &load);
        most = bytes > most ? bytes : most;
    }
    return most;
}

cohort_status reward_models_plan(struct reward_models *models, struct arena *arena, cohort_error *err)
{
    size_t most = arena->used;
    for (size_t i = 0; i < models->n; i++) {
        struct reward_model *m = models->items[i];
        const struct model *model = m->session.model;
        struct arena own = *arena; /* one scores after the other */
        const int64_t sequences = m->max_tokens < MOST_SEQUENCES ? m->max_tokens : MOST_SEQUENCES;
        TRY(tree_runner_plan(&m->runner, &own, &model->config, model->type, m->max_tokens, sequences, DECODER_INFER,
                             err));
        most = own.used > most ? own.used : most;
    }
    arena->used = most;
    return COHORT_OK;
}

cohort_status reward_models_read(struct reward_models *models, struct run_inputs *inputs, cohort_error *err)
{
    for (size_t i = 0; i < models->n; i++) {
        struct reward_model *m = models->items[i];
        struct weight_files files = {0};
        cohort_status status = model_read(m->session.model, m->dir, inputs == NULL ? NULL : &files, err);
        if (status == COHORT_OK && inputs != NULL)
            status = run_identity_add_reward_model(inputs, m->dir, m->session.chat, &files, err);
        weight_files_free(&files);
        if (status != COHORT_OK)
            error_context(err, "reward model:%s", m->dir);
        TRY(status);
    }
    return COHORT_OK;
}

cohort_status reward_models_own(struct reward_models *models, size_t limit, size_t *bytes, cohort_error *err)
{
    struct arena measured = {0};
    *bytes = 0;
    if (models->n == 0)
        return COHORT_OK;
    TRY(reward_models_plan(models, &measured, err));
    *bytes = reward_models_bytes(models) + measured.used + reward_models_working_bytes(models);
    if (*bytes > limit)
        return error_set(
            err, COHORT_ERR_MEMORY,
            "reward models: weights and buffers take %.2f GB, %.2f GB are there; use smaller ones, --dtype "
            "bf16 or another --device",
            (double)*bytes / 1e9, (double)limit / 1e9);
    TRY(reward_models_read(models, NULL, err));
    models->arena.used = measured.used;
    TRY(arena_allocate(&models->arena, models->items[0]->session.backend, "reward models", err));
    return reward_models_plan(models, &models->arena, err);
}

void reward_models_close(struct reward_models *models)
{
    for (size_t i = 0; i < models->n; i++) {
        struct reward_model *m = models->items[i];
        tree_runner_free(&m->runner);
        model_destroy(m->session.model);
        chat_template_close(m->session.chat);
        tokenizer_destroy(m->session.tokenizer);
        text_free(&m->session.notes);
        if (m->session.backend != NULL)
            arena_release(&models->arena, m->session.backend);
        mem_free(m->dir);
        mem_free(m);
    }
    mem_free(models->items);
    memset(models, 0, sizeof *models);
}

/* ---- conversations ---- */

/* The messages with what was said behind them, a new reference; NULL: out of memory. A prompt that ends with the assistant's
 * message was continued. */
static json_t *with_completion(const json_t *messages, const struct reward_row *row)
{
    const size_t n = json_array_size(messages);
    const json_t *last = json_array_get(messages, n - 1), *said = json_object_get(row->episode, "messages");
    const char *role = json_string_value(json_object_get(last, "role"));
    json_t *all = json_copy((json_t *)(uintptr_t)messages),
           *text = json_text_value(row->completion, row->completion_length), *message = NULL;
    bool made = all != NULL && text != NULL;
    if (made && said != NULL) {
        made = json_array_extend(all, (json_t *)(uintptr_t)said) == 0;
    } else if (made && role != NULL && strcmp(role, "assistant") == 0) {
        struct text joined = {0};
        const json_t *begun = json_object_get(last, "content");
        message = json_copy((json_t *)(uintptr_t)last);
        made = message != NULL &&
               text_append(&joined, json_string_value(begun), json_string_length(begun), NULL) == COHORT_OK &&
               text_append(&joined, json_string_value(text), json_string_length(text), NULL) == COHORT_OK &&
               json_object_set_new(message, "content", json_stringn(joined.data, joined.length)) == 0 &&
               json_array_set(all, n - 1, message) == 0;
        text_free(&joined);
    } else if (made) {
        message = json_pack("{s:s, s:O}", "role", "assistant", "content", text);
        made = message != NULL && json_array_append(all, message) == 0;
    }
    json_decref(message);
    json_decref(text);
    if (made)
        return all;
    json_decref(all);
    return NULL;
}

static cohort_status encode_messages(const struct reward_model *m, const json_t *messages, const struct reward_row *row,
                                     const char *where, struct token_list *ids, cohort_error *err)
{
    struct rendered rendered = {0};
    const struct chat_options chat = {.thinking = m->style.thinking}; /* TRL hands the template no tools */
    cohort_status status = COHORT_OK;
    json_t *all = with_completion(messages, row);
    if (all == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot join messages", where);
    TRY_GOTO(chat_template_render(m->session.chat, all, &chat, where, &rendered.text, &rendered.spans, err));
    TRY_GOTO(
        row_encode(&m->session, &rendered.text, &rendered.spans, 0, rendered.text.length, m->style.trust, ids, err));
cleanup:
    rendered_free(&rendered);
    json_decref(all);
    return status;
}

/* The prompt is the caller's own rendering; what a model wrote becomes no marker of turns. */
static cohort_status encode_texts(const struct reward_model *m, const struct reward_row *row, struct token_list *ids,
                                  cohort_error *err)
{
    struct rendered rendered = {0};
    cohort_status status = COHORT_OK;
    json_t *text = json_text_value(row->completion, row->completion_length);
    if (text == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "a completion: out of memory");
    TRY_GOTO(text_append(&rendered.text, row->prompt, row->prompt_length, err));
    TRY_GOTO(text_append(&rendered.text, json_string_value(text), json_string_length(text), err));
    rendered.spans.markers = m->markers;
    TRY_GOTO(content_spans_push(&rendered.spans, row->prompt_length, rendered.text.length,
                                m->markers != NULL ? CONTENT_ASSISTANT : CONTENT_FOREIGN, err));
    TRY_GOTO(
        row_encode(&m->session, &rendered.text, &rendered.spans, 0, rendered.text.length, m->style.trust, ids, err));
cleanup:
    rendered_free(&rendered);
    json_decref(text);
    return status;
}

static cohort_status encode_row(const struct reward_model *m, const struct reward_row *row, struct token_list *ids,
                                cohort_error *err)
{
    char where[64];
    json_t *messages = NULL;
    snprintf(where, sizeof where, "prompt %lld, completion %d", (long long)row->prompt_index,
             (int)row->completion_index);
    if (row_is_conversation(row->data, &m->style))
        TRY(row_messages(row->data, where, &m->style, &messages, err));
    cohort_status status = messages != NULL && json_array_size(messages) > 0
                               ? encode_messages(m, messages, row, where, ids, err)
                               : encode_texts(m, row, ids, err);
    json_decref(messages);
    return status;
}

/* ---- scores ---- */

/* Sequences to score and the trees that they make. */
struct scored_rows {
    struct token_list *ids;                /* [n_rows] of each row */
    size_t *row;                           /* [n] which row a sequence is of */
    struct completion_tokens *completions; /* [n] */
    struct tree *trees;                    /* [n_trees] */
    float *scores;                         /* [n] */
    size_t n;
    int32_t n_trees;
};

static void scored_rows_free(struct scored_rows *s, size_t n_rows)
{
    for (size_t i = 0; s->ids != NULL && i < n_rows; i++)
        token_list_free(&s->ids[i]);
    mem_free(s->ids);
    mem_free(s->row);
    mem_free(s->completions);
    mem_free(s->trees);
    mem_free(s->scores);
}

/* Sequences first .. end become a tree with what they have in common as its prompt. */
static void add_tree(struct scored_rows *s, size_t first, size_t end)
{
    const struct token_list *head = &s->ids[s->row[first]];
    size_t same = head->count;
    for (size_t k = first + 1; k < end; k++) {
        const struct token_list *ids = &s->ids[s->row[k]];
        size_t i = 0;
        while (i < same && i < ids->count && ids->ids[i] == head->ids[i])
            i++;
        same = i;
    }
    for (size_t k = first; k < end; k++) {
        const struct token_list *ids = &s->ids[s->row[k]];
        s->completions[k] =
            (struct completion_tokens){.tokens = ids->ids + same, .n_tokens = (int32_t)(ids->count - same)};
    }
    s->trees[s->n_trees++] = (struct tree){.prompt = head->ids,
                                           .n_prompt = (int32_t)same,
                                           .completions = &s->completions[first],
                                           .n_completions = (int32_t)(end - first)};
}

static void tell_long(struct reward_model *m, const struct reward_row *row, size_t n)
{
    if (m->n_long++ == 0 && m->observer != NULL)
        observer_message(
            m->observer,
            "warning: reward model:%s: prompt %lld with completion %d has %zu tokens there, and at most %lld "
            "are scored: it gets no reward, and neither will others that are as long",
            m->dir, (long long)row->prompt_index, (int)row->completion_index, n, (long long)m->max_tokens);
}

static cohort_status collect(struct reward_model *m, const struct reward_row *rows, size_t n_rows,
                             struct scored_rows *s, cohort_error *err)
{
    TRY(mem_alloc(&s->ids, n_rows, sizeof *s->ids, "reward model", err));
    TRY(mem_alloc(&s->row, n_rows, sizeof *s->row, "reward model", err));
    TRY(mem_alloc(&s->completions, n_rows, sizeof *s->completions, "reward model", err));
    TRY(mem_alloc(&s->trees, n_rows, sizeof *s->trees, "reward model", err));
    TRY(mem_alloc(&s->scores, n_rows, sizeof *s->scores, "reward model", err));
    for (size_t i = 0, first = 0; i < n_rows; i++) {
        TRY(encode_row(m, &rows[i], &s->ids[i], err));
        const size_t n = s->ids[i].count;
        if (n > (size_t)m->max_tokens)
            tell_long(m, &rows[i], n);
        else if (n > 0)
            s->row[s->n++] = i;
        if (i + 1 < n_rows && rows[i + 1].prompt_index == rows[i].prompt_index)
            continue;
        if (s->n > first)
            add_tree(s, first, s->n);
        first = s->n;
    }
    return COHORT_OK;
}

cohort_status reward_model_score(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                 double **lists, struct reward_log *log, cohort_error *err)
{
    struct reward_model *m = context;
    struct scored_rows s = {0};
    cohort_status status = COHORT_OK;
    (void)lists;
    (void)log;
    TRY_GOTO(collect(m, rows, n_rows, &s, err));
    for (size_t i = 0; i < n_rows; i++)
        rewards[i] = (double)NAN;
    TRY_GOTO(tree_runner_scores(&m->runner, m->session.model, s.trees, s.n_trees, s.scores, err));
    for (size_t k = 0; k < s.n; k++) {
        const struct reward_row *row = &rows[s.row[k]];
        if (!isfinite(s.scores[k])) {
            status = error_set(err, COHORT_ERR_NUMERIC,
                               "prompt %lld, completion %d: its score is %g, expected a finite number; the weights are "
                               "damaged",
                               (long long)row->prompt_index, (int)row->completion_index, (double)s.scores[k]);
            goto cleanup;
        }
        rewards[s.row[k]] = (double)s.scores[k];
    }
cleanup:
    if (status != COHORT_OK)
        error_context(err, "reward model:%s", m->dir);
    scored_rows_free(&s, n_rows);
    return status;
}
