/* A model whose projections are held packed alone (model_pack_alone) has the bits of one that has its tensors too, on every
 * provider, with less memory; other weights can be read in their place. */
#include "support/engine_test.h"

#include "format/checkpoint.h"

enum { PROMPT = 90, TOKENS = 12 };

static const struct engine_config config = {
    .max_sequences = 2, .n_pages = 12, .prefill_tokens = 50, .max_context = PROMPT + TOKENS};

/* In these all tensors but the last of a product end at PARAM_PART_ROWS; in tiny_odd those of q, k and v do not, nor do gate
 * and up. */
static const struct tiny_shape tied = {.name = "tied",
                                       .vocab_size = 200,
                                       .hidden_size = 40,
                                       .n_layers = 2,
                                       .n_heads = 2,
                                       .n_kv_heads = 1,
                                       .head_dim = 64,
                                       .intermediate_size = 128,
                                       .tied = true,
                                       .standard_deviation = 0.2f};
static const struct tiny_shape untied = {.name = "untied",
                                         .vocab_size = 8200,
                                         .hidden_size = 72,
                                         .n_layers = 2,
                                         .n_heads = 2,
                                         .n_kv_heads = 2,
                                         .head_dim = 32,
                                         .intermediate_size = 192,
                                         .bf16_weights = true,
                                         .standard_deviation = 0.2f};

static struct model *open_model(struct backend *backend, const char *dir, enum dtype type, bool alone)
{
    struct model_config shape = {0};
    struct model *model = NULL;
    struct weight_files files = {0};
    OK(model_config_load(&shape, NULL, dir, err));
    OK(model_open(&model, backend, &shape, type, 0, err));
    if (alone)
        model_pack_alone(model);
    OK(model_read(model, dir, alone ? &files : NULL, err));
    weight_files_free(&files);
    return model;
}

static struct completion generate(struct model *model)
{
    struct engine *engine = NULL;
    struct arena arena;
    struct completion out = {0};
    int32_t prompt[PROMPT];
    int64_t id = 0;
    for (int32_t i = 0; i < PROMPT; i++)
        prompt[i] = (i * 31 + i / 7) % model->config.vocab_size;
    test_engine_open(&engine, &arena, model, &config);
    OK(engine_submit(engine,
                     &(struct engine_request){.prompt = prompt,
                                              .n_prompt = PROMPT,
                                              .n = 1,
                                              .sampling = {.temperature = 0.9f},
                                              .stream = 5,
                                              .max_tokens = TOKENS},
                     &id, err));
    for (bool busy = true; busy;)
        OK(engine_step(engine, &busy, err));
    assert_true(engine_poll(engine, &out));
    test_engine_close(engine, &arena, model);
    return out;
}

static void expect_same(struct model *a, struct model *b)
{
    struct completion x = generate(a), y = generate(b);
    assert_int_equal(x.n_tokens, y.n_tokens);
    assert_memory_equal(x.tokens, y.tokens, (size_t)x.n_tokens * sizeof *x.tokens);
    assert_memory_equal(x.logp, y.logp, (size_t)x.n_tokens * sizeof *x.logp);
    completion_free(&x);
    completion_free(&y);
}

static int32_t n_packed(const struct model *model)
{
    int32_t n = 0;
    for (int32_t i = 0; i < model->base.table.n_params; i++)
        n += model->base.table.params[i].packed;
    return n;
}

static void check(const struct tiny_shape *shape, enum dtype type, int32_t packs)
{
    char folder[] = "/tmp/cohort-alone-XXXXXX", other[] = "/tmp/cohort-alone-XXXXXX";
    assert_true(mkdtemp(folder) != NULL && mkdtemp(other) != NULL);
    OK(tiny_checkpoint_write(folder, shape, 3, err));
    OK(tiny_checkpoint_write(other, shape, 4, err));
    static const char *const providers[] = {"portable", "avx2", "avx512", "avx512-bf16", "amx-bf16"};
    for (size_t i = 0; i < sizeof providers / sizeof *providers; i++) {
        struct backend *backend = backend_here(providers[i], 3);
        if (backend == NULL)
            continue;
        struct model *whole = open_model(backend, folder, type, false),
                     *alone = open_model(backend, folder, type, true);
        struct model *changed = open_model(backend, other, type, false);
        assert_int_equal(n_packed(alone), packs);
        assert_true(model_weight_bytes(alone) < model_weight_bytes(whole));
        expect_same(whole, alone);
        OK(checkpoint_read(other, &alone->base.table, model_store, alone, err));
        model_refresh(alone);
        expect_same(changed, alone);
        model_destroy(whole);
        model_destroy(alone);
        model_destroy(changed);
        backend_destroy(backend);
    }
    OK(file_remove_all(folder, err));
    OK(file_remove_all(other, err));
}

static void test_tied(void **state)
{
    (void)state;
    check(&tied, DTYPE_F32, 2 * 7); /* the embedding stays */
}

static void test_untied(void **state)
{
    (void)state;
    check(&untied, DTYPE_BF16, 2 * 7 + 1);
}

static void test_odd(void **state)
{
    (void)state;
    check(&tiny_odd, DTYPE_F32, 3 * 2 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tied), cmocka_unit_test(test_untied),
                                       cmocka_unit_test(test_odd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
