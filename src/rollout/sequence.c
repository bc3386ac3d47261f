#include "rollout/sequence.h"

#include "base/rng.h"

#include <math.h>
#include <string.h>

static cohort_status copy_array(void *out, const void *from, size_t count, size_t size, cohort_error *err)
{
    if (count == 0)
        return COHORT_OK;
    TRY(mem_alloc(out, count, size, "request", err));
    void *to = NULL;
    memcpy(&to, out, sizeof to);
    memcpy(to, from, count * size);
    return COHORT_OK;
}

/* What ends it, and how it draws before it may end: with a bias of -infinity for all of that. */
static cohort_status copy_ends(struct request *r, const struct engine_request *ask, cohort_error *err)
{
    const struct sampling_params *s = &r->ask.sampling;
    const size_t n = (size_t)ask->n_eos + (size_t)ask->n_stop_ids, bias = (size_t)s->n_bias;
    TRY(mem_alloc(&r->eos_ids, n, sizeof *r->eos_ids, "request", err));
    for (size_t i = 0; i < n; i++)
        r->eos_ids[i] = i < (size_t)ask->n_eos ? ask->eos_ids[i] : ask->stop_ids[i - (size_t)ask->n_eos];
    r->ask.eos_ids = r->eos_ids;
    r->ask.stop_ids = r->eos_ids + ask->n_eos;
    r->early = *s;
    if (ask->min_tokens < 1 || n == 0)
        return COHORT_OK;
    TRY(mem_alloc(&r->early_id, bias + n, sizeof *r->early_id, "request", err));
    TRY(mem_alloc(&r->early_bias, bias + n, sizeof *r->early_bias, "request", err));
    for (size_t i = 0; i < bias + n; i++) {
        r->early_id[i] = i < bias ? s->bias_id[i] : r->eos_ids[i - bias];
        r->early_bias[i] = i < bias ? s->bias[i] : -INFINITY;
    }
    r->early.bias_id = r->early_id;
    r->early.bias = r->early_bias;
    r->early.n_bias = (int32_t)(bias + n);
    return COHORT_OK;
}

static cohort_status copy_request(struct request *r, const struct engine_request *ask, cohort_error *err)
{
    r->ask = *ask;
    struct sampling_params *s = &r->ask.sampling;
    TRY(copy_array(&r->prompt, ask->prompt, (size_t)ask->n_prompt, sizeof(int32_t), err));
    TRY(copy_array(&r->xtc_special, s->xtc_special, (size_t)s->n_xtc_special, sizeof(int32_t), err));
    TRY(copy_array(&r->bias_id, s->bias_id, (size_t)s->n_bias, sizeof(int32_t), err));
    TRY(copy_array(&r->bias, s->bias, (size_t)s->n_bias, sizeof(float), err));
    if (ask->vectors != NULL)
        TRY(copy_array(&r->vectors, ask->vectors, (size_t)ask->n_prompt * (size_t)ask->width, sizeof(float), err));
    if (ask->constraints != NULL)
        TRY(copy_array(&r->constraints, ask->constraints, (size_t)ask->n, sizeof *r->constraints, err));
    TRY(mem_alloc(&r->stop, (size_t)ask->n_stop, sizeof *r->stop, "stop strings", err));
    for (int32_t i = 0; i < ask->n_stop; i++)
        TRY(mem_strdup(&r->stop[i], ask->stop[i], strlen(ask->stop[i]), err));
    r->ask.prompt = r->prompt;
    r->scope = (uint64_t)ask->wears;
    for (int32_t i = 0; i < ask->n_prompt; i++)
        r->scope = rng_stream(r->scope, (uint64_t)ask->prompt[i]);
    r->ask.vectors = r->vectors;
    r->ask.constraints = r->constraints;
    r->ask.stop = (const char *const *)r->stop;
    s->xtc_special = r->xtc_special;
    s->bias_id = r->bias_id;
    s->bias = r->bias;
    if (ask->prompt_logp)
        TRY(mem_alloc(&r->prompt_logp, (size_t)ask->n_prompt, sizeof *r->prompt_logp, "request", err));
    r->all_logits = ask->prompt_logp;
    return copy_ends(r, ask, err);
}

