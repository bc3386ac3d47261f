/* Any bytes as an Arrow file, framed or a stream: refused with a message that begins with its path, or rows that are
 * objects of JSON with every column, the same in whatever order and with whatever batches kept. */
#include "support/fuzz.h"

#include "base/json_text.h"
#include "format/arrow_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check_error(const cohort_error *err, const char *path)
{
    if (err->status == COHORT_OK || strstr(err->message, path) == NULL)
        abort();
}

static void check_row(struct arrow_file *file, const char *path, int64_t row, struct text *out)
{
    enum { PARSED_AGAIN = 1 << 16 };
    cohort_error err = {0};
    json_t *json = NULL;
    out->length = 0;
    if (arrow_row(file, row, &json, &err) != COHORT_OK) {
        check_error(&err, path);
        if (json != NULL)
            abort();
        return;
    }
    if ((int32_t)json_object_size(json) != arrow_n_columns(file) ||
        json_text_write(json, JSON_COMPACT, out, &err) != COHORT_OK)
        abort();
    json_decref(json);
    /* Text that is not UTF-8 would not be read again; a key with \u0000 is not, by jansson. */
    if (out->length < PARSED_AGAIN && strstr(out->data, "\\u0000") == NULL) {
        if (json_text_parse(&json, out->data, out->length, "row", 1, 0, &err) != COHORT_OK)
            abort();
        json_decref(json);
    }
}

static void check_rows(struct arrow_file *file, const char *path)
{
    enum { MOST = 40, STEP = 7919 };
    const int64_t n = arrow_n_rows(file), some = n < MOST ? n : MOST;
    struct text first = {0}, later = {0};
    for (int32_t i = 0; i < arrow_n_columns(file); i++)
        if (arrow_column_name(file, i) == NULL || arrow_column_type(file, i)[0] == '\0')
            abort();
    if (n > 0)
        check_row(file, path, n / 2, &first);
    for (int64_t i = 0; i < some; i++)
        check_row(file, path, i * STEP % n, &later);
    file->cache_bytes = 0;
    if (n > 0)
        check_row(file, path, n / 2, &later);
    if (n > 0 &&
        (first.length != later.length || (first.length > 0 && memcmp(first.data, later.data, first.length) != 0)))
        abort();
    text_free(&first);
    text_free(&later);
}

static bool accepted(const uint8_t *data, size_t size)
{
    struct arrow_file *file = NULL;
    cohort_error err = {0};
    char path[FUZZ_PATH];
    bool accepts = false;
    const int fd = fuzz_file(data, size, path);
    if (arrow_open(&file, path, &err) == COHORT_OK) {
        check_rows(file, path);
        accepts = true;
    } else {
        check_error(&err, path);
    }
    arrow_close(file);
    close(fd);
    return accepts;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)accepted(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
int main(int argc, char **argv)
{
    static const char *const names[] = {
        "arrow/small.arrow",         "arrow/small_framed.arrow", "arrow/small_zstd.arrow", "arrow/small_lz4.arrow",
        "arrow/deltas.arrow",        "arrow/replaced.arrow",     "arrow/nested.arrow",     "arrow/legacy.arrow",
        "arrow/framed_deltas.arrow", "arrow/extensions.arrow",   "arrow/default.feather"};
    enum { N = sizeof names / sizeof *names };
    static struct fuzz_seed seeds[N];
    for (size_t i = 0; i < N; i++)
        seeds[i] = fuzz_fixture(names[i]);
    /* Marks, and numbers of 4 and 8 bytes. */
    static const char *const words[] = {"\xff\xff\xff\xff",
                                        "\x01\x01\x01\x01",
                                        "\xff\xff\xff\x7f",
                                        "\x04\x22\x4d\x18",
                                        "\x28\xb5\x2f\xfd",
                                        "\x01",
                                        "\x18",
                                        "ARROW1"};
    const struct fuzz_target target = {.name = "arrow",
                                       .one = LLVMFuzzerTestOneInput,
                                       .accepted = accepted,
                                       .seeds = seeds,
                                       .n_seeds = N,
                                       .words = words,
                                       .n_words = sizeof words / sizeof *words,
                                       .max_size = 32768};
    return fuzz_run(&target, argc, argv);
}
#endif
