/* Drafts from a model (rollout/draft_model.h): one that is the model itself is right with every draft that counts, greedy or
 * not, with penalties and filters; another one rarely; what is generated is the same with either and with none. By a clock that
 * steps alone move, drafts that are right make it faster, those that are refused end, and come back. Random mixes of everything else are of test_engine_mix.c. */
#include "support/engine_test.h"

enum { PROMPT = 100, TOKENS = 60, REQUESTS = 4, GROUP = 2 };

static const struct engine_config config = {
    .max_sequences = 6, .n_pages = 40, .prefill_tokens = 64, .max_context = PROMPT + TOKENS, .draft_tokens = 5};
static const struct engine_config drafting = {
    .max_sequences = 6, .n_pages = 40, .prefill_tokens = 64, .max_context = PROMPT + TOKENS};

static void submit_all(struct engine *engine, int32_t vocab)
{
    const int32_t tokens = test_options.small ? 12 : TOKENS;
    static const int32_t eos[] = {7};
    int32_t prompt[PROMPT];
    for (int32_t at = 0; at < (test_options.small ? 2 : REQUESTS); at++) {
        for (int32_t i = 0; i < PROMPT; i++)
            prompt[i] = (i * 31 + at * 17 + i / 7) % vocab;
        struct engine_request ask = {.prompt = prompt,
                                     .n_prompt = 20 + 25 * at,
                                     .n = GROUP,
                                     .sampling = {.temperature = at == 0 ? 0.0f : 0.8f, .min_tokens_to_keep = 1},
                                     .stream = 5 + (uint64_t)at,
                                     .max_tokens = tokens - 3 * at,
                                     .eos_ids = eos,
                                     .n_eos = at > 1 ? 1 : 0,
                                     .min_tokens = at == 3 ? 9 : 0,
                                     .n_top = at == 1 ? 3 : 0};
        if (at == 2) {
            ask.sampling.top_k = 20;
            ask.sampling.repetition_penalty = 1.3f;
            ask.sampling.repetition_context = 30;
        }
        int64_t id = 0;
        OK(engine_submit(engine, &ask, &id, err));
    }
}

/* drafter NULL: drafts are what was seen. The completions are in the order in which they were asked for. */
static struct engine_stats generate(struct model *model, struct model *drafter, bool always, struct completion *out)
{
    struct engine *engine = NULL, *drafts = NULL;
    struct arena arena, aside;
    struct completion c;
    test_engine_open(&engine, &arena, model, &config);
    if (drafter != NULL) {
        test_engine_open(&drafts, &aside, drafter, &drafting);
        OK(engine_keep_prefixes(drafts, err));
        OK(engine_set_draft_model(engine, drafts, always, err));
    }
    submit_all(engine, model->config.vocab_size);
    for (bool busy = true; busy;) {
        OK(engine_step(engine, &busy, err));
        while (engine_poll(engine, &c))
            out[c.request * GROUP + c.index] = c;
    }
    const struct engine_stats stats = engine_stats(engine);
    test_engine_close(engine, &arena, model);
    if (drafts != NULL) {
        bool busy = false;
        OK(engine_step(drafts, &busy, err)); /* sees that all were forgotten */
        assert_false(busy);
        while (engine_poll(drafts, &c))
            completion_free(&c);
        test_engine_close(drafts, &aside, drafter);
    }
    return stats;
}

static void expect_same(const struct completion *a, const struct completion *b)
{
    for (int32_t i = 0; i < REQUESTS * GROUP; i++) {
        assert_int_equal(a[i].n_tokens, b[i].n_tokens);
        if (a[i].n_tokens == 0)
            continue; /* not asked for */
        assert_memory_equal(a[i].tokens, b[i].tokens, (size_t)a[i].n_tokens * sizeof *a[i].tokens);
        assert_memory_equal(a[i].logp, b[i].logp, (size_t)a[i].n_tokens * sizeof *a[i].logp);
        const size_t top = (size_t)a[i].n_tokens * (size_t)a[i].n_top;
        assert_memory_equal(a[i].top_ids, b[i].top_ids, top * sizeof *a[i].top_ids);
        assert_memory_equal(a[i].top_logp, b[i].top_logp, top * sizeof *a[i].top_logp);
    }
}

