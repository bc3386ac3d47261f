/* Random mixes of requests in one engine, each compared with itself alone: arrivals at any time, cancellations, few pages
 * (so that completions and prompts are set back and computed again), few rows, groups, turns whose answers come late,
 * penalties, filters, biases and constraints, ends of their own, logits that the host changes, most likely tokens and
 * log-probs of prompts, tokens drafted, rightly and wrongly; keys and values in 8 bits, and of a rotating window; adapters that they wear, or none; prompts that begin as others do, with known pages and without. What a request gets is the same bits (I2, I3); one that was cancelled got
 * the beginning of that.
 *
 *     test_engine_mix [--cases N] [--seed S] [--device cuda] [--small [--brief]]
 *
 * The seed and the number of a case that fails are printed. */
#include "support/engine_test.h"

#include "base/rng.h"
#include "model/decoder.h"
#include "model/model_adapter.h"

enum {
    MOST_REQUESTS = 14,
    MOST_GROUP = 4,
    MOST_PROMPT = 190,
    MOST_TOKENS = 130,
    CONTEXT = MOST_PROMPT + MOST_TOKENS,
    MOST_EOS = 6,
    TURNS = 4,
    WORDS = 10, /* of a bitset over the vocabulary */
    MOST_ARRIVAL = 40,
    ADAPTERS = 2
};

static int32_t n_cases = 24;
static bool is_brief; /* nothing runs out: few tokens, where each takes long */
static uint64_t seed = 1;
static int64_t set_back, set_back_tokens, known_tokens, compared, cancelled, drafted, accepted;
/* An emulated device needs a second for what a device does in a millisecond. */
static int32_t most_prompt = MOST_PROMPT, most_tokens = MOST_TOKENS, most_requests = MOST_REQUESTS;

/* Of the model in hand. */
static struct model_adapter *adapters[ADAPTERS];

/* ---- Drawing ---- */

struct source {
    uint64_t stream, counter;
};

static int32_t pick(struct source *s, int32_t below)
{
    return (int32_t)(rng_philox(seed, RNG_TEST, s->stream, s->counter++).word[0] % (uint32_t)below);
}

static bool chance(struct source *s, int32_t of) { return pick(s, of) == 0; }

/* A constraint whose state is the number of tokens so far: it allows ids of a residue that changes with it. */
struct rhythm {
    int32_t period, vocab, n;
    uint32_t bits[WORDS];
};

static const uint32_t *allowed(void *context)
{
    struct rhythm *r = context;
    memset(r->bits, 0, sizeof r->bits);
    for (int32_t id = 0; id < r->vocab; id++)
        if (id % r->period != r->n % r->period)
            r->bits[id / 32] |= 1u << (id % 32);
    return r->bits;
}

static void accept(void *context, int32_t token)
{
    struct rhythm *r = context;
    r->n += 1 + token % 2;
}

static bool done(void *context)
{
    const struct rhythm *r = context;
    return r->n > 60;
}

/* Changes logits by what is there, and by the completion. */
static void lean(void *context, int32_t index, const int32_t *history, int32_t n_history, float *logits, int32_t n)
{
    (void)context;
    for (int32_t i = (history[n_history - 1] + index) % 4; i < n; i += 4)
        logits[i] += 1.5f;
}

struct asked {
    struct engine_request ask;
    int32_t prompt[MOST_PROMPT], eos[MOST_EOS], bias_id[3];
    float bias[3];
    int32_t period; /* of its constraints; 0: none */
    bool masked;
    int64_t arrival, cancel_at; /* steps; cancel_at -1: never */
    int64_t id;                 /* in the mix; -1: not there yet */
};

static void draw_sampling(struct source *s, struct asked *a, int32_t vocab)
{
    struct sampling_params *p = &a->ask.sampling;
    *p = (struct sampling_params){.temperature = chance(s, 5) ? 0.0f : 0.5f + 0.25f * (float)pick(s, 4),
                                  .min_tokens_to_keep = 1};
    if (chance(s, 4))
        p->top_k = 1 + pick(s, 40);
    if (chance(s, 4))
        p->top_p = 0.3f + 0.1f * (float)pick(s, 6);
    if (chance(s, 6))
        p->repetition_penalty = 1.3f;
    if (chance(s, 6))
        p->frequency_penalty = 0.4f;
    p->repetition_context = p->frequency_context = p->presence_context = 1 + pick(s, 60);
    if (chance(s, 5)) {
        p->bias_id = a->bias_id;
        p->bias = a->bias;
        p->n_bias = 3;
        for (int32_t i = 0; i < 3; i++) {
            a->bias_id[i] = pick(s, vocab);
            a->bias[i] = (float)(pick(s, 7) - 3);
        }
    }
}

