/* Drafts from a model (rollout/draft_model.h): one that is the model itself is right with every draft that counts, greedy or
 * not, with penalties and filters; another one rarely; what is generated is the same with either and with none, and
 * drafts that do not pay stop. Random mixes of everything else are of test_engine_mix.c. */
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

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_drafters)};
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}
