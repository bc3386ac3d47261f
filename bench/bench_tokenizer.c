/* How fast a tokenizer opens and encodes, by the processor time of one thread: the best of so many rounds for each file.
 *
 *   cc -O2 -Iinclude -Isrc bench/bench_tokenizer.c build/libcohort.a -ljansson -lpcre2-8 -lutf8proc -lnettle -lz \
 *      -lzstd -lsnappy -lm -o build/bench_tokenizer
 *   build/bench_tokenizer ROUNDS FOLDER FILE...
 *
 * bench/peers/peer_tokenizers.py runs it beside Hugging Face tokenizers. */
#include "base/file.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void need(cohort_status status, const cohort_error *err)
{
    if (status == COHORT_OK)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

int main(int argc, char **argv)
{
    cohort_error err = {0};
    struct tokenizer *tokenizer = NULL;
    const int rounds = argc > 3 ? atoi(argv[1]) : 0;
    double best = 1e9;
    if (rounds < 1) {
        fprintf(stderr, "usage: bench_tokenizer ROUNDS FOLDER FILE...\n");
        return 2;
    }
    for (int round = 0; round < rounds; round++) {
        tokenizer_destroy(tokenizer);
        const double start = now();
        need(tokenizer_load(&tokenizer, argv[2], &err), &err);
        const double took = now() - start;
        best = took < best ? took : best;
    }
    printf("open\t%.4f s\n", best);
    for (int i = 3; i < argc; i++) {
        struct text text = {0};
        size_t count = 0;
        need(file_read(argv[i], 0, &text, &err), &err);
        best = 1e9;
        for (int round = 0; round < rounds; round++) {
            struct token_list ids = {0};
            const double start = now();
            need(tokenizer_encode(tokenizer, text.data, text.length, true, &ids, &err), &err);
            const double took = now() - start;
            best = took < best ? took : best;
            count = ids.count;
            token_list_free(&ids);
        }
        printf("%s\t%zu ids\t%.2f MB/s\n", argv[i], count, (double)text.length / best / 1e6);
        text_free(&text);
    }
    tokenizer_destroy(tokenizer);
    return 0;
}
