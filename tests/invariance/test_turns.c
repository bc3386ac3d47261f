/* Episodes of several turns in the engine: a completion stops behind an EOS, waits with its pages and without a row, takes
 * tokens from outside and goes on.
 *
 * What it draws, and with which log-probs, is the same bits whatever else runs, however the work is cut and whenever the
 * answers come (I2, I3); and it is what the training forward computes for the whole sequence in one piece. */
#include "support/engine_test.h"

#include "base/rng.h"
#include "model/packing.h"

#include <math.h>

enum { N_REQUESTS = 12, MAX_GROUP = 4, N_ROWS = N_REQUESTS * MAX_GROUP, MAX_PROMPT = 150, ROOM = 120, TURNS = 5 };
enum { N_NOISE = 4, N_EOS = 6 };

static const float temperature = 0.8f;
/* An emulated device needs a second for what a device does in a millisecond. */
static int32_t n_requests = N_REQUESTS, room = ROOM;
static int32_t eos_ids[N_EOS];

static uint32_t draw(uint64_t stream, uint64_t counter, uint32_t below)
{
    return rng_philox(31, RNG_TEST, stream, counter).word[0] % below;
}

/* ---- What is asked and answered ---- */

struct asked {
    int32_t prompt[MAX_PROMPT];
    struct engine_request ask;
};

static void choose(struct asked *asked, uint64_t stream, int32_t vocab, bool turns)
{
    static const int32_t lengths[] = {1, 63, 64, 65, 150};
    const int32_t n = stream < 5 ? lengths[stream] : 1 + (int32_t)draw(stream, 0, MAX_PROMPT);
    for (int32_t i = 0; i < n; i++)
        asked->prompt[i] = (int32_t)draw(stream, 100 + (uint64_t)i, (uint32_t)vocab);
    asked->ask = (struct engine_request){.prompt = asked->prompt,
                                         .n_prompt = n,
                                         .n = 1 + (int32_t)draw(stream, 1, MAX_GROUP),
                                         .sampling = {.temperature = temperature},
                                         .seed = 5,
                                         .stream = stream,
                                         .max_tokens = turns ? room : 20,
                                         .eos_ids = eos_ids,
                                         .n_eos = turns ? N_EOS : 1,
                                         .turns = turns};
}

/* The answer to a turn: how many tokens, and which, by what it answers alone. */
static int32_t answer(const struct engine_turn *turn, uint64_t stream, int32_t number, int32_t vocab, int32_t *ids)
{
    const uint64_t key = stream * 100 + (uint64_t)turn->index * 10 + (uint64_t)number;
    const int32_t n = draw(key, 0, 4) == 0 ? 1 : 1 + (int32_t)draw(key, 1, 30);
    for (int32_t i = 0; i < n; i++)
        ids[i] = (int32_t)draw(key, 2 + (uint64_t)i, (uint32_t)vocab);
    return n;
}

/* ---- Ways of going about it ---- */

struct way {
    const char *name;
    int32_t max_sequences, prefill_tokens, prefill_chunk;
    int32_t delay; /* steps until an answer comes, at most; they differ */
    bool scarce;   /* pages for one episode and a few */
    bool unshared; /* every completion asked for alone */
    bool noise;    /* beside requests without turns, one of which is cancelled */
};
static const struct way ways[] = {
    {.name = "at once", .max_sequences = 64, .prefill_tokens = 4096},
    {.name = "late", .max_sequences = 64, .prefill_tokens = 4096, .delay = 40},
    {.name = "few rows, late", .max_sequences = 2, .prefill_tokens = 100, .delay = 9},
    {.name = "scarce pages", .max_sequences = 3, .prefill_tokens = 64, .delay = 5, .scarce = true},
    {.name = "one token behind a step", .max_sequences = 5, .prefill_tokens = 1, .delay = 3},
    {.name = "chunks of 7, among others",
     .max_sequences = 8,
     .prefill_tokens = 40,
     .prefill_chunk = 7,
     .delay = 20,
     .noise = true},
    {.name = "not shared", .max_sequences = 16, .prefill_tokens = 300, .delay = 12, .unshared = true},
};
enum { N_WAYS = sizeof ways / sizeof ways[0] };

struct open_turn {
    struct engine_turn turn;
    int64_t due;
};

struct world {
    struct model *model;
    struct backend *backend;
    struct asked asked[N_REQUESTS], noise[N_NOISE];
    int64_t waited; /* steps that computed nothing because all waited */
};

struct row_id {
    int64_t request;
    int32_t first_index, at; /* -1: noise */
    uint64_t stream;
};