/* Some prompts begin as an earlier one does. crowded: long completions that come at once, so that pages run out. */
static void draw_request(struct source *s, struct asked *all, int32_t at, uint64_t stream, bool crowded, int32_t vocab)
{
    struct asked *a = &all[at];
    memset(a, 0, sizeof *a);
    const struct asked *like = at > 0 && chance(s, 2) ? &all[pick(s, at)] : NULL;
    const int32_t n = chance(s, 4) ? 64 * (1 + pick(s, most_prompt / 64 - (most_prompt > 128))) + pick(s, 3) - 1
                                   : 1 + pick(s, most_prompt);
    const int32_t same = like != NULL ? 1 + pick(s, like->ask.n_prompt) : 0;
    for (int32_t i = 0; i < n; i++)
        a->prompt[i] = i < same ? like->prompt[i] : pick(s, vocab);
    for (int32_t i = 0; i < MOST_EOS; i++)
        a->eos[i] = pick(s, vocab);
    a->ask = (struct engine_request){.prompt = a->prompt,
                                     .n_prompt = n,
                                     .n = chance(s, 2) ? 1 : 1 + pick(s, MOST_GROUP),
                                     .seed = 9,
                                     .stream = stream,
                                     .max_tokens = 1 + pick(s, crowded || chance(s, 3) ? most_tokens : 40),
                                     .eos_ids = a->eos,
                                     .n_eos = crowded ? 0 : pick(s, 3) * MOST_EOS / 2,
                                     .n_choosable = chance(s, 3) ? vocab - 7 : 0};
    draw_sampling(s, a, vocab);
    if (chance(s, 4)) {
        a->ask.turns = true;
        a->ask.n_eos = MOST_EOS;
    } else if (chance(s, 5)) {
        a->period = 2 + pick(s, 4);
        a->masked = chance(s, 2);
    }
    struct source wears = {.stream = 1000000 + stream};
    a->ask.wears = chance(&wears, 2) ? 0 : 1 + pick(&wears, ADAPTERS);
    a->ask.caller = (uint64_t)pick(s, 3);
    a->ask.n_top = chance(s, 4) ? 1 + pick(s, 4) : 0;
    a->ask.prompt_logp = chance(s, 5);
    a->ask.logp_temperature = chance(s, 5) ? 0.7f : 0.0f;
    a->ask.min_tokens = chance(s, 3) ? pick(s, a->ask.max_tokens + 1) : 0;
    if (chance(s, 4)) {
        a->ask.stop_ids = &a->eos[MOST_EOS - 1];
        a->ask.n_stop_ids = 1;
    }
    if (a->period == 0 && chance(s, 6))
        a->ask.process = lean;
    a->arrival = pick(s, crowded ? 8 : MOST_ARRIVAL);
    a->cancel_at = chance(s, 6) ? a->arrival + pick(s, 60) : -1;
}

/* ---- Running ---- */

struct open_turn {
    struct engine_turn turn;
    int64_t due;
};

/* An engine with what runs in it. */
struct runner {
    struct engine *engine;
    struct arena arena;
    struct model *model;
    struct asked *asked;
    int32_t n;
    struct rhythm rhythms[MOST_REQUESTS][MOST_GROUP];
    struct open_turn open[MOST_REQUESTS * MOST_GROUP];
    int32_t n_open, numbers[MOST_REQUESTS][MOST_GROUP];
    int32_t delay;
    bool alone; /* the model itself wears what a request does */
    struct completion (*result)[MOST_GROUP];
    /* Speculated with: what each gets alone, of which drafts are right in part. NULL: drafts are what was seen. */
    struct completion (*told)[MOST_GROUP];
    uint64_t n_guessed;
};

