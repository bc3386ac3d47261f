/* cohort generate: text for one prompt, streamed, or JSONL for many. */
#include "backend/sampling.h"
#include "base/clock.h"
#include "command/command.h"
#include "recipe/data_open.h"
#include "recipe/end_of_text.h"
#include "recipe/json_rows.h"
#include "recipe/row_guide.h"
#include "recipe/row_prompt.h"
#include "recipe/row_response.h"

#include <stdio.h>
#include <string.h>

/* One row of the request. */
struct prompt_row {
    struct token_list ids;
    struct text text;
    uint64_t stream;
    int64_t request;
    struct guide *guide; /* NULL: nothing guides its completions */
    struct row_constraints constraints;
};

struct generate {
    const struct options *options;
    const cohort_observer *observer;
    struct session session;
    struct engine *engine;
    struct engine_request pattern; /* of every row */
    struct dataset data;           /* of --batch */
    struct row_guides guides;
    json_t *asked; /* the row that --prompt is */
    struct row_style style;
    struct prompt_row *rows;
    size_t n_rows;
    int32_t n;               /* completions a row */
    struct completion *done; /* [n_rows * n] */
    bool *ready;
    size_t next; /* first completion not printed yet */
    bool stream; /* print text as it comes */
    bool jsonl;
};

/* Draws follow from what is asked, not from where it stands: a prompt's stream is a function of its ids, and of how
 * many rows before it asked the same. So a row gives the same tokens alone or in any file. */
static void choose_streams(struct generate *g)
{
    for (size_t i = 0; i < g->n_rows; i++) {
        struct token_list *ids = &g->rows[i].ids;
        uint64_t before = 0;
        for (size_t j = 0; j < i; j++)
            before += g->rows[j].ids.count == ids->count &&
                      memcmp(g->rows[j].ids.ids, ids->ids, ids->count * sizeof *ids->ids) == 0;
        g->rows[i].stream = prompt_stream(ids->ids, ids->count, before);
    }
}

static cohort_status read_rows(struct generate *g, cohort_error *err)
{
    const char *prompt = options_string(g->options, OPTION_PROMPT), *batch = options_string(g->options, OPTION_BATCH);
    cohort_status status = COHORT_OK;
    g->style = row_style(g->options);
    if ((prompt != NULL) == (batch != NULL))
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --prompt TEXT or --batch FILE");
    if (prompt != NULL) {
        struct text text = {0};
        g->style.chat = options_bool_or(g->options, OPTION_CHAT, chat_template_given(g->session.chat));
        if (strcmp(prompt, "-") == 0)
            status = file_read("/dev/stdin", 1 << 28, &text, err);
        else
            status = text_append(&text, prompt, strlen(prompt), err);
        if (status == COHORT_OK && (g->asked = json_pack("{s:s%}", "prompt", text.data, text.length)) == NULL)
            status = error_set(err, COHORT_ERR_FORMAT, "--prompt: the text is not valid UTF-8");
        g->n_rows = 1;
        if (status == COHORT_OK)
            status = mem_alloc(&g->rows, 1, sizeof *g->rows, "prompts", err);
        if (status == COHORT_OK)
            status = row_prompt(&g->session, g->asked, "--prompt", &g->style, &g->rows[0].ids, &g->rows[0].text, err);
        if (status == COHORT_OK)
            status = row_guide(&g->guides, g->asked, "--prompt", &g->rows[0].guide, err);
        text_free(&text);
        return status;
    }
    TRY(data_open(&g->data, g->options, OPTION_BATCH, 0, true, g->observer, err));
    TRY(mem_alloc(&g->rows, g->data.n_rows, sizeof *g->rows, "prompts", err));
    g->n_rows = g->data.n_rows;
    for (size_t i = 0; i < g->n_rows && status == COHORT_OK; i++) {
        char place[DATA_PLACE];
        json_t *row = NULL;
        TRY(data_report(&g->data, i, g->options, g->observer, err));
        TRY(dataset_row(&g->data, i, &row, err));
        dataset_place(&g->data, i, place);
        status = row_prompt(&g->session, row, place, &g->style, &g->rows[i].ids, &g->rows[i].text, err);
        if (status == COHORT_OK)
            status = row_guide(&g->guides, row, place, &g->rows[i].guide, err);
        json_decref(row);
    }
    return status;
}

