/* 64 guided completions at once, of eight guides that share their caches and forget them at random, are those of 64 runs of one
 * completion with a guide of its own: tokens, log-probs and kept probabilities, bit for bit. On both backends. */
#include "support/engine_test.h"

#include "base/rng.h"
#include "support/guide_test.h"

enum { REQUESTS = 64, GUIDES = 8, MOST_TOKENS = 40, N_PROMPT = 5 };

static const struct {
    enum guide_kind kind;
    const char *text;
    int32_t close;
} languages[GUIDES] = {
    {GUIDE_REGEX, "[ab]{3,9}(c|[0-9]+)?", 0},
    {GUIDE_REGEX, "(?i)\\p{L}{1,20} is \\w+\\.", 12},
    {GUIDE_CHOICE, "[\"yes\", \"no\", \"abba\", \"aba\"]", 0},
    {GUIDE_JSON,
     "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\", \"maxLength\": 7}, \"b\": {\"type\": "
     "\"integer\", \"minimum\": -20, \"maximum\": 300}}, \"required\": [\"a\", \"b\"], \"additionalProperties\": "
     "false}",
     30},
    {GUIDE_JSON, "{\"type\": \"array\", \"items\": {\"type\": \"boolean\"}, \"minItems\": 2, \"maxItems\": 5}", 0},
    {GUIDE_GRAMMAR, "root ::= e\ne ::= e [+*] t | t\nt ::= [0-9]{1,2} | \"(\" e \")\"\n", 16},
    {GUIDE_GRAMMAR, "start: w (\",\" w)*\nw: /[a-f]+/ | %json {\"enum\": [1, \"b\"]}\n%ignore \" \"\n", 20},
    {GUIDE_JSON, "true", 24},
};

static const uint32_t *allowed(void *context) { return guide_mask(context); }
static void accept(void *context, int32_t token) { assert_true(guide_accept(context, token)); }
static bool done(void *context)
{
    (void)context;
    return false; /* all have an EOS */
}

struct world {
    struct backend *backend;
    struct model *model;
    struct tokenizer *tokenizer;
    struct guide_vocabulary *vocabulary;
    struct guide_options options;
    int32_t eos;
};

static struct guide *guide_of(const struct world *w, int i)
{
    struct guide *guide = NULL;
    OK(guide_create(&guide, w->vocabulary, languages[i].kind, languages[i].text, strlen(languages[i].text), &w->options,
                    "test", NULL, err));
    return guide;
}

/* Requests first .. end, in one engine; guides[GUIDES]. */
static void run(const struct world *w, int first, int end, struct guide *const *guides, uint64_t shuffle,
                struct completion *out)
{
    struct engine *engine = NULL;
    struct arena arena;
    struct guide_state *states[REQUESTS] = {NULL};
    struct constraint constraints[REQUESTS];
    int64_t ids[REQUESTS];
    int32_t prompt[N_PROMPT];
    uint64_t steps = 0;
    const struct engine_config config = {.max_sequences = 24, .n_pages = 60, .prefill_tokens = 16, .max_context = 128};
    test_engine_open(&engine, &arena, w->model, &config);
    for (int i = first; i < end; i++) {
        OK(guide_start(&states[i], guides[i % GUIDES], MOST_TOKENS, languages[i % GUIDES].close, err));
        constraints[i] = (struct constraint){
            .context = states[i], .allowed = allowed, .accept = accept, .done = done, .masked = i % 3 == 0};
        for (int t = 0; t < N_PROMPT; t++)
            prompt[t] = (i * 7 + t * 13) % 97;
        OK(engine_submit(engine,
                         &(struct engine_request){.prompt = prompt,
                                                  .n_prompt = N_PROMPT - i % 3,
                                                  .n = 1,
                                                  .sampling = {.temperature = i % 5 == 0 ? 0.7f : 1.0f},
                                                  .max_tokens = MOST_TOKENS,
                                                  .stream = (uint64_t)i,
                                                  .eos_ids = &w->eos,
                                                  .n_eos = 1,
                                                  .n_choosable = w->vocabulary->size,
                                                  .constraints = &constraints[i]},
                         &ids[i], err));
    }
    for (bool busy = true; busy;) {
        struct completion c;
        for (int g = 0; shuffle > 0 && g < GUIDES; g++) /* forgets at every step of some, and keeps all of others */
            guide_set_bound(guides[g],
                            rng_philox(shuffle, RNG_TEST, (uint64_t)g, steps).word[0] % 3 == 0 ? 1 : (size_t)1 << 26);
        steps++;
        OK(engine_step(engine, &busy, err));
        while (engine_poll(engine, &c))
            for (int i = first; i < end; i++)
                if (ids[i] == c.request)
                    out[i] = c;
    }
    for (int i = first; i < end; i++)
        guide_stop(states[i]);
    test_engine_close(engine, &arena, w->model);
}

