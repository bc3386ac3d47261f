/* No step of the engine allocates for itself (invariant I8): what a request needs is reserved when it is submitted, what
 * a batch needs when the engine is made. All calls of the allocator in this program are counted. */
#include "support/sanitized.h"
#include "support/test_backend.h"

#include "rollout/engine.h"
#include "support/tiny_model.h"

#include <stdatomic.h>

#if !SANITIZED
/* glibc's own, behind the names that the program defines anew. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_int n_allocations;

void *malloc(size_t size)
{
    n_allocations++;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size)
{
    n_allocations++;
    return __libc_calloc(count, size);
}
void *realloc(void *block, size_t size)
{
    n_allocations++;
    return __libc_realloc(block, size);
}
void *aligned_alloc(size_t alignment, size_t size)
{
    n_allocations++;
    return __libc_memalign(alignment, size);
}

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        cohort_error err_ = {0}, *err = &err_;                                                                         \
        if ((call) != COHORT_OK)                                                                                       \
            fail_msg("%s: %s", #call, err_.message);                                                                   \
    } while (0)

static char folder[64];

enum {
    N_REQUESTS = 6,
    GROUP = 5,
    MAX_PROMPT = 130,
    MAX_TOKENS = 70,
    OF_A_COMPLETION = 3 /* arrays of a finished completion: the caller's from then on */
};

/* Requests of several lengths, prompts that take several steps, more completions than slots. */
static void submit(struct engine *engine, int32_t vocab, uint64_t stream)
{
    int32_t prompt[MAX_PROMPT];
    for (int32_t i = 0; i < MAX_PROMPT; i++)
        prompt[i] = (i * 7 + 1) % vocab;
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        int64_t id = 0;
        OK(engine_submit(engine,
                         &(struct engine_request){.prompt = prompt,
                                                  .n_prompt = 1 + (MAX_PROMPT - 1) * i / (N_REQUESTS - 1),
                                                  .n = GROUP,
                                                  .sampling = {.temperature = 1.0f},
                                                  .stream = stream + (uint64_t)i,
                                                  .max_tokens = i % 2 == 0 ? MAX_TOKENS : 3},
                         &id, err));
    }
}

/* Runs all that was submitted; returns how often steps allocated beyond what completions are made of. */
static int run(struct engine *engine)
{
    int beyond = 0, completions = 0;
    for (bool busy = true; busy;) {
        struct completion c;
        int finished = 0;
        const int before = n_allocations;
        OK(engine_step(engine, &busy, err));
        const int in_step = n_allocations - before;
        for (; engine_poll(engine, &c); finished++)
            completion_free(&c);
        assert_true(in_step >= OF_A_COMPLETION * finished);
        beyond += in_step - OF_A_COMPLETION * finished;
        completions += finished;
    }
    assert_int_equal(completions, N_REQUESTS * GROUP);
    return beyond;
}

static void test_steps_allocate_nothing(void **state)
{
    (void)state;
    const struct engine_config config = {
        .max_sequences = 4, .n_pages = 24, .prefill_tokens = 40, .prefill_chunk = 33, .max_context = 200};
    struct backend *backend = backend_here("auto", 1);
    struct model *model = NULL;
    struct engine *engine = NULL;
    struct arena arena = {0};
    OK(model_load(&model, backend, folder, DTYPE_F32, 0, err));
    OK(engine_create(&engine, model, NULL, &config, err));
    OK(engine_plan(engine, &arena, err));
    OK(arena_allocate(&arena, backend, "test", err));
    OK(engine_plan(engine, &arena, err));
    submit(engine, model->config.vocab_size, 100);
    print_message("a first run allocates %d times, for the backend's working memory\n", run(engine));
    submit(engine, model->config.vocab_size, 200); /* other draws, other lengths at other times */
    assert_int_equal(run(engine), 0);
    engine_destroy(engine);
    arena_release(&arena, backend);
    model_destroy(model);
    backend_destroy(backend);
}

static int write_model(void **state)
{
    (void)state;
    cohort_error err = {0};
    snprintf(folder, sizeof folder, "/tmp/cohort-memory-XXXXXX");
    if (mkdtemp(folder) == NULL || tiny_checkpoint_write(folder, &tiny_odd, 3, &err) != COHORT_OK) {
        print_error("%s: %s\n", folder, err.message);
        return -1;
    }
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps_allocate_nothing)};
    return cmocka_run_group_tests(tests, write_model, remove_model);
}
#else
int main(void) { return 0; } /* a sanitizer's allocator is its own */
#endif
