/* cohort generate: text for one prompt, streamed, or rows of JSON for many. */
#include "backend/ops.h"
#include "backend/sampling.h"
#include "base/clock.h"
#include "command/command.h"
#include "recipe/data_open.h"
#include "recipe/end_of_text.h"
#include "recipe/generation_file.h"
#include "recipe/json_rows.h"
#include "recipe/prompt_cache.h"
#include "recipe/rank_inputs.h"
#include "recipe/row_guide.h"
#include "recipe/row_prompt.h"
#include "recipe/row_response.h"
#include "rollout/completion_pack.h"
#include "run/output_format.h"
#include "train/grpo.h"

#include <stdio.h>
#include <string.h>

/* One row of the request. */
struct prompt_row {
    struct token_list ids;
    struct text text;
    uint64_t stream;
    struct guide *guide; /* NULL: nothing guides its completions */
    struct row_constraints constraints;
};

struct generate {
    const struct options *options;
    const cohort_observer *observer;
    struct session session;
    struct engine *engine;
    struct engine_request pattern; /* of every row */
    int32_t *stop_ids;
    struct dataset data; /* of --batch */
    struct row_guides guides;
    json_t *asked; /* the row that --prompt is */
    struct row_style style;
    struct prompt_row *rows;
    size_t n_rows;
    struct ranks *ranks; /* that generate together; NULL: one */
    size_t
        *asked_rows; /* [n_asked] of the round in hand, which this rank generates of, in the order of their requests */
    size_t n_asked;
    int64_t first_request; /* of these */
    bool *mine;            /* [n_rows] */
    int64_t n_mine;
    int32_t n;               /* completions a row */
    struct completion *done; /* [n_rows * n] */
    bool *ready;
    size_t next;       /* first completion not printed yet; with unordered unused */
    int64_t n_done;    /* completions that ended */
    bool writes_cache; /* of --prompt-cache, which is not there */
    bool stream;       /* print text as it comes */
    bool json;         /* print rows of it */
    bool document;     /* all of it as one */
    bool opened;       /* the document has begun */
    bool unordered;
    enum finish_reason finish; /* of the last that ended */
    struct engine_stats stats; /* at the end, of all ranks */
    double start, first;       /* when it was asked; when the first token came, 0: not yet */
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
    g->style.system = options_string(g->options, OPTION_SYSTEM);
    if ((prompt != NULL) == (batch != NULL))
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --prompt TEXT or --batch FILE");
    if (prompt != NULL && ranks_count(g->ranks) > 1)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "cohort generate --prompt runs as one process: start it without mpirun or srun (several ranks "
                         "share --batch)");
    if (prompt != NULL) {
        struct text text = {0};
        bool file = false;
        if (file_exists(prompt, &file, NULL) == COHORT_OK && file && strcmp(prompt, "-") != 0)
            observer_message(g->observer, "note: the prompt is the name of a file; --batch %.200s reads its rows",
                             prompt);
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
    for (size_t k = 0; k < g->n_asked; k++) {
        const size_t i = g->asked_rows[k];
        struct engine_request request = g->pattern;
        int64_t id = 0;
        request.prompt = g->rows[i].ids.ids;
        request.n_prompt = (int32_t)g->rows[i].ids.count;
        request.n = g->n;
        request.stream = g->rows[i].stream;
        const int32_t room = g->session.model->max_context - request.n_prompt;
        TRY(row_constraints_open(&g->rows[i].constraints, &g->guides, g->rows[i].guide, g->n,
                                 room < request.max_tokens ? room : request.max_tokens, err));
        request.constraints = g->rows[i].constraints.constraints;
        cohort_status status = engine_submit(g->engine, &request, &id, err);
        if (status != COHORT_OK) {
            error_context(err, "row %zu", i + 1);
            return status;
        }
        if (k == 0)
            g->first_request = id;
    }
    return COHORT_OK;
}