static cohort_status too_long(const struct generate *g, size_t i, cohort_error *err)
{
    const bool batch = options_string(g->options, OPTION_BATCH) != NULL;
    char place[DATA_PLACE] = "--prompt";
    if (batch)
        dataset_place(&g->data, i, place);
    return error_set(err, batch ? COHORT_ERR_FORMAT : COHORT_ERR_ARGUMENT,
                     "%s: the prompt has %zu tokens, the model's context holds %d: shorten the prompt%s", place,
                     g->rows[i].ids.count, (int)g->session.model->max_context,
                     rope_config_limit(&g->session.model->config.rope));
}

static cohort_status submit(struct generate *g, cohort_error *err)
{
    for (size_t i = 0; i < g->n_rows; i++) {
        struct engine_request request = g->pattern;
        request.prompt = g->rows[i].ids.ids;
        request.n_prompt = (int32_t)g->rows[i].ids.count;
        request.n = g->n;
        request.stream = g->rows[i].stream;
        const int32_t room = g->session.model->max_context - request.n_prompt;
        TRY(row_constraints_open(&g->rows[i].constraints, &g->guides, g->rows[i].guide, g->n,
                                 room < request.max_tokens ? room : request.max_tokens, err));
        request.constraints = g->rows[i].constraints.constraints;
        cohort_status status = engine_submit(g->engine, &request, &g->rows[i].request, err);
        if (status != COHORT_OK) {
            error_context(err, "row %zu", i + 1);
            return status;
        }
    }
    return COHORT_OK;
}

static void stream_text(void *context, const struct engine_event *event)
{
    struct generate *g = context;
    if (g->stream && event->text_length > 0 && g->observer->output != NULL)
        g->observer->output(g->observer->context, event->text, event->text_length);
}

/* A completion of a row as one line of JSON. */
static cohort_status write_json(struct generate *g, size_t at, const struct completion *c, struct text *out,
                                cohort_error *err)
{
    const struct prompt_row *row = &g->rows[at];
    json_t *data = json_incref(g->asked), *parsed = NULL;
    cohort_status status = COHORT_OK;
    if (data == NULL)
        TRY_GOTO(dataset_row(&g->data, at, &data, err));
    struct reward_row said = {.data = data,
                              .prompt = row->text.data,
                              .prompt_length = row->text.length,
                              .completion = c->text,
                              .completion_length = c->text_length,
                              .tokens = c->tokens,
                              .n_tokens = c->n_tokens,
                              .finish_reason = finish_reason_name(c->finish_reason)};
    row_response_set(&said, &g->session, &g->style);
    TRY_GOTO(row_response_notable(&said, &parsed, err));
    TRY_GOTO(json_row_write(&(struct json_row){.index = (int64_t)at,
                                               .completion_index = c->index,
                                               .prompt = row->text.data,
                                               .prompt_length = row->text.length,
                                               .completion = c->text,
                                               .completion_length = c->text_length,
                                               .prompt_tokens = row->ids.ids,
                                               .tokens = c->tokens,
                                               .logprobs = c->logp,
                                               .kept = c->kept,
                                               .n_prompt = (int32_t)row->ids.count,
                                               .n_tokens = c->n_tokens,
                                               .finish_reason = said.finish_reason,
                                               .parsed = parsed},
                            out, err));
cleanup:
    json_decref(data);
    json_decref(parsed);
    return status;
}

/* Prints what is finished, in order. */
static cohort_status print_ready(struct generate *g, cohort_error *err)
{
    for (; g->next < g->n_rows * (size_t)g->n && g->ready[g->next]; g->next++) {
        struct completion *c = &g->done[g->next];
        struct text text = {0};
        cohort_status status = COHORT_OK;
        if (g->jsonl)
            status = write_json(g, g->next / (size_t)g->n, c, &text, err);
        else if (g->stream)
            status = text_append(&text, "\n", 1, err);
        else
            status = text_append(&text, c->text, c->text_length, err) == COHORT_OK ? text_append(&text, "\n", 1, err)
                                                                                   : COHORT_ERR_MEMORY;
        if (status == COHORT_OK)
            observer_output(g->observer, &text);
        text_free(&text);
        completion_free(c);
        TRY(status);
    }
    return COHORT_OK;
}

static cohort_status stopped(cohort_error *err)
{
    return error_set(err, COHORT_ERR_CANCELLED, "stopped on request; what was finished has been printed");
}