static void forget(struct completion *list)
{
    for (int32_t i = 0; i < REQUESTS * GROUP; i++)
        completion_free(&list[i]);
}

static void test_drafters(void **state)
{
    (void)state;
    char other_folder[] = "/tmp/cohort-drafts-XXXXXX";
    struct completion plain[REQUESTS * GROUP] = {0}, with[REQUESTS * GROUP] = {0};
    struct backend *backend = backend_here(test_options.cuda ? "cuda" : "auto", 2);
    struct model *model = NULL, *same = NULL, *other = NULL;
    assert_non_null(mkdtemp(other_folder));
    OK(tiny_checkpoint_write(other_folder, &tiny_odd, 9, err));
    OK(model_load(&model, backend, tiny_folder, DTYPE_F32, 0, err));
    OK(model_load(&same, backend, tiny_folder, DTYPE_F32, 0, err));
    OK(model_load(&other, backend, other_folder, DTYPE_F32, 0, err));
    generate(model, NULL, false, plain);

    const struct engine_stats all = generate(model, same, true, with);
    expect_same(plain, with);
    forget(with);
    assert_true(all.drafted > all.generated_tokens / 2);
    assert_int_equal(all.accepted, all.drafted);

    const struct engine_stats few = generate(model, other, true, with);
    expect_same(plain, with);
    forget(with);
    assert_true(few.drafted > few.generated_tokens / 2 && few.accepted < few.drafted / 2);

    const struct engine_stats paused = generate(model, other, false, with); /* as much as the clock says */
    expect_same(plain, with);
    forget(with);
    assert_true(paused.generated_tokens == few.generated_tokens);

    forget(plain);
    model_destroy(model);
    model_destroy(same);
    model_destroy(other);
    backend_destroy(backend);
    OK(file_remove_all(other_folder, err));
}

/* ---- By a clock that steps alone move ---- */

enum { PHASE = 24, LONG = 240, PHASES = 4 }; /* requests, tokens of each */

/* What a step takes of an engine: so much, and so much for each row. */
struct machine {
    struct engine *engine, *drafts;
    double fixed, row, draft_fixed, draft_row;
};

static double machine_clock(void *context)
{
    const struct machine *m = context;
    const struct engine_stats own = engine_stats(m->engine);
    double seconds = m->fixed * (double)own.steps + m->row * (double)own.rows;
    if (m->drafts != NULL) {
        const struct engine_stats theirs = engine_stats(m->drafts);
        seconds += m->draft_fixed * (double)theirs.steps + m->draft_row * (double)theirs.rows;
    }
    return seconds;
}

/* What the drafts' model does not know of. */
static void elsewhere(void *context, int32_t index, const int32_t *history, int32_t n_history, float *logits, int32_t n)
{
    (void)context;
    (void)index;
    logits[(history[n_history - 1] * 7 + n_history) % n] += 1000.0f;
}

struct phase {
    double seconds;
    int64_t drafted, last_drafted; /* of all, and of its last third */
};