static int32_t submit(struct engine *engine, struct asked *asked, bool unshared, int32_t at, struct row_id *to)
{
    const int32_t parts = unshared ? asked->ask.n : 1;
    for (int32_t i = 0; i < parts; i++) {
        struct engine_request ask = asked->ask;
        ask.n = unshared ? 1 : ask.n;
        ask.first_index = i;
        to[i] = (struct row_id){.at = at, .stream = ask.stream};
        OK(engine_submit(engine, &ask, &to[i].request, err));
    }
    return parts;
}

static const struct row_id *row_of(const struct row_id *ids, int32_t n, int64_t request)
{
    int32_t i = 0;
    while (i < n && ids[i].request != request)
        i++;
    assert_true(i < n);
    return &ids[i];
}

/* Answers what is due; the last turn ends the episode, and so does an answer that leaves no room. */
static void answer_due(struct world *w, struct engine *engine, const struct row_id *ids, int32_t n_ids,
                       struct open_turn *open, int32_t *n_open, int32_t *numbers, int64_t now, const struct way *way)
{
    struct engine_turn turn;
    while (engine_poll_turn(engine, &turn)) {
        const struct row_id *row = row_of(ids, n_ids, turn.request);
        const uint64_t key = row->stream * 64 + (uint64_t)turn.index;
        assert_true(turn.n_tokens > turn.first && *n_open < N_ROWS && row->at >= 0);
        open[(*n_open)++] = (struct open_turn){
            .turn = turn,
            .due = now + (way->delay > 0 ? (int64_t)draw(key, 7000 + (uint64_t)now, (uint32_t)way->delay) : 0)};
    }
    for (int32_t i = 0; i < *n_open;) {
        const struct engine_turn *t = &open[i].turn;
        const struct row_id *row = row_of(ids, n_ids, t->request);
        int32_t *number = &numbers[row->at + t->index], tokens[64];
        if (open[i].due > now) {
            i++;
            continue;
        }
        const int32_t n = answer(t, row->stream, *number, w->model->config.vocab_size, tokens);
        if (++*number == TURNS || n > t->room)
            OK(engine_end(engine, t->request, t->index, err));
        else
            OK(engine_go_on(engine, t->request, t->index, tokens, n, err));
        open[i] = open[--*n_open];
    }
}

static void run(struct world *w, const struct way *way, struct completion *result)
{
    const int64_t pages = engine_pages(MAX_PROMPT, ROOM, 1);
    const struct engine_config config = {.max_sequences = way->max_sequences,
                                         .prefill_tokens = way->prefill_tokens,
                                         .prefill_chunk = way->prefill_chunk,
                                         .max_context = MAX_PROMPT + ROOM,
                                         .n_pages = way->scarce ? pages + 2 : (N_ROWS + N_NOISE) * pages};
    struct row_id ids[N_ROWS + N_NOISE];
    struct open_turn open[N_ROWS];
    int32_t numbers[N_ROWS] = {0}, n_ids = 0, n_open = 0, done = 0;
    struct engine *engine = NULL;
    struct arena arena;
    bool busy = true;
    test_engine_open(&engine, &arena, w->model, &config);
    for (int32_t i = 0; i < n_requests; i++) {
        if (way->noise && i < N_NOISE)
            n_ids += submit(engine, &w->noise[i], false, -1, ids + n_ids);
        n_ids += submit(engine, &w->asked[i], way->unshared, i * MAX_GROUP, ids + n_ids);
    }
    for (int64_t now = 0; busy; now++) {
        struct completion c;
        assert_true(now < 100000); /* else it hangs */
        OK(engine_step(engine, &busy, err));
        w->waited += engine_waits(engine) ? 1 : 0;
        while (engine_poll(engine, &c)) {
            const struct row_id *row = row_of(ids, n_ids, c.request);
            if (row->at < 0) {
                completion_free(&c);
                continue;
            }
            assert_null(result[row->at + c.index].tokens);
            result[row->at + c.index] = c;
            done++;
        }
        if (way->noise && now == 3)
            engine_cancel(engine, ids[0].request);
        answer_due(w, engine, ids, n_ids, open, &n_open, numbers, now, way);
        /* Pages are held by whoever waits, rows are not. */
        assert_true(engine_stats(engine).running <= way->max_sequences);
    }
    int32_t wanted = 0;
    for (int32_t i = 0; i < n_requests; i++)
        wanted += w->asked[i].ask.n;
    assert_int_equal(done, wanted);
    test_engine_close(engine, &arena, w->model);
}

/* ---- Comparing ---- */