static cohort_status run(struct generate *g, cohort_error *err)
{
    double start = clock_seconds();
    cohort_status status = COHORT_OK;
    for (bool busy = true; busy;) {
        struct completion completion;
        cohort_status stepped = engine_step(g->engine, &busy, err);
        if (stepped == COHORT_ERR_CANCELLED)
            return stopped(err);
        TRY(stepped);
        while (engine_poll(g->engine, &completion)) {
            size_t at = (size_t)(completion.request - g->rows[0].request) * (size_t)g->n + (size_t)completion.index;
            g->done[at] = completion;
            g->ready[at] = true;
            if (completion.finish_reason == FINISH_FAILED)
                TRY(row_constraints_check(&g->rows[completion.request - g->rows[0].request].constraints, err));
            TRY(completion_check(&completion, err));
        }
        TRY(print_ready(g, err));
        struct engine_stats stats = engine_stats(g->engine);
        double rate = (double)stats.generated_tokens / (clock_seconds() - start);
        cohort_progress progress = {
            .phase = "generate", .done = stats.generated_tokens, .unit = "tokens", .per_second = rate};
        if (!observer_progress(g->observer, &progress) && status == COHORT_OK) {
            for (size_t i = 0; i < g->n_rows; i++)
                engine_cancel(g->engine, g->rows[i].request);
            status = stopped(err);
        }
    }
    return status;
}

cohort_status command_generate(struct options *options, const struct reward_list *extra,
                               const cohort_observer *observer, cohort_error *err)
{
    (void)extra;
    struct generate g = {.options = options, .observer = observer, .n = (int32_t)options_int(options, OPTION_N)};
    cohort_status status = COHORT_OK;
    TRY_GOTO(session_open(&g.session, options, NULL, SESSION_TOKENIZER, observer, err));
    end_of_text_note(&g.session, observer);
    TRY_GOTO(session_request(&g.session, options, &g.pattern, err));
    g.pattern.min_tokens = (int32_t)options_int(options, OPTION_MIN_TOKENS);
    if (options_bool(options, OPTION_IGNORE_EOS))
        g.pattern.n_eos = 0;
    TRY_GOTO(row_guides_open(&g.guides, &g.session, options, observer, false, err));
    TRY_GOTO(read_rows(&g, err));
    TRY_GOTO(row_tell_template(&g.session, false, observer, err));
    choose_streams(&g);
    struct rollout_need need = {.sequences = (int32_t)options_int(options, OPTION_DECODE_CONCURRENCY),
                                .step_tokens = (int32_t)options_int(options, OPTION_PREFILL_STEP_SIZE)};
    const int32_t context = g.session.model->max_context, max_tokens = g.pattern.max_tokens;
    for (size_t i = 0; i < g.n_rows; i++) {
        int32_t length = (int32_t)g.rows[i].ids.count;
        if (length >= context) {
            status = too_long(&g, i, err);
            goto cleanup;
        }
        int32_t room = context - length < max_tokens ? context - length : max_tokens;
        rollout_need_add(&need, 1, length, room, g.n);
    }
    need.history = rollout_history(&g.pattern.sampling, need.context);
    if ((g.guides.on || g.pattern.min_tokens > 0) && need.history < 0)
        need.history = 0;
    TRY_GOTO(session_engine(&g.session, options, &need, &g.engine, err));
    TRY_GOTO(mem_alloc(&g.done, g.n_rows * (size_t)g.n, sizeof *g.done, "completions", err));
    TRY_GOTO(mem_alloc(&g.ready, g.n_rows * (size_t)g.n, sizeof *g.ready, "completions", err));
    g.jsonl = options_string(options, OPTION_BATCH) != NULL || json_rows_asked(options);
    g.stream = !g.jsonl && g.n == 1;
    engine_set_callback(g.engine, stream_text, &g);
    TRY_GOTO(submit(&g, err));
    TRY_GOTO(run(&g, err));
cleanup:
    for (size_t i = 0; g.ready != NULL && i < g.n_rows * (size_t)g.n; i++)
        completion_free(&g.done[i]);
    for (size_t i = 0; g.rows != NULL && i < g.n_rows; i++) {
        token_list_free(&g.rows[i].ids);
        text_free(&g.rows[i].text);
        row_constraints_free(&g.rows[i].constraints);
        guide_release(g.rows[i].guide);
    }
    row_guides_close(&g.guides);
    mem_free(g.rows);
    json_decref(g.asked);
    dataset_free(&g.data);
    mem_free(g.done);
    mem_free(g.ready);
    session_request_free(&g.pattern);
    engine_destroy(g.engine);
    session_close(&g.session);
    return status;
}
