/* Shared by the tests of the rollout engine: a tiny checkpoint in a folder of its own, an engine with its buffers. */
#ifndef COHORT_TESTS_SUPPORT_ENGINE_TEST_H
#define COHORT_TESTS_SUPPORT_ENGINE_TEST_H

#include "support/test_backend.h"

#include "base/file.h"
#include "rollout/engine.h"
#include "support/tiny_model.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        cohort_error err_ = {0}, *err = &err_;                                                                         \
        if ((call) != COHORT_OK)                                                                                       \
            fail_msg("%s: %s", #call, err_.message);                                                                   \
    } while (0)

static inline void test_engine_open(struct engine **engine, struct arena *arena, struct model *model,
                                    const struct engine_config *config)
{
    memset(arena, 0, sizeof *arena);
    OK(engine_create(engine, model, NULL, config, err));
    OK(engine_plan(*engine, arena, err));
    OK(arena_allocate(arena, model->backend, "test", err));
    OK(engine_plan(*engine, arena, err));
}

/* All pages must be free. */
static inline void test_engine_close(struct engine *engine, struct arena *arena, struct model *model)
{
    assert_int_equal(engine_stats(engine).pages_used, 0);
    engine_destroy(engine);
    arena_release(arena, model->backend);
}

/* An engine and all that it stands on, over the tiny_odd checkpoint of tiny_folder. */
struct engine_bench {
    struct backend *backend;
    struct model *model;
    struct engine *engine;
    struct arena arena;
    struct engine_config config;
};

static char tiny_folder[64];

/* provider: as backend_here, which must be there. */
static inline void engine_bench_open(struct engine_bench *b, const char *provider, const struct engine_config *config)
{
    *b = (struct engine_bench){.config = *config};
    b->backend = backend_here(provider, 1);
    OK(model_load(&b->model, b->backend, tiny_folder, DTYPE_F32, 0, err));
    test_engine_open(&b->engine, &b->arena, b->model, config);
}

static inline void engine_bench_close(struct engine_bench *b)
{
    test_engine_close(b->engine, &b->arena, b->model);
    model_destroy(b->model);
    backend_destroy(b->backend);
}

/* Of a group of tests: makes and removes the folder. */
static inline int tiny_folder_setup(void **state)
{
    (void)state;
    cohort_error err = {0};
    snprintf(tiny_folder, sizeof tiny_folder, "/tmp/cohort-engine-XXXXXX");
    if (mkdtemp(tiny_folder) == NULL || tiny_checkpoint_write(tiny_folder, &tiny_odd, 3, &err) != COHORT_OK) {
        print_error("%s: %s\n", tiny_folder, err.message);
        return -1;
    }
    return 0;
}

static inline int tiny_folder_teardown(void **state)
{
    (void)state;
    return file_remove_all(tiny_folder, NULL) == COHORT_OK ? 0 : -1;
}

#endif