/* Submits completions first .. first + n of a request. */
static void submit(struct runner *r, int32_t at, int32_t first, int32_t n)
{
    struct asked *a = &r->asked[at];
    struct engine_request ask = a->ask;
    struct constraint constraints[MOST_GROUP];
    for (int32_t i = 0; i < n && a->period > 0; i++) {
        r->rhythms[at][first + i] = (struct rhythm){.period = a->period, .vocab = r->model->config.vocab_size};
        constraints[i] = (struct constraint){.context = &r->rhythms[at][first + i],
                                             .allowed = allowed,
                                             .accept = accept,
                                             .done = done,
                                             .masked = a->masked};
        ask.constraints = constraints;
    }
    ask.n = n;
    ask.first_index = first;
    if (r->alone) {
        model_wear(r->model, ask.wears > 0 ? adapters[ask.wears - 1] : NULL);
        ask.wears = 0;
    }
    OK(engine_submit(r->engine, &ask, &a->id, err));
}

static int32_t find(const struct runner *r, int64_t id)
{
    int32_t i = 0;
    while (i < r->n && r->asked[i].id != id)
        i++;
    assert_true(i < r->n);
    return i;
}

/* What answers a turn follows from the turn alone; when it comes does not. */
static void answer(struct runner *r, int64_t now)
{
    struct engine_turn turn;
    while (engine_poll_turn(r->engine, &turn)) {
        struct source when = {.stream = 77, .counter = (uint64_t)(now * 31 + turn.index)};
        r->open[r->n_open++] =
            (struct open_turn){.turn = turn, .due = now + (r->delay > 0 ? pick(&when, r->delay) : 0)};
    }
    for (int32_t i = 0; i < r->n_open;) {
        const struct engine_turn *t = &r->open[i].turn;
        if (r->open[i].due > now) {
            i++;
            continue;
        }
        const int32_t at = find(r, t->request);
        int32_t *number = &r->numbers[at][t->index], tokens[40];
        struct source what = {.stream = r->asked[at].ask.stream * 64 + (uint64_t)t->index * 8 + (uint64_t)*number};
        const int32_t n = 1 + pick(&what, chance(&what, 3) ? 40 : 5);
        for (int32_t k = 0; k < n; k++)
            tokens[k] = pick(&what, r->model->config.vocab_size);
        cohort_error mistake;
        /* It may have been cancelled meanwhile. */
        if (++*number == TURNS || n > t->room)
            (void)engine_end(r->engine, t->request, t->index, &mistake);
        else
            (void)engine_go_on(r->engine, t->request, t->index, tokens, n, &mistake);
        r->open[i] = r->open[--r->n_open];
    }
}

static void collect(struct runner *r)
{
    struct completion c;
    while (engine_poll(r->engine, &c)) {
        struct completion *to = &r->result[find(r, c.request)][c.index];
        assert_null(to->tokens);
        *to = c;
    }
}

static void runner_open(struct runner *r, struct model *model, const struct engine_config *config, struct asked *asked,
                        int32_t n, struct completion (*result)[MOST_GROUP])
{
    memset(r, 0, sizeof *r);
    r->model = model;
    r->asked = asked;
    r->n = n;
    r->result = result;
    test_engine_open(&r->engine, &r->arena, model, config);
    if (config->kv_pages == 0)
        engine_keep_routes(r->engine);
}

/* What stands behind history in the completion, as it is alone, but for one token in five. */
static int32_t guess(void *context, int64_t request, int32_t index, const int32_t *history, int32_t n_history,
                     int32_t *out, int32_t most)
{
    struct runner *r = context;
    const int32_t at = find(r, request), first = n_history - r->asked[at].ask.n_prompt;
    const struct completion *told = &r->told[at][index];
    struct source s = {.stream = 78, .counter = r->n_guessed++ * 64};
    const int32_t n = pick(&s, most + 1);
    (void)history;
    for (int32_t i = 0; i < n; i++)
        out[i] = first + i < told->n_tokens && !chance(&s, 5) ? told->tokens[first + i]
                                                              : pick(&s, r->model->config.vocab_size);
    return n;
}

