/* The byte-level alphabet and NFC. */
#include "text/tokenizer_internal.h"

#include <string.h>
#include <utf8proc.h>

/* GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards in
 * their order. */
uint32_t byte_level_char(unsigned char byte)
{
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0)
        return 0x121u + (uint32_t)(byte - 0x7F);
    if (byte == 0xAD)
        return 0x143;
    return byte;
}

int32_t byte_level_byte(uint32_t code_point)
{
    if (code_point >= 0x100 && code_point <= 0x120)
        return (int32_t)(code_point - 0x100);
    if (code_point >= 0x121 && code_point <= 0x142)
        return (int32_t)(code_point - 0x121 + 0x7F);
    if (code_point == 0x143)
        return 0xAD;
    if (code_point > 0xFF || byte_level_char((unsigned char)code_point) != code_point)
        return -1;
    return (int32_t)code_point;
}

void nfc_buffer_free(struct nfc_buffer *buffer)
{
    mem_free(buffer->code_points);
    text_free(&buffer->text);
    memset(buffer, 0, sizeof *buffer);
}

/* Marks that Unicode has had since version 10. Hugging Face's NFC has the tables of version 9, where they are
 * characters like any other: they stay where they are. Ids must be those that it gives, also with a newer utf8proc.
 * Made by oracle/tokenizer_hf.py --marks. */
static const int32_t NEW_MARKS[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
    {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},
    {0xa82c, 0xa82c},   {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
    {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
    {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
    {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42},
    {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
    {0x1e4ec, 0x1e4ef},
};
/* Of Unicode 13: U+11935 U+11930 composed. */
enum { NEW_COMPOSED = 0x11938, NEW_SECOND = 0x11930 };

static bool is_new_mark(int32_t code_point)
{
    size_t low = 0, high = sizeof NEW_MARKS / sizeof NEW_MARKS[0];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (NEW_MARKS[middle][1] < code_point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof NEW_MARKS / sizeof NEW_MARKS[0] && NEW_MARKS[low][0] <= code_point;
}

static int combining_class(int32_t code_point)
{
    int order = utf8proc_get_property(code_point)->combining_class;
    return order != 0 && is_new_mark(code_point) ? 0 : order;
}

/* Whether code_point is a starter that composes with nothing where utf8proc holds otherwise. U+11A7 is one: it lies
 * before Hangul's finals, and utf8proc takes it for one, so that U+AC00 U+11A7 would become U+AC00
 * (JuliaStrings/utf8proc#317). What stands before it and behind it can be composed apart. */
static bool composes_apart(int32_t code_point)
{
    return code_point == 0x11A7 || code_point == NEW_SECOND ||
           (utf8proc_get_property(code_point)->combining_class != 0 && is_new_mark(code_point));
}

/* Sorts a run of marks by combining class, keeping the order of equal ones. utf8proc's own ordering
 * is a bubble sort, quadratic on the long runs that hostile text has; long runs are counted here
 * instead. */
static cohort_status order_marks(int32_t *marks, size_t count, cohort_error *err)
{
    if (count <= 32) {
        for (size_t i = 1; i < count; i++) {
            int32_t mark = marks[i];
            int order = combining_class(mark);
            size_t k = i;
            for (; k > 0 && combining_class(marks[k - 1]) > order; k--)
                marks[k] = marks[k - 1];
            marks[k] = mark;
        }
        return COHORT_OK;
    }
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++)
        starts[(combining_class(marks[i]) & 0xFF) + 1]++;
    for (size_t order = 0; order < 256; order++)
        starts[order + 1] += starts[order];
    int32_t *sorted = NULL;
    TRY(mem_alloc(&sorted, count, sizeof *sorted, "combining marks", err));
    for (size_t i = 0; i < count; i++)
        sorted[starts[combining_class(marks[i]) & 0xFF]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *marks);
    mem_free(sorted);
    return COHORT_OK;
}

static bool nfc_unchanged(const char *text, size_t length)
{
    /* Everything below U+0300 (lead byte 0xCC) is in NFC, whatever it stands beside. */
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] >= 0xCC)
            return false;
    return true;
}

/* Composes *count decomposed code points where they are. */
static cohort_status compose(int32_t *code_points, size_t *count, cohort_error *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < *count;) {
        size_t end = i;
        while (end < *count && !composes_apart(code_points[end]))
            end++;
        utf8proc_ssize_t n = 0;
        if (end > i)
            n = utf8proc_normalize_utf32(code_points + i, (utf8proc_ssize_t)(end - i),
                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (n < 0)
            return error_set(err, COHORT_ERR_INTERNAL, "cannot normalise text: %s", utf8proc_errmsg(n));
        memmove(code_points + kept, code_points + i, (size_t)n * sizeof *code_points);
        kept += (size_t)n;
        if (end < *count)
            code_points[kept++] = code_points[end];
        i = end + 1;
    }
    *count = kept;
    return COHORT_OK;
}

cohort_status nfc_normalize(const char *text, size_t length, struct nfc_buffer *buffer, const char **normal,
                            size_t *normal_length, cohort_error *err)
{
    *normal = text;
    *normal_length = length;
    if (nfc_unchanged(text, length))
        return COHORT_OK;

    enum { MOST = 32 }; /* code points one character decomposes into: 4 in Unicode 15 */
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    size_t count = 0, run = 0; /* run: where the marks since the last starter begin */
    for (size_t i = 0; i < length;) {
        uint32_t code_point = 0;
        i += utf8_decode(text + i, &code_point);
        TRY(mem_grow(&buffer->code_points, &buffer->capacity, count + MOST + 1, sizeof *buffer->code_points,
                     "text to normalise", err));
        int boundary = 0;
        utf8proc_ssize_t n = 1;
        if (code_point == NEW_COMPOSED)
            buffer->code_points[count] = NEW_COMPOSED;
        else
            n = utf8proc_decompose_char((int32_t)code_point, buffer->code_points + count, MOST, options, &boundary);
        if (n < 0 || n > MOST)
            return error_set(err, COHORT_ERR_INTERNAL, "cannot normalise U+%04X: %s", (unsigned)code_point,
                             n < 0 ? utf8proc_errmsg(n) : "decomposition too long");
        for (utf8proc_ssize_t k = 0; k < n; k++, count++) {
            if (combining_class(buffer->code_points[count]) != 0)
                continue;
            TRY(order_marks(buffer->code_points + run, count - run, err));
            run = count + 1;
        }
    }
    TRY(order_marks(buffer->code_points + run, count - run, err));
    TRY(compose(buffer->code_points, &count, err));

    buffer->text.length = 0;
    TRY(mem_grow(&buffer->text.data, &buffer->text.capacity, count * 4 + 1, 1, "normalised text", err));
    for (size_t i = 0; i < count; i++)
        buffer->text.length += utf8_encode((uint32_t)buffer->code_points[i], buffer->text.data + buffer->text.length);
    buffer->text.data[buffer->text.length] = '\0';
    *normal = buffer->text.data;
    *normal_length = buffer->text.length;
    return COHORT_OK;
}