static void stream_text(void *context, const struct engine_event *event)
{
    struct generate *g = context;
    if (g->first == 0.0)
        g->first = clock_seconds();
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
                                               .n_top = c->n_top,
                                               .top_ids = c->top_ids,
                                               .top_logp = c->top_logp,
                                               .prompt_logp = c->prompt_logp,
                                               .temperature = g->pattern.sampling.temperature,
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

/* What separates a row from what was printed before it, in a document; and its newline, which is none there. */
static cohort_status put_row(struct generate *g, size_t at, const struct completion *c, struct text *out,
                             cohort_error *err)
{
    if (g->document)
        TRY(text_printf(out, err, "%s", g->opened ? ",\n" : "{\"completions\": [\n"));
    g->opened = true;
    TRY(write_json(g, at, c, out, err));
    if (g->document)
        out->length--;
    return COHORT_OK;
}

static cohort_status print_completion(struct generate *g, size_t i, cohort_error *err)
{
    struct completion *c = &g->done[i];
    struct text text = {0};
    cohort_status status = COHORT_OK;
    if (g->json)
        status = put_row(g, i / (size_t)g->n, c, &text, err);
    else if (!g->stream)
        status = text_append(&text, c->text, c->text_length, err);
    if (status == COHORT_OK && !g->json)
        status = text_append(&text, "\n", 1, err);
    if (status == COHORT_OK)
        observer_output(g->observer, &text);
    text_free(&text);
    completion_free(c);
    return status;
}

/* Completion i is there: prints it, or, in order, all that now follow those that were printed. */
static cohort_status print_ready(struct generate *g, size_t i, cohort_error *err)
{
    g->ready[i] = true;
    if (g->unordered)
        return print_completion(g, i, err);
    for (; g->next < g->n_rows * (size_t)g->n && g->ready[g->next]; g->next++)
        TRY(print_completion(g, g->next, err));
    return COHORT_OK;
}

/* What the engines of all ranks counted. */
static cohort_status share_stats(struct generate *g, cohort_error *err)
{
    const int32_t count = ranks_count(g->ranks);
    struct engine_stats *all = NULL;
    if (count == 1)
        return COHORT_OK;
    TRY(mem_alloc(&all, (size_t)count, sizeof *all, "figures", err));
    const cohort_status status = ranks_gather(g->ranks, &g->stats, sizeof g->stats, all, err);
    for (int32_t r = 0; status == COHORT_OK && r < count; r++) {
        g->stats.prompt_tokens += r == ranks_rank(g->ranks) ? 0 : all[r].prompt_tokens;
        g->stats.generated_tokens += r == ranks_rank(g->ranks) ? 0 : all[r].generated_tokens;
        g->stats.drafted += r == ranks_rank(g->ranks) ? 0 : all[r].drafted;
        g->stats.accepted += r == ranks_rank(g->ranks) ? 0 : all[r].accepted;
    }
    mem_free(all);
    return status;
}

/* The end of the document that was begun, whatever ended it. */
static cohort_status end_document(struct generate *g, cohort_error *err)
{
    struct text text = {0};
    const struct engine_stats stats = g->stats;
    const double now = clock_seconds(), first = g->first > 0.0 ? g->first : now;
    if (!g->document)
        return COHORT_OK;
    cohort_status status = text_printf(
        &text, err,
        "%s\n], \"prompt_tokens\": %lld, \"completion_tokens\": %lld, \"drafted_tokens\": %lld, "
        "\"accepted_tokens\": %lld, \"seconds\": %.3f, \"seconds_to_first_token\": %.3f}\n",
        g->opened ? "" : "{\"completions\": [", (long long)stats.prompt_tokens, (long long)stats.generated_tokens,
        (long long)stats.drafted, (long long)stats.accepted, now - g->start, first - g->start);
    if (status == COHORT_OK)
        observer_output(g->observer, &text);
    text_free(&text);
    return status;
}

static const char *why_it_ended(enum finish_reason reason)
{
    switch (reason) {
    case FINISH_EOS: return "the model ended it";
    case FINISH_STOP: return "stopped at --stop";
    case FINISH_REPETITION: return "cut, for it repeats itself";
    case FINISH_LENGTH: return "cut at --max-tokens, or at the model's context";
    default: return finish_reason_name(reason);
    }
}

/* To a person at a terminal: why it ended, and how fast it was. */
static void tell_end(const struct generate *g)
{
    const struct engine_stats stats = g->stats;
    const double now = clock_seconds(), decoding = now - g->first;
    if (observer_columns(g->observer) == 0 || g->first == 0.0)
        return;
    const bool one = g->n_rows * (size_t)g->n == 1;
    const double later = (double)(stats.generated_tokens - (one ? 1 : 0)); /* than the first, where that is one */
    observer_message(g->observer,
                     "[%s%s%lld tokens, %.1f tokens/s; prompt: %lld tokens, the first answer after %.2f s]",
                     one ? why_it_ended(g->finish) : "", one ? "; " : "", (long long)stats.generated_tokens,
                     decoding > 0.0 ? later / decoding : 0.0, (long long)stats.prompt_tokens, g->first - g->start);
}

static cohort_status stopped(cohort_error *err)
{
    return error_set(err, COHORT_ERR_CANCELLED, "stopped on request; what was finished has been printed");
}

/* Of one prompt the tokens, of many the completions that ended. While text is streamed there is no room for a line. */
static bool tell_progress(const struct generate *g)
{
    const struct engine_stats stats = engine_stats(g->engine);
    const double seconds = clock_seconds() - g->start;
    cohort_progress progress = {.phase = g->stream ? "stream" : "generate",
                                .done = stats.generated_tokens,
                                .unit = "tokens",
                                .per_second = (double)stats.generated_tokens / seconds};
    if (g->n_rows * (size_t)g->n > 1) {
        progress.done = progress.ended = g->n_done;
        progress.total = progress.begun = g->n_mine * g->n;
        progress.unit = "completions";
        progress.per_second = (double)g->n_done / seconds;
    }
    return observer_progress(g->observer, &progress);
}

static cohort_status take(struct generate *g, struct completion *completion, cohort_error *err)
{
    const size_t row = g->asked_rows[completion->request - g->first_request],
                 at = row * (size_t)g->n + (size_t)completion->index;
    g->done[at] = *completion;
    g->n_done++;
    g->finish = completion->finish_reason;
    if (completion->finish_reason == FINISH_FAILED)
        TRY(row_constraints_check(&g->rows[row].constraints, err));
    TRY(completion_check(completion, err));
    return ranks_count(g->ranks) > 1 ? COHORT_OK : print_ready(g, at, err);
}

/* Generates of the rows in hand. */
static cohort_status run(struct generate *g, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    for (bool busy = true; busy;) {
        struct completion completion;
        cohort_status stepped = engine_step(g->engine, &busy, err);
        if (stepped == COHORT_ERR_CANCELLED)
            return stopped(err);
        TRY(stepped);
        while (engine_poll(g->engine, &completion))
            TRY(take(g, &completion, err));
        if (!tell_progress(g) && status == COHORT_OK) {
            for (size_t k = 0; k < g->n_asked; k++)
                engine_cancel(g->engine, g->first_request + (int64_t)k);
            status = stopped(err);
        }
    }
    return status;
}

/* ---- Several ranks ----
 *
 * Rows are generated in rounds, so that rank 0 prints what is there before all of it is: in the order of the rows, the same
 * bytes as one process, which has one round. */

/* Whether all of them have the same model and rows. */
static cohort_status compare(const struct generate *g, cohort_error *err)
{
    struct run_inputs inputs = {0};
    if (ranks_count(g->ranks) == 1)
        return COHORT_OK;
    const cohort_status status =
        run_inputs_add(&inputs, INPUT_DATA, options_string(g->options, OPTION_BATCH), g->data.sha256, err);
    if (status == COHORT_OK)
        return rank_inputs_compare_session(g->ranks, g->options, &g->session, &inputs, err);
    run_inputs_free(&inputs);
    return status;
}

static size_t round_rows(const struct generate *g)
{
    enum { LEAST = 1024, TIMES = 4 }; /* completions of a rank: so many more than are decoded at once */
    const size_t count = (size_t)ranks_count(g->ranks), n = (size_t)g->n,
                 wish = TIMES * (size_t)options_int(g->options, OPTION_DECODE_CONCURRENCY),
                 each = wish > LEAST ? wish : LEAST;
    return count == 1 ? g->n_rows : count * ((each + n - 1) / n);
}

/* Which rows are this rank's: of every round those of about as many tokens. */
static cohort_status deal(struct generate *g, cohort_error *err)
{
    const size_t most = round_rows(g);
    int32_t *lengths = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&g->mine, g->n_rows, sizeof *g->mine, "prompts", err));
    TRY_GOTO(mem_alloc(&g->asked_rows, g->n_rows, sizeof *g->asked_rows, "prompts", err));
    TRY_GOTO(mem_alloc(&lengths, g->n_rows, sizeof *lengths, "prompts", err));
    for (size_t i = 0; i < g->n_rows; i++)
        lengths[i] = (int32_t)g->rows[i].ids.count;
    for (size_t begin = 0; begin < g->n_rows; begin += most) {
        const size_t n = g->n_rows - begin < most ? g->n_rows - begin : most;
        TRY_GOTO(grpo_rollout_deal(g->ranks, lengths + begin, (int32_t)n, g->mine + begin, err));
    }
    for (size_t i = 0; i < g->n_rows; i++)
        g->n_mine += g->mine[i] ? 1 : 0;