static void expect_same(const struct way *way, const struct completion *a, const struct completion *b, int32_t row)
{
    if (a->n_tokens != b->n_tokens || memcmp(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof *a->tokens) != 0)
        fail_msg("%s: row %d has other tokens", way->name, (int)row);
    assert_memory_equal(a->sampled, b->sampled, (size_t)a->n_tokens * sizeof *a->sampled);
    assert_memory_equal(a->logp, b->logp, (size_t)a->n_tokens * sizeof *a->logp);
    assert_memory_equal(a->entropy, b->entropy, (size_t)a->n_tokens * sizeof *a->entropy);
    assert_int_equal(a->finish_reason, b->finish_reason);
}

static int32_t turns_of(const struct completion *c)
{
    int32_t n = 0;
    for (int32_t t = 0; t < c->n_tokens; t++)
        n += c->sampled[t] && (t == 0 || !c->sampled[t - 1]) ? 1 : 0;
    return n;
}

/* The baseline must be worth comparing: of many rows several turns, of some all, some ended by their room. */
static void check_baseline(const struct world *w, const struct completion *result)
{
    int32_t several = 0, whole = 0, full = 0;
    for (int32_t i = 0; i < n_requests; i++)
        for (int32_t k = 0; k < w->asked[i].ask.n; k++) {
            const struct completion *c = &result[i * MAX_GROUP + k];
            assert_non_null(c->tokens);
            assert_true(c->n_tokens <= room);
            several += turns_of(c) > 1;
            whole += turns_of(c) == TURNS;
            full += c->finish_reason == FINISH_LENGTH;
            for (int32_t t = 0; t < c->n_tokens; t++)
                assert_true(c->sampled[t] ? c->logp[t] < 0.0f : c->logp[t] == 0.0f && c->entropy[t] == 0.0f);
        }
    print_message("of %d requests %d rows had several turns, %d all five, %d filled their room\n", (int)n_requests,
                  (int)several, (int)whole, (int)full);
    assert_true(several > (test_options.small ? 1 : 5) && (whole > 1 || test_options.small) && full > 0);
}

/* The whole sequence in one piece, in the prompt's tree and alone; wanted: the sampled tokens, or all of them. */
static void expect_scored(const struct world *w, const struct completion *result, bool all, bool shared)
{
    struct tree trees[N_ROWS];
    struct completion_tokens branches[N_ROWS];
    const struct completion *of[N_ROWS];
    float *logp[N_ROWS], *entropy[N_ROWS];
    int32_t n = 0, n_trees = 0;
    struct tree_runner runner = {0};
    struct arena arena = {0};
    struct model *model = w->model;
    for (int32_t i = 0; i < n_requests; i++)
        for (int32_t k = 0; k < w->asked[i].ask.n; k++) {
            const struct completion *c = of[n] = &result[i * MAX_GROUP + k];
            branches[n] = (struct completion_tokens){
                .tokens = c->tokens, .n_tokens = c->n_tokens, .sampled = all ? NULL : c->sampled};
            if (k == 0 || !shared)
                trees[n_trees++] = (struct tree){
                    .prompt = w->asked[i].prompt, .n_prompt = w->asked[i].ask.n_prompt, .completions = &branches[n]};
            trees[n_trees - 1].n_completions++;
            logp[n] = calloc(ROOM, sizeof(float));
            entropy[n] = calloc(ROOM, sizeof(float));
            assert_true(logp[n] != NULL && entropy[n] != NULL);
            n++;
        }
    for (int pass = 0; pass < 2; pass++) {
        OK(tree_runner_plan(&runner, &arena, &model->config, model->type, 700, 64, DECODER_TRAIN, err));
        if (pass == 0)
            OK(arena_allocate(&arena, model->backend, "test", err));
    }
    OK(tree_runner_score(&runner, model, trees, n_trees, temperature, logp, entropy, err));
    for (int32_t i = 0; i < n; i++) {
        for (int32_t t = 0, at = 0; t < of[i]->n_tokens; t++) {
            if (!all && !of[i]->sampled[t])
                continue;
            if (of[i]->sampled[t]) {
                assert_memory_equal(&logp[i][at], &of[i]->logp[t], sizeof(float));
                assert_memory_equal(&entropy[i][at], &of[i]->entropy[t], sizeof(float));
            }
            at++;
        }
        free(logp[i]);
        free(entropy[i]);
    }
    tree_runner_free(&runner);
    arena_release(&arena, model->backend);
}

static void free_result(struct completion *result)
{
    for (int32_t i = 0; i < N_ROWS; i++)
        completion_free(&result[i]);
    memset(result, 0, N_ROWS * sizeof *result);
}

/* ---- The tests ---- */