cohort_status request_create(struct request **out, const struct engine_request *ask, int32_t max_tokens,
                             cohort_error *err)
{
    struct request *r = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&r, 1, sizeof *r, "request", err));
    r->max_tokens = max_tokens;
    r->n_unfinished = ask->n;
    TRY_GOTO(copy_request(r, ask, err));
    TRY_GOTO(page_list_create(&r->pages, prompt_pages(ask->n_prompt), err));
    TRY_GOTO(mem_alloc(&r->sequences, (size_t)ask->n, sizeof *r->sequences, "sequences", err));
    for (int32_t i = 0; i < ask->n; i++) {
        struct sequence *s = &r->sequences[i];
        s->request = r;
        s->constraint = r->constraints != NULL ? &r->constraints[i] : NULL;
        s->index = ask->first_index + i;
        s->pause_at = ask->pause;
        TRY_GOTO(mem_alloc(&s->history, (size_t)ask->n_prompt + (size_t)max_tokens, sizeof(int32_t), "sequence", err));
        memcpy(s->history, ask->prompt, (size_t)ask->n_prompt * sizeof(int32_t));
        TRY_GOTO(mem_alloc(&s->logp, (size_t)max_tokens, sizeof(float), "sequence", err));
        TRY_GOTO(mem_alloc(&s->entropy, (size_t)max_tokens, sizeof(float), "sequence", err));
        if (ask->turns)
            TRY_GOTO(mem_alloc(&s->sampled, (size_t)max_tokens, sizeof(bool), "sequence", err));
        const size_t top = (size_t)max_tokens * (size_t)ask->n_top;
        if (top > 0) {
            TRY_GOTO(mem_alloc(&s->top_ids, top, sizeof *s->top_ids, "sequence", err));
            TRY_GOTO(mem_alloc(&s->top_logp, top, sizeof *s->top_logp, "sequence", err));
        }
        if (s->constraint != NULL)
            TRY_GOTO(mem_alloc(&s->kept, (size_t)max_tokens, sizeof(float), "sequence", err));
        TRY_GOTO(page_list_create(&s->pages, completion_pages(ask->n_prompt, max_tokens), err));
    }
    *out = r;
    return COHORT_OK;
cleanup:
    request_destroy(r);
    return status;
}

void request_destroy(struct request *r)
{
    if (r == NULL)
        return;
    for (int32_t i = 0; r->sequences != NULL && i < r->ask.n; i++) {
        mem_free(r->sequences[i].history);
        mem_free(r->sequences[i].logp);
        mem_free(r->sequences[i].kept);
        mem_free(r->sequences[i].entropy);
        mem_free(r->sequences[i].sampled);
        mem_free(r->sequences[i].routes);
        mem_free(r->sequences[i].top_ids);
        mem_free(r->sequences[i].top_logp);
        page_list_free(&r->sequences[i].pages);
        text_free(&r->sequences[i].text);
        token_stream_free(&r->sequences[i].stream);
    }
    for (int32_t i = 0; r->stop != NULL && i < r->ask.n_stop; i++)
        mem_free(r->stop[i]);
    mem_free(r->stop);
    mem_free(r->sequences);
    page_list_free(&r->pages);
    mem_free(r->prompt);
    mem_free(r->eos_ids);
    mem_free(r->early_id);
    mem_free(r->early_bias);
    mem_free(r->prompt_logp);
    mem_free(r->xtc_special);
    mem_free(r->bias_id);
    mem_free(r->bias);
    mem_free(r->vectors);
    mem_free(r->constraints);
    mem_free(r);
}

bool request_is_eos(const struct request *request, int32_t token)
{
    for (int32_t i = 0; i < request->ask.n_eos; i++)
        if (request->eos_ids[i] == token)
            return true;
    return false;
}

static float draw_temperature(const struct request *r)
{
    const float temperature = r->ask.sampling.temperature;
    return temperature == 0.0f ? 1.0f : temperature;
}

float request_logp_temperature(const struct request *r)
{
    return r->ask.logp_temperature > 0 ? r->ask.logp_temperature : draw_temperature(r);
}

bool request_logp_apart(const struct request *r) { return request_logp_temperature(r) != draw_temperature(r); }

bool request_watched(const struct request *r)
{
    return r->ask.constraints != NULL || r->ask.process != NULL || r->ask.n_top > 0 || request_logp_apart(r);
}