cleanup:
    mem_free(lengths);
    return status;
}

/* Takes what another rank generated of rows begin .. end. */
static cohort_status take_rows(struct generate *g, size_t begin, size_t end, const struct text *bytes,
                               cohort_error *err)
{
    for (size_t at = 0; at < bytes->length;) {
        size_t row = end;
        if (bytes->length - at >= sizeof row)
            memcpy(&row, bytes->data + at, sizeof row);
        if (row < begin || row >= end || g->mine[row])
            return error_set(err, COHORT_ERR_INTERNAL, "another rank generated of other rows");
        at += sizeof row;
        for (int32_t k = 0; k < g->n; k++)
            TRY(completion_unpack(bytes, &at, &g->done[row * (size_t)g->n + (size_t)k], err));
    }
    return COHORT_OK;
}

/* Rank 0 gets what the others generated of rows begin .. end, who let it go. */
static cohort_status gather(struct generate *g, size_t begin, size_t end, cohort_error *err)
{
    struct text own = {0}, *all = NULL;
    const bool prints = ranks_rank(g->ranks) == 0;
    cohort_status status = COHORT_OK;
    for (size_t row = begin; !prints && row < end; row++) {
        if (!g->mine[row])
            continue;
        TRY_GOTO(text_append(&own, (const char *)&row, sizeof row, err));
        for (size_t i = row * (size_t)g->n; i < (row + 1) * (size_t)g->n; i++) {
            TRY_GOTO(completion_pack(&g->done[i], 0, &own, err));
            completion_free(&g->done[i]);
        }
    }
    TRY_GOTO(ranks_gather_texts(g->ranks, &own, &all, err));
    for (int32_t r = 1; prints && r < ranks_count(g->ranks); r++)
        TRY_GOTO(take_rows(g, begin, end, &all[r], err));
cleanup:
    text_free(&own);
    ranks_texts_free(g->ranks, all);
    return status;
}

