/* Any bytes as a safetensors file: either refused with a message, or every extent lies within the
 * file. */
#include "support/fuzz.h"

#include "format/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the reader promises of a file that it accepts. */
static void check(const struct safetensors *file)
{
    size_t sum = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct safetensor *tensor = &file->tensors[i];
        const unsigned char *end = file->map.data + file->map.size;
        if (tensor->data < file->map.data + 8 || tensor->data > end || tensor->bytes > (size_t)(end - tensor->data) ||
            tensor->count < 0)
            abort();
        if (tensor->has_dtype && (size_t)tensor->count != tensor->bytes / dtype_bytes(tensor->dtype))
            abort();
        if (safetensors_find(file, tensor->name) != tensor)
            abort();
        sum += tensor->bytes;
        for (size_t j = 0; j < tensor->bytes; j++)
            (void)*(const volatile unsigned char *)&tensor->data[j];
    }
    uint64_t header = 0;
    memcpy(&header, file->map.data, 8);
    if (sum != file->map.size - 8 - (size_t)header)
        abort();
}

static bool accepted(const uint8_t *data, size_t size)
{
    bool accepts = false;
    struct safetensors file;
    cohort_error err = {0};
    char path[FUZZ_PATH];
    const int fd = fuzz_file(data, size, path);
    if (safetensors_open(&file, path, &err) == COHORT_OK) {
        check(&file);
        safetensors_close(&file);
        accepts = true;
    } else if (err.status == COHORT_OK || strstr(err.message, path) == NULL) {
        abort();
    }
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
    static const struct {
        const char *header, *data;
    } parts[] = {{"{}", ""},
                 {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}   ", "12345678"},
                 {"{\"a\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[4,5]},"
                  "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[0,4]}}",
                  "12345"},
                 {"{\"__metadata__\":{\"format\":\"pt\"},"
                  "\"z\":{\"dtype\":\"F16\",\"shape\":[0,3],\"data_offsets\":[0,0]}}",
                  ""}};
    enum { N = sizeof parts / sizeof *parts };
    static char bytes[N][512];
    struct fuzz_seed seeds[N];
    for (size_t i = 0; i < N; i++) {
        uint64_t length = strlen(parts[i].header);
        memcpy(bytes[i], &length, 8);
        snprintf(bytes[i] + 8, sizeof bytes[i] - 8, "%s%s", parts[i].header, parts[i].data);
        seeds[i] = (struct fuzz_seed){bytes[i], 8 + strlen(bytes[i] + 8)};
    }
    static const char *const words[] = {"\"dtype\":",
                                        "\"shape\":",
                                        "\"data_offsets\":",
                                        "\"__metadata__\":",
                                        "\"BF16\"",
                                        "\"F64\"",
                                        "\"F8_E4M3\"",
                                        "\"NEW\"",
                                        "[0,0]",
                                        "[0,8]",
                                        "[4294967296,4294967296]",
                                        "\\u0000",
                                        "\"a\":",
                                        "{",
                                        "}",
                                        ",",
                                        "\xff"};
    const struct fuzz_target target = {.name = "safetensors",
                                       .one = LLVMFuzzerTestOneInput,
                                       .accepted = accepted,
                                       .seeds = seeds,
                                       .n_seeds = N,
                                       .words = words,
                                       .n_words = sizeof words / sizeof *words,
                                       .max_size = 1024};
    return fuzz_run(&target, argc, argv);
}
#endif
