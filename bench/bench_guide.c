/* Masks of guided decoding on one thread: how long the first one takes with the reading of a JSON schema, and those behind every token
 * of its valid documents.
 *
 *   cc -O2 -Iinclude -Isrc bench/bench_guide.c build/libcohort.a -ljansson -lpcre2-8 -lutf8proc -lnettle -lz -lzstd \
 *      -lsnappy -lsqlite3 -lyaml -lm -o build/bench_guide
 *   build/bench_guide TOKENIZER_DIR tests/fixtures/guided_schemas.jsonl
 *
 * Times are the thread's own (CLOCK_THREAD_CPUTIME_ID): a busy neighbour does not show in them. */
#include "guide/guide.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct times {
    double *list;
    size_t n, capacity;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void add(struct times *t, double us)
{
    if (mem_grow(&t->list, &t->capacity, t->n + 1, sizeof *t->list, "times", NULL) == COHORT_OK)
        t->list[t->n++] = us;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, struct times *t)
{
    if (t->n == 0)
        return;
    qsort(t->list, t->n, sizeof *t->list, ascending);
    double sum = 0.0;
    for (size_t i = 0; i < t->n; i++)
        sum += t->list[i];
    printf("%-28s n %6zu   mean %8.1f   p50 %8.1f   p90 %8.1f   p99 %8.1f   max %9.1f us\n", name, t->n,
           sum / (double)t->n, t->list[t->n / 2], t->list[t->n * 9 / 10], t->list[t->n * 99 / 100], t->list[t->n - 1]);
    mem_free(t->list);
}

int main(int argc, char **argv)
{
    struct tokenizer *tokenizer = NULL;
    struct guide_vocabulary *words = NULL;
    struct times first = {0}, masks = {0}, accepted = {0};
    cohort_error err = {0};
    char *line = NULL;
    size_t capacity = 0, refused = 0;
    FILE *file = argc == 3 ? fopen(argv[2], "r") : NULL;
    if (file == NULL || tokenizer_load(&tokenizer, argv[1], &err) != COHORT_OK) {
        fprintf(stderr, "usage: bench_guide TOKENIZER_DIR SCHEMAS.jsonl\n%s\n", err.message);
        return 2;
    }
    double before = now();
    if (guide_vocabulary_create(&words, tokenizer, 0, &err) != COHORT_OK)
        return 1;
    printf("vocabulary of %d tokens: %.1f ms\n", (int)tokenizer_size(tokenizer), (now() - before) * 1e-3);
    const int32_t eos = tokenizer_eos(tokenizer);
    const struct guide_options options = {.eos_ids = &eos, .n_eos = eos >= 0 ? 1 : 0, .after = -1};
    while (getline(&line, &capacity, file) > 0) {
        json_t *row = json_loads(line, 0, NULL), *doc;
        char *schema = json_dumps(json_object_get(row, "schema"), JSON_COMPACT);
        const char *valid = json_string_value(json_object_get(row, "valid"));
        struct guide *guide = NULL;
        struct guide_state *state = NULL;
        before = now();
        bool good = guide_create(&guide, words, GUIDE_JSON, schema, strlen(schema), &options, "schema", NULL, &err) ==
                        COHORT_OK &&
                    guide_start(&state, guide, 4096, 0, &err) == COHORT_OK;
        if (good) {
            (void)guide_mask(state);
            add(&first, now() - before);
        }
        refused += !good;
        size_t i;
        json_array_foreach(json_object_get(row, "docs"), i, doc)
        {
            struct token_list tokens = {0};
            if (!good || valid[i] != '1' ||
                tokenizer_encode(tokenizer, json_string_value(doc), json_string_length(doc), false, &tokens, &err) !=
                    COHORT_OK)
                continue;
            guide_rewind(state, 0);
            for (size_t t = 0; t < tokens.count; t++) {
                before = now();
                (void)guide_accept(state, tokens.ids[t]);
                const double between = now();
                (void)guide_mask(state);
                add(&accepted, between - before);
                add(&masks, now() - between);
            }
            token_list_free(&tokens);
        }
        guide_stop(state);
        guide_release(guide);
        json_decref(row);
        free(schema);
    }
    printf("schemas refused or empty: %zu\n", refused);
    print("schema and first mask", &first);
    print("mask behind a token", &masks);
    print("token accepted", &accepted);
    free(line);
    fclose(file);
    guide_vocabulary_destroy(words);
    tokenizer_destroy(tokenizer);
    return 0;
}
