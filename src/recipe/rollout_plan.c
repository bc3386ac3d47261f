#include "recipe/rollout_plan.h"

#include "model/head.h"
#include "model/model_adapter.h"

#include <string.h>

enum {
    /* The number of sequences on a CPU where nothing trains, unless an option says otherwise: more gain little there,
     * and each would hold pages in memory that other programs use too. */
    CPU_SEQUENCES = 64,
    /* The prompt tokens of a step are not reduced below this to make room for pages. */
    LEAST_STEP_TOKENS = 512,
    /* Rows of a step for drafts, where prompts are shorter. */
    DRAFT_ROWS = 64
};

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

void rollout_need_add(struct rollout_need *need, int64_t times, int32_t n_prompt, int32_t max_tokens, int32_t n)
{
    const int64_t one = engine_pages(n_prompt, max_tokens, 1), own = engine_pages(n_prompt, max_tokens, 2) - one;
    if (times < 1)
        return;
    need->requests += times;
    need->completions += times * n;
    need->prompt_tokens += times * n_prompt;
    need->pages += times * engine_pages(n_prompt, max_tokens, n);
    need->least = larger(need->least, one);
    need->prompt_pages = larger(need->prompt_pages, one - own);
    need->completion_pages = larger(need->completion_pages, own);
    need->group = (int32_t)larger(need->group, n);
    need->context = (int32_t)larger(need->context, (int64_t)n_prompt + max_tokens);
}

void rollout_need_any(struct rollout_need *need, const struct backend *backend, int32_t sequences, int32_t context)
{
    const int64_t each = engine_pages(context, 1, 1) + 1; /* one more where a prompt ends */
    const int64_t n = sequences > 0 ? sequences : backend->sizes->decode_sequences;
    *need = (struct rollout_need){.requests = n,
                                  .completions = n,
                                  .prompt_tokens = INT32_MAX,
                                  .pages = n * each,
                                  .least = each,
                                  .completion_pages = each,
                                  .group = 1,
                                  .context = context,
                                  .sequences = sequences};
}

int32_t rollout_history(const struct sampling_params *p, int32_t context)
{
    const bool repetition = p->repetition_penalty != 0.0f && p->repetition_penalty != 1.0f;
    const struct {
        bool on;
        int32_t back;
    } penalties[] = {{repetition, p->repetition_context},
                     {p->presence_penalty != 0.0f, p->presence_context},
                     {p->frequency_penalty != 0.0f, p->frequency_context}};
    int32_t history = p->n_bias > 0 || sampling_scales_first(p) ? 0 : -1; /* 0: a copy of the row alone */
    for (size_t i = 0; i < sizeof penalties / sizeof penalties[0]; i++) {
        const int32_t back = penalties[i].back > 0 && penalties[i].back < context ? penalties[i].back : context;
        if (penalties[i].on && back > history)
            history = back;
    }
    return history;
}

size_t backend_working_bytes(struct backend *backend, const struct backend_load *load)
{
    return backend->ops->working_bytes != NULL ? backend->ops->working_bytes(backend, load) : 0;
}

void rollout_load(const struct model *model, const struct rollout_need *need, const struct engine_config *config,
                  struct backend_load *load)
{
    const struct model_config *c = &model->config;
    load->n_heads = c->n_heads;
    load->n_kv_heads = c->n_kv_heads;
    load->head_dim = c->head_dim;
    load->width = c->hidden_size;
    load->vocab = c->vocab_size;
    load->n_weights = model->trained->training.n_elements;
    load->n_experts = c->experts.n;
    load->chosen = c->experts.chosen;
    if (model->adapter != NULL)
        model_adapter_extent(model->adapter, &load->adapter_rank, &load->adapter_depth, &load->expert_rank);
    for (int32_t i = 0; need != NULL && i < need->n_adapters; i++) {
        int64_t rank = 0, depth = 0, expert_rank = 0;
        model_adapter_extent(need->adapters[i], &rank, &depth, &expert_rank);
        load->adapter_rank = larger(load->adapter_rank, rank);
        load->adapter_depth = larger(load->adapter_depth, depth);
        load->expert_rank = larger(load->expert_rank, expert_rank);
    }
    if (config == NULL)
        return;
    const int64_t outputs = (int64_t)config->max_sequences + config->prefill_tokens,
                  chunk = head_chunk(c, model->backend->sizes->logits_bytes);
    load->context = (int32_t)larger(load->context, config->max_context);
    load->sequences = config->max_sequences;
    load->step_tokens = config->prefill_tokens;
    load->prompts = smaller(need->requests, config->prefill_tokens);
    load->draws = config->max_sequences + smaller(need->completions, load->prompts * need->group);
    load->history = need->history;
    load->logits_rows = smaller(chunk, outputs);
}