/* Rank 0 prints what is there of rows begin .. end. */
static cohort_status print_round(struct generate *g, size_t begin, size_t end, cohort_error *err)
{
    for (size_t i = begin * (size_t)g->n; ranks_rank(g->ranks) == 0 && i < end * (size_t)g->n; i++)
        TRY(print_ready(g, i, err));
    return COHORT_OK;
}

static cohort_status run_rounds(struct generate *g, cohort_error *err)
{
    const size_t most = round_rows(g);
    for (size_t begin = 0; begin < g->n_rows; begin += most) {
        const size_t end = g->n_rows - begin < most ? g->n_rows : begin + most;
        g->n_asked = 0;
        for (size_t i = begin; i < end; i++)
            if (g->mine[i])
                g->asked_rows[g->n_asked++] = i;
        TRY(submit(g, err));
        TRY(run(g, err));
        if (ranks_count(g->ranks) == 1)
            continue;
        TRY(gather(g, begin, end, err));
        TRY(ranks_agree(g->ranks, print_round(g, begin, end, err), err, err));
    }
    return COHORT_OK;
}

/* What the options wish of each completion beside how it is drawn. */
static cohort_status read_wishes(struct generate *g, cohort_error *err)
{
    const struct options *options = g->options;
    const size_t n = options_list_count(options, OPTION_STOP_TOKEN_IDS);
    const int32_t vocab = g->session.model->config.vocab_size;
    g->pattern.min_tokens = (int32_t)options_int(options, OPTION_MIN_TOKENS);
    if (options_bool(options, OPTION_IGNORE_EOS))
        g->pattern.n_eos = 0;
    g->pattern.n_top = (int32_t)options_int(options, OPTION_TOP_LOGPROBS);
    g->pattern.prompt_logp = options_bool(options, OPTION_PROMPT_LOGPROBS);
    if (!g->json && (g->pattern.n_top > 0 || g->pattern.prompt_logp))
        return error_set(err, COHORT_ERR_ARGUMENT, "--%s: text has no log-probs; add --format jsonl or --format json",
                         g->pattern.n_top > 0 ? "top-logprobs" : "prompt-logprobs");
    TRY(mem_alloc(&g->stop_ids, n, sizeof *g->stop_ids, "stop ids", err));
    for (size_t i = 0; i < n; i++) {
        const double id = options_list_number(options, OPTION_STOP_TOKEN_IDS, i);
        if (id != (double)(int32_t)id || id >= (double)vocab)
            return error_set(
                err, COHORT_ERR_ARGUMENT,
                "--stop-token-ids: %g is not a token id of this model, expected whole numbers from 0 to %d", id,
                (int)vocab - 1);
        g->stop_ids[i] = (int32_t)id;
    }
    g->pattern.stop_ids = g->stop_ids;
    g->pattern.n_stop_ids = (int32_t)n;
    return COHORT_OK;
}