static bool is_stop(const struct request *r, int32_t token)
{
    for (int32_t i = 0; i < r->ask.n_stop_ids; i++)
        if (r->ask.stop_ids[i] == token)
            return true;
    return false;
}

struct sample_row sequence_draw(const struct sequence *s, int32_t logits_row)
{
    const struct request *r = s->request;
    const struct constraint *c = s->constraint;
    return (struct sample_row){.params = s->n_tokens < r->ask.min_tokens ? &r->early : &r->ask.sampling,
                               .history = s->history,
                               .n_history = r->ask.n_prompt + s->n_tokens,
                               .allowed = c != NULL ? c->allowed(c->context) : NULL,
                               .masked = c != NULL && c->masked,
                               .logits_row = logits_row,
                               .seed = r->ask.seed,
                               .stream = rng_stream(r->ask.stream, (uint64_t)s->index),
                               .position = (uint64_t)s->n_tokens};
}

int32_t request_choosable(const struct request *r, int32_t vocab)
{
    return r->ask.n_choosable > 0 && r->ask.n_choosable < vocab ? r->ask.n_choosable : vocab;
}

/* Looks for the first stop string in text that ends behind position from, and cuts off the string and what follows it.
 */
static bool cut_at_stop(struct sequence *s, size_t from)
{
    const struct request *r = s->request;
    size_t best = s->text.length + 1;
    for (int32_t i = 0; i < r->ask.n_stop; i++) {
        size_t length = strlen(r->stop[i]);
        if (length == 0 || s->text.length == 0)
            continue;
        size_t start = from >= length - 1 ? from - (length - 1) : 0; /* an earlier start would have been found before */
        const char *found = memmem(s->text.data + start, s->text.length - start, r->stop[i], length);
        if (found != NULL && (size_t)(found - s->text.data) < best)
            best = (size_t)(found - s->text.data);
    }
    if (best > s->text.length)
        return false;
    s->text.length = best;
    s->text.data[best] = '\0';
    return true;
}

/* Whether the last size * count tokens are one run of size tokens, count times. */
static bool repeats(const int32_t *end, int32_t size, int32_t count)
{
    for (int32_t i = 1; i <= size * (count - 1); i++)
        if (end[-i] != end[-i - size])
            return false;
    return true;
}

static bool is_stuck(const struct sequence *s)
{
    const struct repeat_limit *p = &s->request->ask.repetition;
    const int32_t *end = s->history + s->request->ask.n_prompt + s->n_tokens;
    const int32_t n = s->n_tokens - s->turn_begin, least = p->min_size > 1 ? p->min_size : 1;
    for (int32_t size = least; size <= p->max_size && size <= n / p->min_count; size++)
        if (repeats(end, size, p->min_count))
            return true;
    return false;
}

cohort_status sequence_append(struct sequence *s, const struct tokenizer *tokenizer, const struct sample_row *draw,
                              cohort_error *err)
{
    const struct request *r = s->request;
    const int32_t token = draw->token;
    s->history[r->ask.n_prompt + s->n_tokens] = token;
    s->logp[s->n_tokens] = draw->logp;
    s->entropy[s->n_tokens] = draw->entropy;
    if (s->sampled != NULL)
        s->sampled[s->n_tokens] = true;
    if (s->kept != NULL)
        s->kept[s->n_tokens] = draw->kept;
    s->n_tokens++;
    const bool eos = request_is_eos(r, token), stop_id = !eos && is_stop(r, token);
    bool stopped = stop_id;
    if (s->constraint != NULL) {
        s->constraint->accept(s->constraint->context, token);
        stopped = stopped || (!eos && s->constraint->done(s->constraint->context));
    }
    const bool stuck = !eos && !stopped && r->ask.repetition.max_size > 0 && is_stuck(s);
    bool last = eos || stopped || stuck || s->n_tokens == r->max_tokens;
    if (tokenizer != NULL) {
        size_t before = s->text.length;
        if (!stop_id)
            TRY(token_stream_push(&s->stream, tokenizer, token, true, &s->text, err));
        if (last)
            TRY(token_stream_finish(&s->stream, tokenizer, &s->text, err));
        stopped = cut_at_stop(s, before) || stopped;
    }
    if (stopped)
        s->finish_reason = FINISH_STOP;
    else if ((eos && r->ask.turns) || s->n_tokens == s->pause_at)
        s->turned = true;
    else if (eos)
        s->finish_reason = FINISH_EOS;
    else if (stuck)
        s->finish_reason = FINISH_REPETITION;
    else if (last)
        s->finish_reason = FINISH_LENGTH;
    return COHORT_OK;
}

