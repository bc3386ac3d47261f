/* A rollout whose completions end at geometric lengths, in an engine with few pages: how many rows decode at once, and how
 * many tokens a second come of it. The model is tiny, with weights so small that every id is about equally likely.
 *
 *   cc -O2 -D_GNU_SOURCE -Iinclude -Isrc -Itests bench/bench_ragged.c tests/support/tiny_model.c build/libcohort.a -ljansson \
 *      -lpcre2-8 -lutf8proc -lnettle -lz -lzstd -lsnappy -lsqlite3 -lyaml -lm -o build/bench_ragged
 *   build/bench_ragged [REQUESTS [MOST_TOKENS [MEAN [PAGES [WIDTH]]]]]
 */
#include "base/clock.h"
#include "base/file.h"
#include "rollout/engine.h"
#include "support/tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PROMPT = 128, VOCAB = 2048, THREADS = 2 };

static void must(cohort_status status, const cohort_error *err)
{
    if (status == COHORT_OK)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    const int32_t n = argc > 1 ? atoi(argv[1]) : 512, most = argc > 2 ? atoi(argv[2]) : 4096;
    const int32_t mean = argc > 3 ? atoi(argv[3]) : 512, width = argc > 5 ? atoi(argv[5]) : 64;
    const struct tiny_shape shape = {.name = "ragged",
                                     .vocab_size = VOCAB,
                                     .hidden_size = width,
                                     .n_layers = 2,
                                     .n_heads = width / 16,
                                     .n_kv_heads = width / 32,
                                     .head_dim = 16,
                                     .intermediate_size = 3 * width,
                                     .tied = true,
                                     .max_positions = PROMPT + most,
                                     .standard_deviation = 0.02f};
    const struct engine_config config = {.max_sequences = n,
                                         .n_pages =
                                             argc > 4 ? atoi(argv[4]) : n * 137 / 512 * engine_pages(PROMPT, most, 1),
                                         .prefill_tokens = 2048,
                                         .max_context = PROMPT + most};
    char folder[] = "/tmp/cohort-ragged-XXXXXX";
    cohort_error err = {0};
    struct backend *backend = NULL;
    struct model *model = NULL;
    struct engine *engine = NULL;
    struct arena arena = {0};
    int32_t prompt[PROMPT], eos[VOCAB];
    const int32_t n_eos = VOCAB / mean;
    if (mkdtemp(folder) == NULL || n_eos < 1)
        return 1;
    must(tiny_checkpoint_write(folder, &shape, 3, &err), &err);
    must(backend_cpu_create(&backend, CPU_ISA_AUTO, THREADS, &err), &err);
    must(model_load(&model, backend, folder, DTYPE_F32, 0, &err), &err);
    must(file_remove_all(folder, &err), &err);
    must(engine_create(&engine, model, NULL, &config, &err), &err);
    must(engine_plan(engine, &arena, &err), &err);
    must(arena_allocate(&arena, backend, "bench", &err), &err);
    must(engine_plan(engine, &arena, &err), &err);
    for (int32_t i = 0; i < n_eos; i++)
        eos[i] = 7 + i * mean;
    for (int32_t r = 0; r < n; r++) {
        int64_t id = 0;
        for (int32_t i = 0; i < PROMPT; i++)
            prompt[i] = (r * 131 + i * 17) % VOCAB;
        must(engine_submit(engine,
                           &(struct engine_request){.prompt = prompt,
                                                    .n_prompt = PROMPT,
                                                    .n = 1,
                                                    .sampling = {.temperature = 1.0f},
                                                    .stream = (uint64_t)r,
                                                    .max_tokens = most,
                                                    .eos_ids = eos,
                                                    .n_eos = n_eos},
                           &id, &err),
             &err);
    }
    double rows = 0, steps = 0, sum = 0;
    const double start = clock_seconds(), worked = processor_seconds();
    for (bool busy = true; busy; steps++) {
        struct completion c;
        must(engine_step(engine, &busy, &err), &err);
        rows += engine_stats(engine).running;
        for (; engine_poll(engine, &c); completion_free(&c))
            for (int32_t t = 0; t < c.n_tokens; t++)
                sum += c.logp[t];
    }
    const double seconds = clock_seconds() - start, work = processor_seconds() - worked;
    const struct engine_stats stats = engine_stats(engine);
    printf("%d requests of at most %d tokens, %lld pages: %.2f s, %.0f steps, %.1f rows a step, %.0f tok/s, "
           "%.0f a second of processor time; "
           "%lld tokens (mean %.1f), prompt tokens computed %lld, sum of log-probs %.6f\n",
           n, most, (long long)config.n_pages, seconds, steps, rows / steps, (double)stats.generated_tokens / seconds,
           (double)stats.generated_tokens / work, (long long)stats.generated_tokens, (double)stats.generated_tokens / n,
           (long long)stats.prompt_tokens, sum);
    printf("set back %lld times with %lld tokens\n", (long long)stats.set_back, (long long)stats.set_back_tokens);
    engine_destroy(engine);
    arena_release(&arena, backend);
    model_destroy(model);
    backend_destroy(backend);
    return 0;
}
