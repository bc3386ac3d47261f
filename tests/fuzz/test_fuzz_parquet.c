/* Any bytes as a Parquet file: refused with a message that begins with its path, or rows that are objects of JSON with
 * every column, in any order, the same each time. An input that does not begin with P is two numbers of 16 bits, how many
 * bytes of pages follow and how the rows are read, the pages, and the footer: so that mutations may make either longer. */
#include "support/fuzz.h"

#include "base/file.h"
#include "base/json_text.h"
#include "format/parquet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check_error(const cohort_error *err, const char *path)
{
    if (err->status == COHORT_OK || strstr(err->message, path) == NULL)
        abort();
}

static void check_row(struct parquet_file *file, const char *path, int64_t row, struct text *out)
{
    cohort_error err = {0};
    json_t *json = NULL;
    out->length = 0;
    if (parquet_row(file, row, &json, &err) != COHORT_OK) {
        check_error(&err, path);
        if (json != NULL)
            abort();
        return;
    }
    if ((int32_t)json_object_size(json) != parquet_n_columns(file))
        abort();
    if (json_text_write(json, JSON_COMPACT, out, &err) != COHORT_OK)
        abort();
    json_decref(json);
    if (out->length > 1 << 20)
        return;
    if (json_text_parse(&json, out->data, out->length, "row", 1, JSON_TEXT_NUL, &err) != COHORT_OK)
        abort(); /* text that is not UTF-8, or the like */
    json_decref(json);
}

static void check_rows(struct parquet_file *file, const char *path, unsigned step)
{
    enum { MOST = 40 };
    const int64_t n = parquet_n_rows(file);
    struct text first = {0}, later = {0};
    for (int32_t i = 0; i < parquet_n_columns(file); i++)
        if (parquet_column_name(file, i) == NULL || parquet_column_type(file, i)[0] == '\0')
            abort();
    for (int64_t i = 0; i < n && i < MOST; i++)
        check_row(file, path, step == 0 ? i : step == 1 ? n - 1 - i : (i * (int64_t)(step | 1)) % n, &later);
    if (n > 0) {
        struct parquet_file *again = NULL;
        cohort_error err = {0};
        check_row(file, path, n / 2, &first);
        if (parquet_open(&again, path, &err) != COHORT_OK)
            abort();
        check_row(again, path, n / 2, &later);
        parquet_close(again);
        if (first.length != later.length || (first.length > 0 && memcmp(first.data, later.data, first.length) != 0))
            abort();
    }
    text_free(&first);
    text_free(&later);
}

static bool accepted(const uint8_t *data, size_t size, unsigned step)
{
    struct parquet_file *file = NULL;
    cohort_error err = {0};
    char path[FUZZ_PATH];
    bool accepts = false;
    const int fd = fuzz_file(data, size, path);
    if (parquet_open(&file, path, &err) == COHORT_OK) {
        check_rows(file, path, step);
        accepts = true;
    } else {
        check_error(&err, path);
    }
    parquet_close(file);
    close(fd);
    return accepts;
}

/* The file that two parts are. */
static bool accepted_parts(const uint8_t *data, size_t size)
{
    uint16_t pages = 0, step = 0;
    uint32_t footer = 0;
    struct text file = {0};
    if (size < 4)
        return false;
    memcpy(&pages, data, 2);
    memcpy(&step, data + 2, 2);
    const size_t n_pages = pages < size - 4 ? pages : size - 4;
    footer = (uint32_t)(size - 4 - n_pages);
    if (text_append(&file, "PAR1", 4, NULL) != COHORT_OK ||
        text_append(&file, (const char *)data + 4, size - 4, NULL) != COHORT_OK ||
        text_append(&file, (const char *)&footer, 4, NULL) != COHORT_OK ||
        text_append(&file, "PAR1", 4, NULL) != COHORT_OK)
        abort();
    const bool accepts = accepted((const uint8_t *)file.data, file.length, step);
    text_free(&file);
    return accepts;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 'P')
        (void)accepted(data, size, 0);
    else
        (void)accepted_parts(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
int main(int argc, char **argv)
{
    static const char *const names[] = {"two_level",
                                        "converted",
                                        "bit_packed",
                                        "int96",
                                        "types",
                                        "nested_1",
                                        "nested_2",
                                        "groups",
                                        "unicode",
                                        "encodings_none_1",
                                        "encodings_zstd_2",
                                        "encodings_gzip_1",
                                        "encodings_snappy_2",
                                        "wrong_many_bytes",
                                        "wrong_disagree",
                                        "wrong_level",
                                        "wrong_within",
                                        "wrong_index"};
    enum { N = sizeof names / sizeof *names };
    static struct text parts[N];
    static struct fuzz_seed seeds[2 * N];
    for (size_t i = 0; i < N; i++) {
        char name[64];
        cohort_error err = {0};
        uint32_t footer = 0;
        uint16_t numbers[2] = {0, (uint16_t)i};
        snprintf(name, sizeof name, "parquet/%s.parquet", names[i]);
        const struct fuzz_seed whole = seeds[2 * i] = fuzz_fixture(name);
        const char *bytes = whole.data;
        if (whole.size < 12 || whole.size > UINT16_MAX) {
            fprintf(stderr, "%s is of another size than a seed\n", name);
            return 1;
        }
        memcpy(&footer, bytes + whole.size - 8, 4);
        numbers[0] = (uint16_t)(whole.size - 12 - footer);
        if (text_append(&parts[i], (const char *)numbers, 4, &err) != COHORT_OK ||
            text_append(&parts[i], bytes + 4, whole.size - 12, &err) != COHORT_OK)
            return 1;
        /* A seed that is refused would leave most of the reader untouched. */
        if (!accepted(whole.data, whole.size, 0) || !accepted_parts((const uint8_t *)parts[i].data, parts[i].length)) {
            fprintf(stderr, "%s is refused\n", name);
            return 1;
        }
        seeds[2 * i + 1] = (struct fuzz_seed){parts[i].data, parts[i].length};
    }
    /* Heads of Thrift's fields with numbers that matter, and runs. */
    static const char *const words[] = {"\x15\x02",
                                        "\x15\x04",
                                        "\x15\x10",
                                        "\x15\x12",
                                        "\x16\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                                        "\x15\xfe\xff\xff\xff\x0f",
                                        "\x19\x1c",
                                        "\x19\xfc\xff\xff\xff\x7f",
                                        "\x2c",
                                        "\x4c",
                                        "\x8c",
                                        "\x18\x01x",
                                        "\x80\x01\x04",
                                        "\xfe\xff\xff\xff\x0f",
                                        "\x03",
                                        "PAR1"};
    const struct fuzz_target target = {.name = "parquet",
                                       .one = LLVMFuzzerTestOneInput,
                                       .seeds = seeds,
                                       .n_seeds = 2 * N,
                                       .words = words,
                                       .n_words = sizeof words / sizeof *words,
                                       .max_size = 32768};
    const int status = fuzz_run(&target, argc, argv);
    for (size_t i = 0; i < N; i++)
        text_free(&parts[i]);
    return status;
}
#endif