static void run_mix(struct runner *r, bool known)
{
    bool busy = true;
    if (known)
        OK(engine_keep_prefixes(r->engine, err));
    if (r->told != NULL)
        engine_set_guess(r->engine, guess, r);
    for (int32_t i = 0; i < r->n; i++)
        r->asked[i].id = -1;
    for (int64_t now = 0; busy || now <= MOST_ARRIVAL; now++) {
        assert_true(now < 100000); /* else it hangs */
        for (int32_t i = 0; i < r->n; i++) {
            if (r->asked[i].arrival == now)
                submit(r, i, 0, r->asked[i].ask.n);
            if (r->asked[i].cancel_at == now)
                engine_cancel(r->engine, r->asked[i].id);
        }
        OK(engine_step(r->engine, &busy, err));
        collect(r);
        answer(r, now);
    }
    const struct engine_stats stats = engine_stats(r->engine);
    set_back += stats.set_back;
    set_back_tokens += stats.set_back_tokens;
    known_tokens += stats.known_tokens;
    drafted += stats.drafted;
    accepted += stats.accepted;
}

static void run_alone(struct runner *r)
{
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t k = 0; k < r->asked[i].ask.n; k++) {
            bool busy = true;
            submit(r, i, k, 1);
            for (int64_t now = 0; busy; now++) {
                OK(engine_step(r->engine, &busy, err));
                collect(r);
                answer(r, now);
            }
        }
}

/* ---- Comparing ---- */

static void differ(int32_t number, int32_t request, int32_t index, const char *what)
{
    fail_msg("seed %llu, case %d: completion %d of request %d has other %s than alone", (unsigned long long)seed,
             (int)number, (int)index, (int)request, what);
}

static void compare(int32_t number, const struct runner *r, struct completion (*alone)[MOST_GROUP])
{
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t k = 0; k < r->asked[i].ask.n; k++) {
            const struct completion *a = &alone[i][k], *b = &r->result[i][k];
            const bool part = b->finish_reason == FINISH_CANCELLED;
            const size_t n = (size_t)b->n_tokens;
            cancelled += part;
            if (part && r->asked[i].cancel_at < 0)
                fail_msg("case %d: request %d ended as cancelled", (int)number, (int)i);
            if (b->finish_reason != (part ? FINISH_CANCELLED : a->finish_reason) ||
                (part ? b->n_tokens > a->n_tokens : b->n_tokens != a->n_tokens))
                differ(number, i, k, "end");
            if (n == 0)
                continue;
            compared += b->n_tokens;
            if (memcmp(a->tokens, b->tokens, n * sizeof *a->tokens) != 0)
                differ(number, i, k, "tokens");
            if (memcmp(a->logp, b->logp, n * sizeof *a->logp) != 0 ||
                memcmp(a->entropy, b->entropy, n * sizeof *a->entropy) != 0)
                differ(number, i, k, "log-probs or entropies");
            if (a->kept != NULL && memcmp(a->kept, b->kept, n * sizeof *a->kept) != 0)
                differ(number, i, k, "kept mass");
            if (a->sampled != NULL && memcmp(a->sampled, b->sampled, n * sizeof *a->sampled) != 0)
                differ(number, i, k, "turns");
            if (a->n_top > 0 && (memcmp(a->top_ids, b->top_ids, n * (size_t)a->n_top * sizeof *a->top_ids) != 0 ||
                                 memcmp(a->top_logp, b->top_logp, n * (size_t)a->n_top * sizeof *a->top_logp) != 0))
                differ(number, i, k, "most likely tokens");
            if (a->prompt_logp != NULL && (b->prompt_logp != NULL || !part) &&
                memcmp(a->prompt_logp, b->prompt_logp, (size_t)a->n_prompt * sizeof *a->prompt_logp) != 0)
                differ(number, i, k, "log-probs of its prompt");
            const int32_t width = route_width(&r->model->config);
            if (part || width == 0)
                continue;
            if ((a->routes == NULL) != (b->routes == NULL) ||
                (a->routes != NULL &&
                 memcmp(a->routes, b->routes,
                        (size_t)(a->n_prompt + a->n_tokens - 1) * (size_t)width * sizeof *a->routes) != 0))
                differ(number, i, k, "routes");
        }
}

