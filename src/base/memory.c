#include "base/memory.h"
#include "base/number.h"
#include "base/utf8.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ALIGNMENT = 64 };

cohort_status mem_alloc(void *out, size_t count, size_t size, const char *what, cohort_error *err)
{
    void *block = NULL;
    size_t bytes = 0;
    memcpy(out, &block, sizeof block);
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT)
        return error_set(err, COHORT_ERR_MEMORY, "%s: %zu x %zu bytes is not a possible size", what, count, size);
    if (bytes == 0)
        bytes = 1;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    block = aligned_alloc(ALIGNMENT, bytes);
    if (block == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot allocate %zu bytes", what, bytes);
    memset(block, 0, bytes);
    memcpy(out, &block, sizeof block);
    return COHORT_OK;
}

cohort_status mem_grow(void *array, size_t *capacity, size_t wanted, size_t size, const char *what, cohort_error *err)
{
    if (wanted <= *capacity)
        return COHORT_OK;
    size_t target = *capacity < 8 ? 8 : *capacity;
    while (target < wanted)
        target = target > SIZE_MAX / 2 ? wanted : target * 2;
    void *old = NULL;
    void *grown = NULL;
    memcpy(&old, array, sizeof old);
    TRY(mem_alloc(&grown, target, size, what, err));
    if (old != NULL)
        memcpy(grown, old, *capacity * size);
    mem_free(old);
    memcpy(array, &grown, sizeof grown);
    *capacity = target;
    return COHORT_OK;
}

cohort_status mem_strdup(char **out, const char *text, size_t length, cohort_error *err)
{
    TRY(mem_alloc(out, length + 1, 1, "text", err));
    if (length > 0)
        memcpy(*out, text, length);
    return COHORT_OK;
}

void mem_free(void *block) { free(block); }

size_t mem_available(void)
{
    unsigned long long kilobytes = 0;
    char line[256];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file != NULL && kilobytes == 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "MemAvailable:", 13) == 0)
            kilobytes = strtoull(line + 13, NULL, 10);
    if (file != NULL)
        fclose(file);
    if (kilobytes == 0)
        return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    return (size_t)kilobytes * 1024;
}

size_t mem_written(void)
{
    unsigned long long resident = 0, shared = 0;
    char line[256];
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *at = line;
        (void)strtoull(at, &at, 10); /* the whole address space */
        resident = strtoull(at, &at, 10);
        shared = strtoull(at, &at, 10);
    }
    if (file != NULL)
        fclose(file);
    return (size_t)(resident > shared ? resident - shared : 0) * (size_t)sysconf(_SC_PAGESIZE);
}

cohort_status text_append(struct text *text, const char *bytes, size_t length, cohort_error *err)
{
    if (length > SIZE_MAX - text->length - 1)
        return error_set(err, COHORT_ERR_MEMORY, "text of %zu + %zu bytes is too long", text->length, length);
    TRY(mem_grow(&text->data, &text->capacity, text->length + length + 1, 1, "text", err));
    if (length > 0)
        memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
    return COHORT_OK;
}

cohort_status text_printf(struct text *text, cohort_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int n = number_vformat(NULL, 0, format, args);
    va_end(args);
    cohort_status status = COHORT_OK;
    if (n < 0)
        status = error_set(err, COHORT_ERR_INTERNAL, "cannot format text");
    else
        status = mem_grow(&text->data, &text->capacity, text->length + (size_t)n + 1, 1, "text", err);
    if (status == COHORT_OK) {
        number_vformat(text->data + text->length, (size_t)n + 1, format, again);
        text->length += (size_t)n;
    }
    va_end(again);
    return status;
}

/* C0 and DEL as ASCII has them, C1 as UTF-8 does, and the marks that turn the direction of writing (U+202A to 202E, U+2066
 * to 2069), which make text look like another. */
static bool is_control(const char *at, size_t length)
{
    const unsigned char c = (unsigned char)at[0], last = (unsigned char)at[length - 1];
    if (length == 2)
        return c == 0xc2 && last < 0xa0;
    if (length == 3 && c == 0xe2)
        return ((unsigned char)at[1] == 0x80 && last >= 0xaa && last <= 0xae) ||
               ((unsigned char)at[1] == 0x81 && last >= 0xa6 && last <= 0xa9);
    return length == 1 && ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f);
}

cohort_status text_append_shown(struct text *text, const char *bytes, size_t length, cohort_error *err)
{
    for (size_t i = 0, size; i < length; i += size) {
        const size_t room = length - i < 4 ? length - i : 4, good = utf8_check(bytes + i, room);
        uint32_t code_point;
        size = good == 0 ? 1 : utf8_decode(bytes + i, &code_point);
        if (good > 0 && !is_control(bytes + i, size)) {
            TRY(text_append(text, bytes + i, size, err));
            continue;
        }
        for (size_t k = 0; k < size; k++)
            TRY(text_printf(text, err, "\\x%02x", (unsigned char)bytes[i + k]));
    }
    return COHORT_OK;
}

cohort_status text_append_varint(struct text *text, uint64_t value, cohort_error *err)
{
    char bytes[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (char)(value | 0x80);
    bytes[n++] = (char)value;
    return text_append(text, bytes, n, err);
}

void text_free(struct text *text)
{
    mem_free(text->data);
    memset(text, 0, sizeof *text);
}

bool text_ends(const char *string, const char *end)
{
    const size_t n = strlen(string), m = strlen(end);
    return n >= m && strcmp(string + n - m, end) == 0;
}