/* The pages with which none of this many sequences is ever set back: their own (with turns those of as many that wait
 * too), and those of the prompts that they and the next sequences follow. */
static int64_t useful_pages(const struct rollout_need *need, int64_t sequences)
{
    const int64_t prompts = smaller(need->requests, 2 * sequences), held = need->turns ? 2 * sequences : sequences;
    return larger(smaller(need->pages, held * need->completion_pages + prompts * need->prompt_pages), need->least);
}

/* Of a running completion, on average: those that run are of all ages, most end before their longest, and where they do not
 * the youngest is set back (src/rollout/admission.h). An answer that fills its room is counted a quarter: of lengths that
 * are spread evenly up to the longest, one that runs has on average a third of it or less. */
static int64_t expected_pages(const struct rollout_need *need)
{
    enum { SHARE = 4 };
    return (need->completion_pages + SHARE - 1) / SHARE;
}

/* The number of sequences for which this many pages are expected to do, beside at least one prompt, and one completion in
 * full. */
static int64_t held_sequences(const struct rollout_need *need, int64_t pages)
{
    const int64_t left = pages - need->least;
    return need->completion_pages == 0 ? INT32_MAX : larger(1, 1 + left / expected_pages(need));
}

/* Fills choice for its config's sequences and prompt tokens. */
static cohort_status fill_room(struct model *model, const struct rollout_need *need, size_t room,
                               const struct backend_load *training, struct rollout_choice *choice, cohort_error *err)
{
    const size_t page = engine_page_bytes(&model->config, model->type, need->kv8);
    struct engine_config *config = &choice->config;
    struct backend_load load = {0};
    size_t fixed = 0;
    if (training != NULL)
        load = *training;
    rollout_load(model, need, config, &load);
    choice->useful = useful_pages(need, config->max_sequences);
    config->n_pages = choice->useful;
    TRY(engine_buffer_bytes(model, config, &choice->buffers, err));
    choice->working = backend_working_bytes(model->backend, &load);
    fixed = choice->buffers - (size_t)choice->useful * page + choice->working;
    const int64_t most = room > fixed ? (int64_t)((room - fixed) / page) : 0;
    config->n_pages = larger(smaller(choice->useful, most), need->least);
    choice->pages = (size_t)config->n_pages * page;
    return engine_buffer_bytes(model, config, &choice->buffers, err);
}

/* With a rotating window nobody holds more pages than that at once. */
static struct rollout_need within_window(const struct rollout_need *need, int64_t step_tokens)
{
    struct rollout_need own = *need;
    if (need->kv_pages == 0)
        return own;
    const int64_t once = engine_pages_at_once(
        &(struct engine_config){.kv_pages = need->kv_pages, .prefill_tokens = (int32_t)step_tokens});
    own.prompt_pages = smaller(need->prompt_pages, once);
    own.completion_pages = smaller(need->completion_pages, once);
    own.least = smaller(need->least, 2 * once + 1);
    own.pages = smaller(need->pages, (need->requests + need->completions) * once);
    return own;
}

cohort_status rollout_choose(struct model *model, const struct rollout_need *wanted, size_t room,
                             const struct backend_load *training, struct rollout_choice *choice, cohort_error *err)
{
    const struct rollout_need *need = wanted;
    const struct backend *backend = model->backend;
    const int64_t gains = backend->host_memory && !need->training ? CPU_SEQUENCES : backend->sizes->decode_sequences;
    int64_t sequences = smaller(need->sequences > 0 ? need->sequences : gains, need->completions),
            tokens = need->step_tokens > 0 ? need->step_tokens
                                           : smaller(backend->sizes->prefill_tokens, larger(1, need->prompt_tokens));
    if (need->step_tokens == 0 && !need->training) /* drafts are rows of these */
        tokens = larger(tokens, smaller(sequences * need->draft_tokens, DRAFT_ROWS));
    memset(choice, 0, sizeof *choice);
    const struct rollout_need within = within_window(wanted, tokens);
    need = &within;
    for (;;) {
        choice->config = (struct engine_config){.max_sequences = (int32_t)sequences,
                                                .prefill_tokens = (int32_t)tokens,
                                                .max_context = need->context,
                                                .draft_tokens = need->draft_tokens,
                                                .kv8 = need->kv8,
                                                .kv_pages = need->kv_pages};
        TRY(fill_room(model, need, room, training, choice, err));
        if (choice->config.n_pages >= choice->useful)
            return COHORT_OK;
        const int64_t held = held_sequences(need, choice->config.n_pages);
        if (held >= sequences)
            return COHORT_OK;
        if (need->step_tokens == 0 && tokens > LEAST_STEP_TOKENS)
            tokens = larger(tokens / 2, LEAST_STEP_TOKENS);
        else
            sequences = held; /* the buffers of sequences that could not run make room for pages */
    }
}