static void free_results(struct completion (*result)[MOST_GROUP])
{
    for (int32_t i = 0; i < MOST_REQUESTS; i++)
        for (int32_t k = 0; k < MOST_GROUP; k++)
            completion_free(&result[i][k]);
}

/* An engine whose model drafts: the model itself, or another of its shape; short of pages, and of rows. */
struct drafter {
    struct model *model;
    struct engine *engine;
    struct arena arena;
};

static void drafter_open(struct drafter *d, struct runner *mix, struct model *const models[2], int32_t number,
                         int64_t least)
{
    struct source s = {.stream = 5000 + (uint64_t)number};
    const struct engine_config config = {.max_sequences = 1 + pick(&s, 8),
                                         .n_pages = least + pick(&s, 8),
                                         .prefill_tokens = 1 + pick(&s, 200),
                                         .max_context = chance(&s, 4) ? CONTEXT / 2 : CONTEXT};
    *d = (struct drafter){.model = models[pick(&s, 2)]};
    test_engine_open(&d->engine, &d->arena, d->model, &config);
    if (!chance(&s, 3))
        OK(engine_keep_prefixes(d->engine, err));
    OK(engine_set_draft_model(mix->engine, d->engine, !chance(&s, 4), err));
}

static void drafter_close(struct drafter *d)
{
    struct completion over;
    bool busy = false;
    if (d->engine == NULL)
        return;
    OK(engine_step(d->engine, &busy, err)); /* all were forgotten, which it sees with the next step */
    assert_false(busy);
    while (engine_poll(d->engine, &over))
        completion_free(&over);
    test_engine_close(d->engine, &d->arena, d->model);
}

static void run_case(int32_t number, struct model *model, struct model *const drafters[2])
{
    struct drafter drafter = {0};
    struct source s = {.stream = 1000 + (uint64_t)number};
    struct asked asked[MOST_REQUESTS];
    static struct runner mix, single;
    struct completion mixed[MOST_REQUESTS][MOST_GROUP] = {0}, alone[MOST_REQUESTS][MOST_GROUP] = {0};
    const int32_t n = is_brief ? 3 : 4 + pick(&s, most_requests - 3);
    const int64_t least = engine_pages(most_prompt, most_tokens, 1);
    const bool crowded = chance(&s, 2) || test_options.small;
    for (int32_t i = 0; i < n; i++)
        draw_request(&s, asked, i, (uint64_t)number * 100 + (uint64_t)i, crowded, model->config.vocab_size);
    const struct engine_config config = {.max_sequences = (crowded ? 4 : 1) + pick(&s, 8),
                                         .n_pages = chance(&s, 6) && !crowded ? 300 : least + pick(&s, crowded ? 4 : 8),
                                         .prefill_tokens = chance(&s, 3) ? 1 + pick(&s, 20) : 30 + pick(&s, 200),
                                         .prefill_chunk = chance(&s, 2) ? 0 : 1 + pick(&s, 80),
                                         .max_context = CONTEXT,
                                         .draft_tokens = !test_options.small && chance(&s, 4) ? 0 : 1 + pick(&s, 12),
                                         .kv8 = number % 4 == (test_options.small ? 1 : 2) || number % 4 == 3,
                                         .kv_pages = number % 6 < 2 && !test_options.small ? 2 + number / 6 % 2 : 0};
    runner_open(&mix, model, &config, asked, n, mixed);
    OK(engine_set_adapters(mix.engine, (const struct model_adapter *const *)adapters, ADAPTERS, err));
    const bool known = !chance(&s, 3);
    mix.delay = chance(&s, 3) ? 0 : pick(&s, 50);
    const struct engine_config roomy = {.max_sequences = 2,
                                        .n_pages = 2 * least,
                                        .prefill_tokens = CONTEXT,
                                        .max_context = CONTEXT,
                                        .kv8 = config.kv8,
                                        .kv_pages = config.kv_pages};
    runner_open(&single, model, &roomy, asked, n, alone);
    single.alone = true;
    run_alone(&single);
    model_wear(model, NULL);
    if (config.draft_tokens > 0 && (test_options.small ? number % 4 < 3 : chance(&s, 2)))
        mix.told = alone;
    else if (config.draft_tokens > 0)
        drafter_open(&drafter, &mix, drafters, number, least);
    run_mix(&mix, known);
    compare(number, &mix, alone);
    test_engine_close(mix.engine, &mix.arena, model);
    drafter_close(&drafter);
    test_engine_close(single.engine, &single.arena, model);
    free_results(mixed);
    free_results(alone);
}