static int n_requests(void) { return test_options.small ? REQUESTS / 4 : (int)REQUESTS; }

static void check(const struct world *w, int *finished)
{
    static struct completion together[REQUESTS], alone[REQUESTS];
    struct guide *guides[GUIDES];
    for (int g = 0; g < GUIDES; g++)
        guides[g] = guide_of(w, g);
    run(w, 0, n_requests(), guides, 17, together);
    int64_t flushes = 0;
    for (int g = 0; g < GUIDES; g++) {
        flushes += guide_stats(guides[g]).flushes;
        guide_release(guides[g]);
    }
    assert_true(flushes > 20);
    for (int i = 0; i < n_requests(); i++) {
        struct guide *own[GUIDES] = {NULL};
        own[i % GUIDES] = guide_of(w, i % GUIDES);
        run(w, i, i + 1, own, 0, alone);
        guide_release(own[i % GUIDES]);
        const struct completion *a = &together[i], *b = &alone[i];
        const size_t n = (size_t)a->n_tokens;
        assert_int_equal(a->n_tokens, b->n_tokens);
        assert_int_equal(a->finish_reason, b->finish_reason);
        assert_memory_equal(a->tokens, b->tokens, n * sizeof *a->tokens);
        assert_memory_equal(a->logp, b->logp, n * sizeof *a->logp);
        assert_memory_equal(a->entropy, b->entropy, n * sizeof *a->entropy);
        assert_memory_equal(a->kept, b->kept, n * sizeof *a->kept);
        assert_true(languages[i % GUIDES].close == 0 || a->finish_reason == FINISH_EOS);
        *finished += a->finish_reason == FINISH_EOS;
        completion_free(&together[i]);
        completion_free(&alone[i]);
    }
}

static void test_batch(void **state)
{
    (void)state;
    static const char *const words[] = {"a", "ab", "ba", "abc", "ye", "no", "12", "true", "alse", "0"};
    static const char *const special[] = {"<end>"};
    static const char *const providers[] = {"portable", "avx2", "avx512"};
    const char *provider = NULL;
    char folder[] = "/tmp/cohort-guided-XXXXXX";
    struct world w = {.tokenizer = guide_test_tokenizer(words, sizeof words / sizeof *words, special, 1)};
    assert_non_null(mkdtemp(folder));
    OK(tiny_checkpoint_write(folder, &tiny_even, 5, err));
    OK(guide_vocabulary_create(&w.vocabulary, w.tokenizer, 0, err));
    w.eos = tokenizer_find(w.tokenizer, "<end>");
    w.options = (struct guide_options){.eos_ids = &w.eos, .n_eos = 1, .after = -1};
    for (size_t p = 0; (provider = test_provider(providers, 3, p)) != NULL; p++) {
        int finished = 0;
        w.backend = backend_here(provider, 2);
        if (w.backend == NULL)
            continue;
        OK(model_load(&w.model, w.backend, folder, DTYPE_F32, 0, err));
        assert_in_range(w.vocabulary->size, 1, w.model->config.vocab_size);
        check(&w, &finished);
        assert_true(finished > n_requests() / 2);
        model_destroy(w.model);
        backend_destroy(w.backend);
        if (test_options.small)
            break;
    }
    guide_vocabulary_destroy(w.vocabulary);
    tokenizer_destroy(w.tokenizer);
    OK(file_remove_all(folder, err));
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_batch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