static void check(const char *provider, enum dtype type)
{
    static struct completion expected[N_ROWS], got[N_ROWS];
    struct world w = {0};
    w.backend = backend_here(provider, 2);
    if (w.backend == NULL)
        return;
    OK(model_load(&w.model, w.backend, tiny_folder, type, 0, err));
    const int32_t vocab = w.model->config.vocab_size;
    for (int32_t i = 0; i < N_EOS; i++)
        eos_ids[i] = (i * 17 + 5) % vocab;
    for (int32_t i = 0; i < n_requests; i++)
        choose(&w.asked[i], (uint64_t)i, vocab, true);
    for (int32_t i = 0; i < N_NOISE; i++)
        choose(&w.noise[i], 500 + (uint64_t)i, vocab, false);
    run(&w, &ways[0], expected);
    check_baseline(&w, expected);
    for (int32_t i = 1; i < N_WAYS; i++) {
        if (test_options.small && i != 2)
            continue;
        run(&w, &ways[i], got);
        for (int32_t row = 0; row < N_ROWS; row++)
            if (expected[row].tokens != NULL)
                expect_same(&ways[i], &expected[row], &got[row], row);
        free_result(got);
    }
    assert_true(w.waited > 0); /* some answers came when nothing else was left to do */
    expect_scored(&w, expected, false, true);
    if (!test_options.small)
        expect_scored(&w, expected, true, false);
    free_result(expected);
    model_destroy(w.model);
    backend_destroy(w.backend);
}

static void test_same_bits(void **state)
{
    (void)state;
    if (test_options.cuda) {
        check("cuda", DTYPE_BF16);
        return;
    }
    check("portable", DTYPE_F32);
    check("auto", DTYPE_F32);
    check("auto", DTYPE_BF16);
}

static void step_until_turn(struct engine *engine, struct engine_turn *turn)
{
    bool busy = true;
    while (!engine_poll_turn(engine, turn)) {
        assert_true(busy);
        OK(engine_step(engine, &busy, err));
    }
}

/* What does not fit, is no token or has no completion that waits is refused, and the completion waits still; what fits
 * exactly ends it. */
static void test_bounds(void **state)
{
    (void)state;
    enum { MAX_TOKENS = 40 };
    const struct engine_config config = {.max_sequences = 1, .n_pages = 16, .prefill_tokens = 8, .max_context = 100};
    struct engine_bench b;
    struct engine_turn turn, second;
    struct completion c;
    cohort_error mistake = {0};
    int32_t prompt[] = {1, 2, 3}, tokens[MAX_TOKENS + 1] = {0}, all_ids[256];
    int64_t id = 0;
    bool busy = true;
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
    const int32_t vocab = b.model->config.vocab_size;
    assert_true(vocab <= 256);
    for (int32_t i = 0; i < vocab; i++)
        all_ids[i] = i;
    /* Every token is an EOS: every turn has one token, and the first ends turns of completions that have no pages. */
    struct engine_request ask = {.prompt = prompt,
                                 .n_prompt = 3,
                                 .n = 2,
                                 .sampling = {.temperature = 1.0f},
                                 .max_tokens = MAX_TOKENS,
                                 .eos_ids = all_ids,
                                 .n_eos = vocab,
                                 .turns = true};
    OK(engine_submit(b.engine, &ask, &id, err));
    step_until_turn(b.engine, &turn);
    step_until_turn(b.engine, &second);
    assert_true(turn.index != second.index && turn.n_tokens == 1 && turn.first == 0 && turn.room == MAX_TOKENS - 1);
    OK(engine_step(b.engine, &busy, err));
    assert_true(busy && engine_waits(b.engine));
    assert_int_equal(engine_stats(b.engine).waiting, 2);
    assert_int_equal(engine_stats(b.engine).running, 0);
    assert_int_equal(engine_go_on(b.engine, id, turn.index, tokens, turn.room + 1, &mistake), COHORT_ERR_ARGUMENT);
    assert_int_equal(engine_go_on(b.engine, id, turn.index, tokens, 0, &mistake), COHORT_ERR_ARGUMENT);
    assert_int_equal(engine_go_on(b.engine, id, 7, tokens, 1, &mistake), COHORT_ERR_ARGUMENT);
    assert_int_equal(engine_go_on(b.engine, id + 1, 0, tokens, 1, &mistake), COHORT_ERR_ARGUMENT);
    assert_int_equal(engine_end(b.engine, id - 1, 0, &mistake), COHORT_ERR_ARGUMENT);
    tokens[1] = vocab;
    assert_int_equal(engine_go_on(b.engine, id, turn.index, tokens, 2, &mistake), COHORT_ERR_ARGUMENT);
    tokens[1] = 0;
    /* One token less than fits leaves room for one that is drawn. */
    OK(engine_go_on(b.engine, id, turn.index, tokens, turn.room - 1, err));
    assert_int_equal(engine_go_on(b.engine, id, turn.index, tokens, 1, &mistake), COHORT_ERR_ARGUMENT);
    const int32_t first = turn.index;
    step_until_turn(b.engine, &turn);
    assert_true(turn.index == first && turn.n_tokens == MAX_TOKENS && turn.room == 0 && turn.first == MAX_TOKENS - 1);
    OK(engine_end(b.engine, id, turn.index, err));
    assert_true(engine_poll(b.engine, &c));
    assert_true(c.finish_reason == FINISH_EOS && c.n_tokens == MAX_TOKENS && c.sampled[0] && !c.sampled[1] &&
                !c.sampled[MAX_TOKENS - 2] && c.sampled[MAX_TOKENS - 1]);
    completion_free(&c);
    OK(engine_go_on(b.engine, id, second.index, tokens, second.room, err));
    assert_true(engine_poll(b.engine, &c));
    assert_true(c.finish_reason == FINISH_LENGTH && c.n_tokens == MAX_TOKENS && c.sampled[0] && !c.sampled[1]);
    completion_free(&c);
    OK(engine_step(b.engine, &busy, err));
    assert_false(busy);
    /* Cancelled while one waits and one goes on. */
    OK(engine_submit(b.engine, &ask, &id, err));
    step_until_turn(b.engine, &turn);
    step_until_turn(b.engine, &second);
    OK(engine_go_on(b.engine, id, second.index, tokens, 3, err));
    engine_cancel(b.engine, id);
    OK(engine_step(b.engine, &busy, err));
    for (int i = 0; i < 2; i++) {
        assert_true(engine_poll(b.engine, &c));
        assert_int_equal(c.finish_reason, FINISH_CANCELLED);
        completion_free(&c);
    }
    assert_false(busy);
    engine_bench_close(&b);
}