cohort_status sequence_go_on(struct sequence *s, const struct tokenizer *tokenizer, const int32_t *tokens, int32_t n,
                             cohort_error *err)
{
    if (tokenizer != NULL && s->text.length > 0)
        TRY(text_append(&s->text, "\n", 1, err));
    for (int32_t i = 0; i < n; i++) {
        s->history[s->request->ask.n_prompt + s->n_tokens] = tokens[i];
        s->logp[s->n_tokens] = s->entropy[s->n_tokens] = 0.0f;
        if (s->kept != NULL)
            s->kept[s->n_tokens] = 0.0f;
        for (int32_t k = 0; k < s->request->ask.n_top; k++)
            s->top_ids[s->n_tokens * s->request->ask.n_top + k] = -1;
        s->sampled[s->n_tokens++] = false;
    }
    if (s->constraint != NULL)
        s->constraint->turn(s->constraint->context, s->n_tokens);
    s->turn_begin = s->n_tokens;
    s->n_behind = n; /* the EOS, and all of these but the last */
    s->turned = false;
    return COHORT_OK;
}

/* With how many of these n tokens it begins. */
static int32_t tokens_common(const struct sequence *s, const int32_t *tokens, int32_t n)
{
    const int32_t *own = s->history + s->request->ask.n_prompt;
    int32_t common = 0;
    while (common < n && common < s->n_tokens && own[common] == tokens[common])
        common++;
    return common;
}

void sequence_retrace(struct sequence *s, const int32_t *tokens, int32_t n, int32_t ahead)
{
    int32_t *own = s->history + s->request->ask.n_prompt;
    const int32_t kept = tokens_common(s, tokens, n),
                  computed = s->n_tokens - 1 - s->n_behind; /* tokens whose keys and values are there */
    memcpy(own, tokens, (size_t)n * sizeof *own);
    for (int32_t i = 0; i < n; i++) {
        s->logp[i] = s->entropy[i] = 0.0f;
        s->sampled[i] = false;
    }
    s->n_tokens = s->turn_begin = n;
    s->n_behind = n - 1 - (kept < computed ? kept : computed);
    s->n_behind = s->n_behind > 0 ? s->n_behind : 0; /* the last is fed again where its keys are there */
    s->pause_at = n + ahead;
    s->turned = false;
}

void sequence_pending(struct sequence *s)
{
    struct request *r = s->request;
    const int32_t at = (int32_t)(s - r->sequences);
    s->state = SEQUENCE_PENDING;
    s->n_behind = s->n_tokens > 0 ? s->n_tokens - 1 : 0;
    r->first_pending = at < r->first_pending ? at : r->first_pending;
}

int32_t sequence_pages(const struct sequence *s, int32_t ahead)
{
    const int32_t left = s->request->max_tokens - s->n_tokens, more = ahead < left ? ahead : left,
                  step = s->request->step_tokens;
    if (step > 0 && s->n_behind > step)
        return (int32_t)completion_pages(s->request->ask.n_prompt, s->n_tokens - s->n_behind + step);
    return (int32_t)completion_pages(s->request->ask.n_prompt, s->n_tokens + more);
}

/* Bytes at the end of text that may be the beginning of a stop string. */
static size_t held_back(const struct sequence *s)
{
    const struct request *r = s->request;
    size_t most = 0;
    for (int32_t i = 0; i < r->ask.n_stop; i++) {
        size_t length = strlen(r->stop[i]);
        for (size_t n = length > 0 ? length - 1 : 0; n > most; n--)
            if (n <= s->text.length && memcmp(s->text.data + s->text.length - n, r->stop[i], n) == 0) {
                most = n;
                break;
            }
    }
    return most;
}

const char *sequence_new_text(struct sequence *s, size_t *length)
{
    size_t certain = s->finish_reason == FINISH_NONE ? s->text.length - held_back(s) : s->text.length;
    *length = 0;
    if (s->text.data == NULL || certain <= s->emitted)
        return "";
    const char *text = s->text.data + s->emitted;
    *length = certain - s->emitted;
    s->emitted = certain;
    return text;
}