/* Requests one after the other, a few at a time, in phases of which strange[i] says whether drafts are wrong there. */
static void run_phases(struct machine *m, struct model *model, struct model *drafter, int32_t n_prompt,
                       const bool *strange, struct phase *phases)
{
    const struct engine_config here = {.max_sequences = 4,
                                       .n_pages = 60,
                                       .prefill_tokens = 512,
                                       .max_context = n_prompt + LONG,
                                       .draft_tokens = drafter != NULL ? 6 : 0};
    struct engine_config there = here;
    there.draft_tokens = 0;
    struct arena arena, aside;
    struct completion c;
    int32_t prompt[512];
    test_engine_open(&m->engine, &arena, model, &here);
    engine_set_clock(m->engine, machine_clock, m);
    if (drafter != NULL) {
        test_engine_open(&m->drafts, &aside, drafter, &there);
        engine_set_clock(m->drafts, machine_clock, m);
        OK(engine_set_draft_model(m->engine, m->drafts, false, err));
    }
    for (int32_t phase = 0; phase < PHASES; phase++) {
        const double begin = machine_clock(m);
        const int64_t drafted = engine_stats(m->engine).drafted;
        int64_t late = 0;
        for (int32_t r = 0; r < PHASE; r += 4) {
            bool busy = true;
            late = r == PHASE - 8 ? engine_stats(m->engine).drafted : late;
            for (int32_t i = 0; i < 4; i++) {
                int64_t id = 0;
                for (int32_t k = 0; k < n_prompt; k++)
                    prompt[k] = (k * 31 + (phase * PHASE + r + i) * 17 + k / 7) % model->config.vocab_size;
                OK(engine_submit(m->engine,
                                 &(struct engine_request){.prompt = prompt,
                                                          .n_prompt = n_prompt,
                                                          .n = 1,
                                                          .sampling = {.temperature = 0.8f, .min_tokens_to_keep = 1},
                                                          .stream = (uint64_t)(phase * PHASE + r + i),
                                                          .max_tokens = LONG,
                                                          .process = strange[phase] ? elsewhere : NULL},
                                 &id, err));
            }
            while (busy) {
                OK(engine_step(m->engine, &busy, err));
                while (engine_poll(m->engine, &c))
                    completion_free(&c);
                while (m->drafts != NULL && engine_poll(m->drafts, &c))
                    completion_free(&c);
            }
        }
        phases[phase] = (struct phase){machine_clock(m) - begin, engine_stats(m->engine).drafted - drafted,
                                       engine_stats(m->engine).drafted - late};
    }
    test_engine_close(m->engine, &arena, model);
    if (m->drafts != NULL) {
        bool busy = false;
        OK(engine_step(m->drafts, &busy, err));
        while (engine_poll(m->drafts, &c))
            completion_free(&c);
        test_engine_close(m->drafts, &aside, drafter);
    }
    m->engine = m->drafts = NULL;
}

/* Drafts that are right make it faster; where they are refused they end, all of it taking at most a fiftieth longer, and where they
 * are right again they come back. */
static void test_switches(void **state)
{
    (void)state;
    static const bool strange[PHASES] = {false, true, true, false};
    static const struct {
        struct machine machine;
        int32_t n_prompt;
        bool gains;
    } cases[] = {{{.fixed = 20.0, .row = 1.0, .draft_fixed = 2.0, .draft_row = 0.1}, 30, true},
                 {{.fixed = 20.0, .row = 1.0, .draft_fixed = 5.0, .draft_row = 0.25}, 400, false},
                 {{.fixed = 2.0, .row = 1.0, .draft_fixed = 1.0, .draft_row = 0.5}, 100, false},
                 {{.fixed = 0.0, .row = 1.0, .draft_fixed = 0.0, .draft_row = 0.3}, 200, false}};
    if (test_options.cuda)
        return; /* nothing in it is of a device, and an emulated one takes long */
    struct backend *backend = backend_here("auto", 1);
    struct model *model = NULL, *same = NULL;
    OK(model_load(&model, backend, tiny_folder, DTYPE_F32, 0, err));
    OK(model_load(&same, backend, tiny_folder, DTYPE_F32, 0, err));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct phase plain[PHASES], with[PHASES];
        struct machine alone = cases[i].machine, both = cases[i].machine;
        run_phases(&alone, model, NULL, cases[i].n_prompt, strange, plain);
        run_phases(&both, model, same, cases[i].n_prompt, strange, with);
        for (int32_t p = 0; p < PHASES; p++) {
            const double times = plain[p].seconds / with[p].seconds;
            print_message("machine %zu, drafts %s: %.3f times, %lld drafted, %lld at the end\n", i,
                          strange[p] ? "wrong" : "right", times, (long long)with[p].drafted,
                          (long long)with[p].last_drafted);
            if (times < 0.98)
                fail_msg("machine %zu, phase %d: %.3f times", i, (int)p, times);
            if (cases[i].gains && !strange[p] && times < 1.5)
                fail_msg("machine %zu, phase %d: only %.3f times", i, (int)p, times);
            if (strange[p] && with[p].last_drafted > PHASE / 3 * LONG / 20)
                fail_msg("machine %zu, phase %d: %lld tokens are drafted still", i, (int)p,
                         (long long)with[p].last_drafted);
        }
    }
    model_destroy(model);
    model_destroy(same);
    backend_destroy(backend);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_drafters), cmocka_unit_test(test_switches)};
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}
