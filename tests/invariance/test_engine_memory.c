/* No step of the engine allocates for itself (invariant I8): what a request needs is reserved when it is submitted, what
 * a batch needs when the engine is made. All calls of the allocator in this program are counted. */
#include "support/sanitized.h"
#include "support/engine_test.h"

#include <stdatomic.h>

#if !SANITIZED && defined(__GLIBC__)
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
    struct engine_bench b;
    engine_bench_open(&b, "auto", &config);
    const int32_t vocab = b.model->config.vocab_size;
    submit(b.engine, vocab, 100);
    print_message("a first run allocates %d times, for the backend's working memory\n", run(b.engine));
    submit(b.engine, vocab, 200); /* other draws, other lengths at other times */
    assert_int_equal(run(b.engine), 0);
    engine_bench_close(&b);
}

/* In 8 bits a head of 128 takes 132 bytes in place of 256, and that is all that the plan of an engine differs by. */
static void test_kv8_halves_pages(void **state)
{
    (void)state;
    const struct model_config published = {.n_layers = 28, .n_kv_heads = 8, .head_dim = 128};
    assert_int_equal(engine_page_bytes(&published, DTYPE_BF16, false), 28 * 2 * ATTENTION_CHUNK * 8 * 256);
    assert_int_equal(engine_page_bytes(&published, DTYPE_BF16, true), 28 * 2 * ATTENTION_CHUNK * 8 * 132);
    const struct engine_config exact = {.max_sequences = 4, .n_pages = 1000, .prefill_tokens = 40, .max_context = 200};
    struct engine_config eight = exact;
    struct engine_bench b;
    size_t bytes[2] = {0, 0};
    eight.kv8 = true;
    engine_bench_open(&b, "auto", &exact);
    const struct model_config *c = &b.model->config;
    OK(engine_buffer_bytes(b.model, &exact, &bytes[0], err));
    OK(engine_buffer_bytes(b.model, &eight, &bytes[1], err));
    const size_t pages[2] = {1000 * engine_page_bytes(c, b.model->type, false),
                             1000 * engine_page_bytes(c, b.model->type, true)};
    assert_int_equal(bytes[0] - bytes[1], pages[0] - pages[1]);
    engine_bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps_allocate_nothing),
                                       cmocka_unit_test(test_kv8_halves_pages)};
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}
#else
int main(void) { return 0; } /* a sanitizer has an allocator of its own, another C library other names */
#endif