/* What is printed, and when. */
static void choose_form(struct generate *g)
{
    const int format = options_choice(g->options, OPTION_FORMAT);
    g->document = format == OUTPUT_JSON;
    g->json = g->document || json_rows_asked(g->options) || options_string(g->options, OPTION_BATCH) != NULL;
    g->stream = !g->json && g->n == 1;
    g->unordered = options_bool(g->options, OPTION_UNORDERED) && g->json;
}

static cohort_status open_engine(struct generate *g, cohort_error *err)
{
    struct rollout_need need = {.sequences = (int32_t)options_int(g->options, OPTION_DECODE_CONCURRENCY),
                                .step_tokens = (int32_t)options_int(g->options, OPTION_PREFILL_STEP_SIZE),
                                .draft_tokens = session_drafts(&g->session, g->options)};
    const int32_t context = g->session.model->max_context, max_tokens = g->pattern.max_tokens;
    for (size_t i = 0; i < g->n_rows; i++) {
        int32_t length = (int32_t)g->rows[i].ids.count;
        if (length >= context)
            return too_long(g, i, err);
        int32_t room = context - length < max_tokens ? context - length : max_tokens;
        rollout_need_add(&need, 1, length, room, g->n);
    }
    need.history = rollout_history(&g->pattern.sampling, need.context);
    if ((g->guides.on || g->pattern.min_tokens > 0) && need.history < 0)
        need.history = 0;
    TRY(session_engine(&g->session, g->options, &need, &g->engine, err));
    engine_set_callback(g->engine, stream_text, g);
    return COHORT_OK;
}

/* ---- The file of --prompt-cache ---- */