/* Adapters whose products are not nothing, as those of start values are. */
static void make_adapters(struct model *model)
{
    enum { PART = 256 };
    const char *all[] = {"all-linear"};
    float part[PART];
    for (int32_t k = 0; k < ADAPTERS; k++) {
        struct adapter_settings settings;
        adapter_settings_default(&settings);
        settings.r = 3 + 5 * k;
        OK(adapter_settings_targets(&settings, all, 1, err));
        OK(model_adapter_open(&adapters[k], model, &settings, err));
        OK(model_adapter_start(adapters[k], 5, err));
        const struct param_table *table = &adapters[k]->set.table;
        for (int32_t i = 0; i < table->n_params; i++)
            for (int64_t first = 0; first < table->params[i].count; first += PART) {
                const int64_t n = table->params[i].count - first < PART ? table->params[i].count - first : PART;
                for (int64_t j = 0; j < n; j++)
                    part[j] = 0.02f * (float)((first + j * 7 + i * 13 + k) % 11 - 5);
                OK(param_set_store(&adapters[k]->set, &table->params[i], first, n, part, err));
            }
        model_adapter_refresh(adapters[k]);
        adapter_settings_free(&settings);
    }
}

static void test_mixes(void **state)
{
    (void)state;
    static const struct tiny_shape *const shapes[] = {&tiny_odd, &tiny_experts};
    enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };
    struct backend *backend = backend_here(test_options.cuda ? "cuda" : "auto", 1);
    print_message("%d cases of seed %llu\n", (int)n_cases, (unsigned long long)seed);
    for (int32_t shape = 0; shape < N_SHAPES; shape++) {
        char folder[] = "/tmp/cohort-mix-XXXXXX";
        struct model *model = NULL, *drafters[2] = {NULL, NULL};
        assert_non_null(mkdtemp(folder));
        for (int32_t k = 0; k < 2; k++) {
            OK(tiny_checkpoint_write(folder, shapes[shape], k == 0 ? 4 : 3, err));
            OK(model_load(&drafters[k], backend, folder, DTYPE_F32, 0, err));
        }
        OK(model_load(&model, backend, folder, DTYPE_F32, 0, err));
        make_adapters(model);
        for (int32_t i = shape; i < n_cases; i += N_SHAPES)
            run_case(i, model, drafters);
        for (int32_t k = 0; k < ADAPTERS; k++)
            model_adapter_destroy(adapters[k]);
        model_destroy(model);
        model_destroy(drafters[0]);
        model_destroy(drafters[1]);
        OK(file_remove_all(folder, err));
    }
    backend_destroy(backend);
    print_message("%lld tokens compared, %lld completions cancelled, %lld times set back with %lld tokens, %lld tokens "
                  "known, %lld drafted "
                  "and %lld of these drawn\n",
                  (long long)compared, (long long)cancelled, (long long)set_back, (long long)set_back_tokens,
                  (long long)known_tokens, (long long)drafted, (long long)accepted);
    assert_true(set_back > 0 || is_brief);
    assert_true((known_tokens > 0 || test_options.small) && (cancelled > 0 || test_options.small));
    assert_true(accepted > 0 && accepted < drafted);
}

/* Takes --cases and --seed out of the arguments. */
static int own_arguments(int argc, char **argv)
{
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--cases") == 0 && i + 1 < argc)
            n_cases = (int32_t)strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--brief") == 0)
            is_brief = true;
        else
            argv[kept++] = argv[i];
    }
    return kept;
}

int main(int argc, char **argv)
{
    argc = own_arguments(argc, argv);
    test_arguments(argc, argv);
    if (test_options.small) {
        n_cases = n_cases == 24 ? 2 : n_cases;
        most_prompt = 66;
        most_tokens = is_brief ? 24 : 70;
        most_requests = 5;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mixes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