/* A stop in the middle of what comes behind a turn changes nothing of what is drawn afterwards. */
static void test_stopped_step(void **state)
{
    (void)state;
    const struct engine_config config = {.max_sequences = 2, .n_pages = 16, .prefill_tokens = 4, .max_context = 200};
    struct completion results[2] = {0};
    if (test_options.cuda) /* a device looks for a stop between its steps */
        return;
    for (int stopped = 0; stopped < 2; stopped++) {
        struct engine_bench b;
        struct stop stop = {0};
        struct engine_turn turn;
        int32_t prompt[] = {4, 9}, tokens[21];
        int64_t id = 0;
        bool busy = true;
        engine_bench_open(&b, "auto", &config);
        for (int32_t i = 0; i < 21; i++)
            tokens[i] = (i * 7 + 1) % b.model->config.vocab_size;
        for (int32_t i = 0; i < N_EOS; i++)
            eos_ids[i] = (i * 17 + 5) % b.model->config.vocab_size;
        const struct engine_request ask = {.prompt = prompt,
                                           .n_prompt = 2,
                                           .n = 1,
                                           .sampling = {.temperature = 1.0f},
                                           .max_tokens = 100,
                                           .eos_ids = eos_ids,
                                           .n_eos = N_EOS,
                                           .turns = true};
        OK(engine_submit(b.engine, &ask, &id, err));
        step_until_turn(b.engine, &turn);
        OK(engine_go_on(b.engine, id, 0, tokens, 21, err));
        b.backend->stop = &stop;
        for (int step = 0; step < 6; step++) {
            cohort_error mistake = {0};
            atomic_store(&stop.requested, stopped == 1 && step % 2 == 1);
            assert_int_equal(engine_step(b.engine, &busy, &mistake),
                             stopped == 1 && step % 2 == 1 ? COHORT_ERR_CANCELLED : COHORT_OK);
        }
        atomic_store(&stop.requested, false);
        step_until_turn(b.engine, &turn);
        OK(engine_end(b.engine, id, 0, err));
        assert_true(engine_poll(b.engine, &results[stopped]));
        OK(engine_step(b.engine, &busy, err));
        b.backend->stop = NULL;
        engine_bench_close(&b);
    }
    expect_same(&ways[0], &results[0], &results[1], 0);
    completion_free(&results[0]);
    completion_free(&results[1]);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    if (test_options.small) {
        n_requests = 4;
        room = 40;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounds), cmocka_unit_test(test_stopped_step),
                                       cmocka_unit_test(test_same_bits)};
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}