static cohort_status read_cache(struct generate *g, cohort_error *err)
{
    const char *path = options_string(g->options, OPTION_PROMPT_CACHE);
    int32_t n = 0;
    bool there = false;
    if (path == NULL)
        return COHORT_OK;
    TRY(file_exists(path, &there, err));
    g->writes_cache = !there;
    if (!there && g->n_rows > 1)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "--prompt-cache %s is not there, and is written of one prompt: give --prompt in place of --batch", path);
    if (!there)
        return COHORT_OK;
    TRY(prompt_cache_read(&g->session, g->engine, path, &n, err));
    observer_message(g->observer, "%s: %d tokens, of which this prompt has %d", path, (int)n,
                     (int)engine_known(g->engine, g->rows[0].ids.ids, (int32_t)g->rows[0].ids.count));
    return COHORT_OK;
}

static cohort_status write_cache(struct generate *g, cohort_error *err)
{
    const char *path = options_string(g->options, OPTION_PROMPT_CACHE);
    int32_t n = 0;
    if (!g->writes_cache)
        return COHORT_OK;
    TRY(prompt_cache_write(&g->session, g->engine, g->rows[0].ids.ids, (int32_t)g->rows[0].ids.count, path, &n, err));
    observer_message(g->observer,
                     n > 0 ? "%s: %d tokens of the prompt" : "%s is not written: the prompt has less than %d tokens",
                     path, n > 0 ? (int)n : (int)ATTENTION_CHUNK);
    return COHORT_OK;
}

cohort_status command_generate(struct options *options, const struct reward_list *extra,
                               const cohort_observer *observer, cohort_error *err)
{
    (void)extra;
    struct generate g = {.options = options,
                         .observer = observer,
                         .ranks = options_ranks(options),
                         .n = (int32_t)options_int(options, OPTION_N)};
    cohort_status status = COHORT_OK;
    const bool cached = options_string(options, OPTION_PROMPT_CACHE) != NULL;
    ranks_set_timeout(g.ranks, options_float(options, OPTION_RANK_TIMEOUT));
    TRY_GOTO(session_open(&g.session, options, NULL,
                          SESSION_TOKENIZER | (cached ? SESSION_HASHED : 0) | rank_inputs_need(options), observer,
                          err));
    end_of_text_note(&g.session, observer);
    choose_form(&g);
    TRY_GOTO(generation_file_apply(&g.session, options, observer, err));
    TRY_GOTO(session_request(&g.session, options, &g.pattern, err));
    TRY_GOTO(read_wishes(&g, err));
    TRY_GOTO(row_guides_open(&g.guides, &g.session, options, observer, false, err));
    TRY_GOTO(read_rows(&g, err));
    TRY_GOTO(row_tell_template(&g.session, false, observer, err));
    TRY_GOTO(compare(&g, err));
    TRY_GOTO(deal(&g, err));
    choose_streams(&g);
    TRY_GOTO(open_engine(&g, err));
    TRY_GOTO(read_cache(&g, err));
    TRY_GOTO(mem_alloc(&g.done, g.n_rows * (size_t)g.n, sizeof *g.done, "completions", err));
    TRY_GOTO(mem_alloc(&g.ready, g.n_rows * (size_t)g.n, sizeof *g.ready, "completions", err));
    g.start = clock_seconds();
    status = run_rounds(&g, err);
    g.stats = engine_stats(g.engine);
    if (status == COHORT_OK)
        status = share_stats(&g, err);
    if (status == COHORT_OK || status == COHORT_ERR_CANCELLED) {
        const cohort_status ended = end_document(&g, err);
        status = status == COHORT_OK ? ended : status;
    }
    if (status == COHORT_OK)
        status = write_cache(&g, err);
    if (status == COHORT_OK)
        tell_end(&g);
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
    mem_free(g.mine);
    mem_free(g.asked_rows);
    mem_free(g.stop_ids);
    session_request_free(&g.pattern);
    engine_destroy(g.engine);
    session_close(&g.session);
    return status;
}
